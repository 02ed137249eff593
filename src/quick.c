/* SPDX-License-Identifier: Apache-2.0 */
/* quick.c - what only some of the quick decisions need: see quick.h. */
#include "src/quick.h"

bool quick_find(const struct segment *segment, struct fingerprint fingerprint,
		struct bucket_ref *ref)
{
	return table_find(&segment->table, fingerprint, ref);
}

bool quick_judge(const struct limit_record *record, uint64_t now_ns, uint64_t cost,
		 uint64_t *time_ns, struct quick_outcome *outcome)
{
	struct bucket_state before = { *time_ns, outcome->used }, after;
	struct verdict verdict;
	struct limit limit;

	policy_limit_read(record, &limit);
	verdict = gcra_spend(&limit, &before, now_ns, cost, false, &after);
	*time_ns = after.time_ns;
	outcome->used = after.used;
	outcome->debt_ns = verdict.reset_after_ns;
	outcome->retry_after_ns = verdict.retry_after_ns;
	outcome->never = verdict.never;
	return verdict.allowed;
}

HASH_TARGET enum quick_result quick_retry(const struct quick *quick, const struct segment *segment,
					  uint64_t now_ns, uint64_t cost,
					  struct quick_outcome *outcome)
{
	for (int attempt = 0; attempt < QUICK_ATTEMPTS; attempt++) {
		enum quick_result result = quick_attempt(quick, segment, now_ns, cost, outcome);

		if (result != QUICK_AGAIN)
			return result;
	}
	return QUICK_NOT;
}

void quick_read_limit(const struct limit_record *record, struct limit *limit)
{
	policy_limit_read(record, limit);
}

void quick_describe(const struct limit *limit, const struct quick_outcome *outcome,
		    enum quick_result result, struct weir_decision *decision)
{
	bool allowed = result == QUICK_ALLOWED;

	decision->outcome = allowed ? WEIR_ALLOWED : WEIR_DENIED;
	decision->reason = outcome->never ? WEIR_REASON_COST :
			   outcome->stale ? WEIR_REASON_STALE :
					    WEIR_REASON_LIMIT;
	decision->limit_index = 0;
	decision->flagged = false;
	decision->limit = limit->burst;
	decision->remaining = gcra_remaining(limit, gcra_phase(limit, outcome->used),
					     outcome->debt_ns);
	decision->counted = 0;
	decision->retry_after_ns = outcome->retry_after_ns;
	decision->reset_after_ns = outcome->debt_ns;
}
