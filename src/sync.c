/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync.c - the public functions on sync.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shm/bucket.h"
#include "shm/counter.h"
#include "shm/error.h"
#include "shm/policy_table.h"
#include "shm/report.h"
#include "src/handle.h"
#include "src/leases.h"
#include "src/quiet_pipe.h"
#include "sync/erase.h"
#include "sync/leader.h"
#include "sync/round.h"
#include "sync/thread.h"
#include "sync/variants.h"

#define INTERVAL_MIN_NS 1000000ull
#define INTERVAL_MAX_NS 60000000000ull
#define STALENESS_MAX_NS 3600000000000ull
#define HOSTS_MAX 1000000u

void weir_sync_options_init(struct weir_sync_options *options)
{
	*options = (struct weir_sync_options){
		.url = "redis://127.0.0.1:6379",
		.prefix = "weir",
		.interval_ns = 100000000,
		.max_staleness_ns = 2000000000,
		.expected_hosts = 1,
		.overshoot_permille = 50,
	};
}

static int not_for_sync(const struct segment *segment, struct weir_error *error)
{
	return weir_fail(error, WEIR_EINVAL,
			 "segment %s has no room for sync; create it with sync (weir create --sync)",
			 segment->path);
}

static int options_check(const struct weir_sync_options *options, struct weir_error *error)
{
	if (!options->url || !options->prefix)
		return weir_fail(error, WEIR_EINVAL, "no %s given; give one",
				 options->url ? "prefix" : "URL");
	if (options->interval_ns < INTERVAL_MIN_NS || options->interval_ns > INTERVAL_MAX_NS)
		return weir_fail(error, WEIR_EINVAL,
				 "sync interval of %llu ns is out of range; give 1 ms to 60 s",
				 (unsigned long long)options->interval_ns);
	if (options->max_staleness_ns < 2 * options->interval_ns ||
	    options->max_staleness_ns > STALENESS_MAX_NS)
		return weir_fail(error, WEIR_EINVAL,
				 "max staleness of %llu ns is out of range; give two intervals "
				 "(%llu ns) to 1 h",
				 (unsigned long long)options->max_staleness_ns,
				 (unsigned long long)(2 * options->interval_ns));
	if (options->expected_hosts < 1 || options->expected_hosts > HOSTS_MAX)
		return weir_fail(error, WEIR_EINVAL,
				 "expected hosts %u is out of range; give 1 to %u",
				 options->expected_hosts, HOSTS_MAX);
	if (options->overshoot_permille > 1000)
		return weir_fail(error, WEIR_EINVAL,
				 "overshoot of %u permille is out of range; give 0 to 1000",
				 options->overshoot_permille);
	return 0;
}

int weir_sync_start(struct weir *weir, const struct weir_sync_options *options,
		    struct weir_error *error)
{
	struct segment *segment = handle_control(weir);
	struct weir_sync_options defaults;
	int status;

	weir_sync_options_init(&defaults);
	if (!options)
		options = &defaults;
	if (!segment->shards)
		return not_for_sync(segment, error);
	if (segment->clock == WEIR_CLOCK_CALLER)
		return weir_fail(error, WEIR_EINVAL,
				 "segment %s has its callers' clock, and sync needs this machine's; "
				 "create it with clock boottime", segment->path);
	status = options_check(options, error);
	if (status)
		return status;
	handles_lock();
	status = sync_start(segment, options, error);
	handles_unlock();
	return status;
}

int weir_sync_stop(struct weir *weir, struct weir_error *error)
{
	struct segment *segment = handle_control(weir);
	bool running;

	handles_lock();
	running = segment->sync != NULL;
	sync_stop(segment);
	handles_unlock();
	if (!running)
		return weir_fail(error, WEIR_ENOENT,
				 "this process has no sync thread for %s; start one", segment->path);
	return weir_ok(error);
}

static int set_paused(struct weir *weir, uint64_t paused, struct weir_error *error)
{
	struct segment *segment = handle_control(weir);

	if (!segment->shards)
		return not_for_sync(segment, error);
	/* Relaxed: one flag, good by itself. */
	atomic_store_relaxed(&segment->header->sync.paused, paused);
	queue_ring(segment->header);
	return weir_ok(error);
}

