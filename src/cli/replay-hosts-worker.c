/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-hosts-worker.c - a worker of one of several hosts: decides its requests when
 * they are due.
 *
 * Each decision is made at the time that was read just before, and that time is kept:
 * what all hosts did, merged by time, is then what an ideal bucket can be held against.
 */
#include "replay-hosts-worker.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SHARDS 8                /* of a host's keys */
#define LOOK_NS 1000000         /* how often to look for what has to come */
#define PATIENCE_NS 3000000000ull /* for Redis, at the start; */
#define LEASE_PATIENCE_NS 10000000000ull /* and for its leases, which take 2 s */
#define LEAD_NS 10000000u       /* from the last barrier to the first request */
#define FILL_NS_MAX 60000000000u /* who has a longer burst is not kept waiting for it */

struct worker {
	struct replay_cluster *cluster;
	struct weir *weir;
	const weir_policy_id *policies;
	unsigned host;
	unsigned member;
	struct replay_worker *record;
	struct replay_pace *pace;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_until(uint64_t time_ns)
{
	const struct timespec until = { .tv_sec = (time_t)(time_ns / 1000000000u),
					.tv_nsec = (long)(time_ns % 1000000000u) };

	while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, NULL) != 0)
		;
}

/* ---- The host's sync ---------------------------------------------------- */

static _Noreturn void give_up(const struct worker *worker, const char *why)
{
	struct replay_host *host = &worker->cluster->shared->hosts[worker->host];

	snprintf(host->failure, sizeof(host->failure), "%s", why);
	exit(EXIT_FAILURE);
}

static bool has_views(const struct weir_sync_status *status)
{
	return status->staleness_ns != WEIR_NEVER;
}

static bool has_leases(const struct weir_sync_status *status)
{
	return status->leased_shards == SHARDS;
}

static void await(const struct worker *worker, bool (*ready)(const struct weir_sync_status *),
		  uint64_t patience_ns, const char *otherwise)
{
	uint64_t until_ns = now_ns() + patience_ns;
	struct weir_sync_status status;
	struct weir_error error;

	for (;;) {
		if (weir_sync_status(worker->weir, &status, &error))
			give_up(worker, error.message);
		if (status.connected)
			atomic_store(&worker->cluster->shared->reached, true);
		if (ready(&status))
			return;
		if (now_ns() > until_ns)
			give_up(worker, status.last_error[0] ? status.last_error : otherwise);
		sleep_until(now_ns() + LOOK_NS);
	}
}

/* How long the slowest of all limits takes to fill an empty bucket. */
static uint64_t fill_ns(const struct replay_plan *plan)
{
	uint64_t longest_ns = 0;

	for (uint32_t i = 0; i < plan->policy_count; i++) {
		const struct weir_policy *policy = &plan->policies[i];

		for (uint32_t j = 0; j < policy->limit_count; j++) {
			const struct weir_limit *limit = &policy->limits[j];
			uint64_t burst = limit->burst ? limit->burst : limit->limit;
			unsigned __int128 fill = ((unsigned __int128)burst * limit->period_ns +
						  limit->limit - 1) / limit->limit;

			if (fill > FILL_NS_MAX)
				return FILL_NS_MAX;
			if (fill > longest_ns)
				longest_ns = (uint64_t)fill;
		}
	}
	return longest_ns;
}

/* Start it, and wait until the host has a view of each shard.  In strict mode also until
 * Redis, which is new to the keys, grants leases, and then until the buckets are full: it
 * has them begin empty, and the ideal ones begin full. */
static void start_sync(const struct worker *worker)
{
	struct weir_error error;

	if (weir_sync_start(worker->weir, &worker->cluster->sync, &error))
		give_up(worker, error.message);
	await(worker, has_views, PATIENCE_NS, "Redis does not answer");
	if (worker->cluster->decisions->mode != WEIR_STRICT)
		return;
	await(worker, has_leases, LEASE_PATIENCE_NS, "Redis grants no leases");
	sleep_until(now_ns() + fill_ns(worker->cluster->plan));
}

