/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quick.h - the decision that nearly all decisions are: one token bucket, live.
 *
 * What.  The same steps as plan.c's, inlined, for a policy with one token-bucket
 * limit that is not in shadow and a key whose bucket exists; if it syncs, with a bucket
 * that the leader is to visit anyway.  A view that is stale is no reason to take longer:
 * what the fail mode says then is in quick_stale.c.  Whatever else comes up (no bucket,
 * a slot that changes hands, policies that change, contention) is left to plan.c, before
 * anything was stored.  It exists because most of the time of the general way is moving
 * structs that this case does not need: see perf/README.md.  For the same reason, what
 * only some decisions need (a slot that is not where it most likely is, a denial, an
 * answer in numbers) is in quick.c, and the rest keeps to registers.
 *
 * Ordering.  As in plan.c and bucket.c: E1, E2, E4, E6, E8, E9.
 */
#ifndef WEIR_QUICK_H
#define WEIR_QUICK_H

#include "shm/clock.h"
#include "shm/counter.h"
#include "shm/gcra.h"
#include "shm/hash_inline.h"
#include "shm/note.h"
#include "shm/policy_table.h"
#include "shm/table.h"

#define QUICK_ATTEMPTS 8
#define QUICK_INLINE HASH_TARGET static inline __attribute__((always_inline))

struct quick {
	uint64_t version;
	uint32_t policy_index;
	const struct limit_record *limit;       /* in the bank of VERSION */
	struct fingerprint fingerprint;
	struct slot *slot;                      /* where the bucket most likely is */
	const struct shard_record *shard;       /* NULL: the policy does not sync */
	uint64_t most;                          /* tokens that may be unmerged, by the cap */
	uint64_t wake;                          /* and if more are, the leader hurries */
	uint64_t owner;                         /* the slot's, but for its generation */
};

enum quick_result {
	QUICK_ALLOWED,
	QUICK_DENIED,
	QUICK_UNAVAILABLE,                      /* the view is stale, and the fail mode closed */
	QUICK_NOT,                              /* not this case: nothing was stored */
	QUICK_AGAIN,                            /* the bucket changed meanwhile */
};

/* What a decision was made of: for its numbers. */
struct quick_outcome {
	struct bucket_ref ref;
	uint64_t used;                          /* afterwards */
	uint64_t debt_ns;                       /* afterwards */
	uint64_t retry_after_ns;
	bool never;
	bool stale;                             /* the view is: the decision's reason */
	bool hurry;                             /* the leader has something to do: wake it */
};

/* The live bucket of FINGERPRINT, where it is not in its first place. */
bool quick_find(const struct segment *segment, struct fingerprint fingerprint,
		struct bucket_ref *ref);

/* gcra_spend(), for any cost and any limit; true if *TIME_NS and OUTCOME are to be
 * published. */
bool quick_judge(const struct limit_record *record, uint64_t now_ns, uint64_t cost,
		 uint64_t *time_ns, struct quick_outcome *outcome);

/* quick_attempt() until it has an answer, for a bounded time. */
enum quick_result quick_retry(const struct quick *quick, const struct segment *segment,
			      uint64_t now_ns, uint64_t cost, struct quick_outcome *outcome);

/* Fill in *DECISION, whose LIMIT was read before the bucket was judged by it. */
void quick_describe(const struct limit *limit, const struct quick_outcome *outcome,
		    enum quick_result result, struct weir_decision *decision);

/* All of a limit's words, for its numbers. */
void quick_read_limit(const struct limit_record *record, struct limit *limit);

/* As quick_spend(), where the view is stale: as the fail mode says. */
enum quick_result quick_spend_stale(struct quick *quick, const struct segment *segment,
				    uint64_t now_ns, uint64_t cost,
				    struct weir_decision *decision);

/* What a policy that syncs needs besides; false where quick_attempt() is no help. */
static inline bool quick_prepare_sync(struct quick *quick, const struct segment *segment,
				      enum weir_consistency consistency, uint64_t serial)
{
	const struct bucket_ref nobody = { 0 };
	uint64_t cap = 0;

