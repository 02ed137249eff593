/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counter.h - totals, sharded by processor.
 *
 * What.  Each shard has its own cache lines, and a thread adds to the shard of
 * the processor that it runs on, so that lines do not travel between cores.
 *
 * A processor has two shards.  To the first one its threads add in a restartable
 * sequence (rseq): nobody else adds there, so the addition need not be locked, which
 * would cost as much as the compare-and-swap of the bucket.  The second one is for
 * whoever has no such sequence, was interrupted in it, or runs on a processor that
 * the machine did not have when the segment was made.
 *
 * Ordering.  None: counters are independent sums, read while they grow.
 *
 * References: P. McKenney, M. Desnoyers and others on restartable sequences; rseq(2),
 * and the manual of glibc, "Restartable Sequences".
 */
#ifndef WEIR_SHM_COUNTER_H
#define WEIR_SHM_COUNTER_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#define COUNTER_RSEQ
#endif

#include "shm/segment.h"

enum counter_global {
	COUNTER_CLAIMED,
	COUNTER_EVICTED_LIVE,
	COUNTER_EVICTED_UNMERGED,
	COUNTER_TABLE_FULL,
	COUNTER_CONTENDED,
	COUNTER_REPAIRED,
	COUNTER_HOLDS_REAPED,
	COUNTER_HOLDS_FULL,
	COUNTER_UNKNOWN_POLICY,
	COUNTER_BAD_REQUEST,
	COUNTER_STALE_OPEN,
	COUNTER_STALE_SHARE,
	COUNTER_STALE_CLOSED,
	COUNTER_CAPPED,
	COUNTER_UNLEASED,
	COUNTER_ROUNDS,
	COUNTER_MERGED,
	COUNTER_FENCES,
	COUNTER_RESTORES,
	COUNTER_SYNC_ERRORS,
	COUNTER_DISAGREEMENTS,
	COUNTER_CLOCK_JUMPS,
	COUNTER_PUBLICATIONS,
	COUNTER_PURSES_FILLED,
	COUNTER_PURSE_TOKENS_RETURNED,
	COUNTER_GLOBAL_COUNT,
};
_Static_assert(COUNTER_GLOBAL_COUNT <= COUNTER_LINES_GLOBAL * COUNTERS_PER_LINE, "");

enum counter_policy {
	COUNTER_ALLOWED,
	COUNTER_DENIED,
	COUNTER_UNAVAILABLE,
	COUNTER_FAIL_OPEN,
	COUNTER_SHADOW_DENIED,
	COUNTER_FLAGGED,
	COUNTER_EXTRA_TOKENS,   /* cost - 1, modulo 2^64, of each allowed request */
	COUNTER_REFUNDED,
	COUNTER_POLICY_COUNT,
};
_Static_assert(COUNTER_POLICY_COUNT <= COUNTERS_PER_LINE, "one line per policy and shard");

/* 64-byte lines of counters that one shard has. */
static inline uint64_t counter_lines(uint32_t policies)
{
	return COUNTER_LINES_GLOBAL + policies;
}

/* Shards for this machine: two for each processor. */
uint32_t counter_shards_wanted(void);

/* The address of counter INDEX in LINE of SHARD. */
static inline uint64_t *counter_at(const struct segment *segment, uint32_t shard, uint64_t line,
				   unsigned index)
{
	return segment->counters + shard * segment->counter_words + line * COUNTERS_PER_LINE + index;
}

#ifdef COUNTER_RSEQ
/* For a process in which glibc has no area that the kernel writes. */
extern WEIR_HIDDEN _Thread_local struct rseq weir_counter_area;
#endif

/* How a mapping of this process reaches its shards. */
static inline void counter_prepare(struct segment *segment)
{
	segment->counter_bytes = segment->counter_words * sizeof(*segment->counters);
	segment->counter_processors = segment->counter_shards / 2;
#ifdef COUNTER_RSEQ
	segment->counter_area = __rseq_size != 0 ?
					__rseq_offset :
					(char *)&weir_counter_area -
						(char *)__builtin_thread_pointer();
#endif
}

