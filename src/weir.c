/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weir.c - the decisions: arguments, clock, counters, fail mode.
 */
#include "weir.h"

#include <string.h>

#include "shm/clock.h"
#include "shm/counter.h"
#include "shm/error.h"
#include "shm/hold.h"
#include "shm/note.h"
#include "src/decide.h"
#include "src/handle.h"
#include "src/plain.h"
#include "src/plan.h"
#include "src/purse.h"
#include "src/quick.h"
#include "src/quick_compact.h"
#include "src/store.h"
#include "src/view.h"

#define AGAIN_ATTEMPTS 16       /* policy changes that one decision follows */

enum weir_operation {
	OPERATION_SPEND,
	OPERATION_FORCE,
	OPERATION_PEEK,
	OPERATION_ACQUIRE,
	OPERATION_REFUND,
	OPERATION_RESET,
};

/* ---- Answers ----------------------------------------------------------- */

static bool answer(struct weir_decision *decision, enum weir_outcome outcome,
		   enum weir_reason reason)
{
	decision->outcome = outcome;
	decision->reason = reason;
	return outcome == WEIR_ALLOWED;
}

/* The numbers of the limit that decided. */
static void describe(const struct plan *plan, struct weir_decision *decision)
{
	const struct plan_limit *step = &plan->limits[plan->decided];

	decision->limit_index = plan->decided;
	decision->limit = step->limit.algorithm == WEIR_TOKEN_BUCKET ? step->limit.burst :
								       step->limit.limit;
	decision->remaining = step->verdict.remaining;
	decision->counted = step->verdict.counted;
	decision->retry_after_ns = step->verdict.retry_after_ns;
	decision->reset_after_ns = step->verdict.reset_after_ns;
	for (uint32_t i = 0; i < plan->head.limit_count; i++)
		decision->flagged |= plan->limits[i].verdict.flagged;
}

static bool unavailable(const struct segment *segment, struct weir_decision *decision,
			enum weir_reason reason)
{
	counter_add_global(segment,
			   reason == WEIR_REASON_NO_POLICY ? COUNTER_UNKNOWN_POLICY :
							     COUNTER_BAD_REQUEST,
			   1);
	return answer(decision, WEIR_UNAVAILABLE, reason);
}

/* No slot, no record, no luck: the policy says what then. */
static bool fail(const struct plan *plan, struct weir_decision *decision,
		 enum counter_global counter, enum weir_reason reason)
{
	counter_add_global(plan->segment, counter, 1);
	if (plan->head.fail_mode == WEIR_FAIL_CLOSED && !plan->head.shadow) {
		counter_add(plan->segment, plan->head.index, COUNTER_UNAVAILABLE, 1);
		return answer(decision, WEIR_UNAVAILABLE, reason);
	}
	/* With no cluster to share with, this host's share is the whole limit;
	 * with no slot to count in, that is as good as open. */
	counter_add(plan->segment, plan->head.index, COUNTER_FAIL_OPEN, 1);
	return answer(decision, WEIR_ALLOWED, reason);
}

static bool allowed(const struct plan *plan, struct weir_decision *decision, bool count)
{
	describe(plan, decision);
	if (count) {
		counter_add(plan->segment, plan->head.index, COUNTER_ALLOWED, 1);
		if (plan->request->cost != 1)
			counter_add(plan->segment, plan->head.index, COUNTER_EXTRA_TOKENS,
				    plan->request->cost - 1);
		if (decision->flagged)
			counter_add(plan->segment, plan->head.index, COUNTER_FLAGGED, 1);
	}
	return answer(decision, WEIR_ALLOWED,
		      plan->stale ? WEIR_REASON_STALE : WEIR_REASON_LIMIT);
}

