/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch_compact.c - is what just happened to the compact table allowed?
 *
 * As watch.c, with the steps of shm/compact.c.  A bucket without debt at the time of who
 * takes it was worth nothing: the books then begin anew.
 */
#include "tests/model/world.h"

#define NO_KEY WORLD_KEYS

static const struct actor *actor_of(unsigned thread)
{
	return model_before(&world.books.actors[thread]);
}

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

static bool is_for(const struct actor *actor, unsigned key)
{
	return key < WORLD_KEYS && (actor->key_mask >> key & 1);
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

static void charged(unsigned thread, const struct compact_slot *slot, bool confirmed)
{
	const struct actor *actor = actor_of(thread);
	unsigned key = key_of(slot);
	uint64_t now_ns = actor->now_ns, start;
	struct account *account = &world.books.accounts[key];

	/* A claimer may go by a later time than its own: see watch.c. */
	if (world.books.caller_times && confirmed &&
	    slot->word.second - actor->cost * TOKEN_NS > now_ns)
		now_ns = slot->word.second - actor->cost * TOKEN_NS;
	start = account->time_ns > now_ns ? account->time_ns : now_ns;
	if (start - now_ns > (WORLD_BURST - actor->cost) * TOKEN_NS)
		model_violation("thread %u was admitted with key %u %llu ns in debt", thread, key,
				(unsigned long long)(start - now_ns));
	account->time_ns = start + actor->cost * TOKEN_NS;
	account->used += actor->cost;
	account->charged += actor->cost;
	if (slot->word.second != account->time_ns || used_of(slot) != account->used)
		model_violation("key %u is in debt until %llu with %llu tokens used, but its bucket "
				"says %llu and %llu", key, (unsigned long long)account->time_ns,
				(unsigned long long)account->used,
				(unsigned long long)slot->word.second,
				(unsigned long long)used_of(slot));
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
		charged(thread, slot, is_tentative(before));
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
