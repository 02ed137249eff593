/* SPDX-License-Identifier: Apache-2.0 */
/*
 * states.c - the set of states that were seen.
 *
 * A state is known by 128 bits of hash.  Two states that share one would be taken
 * for the same, and what follows from the second would not be explored; with 2^26
 * states the odds of one such pair are 2^-77.
 */
#include "tests/model/states.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *allocate(void *memory, size_t size)
{
	memory = realloc(memory, size);
	if (!memory) {
		fprintf(stderr, "model: no memory for %zu bytes of states\n", size);
		exit(2);
	}
	return memory;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Two lanes of multiply-and-fold with odd constants of no structure.  Nobody
 * chooses states to make them collide.  SIZE is a multiple of 8. */
struct digest digest_of(const void *memory, size_t size, uint64_t seed)
{
	const uint64_t *words = memory;
	uint64_t a = seed ^ 0x9e3779b97f4a7c15ull, b = size ^ 0xc2b2ae3d27d4eb4full;

	for (size_t i = 0; i < size / 8; i++) {
		a = fold(a ^ words[i], 0xd6e8feb86659fd93ull) + i;
		b = fold(b + words[i], 0xa0761d6478bd642full) ^ a;
	}
	return (struct digest){ { a, fold(b ^ seed, 0xe7037ed1a0b428dbull) } };
}

static void rehash(struct states *states, uint32_t size)
{
	states->mask = size - 1;
	states->buckets = allocate(states->buckets, (size_t)size * sizeof(*states->buckets));
	memset(states->buckets, 0xff, (size_t)size * sizeof(*states->buckets));
	for (uint32_t i = 0; i < states->count; i++) {
		uint32_t at = (uint32_t)states->all[i].digest.words[0] & states->mask;

		while (states->buckets[at] != NO_STATE)
			at = (at + 1) & states->mask;
		states->buckets[at] = i;
	}
}

void states_init(struct states *states)
{
	memset(states, 0, sizeof(*states));
	states->capacity = 1024;
	states->all = allocate(NULL, states->capacity * sizeof(*states->all));
	rehash(states, 4096);
}

void states_free(struct states *states)
{
	free(states->all);
	free(states->buckets);
}

uint32_t states_add(struct states *states, struct digest digest, bool *added)
{
	uint32_t at = (uint32_t)digest.words[0] & states->mask;
	struct state *state;

	*added = false;
	for (; states->buckets[at] != NO_STATE; at = (at + 1) & states->mask) {
		if (memcmp(&states->all[states->buckets[at]].digest, &digest, sizeof(digest)) == 0)
			return states->buckets[at];
	}
	*added = true;
	states->buckets[at] = states->count;
	if (states->count == states->capacity) {
		states->capacity *= 2;
		states->all = allocate(states->all,
				       (size_t)states->capacity * sizeof(*states->all));
	}
	state = &states->all[states->count++];
	state->digest = digest;
	memset(state->after, 0xff, sizeof(state->after));
	state->from = NO_STATE;
	if (states->count > states->mask / 2)
		rehash(states, (states->mask + 1) * 2);
	return states->count - 1;
}

/* ---- Progress ----------------------------------------------------------- */

#define NOT_KNOWN UINT32_MAX
#define ON_THE_WAY (UINT32_MAX - 1)

/* How far THREAD is from its end, from STATE, when it alone runs.  Walks to the
 * first state whose distance is known, and back through the chain of links. */
static bool measure(const struct states *states, unsigned thread, uint32_t state, uint32_t *far,
		    uint32_t *chain)
{
	uint32_t length = 0, distance = 0;

	for (;;) {
		if (far[state] == ON_THE_WAY)
			return false;
		if (far[state] != NOT_KNOWN) {
			distance = far[state];
			break;
		}
		if (states->all[state].after[thread] == NO_STATE) {
			far[state] = 0;
			break;
		}
		far[state] = ON_THE_WAY;
		chain[length++] = state;
		state = states->all[state].after[thread];
	}
	while (length > 0)
		far[chain[--length]] = ++distance;
	return true;
}

uint32_t states_longest_alone(const struct states *states, unsigned threads, uint32_t *state,
			      unsigned *thread)
{
	size_t size = (size_t)states->count * sizeof(uint32_t);
	uint32_t *far = allocate(NULL, size), *chain = allocate(NULL, size);
	uint32_t longest = 0;

	for (unsigned t = 0; t < threads && longest != UINT32_MAX; t++) {
		memset(far, 0xff, size);
		for (uint32_t i = 0; i < states->count; i++) {
			bool ends = measure(states, t, i, far, chain);

			if (ends && far[i] <= longest)
				continue;
			*state = i;
			*thread = t;
			longest = ends ? far[i] : UINT32_MAX;
			if (!ends)
				break;
		}
	}
	free(far);
	free(chain);
	return longest;
}
