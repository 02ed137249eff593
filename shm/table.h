/* SPDX-License-Identifier: Apache-2.0 */
/* table.h - from a fingerprint to the slot of its bucket. */
#ifndef WEIR_SHM_TABLE_H
#define WEIR_SHM_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/hash.h"
#include "shm/layout.h"

struct holds;
struct purses;

struct table {
	struct slot *slots;
	uint64_t group_mask;            /* of a power of two of groups: their number - 1 */
	uint64_t group_count;           /* of another number of groups; else 0 */
	const struct holds *holds;      /* to settle before a slot is taken; may be NULL */
	const struct purses *purses;    /* to void with their bucket; may be NULL */
	uint64_t *taken_ns;             /* the latest time at which a bucket was taken as
	                                 * expired; may be NULL */
};

/* A slot while it belongs to one owner. */
struct bucket_ref {
	union {
		struct slot *slot;
		struct compact_slot *compact;   /* in a compact segment: compact.h */
	};
	uint64_t generation;            /* there, of a tentative one: the whole second word */
	bool tentative;                 /* may be charged for the first time by us */
};

enum slot_status {
	SLOT_LIVE,
	SLOT_DEAD,
	SLOT_TENTATIVE,
	SLOT_DAMAGED,
};

enum table_claim {
	CLAIM_FOUND,            /* ref is live */
	CLAIM_TENTATIVE,        /* ref becomes live with its first charge */
	CLAIM_FULL,             /* all slots of the window are heavier than the newcomer */
	CLAIM_CONTENDED,        /* bounded attempts used up */
};

/* What a claim did besides, for the counters. */
struct claim_report {
	unsigned claimed;
	unsigned evicted_live;
	unsigned evicted_unmerged;
	unsigned repaired;
};

/* GROUPS: 2 to 2^29. */
static inline void table_set_groups(struct table *table, uint64_t groups)
{
	bool is_power = (groups & (groups - 1)) == 0;

	table->group_mask = groups - 1;
	table->group_count = is_power ? 0 : groups;
}

/* Which group BITS choose.  Of a power of two as many bits as it has, which is a nanosecond
 * less for a decision; of another number the lower 32, as a fraction of it. */
static inline uint64_t table_group(const struct table *table, uint64_t bits)
{
	if (__builtin_expect(table->group_count == 0, 1))
		return bits & table->group_mask;
	return (bits & UINT32_MAX) * table->group_count >> 32;
}

/* A key's second group, which is another than FIRST. */
static inline uint64_t table_second_group(const struct table *table,
					  struct fingerprint fingerprint, uint64_t first)
{
	uint64_t group = table_group(table, fingerprint.high ^ (fingerprint.low >> 3 | 1));

	/* Of a power of two, bit 0 is never the same. */
	if (__builtin_expect(group == first, 0))
		group = first + 1 < table->group_count ? first + 1 : 0;
	return group;
}

/* Slot I (0 to WINDOW_SLOTS - 1) in the probe order of FINGERPRINT. */
static inline struct slot *table_slot(const struct table *table, struct fingerprint fingerprint,
				      unsigned i)
{
	uint64_t group = table_group(table, fingerprint.high);
	unsigned position = (unsigned)fingerprint.low & (GROUP_SLOTS - 1);

	if (i >= GROUP_SLOTS)
		group = table_second_group(table, fingerprint, group);
	return &table->slots[group * GROUP_SLOTS + (position ^ (i & (GROUP_SLOTS - 1)))];
}

/* Both groups of a key, for those who look at all of its slots. */
struct table_window {
	struct slot *groups[2];
	unsigned position;
};

static inline struct table_window table_window(const struct table *table,
					       struct fingerprint fingerprint)
{
	uint64_t first = table_group(table, fingerprint.high);
	uint64_t second = table_second_group(table, fingerprint, first);

	return (struct table_window){
		.groups = { &table->slots[first * GROUP_SLOTS], &table->slots[second * GROUP_SLOTS] },
		.position = (unsigned)fingerprint.low & (GROUP_SLOTS - 1),
	};
}

/* As table_slot(). */
static inline struct slot *table_window_slot(const struct table_window *window, unsigned i)
{
	return &window->groups[i / GROUP_SLOTS][window->position ^ (i & (GROUP_SLOTS - 1))];
}

/* Start loading the slot that most likely has FINGERPRINT.  Only that: another line
 * would be fetched in vain more often than not, and delays the others of a batch. */
static inline void table_prefetch(const struct table *table, struct fingerprint fingerprint)
{
	prefetch_line(table_slot(table, fingerprint, 0));
}

