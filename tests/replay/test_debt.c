/* SPDX-License-Identifier: Apache-2.0 */
/* What hosts admitted, held against an ideal bucket, and the bounds. */
#include <check.h>

#include "src/cli/replay-debt.h"
#include "tests/suite.h"

#define S 1000000000ull
#define REQUESTS 64

static struct weir_policy policies[1];
static struct replay_plan plan = { .policies = policies, .policy_count = 1 };
static struct replay_request requests[REQUESTS];
static uint64_t times_ns[REQUESTS];
static uint8_t answers[REQUESTS];
static struct replay_host hosts[2];
static struct replay_decisions decisions;
static struct replay_mode_measure measure;
static const struct replay_hosts_options options = { .hosts = 2, .workers = 1, .speed = 1,
						     .sync.overshoot_permille = 100 };

/* COUNT requests for one key, all at one time, of which the first ALLOWED were
 * admitted, by 10 tokens in a second. */
static void at_once(uint32_t count, uint32_t allowed)
{
	policies[0] = (struct weir_policy){ .name = "p", .limit_count = 1,
					    .limits = { { 10, S, 10, WEIR_TOKEN_BUCKET, 0 } } };
	hosts[0] = (struct replay_host){ .rounds = 3, .longest_round_ns = 1000,
					 .longest_unmerged_ns = 7000 };
	hosts[1] = (struct replay_host){ .rounds = 4, .longest_round_ns = 2000,
					 .longest_unmerged_ns = 5000 };
	decisions = (struct replay_decisions){ .mode = WEIR_BOUNDED, .times_ns = times_ns,
					       .answers = answers, .hosts = hosts,
					       .slowest_ns = 100 };
	for (uint32_t i = 0; i < count; i++) {
		requests[i] = (struct replay_request){ .key = 0 };
		times_ns[i] = 5 * S;
		answers[i] = i < allowed ? WEIR_ALLOWED : WEIR_DENIED;
	}
}

static const struct replay_policy_measure *measured(uint32_t count)
{
	struct replay_input input = { .requests = requests, .request_count = count,
				      .keys.count = 2 };
	struct weir_error error;

	ck_assert_int_eq(replay_measure(&input, &plan, &options, &decisions, &measure, &error), 0);
	return &measure.policies[0];
}

START_TEST(a_burst_is_within)
{
	const struct replay_policy_measure *policy;

	at_once(15, 10);
	policy = measured(15);
	ck_assert_uint_eq(policy->outcomes[WEIR_ALLOWED], 10);
	ck_assert_uint_eq(policy->outcomes[WEIR_DENIED], 5);
	ck_assert_uint_eq(policy->ideal, 10);
	ck_assert_uint_eq((uint64_t)policy->limits[0].over, 0);
	ck_assert_int_eq(replay_verdict_of(policy, 0), REPLAY_WITHIN);
	replay_measure_free(&measure);
}
END_TEST

/* One token more than the bound allows is found, and one that it allows is not. */
START_TEST(a_token_too_many)
{
	for (uint32_t over = 1; over <= 2; over++) {
		const struct replay_policy_measure *policy;

		at_once(15, 10 + over);
		policy = measured(15);
		ck_assert_uint_eq(policy->ideal, 10);
		ck_assert_uint_eq((uint64_t)policy->limits[0].over, over * S);
		ck_assert_int_eq(replay_verdict_of(policy, 0),
				 over == 1 ? REPLAY_WITHIN : REPLAY_ABOVE);
		replay_measure_free(&measure);
	}
}
END_TEST

/* Keys are apart, and their order is that of the decisions: the last request in the
 * log was decided a second before the others, and its token is back by then. */
