/* SPDX-License-Identifier: Apache-2.0 */
/* world.c - clients, disasters, and time. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "shm/hash.h"
#include "tests/sim/sim.h"

struct world world;
bool sim_tracing;

/* ---- Telling ----------------------------------------------------------- */

void sim_fail(const char *format, ...)
{
	va_list arguments;
	int length;

	if (world.failed)
		return;
	world.failed = true;
	length = snprintf(world.message, sizeof(world.message), "at %.3f ms: ",
			  (double)world.now_ns / 1e6);
	va_start(arguments, format);
	vsnprintf(world.message + length, sizeof(world.message) - (size_t)length, format,
		  arguments);
	va_end(arguments);
	sim_trace("FAILED: %s", world.message);
}

void sim_trace(const char *format, ...)
{
	va_list arguments;

	if (!sim_tracing)
		return;
	printf("%12.6f ms  ", (double)world.now_ns / 1e6);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
}

static void hash_in(uint64_t value)
{
	world.trace = (world.trace ^ value) * 0x100000001b3u;
}

/* ---- Clients ----------------------------------------------------------- */

#define CROWD_NS (200 * MS)     /* how long a crowd stays, on the average */

static void ask(struct host *host, unsigned key, uint64_t cost, bool force)
{
	struct weir_request request = request_of(host, key, cost);
	struct weir_decision decision;
	struct bucket_ref ref;
	struct word_pair before = { 0, 0 }, after = { 0, 0 };
	bool admitted;

	if (!bucket_of(host, key, &ref, &before))
		before.second = 0;
	if (!force)
		check_fresh(host, key);
	admitted = force ? weir_force_take(host->weir, &request, &decision) :
			   weir_decide(host->weir, &request, &decision);
	hash_in((uint64_t)world.now_ns ^ (uint64_t)admitted << 63);
	if (force && !admitted)
		sim_fail("host %u key %u: a token cannot be forced", host->number, key);
	admitted = admitted && bucket_of(host, key, &ref, &after);
	if (admitted && world.scenario.windows)
		check_window_admitted(host, key, cost, decision.reason == WEIR_REASON_STALE,
				      request.now_ns, &after);
	else if (admitted)
		check_admitted(host, key, cost, decision.reason == WEIR_REASON_STALE,
			       request.now_ns, &before, &after);
	if (!world.scenario.measure)
		check_host(host);
	host_bell(host);
}

static void give_back(struct host *host, unsigned key)
{
	unsigned stream = STREAM_FAULTS + FAULT_GIVE_BACK;
	struct weir_request request = request_of(host, key, 1 + sim_below(stream, 3));

	sim_trace("host %u key %u: gives back", host->number, key);
	if (sim_chance(stream, 0.2))
		weir_reset(host->weir, &request, NULL);
	else if (weir_refund(host->weir, &request, NULL))
		check_given_back(host, key, request.cost);
}

static void next_request(unsigned number, int64_t after_ns)
{
	const struct scenario *scenario = &world.scenario;
	double period_ns = scenario->holds ? (double)HELD_NS : (double)scenario->limit.period_ns;
	double per_second = scenario->load * (double)scenario->limit.limit * 1e9 /
			    period_ns * scenario->keys /
			    scenario->hosts / ((1 + (double)scenario->cost_max) / 2);

	events_add(world.now_ns + after_ns + 1 + sim_exponential_ns(STREAM_REQUESTS, 1e9 / per_second),
		   EVENT_REQUEST, number, 0, NULL);
}

/* Which host client NUMBER asks; NULL: none. */
static struct host *host_asked(unsigned number)
{
	unsigned hosts = world.scenario.hosts;

	if (!world.scenario.crowds)
		return &world.hosts[number];
	while (world.now_ns >= world.crowd_until_ns) {
		world.crowd_until_ns += 1 + sim_exponential_ns(STREAM_CROWDS, (double)CROWD_NS);
		world.crowd_host = (unsigned)sim_below(STREAM_CROWDS, hosts + 1);
	}
	return world.crowd_host < hosts ? &world.hosts[world.crowd_host] : NULL;
}

static void ask_once(struct host *host, unsigned key, uint64_t cost)
{
	if (world.scenario.holds) {
		hold_acquire_one(host, key, cost);
		return;
	}
	if (world.scenario.windows)
		check_window_offered(key, cost);
	else
		check_offered(key, cost);
	ask(host, key, cost, false);
	if (sim_has(FAULT_GIVE_BACK) && sim_chance(STREAM_FAULTS + FAULT_GIVE_BACK, 0.03))
		give_back(host, key);
}

