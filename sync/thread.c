/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.c - the sync thread: leads, or stands by.
 *
 * What.  Ticks every interval, or earlier if the bell rings: a bucket has used a fifth
 * of what it may use between two merges; or if one near its limit is to be looked at
 * again.  All of Redis is in here, and nothing of it is ever waited for by a decision.
 *
 * Stop and pause set a flag, ring the bell and interrupt the connection, so that
 * they are answered at once whatever Redis does.
 *
 * Fork.  The child has no such thread.  What it inherits of the parent's is
 * forgotten, not freed: the parent's connection must not be closed from here.
 */
#include "sync/thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "shm/error.h"
#include "sync/erase.h"
#include "sync/keys.h"
#include "sync/leader.h"
#include "sync/lease_call.h"
#include "sync/policies.h"
#include "sync/redis_route.h"
#include "sync/round_call.h"
#include "sync/script.h"
#include "sync/secret.h"
#include "sync/trouble.h"

#define SPACING_NS 1000000ull           /* from round to round, however loud the bell */
#define CLUSTER_TTL_MS "604800000"      /* 7 days, as the shards' */

enum script {
	SCRIPT_ROUND,
	SCRIPT_POLICIES,
	SCRIPT_PUBLISH,
	SCRIPT_LEASES,
	SCRIPTS,
};

struct sync {
	struct segment *segment;
	struct leader leader;
	struct redis_route *route;
	struct policies *policies;
	unsigned char host[HOST_ID_SIZE];
	char prefix[SYNC_PREFIX_MAX + 1];
	unsigned failures;              /* to connect, in a row */
	bool permanent;                 /* the last of them takes a person to mend */
	bool same_secret;               /* as the other hosts', when we last could ask */
	unsigned unleased;              /* shards whose leases failed in this turn: a bit each */
	struct round_faults faults;     /* of the last calls */
	unsigned distrusted;            /* connections, by shards that they lead to: a bit each */
	uint64_t random;
	uint64_t keep_s;
	bool stop;                      /* atomic */
	pthread_t thread;
	struct trouble trouble;
};

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- Calls ------------------------------------------------------------- */

/* A call's connection brought what was no answer to it, or from no master: whatever else
 * comes over it is nobody's. */
static void leave_distrusted(struct sync *sync)
{
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		char key[SYNC_KEY_SIZE];

		if (sync->distrusted >> i & 1)
			redis_route_leave(sync->route, key, sync_shard_key(key, sync->prefix, i));
	}
	sync->distrusted = 0;
}

static void call_rounds(void *context, const struct leader_call *calls,
			struct round_reply *replies, unsigned count)
{
	struct sync *sync = context;
	struct round_caller caller = { sync->segment, sync->route, SCRIPT_ROUND, sync->prefix,
				       sync->host, sync->keep_s };
	struct weir_error error = { 0 };
	enum redis_error outcome;

	leave_distrusted(sync);
	outcome = round_call_redis(&caller, calls, replies, count, &sync->faults, &error);
	if (outcome != REDIS_ERROR_NONE)
		trouble_is(&sync->trouble, outcome, error.message);
}

static uint64_t next_random(struct sync *sync)
{
	return sync->random = sync->random * 6364136223846793005u + 1442695040888963407u;
}

static uint64_t pause_ns(void *context, unsigned shard, unsigned failures)
{
	struct sync *sync = context;
	unsigned bit = 1u << shard;

	if (!(sync->faults.sound & bit))
		sync->distrusted |= bit;        /* not now: replies of others are there */
	return redis_backoff_ns(failures, next_random(sync) >> 1, sync->faults.permanent & bit);
}

static void call_leases(void *context, struct lease_call *calls, struct lease_reply *replies,
			unsigned count)
{
	struct sync *sync = context;
	struct weir_error error = { 0 };
	enum redis_error outcome;

	leave_distrusted(sync);
	outcome = lease_call_redis(sync->route, SCRIPT_LEASES, sync->prefix, sync->host, calls,
				   replies, count, &sync->distrusted, &error);
	if (outcome == REDIS_ERROR_NONE)
		return;
	for (unsigned i = 0; i < count; i++) {
		if (replies[i].code == LEASE_UNANSWERED)
			sync->unleased |= 1u << calls[i].shard;
	}
	trouble_is(&sync->trouble, outcome, error.message);
}

