/* SPDX-License-Identifier: Apache-2.0 */
/*
 * latency.c - how long decisions take, whatever happens to Redis.
 *
 * Two segments in one process, alike but that one of them syncs.  In every phase one
 * thread, alone on its processor, calls allow on both in turn, a millisecond each, so
 * that whatever disturbs the machine disturbs both; each call is timed.  Meanwhile the
 * main thread, on the other processors like Redis and the sync thread, does to Redis
 * what the phase is called after.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "perf/redis/redis.h"
#include "tests/redis_server.h"

#define SLICE_NS 1000000u
#define SAMPLES (1u << 20)              /* of keys, walked in a circle */
#define STALENESS_NS 100000000u         /* so that a phase need not wait long */
#define WAIT_NS 300000000000ull
#define EXPECTED_HOSTS 3u               /* the cap of bounded mode is in force */

const char *const phase_names[PHASES] = {
	"quiet", "rounds", "slow", "paused", "stopped", "restarted", "killed",
};

const char *const phase_help[PHASES] = {
	"the sync thread talks to nobody",
	"Redis answers",
	"Redis sleeps 50 ms again and again (DEBUG SLEEP)",
	"Redis does not answer its clients (CLIENT PAUSE)",
	"Redis is stopped (SIGSTOP)",
	"Redis is killed and started again and again",
	"Redis is killed (SIGKILL), nothing listens",
};

const struct load loads[LOADS] = {
	{ .name = "keys", .help = "allow one of many keys (Zipf 0.99)", .limit = OPEN_LIMIT,
	  .cost = OPEN_DEBT, .phases = PHASES },
	{ .name = "deny", .help = "deny one of many keys (Zipf 0.99)", .limit = CLOSED_LIMIT,
	  .cost = 1, .denied = true, .phases = PHASE_ROUNDS + 1 },
	{ .name = "expire", .help = "a new key, in place of an expired one",
	  .limit = "1000000/1s", .cost = 1, .fresh = true, .phases = PHASE_ROUNDS + 1 },
	{ .name = "evict", .help = "a new key, in place of a live one: a flood",
	  .limit = "1/1h burst 100", .cost = 1, .fresh = true, .phases = PHASE_ROUNDS + 1 },
};

#define FIRST_NEW_KEY (1ull << 40)

struct world {
	const struct plan *plan;
	struct redis_server *server;
	redisContext *admin;
	struct side {
		struct weir *weir;
		weir_policy_id policy;
	} synced, alone;
	uint32_t *samples;
	double ns_per_tick;
	bool done;                      /* atomic: the calls of this phase are */
	uint64_t at;                    /* which key is next */
	uint64_t unexpected;            /* denied or allowed, as they should not have been */
	struct latency *synced_latency, *alone_latency; /* of this phase and cycle */
};

/* ---- The calls ----------------------------------------------------------- */

/* Inlined for each side: the same instructions, and no choice between the calls. */
static uint64_t slice(struct world *world, const struct side *side, struct latency *latency,
		      uint64_t at)
{
	const struct load *load = world->plan->load;
	uint64_t end = ticks() + (uint64_t)(SLICE_NS / world->ns_per_tick), after;

	do {
		struct key key = key_of(load->fresh ? FIRST_NEW_KEY + at :
						      world->samples[at % SAMPLES]);
		uint64_t before = ticks(), ns;

		world->unexpected += weir_allow(side->weir, side->policy, &key, sizeof(key),
						NULL) == load->denied;
		at++;
		after = ticks();
		ns = (uint64_t)((double)(after - before) * world->ns_per_tick);
		histogram_count(&latency->histogram, ns);
		if (ns > latency->longest_ns)
			latency->longest_ns = ns;
	} while (after < end);
	return at;
}

