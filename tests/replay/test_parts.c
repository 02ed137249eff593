/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, the plan of policies, percentiles: the parts of a replay that need no
 * segment. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "src/cli/replay-key.h"
#include "src/cli/replay-latency.h"
#include "src/cli/replay-plan.h"
#include "tests/suite.h"

/* ---- Keys --------------------------------------------------------------- */

static struct replay_text text(const char *bytes)
{
	return (struct replay_text){ bytes, strlen(bytes) };
}

static struct replay_line line_of(const char *addr, const char *path)
{
	return (struct replay_line){
		.time_ns = 1,
		.fields = { text(addr), text("-"), text("GET"), text(path), text("agent") },
	};
}

START_TEST(forms)
{
	struct replay_key_form form;
	struct weir_error error;

	ck_assert_int_eq(replay_key_form_parse("user-agent", &form, &error), 0);
	ck_assert_uint_eq(form.count, 1);
	ck_assert_int_eq(form.fields[0], REPLAY_USER_AGENT);
	ck_assert_int_eq(replay_key_form_parse("path+addr+user+method+user-agent", &form, &error),
			 0);
	ck_assert_uint_eq(form.count, REPLAY_FIELD_COUNT);
	ck_assert_int_eq(form.fields[0], REPLAY_PATH);
	ck_assert_int_eq(form.fields[1], REPLAY_ADDR);
	for (int field = 0; field < REPLAY_FIELD_COUNT; field++) {
		const char *name = replay_field_name((enum replay_field)field);

		ck_assert_int_eq(replay_key_form_parse(name, &form, &error), 0);
		ck_assert_int_eq(form.fields[0], field);
	}
}
END_TEST

START_TEST(forms_that_are_none)
{
	static const char *const none[] = { "", "+", "addr+", "+addr", "addr++path", "Addr", "add",
					    "addr path", "addr+path+addr", "user-agen" };

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		struct replay_key_form form;
		struct weir_error error = { 0 };

		ck_assert_int_eq(replay_key_form_parse(none[i], &form, &error), WEIR_EINVAL);
		ck_assert_int_eq(error.status, WEIR_EINVAL);
		ck_assert_ptr_nonnull(strstr(error.message, "--key"));
	}
}
END_TEST

START_TEST(one_field_is_the_key)
{
	struct replay_key_form form = { 1, { REPLAY_PATH } };
	struct replay_line line = line_of("a", "/path");
	uint8_t key[REPLAY_KEY_SIZE];

	ck_assert_uint_eq(replay_key_build(&form, &line, key), 5);
	ck_assert_mem_eq(key, "/path", 5);
	ck_assert_uint_eq(replay_key_field(&form, key, 5, 0).length, 5);
}
END_TEST

START_TEST(fields_come_out_as_they_went_in)
{
	struct replay_key_form form = { 3, { REPLAY_PATH, REPLAY_ADDR, REPLAY_METHOD } };
	static char path[300];  /* a length of two bytes */
	struct replay_line line;
	uint8_t key[REPLAY_KEY_SIZE];
	struct replay_text field;
	size_t length;

	memset(path, 'p', sizeof(path) - 1);
	line = line_of("address", path);
	length = replay_key_build(&form, &line, key);
	ck_assert_uint_eq(length, 3 * 4 + 299 + 7 + 3);
	field = replay_key_field(&form, key, length, 0);
	ck_assert_uint_eq(field.length, 299);
	ck_assert_mem_eq(field.bytes, path, 299);
	field = replay_key_field(&form, key, length, 1);
	ck_assert_uint_eq(field.length, 7);
	ck_assert_mem_eq(field.bytes, "address", 7);
	field = replay_key_field(&form, key, length, 2);
	ck_assert_uint_eq(field.length, 3);
	ck_assert_mem_eq(field.bytes, "GET", 3);
}
END_TEST

START_TEST(fields_do_not_run_into_each_other)
{
	struct replay_key_form form = { 2, { REPLAY_ADDR, REPLAY_PATH } };
	struct replay_line one = line_of("ab", "c"), other = line_of("a", "bc");
	uint8_t first[REPLAY_KEY_SIZE], second[REPLAY_KEY_SIZE];
	size_t length = replay_key_build(&form, &one, first);

	ck_assert_uint_eq(replay_key_build(&form, &other, second), length);
	ck_assert_mem_ne(first, second, length);
}
END_TEST

