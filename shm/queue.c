/* SPDX-License-Identifier: Apache-2.0 */
/* queue.c - the leader's walk over the marks; queue.h has the protocol. */
#include "shm/queue.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The half of the bell that is counted up: what the kernel compares. */
static uint32_t *bell_of(struct segment_header *header)
{
	return (uint32_t *)&header->wake.bell + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

void queue_ring(struct segment_header *header)
{
	/* Relaxed: behind the charge's full barrier, as queue_listen() has it. */
	uint64_t state = atomic_load_relaxed(&header->wake.asleep);

	/* It is awake, and may be past what it should hear of: it does not fall asleep. */
	if (state == WAKE_AWAKE &&
	    atomic_cas_acq_rel(&header->wake.asleep, &state, WAKE_RUNG))        /* E12 */
		return;
	if (state != WAKE_ASLEEP ||
	    !atomic_cas_acq_rel(&header->wake.asleep, &state, WAKE_AWAKE))      /* E12 */
		return;
	atomic_add_relaxed(&header->wake.bell, 1);      /* the kernel orders it */
	syscall(SYS_futex, bell_of(header), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void queue_listen(struct segment_header *header)
{
	atomic_cas_full(&header->wake.asleep, WAKE_RUNG, WAKE_AWAKE);           /* E12 */
}

void queue_sleep(struct segment_header *header, uint64_t wait_ns)
{
	struct timespec wait = { .tv_sec = (time_t)(wait_ns / 1000000000u),
				 .tv_nsec = (long)(wait_ns % 1000000000u) };
	uint32_t bell = (uint32_t)atomic_load_acquire(&header->wake.bell);      /* E12 */
	uint64_t awake = WAKE_AWAKE;

	/* A ring between here and the kernel moves the bell, and it does not wait. */
	if (atomic_cas_acq_rel(&header->wake.asleep, &awake, WAKE_ASLEEP))      /* E12 */
		syscall(SYS_futex, bell_of(header), FUTEX_WAIT, bell, &wait, NULL, 0);
	atomic_store_release(&header->wake.asleep, WAKE_AWAKE);                 /* E12 */
}

/* All bits but those below bit FIRST % 64 in the word that has it, word INDEX or not. */
static uint64_t from(uint64_t first, uint64_t index)
{
	return index == first / 64 ? UINT64_MAX << first % 64 : UINT64_MAX;
}

/* The slots of one word of marks.  False if VISIT has had enough, at slot *NEXT. */
static bool each_mark(uint64_t marks, uint64_t first, uint64_t *next,
		      bool (*visit)(uint64_t slot, void *context), void *context)
{
	for (; marks; marks &= marks - 1) {
		*next = first + (uint64_t)__builtin_ctzll(marks);
		if (!visit(*next, context))
			return false;
	}
	return true;
}

void queue_each(const struct queue *queue, uint64_t *next,
		bool (*visit)(uint64_t slot, void *context), void *context)
{
	uint64_t begin = *next;

	for (uint64_t i = begin / 4096; i < queue_words(queue->mark_words); i++) {
		uint64_t words = atomic_load_acquire(&queue->summary[i]) &      /* E7 */
				 from(begin / 64, i);

		for (; words; words &= words - 1) {
			uint64_t index = 64 * i + (uint64_t)__builtin_ctzll(words);
			bool more;

			if (index >= queue->mark_words)
				break;          /* damage */
			/* Before the marks are read: a mark that comes later sets
			 * its bit again. */
			atomic_and_full(&queue->summary[i], ~(1ull << index % 64));     /* E7 */
			more = each_mark(atomic_load_acquire(&queue->marks[index]) &    /* E7 */
						 from(begin, index),
					 64 * index, next, visit, context);
			if (atomic_load_acquire(&queue->marks[index]))                  /* E7 */
				queue_set_bit(queue->summary, index);
			if (!more)
				return;
		}
	}
	*next = 0;
}
