/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bucket.c - a bucket changes by one compare-and-swap.
 *
 * What.  Reads the state, lets the algorithm judge it, and publishes the state
 * after.  What must agree (the time, the tokens consumed, the owner) is in the
 * 16 bytes that one CAS replaces.
 *
 * Invariant.  A charge lands only in the state that was judged: the owner's
 * generation is part of what is compared, so a process that was stopped before
 * its CAS can neither charge the slot's next owner nor bring back an old state.
 *
 * Readers and writers.  Any process.  A denial stores nothing.
 *
 * Crash.  Before the CAS nothing happened; after it the charge is whole.
 *
 * Ordering.  E2: each successful CAS -> the loads of bucket_read.  A denial is
 * judged on two 8-byte loads (a 16-byte load would write the line): the second
 * word is read again behind the first, and equal readings mean that the two
 * stood in the bucket together, since charges move the second word.  Only a
 * charge and its own refund between the readings can hide there: the denial
 * then saw a charge that was in the bucket for that moment.
 *
 * What other hosts have stands in a word of its own, which only the leader writes:
 * it may change at any time, before a compare-and-swap or behind it.  Only that it
 * is not older than the word merged, which pays for it, is asked for (E8).
 */
#include "shm/bucket.h"

#include "shm/clock.h"
#include "shm/gcra.h"

#define CHANGE_ATTEMPTS 4096
#define READ_ATTEMPTS 64

static bool is_owner(const struct bucket_ref *ref, uint64_t state_second)
{
	return (state_second & (GENERATION_MASK | STATE_LIVE)) == (ref->generation | STATE_LIVE);
}

/* Claimed but not confirmed: what is in the state is the last owner's. */
static bool is_unconfirmed(const struct bucket_ref *ref, uint64_t state_second)
{
	return ref->tentative && (state_second & (GENERATION_MASK | STATE_LIVE)) ==
					 ((ref->generation - 1) & GENERATION_MASK);
}

bool bucket_read(const struct bucket_ref *ref, struct word_pair *state)
{
	uint64_t again = atomic_load_acquire(&ref->slot->state.second);         /* E2 */

	for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
		state->second = again;
		state->first = atomic_load_acquire(&ref->slot->state.first);    /* E2 */
		/* Ordered behind the first word by its acquire. */
		again = atomic_load_acquire(&ref->slot->state.second);          /* E2 */
		if (again == state->second)
			break;
	}
	return is_owner(ref, state->second) || is_unconfirmed(ref, state->second);
}

static struct bucket_state decode(const struct bucket_ref *ref, struct word_pair state)
{
	struct bucket_state decoded = { 0, 0, 0 };

	if (is_owner(ref, state.second)) {
		decoded.time_ns = state.first;
		decoded.used = state_used(state);
	}
	return decoded;
}

/* With the tag as window.h has it. */
static uint64_t foreign_of(const struct bucket_ref *ref)
{
	/* Behind the load of merged: see apply_cap(). */
	return foreign_mixed(atomic_load_acquire(&ref->slot->foreign), ref->generation); /* E8 */
}

/* What of the word SEEN is neither used nor the owner's stays: the epoch of the
 * queue always, QUEUED with its owner. */
static struct word_pair encode(const struct bucket_ref *ref, const struct bucket_state *state,
			       uint64_t seen, bool queued)
{
	uint64_t kept = seen & STATE_EPOCH_MASK;

	if (queued || (is_owner(ref, seen) && (seen & STATE_QUEUED)))
		kept |= STATE_QUEUED;
	return (struct word_pair){
		.first = state->time_ns,
		.second = state->used << STATE_USED_SHIFT | kept | STATE_LIVE | ref->generation,
	};
}

/* A concurrency limit is only looked at here; hold.c changes it. */
static struct verdict concurrency_peek(const struct limit *limit, const struct bucket_state *state,
				       uint64_t cost)
{
	uint64_t held = window_sum(state->used, foreign_tokens(state->foreign, HELD_WINDOW));
	uint64_t room = held < limit->limit ? limit->limit - held : 0;
	struct verdict verdict = {
		.allowed = cost <= room,
		.never = cost > limit->limit,
		.elsewhere = cost > room && state->used <= limit->limit &&
			     cost <= limit->limit - state->used,
		.remaining = room,
		.counted = held,
	};

	/* When a hold will be released is not known. */
	verdict.retry_after_ns = verdict.never ? WEIR_NEVER : 0;
	return verdict;
}