static void client(unsigned number)
{
	unsigned key = (unsigned)sim_below(STREAM_REQUESTS, world.scenario.keys);
	uint64_t cost = 1 + sim_below(STREAM_REQUESTS, world.scenario.cost_max);
	struct host *host;

	if (world.quiet)
		return;
	host = host_asked(number);
	if (host)
		ask_once(host, key, cost);
	next_request(number, 0);
}

/* ---- Disasters --------------------------------------------------------- */

static const int64_t every_ms[FAULT_COUNT] = {
	[FAULT_FLUSH] = 1500,
	[FAULT_FAILOVER] = 1500,
	[FAULT_REDIS_CLOCK] = 1000,
	[FAULT_KILL] = 700,
	[FAULT_STOP] = 700,
	[FAULT_CRASH] = 1500,
	[FAULT_PARTITION] = 1000,
	[FAULT_NODE] = 1000,
};

static void next_disaster(unsigned fault)
{
	const struct scenario *scenario = &world.scenario;
	int64_t at_ns = world.now_ns < scenario->disaster_ns ? scenario->disaster_ns :
							       world.now_ns + scenario->every_ns;

	if (scenario->measure) {
		if (sim_has(fault) && every_ms[fault] && at_ns > world.now_ns)
			events_add(at_ns, EVENT_FAULT, fault, 0, NULL);
		return;
	}
	if (sim_has(fault) && every_ms[fault])
		events_add(world.now_ns +
				   sim_exponential_ns(STREAM_FAULTS + fault,
						      (double)(every_ms[fault] * MS)),
			   EVENT_FAULT, fault, 0, NULL);
}

/* Another process takes a killed one's place. */
static void replace_dead(struct host *host)
{
	for (unsigned i = 0; i < SIM_PROCESSES; i++) {
		if (!host->processes[i].alive)
			process_start(host, &host->processes[i]);
	}
}

static void crash(struct host *host)
{
	if (world.lives == SIM_LIVES)
		return;
	for (unsigned i = 0; i < SIM_PROCESSES; i++)
		process_kill(&host->processes[i]);
	world.crashes++;
	check_unmerged(host);
	host_begin_life(host);
}

/* Redis is about to forget; without other faults, it soon knows again. */
static void remember_owed(void)
{
	for (unsigned key = 0; key < world.scenario.keys; key++) {
		world.keys[key].owed_ns = redis_debt_ns(key);
		world.keys[key].owed_at_ns = world.now_ns;
	}
}

/* Till then, it is missing.  (A debt of another clock's may also be larger.) */
static void note_missing(void)
{
	for (unsigned key = 0; key < world.scenario.keys; key++) {
		int64_t missing = world.keys[key].owed_ns - redis_debt_ns(key);

		world.keys[key].missing_ns += missing > 0 ? missing : 0;
	}
}

/* Two rounds later, where all hosts call all the time; else who knows most may be one that
 * calls with its next heartbeat. */
static void await_restored(void)
{
	const struct scenario *scenario = &world.scenario;
	uint32_t others = ~(1u << FAULT_FLUSH | 1u << FAULT_FAILOVER);
	int64_t restored_ns = redis_up_ns() + 2 * scenario->interval_ns + 10 * MS;

	if (scenario->strict || scenario->windows || scenario->holds ||
	    (!scenario->measure && (scenario->faults & others)))
		return;
	if (!scenario->measure)
		restored_ns += scenario_heartbeat_ns(scenario) + scenario->interval_ns + 50 * MS;
	/* The failover before may have swallowed a call that is still waited for. */
	if (!scenario->measure && (scenario->faults >> FAULT_FAILOVER & 1))
		restored_ns += scenario->timeout_ns;
	events_add(restored_ns, EVENT_RESTORED, world.forgotten, 0, NULL);
}