#ifdef COUNTER_RSEQ
/*
 * Add to the shard of this processor, without a lock on the bus: between reading the
 * processor's number and adding, the thread is neither preempted nor moved, or the
 * kernel sends it to the abort label.  False then, and where it has no such shard.
 */
static inline __attribute__((always_inline)) bool
counter_add_here(const struct segment *segment, uint64_t *first, uint64_t value)
{
	__asm__ goto(".pushsection __rseq_cs, \"aw\"\n\t"
		     ".balign 32\n"
		     "1:\t.long 0, 0\n\t"              /* version, flags */
		     ".quad 2f, 3f - 2f, 4f\n\t"        /* from, length, where to if not */
		     ".popsection\n\t"
		     ".pushsection __rseq_failure, \"ax\"\n\t"
		     ".byte 0x0f, 0xb9, 0x3d\n\t"       /* ud1, and the signature glibc gave */
		     ".long %c[signature]\n"
		     "4:\tjmp %l[aborted]\n\t"
		     ".popsection\n\t"
		     "leaq 1b(%%rip), %%rax\n\t"
		     "movq %%rax, %%fs:%c[cs](%[area])\n"
		     "2:\tmovl %%fs:%c[cpu](%[area]), %%eax\n\t"
		     "cmpl %[processors], %%eax\n\t"
		     "jae %l[aborted]\n\t"
		     "imulq %[bytes], %%rax\n\t"
		     "addq %[value], (%[first], %%rax)\n"
		     "3:\tmovq $0, %%fs:%c[cs](%[area])"
		     :
		     : [area] "r"(segment->counter_area),
		       [processors] "rm"(segment->counter_processors),
		       [bytes] "rm"(segment->counter_bytes), [value] "er"(value),
		       [first] "r"(first), [signature] "i"(RSEQ_SIG),
		       [cs] "i"(offsetof(struct rseq, rseq_cs)),
		       [cpu] "i"(offsetof(struct rseq, cpu_id))
		     : "rax", "memory", "cc"
		     : aborted);
	return true;
aborted:
	/* The kernel need not look for the sequence any more. */
	((volatile struct rseq *)((char *)__builtin_thread_pointer() + segment->counter_area))
		->rseq_cs = 0;
	return false;
}
#endif

/* By locked addition, to a shard that all do so. */
void counter_add_locked(const struct segment *segment, uint64_t *first, uint64_t value);

/* Add to the first of them, or not at all: then it is up to the second. */
static inline __attribute__((always_inline)) bool
counter_try_add(const struct segment *segment, uint64_t *first, uint64_t value)
{
#ifdef COUNTER_RSEQ
	return counter_add_here(segment, first, value);
#else
	(void)segment, (void)first, (void)value;
	return false;
#endif
}

static inline void counter_add_to(const struct segment *segment, uint64_t *first, uint64_t value)
{
	if (!counter_try_add(segment, first, value))
		counter_add_locked(segment, first, value);
}

static inline void counter_add_global(const struct segment *segment, enum counter_global counter,
				      uint64_t value)
{
	counter_add_to(segment, segment->counters + counter, value);
}

static inline void counter_add(const struct segment *segment, uint32_t policy_index,
			       enum counter_policy counter, uint64_t value)
{
	counter_add_to(segment, counter_at(segment, 0, COUNTER_LINES_GLOBAL + policy_index, counter),
		       value);
}

/* Over all shards. */
uint64_t counter_sum_global(const struct segment *segment, enum counter_global counter);
uint64_t counter_sum(const struct segment *segment, uint32_t policy_index,
		     enum counter_policy counter);

/* For a new policy in a place that another one had. */
void counter_clear_policy(const struct segment *segment, uint32_t policy_index);

#endif
