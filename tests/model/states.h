/* SPDX-License-Identifier: Apache-2.0 */
/* states.h - the states that were seen, and how they follow one another. */
#ifndef WEIR_TESTS_STATES_H
#define WEIR_TESTS_STATES_H

#include "tests/model/model.h"

#define NO_STATE UINT32_MAX

struct digest {
	uint64_t words[2];
};

struct state {
	struct digest digest;
	uint32_t after[MODEL_THREADS_MAX];      /* when this thread makes its access */
	uint32_t from;                          /* where it was first reached from */
	uint8_t action;                         /* by which action */
};

struct states {
	struct state *all;
	uint32_t count;
	uint32_t capacity;
	uint32_t *buckets;                      /* open addressing; NO_STATE: empty */
	uint32_t mask;
};

struct digest digest_of(const void *memory, size_t size, uint64_t seed);

void states_init(struct states *states);
void states_free(struct states *states);

/* The number of the state with DIGEST; *added if it was not known. */
uint32_t states_add(struct states *states, struct digest digest, bool *added);

/* For each thread the length of its longest run alone, or from *STATE on it would
 * run for ever: then UINT32_MAX, and *thread tells which. */
uint32_t states_longest_alone(const struct states *states, unsigned threads, uint32_t *state,
			      unsigned *thread);

#endif
