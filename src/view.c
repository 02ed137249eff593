/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.c - fresh, stale, or none of the cluster's business.
 *
 * What.  A policy that syncs is decided by the bucket that the leader merges the
 * cluster's view into.  The view is a shard's, not a bucket's: it is fresh for
 * max_staleness after the last round of the shard that Redis acknowledged, and
 * one that was never merged is stale from the first call.  In mode strict the lease
 * tells instead: without one the view counts as stale.
 *
 *   fresh, eventual      the bucket decides
 *   fresh, bounded       and no more than the cap is unmerged
 *   leased, strict       and the credit that Redis has leased to this host covers it
 *   stale, open          the bucket decides, without a cap
 *   stale, share         and so does this host's share: limit / hosts, burst / hosts
 *   stale, closed        "rate limiter unavailable"
 *
 * Staleness comes first: a cap in force while Redis is gone would deny for ever
 * what fail mode open promises to allow.
 *
 * A concurrency limit counts what other hosts hold only while the view is fresh: that
 * does not pass with time, and would deny for as long as Redis is gone.  Its share is
 * limit / hosts of its own.
 *
 * The share of a token bucket is one of its own: share.h.  A window counts this host's
 * own tokens anyway: its share is a smaller limit for them.
 */
#include "src/view.h"

#include "src/share.h"

const struct shard_record *view_shard(const struct plan *plan, uint32_t i)
{
	return &plan->segment->shards[slot_shard(plan->limits[i].fingerprint.low)];
}

void view_judge(struct plan *plan)
{
	plan->stale = false;
	if (!plan->syncs)
		return;
	for (uint32_t i = 0; i < plan->head.limit_count; i++) {
		if (!plan->limits[i].syncs)
			continue;
		/* The leader merges a round before it says that the view is fresh. */
		if (!plan->limits[i].strict)
			plan->stale |= atomic_load_acquire(&view_shard(plan, i)->fresh_until_ns) <
				       plan->now_ns;                            /* E9 */
		else
			plan->stale |= atomic_load_acquire(view_lease(plan, i)) <= /* E14 */
				       plan->now_ns;
	}
}

const uint64_t *view_lease(const struct plan *plan, uint32_t i)
{
	return &view_shard(plan, i)->lease_until_ns;
}

uint64_t view_cap(const struct plan *plan, uint32_t i)
{
	uint64_t cap;

	/* What only flags denies nothing, and so promises no bound. */
	if (!plan->limits[i].syncs || plan->stale || plan->head.consistency != WEIR_BOUNDED ||
	    plan->limits[i].limit.action == WEIR_ACTION_FLAG)
		return 0;
	/* Relaxed: one number, good by itself.  0: the leader has yet to set it. */
	cap = atomic_load_relaxed(&plan->segment->switches[plan->head.index].cap[i]);
	return cap ? cap : 1;
}

/* How many hosts the limit is shared by, as far as is known. */
static uint64_t hosts(const struct plan *plan, uint32_t i)
{
	return segment_hosts(plan->segment, view_shard(plan, i));
}

uint64_t view_share(const struct plan *plan, uint32_t i)
{
	const struct plan_limit *step = &plan->limits[i];
	uint64_t share;

	if (!step->syncs || !plan->stale || plan->head.fail_mode != WEIR_FAIL_SHARE ||
	    step->limit.algorithm == WEIR_TOKEN_BUCKET ||
	    step->limit.action == WEIR_ACTION_FLAG)
		return 0;
	share = step->limit.limit / hosts(plan, i);
	return share ? share : 1;
}

uint64_t view_wake(const struct plan *plan, uint32_t i)
{
	const struct limit *limit = &plan->limits[i].limit;

	if (!plan->limits[i].syncs || plan->stale)
		return UINT64_MAX;
	return segment_wake(limit->algorithm == WEIR_TOKEN_BUCKET ? limit->burst : limit->limit,
			    view_cap(plan, i), hosts(plan, i));
}

static struct share share_of(const struct plan *plan, uint32_t i)
{
	const struct plan_limit *step = &plan->limits[i];

	return (struct share){
		.limit = &step->limit,
		.hosts = hosts(plan, i),
		.slot = step->ref.slot,
		.cost = plan->cost,
		.now_ns = plan->now_ns,
	};
}

bool view_share_take(const struct plan *plan, uint32_t i, bool take, uint64_t *retry_ns)
{
	struct share share = share_of(plan, i);

	return share_take(&share, take, retry_ns);
}

void view_share_return(const struct plan *plan, uint32_t i)
{
	struct share share = share_of(plan, i);

	share_return(&share);
}