int weir_sync_pause(struct weir *weir, struct weir_error *error)
{
	return set_paused(weir, 1, error);
}

int weir_sync_resume(struct weir *weir, struct weir_error *error)
{
	return set_paused(weir, 0, error);
}

int weir_sync_erase(const struct weir_sync_options *options, struct weir_error *error)
{
	struct weir_sync_options defaults;
	struct quiet_pipe quiet;
	int status;

	weir_sync_options_init(&defaults);
	if (!options)
		options = &defaults;
	status = options_check(options, error);
	if (status)
		return status;
	quiet_pipe_begin(&quiet);
	status = sync_erase(options, error);
	quiet_pipe_end(&quiet);
	return status;
}

/* ---- Status ------------------------------------------------------------ */

static uint64_t clock_now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t unmerged_tokens(const struct segment *segment)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < segment->slots; i++) {
		struct slot *slot = &segment->table.slots[i];
		struct bucket_ref ref = { .slot = slot };
		struct word_pair state;

		ref.generation = atomic_load_acquire(&slot->identity.second) & GENERATION_MASK; /* E1 */
		if (bucket_read(&ref, &state) &&
		    (atomic_load_relaxed(&slot->owner) & OWNER_SYNCS))
			sum += round_unmerged(segment, slot, ref.generation, state);
	}
	return sum;
}

static uint64_t largest_cap(const struct segment *segment)
{
	uint64_t version = policy_version(segment), largest = 0;

	for (uint32_t index = 0; index < segment->policies; index++) {
		struct weir_policy policy;
		uint64_t serial;

		if (!policy_decode(segment, version, index, &policy, &serial) ||
		    policy.consistency != WEIR_BOUNDED)
			continue;
		for (uint32_t i = 0; i < policy.limit_count; i++) {
			uint64_t cap = atomic_load_relaxed(&segment->switches[index].cap[i]);

			/* No leader has come to it yet. */
			if (cap == 0 && atomic_load_relaxed(&segment->header->sync.enabled))
				cap = leader_cap(segment, policy.limits[i].burst);
			largest = cap > largest ? cap : largest;
		}
	}
	return largest;
}

/* What waits now was charged after the last look at all charges. */
static uint64_t longest_unmerged(const struct segment_header *header, bool waiting)
{
	uint64_t longest = atomic_load_relaxed(&header->leader.unmerged_max_ns);
	uint64_t looked = atomic_load_relaxed(&header->leader.looked_ns), now = clock_now_ns();

	return waiting && looked && now > looked + longest ? now - looked : longest;
}

static void status_of_shards(const struct segment *segment, struct weir_sync_status *status)
{
	uint64_t now = clock_now_ns();
	uint64_t staleness = atomic_load_relaxed(&segment->header->sync.staleness_ns);

	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		const struct shard_record *shard = &segment->shards[i];
		uint64_t until = atomic_load_acquire(&shard->fresh_until_ns);           /* E9 */
		uint64_t hosts = atomic_load_relaxed(&shard->hosts);
		uint64_t age = until == 0 ? WEIR_NEVER : now + staleness - until;

		status->staleness_ns = age > status->staleness_ns ? age : status->staleness_ns;
		status->hosts = hosts > status->hosts ? hosts : status->hosts;
	}
}

_Static_assert(sizeof(((struct weir_sync_status *)0)->policy_error) == REPORT_TEXT_SIZE, "");
_Static_assert(sizeof(((struct weir_sync_status *)0)->trouble) == REPORT_TEXT_SIZE, "");

