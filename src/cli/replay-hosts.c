/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-hosts.c - the parent of several hosts: makes their segments, has the workers
 * do their work, and clears up.
 */
#include "replay-hosts.h"
#include "replay-error.h"
#include "replay-hosts-worker.h"
#include "replay-janitor.h"
#include "replay-segment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#define PREFIX_SIZE 96

/* ---- Dealing ------------------------------------------------------------ */

const char *replay_deal_name(unsigned deal)
{
	static const char *const names[] = {
		[REPLAY_DEAL_ROUND_ROBIN] = "round-robin",
		[REPLAY_DEAL_RANDOM] = "random",
		[REPLAY_DEAL_KEY] = "key",
	};

	return deal <= REPLAY_DEAL_KEY ? names[deal] : NULL;
}

/* Looks random, and is the same each time: SplitMix64. */
static uint64_t scatter(uint64_t number)
{
	number += 0x9e3779b97f4a7c15u;
	number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9u;
	number = (number ^ number >> 27) * 0x94d049bb133111ebu;
	return number ^ number >> 31;
}

static int deal(struct replay_cluster *cluster, struct weir_error *error)
{
	const struct replay_input *input = cluster->input;
	const struct replay_hosts_options *options = cluster->options;

	cluster->host_of = malloc(input->request_count);
	if (!cluster->host_of)
		return replay_error_set(error, WEIR_ENOMEM,
					"no memory to deal %u requests: replay a part of the log",
					input->request_count);
	for (uint32_t i = 0; i < input->request_count; i++) {
		uint64_t number = i;

		if (options->deal == REPLAY_DEAL_RANDOM)
			number = scatter(i);
		if (options->deal == REPLAY_DEAL_KEY)
			number = scatter(input->requests[i].key);
		cluster->host_of[i] = (uint8_t)(number % options->hosts);
	}
	return 0;
}

/* ---- Shared memory ------------------------------------------------------ */

static size_t rounded(size_t size)
{
	return (size + 63) & ~(size_t)63;
}

static int map_shared(struct replay_cluster *cluster, struct weir_error *error)
{
	struct replay_decisions *decisions = cluster->decisions;
	size_t requests = cluster->input->request_count;
	size_t head = rounded(sizeof(struct replay_hosts_shared));
	size_t times = rounded(sizeof(uint64_t) * requests);
	pthread_barrierattr_t attributes;

	decisions->memory_size = head + times + requests * cluster->plan->policy_count;
	decisions->memory = mmap(NULL, decisions->memory_size, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (decisions->memory == MAP_FAILED) {
		decisions->memory = NULL;
		return replay_error_set(error, WEIR_ENOMEM,
					"cannot map %zu bytes for the decisions on %zu requests: %s: "
					"replay a part of the log", decisions->memory_size, requests,
					strerror(errno));
	}
	cluster->shared = decisions->memory;
	decisions->hosts = cluster->shared->hosts;
	decisions->times_ns = (uint64_t *)((char *)decisions->memory + head);
	decisions->answers = (uint8_t *)decisions->memory + head + times;

	pthread_barrierattr_init(&attributes);
	pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&cluster->shared->barrier, &attributes,
			     cluster->options->hosts * cluster->options->workers);
	pthread_barrierattr_destroy(&attributes);
	return 0;
}

/* ---- Segments ----------------------------------------------------------- */

/* The policies, all in MODE, and in force: what is only tried would admit it all. */
static struct weir_policy *policies_in(const struct replay_plan *plan, enum weir_consistency mode)
{
	struct weir_policy *policies = calloc(plan->policy_count, sizeof(*policies));

	for (uint32_t i = 0; policies && i < plan->policy_count; i++) {
		policies[i] = plan->policies[i];
		policies[i].consistency = mode;
		policies[i].shadow = false;
	}
	return policies;
}

static int make_segments(struct replay_cluster *cluster, struct weir_error *error)
{
	const struct replay_hosts_options *options = cluster->options;
	struct weir_policy *policies = policies_in(cluster->plan, cluster->decisions->mode);
	unsigned char secret[WEIR_SECRET_SIZE];
	struct weir_options segment;
	int status = 0;

	if (!policies)
		return replay_error_set(error, WEIR_ENOMEM, "no memory for %u policies",
					cluster->plan->policy_count);
	if (getrandom(secret, sizeof(secret), 0) != (ssize_t)sizeof(secret))
		status = replay_error_set(error, WEIR_ESYSTEM, "cannot get random bytes: %s",
					  strerror(errno));
	weir_options_init(&segment);
	segment.slots = options->slots;
	segment.sync = true;
	segment.secret = secret;
	for (unsigned host = 0; host < options->hosts && !status; host++) {
		struct weir_error cause;

		status = replay_segment_make(&segment, policies, cluster->plan->policy_count,
					     &cluster->weirs[host], &cluster->policies[host],
					     &cause);
		if (status)
			replay_error_set(error, status, "segment %u of %u hosts: %.400s", host + 1,
					 options->hosts, cause.message);
	}
	free(policies);
	return status;
}

