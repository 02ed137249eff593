/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-worker.h - what a replay's parent and its workers share, and the work.
 */
#ifndef WEIR_CLI_REPLAY_WORKER_H
#define WEIR_CLI_REPLAY_WORKER_H

#include <pthread.h>

#include "replay-run.h"
#include "replay-team.h"

/* In shared memory. */
struct replay_shared {
	pthread_barrier_t barrier;      /* of all workers */
	struct replay_worker workers[REPLAY_WORKERS_MAX];
};

/* Parent and workers.  The arrays are in shared memory: a block for each worker,
 * so that no two write to one cache line. */
struct replay_crew {
	const struct replay_input *input;
	const struct replay_plan *plan;
	enum replay_speed speed;
	unsigned workers;
	struct weir *weir;
	weir_policy_id *policies;       /* of the plan's policies, the alone ones too */
	struct replay_shared *shared;
	struct replay_tally *tallies;
	uint32_t *samples;              /* latencies in ns, per request and policy */
	uint8_t *outcomes;              /* per request */
	size_t block_tallies;           /* in a worker's block */
	size_t block_requests;
};

/* Request I belongs to worker I mod the workers, whatever its key, and is number
 * I / the workers there.  Its place in arrays of blocks: */
static inline size_t replay_place(const struct replay_crew *crew, uint32_t i)
{
	return i % crew->workers * crew->block_requests + i / crew->workers;
}

/* Requests of worker NUMBER. */
static inline size_t replay_share(const struct replay_crew *crew, unsigned number)
{
	uint32_t requests = crew->input->request_count;

	return requests / crew->workers + (number < requests % crew->workers);
}

/* Do the work of worker NUMBER. */
void replay_work(struct replay_crew *crew, unsigned number);

#endif
