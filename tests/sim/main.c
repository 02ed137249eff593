/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - run seeds; make a failing one small.
 *
 *	WEIR_SIM_FIRST=S WEIR_SIM_SEEDS=N sim [--must-fail] [--trace]
 *		[--strict | --windows | --holds] [--crowds] [--faults A,B,...] [--hosts N]
 *		[--keys N] [--ms N] [--always A,B,...] [--strike STEPS]
 *	sim [--seconds N] --table 3,10,100,faults,windows-3,...	(table.c)
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/sim/sim.h"

#define SMALLER_SEEDS 40        /* tried for each thing that is taken away */

static struct restriction everything = { UINT32_MAX, 0, SIM_HOSTS, SIM_KEYS, INT64_MAX,
					SIM_STRIKE_STEPS, false, false, false, false };

static bool run(uint64_t seed, const struct restriction *restriction)
{
	struct scenario scenario;

	scenario_draw(seed, restriction, &scenario);
	return sim_run(&scenario);
}

/* ---- Telling ----------------------------------------------------------- */

static void tell_faults(uint32_t faults)
{
	bool first = true;

	for (unsigned i = 0; i < FAULT_COUNT; i++) {
		if (!(faults >> i & 1))
			continue;
		printf("%s%s", first ? "" : ",", fault_name(i));
		first = false;
	}
	if (first)
		printf("none");
}

static void tell_failure(uint64_t seed, const char *message)
{
	const struct scenario *scenario = &world.scenario;

	printf("seed %llu: %s\n", (unsigned long long)seed, message);
	printf("  again: WEIR_SIM_FIRST=%llu WEIR_SIM_SEEDS=1 sim --trace%s%s%s --hosts %u --keys %u "
	       "--ms %lld --faults ",
	       (unsigned long long)seed, scenario->strict ? " --strict" : "",
	       scenario->windows ? " --windows" : scenario->holds ? " --holds" : "",
	       scenario->crowds ? " --crowds" : "",
	       scenario->hosts, scenario->keys,
	       (long long)((scenario->busy_ns + MS - 1) / MS));
	tell_faults(scenario->faults);
	if (scenario->always) {
		printf(" --always ");
		tell_faults(scenario->always);
	}
	if (scenario->strike_steps != SIM_STRIKE_STEPS)
		printf(" --strike %u", scenario->strike_steps);
	printf("\n  %s %llu per %.3f s, burst %llu, %s, fail %s, interval %lld ms, staleness %lld ms, "
	       "overshoot %u, load %.1f, cost to %u\n",
	       weir_algorithm_name(scenario->limit.algorithm),
	       (unsigned long long)scenario->limit.limit,
	       (double)scenario->limit.period_ns / 1e9,
	       (unsigned long long)scenario->limit.burst,
	       weir_consistency_name(scenario->consistency),
	       weir_fail_mode_name(scenario->fail_mode), (long long)(scenario->interval_ns / MS),
	       (long long)(scenario->staleness_ns / MS), scenario->overshoot, scenario->load,
	       scenario->cost_max);
	fflush(stdout);
}

/* ---- Making it small --------------------------------------------------- */

/* Does a seed, this one or one near it, fail with less? */
static bool fails_with(uint64_t *seed, const struct restriction *restriction)
{
	for (uint64_t i = 0; i < SMALLER_SEEDS; i++) {
		if (!run(*seed + i, restriction)) {
			*seed += i;
			return true;
		}
	}
	return false;
}

static bool take_away_a_fault(uint64_t *seed, struct restriction *restriction)
{
	bool less = false;

	for (unsigned i = 0; i < FAULT_COUNT; i++) {
		struct restriction without = *restriction;

		without.faults &= ~(1u << i);
		if (without.faults == restriction->faults || !fails_with(seed, &without))
			continue;
		*restriction = without;
		less = true;
	}
	return less;
}

static bool shorten(uint64_t *seed, struct restriction *restriction)
{
	struct restriction shorter = *restriction;

	if (shorter.hosts > 2) {
		shorter.hosts--;
	} else if (shorter.keys > 1) {
		shorter.keys--;
	} else {
		shorter.busy_ns = shorter.busy_ns / 4 * 3;
		if (shorter.busy_ns < 20 * MS)
			return false;
	}
	if (!fails_with(seed, &shorter))
		return false;
	*restriction = shorter;
	return true;
}

static void make_small(uint64_t seed)
{
	struct restriction restriction = { world.scenario.faults, 0, world.scenario.hosts,
					   world.scenario.keys, world.scenario.busy_ns,
					   world.scenario.strike_steps, world.scenario.strict,
					   world.scenario.windows, world.scenario.holds,
					   world.scenario.crowds };
	bool less = true;

	for (int turns = 0; less && turns < 100; turns++) {
		less = take_away_a_fault(&seed, &restriction);
		less |= shorten(&seed, &restriction);
	}
	if (run(seed, &restriction)) {
		printf("  it does not fail twice: the run depends on more than its seed\n");
		return;
	}
	printf("small: ");
	tell_failure(seed, world.message);
}

/* ---- Running ----------------------------------------------------------- */

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

