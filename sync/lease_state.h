/* SPDX-License-Identifier: Apache-2.0 */
/* lease_state.h - what a leader keeps of its leases; for lease.c and lease_merge.c. */
#ifndef WEIR_SYNC_LEASE_STATE_H
#define WEIR_SYNC_LEASE_STATE_H

#include "sync/lease.h"

#define LEASE_NAME 16u

/* What the leader knows of a slot's lease. */
struct lease {
	uint64_t session;               /* 0: none */
	uint64_t generation;            /* of the slot's owner */
	unsigned char name[LEASE_NAME];
	uint64_t used;                  /* tokens that spent_ns tells of */
	uint64_t known_used;            /* and known_ns */
	uint64_t spent_ns;
	uint64_t known_ns;              /* of spent_ns: what Redis has acknowledged */
	uint64_t granted_ns;
	uint64_t returned_ns;
	uint64_t unspent_ns;            /* of the session before, for the first call */
	uint64_t resets;                /* as the view word had them when it began */
	uint64_t recent;                /* tokens used within the horizon */
	uint64_t recent_at_ns;
	uint64_t last;                  /* tokens that were used when any were, */
	uint64_t last_ns;               /* and when that was seen */
	uint64_t lacking_ns;            /* since when a request lacks credit; 0: none does */
	uint64_t asked_ns;              /* when the last call was made */
	uint64_t refresh_ns;            /* when to ask for the view, without a session */
	uint64_t backoff_ns;            /* how long that was put off */
	uint64_t not_before_ns;         /* to ask for more: there was nothing */
	bool first;                     /* no call of the session is acknowledged */
	bool ending;                    /* all was given back */
	bool again;                     /* a session is to begin, whatever is left */
};

struct lease_item {
	struct round_item bucket;
	uint64_t credit;                /* the word, for credit_raise() */
	uint64_t spent_ns;
	uint64_t target;                /* tokens asked for */
	int64_t surplus_ns;             /* what is needed at least, less a burst's time */
	uint64_t lacking;
	bool orphan;
};

struct lease_shard {
	bool has_epoch;
	bool has_tenure;                /* then all credit is of sessions that are known */
	unsigned char epoch[16];
	unsigned char tenure[8];
	uint64_t virtual_ns;
	uint64_t virtual_at_ns;
	uint64_t virtual_got_ns;
	uint64_t asked_ns;
	uint64_t retry_ns;              /* not before, after a failure */
	unsigned count;
	struct lease_item items[LEASE_ITEMS];
	unsigned char blob[LEASE_ITEMS * LEASE_ITEM];
};

struct leases {
	const struct segment *segment;
	struct lease *of_slot;
	uint64_t sessions;              /* begun so far */
	uint32_t calls;
	uint64_t due_ns;
	uint64_t trip_ns;               /* how long calls take, smoothed */
	struct lease_shard shards[SYNC_SHARDS];
};

static inline uint64_t lease_left_ns(const struct lease *lease)
{
	uint64_t gone = lease->spent_ns + lease->returned_ns;

	return lease->granted_ns > gone ? lease->granted_ns - gone : 0;
}

static inline void leases_are_due(struct leases *leases, uint64_t at_ns)
{
	if (at_ns < leases->due_ns)
		leases->due_ns = at_ns;
}

static inline uint64_t leases_interval_ns(const struct leases *leases)
{
	return atomic_load_relaxed(&leases->segment->header->sync.interval_ns);
}

/* Begin a session: take back what credit the bucket has.  Redis knows, or counts as
 * spent, all that was used within that credit.  False if the bucket is gone. */
bool lease_begin_session(struct leases *leases, uint64_t index, const struct bucket_ref *ref,
			 const struct limit *limit, uint64_t term);

/* The bucket is known to lack LACKING no more. */
void lease_clear_lacking(const struct segment *segment, uint64_t index, uint64_t generation,
			 uint64_t lacking);

/* The session is no more; another begins when the slot is looked at. */
static inline void lease_break(struct lease *lease)
{
	lease->session = 0;
	lease->again = true;
}

#endif
