/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counter.h - totals, sharded by processor.
 *
 * What.  Each shard has its own cache lines, and a thread adds to the shard of
 * the processor that it runs on, so that lines do not travel between cores.
 *
 * Ordering.  None: counters are independent sums, read while they grow.
 */
#ifndef WEIR_SHM_COUNTER_H
#define WEIR_SHM_COUNTER_H

#include <sched.h>
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
	COUNTER_ROUNDS,
	COUNTER_MERGED,
	COUNTER_FENCES,
	COUNTER_RESTORES,
	COUNTER_SYNC_ERRORS,
	COUNTER_DISAGREEMENTS,
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

/* Shards for this machine: one for each processor. */
uint32_t counter_shards_wanted(void);

/* The address of counter INDEX in LINE of SHARD. */
static inline uint64_t *counter_at(const struct segment *segment, uint32_t shard, uint64_t line,
				   unsigned index)
{
	uint64_t lines = counter_lines(segment->policies);

	return segment->counters + (shard * lines + line) * COUNTERS_PER_LINE + index;
}

/* The shard of the processor that this thread runs on: a load where glibc keeps
 * the number in the thread's rseq area, else a call. */
static inline uint32_t counter_shard(const struct segment *segment)
{
	int processor = -1;

#ifdef COUNTER_RSEQ
	if (__rseq_size != 0)
		processor = (int)((const volatile struct rseq *)((char *)__builtin_thread_pointer() +
								 __rseq_offset))->cpu_id;
#endif
	if (processor < 0)
		processor = sched_getcpu();
	return processor < 0 ? 0 : (uint32_t)processor & (segment->counter_shards - 1);
}

static inline void counter_add_global(const struct segment *segment, enum counter_global counter,
				      uint64_t value)
{
	atomic_add_relaxed(counter_at(segment, counter_shard(segment), counter / COUNTERS_PER_LINE,
				      counter % COUNTERS_PER_LINE),
			   value);
}

static inline void counter_add(const struct segment *segment, uint32_t policy_index,
			       enum counter_policy counter, uint64_t value)
{
	atomic_add_relaxed(counter_at(segment, counter_shard(segment),
				      COUNTER_LINES_GLOBAL + policy_index, counter),
			   value);
}

/* Over all shards. */
uint64_t counter_sum_global(const struct segment *segment, enum counter_global counter);
uint64_t counter_sum(const struct segment *segment, uint32_t policy_index,
		     enum counter_policy counter);

/* For a new policy in a place that another one had. */
void counter_clear_policy(const struct segment *segment, uint32_t policy_index);

#endif
