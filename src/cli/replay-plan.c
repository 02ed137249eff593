/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-plan.h"
#include "replay-error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLICIES_MAX 4096u              /* that a segment has room for */
#define SLOTS_MIN 16u
#define SLOTS_MAX (1ull << 32)

static int no_memory(struct weir_error *error)
{
	return replay_error_set(error, WEIR_ENOMEM, "no memory for the policies");
}

/* Take the concurrency limits out of POLICY. */
static uint32_t drop_concurrency(struct weir_policy *policy)
{
	uint32_t kept = 0, dropped;

	for (uint32_t i = 0; i < policy->limit_count; i++)
		if (policy->limits[i].algorithm != WEIR_CONCURRENCY)
			policy->limits[kept++] = policy->limits[i];
	dropped = policy->limit_count - kept;
	policy->limit_count = kept;
	return dropped;
}

/* A prefix that no policy's name begins with.  Ends: each policy spoils one. */
static void find_prefix(const struct replay_plan *plan, char prefix[16])
{
	bool taken = true;

	for (uint32_t i = 0; taken; i++) {
		int length = snprintf(prefix, 16, "alone%u:", i);

		taken = false;
		for (uint32_t j = 0; j < plan->policy_count; j++)
			taken |= strncmp(plan->policies[j].name, prefix, (size_t)length) == 0;
	}
}

static void add_alone(struct replay_plan *plan, const char *prefix, uint32_t policy,
		      uint32_t limit)
{
	struct weir_policy *alone = &plan->policies[plan->policy_count + plan->alone_count];

	*alone = (struct weir_policy){
		.limit_count = 1,
		.limits = { plan->policies[policy].limits[limit] },
		.fail_mode = plan->policies[policy].fail_mode,
		.consistency = plan->policies[policy].consistency,
	};
	snprintf(alone->name, sizeof(alone->name), "%s%u.%u", prefix, policy, limit);
	plan->alone[plan->alone_count++] = (struct replay_alone){ policy, limit };
}

/* Complete a plan that has its policies: the limits alone. */
static int finish(struct replay_plan *plan, struct weir_error *error)
{
	uint32_t limits = 0, alone = 0;
	char prefix[16];

	for (uint32_t i = 0; i < plan->policy_count; i++) {
		limits += plan->policies[i].limit_count;
		if (plan->policies[i].limit_count > 1)
			alone += plan->policies[i].limit_count;
	}
	if (plan->policy_count + alone > POLICIES_MAX)
		return replay_error_set(
			error, WEIR_EINVAL,
			"%u policies with %u limits are too many to replay at once (each "
			"limit is also tried alone: %u of %u places): split the file",
			plan->policy_count, limits, plan->policy_count + alone, POLICIES_MAX);

	struct weir_policy *policies =
		reallocarray(plan->policies, plan->policy_count + alone, sizeof(*policies));

	if (!policies)
		return no_memory(error);
	plan->policies = policies;
	plan->alone = calloc(alone + 1, sizeof(*plan->alone));
	if (!plan->alone)
		return no_memory(error);

	find_prefix(plan, prefix);
	for (uint32_t i = 0; i < plan->policy_count; i++)
		for (uint32_t j = 0; policies[i].limit_count > 1 && j < policies[i].limit_count;
		     j++)
			add_alone(plan, prefix, i, j);
	plan->limits_per_key = limits + alone;
	return 0;
}

int replay_plan_limits(struct replay_plan *plan, const struct weir_limit *limits, size_t count,
		       struct weir_error *error)
{
	struct weir_policy policy = { .name = "replay", .limit_count = (uint32_t)count };

	*plan = (struct replay_plan){ 0 };
	for (size_t i = 0; i < count; i++) {
		if (limits[i].algorithm == WEIR_CONCURRENCY)
			return replay_error_set(
				error, WEIR_EINVAL,
				"--limit \"%llu concurrency\" cannot be replayed, as a "
				"log does not say when a request ended: give limits "
				"with a period",
				(unsigned long long)limits[i].limit);
		policy.limits[i] = limits[i];
	}