/* What the generations say of a slot (table in layout.h). */
static inline enum slot_status slot_status(uint64_t identity_second, uint64_t state_second)
{
	uint64_t generation = identity_second & GENERATION_MASK;
	uint64_t state = state_second & (GENERATION_MASK | STATE_LIVE);

	if (state == (generation | STATE_LIVE))
		return SLOT_LIVE;
	if (state == generation)
		return SLOT_DEAD;
	if (state == ((generation - 1) & GENERATION_MASK))
		return SLOT_TENTATIVE;
	return SLOT_DAMAGED;
}

static inline bool slot_is(struct word_pair identity, struct fingerprint fingerprint)
{
	return identity.first == fingerprint.low &&
	       ((identity.second ^ fingerprint.high) & ~GENERATION_MASK) == 0;
}

/* Is SLOT the live bucket of FINGERPRINT?  Then *REF is. */
static inline bool table_is_there(struct slot *slot, struct fingerprint fingerprint,
				  struct bucket_ref *ref)
{
	struct word_pair identity;

	identity.first = atomic_load_acquire(&slot->identity.first);    /* E1 */
	if (__builtin_expect(identity.first != fingerprint.low, 1))
		return false;
	identity.second = atomic_load_acquire(&slot->identity.second);  /* E1 */
	if (!slot_is(identity, fingerprint) ||
	    slot_status(identity.second, atomic_load_acquire(&slot->state.second)) !=
		    SLOT_LIVE)                                          /* E2 */
		return false;
	ref->slot = slot;
	ref->generation = identity.second & GENERATION_MASK;
	ref->tentative = false;
	return true;
}

/* May one of GROUP be the bucket of a fingerprint that has LOW?  In the order of the lines,
 * with two instructions for each: for who has asked for all of them. */
static inline bool group_may_have(const struct slot *group, uint64_t low)
{
#pragma GCC unroll 8
	for (unsigned i = 0; i < GROUP_SLOTS; i++) {
		uint64_t first = atomic_load_acquire(&group[i].identity.first); /* E1, E3 */

		if (__builtin_expect(first == low, 0))
			return true;
	}
	return false;
}

static inline bool window_may_have(const struct table_window *window, uint64_t low)
{
	return group_may_have(window->groups[0], low) || group_may_have(window->groups[1], low);
}

/* Find the live bucket of FINGERPRINT. */
static inline bool table_find(const struct table *table, struct fingerprint fingerprint,
			      struct bucket_ref *ref)
{
	const struct table_window window = table_window(table, fingerprint);

	for (unsigned i = 0; i < GROUP_SLOTS; i++) {
		if (table_is_there(&window.groups[0][window.position ^ i], fingerprint, ref))
			return true;
	}
	for (unsigned i = 0; i < GROUP_SLOTS; i++) {
		if (table_is_there(&window.groups[1][window.position ^ i], fingerprint, ref))
			return true;
	}
	return false;
}

/* Further ahead of a request it is no time of one clock: damage, or a mistake. */
#define TAKEN_AHEAD_MAX_NS (2 * WEIR_DEBT_MAX_NS)

/* The time of a request at NOW whose key has no bucket: perhaps it had one, which
 * another thread, with a later time, took for expired. */
static inline uint64_t table_time_ns(const uint64_t *taken_ns, uint64_t now_ns)
{
	/* Relaxed: whoever sees the bucket gone sees the time, too (E2). */
	uint64_t latest_ns = taken_ns ? atomic_load_relaxed(taken_ns) : 0;
	bool later = latest_ns > now_ns && latest_ns - now_ns <= TAKEN_AHEAD_MAX_NS;

	return later ? latest_ns : now_ns;
}

/* Find it, or claim a slot for it: one without debt at NOW, else the one with
 * the least debt if that is less than NEWCOMER_DEBT. */
enum table_claim table_claim(const struct table *table, struct fingerprint fingerprint,
			     uint64_t now_ns, uint64_t newcomer_debt_ns, struct bucket_ref *ref,
			     struct claim_report *report);

/* Store VALUE in *WORD, whose bits 0-15 are the generation that it is of, unless a
 * later owner's is there.  For what a claimer notes of its slot: one that was
 * stopped meanwhile must not overwrite the next owner's. */
void table_store_newer(uint64_t *word, uint64_t value);

/* The word that says whose slot REF is. */
static inline uint64_t table_owner_word(const struct bucket_ref *ref, uint32_t policy_index,
					uint64_t serial, uint32_t limit_index, bool syncs)
{
	return ref->generation | (uint64_t)policy_index << 16 | (uint64_t)limit_index << 32 |
	       (syncs ? OWNER_SYNCS : 0) | serial << 40;
}

/* Note that the owner of REF is limit LIMIT_INDEX of policy POLICY_INDEX, and
 * whether its charges have to be merged before the slot may be taken. */
void table_set_owner(const struct bucket_ref *ref, uint32_t policy_index, uint64_t serial,
		     uint32_t limit_index, bool syncs);

#endif
