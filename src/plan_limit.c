/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_limit.c - one limit of a plan, on the bucket that it has for the key.
 *
 * What.  Find the bucket, or claim one if there is something to remember, and carry one
 * operation out on it; again if the slot changes hands meanwhile.
 *
 * Invariant.  What a limit was charged stands in its struct plan_limit until it is undone,
 * so that plan.c can always go back.
 */
#include "src/plan_limit.h"

#include "shm/clock.h"
#include "shm/counter.h"
#include "shm/hold.h"
#include "shm/note.h"
#include "shm/purse.h"
#include "src/store.h"
#include "src/view.h"

#define LEASE_RETRY_MIN_NS 1000000ull

/* When the leader may have changed what a request was denied for. */
static uint64_t retry_ns(const struct plan *plan, uint32_t i)
{
	uint64_t interval;

	if (!plan->limits[i].syncs)
		return 0;
	interval = atomic_load_relaxed(&plan->segment->header->sync.interval_ns);
	if (!plan->limits[i].strict)
		return interval;
	return interval / 10 > LEASE_RETRY_MIN_NS ? interval / 10 : LEASE_RETRY_MIN_NS;
}

/* What others held when the view was fresh does not pass with time: with a stale one,
 * it would deny for ever. */
static bool counts_others(const struct plan *plan, const struct plan_limit *step)
{
	return step->syncs && (limit_is_window(&step->limit) ||
			       (step->limit.algorithm == WEIR_CONCURRENCY && !plan->stale));
}

static struct bucket_request bucket_request(const struct plan *plan, uint32_t i,
					    enum bucket_operation operation)
{
	const struct segment *segment = plan->segment;
	bool leased = plan->limits[i].strict && !plan->stale;

	return (struct bucket_request){
		.operation = operation,
		.cost = plan->cost,
		.now_ns = plan->now_ns,
		.detail = plan->detail,
		.version = &plan->segment->header->policy.version,
		.version_seen = plan->version,
		.queue = plan->limits[i].syncs ? &segment->queue : NULL,
		.foreign = counts_others(plan, &plan->limits[i]),
		.share = view_share(plan, i),
		.cap = view_cap(plan, i),
		.wake = view_wake(plan, i),
		.merge_ns = retry_ns(plan, i),
		.lease_until_ns = leased ? view_lease(plan, i) : NULL,
		.own_clock = plan->request->now_ns == 0,
	};
}

/* Once the slot is known. */
static void aim(const struct plan *plan, const struct plan_limit *step,
		struct bucket_request *request)
{
	if (step->syncs && step->ref.slot)
		request->slot = (uint64_t)(step->ref.slot - plan->segment->table.slots);
	if (step->ref.slot && step->strict)
		request->lacking = &plan->segment->slot_syncs[request->slot].backoff_ns;
}

void plan_count_claim(const struct segment *segment, const struct claim_report *report)
{
	if (report->claimed)
		counter_add_global(segment, COUNTER_CLAIMED, report->claimed);
	if (report->evicted_live)
		counter_add_global(segment, COUNTER_EVICTED_LIVE, report->evicted_live);
	if (report->evicted_unmerged)
		counter_add_global(segment, COUNTER_EVICTED_UNMERGED, report->evicted_unmerged);
	if (report->repaired)
		counter_add_global(segment, COUNTER_REPAIRED, report->repaired);
}

/* Write whose slot limit I has, and what its name in Redis needs beyond the slot. */
static void sign(const struct plan *plan, uint32_t i)
{
	const struct plan_limit *step = &plan->limits[i];
	const struct segment *segment = plan->segment;

	table_set_owner(&step->ref, plan->head.index, plan->head.serial, i, step->syncs);
	if (step->syncs)
		table_store_newer(&segment->slot_syncs[step->ref.slot - segment->table.slots].name_rest,
				  (step->fingerprint.high & 0xffff) << 16 | step->ref.generation);
}

