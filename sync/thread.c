/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.c - the sync thread: leads, or stands by.
 *
 * What.  Ticks every interval, or earlier if the bell rings: a bucket has used half
 * of what it may use between two merges.  All of Redis is in here, and nothing of
 * it is ever waited for by a decision.
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

#include "shm/counter.h"
#include "shm/error.h"
#include "sync/erase.h"
#include "sync/keys.h"
#include "sync/leader.h"
#include "sync/lease_call.h"
#include "sync/policies.h"
#include "sync/redis_route.h"
#include "sync/redis_socket.h"
#include "sync/script.h"
#include "sync/secret.h"

#define ROUND_AGE_MAX_NS 100000000ull   /* from taking a round to sending it */
#define SPACING_NS 1000000ull           /* from round to round, however loud the bell */
#define TOLERANCE_NS 1000000000ull      /* that Redis' clock may run ahead by, once */
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
	unsigned failures;              /* in a row */
	bool lease_failed;              /* in this turn */
	bool permanent;                 /* the last of them takes a person to mend */
	uint64_t random;
	uint64_t keep_s;
	bool stop;                      /* atomic */
	pthread_t thread;
	pthread_mutex_t mutex;          /* of last_error */
	char last_error[256];
};

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void remember_error(struct sync *sync, const char *text)
{
	counter_add_global(sync->segment, COUNTER_SYNC_ERRORS, 1);
	pthread_mutex_lock(&sync->mutex);
	snprintf(sync->last_error, sizeof(sync->last_error), "%s", text);
	pthread_mutex_unlock(&sync->mutex);
}

static void forget_error(struct sync *sync)
{
	sync->failures = 0;
	sync->permanent = false;
	pthread_mutex_lock(&sync->mutex);
	sync->last_error[0] = '\0';
	pthread_mutex_unlock(&sync->mutex);
}

/* ---- Calls ------------------------------------------------------------- */

/* The shard's virtual time as this host has seen it pass, for the script to guard
 * its clock with; nothing before the first reply. */
static size_t virtual_now(const struct shard_record *shard, unsigned char out[8])
{
	/* Relaxed: leaders' own; the leader word hands them on. */
	uint64_t seconds = atomic_load_relaxed(&shard->virtual_seconds);
	uint64_t part = atomic_load_relaxed(&shard->virtual_part_ns);
	uint64_t at = atomic_load_relaxed(&shard->virtual_at_ns), now = now_ns();

	if (at == 0 || at > now)
		return 0;
	part += now - at;
	seconds += part / (uint64_t)WIRE_SECOND;
	wire_put32(wire_put32(out, (uint32_t)seconds), (uint32_t)(part % (uint64_t)WIRE_SECOND));
	return 8;
}

#define ARGUMENTS 9

/* The words of a call, which live as long as it may be made again. */
struct call_words {
	char key[SYNC_KEY_SIZE], term[12], sequence[12], tolerance[24], keep[24];
	unsigned char low[8];
	const char *argv[ARGUMENTS];
	size_t lengths[ARGUMENTS];
};

static void set_word(struct call_words *words, unsigned i, const void *text, size_t length)
{
	words->argv[i] = text;
	words->lengths[i] = length;
}

static void write_number(struct call_words *words, unsigned i, char text[], size_t size,
			 uint64_t number)
{
	int length = snprintf(text, size, "%llu", (unsigned long long)number);

	set_word(words, i, text, (size_t)length);
}

static struct redis_call write_call(const struct sync *sync, const struct leader_call *call,
				    struct call_words *words)
{
	const struct round *round = call->round;
	size_t key_length = sync_shard_key(words->key, sync->prefix, call->shard);