/* A leader that was killed leaves its word behind. */
static void status_of_leader(const struct segment *segment, struct weir_sync_status *status)
{
	const struct segment_header *header = segment->header;
	uint64_t leader = atomic_load_relaxed(&header->leader.word.first), now = clock_now_ns();
	uint64_t seen_ns = atomic_load_relaxed(&header->leader.heartbeat_ns);

	status->leading = status->running && leader != 0 && leader == segment->participant_id;
	status->term = atomic_load_relaxed(&header->leader.word.second);
	if (leader == 0)
		return;
	status->leader_pid = atomic_load_relaxed(
		&segment->participants[leader & (PARTICIPANTS_MAX - 1)].pid);
	if (now > seen_ns && now - seen_ns > leader_patience_ns(header))
		status->leader_silent_ns = now - seen_ns;
	status->connected = status->leader_silent_ns == 0 &&
			    atomic_load_relaxed(&header->leader.connected) != 0;
}

static void status_of_redis(const struct segment *segment, struct weir_sync_status *status)
{
	uint64_t now = clock_now_ns();
	struct report report;

	if (status->leader_pid == 0 || status->paused ||
	    !report_read(segment, REPORT_TROUBLE, &report))
		return;
	status->trouble_ns = now > report.since_ns ? now - report.since_ns : 1;
	status->trouble_shards = report.shards;
	snprintf(status->trouble_kind, sizeof(status->trouble_kind), "%.15s", report.kind);
	memcpy(status->trouble, report.text, sizeof(report.text));
}

int weir_sync_status(const struct weir *weir, struct weir_sync_status *status,
		     struct weir_error *error)
{
	struct segment *segment = handle_control(weir);
	struct segment_header *header = segment->header;
	struct report problem;

	memset(status, 0, sizeof(*status));
	if (!segment->shards)
		return not_for_sync(segment, error);
	/* Relaxed: numbers for people, each good by itself. */
	status->enabled = atomic_load_relaxed(&header->sync.enabled) != 0;
	status->paused = atomic_load_relaxed(&header->sync.paused) != 0;
	handles_lock();
	status->running = segment->sync != NULL;
	sync_last_error(segment, status->last_error, sizeof(status->last_error));
	handles_unlock();
	status_of_leader(segment, status);
	status_of_redis(segment, status);
	status->rounds = counter_sum_global(segment, COUNTER_ROUNDS);
	status->round_ns = atomic_load_relaxed(&header->leader.round_ns);
	status->longest_round_ns = atomic_load_relaxed(&header->leader.round_max_ns);
	status->unmerged_tokens = unmerged_tokens(segment);
	status->longest_unmerged_ns = longest_unmerged(header, status->unmerged_tokens > 0);
	status->largest_cap = largest_cap(segment);
	leases_status(segment, clock_now_ns(), status);
	status_of_shards(segment, status);
	status->follows = atomic_load_relaxed(&header->sync.follow) != 0;
	status->published = atomic_load_relaxed(&header->others.published);
	status->applied = atomic_load_relaxed(&header->others.applied);
	status->disagreeing = atomic_load_relaxed(&header->others.disagreeing);
	if (report_read(segment, REPORT_PROBLEM, &problem))
		memcpy(status->policy_error, problem.text, sizeof(problem.text));
	return weir_ok(error);
}

_Static_assert(sizeof(((struct weir_disagreement *)0)->theirs) == REPORT_TEXT_SIZE, "");

size_t weir_sync_disagreements(const struct weir *weir, struct weir_disagreement *list,
			       size_t capacity)
{
	const struct segment *segment = handle_control(weir);
	size_t count = 0;

	for (unsigned i = REPORT_FIRST; segment->shards && i < REPORTS; i++) {
		struct weir_disagreement item = { .host = 0 };
		struct weir_policy policy;
		struct report report;

		if (!report_read(segment, i, &report) ||
		    weir_policy_get(weir, report.policy, &policy, NULL) < 0)
			continue;
		policies_describe(&policy, item.ours, sizeof(item.ours));
		if (strcmp(item.ours, report.text) == 0)
			continue;       /* since the last look */
		memcpy(item.policy, report.policy, sizeof(item.policy));
		memcpy(item.theirs, report.text, sizeof(item.theirs));
		item.host = report.host;
		item.hosts = report.hosts;
		if (count < capacity)
			list[count] = item;
		count++;
	}
	return count;
}