/* ---- The thread -------------------------------------------------------- */

static bool stopping(const struct sync *sync)
{
	return __atomic_load_n(&sync->stop, __ATOMIC_ACQUIRE);
}

/* Wait before the next attempt, longer each time. */
static void back_off(struct sync *sync)
{
	uint64_t wait = redis_backoff_ns(sync->failures++, next_random(sync) >> 1, sync->permanent);
	uint64_t until = now_ns() + wait;

	while (!stopping(sync) && now_ns() < until) {
		uint64_t step = until - now_ns();
		uint64_t beat = atomic_load_relaxed(&sync->segment->header->sync.interval_ns);

		/* In small steps: a leader that waits is still the leader. */
		redis_route_sleep_ns(sync->route, step < beat ? step : beat);
		leader_stand(&sync->leader, now_ns());
	}
}

static bool failed(struct sync *sync, enum redis_error error, const char *message)
{
	trouble_is(&sync->trouble, error, message);
	sync->permanent = redis_error_permanent(error);
	return false;
}

/* Hosts of one cluster have one secret, or the same key has another name on each
 * of them and nothing is shared.  What all of them must agree on is a digest. */
static bool same_secret(struct sync *sync)
{
	struct redis_result results[2];
	struct redis_call calls[2];
	struct weir_error error = { 0 };
	enum redis_error outcome;
	char key[SYNC_KEY_SIZE], value[SECRET_DIGEST_SIZE];
	size_t length;
	const char *set[] = { "SET", key, value, "NX", "PX", CLUSTER_TTL_MS };
	const char *get[] = { "GET", key };
	const char *found;

	sync_cluster_key(key, sync->prefix);
	secret_digest(sync->segment->secret, value);
	calls[0] = (struct redis_call){ REDIS_COMMAND, key, strlen(key), 6, set, NULL };
	calls[1] = (struct redis_call){ REDIS_COMMAND, key, strlen(key), 2, get, NULL };
	outcome = redis_route_call(sync->route, calls, 2, UINT64_MAX, results, &error);
	/* The other nodes' shards need not wait for the one that has this key. */
	if (outcome != REDIS_ERROR_NONE && sync->same_secret && redis_route_connected(sync->route))
		return true;
	if (outcome != REDIS_ERROR_NONE) {
		redis_route_disconnect(sync->route);    /* or nobody would look again */
		return failed(sync, outcome, error.message);
	}
	for (unsigned i = 0; i < 2; i++) {
		if (results[i].error != REDIS_ERROR_NONE) {
			redis_route_explain(sync->route, &results[i], "a call", error.message,
					    sizeof(error.message));
			redis_route_disconnect(sync->route);
			return failed(sync, results[i].error, error.message);
		}
	}
	found = redis_reply_text(results[1].reply, &length);
	sync->same_secret = found && strcmp(found, value) == 0;
	if (sync->same_secret)
		return true;
	redis_route_disconnect(sync->route);
	return failed(sync, REDIS_ERROR_DENIED,
		      "the hosts that share this prefix have another hash secret; create the segment "
		      "with theirs (weir create --secret-file), or use another prefix");
}

static bool connected(struct sync *sync)
{
	struct weir_error error = { 0 };
	enum redis_error outcome;

	if (redis_route_connected(sync->route))
		return true;
	outcome = redis_route_connect(sync->route, &error);
	if (outcome == REDIS_ERROR_NONE && same_secret(sync)) {
		sync->failures = 0;
		return true;
	}
	if (outcome != REDIS_ERROR_NONE && outcome != REDIS_ERROR_INTERRUPTED)
		failed(sync, outcome, error.message);
	return false;
}

/*
 * How long a tick took at most, and how long a charge waited for its merge: no longer
 * than from the last look at all charges, after which it came, to the end of this tick.
 */
