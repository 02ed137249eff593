/* SPDX-License-Identifier: Apache-2.0 */
/* hold.h - concurrency limits: who holds how much of which bucket. */
#ifndef WEIR_SHM_HOLD_H
#define WEIR_SHM_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/bucket.h"
#include "shm/layout.h"
#include "shm/limit.h"

struct segment;

struct holds {
	struct hold_record *records;
	uint32_t count;
};

enum hold_result {
	HOLD_TAKEN,
	HOLD_DENIED,
	HOLD_GONE,              /* the slot has another owner now: look again */
	HOLD_POLICY_CHANGED,
	HOLD_NO_RECORD,         /* no record is free, or this process is no participant */
	HOLD_CONTENDED,
};

/* Record that the operation named by a bucket's TIME_NS was applied.  Whoever
 * is about to replace that time calls this first. */
void holds_settle(const struct holds *holds, uint64_t time_ns);

/* Take request->cost units of the bucket of REF.  *HOLD names the hold. */
enum hold_result hold_acquire(const struct segment *segment, const struct bucket_ref *ref,
			      const struct limit *limit, const struct bucket_request *request,
			      struct verdict *verdict, uint64_t *hold);

/* Give a hold back.  False if it is not this process's, or released already. */
bool hold_release(const struct segment *segment, uint64_t hold);

/* A request was denied for what other hosts hold of SLOT's bucket: let the leader ask
 * Redis in its next round.  Of a segment that syncs. */
void hold_ask(const struct segment *segment, const struct slot *slot);

/* Release the holds of dead processes, and finish releases that were begun: in
 * the bucket of SLOT, or all if SLOT is NULL.  Returns how many.  Any number of processes may
 * do this at once. */
unsigned holds_reap(const struct segment *segment, const struct slot *slot);

#endif