START_TEST(order_is_that_of_decisions)
{
	const struct replay_policy_measure *policy;

	at_once(12, 12);
	times_ns[11] = 4 * S;
	requests[10].key = 1;
	policy = measured(12);
	ck_assert_uint_eq(policy->ideal, 12);
	ck_assert_uint_eq((uint64_t)policy->limits[0].over, 0);
	replay_measure_free(&measure);

	/* A nanosecond less than a tenth of a second: 1 ns x 10 is still owed. */
	times_ns[11] = 5 * S - S / 10 + 1;
	policy = measured(12);
	ck_assert_uint_eq(policy->ideal, 11);
	ck_assert_uint_eq((uint64_t)policy->limits[0].over, 10);
	ck_assert_uint_eq(policy->limits[0].key, 0);
	replay_measure_free(&measure);
}
END_TEST

/* What a fail mode admitted, no bound speaks of; what it refused does no harm. */
START_TEST(fail_modes)
{
	const struct replay_policy_measure *policy;

	at_once(15, 10);
	answers[14] = WEIR_UNAVAILABLE | REPLAY_ANSWER_FAIL_MODE;
	answers[13] = WEIR_DENIED | REPLAY_ANSWER_MODE;
	policy = measured(15);
	ck_assert_uint_eq(policy->outcomes[WEIR_UNAVAILABLE], 1);
	ck_assert_uint_eq(policy->by_fail_mode, 1);
	ck_assert_uint_eq(policy->denied_by_mode, 1);
	ck_assert_int_eq(replay_verdict_of(policy, 0), REPLAY_WITHIN);
	replay_measure_free(&measure);
	answers[14] = WEIR_ALLOWED | REPLAY_ANSWER_FAIL_MODE;
	ck_assert_int_eq(replay_verdict_of(measured(15), 0), REPLAY_NO_VERDICT);
	replay_measure_free(&measure);
}
END_TEST

START_TEST(hosts_are_summed_up)
{
	at_once(1, 1);
	measured(1);
	ck_assert_uint_eq(measure.rounds, 7);
	ck_assert_uint_eq(measure.longest_round_ns, 2000);
	ck_assert_uint_eq(measure.longest_unmerged_ns, 7000);
	replay_measure_free(&measure);
}
END_TEST

static replay_wide bound_of(enum weir_consistency mode)
{
	const struct weir_limit limit = { 100, S, 50, WEIR_TOKEN_BUCKET, 0 };
	const struct replay_bound bound = { .hosts = 3, .cap = 4, .unmerged_ns = S / 2,
					    .round_ns = S / 10 - 2003, .span_ns = 10 * S };

	return replay_bound_of(mode, &limit, &bound);
}

/* docs/sync.md, Modes: B = 50, r = 100, W = 0.5 s, d = 0.1 s, Q = 4, in three hosts. */
START_TEST(bounds)
{
	ck_assert_uint_eq((uint64_t)(bound_of(WEIR_BOUNDED) / S), 2 * 4 + 10);
	ck_assert_uint_eq((uint64_t)(bound_of(WEIR_EVENTUAL) / S), 2 * (50 + 50) + 10);
	ck_assert_uint_eq((uint64_t)(bound_of(WEIR_LOCAL) / S), 2 * (50 + 1000));
	ck_assert_uint_eq((uint64_t)bound_of(WEIR_STRICT), 0);
}
END_TEST

START_TEST(caps)
{
	const struct weir_limit limit = { 1000, S, 0, WEIR_TOKEN_BUCKET, 0 };
	const struct weir_limit small = { 10, S, 10, WEIR_TOKEN_BUCKET, 0 };

	ck_assert_uint_eq(replay_cap_of(&limit, 3, 50), 25);
	ck_assert_uint_eq(replay_cap_of(&limit, 10, 50), 5);
	ck_assert_uint_eq(replay_cap_of(&small, 3, 50), 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("replay-debt");
	TCase *tests = tcase_create("debt");

	tcase_add_test(tests, a_burst_is_within);
	tcase_add_test(tests, a_token_too_many);
	tcase_add_test(tests, order_is_that_of_decisions);
	tcase_add_test(tests, fail_modes);
	tcase_add_test(tests, hosts_are_summed_up);
	tcase_add_test(tests, bounds);
	tcase_add_test(tests, caps);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
