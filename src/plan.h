/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - one request on its way through the limits of its policy. */
#ifndef WEIR_PLAN_H
#define WEIR_PLAN_H

#include "shm/bucket.h"
#include "shm/policy_table.h"
#include "shm/segment.h"

struct plan_limit {
	struct limit limit;
	struct fingerprint fingerprint;
	struct bucket_ref ref;          /* slot NULL: not found yet */
	struct verdict verdict;
	uint64_t hold;                  /* 0: none */
	uint64_t charged_ns;            /* when it was charged */
	bool syncs;                     /* is the limit the cluster's? */
	bool strict;                    /* and in mode strict? */
	bool charged;
	bool share_charged;
};

struct plan {
	const struct segment *segment;
	const struct weir_request *request;
	uint64_t version;
	struct policy_head head;
	uint64_t now_ns;
	uint64_t cost;
	bool detail;                    /* does the caller want numbers? */
	bool syncs;                     /* does any limit? */
	bool stale;                     /* is a view that it needs too old? */
	uint32_t decided;               /* the limit that denied, or has least left */
	struct plan_limit limits[WEIR_LIMITS_MAX];
};

enum plan_result {
	PLAN_ALLOWED,
	PLAN_DENIED,
	PLAN_AGAIN,             /* the policies changed on the way; nothing is charged */
	PLAN_FULL,
	PLAN_CONTENDED,
	PLAN_HOLDS_FULL,
};

/* Read the policy, fingerprint the key, and start loading the slots.  False,
 * with the reason, if the request cannot be decided at all. */
bool plan_prepare(struct plan *plan, const struct segment *segment,
		  const struct weir_request *request, enum weir_reason *reason);

/* Carry the prepared plan out, at plan->now_ns. */
enum plan_result plan_spend(struct plan *plan, enum bucket_operation operation);
enum plan_result plan_peek(struct plan *plan);
enum plan_result plan_acquire(struct plan *plan);
enum plan_result plan_give_back(struct plan *plan, enum bucket_operation operation);

void plan_count_claim(const struct segment *segment, const struct claim_report *report);

bool plan_has_concurrency(const struct plan *plan);

#endif
