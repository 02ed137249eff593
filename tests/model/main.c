/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - run the scenarios, or some of them by name.
 *
 * With --mutant the code under the models has a fault sown in: the program
 * succeeds if one of the scenarios finds it.  The long forms run with WEIR_SOAK=1
 * or when they are named.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/model/scenarios.h"

static const struct model_scenario *const scenarios[] = { SCENARIOS };

#define SCENARIO_COUNT (sizeof(scenarios) / sizeof(scenarios[0]))

/* The library's clock is the world's here: ask the kernel for our own. */
static double seconds_used(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static bool is_chosen(const struct model_scenario *scenario, char **names, int count)
{
	const char *soak = getenv("WEIR_SOAK");

	if (count == 0)
		return !scenario->soak || (soak && strcmp(soak, "1") == 0);
	for (int i = 0; i < count; i++) {
		if (strcmp(names[i], scenario->name) == 0)
			return true;
	}
	return false;
}

static struct model_result run(const struct model_scenario *scenario, bool quiet)
{
	double start = seconds_used();
	struct model_result result = model_explore(scenario, quiet);

	printf("%-16s %9llu states %9llu steps, alone at most %3u, %6.2f s%s\n", scenario->name,
	       (unsigned long long)result.states, (unsigned long long)result.steps, result.alone,
	       seconds_used() - start, result.violated ? ", VIOLATED" : "");
	fflush(stdout);
	return result;
}

static bool is_known(const char *name)
{
	for (size_t i = 0; i < SCENARIO_COUNT; i++) {
		if (strcmp(scenarios[i]->name, name) == 0)
			return true;
	}
	return false;
}

int main(int argc, char **argv)
{
	bool mutant = argc > 1 && strcmp(argv[1], "--mutant") == 0;
	int first = mutant ? 2 : 1;
	unsigned violated = 0;
	double start = seconds_used();

	for (int i = first; i < argc; i++) {
		if (!is_known(argv[i])) {
			fprintf(stderr, "model: no scenario \"%s\"; those there are:\n", argv[i]);
			for (size_t s = 0; s < SCENARIO_COUNT; s++)
				fprintf(stderr, "  %-16s %s\n", scenarios[s]->name,
					scenarios[s]->about);
			return 2;
		}
	}
	for (size_t i = 0; i < SCENARIO_COUNT && !(mutant && violated); i++) {
		if (is_chosen(scenarios[i], argv + first, argc - first))
			violated += run(scenarios[i], mutant).violated;
	}
	printf("%u of the scenarios violated, %.2f s\n", violated, seconds_used() - start);
	if (mutant && !violated)
		fprintf(stderr, "model: no scenario found the fault\n");
	return mutant ? !violated : violated != 0;
}
