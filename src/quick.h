/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quick.h - the decision that nearly all decisions are: one token bucket, live.
 *
 * What.  The same steps as plan.c's, inlined, for a policy with one token-bucket
 * limit that is not in shadow and a key whose bucket exists.  Whatever else comes
 * up (no bucket, a slot that changes hands, policies that change, contention) is
 * left to plan.c, before anything was stored.  It exists because half of the time
 * of the general way is moving structs that this case does not need: see
 * perf/README.md.
 *
 * Ordering.  As in bucket.c: E1, E2, E4, E6.
 */
#ifndef WEIR_QUICK_H
#define WEIR_QUICK_H

#include "shm/bucket.h"
#include "shm/gcra.h"
#include "shm/policy_table.h"
#include "shm/segment.h"

#define QUICK_ATTEMPTS 8

struct quick {
	uint64_t version;
	uint32_t policy_index;
	struct limit limit;
	struct fingerprint fingerprint;
};

enum quick_result {
	QUICK_ALLOWED,
	QUICK_DENIED,
	QUICK_NOT, /* not this case: nothing was stored */
};

/* Read the policy, fingerprint the key, and start loading the slot.  False if it
 * is not this case. */
static inline bool quick_prepare(struct quick *quick, const struct segment *segment,
				 const struct weir_request *request)
{
	struct policy_head head;

	if (!request->key || request->key_length - 1 >= WEIR_KEY_MAX ||
	    request->cost == 0 || request->now_ns >= TIME_MAX_NS)
		return false;
	quick->version = policy_version(segment);
	if (!policy_head(segment, quick->version, request->policy, &head) ||
	    head.limit_count != 1 || head.shadow || policy_syncs(segment, &head))
		return false;
	quick->policy_index = head.index;
	policy_limit(segment, quick->version, head.index, 0, &quick->limit);
	if (quick->limit.algorithm != WEIR_TOKEN_BUCKET)
		return false;
	quick->fingerprint =
		hash_fingerprint(&segment->hash, quick->limit.key[0], quick->limit.key[1],
				 request->key, request->key_length);
	/* Before the clock is read: that read waits for what came before it, and
	 * hides part of the miss. */
	table_prefetch(&segment->table, quick->fingerprint);
	return true;
}

/* Spend, or find out why not.  *STATE is the bucket afterwards, REF its slot. */
static inline enum quick_result quick_spend(const struct quick *quick,
					    const struct segment *segment, uint64_t now_ns,
					    uint64_t cost, struct bucket_ref *ref,
					    struct bucket_state *state, struct verdict *verdict)
{
	if (!table_find(&segment->table, quick->fingerprint, ref))
		return QUICK_NOT;
	for (int attempt = 0; attempt < QUICK_ATTEMPTS; attempt++) {
		struct slot *slot = ref->slot;
		struct bucket_state before;
		struct word_pair seen, after;

		seen.second = atomic_load_acquire(&slot->state.second); /* E2 */
		seen.first = atomic_load_acquire(&slot->state.first);	/* E2 */
		if ((seen.second & (GENERATION_MASK | STATE_LIVE)) !=
		    (ref->generation | STATE_LIVE))
			return QUICK_NOT;
		before = (struct bucket_state){ seen.first, state_used(seen) };
		*verdict = gcra_spend(&quick->limit, &before, now_ns, cost, false, state);
		if (!verdict->allowed) {
			/* Did the two words stand there together?  See bucket.c. */
			if (atomic_load_acquire(&slot->state.second) != seen.second) /* E2 */
				continue;
			/* And the limit's? */
			return policy_version(segment) == quick->version ? QUICK_DENIED : /* E4 */
									   QUICK_NOT;
		}
		if (policy_version(segment) != quick->version) /* E4 */
			return QUICK_NOT;
		after.first = state->time_ns;
		after.second = state->used << STATE_USED_SHIFT | STATE_LIVE |
			       (seen.second & (STATE_EPOCH_MASK | STATE_QUEUED)) | ref->generation;
		if (atomic_cas_pair_full(&slot->state, seen, after)) /* E2 */
			return QUICK_ALLOWED;
	}
	return QUICK_NOT;
}

#endif
