/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.c - all limits of a policy, or none.
 *
 * What.  With one limit a decision is one compare-and-swap.  With several, each
 * is first looked at, which stores nothing; if all would allow the request they
 * are charged in turn, and if one has changed its mind meanwhile, those charged
 * before it are given back.
 *
 * Invariant.  Nobody is admitted beyond a limit: a request proceeds only after
 * every limit was charged.  A charge that is given back a moment later may deny
 * a concurrent request, and a process killed in between leaves one request's
 * charges behind; neither admits anything.
 */
#include "src/plan.h"

#include "shm/clock.h"
#include "shm/hold.h"
#include "src/plan_limit.h"
#include "src/store.h"
#include "src/view.h"

#define WALL_STEP_NS 1000000            /* slews below a millisecond are left alone */

/* ---- Preparing --------------------------------------------------------- */

/* Where fixed windows stand: the offset from the segment's time to the wall
 * clock, which only grows. */
static int64_t aligned_offset(const struct plan *plan)
{
	uint64_t *shared = &plan->segment->header->wall.offset_ns;
	/* Relaxed here and below: one word, complete in itself. */
	uint64_t offset = atomic_load_relaxed(shared);
	uint64_t wall;

	if (plan->segment->clock == WEIR_CLOCK_CALLER)
		return 0;
	if (plan->request->now_ns != 0)
		return (int64_t)offset;
	/* In this order: a stop between the two makes the offset too small, which
	 * changes nothing; too large, it would stay. */
	wall = clock_ns(CLOCK_REALTIME);
	wall -= clock_ns(CLOCK_BOOTTIME);
	while ((int64_t)(wall - offset) > WALL_STEP_NS) {
		if (atomic_cas_relaxed(shared, &offset, wall))
			return (int64_t)wall;
	}
	return (int64_t)offset;
}

bool plan_has_concurrency(const struct plan *plan)
{
	for (uint32_t i = 0; i < plan->head.limit_count; i++) {
		if (plan->limits[i].limit.algorithm == WEIR_CONCURRENCY)
			return true;
	}
	return false;
}

bool plan_prepare(struct plan *plan, const struct segment *segment,
		  const struct weir_request *request, enum weir_reason *reason)
{
	plan->segment = segment;
	plan->request = request;
	plan->version = policy_version(segment);
	plan->now_ns = request->now_ns;
	plan->cost = request->cost;
	plan->decided = 0;

	*reason = WEIR_REASON_KEY;
	if (!request->key || request->key_length < 1 || request->key_length > WEIR_KEY_MAX)
		return false;
	*reason = WEIR_REASON_CLOCK;
	if (segment->clock == WEIR_CLOCK_CALLER && request->now_ns == 0)
		return false;
	if (request->now_ns >= TIME_MAX_NS)
		return false;
	*reason = WEIR_REASON_NO_POLICY;
	if (!policy_head(segment, plan->version, request->policy, &plan->head))
		return false;
	plan->syncs = policy_syncs(segment, &plan->head);
	plan->stale = false;

	for (uint32_t i = 0; i < plan->head.limit_count; i++) {
		struct plan_limit *step = &plan->limits[i];

		policy_limit(segment, plan->version, plan->head.index, i, &step->limit);
		step->fingerprint = hash_fingerprint(&segment->hash, step->limit.key[0],
						     step->limit.key[1], request->key,
						     request->key_length);
		/* Before the clock is read: that read waits for what came before
		 * it, and hides part of the miss. */
		store_prefetch(segment, step->fingerprint);
		step->ref.slot = NULL;
		step->hold = 0;
		step->charged_ns = 0;
		step->syncs = plan->syncs;
		step->strict = step->syncs &&
			       step->limit.algorithm == WEIR_TOKEN_BUCKET &&
			       plan->head.consistency == WEIR_STRICT;
		step->charged = false;
		step->share_charged = false;
		step->verdict = (struct verdict){ .allowed = true };
		if (step->syncs && limit_is_window(&step->limit)) {
			policy_align(segment, view_shard(plan, i), aligned_offset(plan),
				     &step->limit);
		} else if (step->limit.algorithm == WEIR_FIXED_WINDOW) {
			step->limit.aligned_offset_ns = aligned_offset(plan);
			step->limit.stored_offset_ns = segment->wall_offset_ns;
		}
	}
	return true;
}

/* ---- All limits -------------------------------------------------------- */

/* Of the limits that deny, the one that keeps the caller waiting longest; if
 * none does, the one with the least remaining. */
