/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease.h - credit for buckets of mode strict: see lease.c.
 */
#ifndef WEIR_SYNC_LEASE_H
#define WEIR_SYNC_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "sync/round.h"

#define LEASE_ITEMS 100u
#define LEASE_ITEM 76u          /* bytes: see weir_lease.lua */
#define LEASE_REPLY 24u
#define LEASE_FIRST 0x80000000u /* in an item's resets: a session begins */

/* Redis counts a lease as spent when it was not renewed for 2 s.  A host stops an
 * eighth earlier: clocks may differ in speed, and Redis' in steps up to the script's
 * tolerance. */
#define LEASE_TTL_NS 2000000000ull
#define LEASE_USE_NS (LEASE_TTL_NS / 8 * 7)

enum lease_code {
	LEASE_DONE = 0,
	LEASE_QUARANTINE = 1,
	LEASE_VOID = 2,
	LEASE_UNANSWERED = 3,           /* no answer, or an error */
};

/* A call of the script, of one shard. */
struct lease_call {
	unsigned shard;
	uint32_t term;
	uint32_t number;                /* with the host and the term: its name */
	uint64_t sent_ns;               /* by the transport, before it sends */
	bool has_epoch;
	bool has_tenure;
	unsigned char epoch[16];
	unsigned char tenure[8];
	uint64_t virtual_ns;            /* the shard's clock at the last reply, */
	uint64_t virtual_at_ns;         /* ours when that was asked for; 0: none */
	uint64_t virtual_got_ns;        /* and when it was there */
	const unsigned char *items;
	unsigned count;
};

struct lease_reply {
	unsigned code;                  /* enum lease_code */
	uint64_t got_ns;                /* by the transport, when it had it */
	bool has_tenure;
	unsigned char epoch[16];
	unsigned char tenure[8];
	uint64_t virtual_ns;
	const unsigned char *items;     /* count x LEASE_REPLY bytes */
	unsigned count;
};

/* What the script guards its clock with: vlow as of NOW_NS.  0 or 16 bytes. */
size_t lease_low(const struct lease_call *call, uint64_t now_ns, unsigned char low[16]);

/* What a leader knows of all leases of its host.  It is the leader's own: the next
 * one begins new sessions. */
struct leases;

/* NULL without memory. */
struct leases *leases_create(const struct segment *segment);
void leases_destroy(struct leases *leases);

/* Another process may have led meanwhile: nothing that was known holds. */
void leases_forget(struct leases *leases);

/* What is said of a slot in the next call.  False: nothing is left to say, and it may
 * leave the queue.  LIMIT is the one of its owner. */
bool lease_collect(struct leases *leases, uint64_t index, const struct bucket_ref *ref,
		   const struct limit *limit, uint64_t term, uint64_t now_ns);

/* Does the slot's lease belong to an owner before GENERATION?  Then that is ended
 * first, and the slot stays in the queue. */
bool lease_ends_orphan(struct leases *leases, uint64_t index, uint64_t generation,
		       uint64_t term, uint64_t now_ns);

/* Forget what was collected, before collecting anew. */
void leases_begin(struct leases *leases);

/* The calls to make now; how many. */
unsigned leases_calls(struct leases *leases, struct lease_call calls[SYNC_SHARDS], uint32_t term,
		      uint64_t now_ns);

/* Take the answer to CALL; false if it is none. */
bool leases_merge(struct leases *leases, const struct lease_call *call,
		  const struct lease_reply *reply, uint64_t now_ns);

/* The call of SHARD was not answered. */
void leases_failed(struct leases *leases, unsigned shard, uint64_t now_ns);

/* When there is something to do again, at the latest. */
uint64_t leases_due_ns(const struct leases *leases);

/* ---- credit.c ---------------------------------------------------------- */

/* What a bucket may still spend, as a leader found it when it took it back. */
struct credit {
	uint64_t before;        /* it might spend up to here; 0 if it had none */
	uint64_t after;         /* and may still up to here */
	uint64_t used;          /* what was used then */
};

/* Leave KEEP tokens of the bucket's credit, at most, and find out what was spent.
 * False if the bucket is gone, or TERM has passed. */
bool credit_lower(const struct segment *segment, const struct bucket_ref *ref, uint64_t keep,
		  uint64_t term, struct credit *credit);

/* The bucket may spend up to LIMIT tokens, if its credit is that of EXPECTED still.
 * False if it is not, or TERM has passed. */
bool credit_raise(const struct segment *segment, const struct bucket_ref *ref, uint64_t expected,
		  uint64_t limit, uint64_t term);

/* The word that credit_raise() expects, for who is about to ask. */
uint64_t credit_word(const struct bucket_ref *ref);

#endif