static void measure(struct sync *sync, uint64_t begin, uint64_t end, enum leader_result result)
{
	struct segment_header *header = sync->segment->header;
	/* Relaxed: the leader's own; the leader word hands them on. */
	uint64_t looked = atomic_load_relaxed(&header->leader.looked_ns);
	uint64_t waited = looked && end > looked ? end - looked : 0;

	if (result != LEADER_IDLE) {
		atomic_store_relaxed(&header->leader.round_ns, end - begin);
		if (end - begin > atomic_load_relaxed(&header->leader.round_max_ns))
			atomic_store_relaxed(&header->leader.round_max_ns, end - begin);
		if (waited > atomic_load_relaxed(&header->leader.unmerged_max_ns))
			atomic_store_relaxed(&header->leader.unmerged_max_ns, waited);
	}
	if (result != LEADER_MORE && sync->leader.walk.left == 0)
		atomic_store_relaxed(&header->leader.looked_ns, sync->leader.walk.begun_ns);
}

/* Shards whose calls fail: a bit each.  Without a connection, all of them. */
static unsigned in_trouble(const struct sync *sync, bool connected)
{
	return connected ? leader_closed(&sync->leader) | sync->unleased : ALL_SHARDS;
}

/* One turn as the leader.  Returns how long to sleep. */
static uint64_t lead(struct sync *sync)
{
	struct leader_transport transport = { call_rounds, pause_ns, call_leases, sync, now_ns };
	struct segment_header *header = sync->segment->header;
	uint64_t interval = atomic_load_relaxed(&header->sync.interval_ns);
	uint64_t begin = now_ns(), end, spent, due;
	enum leader_result result = LEADER_FAILED;
	bool there;

	sync->unleased = 0;
	leave_distrusted(sync);
	/* What nothing may be asked of yet is no reason to connect to. */
	there = redis_route_connected(sync->route) || leader_waits(&sync->leader, begin) ||
		connected(sync);
	if (there)
		result = leader_tick(&sync->leader, &transport, begin);
	/* Relaxed: for people to read. */
	atomic_store_relaxed(&header->leader.connected, redis_route_connected(sync->route));
	if (result != LEADER_LOST)
		trouble_tell(&sync->trouble, in_trouble(sync, there), begin);
	if (!there) {
		back_off(sync);
		return 0;
	}
	if (result == LEADER_LOST)
		return interval;
	if (result == LEADER_FENCED)
		return SPACING_NS;
	if (result != LEADER_FAILED) {
		measure(sync, begin, now_ns(), result);
		if (policies_due(sync->policies, begin))
			policies_ask(sync->policies, sync->route, begin);
	}
	end = now_ns();
	spent = end - begin;
	due = leader_due_ns(&sync->leader);
	if (due < begin + interval)
		interval = due > begin ? due - begin : 0;
	interval = result != LEADER_MORE && spent < interval ? interval - spent : SPACING_NS;
	if (!leader_waits(&sync->leader, end))
		return interval;
	/* Whoever rings could be told nothing. */
	redis_route_sleep_ns(sync->route, interval);
	return 0;
}

/* Let rounds begin a spacing apart.  Returns how long that took. */
static uint64_t space(uint64_t begin_ns)
{
	uint64_t spent = now_ns() - begin_ns;
	struct timespec rest = { .tv_nsec = spent < SPACING_NS ? (long)(SPACING_NS - spent) : 0 };

	if (rest.tv_nsec > 0)
		nanosleep(&rest, NULL);
	return (uint64_t)rest.tv_nsec;
}

static void *run(void *context)
{
	struct sync *sync = context;
	struct segment_header *header = sync->segment->header;

	while (!stopping(sync)) {
		uint64_t sleep = atomic_load_relaxed(&header->sync.interval_ns);
		uint64_t begin = now_ns(), slept;

		redis_route_rearm(sync->route);
		if (stopping(sync))
			break;
		if (!leader_stand(&sync->leader, now_ns())) {
			redis_route_sleep_ns(sync->route, sleep);     /* the bell is the leader's */
			continue;
		}
		/* A pause is a partition of the whole host: its leader leads on, and
		 * talks to nobody. */
		if (!atomic_load_relaxed(&header->sync.paused))
			sleep = lead(sync);
		slept = space(begin);
		if (sleep > slept && !stopping(sync))
			queue_sleep(header, sleep - slept);
	}
	leader_resign(&sync->leader);
	return NULL;
}

/* ---- Starting and stopping --------------------------------------------- */