	quick->shard = &segment->shards[slot_shard(quick->fingerprint.low)];
	quick->owner = table_owner_word(&nobody, quick->policy_index, serial, 0, true);
	/* Relaxed: one number, good by itself.  0: the leader has yet to set it. */
	if (consistency == WEIR_BOUNDED)
		cap = atomic_load_relaxed(&segment->switches[quick->policy_index].cap[0]);
	/* As view_wake() and view_cap(). */
	quick->wake = segment_wake(policy_word(&quick->limit->burst), cap,
				   segment_hosts(segment, quick->shard));
	quick->most = consistency == WEIR_BOUNDED ? cap : GCRA_COUNT_MOST;
	if (quick->most > GCRA_COUNT_MOST)
		quick->most = GCRA_COUNT_MOST;
	/* By a lease if there is one. */
	return consistency != WEIR_STRICT;
}

/* Is the view that the decision needs too old? */
static inline bool quick_is_stale(const struct quick *quick, uint64_t now_ns)
{
	/* The leader merges a round before it says that the view is fresh. */
	return quick->shard &&
	       atomic_load_acquire(&quick->shard->fresh_until_ns) < now_ns;     /* E9 */
}

/* May a bucket that syncs be charged with no more ado?  The leader knows whose it is and
 * that it has to visit it, and after the charge no more is unmerged than may be. */
static inline bool quick_may_sync(const struct quick *quick, struct quick_outcome *outcome,
				  uint64_t state_second, uint64_t cost)
{
	const struct slot *slot = outcome->ref.slot;
	uint64_t merged = atomic_load_acquire(&slot->merged);           /* E8 */
	/* As bucket_unmerged(), but that refunds which outweigh them are left to plan.c. */
	uint64_t known = (merged & GENERATION_MASK) == outcome->ref.generation ?
				 merged >> STATE_USED_SHIFT : 0;
	uint64_t unmerged = (outcome->used - known) & WEIR_COUNT_MAX;

	outcome->hurry = cost > quick->wake || unmerged > quick->wake - cost;
	return (state_second & STATE_QUEUED) &&
	       /* Relaxed: complete in itself, with its generation. */
	       atomic_load_relaxed(&slot->owner) == (quick->owner | outcome->ref.generation) &&
	       cost <= quick->most && unmerged <= quick->most - cost;
}

/* Find the policy, and where the key's slot most likely is, which the caller loads ahead:
 * before the clock is read, since that may wait for what came before it, and hides part of
 * the miss.  False if it is not this case. */
QUICK_INLINE bool quick_prepare(struct quick *quick, const struct segment *segment,
				weir_policy_id policy, const void *key, size_t key_length)
{
	uint32_t index = policy_index(policy);
	const struct policy_record *record;
	uint64_t version, flags;

	if (!key || key_length - 1 >= WEIR_KEY_MAX || index >= segment->policies)
		return false;
	version = policy_version(segment);
	record = (version & 1 ? segment->banks[1] : segment->banks[0]) + index;
	flags = policy_word(&record->flags);
	/* An id of serial 0 is none, and no record that has this flag has it. */
	if (!(flags & POLICY_SIMPLE) || policy_word(&record->serial) != policy >> 12)
		return false;
	quick->version = version;
	quick->policy_index = index;
	quick->limit = &record->limits[0];
	quick->fingerprint = hash_fingerprint_inline(
		&segment->hash, policy_word(&quick->limit->key[0]),
		policy_word(&quick->limit->key[1]), key, key_length);
	quick->slot = table_slot(&segment->table, quick->fingerprint, 0);
	quick->shard = NULL;
	if (policy_flags_sync(segment, flags) &&
	    !quick_prepare_sync(quick, segment, policy_flags_consistency(flags), policy >> 12))
		return false;
	return true;
}

/* The generation of the bucket in quick->slot, if that is the key's. */
QUICK_INLINE bool quick_is_there(const struct quick *quick, uint64_t *generation)
{
	uint64_t low = atomic_load_acquire(&quick->slot->identity.first);        /* E1 */
	uint64_t high = atomic_load_acquire(&quick->slot->identity.second);      /* E1 */

	*generation = high & GENERATION_MASK;
	return low == quick->fingerprint.low &&
	       ((high ^ quick->fingerprint.high) & ~GENERATION_MASK) == 0;
}

/* Judge, and spend if that is allowed, in one compare-and-swap.  OUTCOME has the slot
 * and its generation. */
