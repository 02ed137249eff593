/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch_compact.c - is what just happened to the compact table allowed?
 *
 * As watch.c, with the steps of shm/compact.c.  A bucket without debt at the time of who
 * takes it was worth nothing: the books then begin anew.
 */
#include "tests/model/watch.h"

static unsigned key_of(const struct compact_slot *slot)
{
	for (unsigned key = 0; key < WORLD_KEYS; key++) {
		if ((slot->word.first & ~COMPACT_COUNT_MASK) ==
		    compact_name(&world.segments[0].compact, world_fingerprint(key)))
			return key;
	}
	return NO_KEY;
}

static bool is_tentative(const struct compact_slot *slot)
{
	return slot->word.second & COMPACT_TENTATIVE;
}

static uint64_t used_of(const struct compact_slot *slot)
{
	return slot->word.first & COMPACT_COUNT_MASK;
}

/* A bucket is given up for the claim of another key. */
static void published(unsigned thread, const struct compact_slot *before,
		      const struct compact_slot *slot)
{
	unsigned key = key_of(before);
	struct account *account = &world.books.accounts[key];

	if (!is_for(actor_of(thread), key_of(slot)) || used_of(slot) != 0)
		model_violation("thread %u published a key that it does not ask for", thread);
	if (is_tentative(before) || key == NO_KEY)
		return;
	if (key == key_of(slot))
		model_violation("thread %u took the bucket of its own key", thread);
	if (before->word.second > actor_of(thread)->now_ns) {
		account->evicted++;
		account->time_ns = 0;
	}
	account->used = 0;
}

/* A reset costs nothing. */
static void emptied(unsigned thread, const struct compact_slot *before,
		    const struct compact_slot *slot)
{
	if (slot->word.second != 0 || used_of(slot) != used_of(before))
		model_violation("thread %u left something in a bucket that it reset", thread);
	world.books.accounts[key_of(slot)].time_ns = 0;
}

static void refunded(unsigned thread, const struct compact_slot *before,
		     const struct compact_slot *slot)
{
	const struct actor *actor = actor_of(thread);
	struct account *account = &world.books.accounts[key_of(slot)];

	if (used_of(before) - used_of(slot) != actor->cost ||
	    before->word.second - slot->word.second != actor->cost * TOKEN_NS)
		model_violation("thread %u gave key %u back what it did not take", thread,
				key_of(slot));
	account->time_ns = slot->word.second;
	account->used -= actor->cost;
	account->charged -= actor->cost;
}

static void moved(unsigned thread, const struct compact_slot *before,
		  const struct compact_slot *slot)
{
	unsigned key = key_of(slot);

	if (key == NO_KEY) {
		if (!is_tentative(before) || slot->word.first || slot->word.second)
			model_violation("thread %u emptied what was not tentative", thread);
	} else if (is_tentative(slot)) {
		published(thread, before, slot);
	} else if (key_of(before) != key || !is_for(actor_of(thread), key)) {
		model_violation("thread %u changed the bucket of key %u, which is not its own",
				thread, key);
	} else if (!is_tentative(before) && actor_of(thread)->cost == 0) {
		emptied(thread, before, slot);
	} else if (!is_tentative(before) && used_of(slot) < used_of(before)) {
		refunded(thread, before, slot);
	} else {
		watch_charge(thread, key_of(slot), slot->word.second, used_of(slot),
			     is_tentative(before));
	}
}

void watch_compact(unsigned thread)
{
	const struct compact_slot *old = model_before(world.compact);
	unsigned live = 0;

	for (unsigned i = 0; i < COMPACT_WINDOW_SLOTS; i++) {
		const struct compact_slot *slot = &world.compact[i];
		unsigned key = key_of(slot);

		if (old[i].word.first != slot->word.first || old[i].word.second != slot->word.second)
			moved(thread, &old[i], slot);
		if (key == NO_KEY || is_tentative(slot))
			continue;
		if (live >> key & 1)
			model_violation("key %u has two buckets", key);
		live |= 1u << key;
	}
}