START_TEST(a_set_numbers_its_keys)
{
	enum { KEYS = 5000 };
	struct replay_key_set set;
	struct weir_error error;

	ck_assert_int_eq(replay_key_set_init(&set, &error), 0);
	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < KEYS; i++) {
			uint8_t key[32] = { 0 };        /* a number, then zero bytes */
			size_t length = sizeof(i) + i % 28;
			uint32_t number;

			memcpy(key, &i, sizeof(i));
			ck_assert_int_eq(replay_key_set_add(&set, key, length, &number, &error), 0);
			ck_assert_uint_eq(number, i);
			ck_assert_uint_eq(set.keys[number].length, length);
			ck_assert_mem_eq(replay_key_bytes(&set, number), key, length);
		}
		ck_assert_uint_eq(set.count, KEYS);
	}
	replay_key_set_free(&set);
}
END_TEST

START_TEST(numbers_follow_the_first_sight)
{
	static const char *const keys[] = { "b", "a", "b", "c", "a", "" };
	static const uint32_t numbers[] = { 0, 1, 0, 2, 1, 3 };
	struct replay_key_set set;
	struct weir_error error;

	ck_assert_int_eq(replay_key_set_init(&set, &error), 0);
	for (size_t i = 0; i < 6; i++) {
		uint32_t number;

		ck_assert_int_eq(replay_key_set_add(&set, (const uint8_t *)keys[i], strlen(keys[i]),
						    &number, &error), 0);
		ck_assert_uint_eq(number, numbers[i]);
	}
	replay_key_set_free(&set);
}
END_TEST

/* ---- Plan --------------------------------------------------------------- */

static void plan_of(struct replay_plan *plan, size_t count)
{
	static const struct weir_limit limits[WEIR_LIMITS_MAX] = {
		{ .limit = 1, .period_ns = 1000000000 },
		{ .limit = 2, .period_ns = 1000000000, .algorithm = WEIR_FIXED_WINDOW },
		{ .limit = 3, .period_ns = 1000000000 },
		{ .limit = 4, .period_ns = 1000000000 },
	};
	struct weir_error error;

	ck_assert_int_eq(replay_plan_limits(plan, limits, count, &error), 0);
}

START_TEST(one_limit_needs_no_second_policy)
{
	struct replay_plan plan;

	plan_of(&plan, 1);
	ck_assert_uint_eq(plan.policy_count, 1);
	ck_assert_uint_eq(plan.alone_count, 0);
	ck_assert_uint_eq(plan.limits_per_key, 1);
	ck_assert_str_eq(plan.policies[0].name, "replay");
	ck_assert_int_eq(weir_policy_check(&plan.policies[0], NULL), 0);
	replay_plan_free(&plan);
}
END_TEST

START_TEST(each_limit_of_several_is_a_policy_too)
{
	struct replay_plan plan;

	plan_of(&plan, 4);
	ck_assert_uint_eq(plan.policy_count, 1);
	ck_assert_uint_eq(plan.policies[0].limit_count, 4);
	ck_assert_uint_eq(plan.alone_count, 4);
	ck_assert_uint_eq(plan.limits_per_key, 8);
	for (uint32_t i = 0; i < 4; i++) {
		const struct weir_policy *alone = &plan.policies[1 + i];

		ck_assert_uint_eq(plan.alone[i].policy, 0);
		ck_assert_uint_eq(plan.alone[i].limit, i);
		ck_assert_uint_eq(alone->limit_count, 1);
		ck_assert_uint_eq(alone->limits[0].limit, i + 1);
		ck_assert_int_eq(weir_policy_check(alone, NULL), 0);
		for (uint32_t j = 0; j < 1 + i; j++)
			ck_assert_str_ne(alone->name, plan.policies[j].name);
	}
	replay_plan_free(&plan);
}
END_TEST