static struct verdict spend(const struct limit *limit, const struct bucket_state *before,
			    const struct bucket_request *request, struct bucket_state *after)
{
	bool force = request->operation == BUCKET_FORCE;

	switch (limit->algorithm) {
	case WEIR_SLIDING_WINDOW:
		return sliding_window_spend(limit, before, request->now_ns, request->cost, force,
					    after);
	case WEIR_FIXED_WINDOW:
		return fixed_window_spend(limit, before, request->now_ns, request->cost, force,
					  after);
	case WEIR_CONCURRENCY:
		*after = *before;
		return concurrency_peek(limit, before, request->cost);
	case WEIR_TOKEN_BUCKET:
		break;
	}
	return gcra_spend(limit, before, request->now_ns, request->cost, force, after);
}

static void refund(const struct limit *limit, const struct bucket_state *before,
		   const struct bucket_request *request, struct bucket_state *after)
{
	switch (limit->algorithm) {
	case WEIR_SLIDING_WINDOW:
		sliding_window_refund(limit, before, request->now_ns, request->cost, after);
		return;
	case WEIR_FIXED_WINDOW:
		fixed_window_refund(limit, before, request->now_ns, request->cost, after);
		return;
	case WEIR_CONCURRENCY:
		*after = *before;
		return;
	case WEIR_TOKEN_BUCKET:
		break;
	}
	gcra_refund(limit, before, request->now_ns, request->cost, after);
}

/* The clock is read after the state, whose charges went by earlier readings.  Of
 * callers with clocks of their own it is taken that they have one time, but for
 * claimers, who go by the time of the last bucket that was taken.  For windows a
 * refund will do: one that comes when the next window has begun changes nothing. */
static void undo(const struct limit *limit, const struct bucket_state *before,
		 const struct bucket_request *request, struct bucket_state *after)
{
	if (limit->algorithm == WEIR_TOKEN_BUCKET) {
		uint64_t latest_ns = request->own_clock ?
					     clock_ns(CLOCK_BOOTTIME) :
					     table_time_ns(request->taken_ns, request->now_ns);

		gcra_undo(limit, before, &request->charged, request->cost, latest_ns, after);
	} else {
		refund(limit, before, request, after);
	}
}

/* Full again.  What a token bucket consumed stays known. */
static void reset(const struct limit *limit, const struct bucket_state *before,
		  struct bucket_state *after)
{
	*after = *before;
	if (limit->algorithm == WEIR_CONCURRENCY)
		return;
	after->time_ns = 0;
	if (limit->algorithm != WEIR_TOKEN_BUCKET)
		after->used = 0;
}

/* What a request would be told, with the numbers of the state as it is. */
static struct verdict peek(const struct limit *limit, const struct bucket_state *before,
			   const struct bucket_request *request, struct bucket_state *after)
{
	struct bucket_request look = { .operation = BUCKET_PEEK, .now_ns = request->now_ns };
	struct verdict verdict = spend(limit, before, request, after);
	struct bucket_state unchanged;
	struct verdict state = spend(limit, before, &look, &unchanged);

	verdict.remaining = state.remaining;
	verdict.counted = state.counted;
	verdict.reset_after_ns = state.reset_after_ns;
	return verdict;
}

struct verdict bucket_judge(const struct limit *limit, const struct bucket_state *before,
			    const struct bucket_request *request, struct bucket_state *after)
{
	struct bucket_request look = { .operation = BUCKET_PEEK, .now_ns = request->now_ns };
	struct bucket_state unchanged;

	switch (request->operation) {
	case BUCKET_SPEND:
	case BUCKET_FORCE:
		return spend(limit, before, request, after);
	case BUCKET_PEEK:
	case BUCKET_ASK:
		return peek(limit, before, request, after);
	case BUCKET_REFUND:
		refund(limit, before, request, after);
		break;
	case BUCKET_UNDO:
		undo(limit, before, request, after);
		break;
	case BUCKET_RESET:
		reset(limit, before, after);
		break;
	}
	return spend(limit, after, &look, &unchanged);
}

void bucket_add_remaining(const struct limit *limit, const struct bucket_state *state,
			  const struct bucket_request *request, struct verdict *verdict)
{
	if (!request->detail || limit->algorithm != WEIR_TOKEN_BUCKET)
		return;
	verdict->remaining = gcra_remaining(limit, gcra_phase(limit, state->used),
					    gcra_debt_ns(state, request->now_ns));
}

