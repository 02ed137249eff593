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
 * Ordering.  E1: publish -> the identity loads of find, slot_load and group_read_own,
 * which goes by group_candidates first.
 * E2: seal, confirm and every charge -> the state loads; who sees a seal sees
 * taken_ns.  E3: publish, a full barrier, before group_read_own's loads: store-load,
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

/* A slot as it was read. */
struct window_slot {
	struct slot *slot;
	struct word_pair identity;
	struct word_pair state;
	enum slot_status status;
	bool mine;
	bool pinned;            /* has charges that the cluster does not know */
	uint64_t debt_ns;       /* that is lost if the slot is taken */
	uint64_t weight;        /* weight_of() */
};

/* The slots of a window that the key has. */
struct own_slots {
	struct bucket_ref live;
	struct bucket_ref tentative;    /* the first in probe order */
	bool others;                    /* are there more of these? */
};

/* What a newcomer chooses by. */
struct choice {
	uint32_t free[2];       /* of weight 0; bit I is slot I of the group */
	struct slot *least;     /* the first of the lightest slots, */
	uint64_t least_weight;  /* and what it weighs */
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

/* What is given up with a slot: nothing; another claimer's work; the debt, and more than
 * any, holds; and before all that, what only this host knows. */
#define WEIGHT_TENTATIVE 1ull
#define WEIGHT_HELD ((1ull << 63) - 1)
#define WEIGHT_PINNED (1ull << 63)

/* The weight of a slot that is held, pinned, tentative or damaged, or was one of these. */
static __attribute__((noinline)) uint64_t
rare_weight_of(const struct slot *slot, uint64_t identity_second, struct word_pair state,
	       uint64_t now_ns)
{
	enum slot_status status = slot_status(identity_second, state.second);
	uint64_t debt_ns = debt_of(state, now_ns), weight;

	if (status != SLOT_LIVE)
		return status == SLOT_TENTATIVE ? WEIGHT_TENTATIVE : 0;
	weight = debt_ns == UINT64_MAX ? WEIGHT_HELD : debt_ns ? debt_ns + 1 : 0;
	return is_pinned(slot, state) ? weight | WEIGHT_PINNED : weight;
}

/* What SLOT weighs, whose words were read as these.  Sixteen are weighed for each new key:
 * no branch that depends on what is in an ordinary one. */
static inline __attribute__((always_inline)) uint64_t
weight_of(const struct slot *slot, uint64_t identity_second, struct word_pair state,
	  uint64_t now_ns)
{
	/* Relaxed: as in is_pinned(). */
	uint64_t owner = atomic_load_relaxed(&slot->owner);
	uint64_t weight = state.first > now_ns ? state.first - now_ns + 1 : 0;

	if (__builtin_expect(((identity_second ^ state.second) & GENERATION_MASK) != 0, 0) ||
	    __builtin_expect((state.first & TIME_HELD) != 0, 0) ||
	    __builtin_expect((owner & OWNER_SYNCS) != 0, 0))
		return rare_weight_of(slot, identity_second, state, now_ns);
	return state.second & STATE_LIVE ? weight : 0;
}

/* Read one slot.  All else is read between two equal readings of the identity's
 * generation, so that it belongs together; else a live bucket could pass for a
 * damaged slot, or the key's own for another's.  False if the slot did not stand
 * still. */
static inline __attribute__((always_inline)) bool
slot_load(const struct slot *slot, struct word_pair *identity, struct word_pair *state)
{
	for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
		identity->second = atomic_load_acquire(&slot->identity.second); /* E1 */
		identity->first = atomic_load_acquire(&slot->identity.first);   /* E1 */
		state->second = atomic_load_acquire(&slot->state.second);       /* E2 */
		/* Ordered by the acquire above; the CAS that follows validates it. */
		state->first = atomic_load_acquire(&slot->state.first);         /* E2 */
		if (__builtin_expect(atomic_load_acquire(&slot->identity.second) == /* E1 */
					     identity->second, 1))
			return true;
	}
	return false;
}

static bool slot_read(struct slot *slot, struct fingerprint fingerprint, uint64_t now_ns,
		      struct window_slot *seen)
{
	seen->slot = slot;
	if (!slot_load(slot, &seen->identity, &seen->state))
		return false;
	seen->status = slot_status(seen->identity.second, seen->state.second);
	seen->mine = slot_is(seen->identity, fingerprint);
	seen->debt_ns = seen->status == SLOT_LIVE ? debt_of(seen->state, now_ns) : 0;
	seen->weight = weight_of(slot, seen->identity.second, seen->state, now_ns);
	seen->pinned = seen->status == SLOT_LIVE && is_pinned(slot, seen->state);
	return true;
}

static void make_ref(struct slot *slot, struct word_pair identity, bool tentative,
		     struct bucket_ref *ref)
{
	ref->slot = slot;
	ref->generation = identity.second & GENERATION_MASK;
	ref->tentative = tentative;
}