/* A bucket that was claimed before its limit began to sync: from now on it does. */
static void sign_again(const struct plan *plan, uint32_t i)
{
	const struct plan_limit *step = &plan->limits[i];

	/* Relaxed: the word is complete in itself. */
	if (step->syncs && !step->ref.tentative &&
	    (atomic_load_relaxed(&step->ref.slot->owner) & ~OWNER_JOINED) !=
		    table_owner_word(&step->ref, plan->head.index, plan->head.serial, i, true))
		sign(plan, i);
}

/* What the last owner left: of the share of a stale view, or of purses.  But what purses
 * have may be of the new bucket, which may be live by now. */
static void forget_share(const struct plan *plan, struct slot *slot)
{
	/* Relaxed: the confirming CAS orders it. */
	uint64_t share_ns = atomic_load_relaxed(&slot->share_ns);

	if (share_ns != 0 && !plan->head.lease)
		atomic_cas_relaxed(&slot->share_ns, &share_ns, 0);
}

/* Find or claim the slot of limit I.  PLAN_ALLOWED: step->ref is to be used. */
static enum plan_result locate(struct plan *plan, uint32_t i, uint64_t debt_ns)
{
	struct plan_limit *step = &plan->limits[i];
	const struct segment *segment = plan->segment;
	struct claim_report report = { 0 };
	enum table_claim claim;

	claim = store_claim(segment, step->fingerprint, plan->now_ns, debt_ns, &step->ref, &report);
	plan_count_claim(segment, &report);
	switch (claim) {
	case CLAIM_FULL:
		return PLAN_FULL;
	case CLAIM_CONTENDED:
		return PLAN_CONTENDED;
	case CLAIM_TENTATIVE:
		if (store_is_compact(segment))
			break;
		/* Before the first charge, so that whoever finds the bucket live
		 * finds its owner too. */
		sign(plan, i);
		forget_share(plan, step->ref.slot);
		note_key(segment, &step->ref, plan->request->key, plan->request->key_length);
		break;
	case CLAIM_FOUND:
		break;
	}
	/* The key may have had a bucket that another process, with a later reading
	 * of the clock, took for one without debt: judged at an earlier time, the
	 * request would find that debt forgiven.  The time of that process is there to
	 * be read; but for a table that keeps none, and there what is read now is later. */
	if (!segment->table.taken_ns && plan->request->now_ns == 0)
		plan->now_ns = clock_ns(CLOCK_BOOTTIME);
	plan->now_ns = table_time_ns(segment->table.taken_ns, plan->now_ns);
	return PLAN_ALLOWED;
}

/* Other hosts may have released since the last view. */
static void ask_others(const struct plan *plan, const struct plan_limit *step)
{
	if (step->syncs && (step->verdict.elsewhere || step->verdict.capped) &&
	    step->limit.algorithm == WEIR_CONCURRENCY)
		hold_ask(plan->segment, step->ref.slot);
}

static enum plan_result take_hold(struct plan *plan, struct plan_limit *step,
				  const struct bucket_request *request)
{
	switch (hold_acquire(plan->segment, &step->ref, &step->limit, request, &step->verdict,
			     &step->hold)) {
	case HOLD_TAKEN:
		if (step->verdict.hurry)
			queue_ring(plan->segment->header);
		return PLAN_ALLOWED;
	case HOLD_DENIED:
		if (step->verdict.hurry)
			queue_ring(plan->segment->header);
		ask_others(plan, step);
		return PLAN_DENIED;
	case HOLD_NO_RECORD:
		return PLAN_HOLDS_FULL;
	case HOLD_POLICY_CHANGED:
		return PLAN_AGAIN;
	case HOLD_GONE:
		step->ref.slot = NULL;
		return PLAN_ALLOWED;
	case HOLD_CONTENDED:
		break;
	}
	return PLAN_CONTENDED;
}