	set_word(words, 0, sync->host, HOST_ID_SIZE);
	write_number(words, 1, words->term, sizeof(words->term), call->term);
	write_number(words, 2, words->sequence, sizeof(words->sequence), call->sequence);
	set_word(words, 3, words->low,
		 virtual_now(&sync->segment->shards[call->shard], words->low));
	write_number(words, 4, words->tolerance, sizeof(words->tolerance), TOLERANCE_NS);
	write_number(words, 5, words->keep, sizeof(words->keep), sync->keep_s);
	set_word(words, 6, round ? (const char *)round->blob : "",
		 round ? round->count * WIRE_ITEM : 0);
	set_word(words, 7, round ? (const char *)round->window_blob : "",
		 round ? round->window_count * WIRE_WINDOW : 0);
	set_word(words, 8, round ? (const char *)round->hold_blob : "",
		 round ? round->hold_count * WIRE_HOLD : 0);
	return (struct redis_call){ .script = SCRIPT_ROUND, .key = words->key,
				    .key_length = key_length, .argc = ARGUMENTS, .argv = words->argv,
				    .lengths = words->lengths };
}

/* A text of COUNT elements of SIZE bytes each; NULL if it is not one, or too long. */
static const unsigned char *read_items(const struct redis_reply *reply, size_t size,
				       unsigned *count)
{
	size_t length = 0;
	const char *items = redis_reply_text(reply, &length);

	if (!items || length % size != 0 || length / size > ROUND_ITEMS)
		return NULL;
	*count = (unsigned)(length / size);
	return (const unsigned char *)items;
}

/* {code, now, hosts, term, sequence, items, windows, holds} */
static bool read_reply(const struct redis_reply *reply, struct round_reply *result)
{
	size_t now_length = 0;
	const char *now = redis_reply_text(redis_reply_at(reply, 1), &now_length);

	result->items = read_items(redis_reply_at(reply, 5), WIRE_REPLY, &result->count);
	result->windows = read_items(redis_reply_at(reply, 6), WIRE_WINDOW_REPLY,
				     &result->window_count);
	result->holds = read_items(redis_reply_at(reply, 7), WIRE_HOLD_REPLY, &result->hold_count);
	if (redis_reply_count(reply) != 8 || !now || now_length != 8 || !result->items ||
	    !result->windows || !result->holds)
		return false;
	result->code = (unsigned)redis_reply_integer(redis_reply_at(reply, 0));
	result->virtual_seconds = wire_get32((const unsigned char *)now);
	result->virtual_part_ns = wire_get32((const unsigned char *)now + 4);
	result->hosts = (uint64_t)redis_reply_integer(redis_reply_at(reply, 2));
	result->last_tag = (uint64_t)redis_reply_integer(redis_reply_at(reply, 3)) << 32 |
			   (uint32_t)redis_reply_integer(redis_reply_at(reply, 4));
	result->received_ns = now_ns();
	return true;
}

static bool failed(struct sync *sync, enum redis_error error, const char *message)
{
	remember_error(sync, message);
	sync->permanent = redis_error_permanent(error);
	return false;
}

/* Redis answered a call with an error.  A replica stays one for as long as it likes:
 * whoever is the master is looked for anew. */
static bool refused(struct sync *sync, const struct redis_result *result)
{
	char message[sizeof(sync->last_error)];

	redis_route_explain(sync->route, result, "a call", message, sizeof(message));
	if (result->error == REDIS_ERROR_READONLY || result->error == REDIS_ERROR_MASTERDOWN)
		redis_route_disconnect(sync->route);
	return failed(sync, result->error, message);
}

/* A thread that was stopped since it took the round must not send it: durations as
 * of then would be too long by now.  Returns from when on, redis_now_ns(). */
static uint64_t send_by_ns(const struct leader_call *calls, unsigned count)
{
	uint64_t now = now_ns(), left = UINT64_MAX;

	for (unsigned i = 0; i < count; i++) {
		uint64_t until = calls[i].round ? calls[i].round->taken_ns + ROUND_AGE_MAX_NS :
						  UINT64_MAX;

		if (until <= now)
			return 0;
		if (until != UINT64_MAX && until - now < left)
			left = until - now;
	}
	return left == UINT64_MAX ? left : redis_now_ns() + left;
}

