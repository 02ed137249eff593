/* SPDX-License-Identifier: Apache-2.0 */
/* purse_mark.h - the word that a slot has for what is in purses: see purse.c. */
#ifndef WEIR_SHM_PURSE_MARK_H
#define WEIR_SHM_PURSE_MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"

/* May purses have tokens of the bucket?  A hint, but for threads that are about to. */
static inline bool purses_are_marked(const struct slot *slot)
{
	/* Relaxed: one word, complete in itself. */
	uint64_t word = atomic_load_relaxed(&slot->purses);

	return (word & PURSES_TAG_MASK) == PURSES_TAG && (word & (PURSES_MARK | PURSES_LOOKING));
}

/* Purses may have tokens of the bucket in SLOT: before they are charged. */
static inline void purses_mark(struct slot *slot)
{
	/* Relaxed, but behind the opening of the purse, a full barrier: see empty_all(). */
	uint64_t word = atomic_load_relaxed(&slot->purses), marked;

	do {
		marked = (word & PURSES_TAG_MASK) == PURSES_TAG ? word | PURSES_MARK :
								  PURSES_TAG | PURSES_MARK;
	} while (word != marked && !atomic_cas_relaxed(&slot->purses, &word, marked));
}

/* They have none, if the looks at all of them that follow say so.  Until these are done
 * the bucket counts as marked: whoever looks may be killed.  Returns the word then. */
static inline uint64_t purses_unmark(struct slot *slot)
{
	/* Relaxed: the compare-and-swap is what counts. */
	uint64_t word = atomic_load_relaxed(&slot->purses);
	uint64_t looking = (word & ~PURSES_MARK) | PURSES_LOOKING;

	/* One attempt: a mark too many is a look too many. */
	if ((word & PURSES_TAG_MASK) == PURSES_TAG)
		atomic_cas_full(&slot->purses, word, looking);          /* E18 */
	return looking;
}

/* They are done. */
static inline void purses_end_look(struct slot *slot, uint64_t looking)
{
	/* Relaxed: a hint by now.  If anybody has changed it, it stands until the next look. */
	if (looking)
		atomic_cas_relaxed(&slot->purses, &looking, looking & ~PURSES_LOOKING);
}

/* How often the bucket was lowered, modulo 2^54: to tell two readings apart. */
static inline uint64_t purses_lowered(const struct slot *slot)
{
	uint64_t word = atomic_load_acquire(&slot->purses);             /* E18 */

	return (word & PURSES_TAG_MASK) == PURSES_TAG ? word & ~(PURSES_MARK | PURSES_LOOKING) :
							PURSES_TAG;
}

/* It is about to be. */
static inline void purses_count_lowering(struct slot *slot)
{
	uint64_t word, counted;

	do {
		/* Relaxed: as in purses_unmark(). */
		word = atomic_load_relaxed(&slot->purses);
		counted = (word & PURSES_TAG_MASK) == PURSES_TAG ? word : PURSES_TAG;
		counted = PURSES_TAG | ((counted + PURSES_LOWERED_UNIT) & ~PURSES_TAG_MASK);
	} while (!atomic_cas_full(&slot->purses, word, counted));       /* E18 */
}

#endif