static void choose_decided(struct plan *plan)
{
	const struct verdict *best = &plan->limits[0].verdict;

	plan->decided = 0;
	for (uint32_t i = 1; i < plan->head.limit_count; i++) {
		const struct verdict *verdict = &plan->limits[i].verdict;
		bool worse = verdict->allowed != best->allowed ?
				     best->allowed :
			     verdict->allowed ? verdict->remaining < best->remaining :
						verdict->retry_after_ns > best->retry_after_ns;

		if (worse) {
			plan->decided = i;
			best = verdict;
		}
	}
}

enum plan_result plan_peek(struct plan *plan)
{
	enum plan_result result = PLAN_ALLOWED;

	for (uint32_t i = 0; i < plan->head.limit_count; i++) {
		if (plan_limit_look(plan, i) == PLAN_DENIED)
			result = PLAN_DENIED;
	}
	choose_decided(plan);
	return policy_version(plan->segment) == plan->version ? result : PLAN_AGAIN;
}

/* Charge each limit in turn, or none. */
static enum plan_result charge_all(struct plan *plan, enum bucket_operation operation)
{
	enum plan_result result = PLAN_ALLOWED;
	uint32_t i;

	for (i = 0; i < plan->head.limit_count && result == PLAN_ALLOWED; i++)
		result = plan_limit_charge(plan, i, operation);
	if (result != PLAN_ALLOWED) {
		for (uint32_t taken = 0; taken < plan->head.limit_count; taken++)
			plan_limit_undo(plan, taken);
		plan->decided = i - 1;
		/* Charges are made by one version of the policy, and so is a denial. */
		if (result == PLAN_DENIED && policy_version(plan->segment) != plan->version)
			return PLAN_AGAIN;
	} else if (plan->head.limit_count > 1) {
		choose_decided(plan);
	}
	return result;
}

/* Ask for credit where the look found none: charge nothing. */
static void ask(struct plan *plan)
{
	for (uint32_t i = 0; i < plan->head.limit_count; i++) {
		struct plan_limit *step = &plan->limits[i];

		if (step->verdict.unleased)
			plan_limit_charge(plan, i, BUCKET_ASK);
	}
}

enum plan_result plan_spend(struct plan *plan, enum bucket_operation operation)
{
	enum plan_result result;

	if (plan->head.limit_count > 1 && operation == BUCKET_SPEND) {
		result = plan_peek(plan);
		if (result == PLAN_DENIED)
			ask(plan);
		if (result != PLAN_ALLOWED)
			return result;
	}
	result = charge_all(plan, operation);
	/* A policy that leases has one limit. */
	for (int attempt = 0; attempt < LOOK_ATTEMPTS && result == PLAN_DENIED &&
			      operation == BUCKET_SPEND && plan_limit_empty_purses(plan, 0);
	     attempt++)
		result = charge_all(plan, operation);
	return result;
}

enum plan_result plan_acquire(struct plan *plan)
{
	enum plan_result result = plan_peek(plan);

	if (result == PLAN_DENIED) {
		const struct plan_limit *step = &plan->limits[plan->decided];

		/* Perhaps the holder is dead. */
		if (step->limit.algorithm == WEIR_CONCURRENCY && !step->verdict.never &&
		    step->ref.slot && holds_reap(plan->segment, step->ref.slot) > 0)
			result = plan_peek(plan);
	}
	if (result == PLAN_DENIED)
		ask(plan);
	/* Cost 0 is a peek: there is nothing to hold. */
	if (result != PLAN_ALLOWED || plan->request->cost == 0)
		return result;
	return charge_all(plan, BUCKET_SPEND);
}

/* Refund or reset each limit.  Never PLAN_AGAIN once that has begun: once is
 * enough. */
enum plan_result plan_give_back(struct plan *plan, enum bucket_operation operation)
{
	/* Limits that were read while they changed are no limits. */
	if (policy_version(plan->segment) != plan->version)
		return PLAN_AGAIN;
	for (uint32_t i = 0; i < plan->head.limit_count; i++) {
		if (plan->limits[i].limit.algorithm == WEIR_CONCURRENCY)
			continue;
		/* When Redis hears of a refund, the debt may be another's. */
		if (plan->limits[i].strict && operation == BUCKET_REFUND)
			continue;
		if (plan_limit_give_back(plan, i, operation) == BUCKET_CONTENDED)
			return PLAN_CONTENDED;
	}
	/* For the numbers in the answer, by the policies as the plan has them: of
	 * the state, not of a request for as much again. */
	plan->cost = 0;
	plan_peek(plan);
	return PLAN_ALLOWED;
}
