/* SPDX-License-Identifier: Apache-2.0 */
/* What is answered and counted with compat strict: a request that is denied spends nothing. */
#include <check.h>

#include "tests/envoy_fixture.h"
#include "tests/suite.h"

static void begin(void)
{
	envoy_begin();
	options.compat = COMPAT_STRICT;
}

START_TEST(strict_spends_nothing_when_denied)
{
	struct envoy_service *service = start_service();
	struct envoy_answer answer;

	ck_assert_int_eq(ask(service, "ten=1; two=1", 2).overall, CODE_OK);
	answer = ask(service, "ten=1; two=1", 1);
	ck_assert_int_eq(answer.overall, CODE_OVER_LIMIT);
	ck_assert_int_eq(answer.statuses[0].code, CODE_OK);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 8);
	ck_assert_int_eq(answer.statuses[1].code, CODE_OVER_LIMIT);
	ck_assert_uint_eq(double_counted(&fake, 60, "d_ten_1_"), 2);
	ck_assert_uint_eq(double_counted(&fake, 3600, "d_two_1_"), 2);
	ck_assert_int_eq(ask(service, "none=1", 1).overall, CODE_OVER_LIMIT);
	envoy_service_free(service);
}
END_TEST

/* A check without hits asks whether one would pass; with compat envoy it never does
 * harm, and so is OK where nothing is left. */
START_TEST(checks_without_hits)
{
	struct envoy_descriptor check = double_descriptor("two=1");
	struct envoy_request request = { TEXT("d"), &check, 1, 1, 7 };
	struct envoy_service *service;
	struct envoy_answer answer;

	check.has_hits = true;
	options.compat = _i ? COMPAT_STRICT : COMPAT_ENVOY;
	service = start_service();
	envoy_service_answer(double_reader(service), &request, &answer, NULL);
	ck_assert_int_eq(answer.overall, CODE_OK);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 2);
	ask(service, "two=1", 2);
	envoy_service_answer(double_reader(service), &request, &answer, NULL);
	ck_assert_int_eq(answer.overall, _i ? CODE_OVER_LIMIT : CODE_OK);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 0);
	ck_assert_uint_eq(double_counted(&fake, 3600, "d_two_1_"), 2);
	envoy_service_free(service);
}
END_TEST

/* Another request takes what was there: what was charged is given back. */
START_TEST(strict_gives_back)
{
	struct envoy_service *service = start_service();
	struct envoy_answer answer;

	fake.steal_at = 4;      /* two looks, one charge, and then "two" is taken */
	answer = ask(service, "ten=1; two=1", 1);
	ck_assert_int_eq(answer.overall, CODE_OVER_LIMIT);
	ck_assert_int_eq(answer.statuses[0].code, CODE_OK);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 10);
	ck_assert_uint_eq(double_counted(&fake, 60, "d_ten_1_"), 0);
	ck_assert_uint_eq(double_stat(service, "d.two", STAT_OVER_LIMIT), 1);
	envoy_service_free(service);
}
END_TEST

/* The same key twice in a request that has room for one. */
START_TEST(strict_with_one_key_twice)
{
	struct envoy_service *service = start_service();
	struct envoy_answer answer;

	ask(service, "two=1", 1);
	ck_assert_int_eq(ask(service, "two=1; two=1", 1).overall, CODE_OVER_LIMIT);
	ck_assert_uint_eq(double_counted(&fake, 3600, "d_two_1_"), 1);
	/* Each is told what is left once all was given back. */
	answer = ask(service, "ten=1; ten=1; ten=1", 4);
	ck_assert_int_eq(answer.overall, CODE_OVER_LIMIT);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 10);
	ck_assert_uint_eq(answer.statuses[1].limit_remaining, 10);
	envoy_service_free(service);
}
END_TEST

/* A rule in shadow mode refuses nothing, and what refuses spends nothing of its. */
START_TEST(strict_shadow)
{
	struct envoy_service *service = start_service();

	ck_assert_int_eq(ask(service, "shadow=1; ten=1", 3).overall, CODE_OK);
	ck_assert_uint_eq(double_counted(&fake, 3600, "d_shadow_1_"), 0);
	ck_assert_uint_eq(double_counted(&fake, 60, "d_ten_1_"), 3);
	ck_assert_uint_eq(double_stat(service, "d.shadow", STAT_SHADOW_MODE), 3);
	envoy_service_free(service);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("envoy_strict");
	TCase *cases = tcase_create("strict");

	tcase_add_checked_fixture(cases, begin, NULL);
	tcase_add_test(cases, strict_spends_nothing_when_denied);
	tcase_add_loop_test(cases, checks_without_hits, 0, 2);
	tcase_add_test(cases, strict_gives_back);
	tcase_add_test(cases, strict_with_one_key_twice);
	tcase_add_test(cases, strict_shadow);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