/* All requests are decided: what became of the rounds meanwhile? */
static void stop_sync(const struct worker *worker)
{
	struct replay_host *host = &worker->cluster->shared->hosts[worker->host];
	struct weir_sync_status status;
	struct weir_error error;

	if (weir_sync_status(worker->weir, &status, &error))
		give_up(worker, error.message);
	host->rounds = status.rounds;
	host->longest_round_ns = status.longest_round_ns;
	host->longest_unmerged_ns = status.longest_unmerged_ns;
	if (weir_sync_stop(worker->weir, &error))
		give_up(worker, error.message);
}

/* ---- Decisions ---------------------------------------------------------- */

static uint8_t answer_of(const struct weir_decision *decision)
{
	uint8_t answer = (uint8_t)decision->outcome;

	switch (decision->reason) {
	case WEIR_REASON_STALE:
	case WEIR_REASON_TABLE_FULL:
	case WEIR_REASON_CONTENDED:
		return answer | REPLAY_ANSWER_FAIL_MODE;
	case WEIR_REASON_LIMIT:
		return answer;
	default:
		/* Denied, but not by the limit: so the mode keeps its bound. */
		return decision->outcome == WEIR_DENIED ? answer | REPLAY_ANSWER_MODE : answer;
	}
}

static void decide(const struct worker *worker, uint32_t i, uint64_t due_ns)
{
	const struct replay_key_set *keys = &worker->cluster->input->keys;
	struct replay_decisions *decisions = worker->cluster->decisions;
	uint32_t policies = worker->cluster->plan->policy_count;
	uint32_t key = worker->cluster->input->requests[i].key;
	uint64_t time_ns = now_ns(), took_ns;

	for (uint32_t policy = 0; policy < policies; policy++) {
		struct weir_request request = {
			.policy = worker->policies[policy],
			.key = replay_key_bytes(keys, key),
			.key_length = keys->keys[key].length,
			.cost = 1,
			.now_ns = time_ns,
		};
		struct weir_decision decision;

		weir_decide(worker->weir, &request, &decision);
		decisions->answers[(size_t)i * policies + policy] = answer_of(&decision);
	}
	decisions->times_ns[i] = time_ns;
	took_ns = now_ns() - time_ns;
	if (took_ns > worker->pace->slowest_ns)
		worker->pace->slowest_ns = took_ns;
	if (time_ns - due_ns > worker->pace->latest_ns)
		worker->pace->latest_ns = time_ns - due_ns;
}

static void decide_all(const struct worker *worker)
{
	const struct replay_cluster *cluster = worker->cluster;
	const struct replay_request *requests = cluster->input->requests;
	unsigned member = 0;
	uint64_t done = 0;

	for (uint32_t i = 0; i < cluster->input->request_count; i++) {
		uint64_t after_ns = requests[i].time_ns - requests[0].time_ns;
		uint64_t due_ns = cluster->shared->start_ns + after_ns / cluster->options->speed;

		if (cluster->host_of[i] != worker->host)
			continue;
		if (member++ % cluster->options->workers != worker->member)
			continue;
		if (now_ns() < due_ns)
			sleep_until(due_ns);
		decide(worker, i, due_ns);
		atomic_store_explicit(&worker->record->done, ++done, memory_order_relaxed);
	}
}

void replay_hosts_work(void *context, unsigned number)
{
	struct replay_cluster *cluster = context;
	struct replay_hosts_shared *shared = cluster->shared;
	const struct worker worker = {
		.cluster = cluster,
		.host = number % cluster->options->hosts,
		.member = number / cluster->options->hosts,
		.weir = cluster->weirs[number % cluster->options->hosts],
		.policies = cluster->policies[number % cluster->options->hosts],
		.record = &shared->workers[number],
		.pace = &shared->paces[number],
	};

	if (worker.member == 0)
		start_sync(&worker);
	if (pthread_barrier_wait(&shared->barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
		shared->start_ns = now_ns() + LEAD_NS;
	pthread_barrier_wait(&shared->barrier);
	worker.record->start_ns = now_ns();
	decide_all(&worker);
	worker.record->end_ns = now_ns();
	pthread_barrier_wait(&shared->barrier);
	if (worker.member == 0)
		stop_sync(&worker);
}