/* Deny what the limit alone would have allowed. */
static void deny(const struct limit *limit, const struct bucket_request *request,
		 struct verdict *verdict)
{
	verdict->allowed = false;
	/* A token bucket's is added at the end, and a peek's is the state's. */
	if (limit_is_window(limit) && request->operation == BUCKET_SPEND) {
		verdict->remaining += request->cost;
		verdict->counted -= request->cost;
	}
}

/* With a stale view, a host may have its share, whatever the others do. */
static void apply_share(const struct limit *limit, const struct bucket_state *before,
			const struct bucket_request *request, struct verdict *verdict)
{
	struct window_own own = { .tokens = before->used };

	if (limit_is_window(limit))
		own = window_own_at(limit, before, request->now_ns);
	if (own.tokens <= request->share && request->cost <= request->share - own.tokens)
		return;
	verdict->retry_after_ns = own.left_ns;
	deny(limit, request, verdict);
}

struct verdict bucket_judge_absent(const struct limit *limit, const struct bucket_request *request,
				   uint64_t *debt_ns)
{
	struct bucket_state empty = { 0, 0, 0 }, after;
	struct verdict verdict = bucket_judge(limit, &empty, request, &after);

	*debt_ns = after.time_ns > request->now_ns ? after.time_ns - request->now_ns : 0;
	if (limit->algorithm == WEIR_CONCURRENCY)
		*debt_ns = UINT64_MAX;
	if (request->share && verdict.allowed)
		apply_share(limit, &empty, request, &verdict);
	bucket_add_remaining(limit, &empty, request, &verdict);
	return verdict;
}

/* What no view has yet, where MERGED was read before BEFORE's foreign was: a leader
 * that sets both in between makes room for less. */
static uint64_t unmerged_of(const struct bucket_ref *ref, const struct limit *limit,
			    const struct bucket_state *before,
			    const struct bucket_request *request, uint64_t merged)
{
	struct window_own own;

	if (limit->algorithm == WEIR_TOKEN_BUCKET)
		return bucket_unmerged(ref->generation, before->used, merged);
	if (limit->algorithm == WEIR_CONCURRENCY)
		return hold_unmerged(ref->generation, before->used, merged);
	own = window_own_at(limit, before, request->now_ns);
	return window_unmerged(ref->generation, own.index, own.tokens, merged, before->foreign);
}

/* In a mode with a bound, only so much may be admitted beyond the merged view; and in
 * each the leader has to know when others should hear of it. */
static void apply_cap(const struct limit *limit, uint64_t unmerged,
		      const struct bucket_request *request, struct verdict *verdict)
{
	verdict->hurry = request->cost > request->wake ||
			 unmerged > request->wake - request->cost;
	if (request->cap == 0 || unmerged == 0 ||
	    (request->cost <= request->cap && unmerged <= request->cap - request->cost))
		return;
	verdict->capped = true;
	verdict->retry_after_ns = request->merge_ns;
	deny(limit, request, verdict);
}

/* Is the highest bit of what is left lower than it was? */
static bool crosses(uint64_t left, uint64_t cost)
{
	return left == cost || __builtin_clzll(left) != __builtin_clzll(left - cost);
}

/* What a charge in mode strict relied on. */
struct credit_seen {
	uint64_t until_ns;
	uint64_t word;
};

/* In mode strict, only what the cluster has leased to this host may be spent. */
static struct credit_seen apply_credit(const struct bucket_ref *ref,
				       const struct bucket_state *before,
				       const struct bucket_request *request,
				       struct verdict *verdict)
{
	/* In this order: who finds the lease renewed finds no credit of an earlier one. */
	uint64_t until = atomic_load_acquire(request->lease_until_ns);          /* E14 */
	struct credit_seen seen = { until, atomic_load_acquire(&ref->slot->merged) };   /* E8 */
	uint64_t left = bucket_credit(ref->generation, before->used, seen.word);

	if (request->cost <= left) {
		verdict->hurry = crosses(left, request->cost);
		return seen;
	}
	verdict->allowed = false;
	verdict->unleased = true;
	verdict->hurry = true;
	verdict->retry_after_ns = request->merge_ns;
	return seen;
}

/*
 * After the charge: did the credit that was seen cover it?  The process may have been
 * stopped since it looked.  It did if the lease that was seen still runs, and the credit
 * was not lowered.  What the credit is by now proves nothing: a leader that has seen the
 * charge counts it as used, and grants on top of it.
 */
