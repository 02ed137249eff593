/* SPDX-License-Identifier: Apache-2.0 */
/* counter.c - totals, read. */
#include "shm/counter.h"

#include <unistd.h>

#define PROCESSORS_MAX 1024u

#ifdef COUNTER_RSEQ
_Thread_local struct rseq weir_counter_area = { .cpu_id = (uint32_t)RSEQ_CPU_ID_UNINITIALIZED };
#endif

void counter_add_locked(const struct segment *segment, uint64_t *first, uint64_t value)
{
	uint32_t processors = segment->counter_shards / 2;
	int processor = sched_getcpu();
	uint32_t shard = processors + (processor < 0 ? 0 : (uint32_t)processor % processors);

	atomic_add_relaxed(first + shard * segment->counter_words, value);
}

uint32_t counter_shards_wanted(void)
{
	long processors = sysconf(_SC_NPROCESSORS_CONF);
	uint32_t shards = 1;

	while (shards < PROCESSORS_MAX && (long)shards < processors)
		shards *= 2;
	return 2 * shards;
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
