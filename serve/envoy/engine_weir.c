/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/engine_weir.h"

#include <inttypes.h>
#include <stdio.h>

#include "serve/envoy/failure.h"

#define SECOND_NS 1000000000ull

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
		snprintf(policy->name, sizeof(policy->name), "rls:%" PRIu64 "/%" PRIu64 "s",
			 number, limit->period_s);
		snprintf(policy->buckets, sizeof(policy->buckets), "rls:%" PRIu64 "s",
			 limit->period_s);
		return;
	}
	policy->limits[0].algorithm = WEIR_TOKEN_BUCKET;
	policy->limits[0].burst = limit->burst == number ? 0 : limit->burst;
	snprintf(policy->name, sizeof(policy->name), "rls:%" PRIu64 "/%" PRIu64 "s/%" PRIu64,
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
		.counted = decision.counted,
		.remaining = decision.remaining,
		.reset_after_ns = decision.reset_after_ns,
	};
	/* More than a bucket can count: it would have been this much. */
	if (call == ENGINE_COUNT && decision.reason == WEIR_REASON_DEBT &&
	    __builtin_add_overflow(answer.counted, cost, &answer.counted))
		answer.counted = UINT64_MAX;
	return answer;
}

void engine_weir_init(struct engine_weir *engine, struct weir *weir,
		      enum weir_consistency consistency, enum weir_fail_mode fail_mode)
{
	*engine = (struct engine_weir){
		.engine = { .policy = find_policy, .call = call },
		.weir = weir,
		.consistency = consistency,
		.fail_mode = fail_mode,
	};
}
