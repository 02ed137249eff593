/* SPDX-License-Identifier: Apache-2.0 */
/* bucket.h - one change of one bucket: one compare-and-swap. */
#ifndef WEIR_SHM_BUCKET_H
#define WEIR_SHM_BUCKET_H

#include "shm/limit.h"
#include "shm/queue.h"
#include "shm/table.h"
#include "shm/window.h"

enum bucket_operation {
	BUCKET_SPEND,           /* if the limit allows it */
	BUCKET_PEEK,            /* judge as SPEND would, change nothing */
	BUCKET_FORCE,           /* whether or not the limit allows it */
	BUCKET_REFUND,
	BUCKET_UNDO,            /* take back a charge that another limit made vain */
	BUCKET_RESET,
	BUCKET_ASK,             /* for credit; charge nothing */
};

struct bucket_request {
	enum bucket_operation operation;
	uint64_t cost;
	uint64_t now_ns;
	bool detail;                    /* is verdict.remaining wanted? */
	const struct queue *queue;      /* of a limit that syncs; NULL: it does not */
	uint64_t slot;                  /* then: the index of the slot */
	bool foreign;                   /* does count what other hosts have? */
	uint64_t share;                 /* tokens that this host may have; 0: any number */
	uint64_t cap;                   /* tokens that may be unmerged; 0: any number */
	uint64_t wake;                  /* if more are, the leader has to hurry */
	uint64_t merge_ns;              /* how soon they may be merged, for retry_after */
	const uint64_t *lease_until_ns; /* until when the bucket's credit counts; NULL: the
	                                 * limit needs none */
	uint64_t *lacking;              /* then: where the leader looks for what was lacking */
	const uint64_t *version;        /* of the policies: the change is made only */
	uint64_t version_seen;          /* while *version is version_seen */
	struct bucket_state charged;    /* BUCKET_UNDO: what the charge had stored, */
	bool own_clock;                 /* is the time a reading of CLOCK_BOOTTIME by us? */
	const uint64_t *taken_ns;       /* and the table's taken_ns */
};

enum bucket_result {
	BUCKET_DONE,                    /* see the verdict */
	BUCKET_GONE,                    /* the slot has another owner now: look again */
	BUCKET_POLICY_CHANGED,
	BUCKET_CONTENDED,               /* bounded attempts used up */
};

/* The arithmetic alone: the verdict on REQUEST, and in *after the state that it leaves. */
struct verdict bucket_judge(const struct limit *limit, const struct bucket_state *before,
			    const struct bucket_request *request, struct bucket_state *after);

/* A token bucket's remaining costs a division: only where it is asked for. */
void bucket_add_remaining(const struct limit *limit, const struct bucket_state *state,
			  const struct bucket_request *request, struct verdict *verdict);

/* Make the change that REQUEST asks for in the bucket of REF. */
enum bucket_result bucket_apply(const struct bucket_ref *ref, const struct limit *limit,
				const struct bucket_request *request, struct verdict *verdict);

/* The first charge of REF, which is claimed: FIRST is what it leaves.  False if others were
 * faster, or *VERSION is not VERSION_SEEN: nothing was charged. */
bool bucket_begin(const struct bucket_ref *ref, const struct bucket_state *first,
		  const uint64_t *version, uint64_t version_seen);

/* What bucket_apply() would find for a key without a bucket.  *debt_ns is the
 * debt that the request would leave there. */
struct verdict bucket_judge_absent(const struct limit *limit, const struct bucket_request *request,
				   uint64_t *debt_ns);

/* What REQUEST would be told of a concurrency limit whose bucket was read as STATE.
 * verdict.remaining does not count it in: hold.c makes the change. */
struct verdict bucket_judge_hold(const struct bucket_ref *ref, const struct limit *limit,
				 const struct bucket_request *request, struct word_pair state);

/* Read the bucket; false if the slot has another owner now. */
bool bucket_read(const struct bucket_ref *ref, struct word_pair *state);

/* The same of a window: of the one with INDEX, of which this host has OWN tokens.  What
 * is of another window, or came with the counts of another, tells nothing. */
static inline uint64_t window_unmerged(uint64_t generation, uint64_t index, uint64_t own,
				       uint64_t merged, uint64_t foreign)
{
	uint64_t tags = (index << MERGED_WINDOW_SHIFT & MERGED_WINDOW_MASK) | generation;

	if (((merged ^ tags) & (MERGED_WINDOW_MASK | GENERATION_MASK)) != 0 ||
	    !foreign_is_of(foreign, index))
		return own;
	return own > merged >> STATE_USED_SHIFT ? own - (merged >> STATE_USED_SHIFT) : 0;
}

/* The tokens of the bucket that no view of the cluster has yet, given its word
 * merged.  0 if refunds outweigh them. */
static inline uint64_t bucket_unmerged(uint64_t generation, uint64_t used, uint64_t merged)
{
	uint64_t known = (merged & GENERATION_MASK) == generation ? merged >> STATE_USED_SHIFT : 0;
	uint64_t unmerged = (used - known) & WEIR_COUNT_MAX;

	return unmerged > WEIR_COUNT_MAX / 2 ? 0 : unmerged;
}

/* The tokens of credit that the bucket has left, given its word merged. */
static inline uint64_t bucket_credit(uint64_t generation, uint64_t used, uint64_t merged)
{
	uint64_t left = ((merged >> STATE_USED_SHIFT) - used) & WEIR_COUNT_MAX;

	return (merged & GENERATION_MASK) != generation || left > WEIR_COUNT_MAX / 2 ? 0 : left;
}

/* The same of a concurrency limit: merged is never more than what any call told that the
 * cluster may know of, so what is held beyond it is in nobody's view. */
static inline uint64_t hold_unmerged(uint64_t generation, uint64_t held, uint64_t merged)
{
	uint64_t known = (merged & GENERATION_MASK) == generation ? merged >> STATE_USED_SHIFT : 0;

	return held > known ? held - known : 0;
}

static inline uint64_t state_used(struct word_pair state)
{
	return state.second >> STATE_USED_SHIFT;
}

#endif
