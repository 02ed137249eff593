/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h - what the watchers of both tables share. */
#ifndef WEIR_TESTS_MODEL_WATCH_H
#define WEIR_TESTS_MODEL_WATCH_H

#include "tests/model/world.h"

#define NO_KEY WORLD_KEYS

/* What THREAD was doing when it made its access.  It went on since, to the next
 * one, and may be done with that request by now. */
static inline const struct actor *actor_of(unsigned thread)
{
	return model_before(&world.books.actors[thread]);
}

static inline bool is_for(const struct actor *actor, unsigned key)
{
	return key < WORLD_KEYS && (actor->key_mask >> key & 1);
}

/* Enter a charge of KEY into the books: its bucket says TIME_NS and USED now.  CONFIRMED:
 * it was THREAD's claim until then. */
void watch_charge(unsigned thread, unsigned key, uint64_t time_ns, uint64_t used, bool confirmed);

#endif
