/* SPDX-License-Identifier: Apache-2.0 */
/* round.h - what goes to Redis for one shard, and what comes back. */
#ifndef WEIR_SYNC_ROUND_H
#define WEIR_SYNC_ROUND_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/bucket.h"
#include "shm/limit.h"
#include "shm/segment.h"
#include "sync/wire.h"

#define ROUND_ITEMS 100u        /* holds Redis for 0.2 ms */
#define ROUND_ATTEMPTS 16       /* only the leaders before and after store there, too */
#ifndef RESOLVE_SLOTS           /* looked at in one go: 10 ms */
#define RESOLVE_SLOTS 131072u
#endif
#define REFRESH_SPACING_NS 10000000ull  /* early looks at buckets near their limit */
#define SCRUB_PERIOD_NS 60000000000ull  /* to go round the table, unless that takes */
#define SCRUB_SLOTS 32768u              /* more slots in a tick than this */

/* A bucket as it was when it was taken into the round. */
struct round_item {
	uint64_t slot;
	uint64_t generation;
	uint64_t used;
	uint64_t time_ns;
	uint64_t acked;         /* what was agreed before the bucket was read, */
	uint64_t base_ns;       /* never after: see collect_slot() */
	uint64_t resets;        /* asked for, in the place where slot_sync has them */
	uint64_t gone_ns;       /* of a window: which one used is of (window_gone_ns) */
	uint32_t view;          /* generation of the view that the bucket has */
	struct limit limit;     /* turns tokens into time */
};

struct round {
	unsigned shard;
	bool closed;            /* the last call is in doubt: nothing is taken till a fence has told */
	bool send;
	bool whole;             /* ends a walk that left nothing of the shard */
	uint64_t restore;       /* what stood in the shard's word when that walk began */
	uint64_t tag;           /* the shard's term << 32 | sequence: names the call */
	uint64_t term;          /* of who took it: the leader word's */
	uint64_t taken_ns;
	unsigned count;
	unsigned window_count;
	unsigned hold_count;
	/* As far as the counts say. */
	struct round_item items[ROUND_ITEMS];
	unsigned char blob[ROUND_ITEMS * WIRE_ITEM];
	struct round_item windows[ROUND_ITEMS];
	unsigned char window_blob[ROUND_ITEMS * WIRE_WINDOW];
	struct round_item holds[ROUND_ITEMS];
	unsigned char hold_blob[ROUND_ITEMS * WIRE_HOLD];
};

/* What Redis answered. */
struct round_reply {
	unsigned code;                  /* ROUND_DONE and so on */
	uint64_t virtual_seconds;       /* the shard's clock */
	uint64_t virtual_part_ns;
	uint64_t hosts;
	uint64_t last_tag;              /* of the last call of this host that was applied */
	const unsigned char *items;     /* count x WIRE_REPLY bytes */
	unsigned count;
	const unsigned char *windows;   /* window_count x WIRE_WINDOW_REPLY bytes */
	unsigned window_count;
	const unsigned char *holds;     /* hold_count x WIRE_HOLD_REPLY bytes */
	unsigned hold_count;
	uint64_t received_ns;           /* when it came, by this host's clock */
};

enum round_code {
	ROUND_DONE = 0,
	ROUND_STALE_TERM = 1,
	ROUND_MUST_FENCE = 2,
	ROUND_UNANSWERED = 3,           /* no answer, or an error: nobody knows what became of it */
};

/* ---- collect.c --------------------------------------------------------- */

struct leases;

/* A walk over all that is marked.  It takes several rounds where there is more than
 * they have room for: each goes on where the last one was full, so that buckets which
 * are charged all the time do not keep the others waiting. */
struct round_walk {
	uint64_t next;                  /* slot to go on at; 0: the walk is at its end */
	uint64_t begun_ns;
	uint64_t refresh_ns;            /* the first early look that is due; UINT64_MAX: none */
	unsigned near;                  /* buckets near their limit, in this walk, */
	unsigned near_before;           /* and in the last one */
	unsigned left;                  /* shards of which it left something: a bit each; */
	unsigned closed;                /* and those that were closed meanwhile */
	uint64_t restore[SYNC_SHARDS];  /* the shards' words, when it began */
};

/* Take what is marked into the shards' ROUNDS, which have their tags or are closed.  Stops
 * short when they are full, or LEADER, of TERM, is the leader no more.
 * LEASES, if any, get what is of policies in mode strict.  CLOCK_NS tells whether the
 * leader was stopped since NOW_NS. */
void round_collect(const struct segment *segment, struct round rounds[SYNC_SHARDS],
		   struct round_walk *walk, struct leases *leases, uint64_t leader, uint64_t term,
		   uint64_t now_ns, uint64_t (*clock_ns)(void));

/* The limit of a slot's owner, a window aligned, and its policy's mode; false if it does
 * not sync (any more). */
bool round_owner_limit(const struct segment *segment, const struct slot *slot, uint64_t generation,
		       struct limit *limit, enum weir_consistency *consistency);

/* Has the slot no bucket, and none that is about to be? */
bool round_slot_is_dead(const struct slot *slot);

/* ---- resolve.c --------------------------------------------------------- */

/* A walk over the table after a fence, which may take several turns. */
struct round_resolve {
	unsigned shards;                /* those that were fenced: a bit each */
	uint64_t last_tags[SYNC_SHARDS];        /* what Redis applied last of each */
	uint64_t next;                  /* slot */
};

/* A walk that goes round and round. */
struct round_scrub {
	uint64_t next;                  /* slot */
	uint64_t last_ns;
};

void round_resolve_begin(const struct segment *segment, struct round_resolve *resolve,
			 unsigned shards, const uint64_t last_tags[SYNC_SHARDS], uint64_t now_ns);

