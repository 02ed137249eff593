/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - over-admission, and what is admitted of what could be.
 *
 * What.  1000 tokens a second and a burst of 1000, one key, 20 s (--seconds), two seeds; a way to
 * Redis of 0.25 ms and an exponential 0.1 ms, of which one in a thousand takes 5 ms
 * more.  One line of comma-separated values for each cell, for table.py:
 *
 *	modes,HOSTS,INTERVAL_MS,LOAD,MODE,OVER,ADMITTED,BOUND
 *	faults,NAME,LOAD,MODE,OVER,ADMITTED,BOUND
 *	windows,HOSTS,INTERVAL_MS,LOAD,ALGORITHM,MODE,OVER,ADMITTED,BOUND
 *
 * OVER is the largest over-admission, in per cent of the burst, and BOUND what it may
 * be at most; ADMITTED is against a bucket that all hosts share without delay.
 */
#include <stdio.h>

#include "tests/sim/sim.h"

#define SEEDS 2

int64_t table_seconds = 20;

struct cell {
	double over;
	double admitted;
	double bound;
	bool good;
};

static struct scenario scenario_of(uint64_t seed, unsigned hosts, int64_t interval_ns, double load,
				   enum weir_consistency consistency)
{
	static const struct restriction none = { .hosts = SIM_HOSTS, .keys = 1,
						  .busy_ns = INT64_MAX,
						  .strike_steps = SIM_STRIKE_STEPS };
	struct scenario scenario;

	scenario_draw(seed, &none, &scenario);
	scenario.hosts = hosts;
	scenario.busy_ns = table_seconds * SECOND;
	scenario.limit = (struct weir_limit){ .limit = 1000, .period_ns = 1000000000, .burst = 1000,
					      .algorithm = WEIR_TOKEN_BUCKET };
	scenario.consistency = consistency;
	scenario.fail_mode = WEIR_FAIL_CLOSED;
	scenario.interval_ns = interval_ns;
	scenario.staleness_ns = 20 * SECOND;
	scenario.overshoot = 50;
	scenario.load = load;
	scenario.cost_max = 1;
	scenario.jitter_ns = 100000;
	scenario.timeout_ns = 200 * MS;         /* command_ms of a URL */
	scenario.measure = true;
	scenario.strict = consistency == WEIR_STRICT;
	/* Redis begins with empty buckets: let it fill them first. */
	scenario.idle_ns = scenario.strict ? 4 * SECOND : 2 * interval_ns;
	scenario.busy_ns += scenario.strict ? scenario.idle_ns : 0;
	return scenario;
}

/* The same of windows: 100 tokens a second, too, but 1000 of them at once. */
static struct scenario windows_of(uint64_t seed, unsigned hosts, int64_t interval_ns, double load,
				  enum weir_consistency consistency, enum weir_algorithm algorithm)
{
	struct scenario scenario = scenario_of(seed, hosts, interval_ns, load, consistency);

	scenario.windows = true;
	scenario.busy_ns *= 3;
	scenario.limit = (struct weir_limit){ .limit = 1000, .period_ns = 10000000000,
					      .algorithm = algorithm };
	return scenario;
}

/* Of what the limit admits at once, which is 1000 tokens in all tables. */
static double percent(int64_t ns, int64_t tokens)
{
	return world.scenario.windows ? (double)tokens / 10 :
					(double)ns / (double)(1000 * world.token_ns) * 100;
}

/* Another seed of the same cell. */
static void add_run(struct cell *cell, const struct scenario *scenario)
{
	const struct key *key = &world.keys[0];
	double over, bound;

	if (!sim_run(scenario)) {
		fprintf(stderr, "%s\n", world.message);
		cell->good = false;
	}
	over = percent(key->over_ns, key->over_tokens);
	bound = percent(key->bound_ns, key->bound_tokens);
	cell->over = over > cell->over ? over : cell->over;
	cell->bound = bound > cell->bound ? bound : cell->bound;
	cell->admitted += (double)key->admitted / (double)key->ideal / SEEDS;
}

static void print_cell(const char *mode, const struct cell *cell)
{
	printf("%s,%.1f,%.3f,%.1f\n", mode, cell->over, cell->admitted, cell->bound);
	fflush(stdout);
}

static const enum weir_consistency modes[] = { WEIR_EVENTUAL, WEIR_BOUNDED, WEIR_STRICT };
#define MODES (sizeof(modes) / sizeof(modes[0]))

