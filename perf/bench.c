/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.c - what a decision costs, beside what the machine makes it cost.
 *
 * All kernels run in turn in one process, pinned to one processor, for many
 * rounds.  The machine may be shared and its clock may wander: the ratio of two
 * kernels, taken round by round and then the median, is what travels; single
 * nanoseconds do not.  Time is the thread's own, without what the processor did for
 * others meanwhile.  perf/README.md has the method.
 */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/bench.h"

#define TRIES 20u               /* for two threads to run side by side */

/* ---- Measuring --------------------------------------------------------- */

static double time_slice(const struct kernel *kernel, struct state *state)
{
	uint64_t begin = time_ns(CLOCK_THREAD_CPUTIME_ID);

	kernel->run(state, kernel->operations);
	return (double)(time_ns(CLOCK_THREAD_CPUTIME_ID) - begin) / kernel->operations;
}

struct runner {
	const struct kernel *kernel;
	struct state state;
	unsigned processor;
	unsigned *arrived;              /* atomic */
	uint64_t begin_ns, end_ns;
	double ns;                      /* an operation */
};

static void *run_beside(void *context)
{
	struct runner *runner = context;

	pin(runner->processor);
	runner->kernel->run(&runner->state, 16);        /* what a thread's first call does */
	__atomic_fetch_add(runner->arrived, 1, __ATOMIC_ACQ_REL);
	for (unsigned i = 0; __atomic_load_n(runner->arrived, __ATOMIC_ACQUIRE) < 2; i++) {
		if (i > 20000)
			sched_yield();
	}
	runner->begin_ns = now_ns();
	runner->ns = time_slice(runner->kernel, &runner->state);
	runner->end_ns = now_ns();
	return NULL;
}

/* Did both run for nearly all of the time at the same time? */
static bool side_by_side(const struct runner *a, const struct runner *b)
{
	uint64_t first = a->begin_ns < b->begin_ns ? a->begin_ns : b->begin_ns;
	uint64_t last = a->begin_ns < b->begin_ns ? b->begin_ns : a->begin_ns;
	uint64_t end = a->end_ns < b->end_ns ? a->end_ns : b->end_ns;

	return last < end && last - first < (end - first) / 10;
}

/* Two threads, each with its own random numbers; the time of one operation of one.
 * Where the kernel gave a processor to somebody else, try again. */
static double time_twice(const struct kernel *kernel, struct state *state, unsigned processor)
{
	struct runner runners[2];
	pthread_t other;

	for (unsigned try = 0; try < TRIES; try++) {
		unsigned arrived = 0;

		for (unsigned i = 0; i < 2; i++) {
			runners[i] = (struct runner){
				.kernel = kernel,
				.state = *state,
				.processor = (processor + i) % processors(),
				.arrived = &arrived,
			};
			runners[i].state.random = next_random(&state->random);
		}
		if (pthread_create(&other, NULL, run_beside, &runners[1]))
			die("thread", "cannot start one");
		run_beside(&runners[0]);
		pthread_join(other, NULL);
		if (side_by_side(&runners[0], &runners[1]))
			break;
	}
	return (runners[0].ns + runners[1].ns) / 2;
}

static void measure(struct state *state, unsigned rounds, unsigned processor)
{
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned k = 0; k < kernel_count; k++) {
			struct kernel *kernel = &kernels[k];

			if (!kernel->chosen)
				continue;
			if (kernel->before)
				kernel->before(state, kernel->operations);
			kernel->ns[round] = kernel->twice ?
						    time_twice(kernel, state, processor) :
						    time_slice(kernel, state);
		}
	}
}

/* ---- Reporting --------------------------------------------------------- */

static const struct kernel *find_chosen(const char *name)
{
	for (unsigned k = 0; k < kernel_count; k++) {
		if (name && strcmp(kernels[k].name, name) == 0 && kernels[k].chosen)
			return &kernels[k];
	}
	return NULL;
}

/* Of minima: what a neighbour takes from the processor is not in them.  Of two threads, which no
 * round disturbs alike, the median of the rounds. */
static double ratio_of(const struct kernel *kernel, const struct kernel *reference, unsigned rounds)
{
	static double ratios[ROUNDS_MAX];
	double least, reference_least;

	if (!kernel->twice) {
		median(kernel->ns, rounds, &least);
		median(reference->ns, rounds, &reference_least);
		return least / reference_least;
	}
	for (unsigned i = 0; i < rounds; i++)
		ratios[i] = kernel->ns[i] / reference->ns[i];
	return median(ratios, rounds, NULL);
}

