/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - slots: found, claimed, taken over.
 *
 * What.  A key may live in any of the 16 slots of its window: two groups of 8
 * lines.  A hit is one line most of the time; claiming reads all 16.  Keys go
 * to their first group until it holds 5, then to the emptier of the two.  Filled
 * with keys that are all in debt, a table evicts the first of them at 65 % of a
 * million slots, 71 % of 65,536 and 79 % of 1,024.
 *
 * Invariant.  At most one slot is live for one key, and a charge lands in the
 * slot of the key that it was made for, whoever is killed or stopped where.
 *
 * Protocol.  A slot changes hands in three steps, each one CAS:
 *
 *   seal     state     (generation v, LIVE) -> (v, dead)       no charge can land
 *   publish  identity  (old key, v) -> (new key, v + 1)        tentative
 *   confirm  state     (v, dead) -> (v + 1, LIVE, charged)     live
 *
 * Confirming is the first charge itself.  A killed or stopped claimer leaves the
 * slot dead or tentative; neither holds information, so anyone may go on from
 * there.  A tentative slot is killed by  state (v, dead) -> (v + 1, dead): the
 * same word that confirming changes, so exactly one of the two happens.
 *
 * Two claimers of one key may publish in different slots.  Before either may
 * confirm slot i, it reads the whole window, after i was published or seen so:
 *   - another slot live for the key: use that one;
 *   - another one tentative: the first in probe order stays, the others are
 *     killed, whoever published them.
 * Of two published slots, whoever read its window later saw the other one's
 * publication (E3), so both cannot be confirmed.  Whoever finds a tentative
 * slot of its own key adopts it: nobody waits for a claimer that was stopped.
 *
 * Victims.  A claimer takes a dead slot, else one that is live without debt, else
 * the one with the least debt.  Whether a bucket has debt depends on the claimer's
 * clock: a thread with an earlier reading, which would have found the key in debt,
 * finds no bucket.  So a bucket is taken as expired only after that time was put
 * where the others find it (taken_ns), and whoever claims a slot goes on at that
 * time or a later one.
 *
 * Readers.  table_find (table.h): no store.  Writers: table_claim, and bucket.c's CAS.
 *
 * Crash.  After any store the slot is live, dead or tentative, as above.
 *
 * Ordering.  E1: publish -> the identity loads of find, window_read and window_read_own.
 * E2: seal, confirm and every charge -> the state loads; who sees a seal sees
 * taken_ns.  E3: publish, a full barrier, before window_read_own's loads: store-load,
 * both claimers alike.
 *
 * References: C. Purcell, T. Harris, "Non-blocking hashtables with open
 * addressing", 2005 (member and inserting states, collisions resolved by any
 * thread); Y. Azar et al., "Balanced allocations", 1994 (two groups).
 */
#include "shm/table.h"

#include "shm/hold.h"
#include "shm/purse.h"

#ifndef CLAIM_ATTEMPTS /* the models lower it */
#define CLAIM_ATTEMPTS 64
#endif
#define CLAIM_PATIENCE (CLAIM_ATTEMPTS / 8)     /* with another key's claimer */
#define READ_ATTEMPTS 4
#define GROUP_PREFERRED (GROUP_SLOTS * 5 / 8)   /* fill the first group up to here */

struct window_slot {
	struct slot *slot;
	struct word_pair identity;
	struct word_pair state;
	enum slot_status status;
	bool mine;
	bool pinned;            /* has charges that the cluster does not know */
	uint64_t debt_ns;       /* that is lost if the slot is taken */
};

static uint64_t debt_of(struct word_pair state, uint64_t now_ns)
{
	if (state.first & TIME_HELD)
		return state.second >> STATE_USED_SHIFT ? UINT64_MAX : 0;
	return state.first > now_ns ? state.first - now_ns : 0;
}

/* Charges that are lost for the cluster if the slot is taken. */
static bool is_pinned(const struct slot *slot, struct word_pair state)
{
	/* Relaxed: a slot that changes meanwhile is not taken (the state's CAS). */
	uint64_t generation = state.second & GENERATION_MASK;
	uint64_t owner = atomic_load_relaxed(&slot->owner);
	uint64_t merged = atomic_load_relaxed(&slot->merged);
	uint64_t known = (merged & GENERATION_MASK) == generation ? merged >> STATE_USED_SHIFT : 0;

	return (owner & GENERATION_MASK) == generation && (owner & OWNER_SYNCS) &&
	       state.second >> STATE_USED_SHIFT != known;
}

/* Read one slot.  All else is read between two equal readings of the identity's
 * generation, so that it belongs together; else a live bucket could pass for a
 * damaged slot, or the key's own for another's.  False if the slot did not stand
 * still. */