static void disaster(unsigned fault)
{
	static const int64_t steps_s[] = { 5, -5, 60, -60 };
	unsigned stream = STREAM_FAULTS + fault;
	struct host *host = &world.hosts[sim_below(stream, world.scenario.hosts)];
	struct process *process = &host->processes[sim_below(stream, SIM_PROCESSES)];

	if (!sim_has(fault))
		return;
	sim_trace("%s (host %u)", fault_name(fault), host->number);
	switch (fault) {
	case FAULT_FLUSH:
		remember_owed();
		redis_flush();
		note_missing();
		await_restored();
		break;
	case FAULT_FAILOVER:
		remember_owed();
		redis_fail_over();
		note_missing();
		await_restored();
		break;
	case FAULT_REDIS_CLOCK:
		redis_step_clock(world.scenario.measure ?
					 world.scenario.clock_step_ns :
					 steps_s[sim_below(stream, 4)] * SECOND);
		break;
	case FAULT_KILL:
		replace_dead(host);
		process_kill(process);
		break;
	case FAULT_STOP:
		process->stopped_until_ns = world.now_ns + sim_exponential_ns(stream, 1e9);
		host->unsettled |= process->tick_ns >= 0;
		break;
	case FAULT_CRASH:
		crash(host);
		break;
	case FAULT_PARTITION:
		host->cut_until_ns = world.now_ns +
				     sim_exponential_ns(stream, world.scenario.strict ? 4e9 : 1e9);
		break;
	case FAULT_NODE:
		redis_lose_node();
		break;
	default:
		break;
	}
	next_disaster(fault);
}

/* ---- Time -------------------------------------------------------------- */

static void handle(const struct event *event)
{
	hash_in((uint64_t)event->at_ns);
	hash_in((uint64_t)event->kind << 32 | event->number);
	hash_in(world.steps);
	switch (event->kind) {
	case EVENT_RESUME:
		process_resume(event->subject, event->serial);
		break;
	case EVENT_ARRIVE:
		network_arrive(event->subject, event->number);
		break;
	case EVENT_ANSWER:
		network_answer(event->subject, event->number);
		break;
	case EVENT_REQUEST:
		client(event->number);
		break;
	case EVENT_FAULT:
		disaster(event->number);
		break;
	case EVENT_SNAPSHOT:
		if (!world.quiet)
			redis_snapshot();
		break;
	case EVENT_RELEASE:
		if (!world.quiet)
			hold_release_one(event->subject);
		break;
	case EVENT_RESTORED:
		if (event->number == world.forgotten && !world.quiet)
			check_restored();
		break;
	}
}

void sim_run_until(int64_t until_ns)
{
	struct event event;

	while (!world.failed && events_next(&event, until_ns)) {
		world.now_ns = event.at_ns;
		handle(&event);
	}
	if (!world.failed)
		world.now_ns = until_ns;
}

static void world_begin(const struct scenario *scenario)
{
	struct charge *charges[SIM_KEYS];
	size_t room[SIM_KEYS];

	memcpy(charges, world.charges, sizeof(charges));
	memcpy(room, world.charge_room, sizeof(room));
	/* Hosts are kept, and lives and windows cleared when they begin. */
	memset(&world, 0, offsetof(struct world, life));
	for (unsigned key = 0; key < SIM_KEYS; key++)
		memset(&world.keys[key], 0, offsetof(struct key, windows));
	memset(world.shards, 0, sizeof(world) - offsetof(struct world, shards));
	memcpy(world.charges, charges, sizeof(charges));
	memcpy(world.charge_room, room, sizeof(room));
	world.scenario = *scenario;
	events_clear();
	holds_begin();
	network_begin();
	redis_begin();
	for (unsigned i = 0; i < scenario->hosts; i++) {
		if (!world.hosts[i].weir)
			host_open(&world.hosts[i], i);
	}
	chance_begin();
	for (unsigned i = 0; i < scenario->hosts; i++)
		host_begin(&world.hosts[i], i);
	world.token_ns = (int64_t)world.limit.token_ns + (world.limit.token_part != 0);
	world.tolerance_ns = (int64_t)world.limit.burst * world.token_ns;
	for (unsigned i = 0; i < scenario->hosts; i++)
		next_request(i, scenario->idle_ns);
	for (unsigned fault = 0; fault < FAULT_COUNT; fault++)
		next_disaster(fault);
}

/* Until KEY's window lasts as long as that.  The clocks of shards are apart once Redis' was
 * stepped, so that there may be no time at which all windows do. */
static void await_window(unsigned key, int64_t long_ns)
{
	int64_t step_ns = (int64_t)world.limit.period_ns / 64;

	for (unsigned i = 0; i < 256 && !world.failed && !window_lasts(key, long_ns); i++)
		sim_run_until(world.now_ns + step_ns);
}

/* Of what is charged now, Redis hears within an interval, and the other hosts within the
 * next; the third is for a round that was under way.  A few round trips come on top: an
 * interval may be shorter than one of them. */
#define CONVERGE_INTERVALS 3
#define CONVERGE_NS (50 * MS)
#define SLOW_NS (100 * MS)      /* one call of very many */
/* Till there are leaders everywhere, and none that waits for longer after failures. */
#define SETTLE_NS (3 * SECOND)