static void print_text(const struct state *state, unsigned rounds)
{
	printf("%" PRIu64 " keys of 16 bytes, %u rounds\n\n", state->keys, rounds);
	printf("%-14s %9s %9s  %s\n", "KERNEL", "MIN ns", "MEDIAN", "RATIO");
	for (unsigned k = 0; k < kernel_count; k++) {
		const struct kernel *reference = find_chosen(kernels[k].reference);
		double least, middle;

		if (!kernels[k].chosen)
			continue;
		middle = median(kernels[k].ns, rounds, &least);
		printf("%-14s %9.1f %9.1f  ", kernels[k].name, least, middle);
		if (reference)
			printf("%.2f x %s: ", ratio_of(&kernels[k], reference, rounds),
			       reference->name);
		printf("%s\n", kernels[k].help);
	}
}

/* 0: it was not made. */
static uint64_t segment_bytes(const struct weir *weir)
{
	struct weir_info info = { 0 };

	if (weir)
		weir_info(weir, &info);
	return info.size_bytes;
}

static void print_json(const struct state *state, unsigned rounds)
{
	const char *separator = "";

	printf("{\"keys\": %" PRIu64 ", \"rounds\": %u, \"segment_bytes\": %" PRIu64
	       ", \"dense_bytes\": %" PRIu64 ", \"lean_bytes\": %" PRIu64
	       ", \"compact_bytes\": %" PRIu64 ", \"kernels\": {",
	       state->keys, rounds, segment_bytes(state->weir), segment_bytes(state->weir_dense),
	       segment_bytes(state->weir_lean), segment_bytes(state->weir_compact));
	for (unsigned k = 0; k < kernel_count; k++) {
		const struct kernel *reference = find_chosen(kernels[k].reference);
		double least, middle;

		if (!kernels[k].chosen)
			continue;
		middle = median(kernels[k].ns, rounds, &least);
		printf("%s\n  \"%s\": {\"min_ns\": %.2f, \"median_ns\": %.2f", separator,
		       kernels[k].name, least, middle);
		if (reference)
			printf(", \"reference\": \"%s\", \"ratio\": %.3f", reference->name,
			       ratio_of(&kernels[k], reference, rounds));
		printf("}");
		separator = ",";
	}
	printf("\n}}\n");
}

/* ---- Arguments --------------------------------------------------------- */

/* NAMES, with commas between them; NULL: all. */
static void choose(char *names)
{
	for (unsigned k = 0; k < kernel_count; k++)
		kernels[k].chosen = !names;
	for (char *name = names ? strtok(names, ",") : NULL; name; name = strtok(NULL, ",")) {
		unsigned k = 0;

		while (k < kernel_count && strcmp(kernels[k].name, name) != 0)
			k++;
		if (k == kernel_count)
			die(name, "there is no such kernel");
		kernels[k].chosen = true;
	}
	for (unsigned k = 0; k < kernel_count; k++) {
		if (kernels[k].twice && processors() < 2)
			kernels[k].chosen = false;
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "keys", required_argument, NULL, 'k' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "cpu", required_argument, NULL, 'c' },
		{ "only", required_argument, NULL, 'o' },
		{ "small-pages", no_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 },
	};
	struct state state = { .keys = 1000000, .random = 1 };
	unsigned rounds = 501, processor = 0;
	bool json = false;
	char *only = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'k':
			state.keys = number(optarg, 1, 100000000);
			break;
		case 'r':
			rounds = (unsigned)number(optarg, 1, ROUNDS_MAX);
			break;
		case 'c':
			processor = (unsigned)number(optarg, 0, processors() - 1);
			break;
		case 'o':
			only = optarg;
			break;
		case 's':
			small_pages_only();
			break;
		case 'j':
			json = true;
			break;
		default:
			fprintf(stderr, "usage: bench [--keys N] [--rounds N] [--cpu N] "
					"[--only KERNEL,...] [--small-pages] [--json]\n");
			return 2;
		}
	}
	choose(only);
	pin(processor);
	kernels_prepare(&state);
	measure(&state, rounds, processor);
	(json ? print_json : print_text)(&state, rounds);
	weir_close(state.weir);
	weir_close(state.weir_dense);
	weir_close(state.weir_lean);
	weir_close(state.weir_compact);
	return 0;
}
