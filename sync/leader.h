/* SPDX-License-Identifier: Apache-2.0 */
/* leader.h - the one thread of a host that talks to Redis. */
#ifndef WEIR_SYNC_LEADER_H
#define WEIR_SYNC_LEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "sync/lease.h"
#include "sync/round.h"

#define ALL_SHARDS ((1u << SYNC_SHARDS) - 1)

/* One call of the script: a fence (round NULL) or a round, of one shard. */
struct leader_call {
	unsigned shard;
	uint32_t term;
	uint32_t sequence;              /* 0: a fence */
	const struct round *round;
};

/* How calls reach Redis: a connection, or a simulated one. */
struct leader_transport {
	/* Make COUNT calls and fill in their replies, whose items stay good until the
	 * next call.  Where there is none, or an error: code ROUND_UNANSWERED. */
	void (*call)(void *context, const struct leader_call *calls, struct round_reply *replies,
		     unsigned count);
	/* SHARD is fenced, as its call was not answered, or by what is no answer to it.
	 * For how long it is left alone before that, after so many FAILURES in a row. */
	uint64_t (*pause_ns)(void *context, unsigned shard, unsigned failures);
	/* As call(), for leases; sets sent_ns of each call. */
	void (*lease)(void *context, struct lease_call *calls, struct lease_reply *replies,
		      unsigned count);
	void *context;
	/* The host's clock: a leader may have been stopped since its tick began. */
	uint64_t (*clock_ns)(void);
};

struct leader {
	struct segment *segment;
	uint64_t id;                    /* participant */
	uint32_t term;                  /* of the leader word */
	unsigned open;                  /* shards that a fence has told of: a bit each */
	uint32_t terms[SYNC_SHARDS];    /* of their calls: at most the leader word's */
	uint32_t sequence[SYNC_SHARDS]; /* of the last call that was applied */
	uint64_t retry_ns[SYNC_SHARDS]; /* when one that is not open may be fenced */
	unsigned failures[SYNC_SHARDS]; /* in a row */
	uint64_t asked_ns[SYNC_SHARDS]; /* when the last one was made */
	bool has_fenced;                /* in the last tick: this one is for rounds */
	bool resolving;                 /* a fence was answered, and the table is walked */
	struct round_resolve resolve;
	struct round_scrub scrub;
	struct round_walk walk;
	uint64_t reaped_ns;             /* when dead processes' holds were looked for */
	struct leases *leases;          /* NULL until a policy is strict */
	struct round rounds[SYNC_SHARDS];
};

enum leader_result {
	LEADER_IDLE,            /* there was nothing to do */
	LEADER_DONE,            /* as far as shards are open */
	LEADER_MORE,            /* come back at once: there is more than fits one tick */
	LEADER_FENCED,          /* or tried to; come back at once for the rounds */
	LEADER_LOST,            /* another process leads now */
	LEADER_FAILED,          /* no call was answered */
};

void leader_init(struct leader *leader, struct segment *segment);
void leader_end(struct leader *leader);

/* When there is something to do before the interval has passed; UINT64_MAX: nothing. */
uint64_t leader_due_ns(const struct leader *leader);

/* The shards that it cannot make rounds of, as nobody knows what became of a call: a bit
 * each. */
unsigned leader_closed(const struct leader *leader);

/* Is there nothing to ask Redis for before leader_due_ns(), interval or not? */
bool leader_waits(const struct leader *leader, uint64_t now_ns);

/* Whoever finds a heartbeat older than this takes over. */
uint64_t leader_patience_ns(const struct segment_header *header);

/* Become the leader, or stay it; false if another process is. */
bool leader_stand(struct leader *leader, uint64_t now_ns);

/* Let others lead at once. */
void leader_resign(struct leader *leader);

/* The cap of a limit with BURST: the tokens that may be unmerged in a bucket, for as
 * many hosts as Redis has seen or are expected. */
uint64_t leader_cap(const struct segment *segment, uint64_t burst);

/* Fence what has to be fenced, send what is due, merge what comes back. */
enum leader_result leader_tick(struct leader *leader, const struct leader_transport *transport,
			       uint64_t now_ns);

#endif
