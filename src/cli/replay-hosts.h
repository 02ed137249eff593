/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-hosts.h - decide the requests of a log on several hosts that agree through
 * Redis: each a segment of its own, with worker processes and a sync thread.
 *
 * Rounds take real time, so this replay runs in real time, or in that of the log
 * divided by a speed; and so are the periods of its limits.
 */
#ifndef WEIR_CLI_REPLAY_HOSTS_H
#define WEIR_CLI_REPLAY_HOSTS_H

#include "replay-input.h"
#include "replay-plan.h"
#include "replay-team.h"

#define REPLAY_HOSTS_MAX 64u
#define REPLAY_HOSTS_SPEED_MAX 1000000u

/* Which host a request goes to. */
enum replay_deal {
	REPLAY_DEAL_ROUND_ROBIN = 0,
	REPLAY_DEAL_RANDOM = 1,         /* the same each time */
	REPLAY_DEAL_KEY = 2,            /* a key to one host, as sticky load balancers do */
};

/* NULL past the last one. */
const char *replay_deal_name(unsigned deal);

struct replay_hosts_options {
	unsigned hosts;
	unsigned workers;               /* of each host */
	uint64_t slots;                 /* of each host */
	uint64_t speed;                 /* of the log's time */
	enum replay_deal deal;
	bool progress;
	struct weir_sync_options sync;  /* but for the prefix and the hosts */
};

/* What a decision of one policy was: an enum weir_outcome, and */
#define REPLAY_ANSWER_OUTCOME 3u
#define REPLAY_ANSWER_MODE 4u           /* denied by the mode, such as by its cap */
#define REPLAY_ANSWER_FAIL_MODE 8u      /* left to the fail mode */

/* Of one host, by itself. */
struct replay_host {
	uint64_t rounds;
	uint64_t longest_round_ns;
	uint64_t longest_unmerged_ns;
	char failure[512];              /* why it cannot go on; "" */
};

/* What was decided in one consistency mode. */
struct replay_decisions {
	enum weir_consistency mode;
	uint64_t *times_ns;             /* of each request, CLOCK_BOOTTIME */
	uint8_t *answers;               /* of each request, by each policy */
	struct replay_host *hosts;
	uint64_t slowest_ns;            /* from a request's time until it was decided */
	uint64_t latest_ns;             /* a request was decided so long after it was due */
	uint64_t elapsed_ns;

	void *memory;                   /* private */
	size_t memory_size;
};

/* Decide the requests of INPUT by the first policies of PLAN, whose periods have
 * been divided by the speed, in MODE.  What is in Redis meanwhile has a prefix of its
 * own, and goes at the end, or when this process is killed.  Errors: those of
 * replay_segment_make() and weir_sync_start(); WEIR_ESYSTEM. */
int replay_hosts_run(const struct replay_input *input, const struct replay_plan *plan,
		     const struct replay_hosts_options *options, enum weir_consistency mode,
		     struct replay_decisions *decisions, struct weir_error *error);

void replay_decisions_free(struct replay_decisions *decisions);

#endif
