/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.h - which slots the leader has to look at.
 *
 * What.  One mark a slot, and a summary bit for each 64 marks, so that a tick
 * costs what changed and idle buckets cost nothing.
 *
 * Invariant.  A slot whose used differs from merged is marked, whoever is killed
 * where.  The state says so itself: its QUEUED bit is set by the same
 * compare-and-swap that charges, and a charge that sets it marks the slot first.
 *
 *   charge, QUEUED clear:  mark;  then CAS (state, clear) -> (charged, QUEUED)
 *   charge, QUEUED set:    CAS alone
 *   leader, nothing to merge:  unmark;  then CAS (state, QUEUED) -> (clear, epoch + 1),
 *                          and if that fails, mark again
 *   leader, slot dead:     unmark;  and if it is dead no more, mark again
 *   leader, slot claimed:  nothing: its first charge relies on the mark
 *   denial, QUEUED clear:  mark, and no more: the leader is to ask for the view
 *   leader, mark set but QUEUED clear (its process has not charged yet, or died, or
 *                          has only denied):  CAS (state, clear) -> (QUEUED)
 *
 * The last step makes the compare-and-swap of a process that was stopped before
 * its charge fail, and so does the epoch that the third moves: the process reads
 * the state anew, and marks anew.  A leader that dies between its two steps, or
 * with a summary bit that it has cleared, is followed by one that looks at every
 * slot, and marks what is unmerged, QUEUED or marked.
 *
 * The epoch has two bits.  A process that is stopped between its mark and its charge
 * while the slot leaves the queue four times is not noticed; nor is a leader that was
 * overtaken, and is killed between its two steps, or with a summary bit that it has
 * cleared.  What these leave unmarked a scrub finds, which looks at each slot once a
 * minute (sync/resolve.c).
 *
 * Ordering.  E7: marks are read-modify-writes, full barriers, before the charge's
 * compare-and-swap -> the leader's clearing of the summary before it reads marks.
 */
#ifndef WEIR_SHM_QUEUE_H
#define WEIR_SHM_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"

struct queue {
	uint64_t *marks;                /* slots / 64 words */
	uint64_t *summary;              /* one bit for each of them */
	uint64_t mark_words;
};

static inline uint64_t queue_words(uint64_t bits)
{
	return (bits + 63) / 64;
}

static inline void queue_set_bit(uint64_t *words, uint64_t bit)
{
	uint64_t *word = &words[bit / 64], mask = 1ull << bit % 64;

	if (!(atomic_load_acquire(word) & mask))
		atomic_or_full(word, mask);                             /* E7 */
}

/* Mark SLOT (an index below the number of slots). */
static inline void queue_mark(const struct queue *queue, uint64_t slot)
{
	queue_set_bit(queue->marks, slot);
	queue_set_bit(queue->summary, slot / 64);
}

static inline void queue_unmark(const struct queue *queue, uint64_t slot)
{
	atomic_and_full(&queue->marks[slot / 64], ~(1ull << slot % 64)); /* E7 */
}

static inline bool queue_is_marked(const struct queue *queue, uint64_t slot)
{
	return atomic_load_acquire(&queue->marks[slot / 64]) >> slot % 64 & 1;  /* E7 */
}

/* Will the leader's walk come to it?  Where a leader that was overtaken is walking,
 * too, summary bits are away for a moment: then it is marked once more than needed. */
static inline bool queue_is_reachable(const struct queue *queue, uint64_t slot)
{
	uint64_t bit = slot / 64;

	return queue_is_marked(queue, slot) &&
	       (atomic_load_acquire(&queue->summary[bit / 64]) >> bit % 64 & 1);        /* E7 */
}

/* What header->wake.asleep says. */
enum wake_state {
	WAKE_AWAKE = 0,
	WAKE_ASLEEP = 1,                /* the leader listens to the bell */
	WAKE_RUNG = 2,                  /* it is awake, and is to look again */
};

/* Let the leader look at the marks soon: wake it if it sleeps, and if it does not, keep it
 * from falling asleep.  At most one system call for each of its naps. */
void queue_ring(struct segment_header *header);

/* The leader is about to look at the marks: who rang before this is seen. */
void queue_listen(struct segment_header *header);

/* Sleep until the bell rings, or WAIT_NS have passed; not at all if it was rung since
 * queue_listen().  For the leader. */
void queue_sleep(struct segment_header *header, uint64_t wait_ns);

/* Call VISIT for each marked slot from *NEXT on, until it returns false; what it did
 * not see stays marked.  *NEXT is then the slot to go on at: the one that VISIT had
 * enough at, or 0 after the last one.  For the leader. */
void queue_each(const struct queue *queue, uint64_t *next,
		bool (*visit)(uint64_t slot, void *context), void *context);

#endif