QUICK_INLINE enum quick_result quick_attempt(const struct quick *quick,
					     const struct segment *segment, uint64_t now_ns,
					     uint64_t cost, struct quick_outcome *outcome)
{
	const struct limit_record *limit = quick->limit;
	struct slot *slot = outcome->ref.slot;
	struct word_pair seen, after;
	bool allowed;

	seen.second = atomic_load_acquire(&slot->state.second);         /* E2 */
	seen.first = atomic_load_acquire(&slot->state.first);           /* E2 */
	if ((seen.second & (GENERATION_MASK | STATE_LIVE)) !=
	    (outcome->ref.generation | STATE_LIVE))
		return QUICK_NOT;
	outcome->used = state_used(seen);
	if (quick->shard && !quick_may_sync(quick, outcome, seen.second, cost))
		return QUICK_NOT;
	if (__builtin_expect(cost == 1 && policy_word(&limit->token_part) == 0, 1)) {
		/* gcra_spend() of one token of a whole number of nanoseconds. */
		struct bucket_state before = { seen.first, outcome->used };
		uint64_t tolerance = policy_word(&limit->tolerance_ns);
		uint64_t debt = gcra_debt_ns(&before, now_ns);

		allowed = debt <= tolerance;
		outcome->never = false;
		outcome->retry_after_ns = allowed ? 0 : debt - tolerance;
		outcome->used += allowed;
		outcome->debt_ns = debt + (allowed ? policy_word(&limit->token_ns) : 0);
		after.first = now_ns + outcome->debt_ns;
	} else {
		struct quick_outcome judged = *outcome;

		after.first = seen.first;
		allowed = quick_judge(limit, now_ns, cost, &after.first, &judged);
		*outcome = judged;
	}
	/* Was it the limit that is in force? */
	if (policy_version(segment) != quick->version)                  /* E4 */
		return QUICK_NOT;
	if (!allowed)
		/* Did the two words stand there together?  See bucket.c. */
		return atomic_load_acquire(&slot->state.second) == seen.second ? /* E2 */
			       QUICK_DENIED : QUICK_AGAIN;
	after.second = outcome->used << STATE_USED_SHIFT |
		       (seen.second & ((1ull << STATE_USED_SHIFT) - 1));
	return atomic_cas_pair_full(&slot->state, seen, after) ?        /* E2 */
		       QUICK_ALLOWED : QUICK_AGAIN;
}

/* Spend COST tokens (at least one), count that, and say so in *DECISION, which may be
 * NULL.  STALE: the view is, and the bucket decides all the same. */
QUICK_INLINE enum quick_result quick_spend_as(const struct quick *quick,
					      const struct segment *segment, uint64_t now_ns,
					      uint64_t cost, struct weir_decision *decision,
					      bool stale)
{
	struct quick_outcome outcome = { .ref.slot = quick->slot, .stale = stale };
	enum quick_result result;
	struct limit limit;

	/* The version that is read after it tells that it was whole. */
	if (decision)
		quick_read_limit(quick->limit, &limit);
	if (!quick_is_there(quick, &outcome.ref.generation)) {
		struct bucket_ref ref;

		if (!quick_find(segment, quick->fingerprint, &ref))
			return QUICK_NOT;
		outcome.ref = ref;
	}
	result = quick_attempt(quick, segment, now_ns, cost, &outcome);
	if (__builtin_expect(result == QUICK_AGAIN, 0)) {
		struct quick_outcome retried = outcome;

		result = quick_retry(quick, segment, now_ns, cost, &retried);
		outcome = retried;
	}
	if (result == QUICK_ALLOWED) {
		if (__builtin_expect(outcome.hurry, 0))
			queue_ring(segment->header);
		counter_add(segment, quick->policy_index, COUNTER_ALLOWED, 1);
		if (cost != 1)
			counter_add(segment, quick->policy_index, COUNTER_EXTRA_TOKENS, cost - 1);
	} else if (result == QUICK_DENIED) {
		counter_add(segment, quick->policy_index, COUNTER_DENIED, 1);
		note_denial(segment, outcome.ref.slot, outcome.ref.generation);
	} else {
		return QUICK_NOT;
	}
	if (stale)
		counter_add_global(segment, COUNTER_STALE_OPEN, 1);
	if (decision) {
		struct quick_outcome described = outcome;

		quick_describe(&limit, &described, result, decision);
	}
	return result;
}

/* The same, whatever the view is. */
QUICK_INLINE enum quick_result quick_spend(struct quick *quick, const struct segment *segment,
					   uint64_t now_ns, uint64_t cost,
					   struct weir_decision *decision)
{
	if (quick_is_stale(quick, now_ns))
		return quick_spend_stale(quick, segment, now_ns, cost, decision);
	return quick_spend_as(quick, segment, now_ns, cost, decision, false);
}

#endif
