/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/engine_weir.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "serve/envoy/failure.h"

#define SECOND_NS 1000000000ull
#define NAME_PREFIX "rls:"              /* of all policies that are made for limits */
#define FULL (1ull << 32)               /* above any limit of a rule, which has 32 bits */

/* What a segment cannot hold a limit to: it is as good as none. */
static uint64_t clamp_limit(const struct engine_limit *limit)
{
	uint64_t most = WEIR_RATE_MAX * limit->period_s;

	return limit->limit < most ? limit->limit : most;
}

static void describe(const struct engine_weir *engine, const struct engine_limit *limit,
		     struct weir_policy *policy)
{
	uint64_t number = clamp_limit(limit);

	*policy = (struct weir_policy){
		.limit_count = 1,
		.limits[0] = {
			.limit = number,
			.period_ns = limit->period_s * SECOND_NS,
			.algorithm = WEIR_FIXED_WINDOW,
		},
		.fail_mode = engine->fail_mode,
		.consistency = engine->consistency,
	};
	if (limit->algorithm == ENGINE_FIXED_WINDOW) {
		snprintf(policy->name, sizeof(policy->name), NAME_PREFIX "%" PRIu64 "/%" PRIu64 "s",
			 number, limit->period_s);
		snprintf(policy->buckets, sizeof(policy->buckets), NAME_PREFIX "%" PRIu64 "s",
			 limit->period_s);
		return;
	}
	policy->limits[0].algorithm = WEIR_TOKEN_BUCKET;
	policy->limits[0].burst = limit->burst == number ? 0 : limit->burst;
	snprintf(policy->name, sizeof(policy->name), NAME_PREFIX "%" PRIu64 "/%" PRIu64 "s/%" PRIu64,
		 number, limit->period_s, limit->burst);
}

/* Several processes may make it at once: all make the same. */
static int make_policy(struct engine_weir *engine, const struct weir_policy *policy,
		       struct weir_error *error)
{
	int status = weir_policy_set(engine->weir, policy, 1, error);

	if (status == WEIR_ENOSPC && error)
		return envoy_fail(error, status,
				  "no room for the policy %s of a rate limit: %s; make the segment "
				  "anew with more --policies, or remove some of the limits",
				  policy->name, error->message);
	return status;
}

static bool is_same(const struct weir_policy *a, const struct weir_policy *b)
{
	return a->consistency == b->consistency && a->fail_mode == b->fail_mode &&
	       strcmp(a->buckets, b->buckets) == 0 &&
	       memcmp(&a->limits[0], &b->limits[0], sizeof(a->limits[0])) == 0;
}

static int find_policy(struct engine *base, const struct engine_limit *limit,
		       weir_policy_id *id, struct weir_error *error)
{
	struct engine_weir *engine = (struct engine_weir *)base;
	struct weir_policy policy, found;
	int status = WEIR_OK;

	describe(engine, limit, &policy);
	if (weir_policy_get(engine->weir, policy.name, &found, NULL) < 0 ||
	    !is_same(&policy, &found))
		status = make_policy(engine, &policy, error);
	if (status < 0)
		return status;
	*id = weir_policy_find(engine->weir, policy.name);
	if (*id == WEIR_NO_POLICY)
		return envoy_fail(error, WEIR_ENOENT,
				  "the policy %s was removed while it was made; try again",
				  policy.name);
	return envoy_ok(error);
}

/* ---- Those that are not needed ------------------------------------------------- */

static void remove_policy(struct engine *base, const struct engine_limit *limit)
{
	struct engine_weir *engine = (struct engine_weir *)base;
	struct weir_policy policy;

	describe(engine, limit, &policy);
	/* Another process may have removed it already. */
	weir_policy_remove(engine->weir, policy.name, NULL);
}

typedef char policy_name[WEIR_NAME_MAX + 1];

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* The names of the policies for COUNT limits, in order.  NULL: no memory. */
static policy_name *names_of(struct engine_weir *engine, const struct engine_limit *limits,
			     size_t count)
{
	policy_name *names = calloc(count + 1, sizeof(*names));
	struct weir_policy policy;

	for (size_t i = 0; names && i < count; i++) {
		describe(engine, &limits[i], &policy);
		memcpy(names[i], policy.name, sizeof(names[i]));
	}
	if (names)
		qsort(names, count, sizeof(*names), by_name);
	return names;
}

