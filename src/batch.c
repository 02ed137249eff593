/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.c - many decisions in one call.
 *
 * What.  The answers that a call each would give, in the same order.  Most of what a
 * decision costs is waiting for memory; here the slots of several keys are loaded at once,
 * and only then is the first one decided.
 */
#include "weir.h"

#include "shm/clock.h"
#include "shm/counter.h"
#include "shm/note.h"
#include "src/decide.h"
#include "src/handle.h"
#include "src/plain.h"
#include "src/purse.h"
#include "src/quick.h"
#include "src/quick_compact.h"
#include "src/store.h"

#define BATCH 16                /* requests whose misses overlap */

/* Start loading where else in its window a bucket most likely is, if it is not in its first
 * slot: the misses of all keys of a batch that are not overlap, too. */
QUICK_INLINE void look_elsewhere(const struct quick *quick, const struct segment *segment)
{
	static const unsigned char likely[] = { 1, 2, GROUP_SLOTS, GROUP_SLOTS + 1 };
	uint64_t generation;

	if (quick_is_there(quick, &generation))
		return;
	for (size_t i = 0; i < sizeof(likely); i++)
		prefetch_line(table_slot(&segment->table, quick->fingerprint, likely[i]));
}

/* quick_spend(), as short as plain.h has it: one token of a plain limit whose bucket is
 * there.  QUICK_NOT, and nothing stored, if it is not so. */
QUICK_INLINE enum quick_result spend_plain(const struct quick *quick,
					   const struct segment *segment,
					   const struct weir_request *request, uint64_t now_ns,
					   struct weir_decision *decision)
{
	const struct plain_policy known = {
		.version = quick->version,
		.token_ns = policy_word(&quick->limit->token_ns),
		.tolerance_ns = policy_word(&quick->limit->tolerance_ns),
	};
	struct bucket_ref ref = { .slot = quick->slot };
	enum quick_result result;
	uint64_t debt_ns;

	if (request->cost != 1 || quick->shard ||
	    policy_word(&quick->limit->plain_id) != request->policy)
		return QUICK_NOT;
	if (!quick_is_there(quick, &ref.generation) &&
	    !quick_find(segment, quick->fingerprint, &ref))
		return QUICK_NOT;
	decision->limit = policy_word(&quick->limit->burst);
	result = plain_attempt(ref.slot, &ref.generation, &segment->header->policy.version, &known,
			       now_ns, &debt_ns);
	if (result != QUICK_ALLOWED && result != QUICK_DENIED)
		return QUICK_NOT;
	plain_describe(decision, known.token_ns, known.tolerance_ns, result == QUICK_ALLOWED,
		       debt_ns);
	if (result == QUICK_ALLOWED) {
		counter_add(segment, quick->policy_index, COUNTER_ALLOWED, 1);
		return result;
	}
	counter_add(segment, quick->policy_index, COUNTER_DENIED, 1);
	note_denial(segment, ref.slot, ref.generation);
	return result;
}

/* Prepare all of them, so that their misses overlap, then decide. */
HASH_TARGET static size_t decide_some(const struct segment *segment,
				      const struct weir_request *requests,
				      struct weir_decision *decisions, size_t count,
				      uint64_t now_ns)
{
	struct quick quick[BATCH];
	bool is_quick[BATCH];
	size_t passed = 0;

	for (size_t i = 0; i < count; i++) {
		const struct weir_request *request = &requests[i];

		is_quick[i] = decide_may_be_quick(segment, request->cost, request->now_ns) &&
			      quick_prepare(&quick[i], segment, request->policy, request->key,
					    request->key_length);
	}
	/* With nothing in between: the processor does not go far behind one whose address it
	 * has to translate. */
	for (size_t i = 0; i < count; i++) {
		if (is_quick[i])
			prefetch_line(quick[i].slot);
	}
	for (size_t i = 0; i < count; i++) {
		if (is_quick[i])
			look_elsewhere(&quick[i], segment);
	}
	for (size_t i = 0; i < count; i++) {
		const struct weir_request *request = &requests[i];
		enum quick_result result = QUICK_NOT;
		uint64_t at_ns = request->now_ns ? request->now_ns : now_ns;

		if (is_quick[i])
			result = spend_plain(&quick[i], segment, request, at_ns, &decisions[i]);
		if (is_quick[i] && result == QUICK_NOT)
			result = quick_spend(&quick[i], segment, at_ns, request->cost,
					     &decisions[i]);
		else if (!is_quick[i] && request->now_ns == 0 && request->cost != 0)
			result = purse_decide(segment, request->policy, request->key,
					      request->key_length, request->cost, &decisions[i]);
		if (result == QUICK_NOT)
			passed += decide_spend(segment, request, now_ns, &decisions[i]);
		else
			passed += result == QUICK_ALLOWED;
	}
	return passed;
}

/* The same in a compact segment. */
HASH_TARGET static size_t decide_some_compact(const struct segment *segment,
					      const struct weir_request *requests,
					      struct weir_decision *decisions, size_t count,
					      uint64_t now_ns)
{
	struct compact_quick quick[BATCH];
	bool is_quick[BATCH];
	size_t passed = 0;

	for (size_t i = 0; i < count; i++) {
		const struct weir_request *request = &requests[i];

		is_quick[i] = decide_may_be_quick(segment, request->cost, request->now_ns) &&
			      compact_quick_prepare(&quick[i], segment, request->policy,
						    request->key, request->key_length);
	}
	for (size_t i = 0; i < count; i++) {
		if (is_quick[i])
			prefetch_line(quick[i].line);
	}
	for (size_t i = 0; i < count; i++) {
		const struct weir_request *request = &requests[i];
		enum quick_result result = QUICK_NOT;

		if (is_quick[i])
			result = compact_quick_spend(&quick[i], segment,
						     request->now_ns ? request->now_ns : now_ns,
						     request->cost, &decisions[i]);
		if (result == QUICK_NOT)
			passed += decide_spend(segment, request, now_ns, &decisions[i]);
		else
			passed += result == QUICK_ALLOWED;
	}
	return passed;
}

size_t weir_decide_batch(struct weir *weir, const struct weir_request *requests,
			 struct weir_decision *decisions, size_t count)
{
	const struct segment *segment = handle_enter(weir);
	uint64_t now_ns = segment ? clock_now_ns(segment) : 0;
	size_t passed = 0;

	for (size_t done = 0; done < count; done += BATCH) {
		size_t some = count - done < BATCH ? count - done : BATCH;

		if (segment)
			passed += (store_is_compact(segment) ? decide_some_compact : decide_some)(
				segment, requests + done, decisions + done, some, now_ns);
		for (size_t i = 0; !segment && i < some; i++)
			decide_spend(NULL, &requests[done + i], 0, &decisions[done + i]);
	}
	handle_leave();
	return passed;
}
