/* SPDX-License-Identifier: Apache-2.0 */
#include "perf/rival.h"

#include <string.h>

#define SLOTS_LEAST 8192u               /* so that a stripe is never full of few keys */
#define TOKEN_NS 10u
#define TOLERANCE_NS 1000000000000000ull

struct rival *rival_create(unsigned mutexes, uint64_t keys)
{
	pthread_mutexattr_t attributes;
	uint64_t slots = SLOTS_LEAST;
	struct rival *rival;

	while (slots < 2 * keys)
		slots *= 2;
	rival = table_map(sizeof(*rival) + slots * sizeof(rival->slots[0]));
	rival->mutexes = mutexes;
	rival->stripe = slots / mutexes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	for (unsigned i = 0; i < mutexes; i++)
		pthread_mutex_init(&rival->locks[i].mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return rival;
}

static uint64_t hash_of(const struct key *key)
{
	uint64_t x = (key->words[0] ^ key->words[1]) * 0x9e3779b97f4a7c15ull;

	return (x ^ x >> 32) * 0xbf58476d1ce4e5b9ull;
}

/* Find the bucket, judge, charge; with a lock held instead of a compare-and-swap at the
 * end.  The clock is read inside, since the times of a bucket must not go back. */
bool rival_allow(struct rival *rival, const struct key *key)
{
	uint64_t hash = hash_of(key), part = hash >> 32 & (rival->mutexes - 1);
	uint64_t last = rival->stripe - 1;      /* probing stays among those of a mutex */
	struct rival_slot *slots = &rival->slots[part * rival->stripe];
	/* The bits that chose the mutex are above these, unless the stripe is huge. */
	uint64_t home = hash & last;
	bool pass = false;

	__builtin_prefetch(&slots[home], 1);
	pthread_mutex_lock(&rival->locks[part].mutex);
	for (uint64_t i = 0; i <= last; i++) {
		struct rival_slot *slot = &slots[(home + i) & last];
		uint64_t now, debt;

		if (slot->time_ns != 0 && memcmp(&slot->key, key, sizeof(*key)) != 0)
			continue;
		now = now_ns();
		debt = slot->time_ns > now ? slot->time_ns - now : 0;
		pass = debt <= TOLERANCE_NS;
		if (pass) {
			slot->key = *key;
			slot->time_ns = now + debt + TOKEN_NS;
		}
		break;
	}
	pthread_mutex_unlock(&rival->locks[part].mutex);
	return pass;
}