START_TEST(accelerated)
{
	struct weir_limit limits[2];
	struct replay_plan plan, faster;
	struct weir_error error;

	ck_assert_int_eq(weir_limit_parse("10/1m", &limits[0], &error), 0);
	ck_assert_int_eq(weir_limit_parse("100/1h burst 7", &limits[1], &error), 0);
	ck_assert_int_eq(replay_plan_limits(&plan, limits, 2, &error), 0);
	ck_assert_int_eq(replay_plan_accelerate(&plan, 100, &faster, &error), 0);
	ck_assert_uint_eq(faster.policy_count, 1);
	ck_assert_uint_eq(faster.limits_per_key, 2);
	ck_assert_uint_eq(faster.policies[0].limits[0].period_ns, 600000000);
	ck_assert_uint_eq(faster.policies[0].limits[0].burst, 10);
	ck_assert_uint_eq(faster.policies[0].limits[1].period_ns, 36000000000);
	ck_assert_uint_eq(faster.policies[0].limits[1].burst, 7);
	replay_plan_free(&faster);

	/* 60 s / 1 ms, and one more. */
	ck_assert_int_eq(replay_plan_accelerate(&plan, 60000, &faster, &error), 0);
	replay_plan_free(&faster);
	ck_assert_int_eq(replay_plan_accelerate(&plan, 60001, &faster, &error), WEIR_EINVAL);
	ck_assert_ptr_nonnull(strstr(error.message, "10/1m"));
	replay_plan_free(&plan);
}
END_TEST

START_TEST(slots)
{
	struct replay_plan plan = { .limits_per_key = 1 };

	ck_assert_uint_eq(replay_round_slots(1), 16);
	ck_assert_uint_eq(replay_round_slots(17), 32);
	ck_assert_uint_eq(replay_round_slots(1ull << 32), 1ull << 32);
	ck_assert_uint_eq(replay_round_slots(UINT64_MAX), 1ull << 32);

	ck_assert_uint_eq(replay_plan_slots(&plan, 1), 16);
	ck_assert_uint_eq(replay_plan_slots(&plan, 512), 1024);
	ck_assert_uint_eq(replay_plan_slots(&plan, 513), 2048);
	ck_assert_uint_eq(replay_plan_slots(&plan, 1u << 31), 1ull << 32);
	ck_assert_uint_eq(replay_plan_slots(&plan, (1u << 31) + 1), 0);
	plan.limits_per_key = 8192;
	ck_assert_uint_eq(replay_plan_slots(&plan, 1u << 18), 1ull << 32);
	ck_assert_uint_eq(replay_plan_slots(&plan, UINT32_MAX), 0);
}
END_TEST

/* ---- Percentiles -------------------------------------------------------- */

START_TEST(percentiles)
{
	static const struct {
		size_t count;
		uint64_t p50, p99, p99_9;       /* of 1 to COUNT */
	} expected[] = {
		{ 1, 1, 1, 1 }, { 2, 1, 2, 2 }, { 3, 2, 3, 3 }, { 100, 50, 99, 100 },
		{ 101, 51, 100, 101 }, { 999, 500, 990, 999 }, { 1000, 500, 990, 999 },
		{ 1001, 501, 991, 1000 }, { 2500, 1250, 2475, 2498 },
	};
	static uint32_t samples[2500];
	size_t count = expected[_i].count;
	struct replay_latency latency;

	for (size_t i = 0; i < count; i++)
		samples[i] = (uint32_t)(i * 17 % count + 1);    /* 17 divides none of the counts */
	replay_latency_of(samples, count, &latency);
	ck_assert_uint_eq(latency.p50_ns, expected[_i].p50);
	ck_assert_uint_eq(latency.p99_ns, expected[_i].p99);
	ck_assert_uint_eq(latency.p99_9_ns, expected[_i].p99_9);
	ck_assert_uint_eq(latency.max_ns, count);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("replay-parts");
	TCase *keys = tcase_create("keys");
	TCase *plan = tcase_create("plan");
	TCase *latency = tcase_create("latency");

	tcase_add_test(keys, forms);
	tcase_add_test(keys, forms_that_are_none);
	tcase_add_test(keys, one_field_is_the_key);
	tcase_add_test(keys, fields_come_out_as_they_went_in);
	tcase_add_test(keys, fields_do_not_run_into_each_other);
	tcase_add_test(keys, a_set_numbers_its_keys);
	tcase_add_test(keys, numbers_follow_the_first_sight);
	suite_add_tcase(suite, keys);

	tcase_add_test(plan, one_limit_needs_no_second_policy);
	tcase_add_test(plan, each_limit_of_several_is_a_policy_too);
	tcase_add_test(plan, accelerated);
	tcase_add_test(plan, slots);
	suite_add_tcase(suite, plan);

	tcase_add_loop_test(latency, percentiles, 0, 9);
	suite_add_tcase(suite, latency);

	return suite_run(suite);
}
