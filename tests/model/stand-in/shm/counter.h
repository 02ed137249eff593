/* SPDX-License-Identifier: Apache-2.0 */
/* counter.h - stands in for shm/counter.h: nobody decides by a counter, so adding
 * to one takes no step in a model, where it would only multiply the states. */
#ifndef WEIR_TESTS_STAND_IN_COUNTER_H
#define WEIR_TESTS_STAND_IN_COUNTER_H

#define counter_add_global counter_add_global_not_used
#define counter_add counter_add_not_used
#include_next "shm/counter.h"
#undef counter_add_global
#undef counter_add

void counter_add_global(const struct segment *segment, enum counter_global counter, uint64_t value);
void counter_add(const struct segment *segment, uint32_t policy_index, enum counter_policy counter,
		 uint64_t value);

#endif
