/* SPDX-License-Identifier: Apache-2.0 */
/* scenario.c - what a seed says. */
#include <math.h>
#include <string.h>

#include "tests/sim/sim.h"

/* ---- Random numbers ---------------------------------------------------- */

static uint64_t states[STREAM_COUNT];

static uint64_t mix(uint64_t value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
	value = (value ^ value >> 27) * 0x94d049bb133111ebu;
	return value ^ value >> 31;
}

/* Streams of their own: what one purpose draws does not change what another does. */
static void random_begin(uint64_t seed)
{
	for (unsigned i = 0; i < STREAM_COUNT; i++)
		states[i] = mix(mix(seed + 1) + i);
}

uint64_t sim_random(unsigned stream)
{
	return mix(states[stream] += 0x9e3779b97f4a7c15u);
}

uint64_t sim_below(unsigned stream, uint64_t bound)
{
	return (uint64_t)((unsigned __int128)sim_random(stream) * bound >> 64);
}

static double unit(unsigned stream)
{
	return (double)(sim_random(stream) >> 11) / 9007199254740992.0;
}

bool sim_chance(unsigned stream, double probability)
{
	return unit(stream) < probability;
}

int64_t sim_exponential_ns(unsigned stream, double mean_ns)
{
	return (int64_t)(-log(1 - unit(stream)) * mean_ns);
}

/* ---- Faults ------------------------------------------------------------ */

static const char *const fault_names[FAULT_COUNT] = {
	[FAULT_REQUEST_LOST] = "request-lost",
	[FAULT_REPLY_LOST] = "reply-lost",
	[FAULT_LATE] = "late",
	[FAULT_TWICE] = "twice",
	[FAULT_CUT] = "cut",
	[FAULT_FLUSH] = "flush",
	[FAULT_FAILOVER] = "failover",
	[FAULT_REDIS_CLOCK] = "redis-clock",
	[FAULT_DRIFT] = "drift",
	[FAULT_KILL] = "kill",
	[FAULT_STOP] = "stop",
	[FAULT_CRASH] = "crash",
	[FAULT_PARTITION] = "partition",
	[FAULT_GIVE_BACK] = "give-back",
	[FAULT_HOLD] = "hold",
	[FAULT_NODE] = "node",
	[FAULT_REFUSED] = "refused",
};

const char *fault_name(unsigned fault)
{
	return fault_names[fault];
}

/* ---- The draw ---------------------------------------------------------- */

static uint64_t pick(uint64_t bound)
{
	return sim_below(STREAM_SCENARIO, bound);
}

static void draw_limit(struct scenario *scenario)
{
	static const struct weir_limit limits[] = {
		{ .limit = 100, .period_ns = 1000000000, .burst = 20 },
		{ .limit = 1000, .period_ns = 1000000000, .burst = 100 },
		{ .limit = 30, .period_ns = 1000000000, .burst = 300 },
		{ .limit = 50, .period_ns = 1000000000, .burst = 1 },
		{ .limit = 7, .period_ns = 1000000000, .burst = 5 },
		{ .limit = 300, .period_ns = 7000000000, .burst = 40 },
		{ .limit = 3, .period_ns = 1000000000, .burst = 2 },
		{ .limit = 997, .period_ns = 3000000000, .burst = 997 },
	};
	uint64_t burst;

	scenario->limit = limits[pick(sizeof(limits) / sizeof(limits[0]))];
	scenario->limit.algorithm = WEIR_TOKEN_BUCKET;
	burst = scenario->limit.burst;
	scenario->cost_max = pick(3) ? 1 : 1 + (unsigned)pick(burst < 6 ? burst : 6);
}

static uint32_t draw_faults(void)
{
	uint32_t faults = 0;

	if (pick(16) == 0)
		return 0;
	for (unsigned i = 0; i < FAULT_NODE; i++)
		faults |= (uint32_t)(pick(3) == 0) << i;
	for (unsigned i = FAULT_NODE; i < FAULT_COUNT; i++)
		faults |= (uint32_t)(sim_below(STREAM_FAULTS + i, 3) == 0) << i;
	/* The theorems are about what is not given back: mostly so. */
	if (pick(3))
		faults &= ~(1u << FAULT_GIVE_BACK);
	return faults;
}

