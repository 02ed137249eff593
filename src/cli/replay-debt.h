/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-debt.h - what several hosts admitted, held against one ideal bucket, and how
 * far it may be beyond.  All of it in integers: nothing is rounded.
 *
 * A limit of L tokens in P nanoseconds and a burst of B is kept by a bucket whose debt
 * never exceeds B x P / L nanoseconds.  Debts are kept times L: a token is P then, and
 * the debt falls by L in a nanosecond.
 *
 *	over-admission = (the largest debt of all that was admitted, less B x P) / P tokens
 */
#ifndef WEIR_CLI_REPLAY_DEBT_H
#define WEIR_CLI_REPLAY_DEBT_H

#include "replay-hosts.h"

typedef unsigned __int128 replay_wide;

struct replay_debt {
	uint64_t at_ns;
	replay_wide scaled;
};

/* The debt at NOW_NS, which is not before the time of the call before. */
void replay_debt_decay(struct replay_debt *debt, const struct weir_limit *limit, uint64_t now_ns);

/* Would an ideal bucket admit a token now? */
bool replay_debt_admits(const struct replay_debt *debt, const struct weir_limit *limit);

void replay_debt_charge(struct replay_debt *debt, const struct weir_limit *limit);

/* How far the debt is beyond the burst, 0 if it is not. */
replay_wide replay_debt_over(const struct replay_debt *debt, const struct weir_limit *limit);

/* Which of the words of docs/sync.md a bound is made of. */
struct replay_bound {
	uint64_t hosts;         /* N */
	uint64_t cap;           /* Q, or the largest cost if that is more */
	uint64_t unmerged_ns;   /* W */
	uint64_t round_ns;      /* d */
	uint64_t span_ns;       /* from the first decision to the last */
};

/* By how much N hosts may exceed LIMIT in MODE, times the period. */
replay_wide replay_bound_of(enum weir_consistency mode, const struct weir_limit *limit,
			    const struct replay_bound *bound);

/* Q: what may be unmerged in a bucket of LIMIT. */
uint64_t replay_cap_of(const struct weir_limit *limit, uint64_t hosts, uint32_t overshoot_permille);

struct replay_limit_measure {
	replay_wide over;       /* the most, of all keys; in tokens times the period */
	replay_wide bound;
	uint32_t key;           /* whose it was */
};

struct replay_policy_measure {
	uint64_t outcomes[3];           /* by enum weir_outcome */
	uint64_t denied_by_mode;
	uint64_t by_fail_mode;
	uint64_t allowed_by_fail_mode;  /* no bound speaks of them */
	uint64_t ideal;                 /* admitted by an ideal bucket for each key */
	struct replay_limit_measure limits[WEIR_LIMITS_MAX];
};

struct replay_mode_measure {
	enum weir_consistency mode;
	uint64_t rounds;                /* of all hosts */
	uint64_t longest_round_ns;      /* of any host, as what follows */
	uint64_t longest_unmerged_ns;
	uint64_t slowest_ns;
	uint64_t latest_ns;
	uint64_t elapsed_ns;
	struct replay_policy_measure *policies;
};

/* Measure DECISIONS.  Errors: WEIR_ENOMEM. */
int replay_measure(const struct replay_input *input, const struct replay_plan *plan,
		   const struct replay_hosts_options *options,
		   const struct replay_decisions *decisions, struct replay_mode_measure *measure,
		   struct weir_error *error);

void replay_measure_free(struct replay_mode_measure *measure);

enum replay_verdict {
	REPLAY_WITHIN,          /* the bound */
	REPLAY_ABOVE,
	REPLAY_NO_VERDICT,      /* fail modes admitted some: no bound speaks of that */
};

enum replay_verdict replay_verdict_of(const struct replay_policy_measure *policy, uint32_t limit);

#endif
