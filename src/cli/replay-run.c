/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-run.c - the parent: makes the segment, has the workers do their work, adds
 * up what they found.
 */
#include "replay-run.h"
#include "replay-error.h"
#include "replay-segment.h"
#include "replay-worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static int make_segment(struct replay_crew *crew, const struct replay_options *options,
			struct weir_error *error)
{
	const struct replay_plan *plan = crew->plan;
	struct weir_options segment;

	weir_options_init(&segment);
	segment.slots = options->slots;
	if (options->speed == REPLAY_SPEED_LOG)
		segment.clock = WEIR_CLOCK_CALLER;
	return replay_segment_make(&segment, plan->policies, plan->policy_count + plan->alone_count,
				   &crew->weir, &crew->policies, error);
}

/* ---- Shared memory ------------------------------------------------------ */

/* Each worker writes to lines of its own: a block per worker in each array. */
static size_t rounded(size_t count)
{
	return (count + 63) & ~(size_t)63;
}

static int map_shared(struct replay_crew *crew, struct replay_result *result,
		      struct weir_error *error)
{
	size_t policies = crew->plan->policy_count;
	size_t requests = crew->input->request_count;

	crew->block_requests = rounded((requests + crew->workers - 1) / crew->workers);
	crew->block_tallies = rounded(policies + crew->plan->alone_count);

	/* Below 64 x (2^31 + 2^31 x 2^12 x 4): no overflow. */
	size_t tallies = sizeof(struct replay_tally) * crew->workers * crew->block_tallies;
	size_t outcomes = (size_t)crew->workers * crew->block_requests;
	size_t samples = sizeof(uint32_t) * crew->workers * crew->block_requests * policies;
	size_t head = rounded(sizeof(struct replay_shared));

	result->memory_size = head + tallies + outcomes + samples;
	result->memory = mmap(NULL, result->memory_size, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (result->memory == MAP_FAILED) {
		result->memory = NULL;
		return replay_error_set(error, WEIR_ENOMEM,
					"cannot map %zu bytes for the results of %zu requests: %s: "
					"replay a part of the log", result->memory_size, requests,
					strerror(errno));
	}

	char *at = result->memory;

	crew->shared = (struct replay_shared *)at;
	crew->tallies = (struct replay_tally *)(at + head);
	crew->samples = (uint32_t *)(at + head + tallies);
	crew->outcomes = (uint8_t *)(at + head + tallies + samples);

	pthread_barrierattr_t attributes;

	pthread_barrierattr_init(&attributes);
	pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&crew->shared->barrier, &attributes, crew->workers);
	pthread_barrierattr_destroy(&attributes);
	return 0;
}

/* ---- Results ------------------------------------------------------------ */

static void add_tally(struct replay_tally *sum, const struct replay_tally *tally)
{
	sum->allowed += tally->allowed;
	sum->denied += tally->denied;
	sum->unavailable += tally->unavailable;
	sum->shadowed += tally->shadowed;
	sum->flagged += tally->flagged;
	sum->undecided += tally->undecided;
}

/* The workers' blocks, packed at the front of their array. */
static size_t pack_samples(const struct replay_crew *crew)
{
	size_t policies = crew->plan->policy_count;
	size_t packed = 0;

	for (unsigned i = 0; i < crew->workers; i++) {
		size_t count = replay_share(crew, i) * policies;

		memmove(crew->samples + packed, crew->samples + i * crew->block_requests * policies,
			count * sizeof(*crew->samples));
		packed += count;
	}
	return packed;
}

static uint64_t evicted_live(const struct weir *weir)
{
	const struct weir_counter *counter;

	for (unsigned i = 0; (counter = weir_counter(i)) != NULL; i++)
		if (strcmp(counter->name, "evicted_live") == 0)
			return weir_counter_read(weir, i, NULL);
	return 0;
}

static int collect(const struct replay_crew *crew, struct replay_result *result,
		   struct weir_error *error)
{
	uint32_t policies = crew->plan->policy_count + crew->plan->alone_count;
	uint32_t requests = crew->input->request_count;
	uint64_t start_ns = UINT64_MAX, end_ns = 0;

	result->tallies = calloc(policies, sizeof(*result->tallies));
	result->outcomes = malloc(requests);
	if (!result->tallies || !result->outcomes)
		return replay_error_set(error, WEIR_ENOMEM,
					"no memory for the results of %u requests", requests);

	for (unsigned i = 0; i < crew->workers; i++) {
		const struct replay_worker *worker = &crew->shared->workers[i];

		for (uint32_t j = 0; j < policies; j++)
			add_tally(&result->tallies[j], &crew->tallies[i * crew->block_tallies + j]);
		start_ns = worker->start_ns < start_ns ? worker->start_ns : start_ns;
		end_ns = worker->end_ns > end_ns ? worker->end_ns : end_ns;
	}
	for (uint32_t i = 0; i < requests; i++) {
		result->outcomes[i] = crew->outcomes[replay_place(crew, i)];
		result->allowed += result->outcomes[i] == REPLAY_ALLOWED;
		result->denied += result->outcomes[i] == REPLAY_DENIED;
		result->unavailable += result->outcomes[i] == REPLAY_UNAVAILABLE;
	}
	result->elapsed_ns = end_ns - start_ns;
	result->decisions = pack_samples(crew);
	replay_latency_of(crew->samples, result->decisions, &result->latency);
	result->evicted_live = evicted_live(crew->weir);
	return 0;
}

static void work(void *crew, unsigned number)
{
	replay_work(crew, number);
}

int replay_run(const struct replay_input *input, const struct replay_plan *plan,
	       const struct replay_options *options, struct replay_result *result,
	       struct weir_error *error)
{
	struct replay_crew crew = {
		.input = input,
		.plan = plan,
		.speed = options->speed,
		.workers = options->workers,
	};
	struct replay_team team = {
		.count = options->workers,
		.requests = input->request_count,
		.progress = options->progress,
		.work = work,
		.context = &crew,
	};
	struct replay_signals signals;
	int signal = 0;

	*result = (struct replay_result){ 0 };
	replay_signals_block(&signals);

	int status = make_segment(&crew, options, error);

	if (!status)
		status = map_shared(&crew, result, error);
	if (!status) {
		team.workers = crew.shared->workers;
		status = replay_team_run(&team, &signals, &signal, error);
	}
	if (!status)
		status = collect(&crew, result, error);

	weir_close(crew.weir);
	free(crew.policies);
	replay_signals_restore(&signals);
	if (status)
		replay_result_free(result);
	if (signal)
		raise(signal);  /* end as who sent it expects */
	return status;
}

void replay_result_free(struct replay_result *result)
{
	if (result->memory)
		munmap(result->memory, result->memory_size);
	free(result->tallies);
	free(result->outcomes);
	*result = (struct replay_result){ 0 };
}