static int prepare(struct sync *sync, const struct weir_sync_options *options,
		   struct weir_error *error)
{
	const char *scripts[SCRIPTS] = { sync_script, policies_script,
					 publish_script, lease_script };
	struct redis_options redis;
	int status = redis_url_parse(options->url, &redis, error);

	if (status == 0)
		status = sync_prefix_check(options->prefix, error);
	if (status)
		return status;
	strcpy(sync->prefix, options->prefix);
	if (getrandom(&sync->random, sizeof(sync->random), 0) != sizeof(sync->random))
		return weir_fail(error, WEIR_ESYSTEM, "no random numbers from the kernel: %s",
				 strerror(errno));
	/* This making of the segment, by a number that no other host has. */
	memcpy(sync->host, &sync->segment->incarnation, 8);
	memcpy(sync->host + 8, &sync->segment->incarnation, 8);
	/* An entry outlives every window in which somebody may still charge it. */
	sync->keep_s = 5 + (options->interval_ns + options->max_staleness_ns) / 1000000000u;
	sync->policies = policies_create(sync->segment, sync->prefix, sync->host, SCRIPT_POLICIES,
					 SCRIPT_PUBLISH);
	if (!sync->policies)
		return weir_fail(error, WEIR_ENOMEM, "no memory for the sync thread");
	return redis_route_create(&redis, scripts, SCRIPTS, &sync->route, error);
}

static int start_thread(struct sync *sync, struct weir_error *error)
{
	sigset_t all, before;
	int failed;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(&sync->thread, NULL, run, sync);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed)
		return weir_fail(error, WEIR_ESYSTEM, "cannot start the sync thread: %s",
				 strerror(failed));
	return weir_ok(error);
}

static void destroy(struct sync *sync)
{
	redis_route_destroy(sync->route);
	leader_end(&sync->leader);
	policies_destroy(sync->policies);
	trouble_end(&sync->trouble);
	free(sync);
}

int sync_start(struct segment *segment, const struct weir_sync_options *options,
	       struct weir_error *error)
{
	struct segment_header *header = segment->header;
	struct sync *sync;
	int status;

	if (segment->sync)
		return weir_fail(error, WEIR_EEXIST,
				 "this process has a sync thread for %s already; stop it first",
				 segment->path);
	if (segment->participant_id == 0)
		return weir_fail(error, WEIR_ENOSPC,
				 "%s has as many participants as it can; close some", segment->path);
	sync = calloc(1, sizeof(*sync));
	if (!sync)
		return weir_fail(error, WEIR_ENOMEM, "no memory for the sync thread");
	sync->segment = segment;
	trouble_init(&sync->trouble, segment);
	leader_init(&sync->leader, segment);
	status = prepare(sync, options, error);
	if (status == 0) {
		/* Relaxed: a decision that sees the flag without the numbers finds no
		 * fresh view either, and nobody acquires it. */
		atomic_store_relaxed(&header->sync.interval_ns, options->interval_ns);
		atomic_store_relaxed(&header->sync.staleness_ns, options->max_staleness_ns);
		atomic_store_relaxed(&header->sync.expected_hosts, options->expected_hosts);
		atomic_store_relaxed(&header->sync.overshoot, options->overshoot_permille);
		atomic_store_relaxed(&header->sync.follow, options->follow_policies);
		atomic_store_relaxed(&header->sync.enabled, 1);
		status = start_thread(sync, error);
	}
	if (status) {
		destroy(sync);
		return status;
	}
	segment->sync = sync;
	return weir_ok(error);
}

void sync_stop(struct segment *segment)
{
	struct sync *sync = segment->sync;

	if (!sync)
		return;
	__atomic_store_n(&sync->stop, true, __ATOMIC_RELEASE);
	redis_route_interrupt(sync->route);
	queue_ring(segment->header);
	pthread_join(sync->thread, NULL);
	destroy(sync);
	segment->sync = NULL;
}

void sync_after_fork(struct segment *segment)
{
	segment->sync = NULL;
}

void sync_last_error(const struct segment *segment, char *text, size_t size)
{
	struct sync *sync = segment->sync;

	text[0] = '\0';
	if (sync)
		trouble_copy(&sync->trouble, text, size);
}
