/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - is what just happened to the table allowed?
 *
 * After each access the slots are compared with what they were before it.  Any
 * change must be one of the protocol's (shm/table.c), and is entered in the books
 * of the key that it concerns.  The books know nothing of slots: they say what
 * the debt of a key is, and a bucket that says anything else has lost a charge or
 * brought an old one back.
 */
#include "tests/model/watch.h"

static unsigned key_of(struct word_pair identity)
{
	for (unsigned key = 0; key < WORLD_KEYS; key++) {
		struct fingerprint fingerprint = world_fingerprint(key);

		if (identity.first == fingerprint.low &&
		    ((identity.second ^ fingerprint.high) & ~GENERATION_MASK) == 0)
			return key;
	}
	return NO_KEY;
}

static uint64_t used_of(const struct slot *slot)
{
	return slot->state.second >> STATE_USED_SHIFT;
}

static bool same(struct word_pair a, struct word_pair b)
{
	return a.first == b.first && a.second == b.second;
}

static void published(unsigned thread, const struct slot *before, const struct slot *slot)
{
	const struct actor *actor = actor_of(thread);
	enum slot_status status = slot_status(before->identity.second, before->state.second);

	if (status != SLOT_DEAD)
		model_violation("thread %u gave a slot away that was not dead (status %d)", thread,
				status);
	if (!is_for(actor, key_of(slot->identity)))
		model_violation("thread %u published a key that it does not ask for", thread);
	if (slot_status(slot->identity.second, slot->state.second) != SLOT_TENTATIVE)
		model_violation("thread %u published with a generation that does not follow",
				thread);
}

/* A bucket is given up.  Without debt at the actor's time it was worth nothing. */
static void sealed(unsigned thread, const struct slot *before)
{
	unsigned key = key_of(before->identity);
	struct account *account;

	if (key == NO_KEY) {
		model_violation("thread %u found a live bucket of no key", thread);
		return;
	}
	account = &world.books.accounts[key];
	if (!(before->state.first & TIME_HELD) &&
	    before->state.first > actor_of(thread)->now_ns) {
		account->evicted++;
		account->time_ns = 0;
	}
	account->used = 0;
}

void watch_charge(unsigned thread, unsigned key, uint64_t time_ns, uint64_t used, bool confirmed)
{
	struct account *account = &world.books.accounts[key];
	const struct actor *actor = actor_of(thread);
	uint64_t now_ns = actor->now_ns, start;

	/* Who carries a time and claims a slot may go by a later one.  The new bucket
	 * says which; whether it is late enough, the key's debt says. */
	if (world.books.caller_times && confirmed && time_ns - actor->cost * TOKEN_NS > now_ns)
		now_ns = time_ns - actor->cost * TOKEN_NS;
	start = account->time_ns > now_ns ? account->time_ns : now_ns;
	if (start - now_ns > (WORLD_BURST - actor->cost) * TOKEN_NS)
		model_violation("thread %u was admitted with key %u %llu ns in debt", thread, key,
				(unsigned long long)(start - now_ns));
	account->time_ns = start + actor->cost * TOKEN_NS;
	account->used += actor->cost;
	account->charged += actor->cost;
	if (time_ns != account->time_ns || used != account->used)
		model_violation("key %u is in debt until %llu with %llu tokens used, but its bucket "
				"says %llu and %llu", key, (unsigned long long)account->time_ns,
				(unsigned long long)account->used, (unsigned long long)time_ns,
				(unsigned long long)used);
}

static void charged(unsigned thread, const struct slot *slot, bool confirmed)
{
	unsigned key = key_of(slot->identity);

	if (is_for(actor_of(thread), key))
		watch_charge(thread, key, slot->state.first, used_of(slot), confirmed);
	else
		model_violation("thread %u charged key %u, which is not its own", thread, key);
}

static void refunded(unsigned thread, const struct slot *before, const struct slot *slot)
{
	const struct actor *actor = actor_of(thread);
	unsigned key = key_of(slot->identity);
	struct account *account;

	if (!is_for(actor, key) || used_of(before) - used_of(slot) != actor->cost ||
	    before->state.first - slot->state.first != actor->cost * TOKEN_NS) {
		model_violation("thread %u gave key %u back what it did not take", thread, key);
		return;
	}
	account = &world.books.accounts[key];
	account->time_ns = slot->state.first;
	account->used -= actor->cost;
	account->charged -= actor->cost;
}

static void state_changed(unsigned thread, const struct slot *before, const struct slot *slot)
{
	enum slot_status old = slot_status(before->identity.second, before->state.second);
	enum slot_status new = slot_status(slot->identity.second, slot->state.second);

	if (old == SLOT_LIVE && new == SLOT_DEAD)
		sealed(thread, before);
	else if (old == SLOT_LIVE && new == SLOT_LIVE && used_of(slot) < used_of(before))
		refunded(thread, before, slot);
	else if ((old == SLOT_LIVE || old == SLOT_TENTATIVE) && new == SLOT_LIVE)
		charged(thread, slot, old == SLOT_TENTATIVE);
	else if (old != SLOT_TENTATIVE || new != SLOT_DEAD)
		model_violation("thread %u took a slot from status %d to %d", thread, old, new);
}

/* At most one bucket for a key, and its owner is known. */
static void check_live(void)
{
	unsigned live = 0;

	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		const struct slot *slot = &world.slots[i];
		unsigned key = key_of(slot->identity);

		if (slot_status(slot->identity.second, slot->state.second) != SLOT_LIVE)
			continue;
		if (live >> key & 1)
			model_violation("key %u has two buckets", key);
		live |= 1u << key;
		if ((slot->owner & GENERATION_MASK) != (slot->identity.second & GENERATION_MASK))
			model_violation("the owner of slot %u is not its key's", i);
	}
}

void watch_table(unsigned thread)
{
	const struct slot *old = model_before(world.slots);

	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		const struct slot *slot = &world.slots[i];

		if (!same(old[i].identity, slot->identity))
			published(thread, &old[i], slot);
		if (!same(old[i].state, slot->state))
			state_changed(thread, &old[i], slot);
	}
	check_live();
}

void watch_balance(unsigned unfinished)
{
	const struct books *books = &world.books;
	uint64_t evicted = 0;

	for (unsigned key = 0; key < WORLD_KEYS; key++) {
		uint64_t granted = 0, in_doubt = 0;

		for (unsigned t = 0; t < MODEL_THREADS_MAX; t++) {
			granted += books->actors[t].granted[key];
			if ((unfinished >> t & 1) && is_for(&books->actors[t], key))
				in_doubt += books->actors[t].cost;
		}
		if (books->accounts[key].charged - granted > in_doubt)
			model_violation("key %u was charged %llu tokens, but %llu were granted", key,
					(unsigned long long)books->accounts[key].charged,
					(unsigned long long)granted);
		evicted += books->accounts[key].evicted;
	}
	if (unfinished == 0 && books->counters[COUNTER_EVICTED_LIVE] != evicted)
		model_violation("%llu buckets were evicted in debt, but %llu were counted",
				(unsigned long long)evicted,
				(unsigned long long)books->counters[COUNTER_EVICTED_LIVE]);
}
