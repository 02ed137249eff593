/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quick_stale.c - the quick decision while the view is stale: see view.c for the table.
 *
 * What.  The same answers, reasons and counters as by plan.c, and as quick as while Redis
 * answers: when it does not, all decisions come this way.
 */
#include "src/quick.h"

#include <string.h>

#include "src/share.h"

/* Count what the share or the bucket has decided, and say so. */
static void conclude_share(const struct quick *quick, const struct segment *segment,
			   uint64_t cost, enum quick_result result, const struct limit *limit,
			   const struct quick_outcome *outcome, struct weir_decision *decision)
{
	counter_add_global(segment, COUNTER_STALE_SHARE, 1);
	if (result == QUICK_ALLOWED) {
		counter_add(segment, quick->policy_index, COUNTER_ALLOWED, 1);
		if (cost != 1)
			counter_add(segment, quick->policy_index, COUNTER_EXTRA_TOKENS, cost - 1);
	} else {
		counter_add(segment, quick->policy_index, COUNTER_DENIED, 1);
		note_denial(segment, outcome->ref.slot, outcome->ref.generation);
	}
	if (decision)
		quick_describe(limit, outcome, result, decision);
}

/* This host's share decides first, then the bucket. */
static enum quick_result spend_share(const struct quick *quick, const struct segment *segment,
				     uint64_t now_ns, uint64_t cost,
				     struct weir_decision *decision)
{
	struct quick_outcome outcome = { .stale = true };
	enum quick_result result;
	struct limit limit;
	struct share share;

	policy_limit_read(quick->limit, &limit);
	if (!quick_find(segment, quick->fingerprint, &outcome.ref))
		return QUICK_NOT;
	share = (struct share){
		.limit = &limit,
		.hosts = segment_hosts(segment, quick->shard),
		.slot = outcome.ref.slot,
		.cost = cost,
		.now_ns = now_ns,
	};
	/* Was it the limit that is in force? */
	if (policy_version(segment) != quick->version)
		return QUICK_NOT;
	if (!share_take(&share, true, &outcome.retry_after_ns)) {
		conclude_share(quick, segment, cost, QUICK_DENIED, &limit, &outcome, decision);
		/* The bucket was not asked. */
		if (decision)
			decision->remaining = 0;
		return QUICK_DENIED;
	}
	result = quick_retry(quick, segment, now_ns, cost, &outcome);
	if (result != QUICK_ALLOWED)
		share_return(&share);
	if (result != QUICK_NOT)
		conclude_share(quick, segment, cost, result, &limit, &outcome, decision);
	return result;
}

/* Fail mode closed. */
static enum quick_result refuse(const struct quick *quick, const struct segment *segment,
				struct weir_decision *decision)
{
	if (policy_version(segment) != quick->version)
		return QUICK_NOT;
	counter_add_global(segment, COUNTER_STALE_CLOSED, 1);
	counter_add(segment, quick->policy_index, COUNTER_UNAVAILABLE, 1);
	if (decision) {
		memset(decision, 0, sizeof(*decision));
		decision->outcome = WEIR_UNAVAILABLE;
		decision->reason = WEIR_REASON_STALE;
	}
	return QUICK_UNAVAILABLE;
}

static enum weir_fail_mode fail_mode(const struct quick *quick, const struct segment *segment)
{
	const struct policy_record *record =
		policy_record_at(segment, quick->version, quick->policy_index);

	return policy_fail_mode(segment, quick->policy_index, policy_word(&record->serial),
				policy_word(&record->flags));
}

HASH_TARGET enum quick_result quick_spend_stale(struct quick *quick, const struct segment *segment,
						uint64_t now_ns, uint64_t cost,
						struct weir_decision *decision)
{
	/* No cap is in force, and nothing to hurry for: but the leader still has to tell
	 * charges from refunds (bucket.c, keep_countable()). */
	quick->most = GCRA_COUNT_MOST;
	quick->wake = GCRA_COUNT_MOST;
	switch (fail_mode(quick, segment)) {
	case WEIR_FAIL_CLOSED:
		return refuse(quick, segment, decision);
	case WEIR_FAIL_SHARE:
		return spend_share(quick, segment, now_ns, cost, decision);
	case WEIR_FAIL_OPEN:
		break;
	}
	return quick_spend_as(quick, segment, now_ns, cost, decision, true);
}
