/* SPDX-License-Identifier: Apache-2.0 */
/* Envoy's rules in a real segment: what was tested with counters of a test holds there. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>

#include "serve/envoy/engine_weir.h"
#include "tests/envoy_double.h"
#include "tests/fixture.h"
#include "tests/suite.h"

static struct weir *weir;
static struct engine_weir engine;
static struct envoy_service *service;

static void start(void)
{
	struct weir_options segment;

	weir_options_init(&segment);
	segment.slots = 1024;
	segment.policies = 16;
	weir = fixture_open(&segment);
	engine_weir_init(&engine, weir, WEIR_BOUNDED, WEIR_FAIL_SHARE);
}

static void end(void)
{
	envoy_service_free(service);
	weir_close(weir);
}

static void load(enum envoy_compat compat, const char *yaml)
{
	struct envoy_source source = { TEXT("x"), text_of(yaml) };
	struct envoy_options options;
	struct weir_error error;

	envoy_options_init(&options);
	options.compat = compat;
	options.config.extensions = true;
	if (!service)
		ck_assert_int_eq(envoy_service_new(&options, &engine.engine, &service, &error),
				 WEIR_OK);
	ck_assert_msg(envoy_service_load(service, &source, 1, &error) == WEIR_OK, "%s",
		      error.message);
}

#define RULE(limit) "domain: d\ndescriptors: [{key: k, rate_limit: {unit: year, " limit "}}]"

/* A year's window does not end during the test, or ends once. */
START_TEST(counts_beyond_the_limit)
{
	struct weir_policy policy;

	load(COMPAT_ENVOY, RULE("requests_per_unit: 3"));
	ck_assert_uint_eq(double_ask(service, "d", "k=1", 2).statuses[0].limit_remaining, 1);
	ck_assert_int_eq(double_ask(service, "d", "k=1", 2).overall, CODE_OVER_LIMIT);
	ck_assert_int_eq(double_ask(service, "d", "k=2", 2).overall, CODE_OK);

	/* Raised to what was counted, it is not over; one more is. */
	load(COMPAT_ENVOY, RULE("requests_per_unit: 5"));
	ck_assert_uint_eq(double_ask(service, "d", "k=1", 1).statuses[0].limit_remaining, 0);
	ck_assert_int_eq(double_ask(service, "d", "k=1", 1).overall, CODE_OVER_LIMIT);
	ck_assert_int_eq(weir_policy_get(weir, "rls:5/31536000s", &policy, NULL), WEIR_OK);
	ck_assert_str_eq(policy.buckets, "rls:31536000s");
}
END_TEST

/* What a bucket cannot count leaves it over the limit, as a sum in Redis would be. */
START_TEST(more_than_can_be_counted)
{
	static const uint64_t many[] = { WEIR_COUNT_MAX + 1, 1ull << 50, UINT64_MAX };
	struct envoy_descriptor descriptor;
	struct envoy_request request = { TEXT("d"), &descriptor, 1, 1, 7 };
	struct envoy_reader *reader;
	struct envoy_answer answer;

	load(COMPAT_ENVOY, RULE("requests_per_unit: 4294967295"));
	reader = double_reader(service);
	for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++) {
		char entries[] = { 'k', '=', (char)('a' + i), '\0' };

		ck_assert_int_eq(double_ask(service, "d", entries, 5).overall, CODE_OK);
		descriptor = double_descriptor(entries);
		descriptor.has_hits = true;
		descriptor.hits = many[i];
		ck_assert_int_eq(envoy_service_answer(reader, &request, &answer, NULL), WEIR_OK);
		ck_assert_int_eq(answer.overall, CODE_OVER_LIMIT);
		ck_assert_int_eq(double_ask(service, "d", entries, 1).overall, CODE_OVER_LIMIT);
	}
}
END_TEST

START_TEST(strict)
{
	load(COMPAT_STRICT, RULE("requests_per_unit: 3"));
	ck_assert_int_eq(double_ask(service, "d", "k=1; k=2", 2).overall, CODE_OK);
	ck_assert_int_eq(double_ask(service, "d", "k=1", 2).overall, CODE_OVER_LIMIT);
	ck_assert_uint_eq(double_ask(service, "d", "k=1", 1).statuses[0].limit_remaining, 0);
	/* The second is over, so the first is not charged. */
	ck_assert_int_eq(double_ask(service, "d", "k=3; k=1", 1).overall, CODE_OVER_LIMIT);
	ck_assert_uint_eq(double_ask(service, "d", "k=3", 1).statuses[0].limit_remaining, 2);
	/* One key twice: what was charged first is given back. */
	ck_assert_int_eq(double_ask(service, "d", "k=4; k=4", 2).overall, CODE_OVER_LIMIT);
	ck_assert_uint_eq(double_ask(service, "d", "k=4", 1).statuses[0].limit_remaining, 2);
}
END_TEST

#define THREADS 3
#define WIDE 900
#define NARROW 500

