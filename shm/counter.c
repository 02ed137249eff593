/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counter.c - totals, sharded by processor.
 *
 * What.  Each shard has its own cache lines, and a thread adds to the shard of
 * the processor that it runs on, so that lines do not travel between cores.
 * The processor's number comes from glibc's rseq area: no system call.
 *
 * Ordering.  None: counters are independent sums, read while they grow.
 */
#include "shm/segment.h"

#include <sched.h>
#include <unistd.h>

#define SHARDS_MAX 64u

uint32_t counter_shards_wanted(void)
{
	long processors = sysconf(_SC_NPROCESSORS_CONF);
	uint32_t shards = 1;

	while (shards < SHARDS_MAX && (long)shards < processors)
		shards *= 2;
	return shards;
}

static uint64_t *counter_at(const struct segment *segment, uint32_t shard, uint64_t line,
			    unsigned index)
{
	uint64_t lines = counter_lines(segment->policies);

	return segment->counters + (shard * lines + line) * COUNTERS_PER_LINE + index;
}

static uint32_t shard_here(const struct segment *segment)
{
	int processor = sched_getcpu();

	return processor < 0 ? 0 : (uint32_t)processor & (segment->counter_shards - 1);
}

void counter_add_global(const struct segment *segment, enum counter_global counter, uint64_t value)
{
	atomic_add_relaxed(counter_at(segment, shard_here(segment), counter / COUNTERS_PER_LINE,
				      counter % COUNTERS_PER_LINE),
			   value);
}

void counter_add(const struct segment *segment, uint32_t policy_index, enum counter_policy counter,
		 uint64_t value)
{
	atomic_add_relaxed(counter_at(segment, shard_here(segment),
				      COUNTER_LINES_GLOBAL + policy_index, counter),
			   value);
}

uint64_t counter_sum_global(const struct segment *segment, enum counter_global counter)
{
	uint64_t sum = 0;

	for (uint32_t shard = 0; shard < segment->counter_shards; shard++)
		sum += atomic_load_relaxed(counter_at(segment, shard, counter / COUNTERS_PER_LINE,
						      counter % COUNTERS_PER_LINE));
	return sum;
}

uint64_t counter_sum(const struct segment *segment, uint32_t policy_index,
		     enum counter_policy counter)
{
	uint64_t sum = 0;

	for (uint32_t shard = 0; shard < segment->counter_shards; shard++)
		sum += atomic_load_relaxed(counter_at(segment, shard,
						      COUNTER_LINES_GLOBAL + policy_index, counter));
	return sum;
}

/* For the next policy that gets this place. */
void counter_clear_policy(const struct segment *segment, uint32_t policy_index)
{
	for (uint32_t shard = 0; shard < segment->counter_shards; shard++) {
		for (unsigned counter = 0; counter < COUNTERS_PER_LINE; counter++)
			atomic_store_relaxed(counter_at(segment, shard,
							COUNTER_LINES_GLOBAL + policy_index,
							counter),
					     0);
	}
}