static bool denied(const struct plan *plan, struct weir_decision *decision, bool count, bool force)
{
	const struct plan_limit *step = &plan->limits[plan->decided];
	enum weir_reason reason = force			? WEIR_REASON_DEBT :
				  step->verdict.never	? WEIR_REASON_COST :
				  step->verdict.capped	? WEIR_REASON_CAP :
				  step->verdict.unleased ? WEIR_REASON_LEASE :
				  plan->stale		? WEIR_REASON_STALE :
							  WEIR_REASON_LIMIT;

	describe(plan, decision);
	if (count) {
		counter_add(plan->segment, plan->head.index,
			    plan->head.shadow ? COUNTER_SHADOW_DENIED : COUNTER_DENIED, 1);
		if (step->ref.slot && !store_is_compact(plan->segment))
			note_denial(plan->segment, step->ref.slot, step->ref.generation);
		if (step->verdict.capped)
			counter_add_global(plan->segment, COUNTER_CAPPED, 1);
		if (step->verdict.unleased)
			counter_add_global(plan->segment, COUNTER_UNLEASED, 1);
	}
	if (plan->head.shadow)
		return answer(decision, WEIR_ALLOWED, WEIR_REASON_SHADOW);
	return answer(decision, WEIR_DENIED, reason);
}

/* Done, whatever the limits would say to another request. */
static bool given_back(const struct plan *plan, struct weir_decision *decision, bool refund)
{
	describe(plan, decision);
	decision->retry_after_ns = 0;
	if (refund)
		counter_add(plan->segment, plan->head.index, COUNTER_REFUNDED, plan->request->cost);
	return answer(decision, WEIR_ALLOWED, WEIR_REASON_LIMIT);
}

/* ---- Deciding ---------------------------------------------------------- */

static enum plan_result carry_out(struct plan *plan, enum weir_operation operation)
{
	switch (operation) {
	case OPERATION_FORCE:
		return plan_spend(plan, BUCKET_FORCE);
	case OPERATION_PEEK:
		return plan_peek(plan);
	case OPERATION_ACQUIRE:
		return plan_acquire(plan);
	case OPERATION_REFUND:
		return plan_give_back(plan, BUCKET_REFUND);
	case OPERATION_RESET:
		return plan_give_back(plan, BUCKET_RESET);
	case OPERATION_SPEND:
		break;
	}
	return plan_spend(plan, BUCKET_SPEND);
}

static bool needs_acquire(const struct plan *plan, enum weir_operation operation)
{
	return (operation == OPERATION_SPEND || operation == OPERATION_FORCE) &&
	       plan_has_concurrency(plan);
}

/* Not what gives back: that needs no view. */
static bool is_decision(enum weir_operation operation)
{
	return operation == OPERATION_SPEND || operation == OPERATION_ACQUIRE ||
	       operation == OPERATION_PEEK;
}

/* The view is stale, and the policy says that nothing may pass then. */
static bool closed(const struct plan *plan, enum weir_operation operation,
		   struct weir_decision *decision)
{
	if (operation != OPERATION_PEEK) {
		counter_add_global(plan->segment, COUNTER_STALE_CLOSED, 1);
		counter_add(plan->segment, plan->head.index, COUNTER_UNAVAILABLE, 1);
	}
	return answer(decision, WEIR_UNAVAILABLE, WEIR_REASON_STALE);
}

static void count_stale(const struct plan *plan, bool count)
{
	if (plan->stale && count)
		counter_add_global(plan->segment,
				   plan->head.fail_mode == WEIR_FAIL_SHARE ? COUNTER_STALE_SHARE :
									     COUNTER_STALE_OPEN,
				   1);
}

static bool conclude(const struct plan *plan, enum weir_operation operation,
		     enum plan_result result, struct weir_decision *decision)
{
	bool count = operation != OPERATION_PEEK && plan->request->cost > 0;

	if ((operation == OPERATION_REFUND || operation == OPERATION_RESET) &&
	    (result == PLAN_ALLOWED || result == PLAN_DENIED))
		return given_back(plan, decision, operation == OPERATION_REFUND);
	switch (result) {
	case PLAN_ALLOWED:
		count_stale(plan, count);
		return allowed(plan, decision, count);
	case PLAN_DENIED:
		count_stale(plan, count);
		return denied(plan, decision, count, operation == OPERATION_FORCE);
	case PLAN_FULL:
		return fail(plan, decision, COUNTER_TABLE_FULL, WEIR_REASON_TABLE_FULL);
	case PLAN_HOLDS_FULL:
		return fail(plan, decision, COUNTER_HOLDS_FULL, WEIR_REASON_HOLDS_FULL);
	case PLAN_AGAIN:
	case PLAN_CONTENDED:
		break;
	}
	/* Nobody asked for tokens: there is nothing for a fail mode to decide. */
	if (operation == OPERATION_PEEK || operation == OPERATION_REFUND ||
	    operation == OPERATION_RESET)
		return answer(decision, WEIR_UNAVAILABLE, WEIR_REASON_CONTENDED);
	return fail(plan, decision, COUNTER_CONTENDED, WEIR_REASON_CONTENDED);
}

