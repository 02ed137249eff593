/* SPDX-License-Identifier: Apache-2.0 */
/* view.h - what the cluster's view of a bucket is worth to a decision. */
#ifndef WEIR_VIEW_H
#define WEIR_VIEW_H

#include "src/plan.h"

/* Find out, at plan->now_ns, whether the policy's limits sync and whether their
 * views are fresh. */
void view_judge(struct plan *plan);

/* The shard of limit I. */
const struct shard_record *view_shard(const struct plan *plan, uint32_t i);

/* With a stale view and fail mode share: how many tokens this host may have in a
 * window of limit I, or hold of it.  0: any number, or the limit is a token bucket. */
uint64_t view_share(const struct plan *plan, uint32_t i);

/* Tokens of limit I that may be unmerged; 0 where no cap is in force. */
uint64_t view_cap(const struct plan *plan, uint32_t i);

/* If more than these are unmerged, the leader should come before its interval is over. */
uint64_t view_wake(const struct plan *plan, uint32_t i);

/* Until when the credit of limit I, in mode strict, counts: where that stands. */
const uint64_t *view_lease(const struct plan *plan, uint32_t i);

/* The same of a token bucket: take COST tokens from this host's share
 * of limit I (or only look, without TAKE).  False if the share has not so much;
 * *retry_ns tells when it has. */
bool view_share_take(const struct plan *plan, uint32_t i, bool take, uint64_t *retry_ns);
void view_share_return(const struct plan *plan, uint32_t i);

#endif