static void own_add(struct own_slots *own, struct slot *slot, struct word_pair identity,
		    struct word_pair state)
{
	enum slot_status status = slot_status(identity.second, state.second);

	if (status == SLOT_LIVE && !own->live.slot)
		make_ref(slot, identity, false, &own->live);
	if (status != SLOT_TENTATIVE)
		return;
	if (own->tentative.slot)
		own->others = true;
	else
		make_ref(slot, identity, true, &own->tentative);
}

/* Enter SLOT into OWN, if it is the key's.  False if it did not stand still. */
static __attribute__((noinline)) bool slot_read_own(struct slot *slot,
						    struct fingerprint fingerprint,
						    struct own_slots *own)
{
	struct word_pair identity, state;

	if (!slot_load(slot, &identity, &state))
		return false;
	if (slot_is(identity, fingerprint))
		own_add(own, slot, identity, state);
	return true;
}

/* Which slots of GROUP may have a fingerprint of LOW: bit I is slot I.  In the order of the
 * lines, without a branch. */
static inline __attribute__((always_inline)) unsigned
group_candidates(const struct slot *group, uint64_t low)
{
	unsigned candidates = 0;

#pragma GCC unroll 8
	for (unsigned i = 0; i < GROUP_SLOTS; i++) {
		uint64_t first = atomic_load_acquire(&group[i].identity.first); /* E1, E3 */

		candidates |= (unsigned)(first == low) << i;
	}
	return candidates;
}

/* Look in group G for slots of the key's.  False if one of them did not stand still. */
static inline __attribute__((always_inline)) bool
group_read_own(const struct table_window *window, unsigned g, struct fingerprint fingerprint,
	       struct own_slots *own)
{
	/* E3: behind the publication of the slot that the caller may confirm. */
	unsigned candidates = group_candidates(window->groups[g], fingerprint.low);

	/* One at most, but for claimers that meet: where it is could not be predicted. */
	if (__builtin_expect((candidates & (candidates - 1)) == 0, 1))
		return candidates == 0 ||
		       slot_read_own(&window->groups[g][__builtin_ctz(candidates)], fingerprint,
				     own);
	for (unsigned i = 0; i < GROUP_SLOTS; i++) {
		unsigned position = window->position ^ i;

		if ((candidates >> position & 1) &&
		    !slot_read_own(&window->groups[g][position], fingerprint, own))
			return false;
	}
	return true;
}

/* Weigh all slots of group G.  Relaxed, and word by word: whoever chooses by it looks at
 * his slot again (take()). */
static inline __attribute__((always_inline)) void
group_weigh(const struct table_window *window, unsigned g, uint64_t now_ns, struct choice *choice)
{
	uint64_t least_weight = choice->least_weight;
	struct slot *least = choice->least;
	uint32_t free = 0;

#pragma GCC unroll 8
	for (unsigned i = 0; i < GROUP_SLOTS; i++) {
		struct slot *slot = &window->groups[g][i];
		struct word_pair state = {
			.first = atomic_load_relaxed(&slot->state.first),
			.second = atomic_load_relaxed(&slot->state.second),
		};
		uint64_t weight = weight_of(slot, atomic_load_relaxed(&slot->identity.second),
					    state, now_ns);

		least = weight < least_weight ? slot : least;
		least_weight = weight < least_weight ? weight : least_weight;
		free |= (uint32_t)(weight == 0) << i;
	}
	choice->free[g] = free;
	choice->least = least;
	choice->least_weight = least_weight;
}

static bool window_read_own(const struct table_window *window, struct fingerprint fingerprint,
			    struct own_slots *own)
{
	return group_read_own(window, 0, fingerprint, own) &&
	       group_read_own(window, 1, fingerprint, own);
}

static unsigned count_free(const struct choice *choice, unsigned g)
{
	return (unsigned)__builtin_popcount(choice->free[g]);
}

/* Does a newcomer go to the first group, whatever there is in the second? */
static bool is_first_preferred(const struct choice *choice)
{
	return choice->free[0] && GROUP_SLOTS - count_free(choice, 0) < GROUP_PREFERRED;
}

/* What there is to choose of. */
static void window_weigh(const struct table_window *window, uint64_t now_ns,
			 struct choice *choice)
{
	/* What weighs most of all is not less than this. */
	choice->least = &window->groups[0][window->position];
	choice->least_weight = UINT64_MAX;
	group_weigh(window, 0, now_ns, choice);
	if (!is_first_preferred(choice))
		group_weigh(window, 1, now_ns, choice);
}

/* Of the free slots of group G, the first in probe order; a live one only if there is no
 * other: what it consumed stays known meanwhile. */
static struct slot *first_free(const struct table_window *window, const struct choice *choice,
			       unsigned g)
{
	struct slot *first = NULL;

	for (unsigned i = 0; i < GROUP_SLOTS; i++) {
		unsigned position = window->position ^ i;
		struct slot *slot = &window->groups[g][position];

		if (!(choice->free[g] >> position & 1))
			continue;
		/* Relaxed: take() reads the slot again. */
		if (slot_status(atomic_load_relaxed(&slot->identity.second),
				atomic_load_relaxed(&slot->state.second)) != SLOT_LIVE)
			return slot;
		if (!first)
			first = slot;
	}
	return first;
}

