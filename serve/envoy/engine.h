/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - what counts.
 *
 * Between the rules and the segment there is this table of functions, so that the rules
 * can be tested against counters that a test sets.  The real one is engine_weir.c.
 */
#ifndef WEIR_SERVE_ENGINE_H
#define WEIR_SERVE_ENGINE_H

#include "serve/envoy/text.h"
#include "weir.h"

enum engine_algorithm {
	ENGINE_FIXED_WINDOW,
	ENGINE_TOKEN_BUCKET,
};

/* What a policy is made for.  Fixed windows of one period share their counters: a rule
 * whose number changes goes on where it was. */
struct engine_limit {
	uint64_t limit;         /* per period, at least 1 */
	uint64_t period_s;
	uint64_t burst;         /* of a token bucket */
	enum engine_algorithm algorithm;
};

enum engine_call {
	ENGINE_PEEK,            /* would COST pass? */
	ENGINE_TAKE,            /* take COST if it passes */
	ENGINE_COUNT,           /* count COST, whether or not it passes */
	ENGINE_REFUND,          /* give COST back */
};

struct engine_answer {
	bool allowed;
	bool decided;           /* by the limit, and not by a fail mode */
	bool gone;              /* there is no such policy any more: nothing was done */
	uint64_t counted;       /* fixed window: in this window, after the call */
	uint64_t remaining;     /* that would pass after the call */
	uint64_t reset_after_ns;        /* until nothing is counted any more */
};

struct engine {
	/* The policy for LIMIT, made if there is none.  May wait.  Errors: WEIR_ENOSPC,
	 * and others of weir_policy_set(). */
	int (*policy)(struct engine *engine, const struct engine_limit *limit,
		      weir_policy_id *policy, struct weir_error *error);

	/* Remove the policy for LIMIT, if there is one.  May wait. */
	void (*remove)(struct engine *engine, const struct engine_limit *limit);

	/* Remove up to MOST policies that were made for limits, but not for these COUNT.
	 * Returns how many.  May wait. */
	size_t (*make_room)(struct engine *engine, const struct engine_limit *kept, size_t count,
			    size_t most);

	/* Any number of threads, never waits. */
	struct engine_answer (*call)(struct engine *engine, enum engine_call call,
				     weir_policy_id policy, struct text key, uint64_t cost);
};

#endif
