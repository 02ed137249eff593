/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-debt.h"
#include "replay-error.h"

#include <stdlib.h>

#define CLOCK_STEP_NS 2000u     /* Redis' clock counts microseconds */

/* ---- Debts -------------------------------------------------------------- */

void replay_debt_decay(struct replay_debt *debt, const struct weir_limit *limit, uint64_t now_ns)
{
	replay_wide paid = (replay_wide)(now_ns - debt->at_ns) * limit->limit;

	debt->scaled = debt->scaled > paid ? debt->scaled - paid : 0;
	debt->at_ns = now_ns;
}

static uint64_t burst_of(const struct weir_limit *limit)
{
	return limit->burst ? limit->burst : limit->limit;
}

static replay_wide most(const struct weir_limit *limit)
{
	return (replay_wide)burst_of(limit) * limit->period_ns;
}

bool replay_debt_admits(const struct replay_debt *debt, const struct weir_limit *limit)
{
	return debt->scaled + limit->period_ns <= most(limit);
}

void replay_debt_charge(struct replay_debt *debt, const struct weir_limit *limit)
{
	debt->scaled += limit->period_ns;
}

replay_wide replay_debt_over(const struct replay_debt *debt, const struct weir_limit *limit)
{
	return debt->scaled > most(limit) ? debt->scaled - most(limit) : 0;
}

/* ---- Bounds ------------------------------------------------------------- */

uint64_t replay_cap_of(const struct weir_limit *limit, uint64_t hosts, uint32_t overshoot_permille)
{
	replay_wide share = (replay_wide)burst_of(limit) * overshoot_permille / 1000;

	if (hosts > 1)
		share /= hosts - 1;
	return share < 1 ? 1 : (uint64_t)share;
}

replay_wide replay_bound_of(enum weir_consistency mode, const struct weir_limit *limit,
			    const struct replay_bound *bound)
{
	replay_wide others = bound->hosts - 1;
	/* What clocks and whole nanoseconds round away, of each host. */
	replay_wide late = (replay_wide)(bound->round_ns + CLOCK_STEP_NS + bound->hosts) *
			   limit->limit;

	switch (mode) {
	case WEIR_LOCAL:
		return others * (most(limit) + (replay_wide)bound->span_ns * limit->limit);
	case WEIR_EVENTUAL:
		return others * (most(limit) + (replay_wide)bound->unmerged_ns * limit->limit) +
		       late;
	case WEIR_BOUNDED:
		return others * bound->cap * limit->period_ns + late;
	case WEIR_STRICT:
		break;
	}
	return 0;
}

enum replay_verdict replay_verdict_of(const struct replay_policy_measure *policy, uint32_t limit)
{
	if (policy->allowed_by_fail_mode)
		return REPLAY_NO_VERDICT;
	return policy->limits[limit].over > policy->limits[limit].bound ? REPLAY_ABOVE :
									   REPLAY_WITHIN;
}

/* ---- Measuring ---------------------------------------------------------- */

/* What one limit of a key has admitted, and what an ideal bucket would have. */
struct pair {
	struct replay_debt real;
	struct replay_debt ideal;
};

struct meter {
	const struct replay_input *input;
	const struct replay_plan *plan;
	const struct replay_decisions *decisions;
	struct replay_mode_measure *measure;
	uint32_t *order;                /* requests, by the time of their decisions */
	struct pair *pairs;             /* of one policy: its limits, for each key */
};

static int by_time(const void *left, const void *right, void *context)
{
	const struct replay_decisions *decisions = context;
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	uint64_t time_a = decisions->times_ns[a], time_b = decisions->times_ns[b];

	return time_a != time_b ? (time_a > time_b) - (time_a < time_b) : (a > b) - (a < b);
}

static void count(struct replay_policy_measure *measure, uint8_t answer)
{
	unsigned outcome = answer & REPLAY_ANSWER_OUTCOME;

	measure->outcomes[outcome]++;
	measure->denied_by_mode += (answer & REPLAY_ANSWER_MODE) != 0;
	measure->by_fail_mode += (answer & REPLAY_ANSWER_FAIL_MODE) != 0;
	measure->allowed_by_fail_mode += (answer & REPLAY_ANSWER_FAIL_MODE) &&
					 outcome == WEIR_ALLOWED;
}

static void charge_real(const struct weir_policy *policy, struct pair *pairs, uint32_t key,
			struct replay_policy_measure *measure)
{
	for (uint32_t i = 0; i < policy->limit_count; i++) {
		replay_wide over;

		replay_debt_charge(&pairs[i].real, &policy->limits[i]);
		over = replay_debt_over(&pairs[i].real, &policy->limits[i]);
		if (over <= measure->limits[i].over)
			continue;
		measure->limits[i].over = over;
		measure->limits[i].key = key;
	}
}