/* Carry a prepared plan out; follow the policies if they change meanwhile. */
static bool decide_prepared(struct plan *plan, enum weir_operation operation,
			    struct weir_decision *decision)
{
	enum plan_result result = PLAN_AGAIN;
	enum weir_reason reason;
	uint64_t now_ns = plan->now_ns;

	for (int attempt = 0; attempt < AGAIN_ATTEMPTS; attempt++) {
		if (attempt > 0 &&
		    !plan_prepare(plan, plan->segment, plan->request, &reason))
			return unavailable(plan->segment, decision, reason);
		plan->now_ns = now_ns;
		if (needs_acquire(plan, operation))
			return unavailable(plan->segment, decision, WEIR_REASON_USE_ACQUIRE);
		view_judge(plan);
		if (plan->stale && is_decision(operation) &&
		    plan->head.fail_mode == WEIR_FAIL_CLOSED && !plan->head.shadow)
			return closed(plan, operation, decision);
		result = carry_out(plan, operation);
		if (result != PLAN_AGAIN)
			break;
	}
	return conclude(plan, operation, result, decision);
}

/* ---- The general way --------------------------------------------------- */

static void save_hold(const struct plan *plan, struct weir_hold *hold)
{
	hold->count = 0;
	for (uint32_t i = 0; i < plan->head.limit_count; i++) {
		if (plan->limits[i].hold)
			hold->record[hold->count++] = plan->limits[i].hold;
	}
}

/* READ_NS is what the clock said, for a request without a time; 0: not read yet. */
static bool decide_generally(const struct segment *segment, const struct weir_request *request,
			     enum weir_operation operation, uint64_t read_ns,
			     struct weir_decision *decision, struct weir_hold *hold)
{
	struct weir_decision unused;
	enum weir_reason reason;
	struct plan plan;
	bool pass;

	plan.detail = decision != NULL;
	if (!decision)
		decision = &unused;
	memset(decision, 0, sizeof(*decision));
	if (!segment)
		return answer(decision, WEIR_UNAVAILABLE, WEIR_REASON_CLOSED);
	if (!plan_prepare(&plan, segment, request, &reason))
		return unavailable(segment, decision, reason);
	if (plan.now_ns == 0)
		plan.now_ns = read_ns ? read_ns : clock_now_ns(segment);
	pass = decide_prepared(&plan, operation, decision);
	if (hold)
		save_hold(&plan, hold);
	return pass;
}

bool decide_spend(const struct segment *segment, const struct weir_request *request,
		  uint64_t read_ns, struct weir_decision *decision)
{
	return decide_generally(segment, request, OPERATION_SPEND, read_ns, decision, NULL);
}

static bool decide(struct weir *weir, const struct weir_request *request,
		   enum weir_operation operation, struct weir_decision *decision,
		   struct weir_hold *hold)
{
	const struct segment *segment = handle_enter(weir);
	bool pass = decide_generally(segment, request, operation, 0, decision, hold);

	handle_leave();
	return pass;
}

HASH_TARGET static enum quick_result
spend_compact(const struct segment *segment, weir_policy_id policy, const void *key,
	      size_t key_length, uint64_t cost, uint64_t now_ns, struct weir_decision *decision)
{
	struct compact_quick quick;

	if (!decide_may_be_quick(segment, cost, now_ns) ||
	    !compact_quick_prepare(&quick, segment, policy, key, key_length))
		return QUICK_NOT;
	prefetch_line(quick.line);
	return compact_quick_spend(&quick, segment, now_ns ? now_ns : clock_now_ns(segment), cost,
				   decision);
}

/* Apart, so that the quick way has no request to put together. */
static __attribute__((noinline)) bool
spend_generally(const struct segment *segment, weir_policy_id policy, const void *key,
		size_t key_length, uint64_t cost, uint64_t now_ns, struct weir_decision *decision)
{
	struct weir_request request = {
		.policy = policy,
		.key = key,
		.key_length = key_length,
		.cost = cost,
		.now_ns = now_ns,
	};
	enum quick_result result = QUICK_NOT;

	if (segment && store_is_compact(segment))
		result = spend_compact(segment, policy, key, key_length, cost, now_ns, decision);
	if (result != QUICK_NOT)
		return result == QUICK_ALLOWED;
	return decide_spend(segment, &request, 0, decision);
}