static bool credit_held(const struct bucket_ref *ref, const struct bucket_request *request,
			const struct credit_seen *seen)
{
	uint64_t now = request->own_clock ? clock_ns(CLOCK_BOOTTIME) : request->now_ns;
	uint64_t word = atomic_load_acquire(&ref->slot->merged);                /* E15 */

	return now < seen->until_ns && ((word ^ seen->word) & CREDIT_LOWERED_MASK) == 0 &&
	       ((word ^ seen->word) & GENERATION_MASK) == 0;
}

/* The charge stays, and the answer is no. */
static void refuse(const struct bucket_request *request, struct verdict *verdict)
{
	verdict->allowed = false;
	verdict->unleased = true;
	verdict->retry_after_ns = request->merge_ns;
}

struct verdict bucket_judge_hold(const struct bucket_ref *ref, const struct limit *limit,
				 const struct bucket_request *request, struct word_pair state)
{
	struct bucket_state before = decode(ref, state);
	struct verdict verdict;
	uint64_t merged = 0;

	/* As in bucket_apply(). */
	if (request->queue)
		merged = atomic_load_acquire(&ref->slot->merged);               /* E8 */
	if (request->foreign)
		before.foreign = foreign_of(ref);
	verdict = concurrency_peek(limit, &before, request->cost);
	if (request->share && verdict.allowed)
		apply_share(limit, &before, request, &verdict);
	if (request->queue && verdict.allowed)
		apply_cap(limit, unmerged_of(ref, limit, &before, request, merged), request,
			  &verdict);
	return verdict;
}

/* Let the leader know of a reset: before it happens, so that a process killed in
 * between has asked for one too many rather than for none. */
static void ask_reset(const struct bucket_ref *ref)
{
	/* Relaxed: the bucket's compare-and-swap, behind it, is a full barrier (E11). */
	uint64_t view = atomic_load_relaxed(&ref->slot->view);

	for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
		bool ours = (view & GENERATION_MASK) == ref->generation;
		uint64_t asked = ours ? view >> VIEW_RESETS_SHIFT : 0;
		uint64_t kept = ours ? view >> VIEW_SHIFT << VIEW_SHIFT : 0;

		asked = (asked + 1) & 0xffff;
		if (atomic_cas_relaxed(&ref->slot->view, &view,
				       kept | asked << VIEW_RESETS_SHIFT | ref->generation))
			return;
	}
}

/*
 * The leader tells charges from refunds by the sign of a difference of 44 bits.  What
 * a bucket is charged or given back while nobody merges it counts up to half of that:
 * beyond, 8.8e12 tokens, its time goes on and its count stands still, so that a window
 * is never taken for its opposite.
 */
static void keep_countable(const struct bucket_ref *ref, const struct bucket_state *before,
			   const struct bucket_request *request, struct bucket_state *after)
{
	uint64_t merged = atomic_load_acquire(&ref->slot->merged);              /* E8 */
	uint64_t known = (merged & GENERATION_MASK) == ref->generation ?
				 merged >> STATE_USED_SHIFT : 0;
	int64_t cost = (int64_t)(request->cost < GCRA_COUNT_MOST ? request->cost :
								   GCRA_COUNT_MOST);
	int64_t unmerged = gcra_count(before->used - known);

	if (request->operation == BUCKET_UNDO || request->operation == BUCKET_RESET)
		return;
	if (request->operation == BUCKET_REFUND)
		unmerged -= cost;
	else
		unmerged += cost;
	if (unmerged > (int64_t)GCRA_COUNT_MOST)
		after->used = (known + GCRA_COUNT_MOST) & WEIR_COUNT_MAX;
	else if (unmerged < -(int64_t)GCRA_COUNT_MOST)
		after->used = (known - GCRA_COUNT_MOST) & WEIR_COUNT_MAX;
}

/* Before the charge: see queue.h. */
static void queue_before(const struct bucket_ref *ref, const struct bucket_request *request,
			 uint64_t seen)
{
	if (request->operation == BUCKET_RESET)
		ask_reset(ref);
	if (!is_owner(ref, seen) || !(seen & STATE_QUEUED))
		queue_mark(request->queue, request->slot);
}

/* Make sure that the leader sees the bucket, and what it lacks.  False if the state
 * has changed. */