/* ---- The run ------------------------------------------------------------ */

static int name_keys(char prefix[PREFIX_SIZE], enum weir_consistency mode,
		     struct weir_error *error)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return replay_error_set(error, WEIR_ESYSTEM, "cannot get random bytes: %s",
					strerror(errno));
	snprintf(prefix, PREFIX_SIZE, "weir-replay-%ld-%016" PRIx64 "-%s", (long)getpid(), random,
		 weir_consistency_name(mode));
	return 0;
}

/* A host that cannot go on says why: that tells more than how its worker ended. */
static int explain(const struct replay_cluster *cluster, int status, struct weir_error *error)
{
	for (unsigned host = 0; host < cluster->options->hosts; host++) {
		if (cluster->shared->hosts[host].failure[0])
			return replay_error_set(error, status,
						"host %u of %u cannot sync: %.400s", host + 1,
						cluster->options->hosts,
						cluster->shared->hosts[host].failure);
	}
	return status;
}

static void sum_up(const struct replay_cluster *cluster)
{
	struct replay_decisions *decisions = cluster->decisions;
	const struct replay_hosts_shared *shared = cluster->shared;
	unsigned workers = cluster->options->hosts * cluster->options->workers;
	uint64_t start_ns = UINT64_MAX, end_ns = 0;

	for (unsigned i = 0; i < workers; i++) {
		const struct replay_worker *worker = &shared->workers[i];
		const struct replay_pace *pace = &shared->paces[i];

		start_ns = worker->start_ns < start_ns ? worker->start_ns : start_ns;
		end_ns = worker->end_ns > end_ns ? worker->end_ns : end_ns;
		if (pace->slowest_ns > decisions->slowest_ns)
			decisions->slowest_ns = pace->slowest_ns;
		if (pace->latest_ns > decisions->latest_ns)
			decisions->latest_ns = pace->latest_ns;
	}
	decisions->elapsed_ns = end_ns - start_ns;
}

/* Everything but the janitor is there: let the workers work. */
static int run_team(struct replay_cluster *cluster, const struct replay_signals *signals,
		    int *signal, struct weir_error *error)
{
	struct replay_team team = {
		.count = cluster->options->hosts * cluster->options->workers,
		.requests = cluster->input->request_count,
		.progress = cluster->options->progress,
		.work = replay_hosts_work,
		.context = cluster,
		.workers = cluster->shared->workers,
	};
	struct replay_janitor janitor;
	int status = replay_janitor_start(&janitor, &cluster->sync, &cluster->shared->reached,
					  error);

	if (status)
		return status;
	status = replay_team_run(&team, signals, signal, error);
	replay_janitor_release(&janitor);
	if (status)
		return explain(cluster, status, error);
	sum_up(cluster);
	return 0;
}

int replay_hosts_run(const struct replay_input *input, const struct replay_plan *plan,
		     const struct replay_hosts_options *options, enum weir_consistency mode,
		     struct replay_decisions *decisions, struct weir_error *error)
{
	struct replay_cluster cluster = {
		.input = input,
		.plan = plan,
		.options = options,
		.sync = options->sync,
		.decisions = decisions,
	};
	struct replay_signals signals;
	char prefix[PREFIX_SIZE];
	int signal = 0;

	*decisions = (struct replay_decisions){ .mode = mode };
	cluster.sync.prefix = prefix;
	cluster.sync.expected_hosts = options->hosts;
	replay_signals_block(&signals);

	int status = name_keys(prefix, mode, error);

	if (!status)
		status = deal(&cluster, error);
	if (!status)
		status = map_shared(&cluster, error);
	if (!status)
		status = make_segments(&cluster, error);
	if (!status)
		status = run_team(&cluster, &signals, &signal, error);
	for (unsigned host = 0; host < options->hosts; host++) {
		weir_close(cluster.weirs[host]);
		free(cluster.policies[host]);
	}
	free(cluster.host_of);
	replay_signals_restore(&signals);
	if (status)
		replay_decisions_free(decisions);
	if (signal)
		raise(signal);  /* end as who sent it expects */
	return status;
}

void replay_decisions_free(struct replay_decisions *decisions)
{
	if (decisions->memory)
		munmap(decisions->memory, decisions->memory_size);
	*decisions = (struct replay_decisions){ 0 };
}