/* Inside of a read-side section. */
HASH_TARGET static bool spend(const struct segment *segment, weir_policy_id policy,
			      const void *key, size_t key_length, uint64_t cost, uint64_t now_ns,
			      struct weir_decision *decision)
{
	enum quick_result result = QUICK_NOT;
	struct quick quick;

	if (segment && decide_may_be_quick(segment, cost, now_ns)) {
		if (quick_prepare(&quick, segment, policy, key, key_length)) {
			prefetch_line(quick.slot);
			result = quick_spend(&quick, segment,
					     now_ns ? now_ns : clock_now_ns(segment), cost,
					     decision);
		} else if (now_ns == 0) {
			result = purse_decide(segment, policy, key, key_length, cost, decision);
		}
	}
	if (result == QUICK_NOT)
		return spend_generally(segment, policy, key, key_length, cost, now_ns, decision);
	return result == QUICK_ALLOWED;
}

bool plain_otherwise(const struct segment *segment, const struct plain_call *call)
{
	bool pass = spend(segment, call->policy, call->key, call->key_length, call->cost,
			  call->now_ns, call->decision);

	handle_leave();
	return pass;
}

bool plain_leased(const struct segment *segment, weir_policy_id policy, const void *key,
		  size_t key_length, struct weir_decision *decision)
{
	enum quick_result result = purse_decide(segment, policy, key, key_length, 1, decision);
	bool pass = result == QUICK_NOT ? spend_generally(segment, policy, key, key_length, 1, 0,
							  decision) :
					  result == QUICK_ALLOWED;

	rcu_leave_light(rcu_reader());
	return pass;
}

bool plain_full(const struct segment *segment, const struct plain_call *call)
{
	struct weir_decision unused, *decision = call->decision ? call->decision : &unused;
	struct plan plan;
	bool pass;

	plan.segment = segment;
	memset(decision, 0, sizeof(*decision));
	pass = policy_head(segment, policy_version(segment), call->policy, &plan.head) ?
		       fail(&plan, decision, COUNTER_TABLE_FULL, WEIR_REASON_TABLE_FULL) :
		       unavailable(segment, decision, WEIR_REASON_NO_POLICY);
	handle_leave();
	return pass;
}

/* ---- The public functions, but for plain.c's --------------------------- */

bool weir_status(struct weir *weir, const struct weir_request *request,
		 struct weir_decision *decision)
{
	return decide(weir, request, OPERATION_PEEK, decision, NULL);
}

bool weir_force_take(struct weir *weir, const struct weir_request *request,
		     struct weir_decision *decision)
{
	return decide(weir, request, OPERATION_FORCE, decision, NULL);
}

bool weir_refund(struct weir *weir, const struct weir_request *request,
		 struct weir_decision *decision)
{
	return decide(weir, request, OPERATION_REFUND, decision, NULL);
}

bool weir_reset(struct weir *weir, const struct weir_request *request,
		struct weir_decision *decision)
{
	return decide(weir, request, OPERATION_RESET, decision, NULL);
}

bool weir_acquire(struct weir *weir, const struct weir_request *request, struct weir_hold *hold,
		  struct weir_decision *decision)
{
	memset(hold, 0, sizeof(*hold));
	return decide(weir, request, OPERATION_ACQUIRE, decision, hold);
}

int weir_release(struct weir *weir, struct weir_hold *hold)
{
	const struct segment *segment = handle_enter(weir);
	bool sound = segment && hold->count <= WEIR_LIMITS_MAX;
	int status = sound ? WEIR_OK : WEIR_EINVAL;

	/* All of them, also if one cannot be. */
	for (uint32_t i = 0; sound && i < hold->count; i++) {
		if (!hold_release(segment, hold->record[i]))
			status = WEIR_EINVAL;
	}
	handle_leave();
	return status;
}

uint64_t weir_now_ns(const struct weir *weir)
{
	const struct segment *segment = handle_enter(weir);
	bool own_clock = segment && segment->clock != WEIR_CLOCK_CALLER;
	uint64_t now_ns = own_clock ? clock_now_ns(segment) : 0;

	handle_leave();
	return now_ns;
}