static bool ask_credit(const struct bucket_ref *ref, const struct bucket_state *before,
		       const struct bucket_request *request, struct word_pair state)
{
	/* Relaxed: a word that is complete in itself. */
	uint64_t word = atomic_load_relaxed(request->lacking);

	if ((word & GENERATION_MASK) != ref->generation ||
	    word >> STATE_USED_SHIFT < request->cost)
		atomic_store_relaxed(request->lacking,
				     request->cost << STATE_USED_SHIFT | ref->generation);
	if (is_owner(ref, state.second) && (state.second & STATE_QUEUED))
		return true;
	queue_before(ref, request, state.second);
	return atomic_cas_pair_full(&ref->slot->state, state,
				    encode(ref, before, state.second, true));   /* E2 */
}

enum bucket_result bucket_apply(const struct bucket_ref *ref, const struct limit *limit,
				const struct bucket_request *request, struct verdict *verdict)
{
	bool asks = request->cost > 0 && (request->operation == BUCKET_SPEND ||
					  request->operation == BUCKET_PEEK);
	bool leased = request->lease_until_ns && request->cost > 0 &&
		      (request->operation == BUCKET_SPEND || request->operation == BUCKET_PEEK ||
		       request->operation == BUCKET_ASK);
	bool capped = asks && request->queue && !leased;

	for (int attempt = 0; attempt < CHANGE_ATTEMPTS; attempt++) {
		struct credit_seen seen = { 0, 0 };
		struct bucket_state before, after;
		struct word_pair state;
		uint64_t merged = 0;

		if (!bucket_read(ref, &state))
			return BUCKET_GONE;
		before = decode(ref, state);
		/* A merge brings the view first, and only then the credit. */
		if (capped)
			merged = atomic_load_acquire(&ref->slot->merged);       /* E8 */
		if (request->foreign)
			before.foreign = foreign_of(ref);
		*verdict = bucket_judge(limit, &before, request, &after);
		if (asks && request->share && verdict->allowed)
			apply_share(limit, &before, request, verdict);
		if (capped && verdict->allowed)
			apply_cap(limit, unmerged_of(ref, limit, &before, request, merged),
				  request, verdict);
		if (leased && verdict->allowed)
			seen = apply_credit(ref, &before, request, verdict);
		/* Also if the view denies: another host may reset the bucket. */
		if (leased && !verdict->allowed && !verdict->never &&
		    request->operation != BUCKET_PEEK) {
			if (!ask_credit(ref, &before, request, state))
				continue;
			bucket_add_remaining(limit, &before, request, verdict);
			return BUCKET_DONE;
		}
		/* Idle, so that no round asks for its view: another host may have reset it.
		 * Or charged before its limit began to sync. */
		if (capped && !verdict->allowed && !verdict->never &&
		    request->operation == BUCKET_SPEND && !(state.second & STATE_QUEUED))
			queue_mark(request->queue, request->slot);
		if (request->operation == BUCKET_PEEK || request->operation == BUCKET_ASK ||
		    (asks && !verdict->allowed) ||
		    (after.time_ns == before.time_ns && after.used == before.used &&
		     !(request->operation == BUCKET_RESET && request->queue))) {
			bucket_add_remaining(limit, &before, request, verdict);
			return BUCKET_DONE;
		}
		if (atomic_load_acquire(request->version) != request->version_seen)     /* E4 */
			return BUCKET_POLICY_CHANGED;
		if (request->queue && limit->algorithm == WEIR_TOKEN_BUCKET)
			keep_countable(ref, &before, request, &after);
		if (request->queue)
			queue_before(ref, request, state.second);
		if (atomic_cas_pair_full(&ref->slot->state, state,
					 encode(ref, &after, state.second,
						request->queue != NULL))) {     /* E2, E15 */
			verdict->after = after;
			/* Relaxed: the leader's next view stands whenever it comes. */
			if (request->operation == BUCKET_RESET && request->foreign)
				atomic_store_relaxed(&ref->slot->foreign, 0);
			if (leased && request->operation == BUCKET_SPEND &&
			    !credit_held(ref, request, &seen))
				refuse(request, verdict);
			bucket_add_remaining(limit, &after, request, verdict);
			return BUCKET_DONE;
		}
	}
	return BUCKET_CONTENDED;
}

bool bucket_begin(const struct bucket_ref *ref, const struct bucket_state *first,
		  const uint64_t *version, uint64_t version_seen)
{
	struct word_pair state;

	if (!bucket_read(ref, &state) || !is_unconfirmed(ref, state.second) ||
	    atomic_load_acquire(version) != version_seen)                   /* E4 */
		return false;
	return atomic_cas_pair_full(&ref->slot->state, state,
				    encode(ref, first, state.second, false));   /* E2 */
}
