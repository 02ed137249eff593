/* SPDX-License-Identifier: Apache-2.0 */
/* decide.h - what batch.c needs of weir.c. */
#ifndef WEIR_DECIDE_H
#define WEIR_DECIDE_H

#include "shm/segment.h"

/* Spend, in the general way, inside of a read-side section.  SEGMENT is NULL if the handle
 * is closed.  READ_NS is what the clock said, for a request without a time; 0: not read yet. */
bool decide_spend(const struct segment *segment, const struct weir_request *request,
		  uint64_t read_ns, struct weir_decision *decision);

/* Can a request of COST tokens at NOW (0: when the clock is read) be decided quickly? */
static inline bool decide_may_be_quick(const struct segment *segment, uint64_t cost,
				       uint64_t now_ns)
{
	return cost != 0 && now_ns < TIME_MAX_NS &&
	       (now_ns != 0 || segment->clock != WEIR_CLOCK_CALLER);
}

#endif