static enum plan_result apply(const struct plan *plan, struct plan_limit *step,
			      const struct bucket_request *request)
{
	switch (store_apply(plan->segment, step->fingerprint, &step->ref, &step->limit, request,
			    &step->verdict)) {
	case BUCKET_DONE:
		if (step->verdict.hurry)
			queue_ring(plan->segment->header);
		return step->verdict.allowed ? PLAN_ALLOWED : PLAN_DENIED;
	case BUCKET_GONE:
		step->ref.slot = NULL;
		return PLAN_ALLOWED;
	case BUCKET_POLICY_CHANGED:
		return PLAN_AGAIN;
	case BUCKET_CONTENDED:
		break;
	}
	return PLAN_CONTENDED;
}

/* With a stale view and fail mode share, the host's share decides as well. */
static bool take_share(struct plan *plan, uint32_t i, enum bucket_operation operation)
{
	struct plan_limit *step = &plan->limits[i];
	bool take = operation == BUCKET_SPEND;
	uint64_t retry_ns;

	if (!step->syncs || !plan->stale || plan->head.fail_mode != WEIR_FAIL_SHARE ||
	    operation == BUCKET_FORCE || step->limit.algorithm != WEIR_TOKEN_BUCKET)
		return true;    /* or view_share() has said all */
	if (!view_share_take(plan, i, take, &retry_ns)) {
		step->verdict.allowed = false;
		step->verdict.never = false;
		step->verdict.retry_after_ns = retry_ns;
		return false;
	}
	step->share_charged = take;
	return true;
}

static void give_share_back(struct plan *plan, uint32_t i)
{
	if (plan->limits[i].share_charged)
		view_share_return(plan, i);
	plan->limits[i].share_charged = false;
}

enum plan_result plan_limit_charge(struct plan *plan, uint32_t i,
				   enum bucket_operation operation)
{
	struct plan_limit *step = &plan->limits[i];
	struct bucket_request request = bucket_request(plan, i, operation);
	bool concurrency = step->limit.algorithm == WEIR_CONCURRENCY;

	for (int attempt = 0; attempt < LOOK_ATTEMPTS; attempt++) {
		enum plan_result result = PLAN_ALLOWED;

		if (!step->ref.slot &&
		    !store_find(plan->segment, step->fingerprint, &step->ref)) {
			uint64_t debt_ns;

			step->ref.slot = NULL;
			step->verdict = bucket_judge_absent(&step->limit, &request, &debt_ns);
			if (!step->verdict.allowed)
				return PLAN_DENIED;
			if (request.cost == 0)
				return PLAN_ALLOWED;
			result = locate(plan, i, debt_ns);
			request.now_ns = plan->now_ns;
		}
		if (result == PLAN_ALLOWED)
			sign_again(plan, i);
		aim(plan, step, &request);
		if (result == PLAN_ALLOWED && !take_share(plan, i, operation))
			return PLAN_DENIED;
		if (result == PLAN_ALLOWED)
			result = concurrency ? take_hold(plan, step, &request) :
					       apply(plan, step, &request);
		if (result != PLAN_ALLOWED || !step->ref.slot)
			give_share_back(plan, i);
		if (result != PLAN_ALLOWED)
			return result;
		if (step->ref.slot) {
			step->charged = !concurrency && request.cost > 0;
			step->charged_ns = request.now_ns;
			return PLAN_ALLOWED;
		}
		/* The slot changed hands between finding and charging it. */
	}
	return PLAN_CONTENDED;
}

enum plan_result plan_limit_look(struct plan *plan, uint32_t i)
{
	struct plan_limit *step = &plan->limits[i];
	struct bucket_request request = bucket_request(plan, i, BUCKET_PEEK);
	uint64_t debt_ns;

