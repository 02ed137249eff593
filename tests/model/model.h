/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model.h - run the real code through every interleaving of a few threads.
 *
 * A scenario's threads are coroutines.  Each stops before each access to shared
 * memory (the seam in shm/atomic.h); the explorer then lets every one of them go
 * on by one access, from every state that can be reached.  README.md tells more.
 */
#ifndef WEIR_TESTS_MODEL_H
#define WEIR_TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_THREADS_MAX 4u

struct model_scenario {
	const char *name;
	const char *about;              /* one line, for a person */
	unsigned threads;
	unsigned mortal;                /* bit mask of threads that may stop for ever anywhere:
	                                 * ended() also judges what the others leave then */
	unsigned killable;              /* those whose death the others can find out */
	unsigned alone_max;             /* from any state, a thread that runs alone is done
	                                 * within this many accesses */
	bool soak;                      /* too large for the short form */
	void (*setup)(void);            /* make the first state; calls model_region() */
	void (*body)(unsigned thread);
	void (*moved)(unsigned thread); /* after each access: may compare with model_before() */
	void (*ended)(unsigned unfinished);     /* when all but mortal or killable threads are
	                                 * done; may change the regions */
};

/* Memory that the threads share or that the scenario keeps its books in.  All of
 * it together with the stacks is the state: nothing else may change. */
void model_region(const char *name, void *memory, size_t size);

/* What stood at MEMORY, in a region, before the access just made. */
const void *model_before(const void *memory);

/* The invariant does not hold.  The first message of a run counts. */
void model_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

unsigned model_thread(void);            /* the one that runs */
bool model_killed(unsigned thread);
void weir_model_step(void);             /* the seam; also for scenarios' own accesses */

/* ---- For main.c --------------------------------------------------------- */

struct model_result {
	bool violated;
	uint64_t states;
	uint64_t steps;
	unsigned alone;                 /* the longest run alone */
};

/* Explore SCENARIO.  On a violation print the schedule that leads there, unless
 * QUIET. */
struct model_result model_explore(const struct model_scenario *scenario, bool quiet);

#endif