/* The same seed is the same run. */
static bool repeats(uint64_t seed)
{
	uint64_t trace;

	if (!run(seed, &everything))
		return true;            /* to be reported as a failure */
	trace = world.trace;
	if (run(seed, &everything) && world.trace == trace)
		return true;
	printf("seed %llu: two runs differ\n", (unsigned long long)seed);
	return false;
}

static double seconds_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int run_seeds(uint64_t first, uint64_t count, const struct restriction *restriction,
		     bool must_fail)
{
	double begin = seconds_now();
	uint64_t calls = 0, trace = 0;

	for (uint64_t seed = first; seed < first + count; seed++) {
		if (seed < first + 3 && restriction == &everything && !repeats(seed))
			return 1;
		if (run(seed, restriction)) {
			calls += world.calls;
			trace = trace * 31 + world.trace;
			continue;
		}
		tell_failure(seed, world.message);
		if (must_fail) {
			printf("caught after %llu seeds\n", (unsigned long long)(seed - first + 1));
			return 0;
		}
		if (restriction == &everything)
			make_small(seed);
		return 1;
	}
	printf("%llu seeds from %llu, %llu calls, %.1f s, trace %016llx: %s\n",
	       (unsigned long long)count, (unsigned long long)first, (unsigned long long)calls,
	       seconds_now() - begin, (unsigned long long)trace, must_fail ? "not caught" : "nothing found");
	return must_fail;
}

/* ---- Options ----------------------------------------------------------- */

static uint32_t faults_of(char *names)
{
	uint32_t faults = 0;

	for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
		unsigned fault = 0;

		while (fault < FAULT_COUNT && strcmp(name, fault_name(fault)) != 0)
			fault++;
		if (fault < FAULT_COUNT)
			faults |= 1u << fault;
		else if (strcmp(name, "none") != 0)
			fprintf(stderr, "no fault is named %s; it is left out\n", name);
	}
	return faults;
}

/* Of so many hosts, and of faults. */
static int table_of(char *names)
{
	bool good = true;

	for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
		unsigned hosts = (unsigned)strtoul(name, NULL, 10);

		if (strcmp(name, "faults") == 0) {
			good &= table_faults();
		} else if (strncmp(name, "windows-", 8) == 0 &&
			   (hosts = (unsigned)strtoul(name + 8, NULL, 10)) >= 2 &&
			   hosts <= SIM_HOSTS) {
			good &= table_windows(hosts);
		} else if (hosts >= 2 && hosts <= SIM_HOSTS) {
			good &= table_modes(hosts);
		} else {
			fprintf(stderr, "no table of %s; give 2 to %u hosts, windows-2 and so on, "
				"or faults\n", name,
				SIM_HOSTS);
			return 2;
		}
	}
	return !good;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "must-fail", no_argument, NULL, 'f' }, { "trace", no_argument, NULL, 't' },
		{ "table", required_argument, NULL, 'T' }, { "hosts", required_argument, NULL, 'h' },
		{ "keys", required_argument, NULL, 'k' }, { "ms", required_argument, NULL, 'm' },
		{ "faults", required_argument, NULL, 'F' },
		{ "always", required_argument, NULL, 'A' },
		{ "seconds", required_argument, NULL, 'S' },
		{ "strike", required_argument, NULL, 'x' },
		{ "strict", no_argument, NULL, 's' },
		{ "windows", no_argument, NULL, 'w' }, { "holds", no_argument, NULL, 'o' },
		{ "crowds", no_argument, NULL, 'c' }, { NULL, 0, NULL, 0 },
	};
	struct restriction restriction = everything;
	bool must_fail = false, restricted = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		restricted |= strchr("hkmFAx", option) != NULL;
		switch (option) {
		case 'f':
			must_fail = true;
			break;
		case 't':
			sim_tracing = true;
			break;
		case 'S':
			table_seconds = (int64_t)strtoul(optarg, NULL, 10);
			if (table_seconds < 1 || table_seconds > 3600) {
				fprintf(stderr, "no table takes %s seconds; give 1 to 3600\n",
					optarg);
				return 2;
			}
			break;
		case 'T':
			return table_of(optarg);
		case 's':
			restriction.strict = everything.strict = true;
			break;
		case 'w':
			restriction.windows = everything.windows = true;
			break;
		case 'o':
			restriction.holds = everything.holds = true;
			break;
		case 'c':
			restriction.crowds = everything.crowds = true;
			break;
		case 'h':
			restriction.hosts = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'k':
			restriction.keys = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'm':
			restriction.busy_ns = (int64_t)strtoull(optarg, NULL, 10) * MS;
			break;
		case 'F':
			restriction.faults = faults_of(optarg);
			break;
		case 'A':
			restriction.always = faults_of(optarg);
			break;
		case 'x':
			restriction.strike_steps = (unsigned)strtoul(optarg, NULL, 10);
			break;
		default:
			return 2;
		}
	}
	if (restriction.hosts < 2 || restriction.keys < 1 || restriction.busy_ns < MS ||
	    restriction.strike_steps < 1) {
		fprintf(stderr, "give 2 hosts, 1 key, 1 ms and 1 step at least\n");
		return 2;
	}
	return run_seeds(number_of("WEIR_SIM_FIRST", 1), number_of("WEIR_SIM_SEEDS", 1000),
			 restricted || sim_tracing ? &restriction : &everything, must_fail);
}
