/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - over-admission, and what is admitted of what could be.
 *
 * What.  1000 tokens a second and a burst of 1000, one key, 20 s, two seeds; a way to
 * Redis of 0.25 ms and an exponential 0.1 ms, of which one in a thousand takes 5 ms
 * more.  One line of comma-separated values for each cell, for table.py:
 *
 *	modes,HOSTS,INTERVAL_MS,LOAD,MODE,OVER,ADMITTED,BOUND
 *	faults,NAME,LOAD,MODE,OVER,ADMITTED,BOUND
 *
 * OVER is the largest over-admission, in per cent of the burst, and BOUND what it may
 * be at most; ADMITTED is against a bucket that all hosts share without delay.
 */
#include <stdio.h>

#include "tests/sim/sim.h"

#define SEEDS 2

struct cell {
	double over;
	double admitted;
	double bound;
	bool good;
};

static struct scenario scenario_of(uint64_t seed, unsigned hosts, int64_t interval_ns, double load,
				   enum weir_consistency consistency)
{
	static const struct restriction none = { 0, SIM_HOSTS, 1, INT64_MAX };
	struct scenario scenario;

	scenario_draw(seed, &none, &scenario);
	scenario.hosts = hosts;
	scenario.busy_ns = 20 * SECOND;
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
	return scenario;
}

static double percent(int64_t ns)
{
	return (double)ns / 1e9 * 100;
}

/* Another seed of the same cell. */
static void add_run(struct cell *cell, const struct scenario *scenario)
{
	const struct key *key = &world.keys[0];

	if (!sim_run(scenario)) {
		fprintf(stderr, "%s\n", world.message);
		cell->good = false;
	}
	cell->over = percent(key->over_ns) > cell->over ? percent(key->over_ns) : cell->over;
	cell->bound = percent(key->bound_ns) > cell->bound ? percent(key->bound_ns) : cell->bound;
	cell->admitted += (double)key->admitted / (double)key->ideal / SEEDS;
}

static void print_cell(const char *mode, const struct cell *cell)
{
	printf("%s,%.1f,%.3f,%.1f\n", mode, cell->over, cell->admitted, cell->bound);
	fflush(stdout);
}

static const enum weir_consistency modes[] = { WEIR_EVENTUAL, WEIR_BOUNDED };
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
		good &= cell.good && (cell.admitted >= 0.98);
	}
	return good;
}

#define LOST (1u << FAULT_REPLY_LOST | 1u << FAULT_REQUEST_LOST)

struct fault_row {
	const char *name;
	uint32_t faults;
	bool cuts;
	double load;
	int64_t seconds;
	int64_t disaster_ns, every_ns, clock_step_ns;
};

bool table_faults(void)
{
	static const struct fault_row rows[] = {
		{ "none", 0, false, 2, 20, 0, 0, 0 },
		{ "10 % of replies and 5 % of requests cut off", LOST, true, 2, 20, 0, 0, 0 },
		{ "as many swallowed (noticed after 200 ms)", LOST, false, 2, 20, 0, 0, 0 },
		{ "FLUSHALL", 1u << FAULT_FLUSH, false, 2, 20, 10 * SECOND, 0, 0 },
		{ "failover: 1 s behind and 0.2 s down", 1u << FAULT_FAILOVER, false, 2, 20,
		  10 * SECOND, 0, 0 },
		{ "clock of Redis + 5 s", 1u << FAULT_REDIS_CLOCK, false, 5, 20, 10 * SECOND, 0,
		  5 * SECOND },
		{ "clock of Redis - 5 s", 1u << FAULT_REDIS_CLOCK, false, 5, 20, 10 * SECOND, 0,
		  -5 * SECOND },
		{ "a host crashes every 0.5 s", 1u << FAULT_CRASH, false, 2, 20, SECOND, SECOND / 2,
		  0 },
		{ "clocks of hosts +/- 500 ppm (200 s)", 1u << FAULT_DRIFT, false, 2, 200, 0, 0, 0 },
	};
	bool good = true;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]) * MODES; i++) {
		const struct fault_row *row = &rows[i / MODES];
		enum weir_consistency mode = modes[i % MODES];
		struct cell cell = { .good = true };

		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			struct scenario scenario =
				scenario_of(seed, 10, 100 * MS, row->load, mode);

			scenario.faults = row->faults;
			scenario.busy_ns = row->seconds * SECOND;
			scenario.cuts = row->cuts;
			scenario.loss = 0.05;
			scenario.reply_loss = 0.1;
			scenario.disaster_ns = row->disaster_ns;
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
