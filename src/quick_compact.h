/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quick_compact.h - what quick.h does, in a compact segment.
 *
 * What.  The same steps for a policy with one token bucket that is not in shadow and a
 * key that has a bucket.  Whatever else comes up is left to plan.c, before anything was
 * stored.  Policies of compact segments have a flag of their own, so that the quick way
 * of other segments asks nothing about these.
 *
 * Ordering.  As in plan.c and compact.c: E4, E6, E16.
 */
#ifndef WEIR_QUICK_COMPACT_H
#define WEIR_QUICK_COMPACT_H

#include "src/quick.h"

struct compact_quick {
	uint64_t version;
	uint32_t policy_index;
	const struct limit_record *limit;       /* in the bank of VERSION */
	struct fingerprint fingerprint;
	uint64_t name;
	struct compact_slot *line;              /* where the bucket most likely is */
};

/* compact_quick_attempt() until it has an answer, for a bounded time. */
enum quick_result compact_quick_retry(const struct compact_quick *quick,
				      const struct segment *segment, struct compact_slot *slot,
				      uint64_t now_ns, uint64_t cost, struct quick_outcome *outcome);

/* The slot of the key's bucket, if it is not in its first line; or NULL. */
struct compact_slot *compact_quick_find(const struct compact_quick *quick,
					const struct segment *segment);

/* As quick_prepare(). */
QUICK_INLINE bool compact_quick_prepare(struct compact_quick *quick, const struct segment *segment,
					weir_policy_id policy, const void *key, size_t key_length)
{
	uint32_t index = policy_index(policy);
	const struct policy_record *record;

	if (!key || key_length - 1 >= WEIR_KEY_MAX || index >= segment->policies)
		return false;
	quick->version = policy_version(segment);
	record = policy_record_at(segment, quick->version, index);
	if (!(policy_word(&record->flags) & POLICY_COMPACT) ||
	    policy_word(&record->serial) != policy >> 12)
		return false;
	quick->policy_index = index;
	quick->limit = &record->limits[0];
	quick->fingerprint = hash_fingerprint_inline(
		&segment->hash, policy_word(&quick->limit->key[0]),
		policy_word(&quick->limit->key[1]), key, key_length);
	quick->line = compact_first_line(&segment->compact, quick->fingerprint);
	quick->name = compact_name(&segment->compact, quick->fingerprint);
	return true;
}

/* Judge, and spend if that is allowed, in one compare-and-swap. */
QUICK_INLINE enum quick_result
compact_quick_attempt(const struct compact_quick *quick, const struct segment *segment,
		      struct compact_slot *slot, uint64_t now_ns, uint64_t cost,
		      struct quick_outcome *outcome)
{
	const struct limit_record *limit = quick->limit;
	struct word_pair seen, after;
	bool allowed;

	seen.first = atomic_load_acquire(&slot->word.first);    /* E16 */
	seen.second = atomic_load_acquire(&slot->word.second);  /* E16 */
	if ((seen.first & ~COMPACT_COUNT_MASK) != quick->name || (seen.second & COMPACT_TENTATIVE))
		return QUICK_NOT;
	outcome->used = seen.first & COMPACT_COUNT_MASK;
	if (__builtin_expect(cost == 1 && policy_word(&limit->token_part) == 0, 1)) {
		/* gcra_spend() of one token of a whole number of nanoseconds. */
		struct bucket_state before = { seen.second, outcome->used };
		uint64_t tolerance = policy_word(&limit->tolerance_ns);
		uint64_t debt = gcra_debt_ns(&before, now_ns);

		allowed = debt <= tolerance;
		outcome->never = false;
		outcome->retry_after_ns = allowed ? 0 : debt - tolerance;
		outcome->used += allowed;
		outcome->debt_ns = debt + (allowed ? policy_word(&limit->token_ns) : 0);
		after.first = quick->name | (outcome->used & COMPACT_COUNT_MASK);
		after.second = now_ns + outcome->debt_ns;
	} else {
		after.second = seen.second;
		allowed = quick_judge(limit, now_ns, cost, &after.second, outcome);
		after.first = quick->name |
			      compact_count(policy_word(&limit->parts), outcome->used);
	}
	/* Was it the limit that is in force? */
	if (policy_version(segment) != quick->version)          /* E4 */
		return QUICK_NOT;
	if (!allowed)
		/* Did the two words stand there together?  See compact.c. */
		return atomic_load_acquire(&slot->word.first) == seen.first ?   /* E16 */
			       QUICK_DENIED : QUICK_AGAIN;
	return atomic_cas_pair_full(&slot->word, seen, after) ?         /* E16 */
		       QUICK_ALLOWED : QUICK_AGAIN;
}

/* Spend COST tokens (at least one), count that, and say so in *DECISION, which may be
 * NULL. */
QUICK_INLINE enum quick_result compact_quick_spend(const struct compact_quick *quick,
						   const struct segment *segment, uint64_t now_ns,
						   uint64_t cost, struct weir_decision *decision)
{
	struct compact_slot *slot = compact_find_in(quick->line, quick->name);
	struct quick_outcome outcome = { .used = 0 };
	enum quick_result result;
	struct limit limit;

	/* The version that is read after it tells that it was whole. */
	if (decision)
		quick_read_limit(quick->limit, &limit);
	if (!slot)
		slot = compact_quick_find(quick, segment);
	if (!slot)
		return QUICK_NOT;
	result = compact_quick_attempt(quick, segment, slot, now_ns, cost, &outcome);
	if (__builtin_expect(result == QUICK_AGAIN, 0))
		result = compact_quick_retry(quick, segment, slot, now_ns, cost, &outcome);
	if (result == QUICK_NOT)
		return QUICK_NOT;
	counter_add(segment, quick->policy_index,
		    result == QUICK_ALLOWED ? COUNTER_ALLOWED : COUNTER_DENIED, 1);
	if (result == QUICK_ALLOWED && cost != 1)
		counter_add(segment, quick->policy_index, COUNTER_EXTRA_TOKENS, cost - 1);
	if (decision)
		quick_describe(&limit, &outcome, result, decision);
	return result;
}

#endif