/* Go on with it.  True when all slots were looked at. */
bool round_resolve(const struct segment *segment, struct round_resolve *resolve, uint64_t term,
		   uint64_t now_ns);

/* Look at the slots that are due since the last time. */
void round_scrub(const struct segment *segment, struct round_scrub *scrub, uint64_t now_ns);

/* ---- merge.c ----------------------------------------------------------- */

/* Merge the views of an applied round into the buckets.  False if the reply is not
 * one to this round: then nothing was merged. */
bool round_merge(const struct segment *segment, const struct round *round,
		 const struct round_reply *reply);

/* Merge into ITEM's bucket that the cluster was DEBT_NS in debt at TAKEN_NS, as of
 * GENERATION of the view. */
void round_merge_view(const struct bucket_ref *ref, const struct round_item *item,
		      uint64_t taken_ns, int64_t debt_ns, uint32_t generation);

/* Of a view of generation THEIRS, where the bucket has one of OURS. */
enum view_rule {
	VIEW_MAXIMUM,           /* of the same generation */
	VIEW_ADOPT,             /* a later one */
	VIEW_IGNORE,            /* an earlier one: a reply from before a refund */
};

enum view_rule round_view_rule(uint32_t ours, uint32_t theirs);
void round_remember_view(struct slot *slot, uint64_t generation, uint32_t view);

/* The view that pays for it is in the bucket: what was charged up to the item is
 * merged, and the slot's word says WORD.  As in round_agree(), not by a leader whose
 * term has passed. */
bool round_renew_credit(const struct segment *segment, struct slot *slot, uint64_t word,
			uint64_t term);

/* ---- windows.c --------------------------------------------------------- */

/* The window items of a round, as round_merge(). */
unsigned windows_merge(const struct segment *segment, const struct round *round,
		       const struct round_reply *reply);

/* What the other hosts have of an item's bucket.  As in round_agree(), not by a leader
 * whose term has passed; nor where a reset was asked for since it was collected. */
bool round_set_foreign(const struct segment *segment, const struct round_item *item, uint64_t word,
		       uint64_t term);

/* Follow the shard's clock, which windows are aligned by, as REPLY tells it to a call that
 * was begun at TAKEN_NS. */
void windows_keep_time(const struct segment *segment, unsigned shard, uint64_t taken_ns,
		       const struct round_reply *reply);

/* What no view has yet of the bucket in SLOT, whose state is given. */
uint64_t round_unmerged(const struct segment *segment, const struct slot *slot,
			uint64_t generation, struct word_pair state);

/* ---- holds.c ----------------------------------------------------------- */

/* The concurrency limits of a round, as round_merge(). */
unsigned holds_merge(const struct segment *segment, const struct round *round,
		     const struct round_reply *reply);

/* Resets that the owner of GENERATION has asked for, where the word has them. */
static inline uint64_t round_resets_asked(const struct slot *slot, uint64_t generation)
{
	uint64_t view = atomic_load_acquire(&slot->view);       /* E11 */

	return (view & GENERATION_MASK) == generation ? view & 0xffff0000u : 0;
}

/* The tokens that WORD (acked or merged) tells of the owner of GENERATION. */
static inline uint64_t round_tokens(uint64_t word, uint64_t generation)
{
	return (word & GENERATION_MASK) == generation ? word >> STATE_USED_SHIFT : 0;
}

/*
 * What stands in merged once the cluster's view has all that ITEM used, as a leader of TERM
 * writes it.  A refund, or the end of an operation, makes the count what it was some time
 * ago.  By the term, a leader that was stopped before its compare-and-swap, and goes on
 * when others have led, still finds another word than it had read.
 */
static inline uint64_t round_merged_word(const struct round_item *item, uint64_t term)
{
	return item->used << STATE_USED_SHIFT |
	       (term << MERGED_TERM_SHIFT & MERGED_TERM_MASK) | item->generation;
}

/* Both words of one agreement; false if leaders are changing them just now. */
static inline bool round_read_agreed(const struct slot_sync *sync, struct word_pair *agreed)
{
	agreed->first = atomic_load_acquire(&sync->agreed.first);               /* E10 */
	agreed->second = atomic_load_acquire(&sync->agreed.second);             /* E10 */
	return atomic_load_acquire(&sync->agreed.first) == agreed->first;       /* E10 */
}

/* Is TERM still the leader word's?  Each leader has terms of its own.  (Those of calls
 * are their shards', and may be older.) */
static inline bool round_term_holds(const struct segment *segment, uint64_t term)
{
	return atomic_load_acquire(&segment->header->leader.word.second) == term;       /* E10 */
}

/* How slot_sync.sent and agreed tell of an item: its used and its generation, and in
 * between the last bits of the resets that it told of. */
#define SENT_RESETS_MASK 0xf0000u

static inline uint64_t round_sent(const struct round_item *item)
{
	return item->used << STATE_USED_SHIFT | (item->resets & SENT_RESETS_MASK) |
	       item->generation;
}

/* Redis has SENT for certain, and the bucket's time as of it is BASE_NS.  False, and
 * nothing is stored, if TERM has passed: a leader that was stopped for long must not
 * bring back what was agreed before the next one's rounds. */
bool round_agree(const struct segment *segment, struct slot_sync *sync, uint64_t sent,
		 uint64_t base_ns, uint64_t term);

/* The same where the view did not come, or could not be merged: the base moves by
 * the charges, so that it still tells whether the bucket was idle. */
void round_acknowledge(const struct segment *segment, uint64_t index,
		       const struct limit *limit, uint64_t sent, uint64_t term);

/* F(to) - F(from): the time of the tokens from FROM to TO, which may be fewer. */
int64_t round_charge_ns(const struct limit *limit, uint64_t from, uint64_t to);

#endif