static inline __attribute__((always_inline)) bool
slot_read(struct slot *slot, struct fingerprint fingerprint, uint64_t now_ns,
	  struct window_slot *seen)
{
	seen->slot = slot;
	for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
		seen->identity.second = atomic_load_acquire(&slot->identity.second);    /* E1 */
		seen->identity.first = atomic_load_acquire(&slot->identity.first);      /* E1 */
		seen->state.second = atomic_load_acquire(&slot->state.second);          /* E2 */
		/* Ordered by the acquire above; the CAS that follows validates it. */
		seen->state.first = atomic_load_acquire(&slot->state.first);            /* E2 */
		if (atomic_load_acquire(&slot->identity.second) != seen->identity.second) /* E1 */
			continue;
		seen->status = slot_status(seen->identity.second, seen->state.second);
		seen->mine = slot_is(seen->identity, fingerprint);
		seen->debt_ns = seen->status == SLOT_LIVE ? debt_of(seen->state, now_ns) : 0;
		seen->pinned = seen->status == SLOT_LIVE && is_pinned(slot, seen->state);
		return true;
	}
	return false;
}

static bool window_read(const struct table *table, struct fingerprint fingerprint, uint64_t now_ns,
			struct window_slot window[WINDOW_SLOTS])
{
	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		if (!slot_read(table_slot(table, fingerprint, i), fingerprint, now_ns, &window[i]))
			return false;
	}
	return true;
}

/* The same, but of slots that are other keys' no more than that. */
static bool window_read_own(const struct table *table, struct fingerprint fingerprint,
			    uint64_t now_ns, struct window_slot window[WINDOW_SLOTS])
{
	/* E3: behind the publication of the slot that the caller may confirm. */
	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		struct slot *slot = table_slot(table, fingerprint, i);

		window[i].mine = false;
		if (atomic_load_acquire(&slot->identity.first) == fingerprint.low && /* E1 */
		    !slot_read(slot, fingerprint, now_ns, &window[i]))
			return false;
	}
	return true;
}

static const struct window_slot *window_first(const struct window_slot window[WINDOW_SLOTS],
					      enum slot_status status)
{
	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		if (window[i].mine && window[i].status == status)
			return &window[i];
	}
	return NULL;
}

/* A slot that holds no information: dead, damaged, or live without debt. */
static bool is_free(const struct window_slot *seen)
{
	return seen->status == SLOT_DEAD || seen->status == SLOT_DAMAGED ||
	       (seen->status == SLOT_LIVE && seen->debt_ns == 0 && !seen->pinned);
}

static bool is_lighter(const struct window_slot *a, const struct window_slot *b)
{
	return a->pinned != b->pinned ? b->pinned : a->debt_ns < b->debt_ns;
}

/* The slot to take: a free one, else another key's tentative one (its claimer
 * is at work or dead), else the one with the least debt; one with charges that
 * are not merged only where there is no other. */
static const struct window_slot *choose_victim(const struct window_slot window[WINDOW_SLOTS],
					       uint64_t newcomer_debt_ns)
{
	/* Of a group, a live one only if there is no other: what it consumed stays known
	 * meanwhile. */
	const struct window_slot *free[2] = { NULL, NULL }, *least = NULL;
	unsigned occupied[2] = { 0, 0 };

	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		const struct window_slot *seen = &window[i], **chosen = &free[i / GROUP_SLOTS];

		if (!is_free(seen))
			occupied[i / GROUP_SLOTS]++;
		else if (!*chosen || ((*chosen)->status == SLOT_LIVE && seen->status != SLOT_LIVE))
			*chosen = seen;
		if (!least || is_lighter(seen, least))
			least = seen;
	}
	if (free[0] && (!free[1] || occupied[0] < GROUP_PREFERRED || occupied[0] <= occupied[1]))
		return free[0];
	if (free[1])
		return free[1];
	return least->status == SLOT_TENTATIVE || least->debt_ns < newcomer_debt_ns ? least : NULL;
}

/* Make the slot dead in its present generation, so that no charge can land. */
static bool seal(const struct table *table, const struct window_slot *seen,
		 struct claim_report *report)
{
	uint64_t generation = seen->identity.second & GENERATION_MASK;
	uint64_t kept = seen->state.second & ~(GENERATION_MASK | STATE_LIVE | STATE_QUEUED);
	struct word_pair dead = { seen->state.first, kept | generation };

	if (seen->status == SLOT_DEAD)
		return true;
	if (seen->status == SLOT_LIVE && (seen->state.first & TIME_HELD))
		holds_settle(table->holds, seen->state.first);
	/* Before the seal, so that a death in between forgets tokens, not their charge. */
	if (seen->status == SLOT_LIVE && table->purses && purses_are_marked(seen->slot) &&
	    !purses_void(table->purses, seen->slot,
			 (uint64_t)(seen->slot - table->slots) << 16 | generation))
		return false;
	if (!atomic_cas_pair_full(&seen->slot->state, seen->state, dead))       /* E2 */
		return false;
	if (seen->status == SLOT_LIVE && seen->debt_ns > 0)
		report->evicted_live++;
	if (seen->pinned)
		report->evicted_unmerged++;
	if (seen->status == SLOT_DAMAGED)
		report->repaired++;
	return true;
}

/* A live bucket without debt at NOW is about to be taken: say so first.  False if
 * too many others are saying so. */