/* Two limits at once, until nothing passes any more for a while. */
static void *take_both(void *context)
{
	static const struct envoy_entry wide = { TEXT("wide"), TEXT("") },
					narrow = { TEXT("narrow"), TEXT("") };
	const struct envoy_descriptor descriptors[] = {
		{ .entries = &wide, .entry_count = 1 },
		{ .entries = &narrow, .entry_count = 1 },
	};
	const struct envoy_request request = { TEXT("d"), descriptors, 2, 1, 7 };
	struct envoy_reader *reader = envoy_reader_new(service);
	struct envoy_answer answer;
	uint64_t *allowed = context;

	for (int denied = 0; denied < 100 && reader; denied++) {
		if (envoy_service_answer(reader, &request, &answer, NULL) == WEIR_OK &&
		    answer.overall == CODE_OK) {
			++*allowed;
			denied = 0;
		}
	}
	return NULL;
}

/* Whoever comes second gives back what it took first: in the end as much was charged to
 * both as was allowed, and no more than the narrow one has. */
START_TEST(strict_among_threads)
{
	uint64_t allowed[THREADS] = { 0 }, sum = 0;
	struct envoy_answer answer;
	pthread_t threads[THREADS];
	char yaml[256];

	snprintf(yaml, sizeof(yaml), "domain: d\ndescriptors:\n"
		 "- {key: wide, rate_limit: {unit: year, requests_per_unit: %d}}\n"
		 "- {key: narrow, rate_limit: {unit: year, requests_per_unit: %d}}\n", WIDE, NARROW);
	load(COMPAT_STRICT, yaml);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, take_both, &allowed[i]), 0);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		sum += allowed[i];
	}
	ck_assert_uint_eq(sum, NARROW);
	answer = double_ask(service, "d", "wide=; narrow=", 1);
	ck_assert_int_eq(answer.overall, CODE_OVER_LIMIT);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, WIDE - NARROW);
}
END_TEST

START_TEST(token_bucket)
{
	struct envoy_answer answer;

	load(COMPAT_ENVOY, RULE("requests_per_unit: 1, algorithm: token-bucket"));
	answer = double_ask(service, "d", "k=1", 1);
	ck_assert_int_eq(answer.overall, CODE_OK);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 0);
	ck_assert_uint_le(answer.statuses[0].until_reset_s, 365 * 86400);
	ck_assert_uint_gt(answer.statuses[0].until_reset_s, 364 * 86400);
	ck_assert_int_eq(double_ask(service, "d", "k=1", 1).overall, CODE_OVER_LIMIT);
}
END_TEST

/* Rules for LIMITS limits of a year, from FIRST on. */
static void load_limits(unsigned first, unsigned limits, int expected)
{
	struct envoy_source source = { TEXT("x"), { 0 } };
	struct weir_error error;
	char yaml[4096];
	size_t length;

	length = (size_t)snprintf(yaml, sizeof(yaml), "domain: d\ndescriptors:\n");
	for (unsigned i = 0; i < limits; i++)
		length += (size_t)snprintf(yaml + length, sizeof(yaml) - length,
					   "- {key: k%u, rate_limit: {unit: year, "
					   "requests_per_unit: %u}}\n", i, first + i);
	ck_assert_uint_lt(length, sizeof(yaml));
	source.text = text_of(yaml);
	ck_assert_int_eq(envoy_service_load(service, &source, 1, &error), expected);
	if (expected < 0)
		ck_assert_ptr_nonnull(strstr(error.message, "no room for the policy rls:"));
}

static bool has_policy(unsigned limit)
{
	char name[WEIR_NAME_MAX + 1];

	snprintf(name, sizeof(name), "rls:%u/31536000s", limit);
	return weir_policy_find(weir, name) != WEIR_NO_POLICY;
}

/* There is room for 16.  Whatever is loaded, it is not used up by what was. */
START_TEST(reloads_leave_nothing_behind)
{
	const struct weir_policy own = {
		.name = "own", .limit_count = 1,
		.limits[0] = { .limit = 1, .period_ns = 1000000000 },
	};

	ck_assert_int_eq(weir_policy_set(weir, &own, 1, NULL), WEIR_OK);
	load(COMPAT_ENVOY, RULE("requests_per_unit: 1"));
	for (unsigned i = 0; i < 3000; i++)
		load_limits(10 * i + 1, 1 + i % 7, WEIR_OK);
	/* Those of the last two, 3 and 4 rules, and what others have made. */
	ck_assert_uint_eq(weir_policy_list(weir, NULL, 0), 3 + 4 + 1);
	ck_assert(has_policy(29991) && has_policy(29994) && has_policy(29983) &&
		  !has_policy(29971));
	ck_assert_uint_ne(weir_policy_find(weir, "own"), WEIR_NO_POLICY);
	/* One that several have stays, for as long as one of them has it. */
	for (int i = 0; i < 3; i++)
		load_limits(29994, 1, WEIR_OK);
	ck_assert_uint_eq(weir_policy_list(weir, NULL, 0), 2);
	ck_assert_int_eq(double_ask(service, "d", "k0=1", 1).overall, CODE_OK);
}
END_TEST