	plan->policies = malloc(sizeof(policy));
	if (!plan->policies)
		return no_memory(error);
	plan->policies[0] = policy;
	plan->policy_count = 1;

	int status = finish(plan, error);

	if (status)
		replay_plan_free(plan);
	return status;
}

int replay_plan_file(struct replay_plan *plan, const char *path, struct weir_error *error)
{
	size_t count, kept = 0;
	int status;

	*plan = (struct replay_plan){ 0 };
	status = weir_policy_parse_file(path, &plan->policies, &count, error);
	if (status)
		return status;

	for (size_t i = 0; i < count; i++) {
		plan->dropped += drop_concurrency(&plan->policies[i]);
		if (plan->policies[i].limit_count > 0)
			plan->policies[kept++] = plan->policies[i];
	}
	if (kept > POLICIES_MAX)
		status = replay_error_set(error, WEIR_EINVAL,
					  "%s has %zu policies, and a segment has room for %u: "
					  "split the file", path, kept, POLICIES_MAX);
	else if (kept == 0)
		status = replay_error_set(
			error, WEIR_EINVAL,
			"%s has no limit that can be replayed (%s): give limits with "
			"a period",
			path,
			count ? "a log does not say when a request ended, which a "
				"concurrency limit needs" :
				"it has no policies");
	plan->policy_count = (uint32_t)kept;
	if (!status)
		status = finish(plan, error);
	if (status)
		replay_plan_free(plan);
	return status;
}

static int accelerate(struct weir_limit *limit, const char *policy, uint64_t speed,
		      struct weir_error *error)
{
	struct weir_error cause;
	char text[96];

	weir_limit_format(limit, text, sizeof(text));
	if (limit->algorithm != WEIR_TOKEN_BUCKET)
		return replay_error_set(
			error, WEIR_EINVAL,
			"\"%s\" of policy %s is no token bucket, which is what --hosts holds "
			"against an ideal one: give token buckets", text, policy);
	if (limit->burst == 0)
		limit->burst = limit->limit;
	limit->period_ns /= speed;
	if (weir_limit_check(limit, &cause))
		return replay_error_set(error, WEIR_EINVAL,
					"\"%s\" of policy %s cannot be %llu times as fast: %.300s",
					text, policy, (unsigned long long)speed, cause.message);
	return 0;
}

int replay_plan_accelerate(const struct replay_plan *plan, uint64_t speed,
			   struct replay_plan *accelerated, struct weir_error *error)
{
	int status = 0;

	*accelerated = (struct replay_plan){ .policy_count = plan->policy_count };
	accelerated->policies = calloc(plan->policy_count, sizeof(*plan->policies));
	if (!accelerated->policies)
		return no_memory(error);
	for (uint32_t i = 0; i < plan->policy_count && !status; i++) {
		struct weir_policy *policy = &accelerated->policies[i];

		*policy = plan->policies[i];
		accelerated->limits_per_key += policy->limit_count;
		for (uint32_t j = 0; j < policy->limit_count && !status; j++)
			status = accelerate(&policy->limits[j], policy->name, speed, error);
	}
	if (status)
		replay_plan_free(accelerated);
	return status;
}

void replay_plan_free(struct replay_plan *plan)
{
	free(plan->policies);
	free(plan->alone);
	*plan = (struct replay_plan){ 0 };
}

uint64_t replay_round_slots(uint64_t slots)
{
	uint64_t rounded = SLOTS_MIN;

	while (rounded < slots && rounded < SLOTS_MAX)
		rounded *= 2;
	return rounded;
}

uint64_t replay_plan_slots(const struct replay_plan *plan, uint32_t keys)
{
	/* Below 2^1 x 2^32 x 2^15. */
	uint64_t slots = 2ull * keys * plan->limits_per_key;

	return slots > SLOTS_MAX ? 0 : replay_round_slots(slots);
}