/* Long enough for all that is asked of them in the quiet. */
static void draw_windows(struct scenario *scenario)
{
	static const struct weir_limit limits[] = {
		{ .limit = 100, .period_ns = 1000000000 },
		{ .limit = 1000, .period_ns = 1000000000 },
		{ .limit = 30, .period_ns = 2000000000 },
		{ .limit = 7, .period_ns = 1000000000 },
		{ .limit = 300, .period_ns = 3000000000 },
		{ .limit = 3, .period_ns = 1000000000 },
		{ .limit = 997, .period_ns = 2000000000 },
	};
	int64_t longest_ns;

	scenario->limit = limits[pick(sizeof(limits) / sizeof(limits[0]))];
	scenario->limit.algorithm = pick(2) ? WEIR_FIXED_WINDOW : WEIR_SLIDING_WINDOW;
	if (scenario->cost_max > scenario->limit.limit)
		scenario->cost_max = (unsigned)scenario->limit.limit;
	longest_ns = (int64_t)scenario->limit.period_ns / 20;
	if (scenario->interval_ns > longest_ns)
		scenario->interval_ns = longest_ns;
	/* A Redis that was emptied has lost its virtual clock, and one whose own clock was
	 * stepped back as well begins windows of the past again: no bound covers that. */
	if (scenario->faults & (1u << FAULT_FLUSH | 1u << FAULT_FAILOVER))
		scenario->faults &= ~(1u << FAULT_REDIS_CLOCK);
}

/* Neither hosts nor what Redis knows may be lost: that is forgotten by time. */
static void draw_holds(struct scenario *scenario)
{
	static const uint64_t limits[] = { 20, 100, 3, 1, 50, 7 };

	scenario->limit = (struct weir_limit){ .limit = limits[pick(6)],
					       .algorithm = WEIR_CONCURRENCY };
	if (scenario->cost_max > scenario->limit.limit)
		scenario->cost_max = (unsigned)scenario->limit.limit;
	scenario->fail_mode = WEIR_FAIL_CLOSED;
	scenario->faults &= ~(1u << FAULT_FLUSH | 1u << FAULT_FAILOVER | 1u << FAULT_REDIS_CLOCK |
			      1u << FAULT_CRASH | 1u << FAULT_GIVE_BACK);
}

void scenario_draw(uint64_t seed, const struct restriction *restriction,
		   struct scenario *scenario)
{
	static const double loads[] = { 0.3, 0.8, 1.5, 3, 10 };
	static const int64_t intervals_ms[] = { 5, 20, 50, 100, 300 };

	random_begin(seed);
	memset(scenario, 0, sizeof(*scenario));
	scenario->seed = seed;
	scenario->hosts = 2 + (unsigned)pick(4);
	scenario->keys = 1 + (unsigned)pick(SIM_KEYS);
	scenario->faults = draw_faults();
	scenario->busy_ns = (1 + (int64_t)pick(5)) * SECOND;
	draw_limit(scenario);
	scenario->consistency = pick(3) ? WEIR_BOUNDED : WEIR_EVENTUAL;
	scenario->fail_mode = (enum weir_fail_mode[]){ WEIR_FAIL_CLOSED, WEIR_FAIL_CLOSED,
						       WEIR_FAIL_OPEN, WEIR_FAIL_SHARE }[pick(4)];
	scenario->interval_ns = intervals_ms[pick(5)] * MS;
	scenario->staleness_ns = scenario->interval_ns * 4 + (int64_t)pick(2000) * MS;
	scenario->overshoot = pick(2) ? 50 : (unsigned)pick(500);
	scenario->load = loads[pick(5)];
	scenario->way_ns = 250000;
	scenario->jitter_ns = pick(2) ? 100000 : 3 * MS;
	scenario->tail_ns = 5 * MS;
	scenario->timeout_ns = 500 * MS;
	scenario->loss = scenario->reply_loss = pick(3) ? 0.03 : 0.4;

	if (restriction->strict) {
		scenario->strict = true;
		scenario->consistency = WEIR_STRICT;
		scenario->fail_mode = WEIR_FAIL_CLOSED;
		scenario->faults &= ~(1u << FAULT_GIVE_BACK);
	}
	if (restriction->windows) {
		scenario->windows = true;
		draw_windows(scenario);
	}
	if (restriction->holds) {
		scenario->holds = true;
		draw_holds(scenario);
	}
	scenario->crowds = restriction->crowds;
	scenario->strike_steps = restriction->strike_steps;
	scenario->faults &= restriction->faults;
	scenario->always = restriction->always;
	scenario->faults |= scenario->always;
	scenario->nodes = 1;
	if (scenario->faults >> FAULT_NODE & 1) {
		scenario->nodes = 2 + (unsigned)sim_below(STREAM_FAULTS + FAULT_NODE, SIM_NODES - 1);
		scenario->timeout_ns = 200 * MS;        /* command_ms of a URL */
	}
	if (scenario->hosts > restriction->hosts)
		scenario->hosts = restriction->hosts;
	if (scenario->keys > restriction->keys)
		scenario->keys = restriction->keys;
	if (scenario->busy_ns > restriction->busy_ns)
		scenario->busy_ns = restriction->busy_ns;
	if (restriction->strict)
		scenario->busy_ns += 3 * SECOND;        /* the first two begin an epoch */
}
