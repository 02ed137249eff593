/* SPDX-License-Identifier: Apache-2.0 */
/* collect.h - what the kinds of buckets have in common on their way into a round. */
#ifndef WEIR_SYNC_COLLECT_H
#define WEIR_SYNC_COLLECT_H

#include "shm/policy_table.h"
#include "sync/round.h"

struct collector {
	const struct segment *segment;
	struct round *rounds;
	struct round_walk *walk;
	struct leases *leases;  /* NULL: no policy is strict */
	uint64_t leader;
	uint64_t term;
	uint64_t now_ns;
	uint64_t (*clock_ns)(void);
	unsigned passed;        /* slots of closed shards */
};

bool collect_leads(const struct collector *collector);

/* What cannot be taken now stays marked, for the next walk.  True, for who visits. */
bool collect_leave(struct collector *collector, uint64_t shard);

/* The resets of this owner that Redis has, where item->resets has those asked. */
uint64_t collect_resets_known(const struct slot_sync *sync, uint64_t generation);

/* Fill in the generation of the bucket's view, and the resets that were asked for. */
void collect_view(const struct slot *slot, struct round_item *item);

/* Nothing of the slot is left to merge: out of the queue (queue.h). */
void collect_dequeue(const struct segment *segment, uint64_t index, struct word_pair state);

/* A bucket without new charges is asked for a few times more, ever later, while it
 * has something to remember, UNTIL_NS: other hosts may go on, and who looks at it here
 * should see that. */
bool collect_wants_refresh(const struct collector *collector, uint64_t until_ns,
			   const struct slot_sync *sync);
/* For the first time after a charge: in SOONEST_NS, or an interval if that is less. */
void collect_plan_refresh(const struct collector *collector, struct slot_sync *sync,
			  uint64_t soonest_ns);

/* Before it goes out.  False if this is the leader no more. */
bool collect_mark_sent(const struct collector *collector, struct slot_sync *sync, uint64_t word,
		       uint64_t tag);

unsigned char *collect_put_name(unsigned char *at, const struct slot *slot,
				const struct slot_sync *sync);

/* windows.c: a slot whose state was read as STATE, and ITEM begun.  False: stop. */
bool collect_window(struct collector *collector, struct round *round,
		    const struct round_item *item, struct word_pair state);

/* holds.c: the same of a concurrency limit. */
bool collect_hold(struct collector *collector, struct round *round,
		  const struct round_item *item, struct word_pair state);

#endif