/* The slot to take: a free one, else another key's tentative one (its claimer
 * is at work or dead), else the one with the least debt; one with charges that
 * are not merged only where there is no other. */
static struct slot *choose_victim(const struct table_window *window, const struct choice *choice)
{
	if (is_first_preferred(choice) ||
	    (choice->free[0] && count_free(choice, 0) >= count_free(choice, 1)))
		return first_free(window, choice, 0);
	return choice->free[1] ? first_free(window, choice, 1) : choice->least;
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

/* Kill the key's tentative slots but KEPT, which comes first in probe order.  False if
 * one of them has come to life, or changes. */
static __attribute__((noinline)) bool
kill_others(const struct table *table, const struct table_window *window,
	    struct fingerprint fingerprint, const struct slot *kept, struct claim_report *report)
{
	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		struct window_slot read, *other = &read;

		if (table_window_slot(window, i) == kept)
			continue;
		if (!slot_read(table_window_slot(window, i), fingerprint, 0, other) ||
		    (other->mine && other->status == SLOT_LIVE))
			return false;
		if (!other->mine || other->status != SLOT_TENTATIVE)
			continue;
		if (!seal(table, other, report))
			return false;
	}
	return true;
}

/* Take a slot for FINGERPRINT.  CLAIM_TENTATIVE: *CANDIDATE is it; CLAIM_CONTENDED: look
 * again. */
static enum table_claim take(const struct table *table, const struct table_window *window,
			     struct fingerprint fingerprint, uint64_t now_ns,
			     uint64_t newcomer_debt_ns, const struct choice *choice, bool patient,
			     struct bucket_ref *candidate, struct claim_report *report)
{
	struct window_slot read, *seen = &read;

	if (!slot_read(choose_victim(window, choice), fingerprint, now_ns, seen))
		return CLAIM_CONTENDED;
	/* By now it may weigh more, or be the key's. */
	if (seen->weight > choice->least_weight ||
	    (seen->mine && (seen->status == SLOT_LIVE || seen->status == SLOT_TENTATIVE)))
		return CLAIM_CONTENDED;
	if (seen->status == SLOT_LIVE && seen->weight != 0 && seen->debt_ns >= newcomer_debt_ns)
		return CLAIM_FULL;
	/* Its claimer is most likely at work: two keys that take the slot from each other
	 * get nowhere. */
	if (seen->status == SLOT_TENTATIVE && patient)
		return CLAIM_CONTENDED;
	if (!announce(table, seen, now_ns))
		return CLAIM_CONTENDED;
	if (seal(table, seen, report) && publish(seen, fingerprint)) {
		report->claimed++;
		make_ref(seen->slot, seen->identity, true, candidate);
		candidate->generation = (candidate->generation + 1) & GENERATION_MASK;
		return CLAIM_TENTATIVE;
	}
	return CLAIM_CONTENDED;
}

enum table_claim table_claim(const struct table *table, struct fingerprint fingerprint,
			     uint64_t now_ns, uint64_t newcomer_debt_ns, struct bucket_ref *ref,
			     struct claim_report *report)
{
	const struct table_window window = table_window(table, fingerprint);
	struct bucket_ref candidate = { .slot = NULL };

	for (int attempt = 0; attempt < CLAIM_ATTEMPTS; attempt++) {
		struct own_slots own = { .others = false };
		struct choice choice;

		/* Before the look for the key's own: then what another claimer of it publishes
		 * meanwhile is seen there, or by take(). */
		if (!candidate.slot)
			window_weigh(&window, now_ns, &choice);
		if ((candidate.slot || window_may_have(&window, fingerprint.low)) &&
		    !window_read_own(&window, fingerprint, &own))
			continue;
		if (own.live.slot) {
			*ref = own.live;
			return CLAIM_FOUND;
		}
		if (!own.tentative.slot && candidate.slot) {
			/* It is gone: look for another. */
			candidate.slot = NULL;
			continue;
		}
		if (!own.tentative.slot) {
			/* The window was read slot by slot: the key may have gone live
			 * meanwhile in one that was read before. */
			if (take(table, &window, fingerprint, now_ns, newcomer_debt_ns, &choice,
				 attempt < CLAIM_PATIENCE, &candidate, report) == CLAIM_FULL)
				return table_find(table, fingerprint, ref) ? CLAIM_FOUND :
									     CLAIM_FULL;
			continue;
		}
		/* This reading counts only if all of it came after the slot was
		 * published, or seen so: else at the next sight. */
		*ref = own.tentative;
		if (candidate.slot == ref->slot && candidate.generation == ref->generation) {
			if (!own.others ||
			    kill_others(table, &window, fingerprint, ref->slot, report))
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
