/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-run.h - decide the requests of a log in worker processes that share one
 * segment.
 */
#ifndef WEIR_CLI_REPLAY_RUN_H
#define WEIR_CLI_REPLAY_RUN_H

#include "replay-input.h"
#include "replay-latency.h"
#include "replay-plan.h"

#define REPLAY_WORKERS_MAX 64u

enum replay_speed {
	REPLAY_SPEED_LOG = 0,   /* each request at its logged time */
	REPLAY_SPEED_MAX = 1,   /* as fast as it goes, by the real clock */
};

struct replay_options {
	enum replay_speed speed;
	unsigned workers;
	uint64_t slots;
	bool progress;          /* show it on standard error */
};

/* What one policy answered. */
struct replay_tally {
	uint64_t allowed;
	uint64_t denied;
	uint64_t unavailable;
	uint64_t shadowed;      /* of the allowed ones: would be denied but for shadow */
	uint64_t flagged;       /* a limit with action flag was exceeded */
	uint64_t undecided;     /* by the fail mode: no slot was free, or a bucket was
	                         * contended for too long */
};

/* What became of one request, by all policies. */
enum replay_outcome {
	REPLAY_ALLOWED = 0,
	REPLAY_DENIED = 1,      /* some policy denied */
	REPLAY_UNAVAILABLE = 2, /* none denied, and some could not decide */
};

struct replay_result {
	uint8_t *outcomes;              /* enum replay_outcome of each request */
	struct replay_tally *tallies;   /* of each policy of the plan, the alone ones too */
	uint64_t allowed, denied, unavailable;
	uint64_t decisions;             /* requests x policies */
	uint64_t elapsed_ns;            /* from the first worker's start to the last one's end */
	struct replay_latency latency;
	uint64_t evicted_live;          /* buckets lost: the totals are too generous */

	void *memory;                   /* private */
	size_t memory_size;
};

/* Run the replay.  The segment has no name once this process has opened it, so
 * nothing is left behind however anybody dies.  A worker's death ends the
 * replay: the totals would be wrong.  SIGINT, SIGTERM and SIGHUP end the workers
 * and then this process.  Errors: those of weir_create() and weir_open(),
 * WEIR_ESYSTEM. */
int replay_run(const struct replay_input *input, const struct replay_plan *plan,
	       const struct replay_options *options, struct replay_result *result,
	       struct weir_error *error);

void replay_result_free(struct replay_result *result);

#endif