static void ask_ideal(const struct weir_policy *policy, struct pair *pairs,
		      struct replay_policy_measure *measure)
{
	for (uint32_t i = 0; i < policy->limit_count; i++) {
		if (!replay_debt_admits(&pairs[i].ideal, &policy->limits[i]))
			return;
	}
	for (uint32_t i = 0; i < policy->limit_count; i++)
		replay_debt_charge(&pairs[i].ideal, &policy->limits[i]);
	measure->ideal++;
}

static void measure_policy(const struct meter *meter, uint32_t number)
{
	const struct weir_policy *policy = &meter->plan->policies[number];
	struct replay_policy_measure *measure = &meter->measure->policies[number];

	for (uint32_t i = 0; i < meter->input->request_count; i++) {
		uint32_t request = meter->order[i], key = meter->input->requests[request].key;
		size_t place = (size_t)request * meter->plan->policy_count + number;
		uint8_t answer = meter->decisions->answers[place];
		struct pair *pairs = &meter->pairs[(size_t)key * WEIR_LIMITS_MAX];

		for (uint32_t j = 0; j < policy->limit_count; j++) {
			uint64_t time_ns = meter->decisions->times_ns[request];

			replay_debt_decay(&pairs[j].real, &policy->limits[j], time_ns);
			replay_debt_decay(&pairs[j].ideal, &policy->limits[j], time_ns);
		}
		count(measure, answer);
		if ((answer & REPLAY_ANSWER_OUTCOME) == WEIR_ALLOWED)
			charge_real(policy, pairs, key, measure);
		ask_ideal(policy, pairs, measure);
	}
}

static void find_bounds(const struct meter *meter, const struct replay_hosts_options *options)
{
	const struct replay_mode_measure *measure = meter->measure;
	uint32_t last = meter->order[meter->input->request_count - 1];
	struct replay_bound bound = {
		.hosts = options->hosts,
		/* A charge comes when its decision ends, after the time that it has. */
		.unmerged_ns = measure->longest_unmerged_ns + measure->slowest_ns,
		.round_ns = measure->longest_round_ns,
		.span_ns = meter->decisions->times_ns[last] -
			   meter->decisions->times_ns[meter->order[0]],
	};

	for (uint32_t i = 0; i < meter->plan->policy_count; i++) {
		const struct weir_policy *policy = &meter->plan->policies[i];

		for (uint32_t j = 0; j < policy->limit_count; j++) {
			bound.cap = replay_cap_of(&policy->limits[j], options->hosts,
						  options->sync.overshoot_permille);
			measure->policies[i].limits[j].bound =
				replay_bound_of(measure->mode, &policy->limits[j], &bound);
		}
	}
}

static void sum_up_hosts(const struct replay_decisions *decisions, unsigned hosts,
			 struct replay_mode_measure *measure)
{
	measure->mode = decisions->mode;
	measure->slowest_ns = decisions->slowest_ns;
	measure->latest_ns = decisions->latest_ns;
	measure->elapsed_ns = decisions->elapsed_ns;
	for (unsigned i = 0; i < hosts; i++) {
		const struct replay_host *host = &decisions->hosts[i];

		measure->rounds += host->rounds;
		if (host->longest_round_ns > measure->longest_round_ns)
			measure->longest_round_ns = host->longest_round_ns;
		if (host->longest_unmerged_ns > measure->longest_unmerged_ns)
			measure->longest_unmerged_ns = host->longest_unmerged_ns;
	}
}

int replay_measure(const struct replay_input *input, const struct replay_plan *plan,
		   const struct replay_hosts_options *options,
		   const struct replay_decisions *decisions, struct replay_mode_measure *measure,
		   struct weir_error *error)
{
	struct meter meter = { input, plan, decisions, measure, NULL, NULL };
	size_t pairs = (size_t)input->keys.count * WEIR_LIMITS_MAX;
	int status = 0;

	*measure = (struct replay_mode_measure){ 0 };
	measure->policies = calloc(plan->policy_count, sizeof(*measure->policies));
	meter.order = calloc(input->request_count, sizeof(*meter.order));
	meter.pairs = malloc(pairs * sizeof(*meter.pairs));
	if (!measure->policies || !meter.order || !meter.pairs) {
		status = replay_error_set(error, WEIR_ENOMEM,
					  "no memory to measure %u requests: replay a part of the "
					  "log", input->request_count);
	} else {
		for (uint32_t i = 0; i < input->request_count; i++)
			meter.order[i] = i;
		qsort_r(meter.order, input->request_count, sizeof(*meter.order), by_time,
			(void *)decisions);
		sum_up_hosts(decisions, options->hosts, measure);
		for (uint32_t i = 0; i < plan->policy_count; i++) {
			for (size_t j = 0; j < pairs; j++)
				meter.pairs[j] = (struct pair){ 0 };
			measure_policy(&meter, i);
		}
		find_bounds(&meter, options);
	}
	free(meter.order);
	free(meter.pairs);
	if (status)
		replay_measure_free(measure);
	return status;
}

void replay_measure_free(struct replay_mode_measure *measure)
{
	free(measure->policies);
	*measure = (struct replay_mode_measure){ 0 };
}