	for (int attempt = 0; attempt < LOOK_ATTEMPTS; attempt++) {
		if (!step->ref.slot &&
		    !store_find(plan->segment, step->fingerprint, &step->ref)) {
			step->ref.slot = NULL;
			break;
		}
		aim(plan, step, &request);
		if (store_apply(plan->segment, step->fingerprint, &step->ref, &step->limit, &request,
				&step->verdict) == BUCKET_DONE) {
			if (plan->head.lease && purses_are_marked(step->ref.slot))
				purses_look(plan->segment, &step->ref, &step->limit, &request,
					    &step->verdict);
			ask_others(plan, step);
			return step->verdict.allowed && take_share(plan, i, BUCKET_PEEK) ?
				       PLAN_ALLOWED : PLAN_DENIED;
		}
		step->ref.slot = NULL;
	}
	step->verdict = bucket_judge_absent(&step->limit, &request, &debt_ns);
	if (request.lease_until_ns && step->verdict.allowed && request.cost > 0) {
		step->verdict.allowed = false;
		step->verdict.unleased = true;
		step->verdict.retry_after_ns = request.merge_ns;
	}
	return step->verdict.allowed && take_share(plan, i, BUCKET_PEEK) ? PLAN_ALLOWED : PLAN_DENIED;
}

void plan_limit_undo(struct plan *plan, uint32_t i)
{
	struct plan_limit *step = &plan->limits[i];
	struct bucket_request request = bucket_request(plan, i, BUCKET_UNDO);
	struct verdict verdict;

	request.charged = step->verdict.after;
	request.taken_ns = plan->segment->table.taken_ns;
	request.now_ns = step->charged_ns;
	if (step->hold)
		hold_release(plan->segment, step->hold);
	step->hold = 0;
	give_share_back(plan, i);
	/* What a lease has spent stays spent: it may have been told. */
	if (step->strict)
		step->charged = false;
	if (step->charged)
		aim(plan, step, &request);
	/* The charge is a fact whatever the policies are now. */
	for (int attempt = 0; step->charged && attempt < LOOK_ATTEMPTS; attempt++) {
		request.version_seen = policy_version(plan->segment);
		if (store_apply(plan->segment, step->fingerprint, &step->ref, &step->limit,
				&request, &verdict) != BUCKET_POLICY_CHANGED)
			break;
	}
	step->charged = false;
}

/* Does the policy as of VERSION?  Who gives back goes on when the policies change, and there
 * may be tokens ahead by then. */
static bool leases_at(const struct plan *plan, uint64_t version)
{
	struct policy_head head;

	return policy_head(plan->segment, version, plan->request->policy, &head) ?
		       head.lease : plan->head.lease;
}

enum bucket_result plan_limit_give_back(struct plan *plan, uint32_t i,
					enum bucket_operation operation)
{
	struct bucket_request request = bucket_request(plan, i, operation);
	struct plan_limit *step = &plan->limits[i];
	enum bucket_result result = BUCKET_CONTENDED;
	uint64_t returned;

	for (int attempt = 0; attempt < LOOK_ATTEMPTS; attempt++) {
		if (!store_find(plan->segment, step->fingerprint, &step->ref) &&
		    (!step->syncs || locate(plan, i, 0) != PLAN_ALLOWED)) {
			result = BUCKET_GONE;
			break;
		}
		request.now_ns = plan->now_ns;
		/* What was given back to one limit stays given, and is never given
		 * twice: a change of the policies does not stop the next ones. */
		request.version_seen = policy_version(plan->segment);
		aim(plan, step, &request);
		if (leases_at(plan, request.version_seen))
			result = purses_give_back(plan->segment, &step->ref, &step->limit, &request,
						  &returned);
		else
			result = store_apply(plan->segment, step->fingerprint, &step->ref,
					     &step->limit, &request, &step->verdict);
		if (result == BUCKET_DONE || result == BUCKET_CONTENDED)
			break;
		/* Gone, or the policies changed: look again. */
		result = BUCKET_CONTENDED;
	}
	step->ref.slot = NULL;
	return result;
}

bool plan_limit_empty_purses(struct plan *plan, uint32_t i)
{
	struct bucket_request request = bucket_request(plan, i, BUCKET_REFUND);
	struct plan_limit *step = &plan->limits[i];
	uint64_t returned = 0;

	if (!plan->head.lease || step->verdict.never || !step->ref.slot ||
	    !purses_are_marked(step->ref.slot))
		return false;
	request.cost = 0;
	purses_give_back(plan->segment, &step->ref, &step->limit, &request, &returned);
	return returned > 0;
}