START_TEST(rules_that_do_not_fit)
{
	load(COMPAT_ENVOY, RULE("requests_per_unit: 1"));
	load_limits(1, 8, WEIR_OK);
	/* There is room beside those in force, but not beside those before them, which go. */
	load_limits(101, 8, WEIR_OK);
	load_limits(201, 8, WEIR_OK);
	load_limits(301, 9, WEIR_ENOSPC);
	/* Nothing of what was refused is left, and nothing is lost of what is in force. */
	ck_assert(!has_policy(301) && has_policy(201) && has_policy(208));
	ck_assert_int_eq(double_ask(service, "d", "k7=1", 208).overall, CODE_OK);
	ck_assert_int_eq(double_ask(service, "d", "k7=1", 1).overall, CODE_OVER_LIMIT);
	load_limits(301, 8, WEIR_OK);
}
END_TEST

/* Limits of requests are as many as there are numbers: those that no rule has make room. */
START_TEST(limits_of_requests)
{
	struct envoy_descriptor descriptor = double_descriptor("k=1");
	struct envoy_request request = { TEXT("d"), &descriptor, 1, 1, 7 };
	struct envoy_reader *reader;
	struct envoy_answer answer;
	struct weir_error error;

	load(COMPAT_ENVOY, RULE("requests_per_unit: 1"));
	reader = double_reader(service);
	descriptor.has_override = true;
	descriptor.override_unit = UNIT_YEAR;
	for (uint32_t i = 1; i <= 500; i++) {
		descriptor.override_requests = i;
		ck_assert_msg(envoy_service_answer(reader, &request, &answer, &error) == WEIR_OK,
			      "%s", error.message);
		/* They share a bucket, which nothing that was removed has emptied. */
		ck_assert_int_eq(answer.overall, CODE_OK);
		ck_assert_uint_eq(answer.statuses[0].limit_remaining, 0);
	}
	ck_assert(has_policy(1));       /* which a rule has */

	/* With a rule in each place there is none to make, also a second later. */
	load_limits(1, 8, WEIR_OK);
	load_limits(1, 16, WEIR_OK);
	descriptor.override_requests = 1000;
	for (uint64_t i = 0; i < 3; i++) {
		request.now_s += i;
		ck_assert_int_eq(envoy_service_answer(reader, &request, &answer, &error),
				 WEIR_ENOSPC);
		ck_assert_ptr_nonnull(strstr(error.message, "rls:1000/31536000s"));
	}
	/* Those that are there go on, and a reload makes room at once. */
	descriptor.override_requests = 16;
	ck_assert_int_eq(envoy_service_answer(reader, &request, &answer, &error), WEIR_OK);
	load_limits(1, 8, WEIR_OK);
	descriptor.override_requests = 1000;
	ck_assert_int_eq(envoy_service_answer(reader, &request, &answer, &error), WEIR_OK);
}
END_TEST

/* Without a policy, a fail mode's word would be the answer: it is made again. */
START_TEST(policy_that_is_gone)
{
	struct weir_policy other = { .limit_count = 1, .name = "other",
				     .limits[0] = { .limit = 1, .period_ns = 1000000000 } };

	load(COMPAT_ENVOY, RULE("requests_per_unit: 3"));
	ck_assert_int_eq(double_ask(service, "d", "k=1", 1).overall, CODE_OK);
	for (unsigned left = 2; left-- > 0;) {
		ck_assert_int_eq(weir_policy_remove(weir, "rls:3/31536000s", NULL), WEIR_OK);
		/* Its place is another one's now. */
		ck_assert_int_eq(weir_policy_set(weir, &other, 1, NULL), WEIR_OK);
		ck_assert_uint_eq(double_ask(service, "d", "k=1", 1).statuses[0].limit_remaining,
				  left);
		ck_assert(has_policy(3));
	}
	ck_assert_int_eq(double_ask(service, "d", "k=1", 1).overall, CODE_OVER_LIMIT);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("envoy_engine");
	TCase *cases = tcase_create("segment");

	tcase_add_checked_fixture(cases, start, end);
	tcase_add_test(cases, counts_beyond_the_limit);
	tcase_add_test(cases, more_than_can_be_counted);
	tcase_add_test(cases, strict);
	tcase_add_test(cases, strict_among_threads);
	tcase_add_test(cases, token_bucket);
	tcase_add_test(cases, reloads_leave_nothing_behind);
	tcase_add_test(cases, rules_that_do_not_fit);
	tcase_add_test(cases, limits_of_requests);
	tcase_add_test(cases, policy_that_is_gone);
	suite_add_tcase(suite, cases);

	return suite_run(suite);
}