static bool announce(const struct table *table, const struct window_slot *seen, uint64_t now_ns)
{
	uint64_t latest_ns;

	if (!table->taken_ns || seen->status != SLOT_LIVE || seen->debt_ns > 0)
		return true;
	/* Relaxed: the seal, a full barrier, comes behind it. */
	latest_ns = atomic_load_relaxed(table->taken_ns);
	for (int attempt = 0; attempt < CLAIM_ATTEMPTS; attempt++) {
		if (latest_ns >= now_ns && latest_ns - now_ns <= TAKEN_AHEAD_MAX_NS)
			return true;
		if (atomic_cas_relaxed(table->taken_ns, &latest_ns, now_ns))
			return true;
	}
	return false;
}

static bool publish(const struct window_slot *seen, struct fingerprint fingerprint)
{
	uint64_t generation = (seen->identity.second + 1) & GENERATION_MASK;
	struct word_pair identity = {
		.first = fingerprint.low,
		.second = (fingerprint.high & ~GENERATION_MASK) | generation,
	};

	return atomic_cas_pair_full(&seen->slot->identity, seen->identity, identity); /* E1, E3 */
}

/* Kill the key's tentative slots in WINDOW but KEPT, which comes first in probe
 * order.  False if one of them has changed since it was read. */
static bool kill_others(const struct table *table, const struct window_slot window[WINDOW_SLOTS],
			const struct window_slot *kept, struct claim_report *report)
{
	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		const struct window_slot *other = &window[i];

		if (other == kept || !other->mine || other->status != SLOT_TENTATIVE)
			continue;
		if (!seal(table, other, report))
			return false;
	}
	return true;
}

static void make_ref(const struct window_slot *seen, bool tentative, struct bucket_ref *ref)
{
	ref->slot = seen->slot;
	ref->generation = seen->identity.second & GENERATION_MASK;
	ref->tentative = tentative;
}

enum table_claim table_claim(const struct table *table, struct fingerprint fingerprint,
			     uint64_t now_ns, uint64_t newcomer_debt_ns, struct bucket_ref *ref,
			     struct claim_report *report)
{
	struct window_slot window[WINDOW_SLOTS];
	struct bucket_ref candidate = { .slot = NULL };

	for (int attempt = 0; attempt < CLAIM_ATTEMPTS; attempt++) {
		const struct window_slot *seen;

		if (!(candidate.slot ? window_read_own : window_read)(table, fingerprint, now_ns,
								      window))
			continue;
		seen = window_first(window, SLOT_LIVE);
		if (seen) {
			make_ref(seen, false, ref);
			return CLAIM_FOUND;
		}
		seen = window_first(window, SLOT_TENTATIVE);
		if (!seen && candidate.slot) {
			/* It is gone: look for another. */
			candidate.slot = NULL;
			continue;
		}
		if (!seen) {
			seen = choose_victim(window, newcomer_debt_ns);
			/* The window was read slot by slot: the key may have gone
			 * live meanwhile in one that was read before. */
			if (!seen)
				return table_find(table, fingerprint, ref) ? CLAIM_FOUND :
									     CLAIM_FULL;
			/* Its claimer is most likely at work: two keys that take the
			 * slot from each other get nowhere. */
			if (seen->status == SLOT_TENTATIVE && attempt < CLAIM_PATIENCE)
				continue;
			if (!announce(table, seen, now_ns))
				continue;
			if (seal(table, seen, report) && publish(seen, fingerprint)) {
				report->claimed++;
				make_ref(seen, true, &candidate);
				candidate.generation = (candidate.generation + 1) & GENERATION_MASK;
			}
			continue;
		}
		/* This reading counts only if all of it came after the slot was
		 * published, or seen so: else at the next sight. */
		make_ref(seen, true, ref);
		if (candidate.slot == ref->slot && candidate.generation == ref->generation) {
			if (kill_others(table, window, seen, report))
				return CLAIM_TENTATIVE;
		}
		candidate = *ref;
	}
	return CLAIM_CONTENDED;
}

void table_store_newer(uint64_t *word, uint64_t value)
{
	/* Relaxed: the word is complete in itself. */
	uint64_t current = atomic_load_relaxed(word);

	while ((int16_t)(uint16_t)(value - current) > 0 || current == 0) {
		if (atomic_cas_relaxed(word, &current, value))
			return;
	}
}

void table_set_owner(const struct bucket_ref *ref, uint32_t policy_index, uint64_t serial,
		     uint32_t limit_index, bool syncs)
{
	uint64_t owner = table_owner_word(ref, policy_index, serial, limit_index, syncs);
	/* Relaxed: the word is complete in itself. */
	uint64_t current = atomic_load_relaxed(&ref->slot->owner);

	/* Of the same claim, but from before the policy was defined anew or began to
	 * sync: one attempt, the next decision makes another. */
	if ((current & GENERATION_MASK) == ref->generation && current != 0) {
		if (syncs && (!(current & OWNER_SYNCS) || (current & OWNER_JOINED)))
			owner |= OWNER_JOINED;
		if (current != owner)
			atomic_cas_relaxed(&ref->slot->owner, &current, owner);
	} else {
		table_store_newer(&ref->slot->owner, owner);
	}
}