static bool is_needed(const struct weir_policy *policy, policy_name *kept, size_t count)
{
	return strncmp(policy->name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0 ||
	       bsearch(policy->name, kept, count, sizeof(*kept), by_name);
}

/* Begin elsewhere each time, so that it is not always the same that must be made again. */
static size_t remove_some(struct engine_weir *engine, const struct weir_policy *policies,
			  size_t policy_count, policy_name *kept, size_t count, size_t most)
{
	size_t first = __atomic_fetch_add(&engine->next_victim, most, __ATOMIC_RELAXED);
	size_t removed = 0;

	for (size_t i = 0; i < policy_count && removed < most; i++) {
		const struct weir_policy *policy = &policies[(first + i) % policy_count];

		if (!is_needed(policy, kept, count) &&
		    weir_policy_remove(engine->weir, policy->name, NULL) == WEIR_OK)
			removed++;
	}
	return removed;
}

static size_t make_room(struct engine *base, const struct engine_limit *kept_limits, size_t count,
			size_t most)
{
	struct engine_weir *engine = (struct engine_weir *)base;
	size_t policy_count = weir_policy_list(engine->weir, NULL, 0), removed = 0, listed;
	struct weir_policy *policies = calloc(policy_count + 1, sizeof(*policies));
	policy_name *kept = names_of(engine, kept_limits, count);

	if (policies && kept) {
		listed = weir_policy_list(engine->weir, policies, policy_count);
		removed = remove_some(engine, policies, listed < policy_count ? listed : policy_count,
				      kept, count, most);
	}
	free(policies);
	free(kept);
	return removed;
}

/* ---- Counting ------------------------------------------------------------------ */

static bool is_decided(const struct weir_decision *decision)
{
	switch (decision->reason) {
	case WEIR_REASON_LIMIT:
	case WEIR_REASON_COST:
	case WEIR_REASON_DEBT:
	case WEIR_REASON_CAP:
	case WEIR_REASON_LEASE:
		return decision->outcome != WEIR_UNAVAILABLE;
	default:
		return false;
	}
}

/* More than a bucket can count: it counts as much as is over any limit. */
static uint64_t fill(struct weir *weir, const struct weir_request *request, uint64_t counted)
{
	struct weir_request most = *request;
	uint64_t sum;

	most.cost = FULL;
	if (counted < FULL)
		weir_force_take(weir, &most, NULL);
	return __builtin_add_overflow(counted, request->cost, &sum) ? UINT64_MAX : sum;
}

static struct engine_answer call(struct engine *base, enum engine_call call,
				 weir_policy_id policy, struct text key, uint64_t cost)
{
	struct weir *weir = ((struct engine_weir *)base)->weir;
	const struct weir_request request = {
		.policy = policy,
		.key = key.bytes,
		.key_length = key.length,
		.cost = cost,
	};
	struct weir_decision decision;
	struct engine_answer answer;

	switch (call) {
	case ENGINE_PEEK:
		weir_status(weir, &request, &decision);
		break;
	case ENGINE_TAKE:
		weir_decide(weir, &request, &decision);
		break;
	case ENGINE_COUNT:
		weir_force_take(weir, &request, &decision);
		break;
	case ENGINE_REFUND:
		weir_refund(weir, &request, &decision);
		break;
	}
	answer = (struct engine_answer){
		.allowed = decision.outcome == WEIR_ALLOWED,
		.decided = is_decided(&decision),
		.gone = decision.reason == WEIR_REASON_NO_POLICY,
		.counted = decision.counted,
		.remaining = decision.remaining,
		.reset_after_ns = decision.reset_after_ns,
	};
	if (call == ENGINE_COUNT && decision.reason == WEIR_REASON_DEBT)
		answer.counted = fill(weir, &request, answer.counted);
	return answer;
}

void engine_weir_init(struct engine_weir *engine, struct weir *weir,
		      enum weir_consistency consistency, enum weir_fail_mode fail_mode)
{
	*engine = (struct engine_weir){
		.engine = {
			.policy = find_policy,
			.remove = remove_policy,
			.make_room = make_room,
			.call = call,
		},
		.weir = weir,
		.consistency = consistency,
		.fail_mode = fail_mode,
	};
}