bool table_modes(unsigned hosts)
{
	static const int64_t intervals_ms[] = { 10, 100, 1000 };
	static const double loads[] = { 0.5, 1, 2, 5, 20 };
	bool good = true;

	for (unsigned i = 0; i < 3 * 5 * MODES; i++) {
		int64_t interval_ms = intervals_ms[i / (5 * MODES)];
		double load = loads[i / MODES % 5];
		enum weir_consistency mode = modes[i % MODES];
		struct cell cell = { .good = true };

		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			struct scenario scenario =
				scenario_of(seed, hosts, interval_ms * MS, load, mode);

			add_run(&cell, &scenario);
		}
		printf("modes,%u,%lld,%g,", hosts, (long long)interval_ms, load);
		print_cell(weir_consistency_name(mode), &cell);
		/* A strict host's first request is denied, and asks: so few seconds count those. */
		good &= cell.good && cell.admitted >= (mode == WEIR_STRICT ? 0.95 : 0.98);
	}
	return good;
}

bool table_windows(unsigned hosts)
{
	static const enum weir_algorithm algorithms[] = { WEIR_FIXED_WINDOW, WEIR_SLIDING_WINDOW };
	static const int64_t intervals_ms[] = { 10, 100, 1000 };
	static const double loads[] = { 0.5, 1, 2, 20 };
	bool good = true;

	for (unsigned i = 0; i < 3 * 4 * 2 * 2; i++) {
		int64_t interval_ms = intervals_ms[i / 16];
		double load = loads[i / 4 % 4];
		enum weir_algorithm algorithm = algorithms[i / 2 % 2];
		enum weir_consistency mode = modes[i % 2];
		struct cell cell = { .good = true };

		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			struct scenario scenario = windows_of(seed, hosts, interval_ms * MS, load,
							      mode, algorithm);

			add_run(&cell, &scenario);
		}
		printf("windows,%u,%lld,%g,%s,", hosts, (long long)interval_ms, load,
		       weir_algorithm_name(algorithm));
		print_cell(weir_consistency_name(mode), &cell);
		good &= cell.good && cell.admitted >= 0.98;
	}
	return good;
}

#define LOST (1u << FAULT_REPLY_LOST | 1u << FAULT_REQUEST_LOST)

struct fault_row {
	const char *name;
	uint32_t faults;
	bool cuts;
	double load;
	int64_t times;                  /* as long as the others */
	int64_t disaster_ns, every_ns, clock_step_ns;   /* the first, of 20 s */
};

bool table_faults(void)
{
	static const struct fault_row rows[] = {
		{ "none", 0, false, 2, 1, 0, 0, 0 },
		{ "10 % of replies and 5 % of requests cut off", LOST, true, 2, 1, 0, 0, 0 },
		{ "as many swallowed (noticed after 200 ms)", LOST, false, 2, 1, 0, 0, 0 },
		{ "FLUSHALL", 1u << FAULT_FLUSH, false, 2, 1, 10 * SECOND, 0, 0 },
		{ "failover: 1 s behind and 0.2 s down", 1u << FAULT_FAILOVER, false, 2, 1,
		  10 * SECOND, 0, 0 },
		{ "clock of Redis + 5 s", 1u << FAULT_REDIS_CLOCK, false, 5, 1, 10 * SECOND, 0,
		  5 * SECOND },
		{ "clock of Redis - 5 s", 1u << FAULT_REDIS_CLOCK, false, 5, 1, 10 * SECOND, 0,
		  -5 * SECOND },
		{ "a host crashes every 0.5 s", 1u << FAULT_CRASH, false, 2, 1, SECOND, SECOND / 2,
		  0 },
		{ "clocks of hosts +/- 500 ppm (200 s)", 1u << FAULT_DRIFT, false, 2, 10, 0, 0, 0 },
	};
	bool good = true;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]) * MODES; i++) {
		const struct fault_row *row = &rows[i / MODES];
		enum weir_consistency mode = modes[i % MODES];
		struct cell cell = { .good = true };

		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			struct scenario scenario =
				scenario_of(seed, 10, 100 * MS, row->load, mode);
			int64_t begin = scenario.strict ? scenario.idle_ns : 0;

			scenario.faults = row->faults;
			scenario.busy_ns -= begin;
			scenario.busy_ns = scenario.busy_ns * row->times + begin;
			scenario.cuts = row->cuts;
			scenario.loss = 0.05;
			scenario.reply_loss = 0.1;
			scenario.disaster_ns = table_seconds * row->disaster_ns / 20 + begin;
			scenario.every_ns = row->every_ns;
			scenario.clock_step_ns = row->clock_step_ns;
			add_run(&cell, &scenario);
		}
		printf("faults,%s,%g,", row->name, row->load);
		print_cell(weir_consistency_name(mode), &cell);
		good &= cell.good;
	}
	return good;
}
