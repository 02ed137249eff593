/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-worker.c - a worker process: decides its requests, in the order of the
 * log.
 *
 * At log speed all workers pass a barrier before each new time, so that no
 * request is decided before one with an earlier time.  Requests of one time may
 * be decided in any order: by one limit as many of a key pass in each of them.
 */
#include "replay-worker.h"

#include <stdatomic.h>
#include <time.h>

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct weir_request request_of(const struct replay_crew *crew, uint32_t i, uint32_t policy,
				      uint64_t now_ns)
{
	uint32_t key = crew->input->requests[i].key;

	return (struct weir_request){
		.policy = crew->policies[policy],
		.key = replay_key_bytes(&crew->input->keys, key),
		.key_length = crew->input->keys.keys[key].length,
		.cost = 1,
		.now_ns = now_ns,
	};
}

static void count(struct replay_tally *tally, const struct weir_decision *decision)
{
	switch (decision->outcome) {
	case WEIR_ALLOWED:
		tally->allowed++;
		break;
	case WEIR_DENIED:
		tally->denied++;
		break;
	case WEIR_UNAVAILABLE:
		tally->unavailable++;
		break;
	}
	tally->flagged += decision->flagged;
	tally->shadowed += decision->reason == WEIR_REASON_SHADOW;
	tally->undecided += decision->reason == WEIR_REASON_TABLE_FULL ||
			    decision->reason == WEIR_REASON_CONTENDED;
}

/* Decide request I by the policies, and take the time of each decision. */
static void decide(const struct replay_crew *crew, uint32_t i, uint64_t now_ns,
		   struct replay_tally *tallies)
{
	uint32_t policies = crew->plan->policy_count;
	size_t place = replay_place(crew, i);
	uint32_t *samples = crew->samples + place * policies;
	bool denied = false, unavailable = false;

	for (uint32_t policy = 0; policy < policies; policy++) {
		struct weir_request request = request_of(crew, i, policy, now_ns);
		struct weir_decision decision;
		uint64_t start_ns = clock_ns();

		weir_decide(crew->weir, &request, &decision);

		uint64_t duration_ns = clock_ns() - start_ns;

		samples[policy] = duration_ns < UINT32_MAX ? (uint32_t)duration_ns : UINT32_MAX;
		denied |= decision.outcome == WEIR_DENIED;
		unavailable |= decision.outcome == WEIR_UNAVAILABLE;
		count(&tallies[policy], &decision);
	}
	crew->outcomes[place] = denied ? REPLAY_DENIED :
				unavailable ? REPLAY_UNAVAILABLE : REPLAY_ALLOWED;
}

/* Decide request I by each limit alone: counted, not timed. */
static void decide_alone(const struct replay_crew *crew, uint32_t i, uint64_t now_ns,
			 struct replay_tally *tallies)
{
	uint32_t end = crew->plan->policy_count + crew->plan->alone_count;

	for (uint32_t policy = crew->plan->policy_count; policy < end; policy++) {
		struct weir_request request = request_of(crew, i, policy, now_ns);
		struct weir_decision decision;

		weir_decide(crew->weir, &request, &decision);
		count(&tallies[policy], &decision);
	}
}

static void work_at_log_speed(struct replay_crew *crew, unsigned number,
			      struct replay_worker *worker, struct replay_tally *tallies)
{
	const struct replay_request *requests = crew->input->requests;
	uint32_t all = crew->input->request_count;
	uint32_t next = number, end;
	uint64_t done = 0;

	pthread_barrier_wait(&crew->shared->barrier);
	worker->start_ns = clock_ns();
	for (uint32_t first = 0; first < all; first = end) {
		uint64_t now_ns = requests[first].time_ns;

		for (end = first; end < all && requests[end].time_ns == now_ns; end++)
			;
		pthread_barrier_wait(&crew->shared->barrier);
		for (; next < end; next += crew->workers) {
			decide(crew, next, now_ns, tallies);
			decide_alone(crew, next, now_ns, tallies);
			atomic_store_explicit(&worker->done, ++done, memory_order_relaxed);
		}
	}
	worker->end_ns = clock_ns();
}

/* Touch what the decisions will touch, so that they find it warm. */
static void warm_up(const struct replay_crew *crew, unsigned number)
{
	uint32_t policies = crew->plan->policy_count;

	for (uint32_t i = number; i < crew->input->request_count; i += crew->workers) {
		size_t place = replay_place(crew, i);

		crew->outcomes[place] = 0;
		for (uint32_t policy = 0; policy < policies; policy++) {
			struct weir_request request = request_of(crew, i, policy, 0);

			crew->samples[place * policies + policy] = 0;
			weir_status(crew->weir, &request, NULL);
		}
	}
}

static void work_at_max_speed(struct replay_crew *crew, unsigned number,
			      struct replay_worker *worker, struct replay_tally *tallies)
{
	uint32_t all = crew->input->request_count;
	uint64_t done = 0;

	warm_up(crew, number);
	pthread_barrier_wait(&crew->shared->barrier);
	worker->start_ns = clock_ns();
	for (uint32_t i = number; i < all; i += crew->workers) {
		decide(crew, i, 0, tallies);
		atomic_store_explicit(&worker->done, ++done, memory_order_relaxed);
	}
	worker->end_ns = clock_ns();

	pthread_barrier_wait(&crew->shared->barrier);
	for (uint32_t i = number; i < all; i += crew->workers)
		decide_alone(crew, i, 0, tallies);
}

void replay_work(struct replay_crew *crew, unsigned number)
{
	struct replay_worker *worker = &crew->shared->workers[number];
	struct replay_tally *tallies = crew->tallies + number * crew->block_tallies;

	if (crew->speed == REPLAY_SPEED_LOG)
		work_at_log_speed(crew, number, worker, tallies);
	else
		work_at_max_speed(crew, number, worker, tallies);
}
