/* SPDX-License-Identifier: Apache-2.0 */
/* rival.h - what one would write instead: a hash table in shared memory, with the
 * same arithmetic, behind process-shared mutexes; one, or many for parts of it. */
#ifndef WEIR_PERF_RIVAL_H
#define WEIR_PERF_RIVAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "perf/measure.h"

#define STRIPES 1024u

struct rival {
	unsigned mutexes;               /* a power of two, at most STRIPES */
	uint64_t stripe;                /* slots that share a mutex, a power of two */
	struct rival_lock {
		pthread_mutex_t mutex;
	} __attribute__((aligned(64))) locks[STRIPES];  /* no two in one line */
	struct rival_slot {
		struct key key;
		uint64_t time_ns;               /* 0: free */
	} __attribute__((aligned(32))) slots[];         /* none in two lines */
};

/* In memory that children share, with two slots or more for each of KEYS keys. */
struct rival *rival_create(unsigned mutexes, uint64_t keys);

/* As weir_allow(), and never denied. */
bool rival_allow(struct rival *rival, const struct key *key);

#endif