static bool call_redis(void *context, const struct leader_call *calls, struct round_reply *replies,
		       unsigned count)
{
	struct sync *sync = context;
	struct call_words words[SYNC_SHARDS];
	struct redis_call made[SYNC_SHARDS];
	struct redis_result results[SYNC_SHARDS];
	uint64_t by_ns = send_by_ns(calls, count);
	struct weir_error error = { 0 };
	enum redis_error outcome;

	if (by_ns == 0)
		return false;
	for (unsigned i = 0; i < count; i++)
		made[i] = write_call(sync, &calls[i], &words[i]);
	outcome = redis_route_call(sync->route, made, count, by_ns, results, &error);
	if (outcome != REDIS_ERROR_NONE)
		return failed(sync, outcome, error.message);
	/* Replies die with the connection: the first that is none of ours is the last. */
	for (unsigned i = 0; i < count; i++) {
		if (results[i].error != REDIS_ERROR_NONE)
			return refused(sync, &results[i]);
		if (!read_reply(results[i].reply, &replies[i])) {
			redis_route_disconnect(sync->route);
			return failed(sync, REDIS_ERROR_PROTOCOL,
				      "the script answered what it never should; is another "
				      "program's script behind the same name?");
		}
	}
	return true;
}

static bool call_leases(void *context, struct lease_call *calls, struct lease_reply *replies,
			unsigned count)
{
	struct sync *sync = context;
	struct weir_error error = { 0 };
	bool permanent = sync->permanent;
	enum redis_error outcome = lease_call_redis(sync->route, SCRIPT_LEASES, sync->prefix,
						    sync->host, calls, replies, count, &error);

	if (outcome == REDIS_ERROR_NONE)
		return true;
	sync->lease_failed = true;
	failed(sync, outcome, error.message);
	/* The rounds go on. */
	sync->permanent = permanent;
	return false;
}

/* ---- The thread -------------------------------------------------------- */

static bool stopping(const struct sync *sync)
{
	return __atomic_load_n(&sync->stop, __ATOMIC_ACQUIRE);
}

static uint64_t next_random(struct sync *sync)
{
	return sync->random = sync->random * 6364136223846793005u + 1442695040888963407u;
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
	if (outcome != REDIS_ERROR_NONE) {
		redis_route_disconnect(sync->route);    /* or nobody would look again */
		return failed(sync, outcome, error.message);
	}
	for (unsigned i = 0; i < 2; i++) {
		if (results[i].error != REDIS_ERROR_NONE) {
			refused(sync, &results[i]);
			redis_route_disconnect(sync->route);
			return false;
		}
	}
	found = redis_reply_text(results[1].reply, &length);
	if (found && strcmp(found, value) == 0)
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
	if (outcome == REDIS_ERROR_NONE)
		return same_secret(sync);
	if (outcome != REDIS_ERROR_INTERRUPTED)
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

/* One turn as the leader.  Returns how long to sleep. */
static uint64_t lead(struct sync *sync)
{
	struct leader_transport transport = { call_redis, call_leases, sync, now_ns };
	struct segment_header *header = sync->segment->header;
	uint64_t interval = atomic_load_relaxed(&header->sync.interval_ns);
	uint64_t begin = now_ns(), end, spent, due;
	enum leader_result result = LEADER_FAILED;

	sync->lease_failed = false;
	if (connected(sync))
		result = leader_tick(&sync->leader, &transport, begin);
	/* The fence goes over a connection on which nothing is under way: a late reply to
	 * an earlier call would pass for its own, and tell of another shard. */
	if (result == LEADER_FAILED)
		redis_route_disconnect(sync->route);
	/* Relaxed: for people to read. */
	atomic_store_relaxed(&header->leader.connected, redis_route_connected(sync->route));
	if (result == LEADER_FAILED) {
		back_off(sync);
		return 0;
	}
	if (result == LEADER_LOST)
		return interval;
	if (!sync->lease_failed)
		forget_error(sync);
	end = now_ns();
	measure(sync, begin, end, result);
	if (policies_due(sync->policies, begin)) {
		policies_ask(sync->policies, sync->route, begin);
		end = now_ns();
	}
	spent = end - begin;
	due = leader_due_ns(&sync->leader);
	if (due < begin + interval)
		interval = due > begin ? due - begin : 0;
	return result != LEADER_MORE && spent < interval ? interval - spent : SPACING_NS;
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
	pthread_mutex_destroy(&sync->mutex);
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
	pthread_mutex_init(&sync->mutex, NULL);
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
	if (!sync)
		return;
	pthread_mutex_lock(&sync->mutex);
	snprintf(text, size, "%s", sync->last_error);
	pthread_mutex_unlock(&sync->mutex);
}