static void *call(void *context)
{
	struct world *world = context;
	uint64_t end = now_ns() + world->plan->phase_ns;

	pin(processors() - 1);
	while (now_ns() < end) {
		uint64_t synced = slice(world, &world->synced, world->synced_latency, world->at);
		uint64_t alone = slice(world, &world->alone, world->alone_latency, world->at);

		world->at = synced > alone ? synced : alone;
	}
	__atomic_store_n(&world->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* ---- What happens to Redis ----------------------------------------------- */

static void command(struct world *world, const char *text)
{
	redisReply *reply = redisCommand(world->admin, text);

	if (!reply || reply->type == REDIS_REPLY_ERROR)
		die(text, reply ? reply->str : world->admin->errstr);
	freeReplyObject(reply);
}

static void connect_anew(struct world *world)
{
	redisFree(world->admin);
	world->admin = redis_server_connect(world->server);
}

static void begin_quiet(struct world *world)
{
	weir_sync_pause(world->synced.weir, NULL);
}

static void end_quiet(struct world *world)
{
	weir_sync_resume(world->synced.weir, NULL);
}

static void disturb_slow(struct world *world)
{
	command(world, "DEBUG SLEEP 0.05");
}

/* Nobody can end it before its time: the phase after this one waits for that. */
static void begin_paused(struct world *world)
{
	char text[64];

	snprintf(text, sizeof(text), "CLIENT PAUSE %llu ALL",
		 (unsigned long long)(world->plan->phase_ns + 10ull * STALENESS_NS) / 1000000);
	command(world, text);
}

static void begin_stopped(struct world *world)
{
	redis_server_stop(world->server);
}

static void end_stopped(struct world *world)
{
	redis_server_continue(world->server);
}

static void disturb_restarted(struct world *world)
{
	redis_server_restart(world->server);
	usleep(50000);
}

static void begin_killed(struct world *world)
{
	redis_server_kill(world->server);
}

static void end_killed(struct world *world)
{
	redis_server_restart(world->server);
	connect_anew(world);
}

static const struct phase {
	void (*begin)(struct world *world);
	void (*disturb)(struct world *world);   /* again and again; NULL: nothing */
	void (*end)(struct world *world);
	bool stale;                     /* its calls begin when the view is */
} phases[PHASES] = {
	{ .begin = begin_quiet, .end = end_quiet },
	{ 0 },
	{ .disturb = disturb_slow },
	{ .begin = begin_paused, .stale = true },
	{ .begin = begin_stopped, .end = end_stopped, .stale = true },
	{ .disturb = disturb_restarted, .end = connect_anew },
	{ .begin = begin_killed, .end = end_killed, .stale = true },
};

/* ---- Phases -------------------------------------------------------------- */

static void wait_until(struct world *world, const char *what,
		       bool (*reached)(const struct weir_sync_status *status))
{
	uint64_t until = now_ns() + WAIT_NS;
	struct weir_sync_status status;
	struct weir_error error;

	for (;;) {
		uint64_t begin = now_ns();

		if (weir_sync_status(world->synced.weir, &status, &error))
			die("sync status", error.message);
		if (reached(&status))
			return;
		if (now_ns() > until)
			die(what, status.last_error[0] ? status.last_error : "waited in vain");
		/* Looking takes long where there are many slots; leave the processor to
		 * who is waited for. */
		usleep((useconds_t)(2000 + (now_ns() - begin) / 1000 * 4));
	}
}

static bool is_stale(const struct weir_sync_status *status)
{
	return status->staleness_ns > STALENESS_NS;
}

static bool is_fresh(const struct weir_sync_status *status)
{
	return status->staleness_ns < STALENESS_NS;
}

static bool is_merged(const struct weir_sync_status *status)
{
	return is_fresh(status) && status->unmerged_tokens == 0;
}

static void run_phase(struct world *world, const struct phase *phase)
{
	pthread_t thread;

	wait_until(world, "a fresh view", is_fresh);
	if (phase->begin)
		phase->begin(world);
	if (phase->stale)
		wait_until(world, "a stale view", is_stale);
	world->done = false;
	if (pthread_create(&thread, NULL, call, world))
		die("thread", strerror(errno));
	while (!__atomic_load_n(&world->done, __ATOMIC_ACQUIRE)) {
		if (phase->disturb)
			phase->disturb(world);
		else
			usleep(1000);
	}
	pthread_join(thread, NULL);
	if (phase->end)
		phase->end(world);
}

/* ---- Setting up ---------------------------------------------------------- */

/* Room for the shares of fail mode share, too: another bucket for each key. */
static void open_side(struct side *side, const struct plan *plan)
{
	const struct load *load = plan->load;
	struct weir_options options;
	uint64_t first = load->fresh ? FIRST_NEW_KEY / 2 : 0;
	uint64_t charged = load->fresh ? 2 * (uint64_t)plan->keys : plan->keys;

	weir_options_init(&options);
	options.slots = load->fresh ? plan->keys : 4 * (uint64_t)plan->keys + 64;
	options.sync = true;
	side->weir = segment_open_new(&options);
	side->policy = policy_define(side->weir, load->name, load->limit, plan->fail_mode);
	for (uint64_t i = 0; i < charged; i++) {
		struct key key = key_of(first + i);

		weir_allow_n(side->weir, side->policy, &key, sizeof(key), load->cost, NULL);
	}
}

static void start_sync(struct world *world)
{
	struct weir_sync_options sync;
	struct weir_error error;
	char url[256];

	weir_sync_options_init(&sync);
	snprintf(url, sizeof(url), "unix://%s", redis_server_socket(world->server));
	sync.url = url;
	sync.prefix = "latency";
	sync.interval_ns = world->plan->interval_ns;
	sync.max_staleness_ns = STALENESS_NS;
	sync.expected_hosts = EXPECTED_HOSTS;
	if (weir_sync_start(world->synced.weir, &sync, &error))
		die(url, error.message);
	wait_until(world, "the first rounds", is_merged);
}

static double quantile(const struct latency *latency, unsigned q)
{
	static const uint64_t parts[3] = { 2, 100, 1000 };

	return (double)histogram_quantile(&latency->histogram, parts[q]);
}

static void sum_up(struct phase_result results[PHASES], const struct latency *synced,
		   const struct latency *alone, const struct plan *plan)
{
	double beside[CYCLES_MAX], healthy[CYCLES_MAX];
	unsigned cycles = plan->cycles;

	for (unsigned p = 0; p < plan->load->phases; p++) {
		for (unsigned q = 0; q < 3; q++) {
			for (unsigned c = 0; c < cycles; c++) {
				const struct latency *first = &synced[c * PHASES];

				beside[c] = quantile(&first[p], q) /
					    quantile(&alone[c * PHASES + p], q);
				healthy[c] = quantile(&first[p], q) /
					     quantile(&first[PHASE_ROUNDS], q);
			}
			results[p].to_alone[q] = median(beside, cycles, NULL);
			results[p].to_rounds[q] = median(healthy, cycles, NULL);
		}
	}
}

static void add(struct latency *sum, const struct latency *one)
{
	histogram_add(&sum->histogram, &one->histogram);
	if (one->longest_ns > sum->longest_ns)
		sum->longest_ns = one->longest_ns;
}

void latency_measure(struct redis_server *server, const struct plan *plan,
		     struct phase_result results[PHASES])
{
	struct world world = { .plan = plan, .server = server, .ns_per_tick = ns_per_tick() };
	struct latency *synced = calloc((size_t)plan->cycles * PHASES, sizeof(*synced));
	struct latency *alone = calloc((size_t)plan->cycles * PHASES, sizeof(*alone));

	world.samples = malloc(SAMPLES * sizeof(*world.samples));
	if (!synced || !alone || !world.samples)
		die("latency", "no memory");
	zipf_fill(world.samples, SAMPLES, plan->keys, 1);
	world.admin = redis_server_connect(server);
	open_side(&world.synced, plan);
	open_side(&world.alone, plan);
	start_sync(&world);
	memset(results, 0, PHASES * sizeof(*results));
	for (unsigned c = 0; c < plan->cycles; c++) {
		for (unsigned p = 0; p < plan->load->phases; p++) {
			world.synced_latency = &synced[c * PHASES + p];
			world.alone_latency = &alone[c * PHASES + p];
			run_phase(&world, &phases[p]);
			add(&results[p].synced, world.synced_latency);
			add(&results[p].alone, world.alone_latency);
		}
	}
	if (world.unexpected && plan->fail_mode != WEIR_FAIL_CLOSED)
		die(plan->load->name, "denied what it should allow, or the reverse");
	sum_up(results, synced, alone, plan);
	weir_close(world.synced.weir);
	weir_close(world.alone.weir);
	redisFree(world.admin);
	free(world.samples);
	free(synced);
	free(alone);
}
