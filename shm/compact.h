/* SPDX-License-Identifier: Apache-2.0 */
/* compact.h - the other table: 16 bytes a bucket, and no key. */
#ifndef WEIR_SHM_COMPACT_H
#define WEIR_SHM_COMPACT_H

#include "shm/bucket.h"
#include "shm/gcra.h"

/* 0 groups: the segment is not compact. */
struct compact_table {
	struct compact_slot *slots;
	uint64_t groups;                /* 2 or more */
	uint64_t multiplier[2];         /* odd: from a fingerprint to a name */
	uint64_t *taken_ns;             /* as of struct table */
	uint64_t *claims;               /* how many there were: numbers them */
};

/* A segment's, from its secret. */
void compact_multipliers(const uint64_t secret[2], uint64_t multiplier[2]);

/* The name is kept in bits 16-63, where the slot has it.  Any two fingerprints have one
 * name with a probability of at most 2^-46 over the multipliers: compact.c. */
static inline uint64_t compact_name(const struct compact_table *table,
				    struct fingerprint fingerprint)
{
	uint64_t name = table->multiplier[0] * fingerprint.low +
			table->multiplier[1] * fingerprint.high;

	name &= ~COMPACT_COUNT_MASK;
	/* 0 is nobody's. */
	return name ? name : COMPACT_COUNT_MASK + 1;
}

/* The lines of a key's window in probe order, each by its first slot. */
struct compact_window {
	struct compact_slot *lines[COMPACT_WINDOW_LINES];
};

static inline uint64_t compact_group(const struct compact_table *table, uint64_t bits)
{
	return (uint64_t)((unsigned __int128)bits * table->groups >> 64);
}

static inline struct compact_window compact_window(const struct compact_table *table,
						   struct fingerprint fingerprint)
{
	uint64_t first = compact_group(table, fingerprint.high);
	uint64_t second = compact_group(table, fingerprint.high << 32 | fingerprint.high >> 32);
	struct compact_window window;

	if (second == first)
		second = first + 1 < table->groups ? first + 1 : 0;
	for (unsigned i = 0; i < COMPACT_GROUP_LINES; i++) {
		unsigned line = (i ^ (unsigned)fingerprint.low) & (COMPACT_GROUP_LINES - 1);

		window.lines[i] = &table->slots[first * COMPACT_GROUP_SLOTS +
						line * COMPACT_LINE_SLOTS];
		window.lines[COMPACT_GROUP_LINES + i] =
			&table->slots[second * COMPACT_GROUP_SLOTS + line * COMPACT_LINE_SLOTS];
	}
	return window;
}

/* The first of these. */
static inline struct compact_slot *compact_first_line(const struct compact_table *table,
						      struct fingerprint fingerprint)
{
	unsigned line = (unsigned)fingerprint.low & (COMPACT_GROUP_LINES - 1);

	return &table->slots[compact_group(table, fingerprint.high) * COMPACT_GROUP_SLOTS +
			     line * COMPACT_LINE_SLOTS];
}

/* Start loading the line that most likely has FINGERPRINT's bucket. */
static inline void compact_prefetch(const struct compact_table *table,
				    struct fingerprint fingerprint)
{
	prefetch_line(compact_first_line(table, fingerprint));
}

/* The slot of LINE that has the bucket of NAME; NULL: none has. */
static inline struct compact_slot *compact_find_in(struct compact_slot *line, uint64_t name)
{
#pragma GCC unroll 4
	for (unsigned i = 0; i < COMPACT_LINE_SLOTS; i++) {
		uint64_t first = atomic_load_acquire(&line[i].word.first);      /* E16 */

		if ((first ^ name) <= COMPACT_COUNT_MASK &&
		    !(atomic_load_acquire(&line[i].word.second) & COMPACT_TENTATIVE)) /* E16 */
			return &line[i];
	}
	return NULL;
}

/* Find the bucket of NAME. */
static inline struct compact_slot *compact_window_find(const struct compact_window *window,
						       uint64_t name)
{
	for (unsigned line = 0; line < COMPACT_WINDOW_LINES; line++) {
		struct compact_slot *slot = compact_find_in(window->lines[line], name);

		if (slot)
			return slot;
	}
	return NULL;
}

/* Find the bucket of FINGERPRINT. */
static inline bool compact_find(const struct compact_table *table, struct fingerprint fingerprint,
				struct bucket_ref *ref)
{
	const struct compact_window window = compact_window(table, fingerprint);

	ref->compact = compact_window_find(&window, compact_name(table, fingerprint));
	ref->tentative = false;
	return ref->compact != NULL;
}

/* Counts are modulo 2^16, or a little less, so that where the tokens of PARTS parts stand
 * between two nanoseconds (gcra_phase()) stays known.  A sound limit has no more parts
 * than that. */
static inline int64_t compact_room(uint64_t parts)
{
	int64_t room = COMPACT_COUNT_MASK + 1;

	return parts > 1 && parts <= (uint64_t)room ? room - room % (int64_t)parts : room;
}

/* A count of tokens as a slot keeps it. */
static inline uint64_t compact_count(uint64_t parts, uint64_t used)
{
	int64_t room = compact_room(parts), rest = gcra_count(used) % room;

	return (uint64_t)(rest < 0 ? rest + room : rest);
}

/* As table_claim(): find the bucket of FINGERPRINT, or claim a slot for it. */
enum table_claim compact_claim(const struct compact_table *table, struct fingerprint fingerprint,
			       uint64_t now_ns, uint64_t newcomer_debt_ns, struct bucket_ref *ref,
			       struct claim_report *report);

/* As bucket_apply(), of the bucket that REF says FINGERPRINT has. */
enum bucket_result compact_apply(const struct compact_table *table, struct fingerprint fingerprint,
				 const struct bucket_ref *ref, const struct limit *limit,
				 const struct bucket_request *request, struct verdict *verdict);

#endif
