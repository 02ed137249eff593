/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counter.h - stands in for shm/counter.h in what the simulator steps through.
 *
 * Who is interrupted while it counts adds with an atomic operation, and else without
 * one.  That would be a step more or less, by what the kernel did just then.  Nobody
 * decides by a counter, and there is one thread: adding takes no step.
 */
#ifndef WEIR_TESTS_SIM_STAND_IN_COUNTER_H
#define WEIR_TESTS_SIM_STAND_IN_COUNTER_H

#define counter_add_global counter_add_global_not_used
#define counter_add counter_add_not_used
#include_next "shm/counter.h"
#undef counter_add_global
#undef counter_add

static inline void counter_add_global(const struct segment *segment, enum counter_global counter,
				      uint64_t value)
{
	segment->counters[counter] += value;
}

static inline void counter_add(const struct segment *segment, uint32_t policy_index,
			       enum counter_policy counter, uint64_t value)
{
	*counter_at(segment, 0, COUNTER_LINES_GLOBAL + policy_index, counter) += value;
}

#endif