/* What is asked for then: so much that a bucket is in debt for long enough. */
static uint64_t last_cost(int64_t ask_ns)
{
	uint64_t tokens;

	if (world.scenario.strict || world.scenario.windows)
		return 1;
	tokens = (uint64_t)(2 * ask_ns / world.token_ns) + 1;
	return tokens < world.limit.burst ? tokens : world.limit.burst;
}

static void ask_all_hosts(unsigned key, uint64_t cost)
{
	for (unsigned i = 0; i < world.scenario.hosts && !world.failed; i++) {
		world.hosts[i].unsettled = false;
		ask(&world.hosts[i], key, cost, true);
	}
}

/* A call that was slow has the others wait for what it tells. */
static void converge(int64_t ask_ns)
{
	world.round_trip_max_ns = 0;
	sim_run_until(world.now_ns + ask_ns);
	sim_run_until(world.now_ns + (world.round_trip_max_ns < SLOW_NS / 2 ?
					      2 * world.round_trip_max_ns : SLOW_NS));
}

/* Each host is asked once more, and sees what Redis has. */
static void agree(int64_t ask_ns)
{
	world.delay_max_ns = 0;
	for (unsigned key = 0; key < world.scenario.keys && !world.failed; key++) {
		if (world.scenario.windows)
			await_window(key, ask_ns + SLOW_NS);
		ask_all_hosts(key, last_cost(ask_ns));
		if (world.scenario.windows) {
			converge(ask_ns);
			check_windows_agree(key);
		}
	}
	if (world.scenario.windows)
		return;
	converge(ask_ns);
	if (!world.failed)
		check_quiet_end();
}

/* What one host resets is soon reset at Redis. */
static void reset_all(void)
{
	for (unsigned key = 0; key < world.scenario.keys; key++) {
			struct weir_request request = request_of(&world.hosts[0], key, 1);

		weir_reset(world.hosts[0].weir, &request, NULL);
	}
	sim_run_until(world.now_ns + 3 * world.scenario.interval_ns + 100 * MS);
	for (unsigned key = 0; key < world.scenario.keys; key++) {
		uint64_t index;

		if (world.scenario.windows && redis_window(key, &index) > 0)
			sim_fail("key %u: it was reset, and Redis counts %lld tokens in window %llu",
				 key, (long long)redis_window(key, &index),
				 (unsigned long long)index);
		if (redis_debt_ns(key) > 0)
			sim_fail("key %u: it was reset, and Redis has a debt of %lld ns", key,
				 (long long)redis_debt_ns(key));
	}
}

/* Faults are over: what was stopped runs, what died is replaced, and in a while
 * all is merged, and all hosts agree. */
static void run_quiet(void)
{
	const struct scenario *scenario = &world.scenario;
	/* Strict: the first call that gets through may begin an epoch. */
	int64_t settle_ns = SETTLE_NS + CONVERGE_INTERVALS * scenario->interval_ns +
			    (scenario->strict ? 2 * SECOND : 0);
	int64_t ask_ns = CONVERGE_INTERVALS * scenario->interval_ns + CONVERGE_NS +
			 (scenario->strict ? 2 * SECOND : 0);
	int64_t settled_ns;

	world.quiet = true;
	sim_trace("quiet from here");
	for (unsigned i = 0; i < scenario->hosts; i++) {
		struct host *host = &world.hosts[i];

		for (unsigned k = 0; k < SIM_PROCESSES; k++) {
			host->processes[k].stopped_until_ns = 0;
			if (host->processes[k].alive)
				process_wake(&host->processes[k],
					     (int64_t)sim_below(STREAM_STEPS, 100 * MS));
		}
		replace_dead(host);
	}
	/* A call that is very late may be the last one of a host that died long ago: what it
	 * tells is news for all. */
	settled_ns = world.now_ns + settle_ns + check_scrub_ns();
	sim_run_until(settled_ns > world.arrival_last_ns ? settled_ns : world.arrival_last_ns);
	if (scenario->holds) {
		check_holds_counted();
		check_holds_free(0);
		sim_run_until(world.now_ns + ask_ns);
		check_holds_free(1);
		return;
	}
	agree(ask_ns);
	if (!world.failed && scenario->faults >> FAULT_GIVE_BACK & 1)
		reset_all();
}

bool sim_run(const struct scenario *scenario)
{
	world_begin(scenario);
	sim_run_until(scenario->busy_ns);
	if (!world.failed && !scenario->windows && !scenario->holds)
		check_busy_end();
	if (!world.failed && !scenario->measure)
		run_quiet();
	chance_end();
	return !world.failed;
}
