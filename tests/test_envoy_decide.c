/* SPDX-License-Identifier: Apache-2.0 */
/* What is answered: codes, remaining, resets, headers, metadata, and what is counted. */
#include <check.h>
#include <stdlib.h>

#include "tests/envoy_fixture.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static struct pool scratch;

static void end(void)
{
	pool_free(&scratch);
}

/* ---- Compat envoy -------------------------------------------------------------- */

/* Requests of "ten" in turn: hits, then code and remaining. */
static const struct {
	uint32_t hits;
	enum envoy_code code;
	uint32_t remaining;
	uint64_t near, over, within;    /* sums so far; the limit is near from 8 on */
} turns[] = {
	{ 5, CODE_OK, 5, 0, 0, 5 },
	{ 4, CODE_OK, 1, 1, 0, 9 },
	{ 1, CODE_OK, 0, 2, 0, 10 },
	{ 1, CODE_OVER_LIMIT, 0, 2, 1, 10 },
	{ 5, CODE_OVER_LIMIT, 0, 2, 6, 10 },
};

START_TEST(counts_what_is_denied)
{
	struct envoy_service *service = start_service();

	for (size_t i = 0; i < LENGTH(turns); i++) {
		struct envoy_answer answer = ask(service, "ten=1", turns[i].hits);

		ck_assert_int_eq(answer.overall, turns[i].code);
		ck_assert_int_eq(answer.statuses[0].code, turns[i].code);
		ck_assert_uint_eq(answer.statuses[0].limit_remaining, turns[i].remaining);
		ck_assert_uint_eq(double_stat(service, "d.ten", STAT_NEAR_LIMIT), turns[i].near);
		ck_assert_uint_eq(double_stat(service, "d.ten", STAT_OVER_LIMIT), turns[i].over);
		ck_assert_uint_eq(double_stat(service, "d.ten", STAT_WITHIN_LIMIT),
				  turns[i].within);
	}
	ck_assert_uint_eq(double_counted(&fake, 60, "d_ten_1_"), 16);
	ck_assert_uint_eq(double_stat(service, "d.ten", STAT_TOTAL_HITS), 16);
	envoy_service_free(service);
}
END_TEST

/* One request across both thresholds is split among three counters. */
START_TEST(splits_hits)
{
	struct envoy_service *service = start_service();

	ask(service, "ten=1", 6);
	ask(service, "ten=1", 7);
	ck_assert_uint_eq(double_stat(service, "d.ten", STAT_NEAR_LIMIT), 2);
	ck_assert_uint_eq(double_stat(service, "d.ten", STAT_OVER_LIMIT), 3);
	ask(service, "ten=2", 9);
	ask(service, "ten=2", 2);
	ck_assert_uint_eq(double_stat(service, "d.ten", STAT_NEAR_LIMIT), 2 + 1 + 1);
	ck_assert_uint_eq(double_stat(service, "d.ten", STAT_OVER_LIMIT), 3 + 1);
	envoy_service_free(service);
}
END_TEST

START_TEST(status_fields)
{
	struct envoy_service *service = start_service();
	struct envoy_answer answer = ask(service, "ten=1; free=1; unknown=1", 1);
	struct envoy_status *ten = &answer.statuses[0];

	ck_assert(ten->has_limit && ten->has_reset);
	ck_assert_int_eq(ten->unit, UNIT_MINUTE);
	ck_assert_uint_eq(ten->unit_multiplier, 1);
	ck_assert(text_is(ten->name, TEXT("T")));
	ck_assert_uint_eq(ten->until_reset_s, 60 - 1720000007 % 60);
	ck_assert_uint_eq(answer.statuses[1].limit_remaining, UINT32_MAX);
	ck_assert(!answer.statuses[1].has_limit && !answer.statuses[1].has_reset);
	ck_assert_uint_eq(answer.statuses[2].limit_remaining, 0);
	ck_assert_int_eq(answer.statuses[2].code, CODE_OK);
	ck_assert_uint_eq(answer.header_count, 0);
	ck_assert_ptr_null(answer.metadata);
	envoy_service_free(service);
}
END_TEST

START_TEST(limit_of_zero)
{
	struct envoy_service *service = start_service();
	struct envoy_descriptor descriptor = double_descriptor("none=1");
	struct envoy_request request = { TEXT("d"), &descriptor, 1, 1, 7 };
	struct envoy_answer answer;

	descriptor.has_hits = true;
	envoy_service_answer(double_reader(service), &request, &answer, NULL);
	ck_assert_int_eq(answer.overall, CODE_OK);
	ck_assert_int_eq(ask(service, "none=1", 0).overall, CODE_OVER_LIMIT);
	envoy_service_free(service);
}
END_TEST

/* A descriptor's own hits go before the request's, also if they are 0. */
START_TEST(hits_of_descriptors)
{
	struct envoy_service *service = start_service();
	struct envoy_descriptor list[2] = { double_descriptor("ten=1"), double_descriptor("ten=2") };
	struct envoy_request request = { TEXT("d"), list, 2, 3, 7 };
	struct envoy_answer answer;

	list[1].has_hits = true;
	envoy_service_answer(double_reader(service), &request, &answer, NULL);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 7);
	ck_assert_uint_eq(answer.statuses[1].limit_remaining, 10);
	list[1].hits = 1ull << 33;
	envoy_service_answer(double_reader(service), &request, &answer, NULL);
	ck_assert_int_eq(answer.statuses[1].code, CODE_OVER_LIMIT);
	ck_assert_uint_eq(double_counted(&fake, 60, "d_ten_2_"), 1ull << 33);
	envoy_service_free(service);
}
END_TEST

START_TEST(shadow_mode)
{
	struct envoy_service *service = start_service();
	struct envoy_answer answer;

	ask(service, "shadow=1", 1);
	answer = ask(service, "shadow=1", 4);
	ck_assert_int_eq(answer.overall, CODE_OK);
	ck_assert_int_eq(answer.statuses[0].code, CODE_OK);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 0);
	ck_assert_uint_eq(double_stat(service, "d.shadow", STAT_OVER_LIMIT), 3);
	ck_assert_uint_eq(double_stat(service, "d.shadow", STAT_SHADOW_MODE), 3);
	envoy_service_free(service);
}
END_TEST

START_TEST(global_shadow_mode)
{
	struct envoy_service *service;
	struct envoy_answer answer;

	options.shadow_mode = true;
	service = start_service();
	answer = ask(service, "two=1; ten=1", 3);
	ck_assert_int_eq(answer.overall, CODE_OK);
	ck_assert_int_eq(answer.statuses[0].code, CODE_OVER_LIMIT);
	ck_assert_uint_eq(envoy_service_counter(service, COUNTER_GLOBAL_SHADOW_MODE), 1);
	envoy_service_free(service);
}
END_TEST

/* Three hits: "two" and "quota" are over, "ten" is not. */
static const struct {
	const char *descriptors;
	enum envoy_release release;
	bool global;
	enum envoy_code overall;
	enum envoy_code first;
} quotas[] = {
	{ "quota=1", ENVOY_2026_07, false, CODE_OVER_LIMIT, CODE_OVER_LIMIT },
	{ "quota=1; ten=1", ENVOY_2026_07, false, CODE_OVER_LIMIT, CODE_OVER_LIMIT },
	{ "quota=1; two=1", ENVOY_2026_07, false, CODE_OVER_LIMIT, CODE_OVER_LIMIT },
	{ "two=1; ten=1", ENVOY_2026_07, true, CODE_OK, CODE_OVER_LIMIT },
	{ "two=1; unknown=1", ENVOY_2026_07, true, CODE_OK, CODE_OVER_LIMIT },
	{ "two=1; free=1", ENVOY_2026_07, true, CODE_OVER_LIMIT, CODE_OVER_LIMIT },
	{ "free=1", ENVOY_2026_07, true, CODE_OK, CODE_OK },
	{ "quota=1", ENVOY_2026_01, false, CODE_OK, CODE_OK },
	{ "quota=1; two=1", ENVOY_2026_01, false, CODE_OVER_LIMIT, CODE_OK },
	{ "two=1", ENVOY_2026_01, true, CODE_OK, CODE_OK },
};

START_TEST(quota_mode)
{
	struct envoy_service *service;
	struct envoy_answer answer;

	options.quota_mode = quotas[_i].global;
	service = start_service();
	envoy_service_free(service);
	options.config.release = quotas[_i].release;
	service = double_service(&fake, &options,
		"domain: d\n"
		"descriptors:\n"
		"- {key: ten, rate_limit: {unit: minute, requests_per_unit: 10}}\n"
		"- {key: two, rate_limit: {unit: hour, requests_per_unit: 2}}\n"
		"- {key: quota, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 2}}\n"
		"- {key: free, rate_limit: {unlimited: true}}\n");
	answer = ask(service, quotas[_i].descriptors, 3);
	ck_assert_int_eq(answer.overall, quotas[_i].overall);
	ck_assert_int_eq(answer.statuses[0].code, quotas[_i].first);
	ck_assert_int_eq(answer.statuses[0].has_reset,
			 quotas[_i].descriptors[0] != 'f' &&
			 quotas[_i].release == ENVOY_2026_07);
	envoy_service_free(service);
}
END_TEST

/* With stop_counting_when_over only what goes over is counted, if anything does. */
START_TEST(stops_counting)
{
	struct envoy_service *service;

	options.stop_counting_when_over = true;
	service = start_service();
	ck_assert_int_eq(ask(service, "ten=1; two=1", 2).overall, CODE_OK);
	ck_assert_uint_eq(double_counted(&fake, 60, "d_ten_1_"), 2);
	ck_assert_int_eq(ask(service, "ten=1; two=1", 2).overall, CODE_OVER_LIMIT);
	ck_assert_uint_eq(double_counted(&fake, 60, "d_ten_1_"), 2);
	ck_assert_uint_eq(double_counted(&fake, 3600, "d_two_1_"), 4);
	envoy_service_free(service);
}
END_TEST

START_TEST(fail_modes)
{
	struct envoy_service *service = start_service();
	struct envoy_answer answer;

	fake.fail_mode = 1;
	answer = ask(service, "two=1", 5);
	ck_assert_int_eq(answer.overall, CODE_OK);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 2);
	fake.fail_mode = -1;
	answer = ask(service, "two=1", 1);
	ck_assert_int_eq(answer.overall, CODE_OVER_LIMIT);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 0);
	envoy_service_free(service);
}
END_TEST

/* ---- Headers ------------------------------------------------------------------- */

static const struct {
	const char *descriptors;
	uint32_t hits;
	const char *limit, *remaining;  /* NULL: no headers */
} headers[] = {
	{ "unknown=1", 1, NULL, NULL },
	{ "free=1", 1, NULL, NULL },
	{ "ten=1", 1, "10", "9" },
	{ "ten=1; two=1", 1, "2", "1" },
	{ "ten=1; two=1", 3, "2", "0" },
	{ "two=1; none=1; ten=1", 3, "0", "0" },        /* the last that refuses */
	{ "shadow=1; two=1", 3, "2", "0" },
	{ "quota=1; ten=1", 3, "2", "0" },
	{ "quota=1; none=1", 3, "0", "0" },
};

START_TEST(header)
{
	struct envoy_service *service;
	struct envoy_answer answer;

	options.headers = true;
	options.remaining_header = "X-Left";
	service = start_service();
	answer = ask(service, headers[_i].descriptors, headers[_i].hits);
	ck_assert_uint_eq(answer.header_count, headers[_i].limit ? 3 : 0);
	if (headers[_i].limit) {
		ck_assert_str_eq(answer.headers[0].name, "RateLimit-Limit");
		ck_assert_str_eq(answer.headers[0].value, headers[_i].limit);
		ck_assert_str_eq(answer.headers[1].name, "X-Left");
		ck_assert_str_eq(answer.headers[1].value, headers[_i].remaining);
		ck_assert_str_eq(answer.headers[2].name, "RateLimit-Reset");
		ck_assert_int_gt(atoi(answer.headers[2].value), 0);
	}
	envoy_service_free(service);
}
END_TEST

/* ---- Metadata ------------------------------------------------------------------ */

/* As JSON without quotes, in the order in which it is. */
static void write_value(struct builder *builder, const struct value *value)
{
	switch (value->kind) {
	case VALUE_NULL:
		builder_add(builder, TEXT("null"));
		return;
	case VALUE_BOOL:
		builder_add(builder, value->boolean ? TEXT("true") : TEXT("false"));
		return;
	case VALUE_NUMBER:
		builder_print(builder, "%g", value->number);
		return;
	case VALUE_STRING:
		builder_add(builder, value->string);
		return;
	default:
		break;
	}
	builder_add_char(builder, value->kind == VALUE_LIST ? '[' : '{');
	for (const struct value_field *field = value->first; field; field = field->next) {
		builder_add(builder, field->name);
		if (value->kind == VALUE_STRUCT)
			builder_add_char(builder, ':');
		write_value(builder, &field->value);
		if (field->next)
			builder_add_char(builder, ',');
	}
	builder_add_char(builder, value->kind == VALUE_LIST ? ']' : '}');
}

static void assert_metadata(const struct envoy_answer *answer, const char *wanted)
{
	struct builder builder = { .pool = &scratch };

	write_value(&builder, answer->metadata);
	builder_add_char(&builder, '\0');
	ck_assert_str_eq(builder_text(&builder).bytes, wanted);
}

START_TEST(metadata)
{
	struct envoy_descriptor list[2] = { double_descriptor("ten=1,x="),
					    double_descriptor("two=2") };
	struct envoy_request request = { TEXT("d"), list, 2, 5, 7 };
	struct envoy_service *service;
	struct envoy_answer answer;

	options.dynamic_metadata = true;
	service = start_service();
	list[0].has_hits = true;
	list[0].hits = 7;
	list[1].has_override = true;
	list[1].override_requests = 5;
	list[1].override_unit = UNIT_MINUTE;
	ck_assert_int_eq(envoy_service_answer(double_reader(service), &request, &answer, NULL), WEIR_OK);
	assert_metadata(&answer, "{domain:d,descriptors:[{entries:[ten=1,x=],hitsAddend:7},"
			"{entries:[two=2],limit:requests_per_unit:5 unit:MINUTE}],hitsAddend:5}");

	/* Of what passes; the first that has a field says what it is. */
	answer = ask(service, "quota=1; meta=1; unknown=1", 0);
	assert_metadata(&answer, "{domain:d,descriptors:[{entries:[quota=1]},{entries:[meta=1]},"
			"{entries:[unknown=1]}],metadata:{from:quota,deep:{a:1,b:3},more:true}}");
	answer = ask(service, "quota=1; meta=2", 2);
	assert_metadata(&answer, "{domain:d,descriptors:[{entries:[quota=1]},{entries:[meta=2]}],"
			"hitsAddend:2,metadata:{from:meta,deep:{a:2,b:3},more:true}}");
	/* What was merged into an answer is not in the next one. */
	answer = ask(service, "quota=9", 0);
	assert_metadata(&answer, "{domain:d,descriptors:[{entries:[quota=9]}],"
			"metadata:{from:quota,deep:{a:1}}}");
	envoy_service_free(service);
}
END_TEST

START_TEST(metadata_of_january)
{
	struct envoy_service *service;
	struct envoy_answer answer;

	options.dynamic_metadata = true;
	options.config.release = ENVOY_2026_01;
	service = double_service(&fake, &options,
		"domain: d\n"
		"descriptors:\n"
		"- {key: a, rate_limit: {unit: minute, requests_per_unit: 1}}\n"
		"- {key: q, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 1}}\n");
	answer = ask(service, "a=1", 0);
	assert_metadata(&answer, "{domain:d,descriptors:[{entries:[a=1]}],quotaModeEnabled:false}");
	answer = ask(service, "a=2; q=1; q=2", 2);
	assert_metadata(&answer, "{domain:d,descriptors:[{entries:[a=2]},{entries:[q=1]},"
			"{entries:[q=2]}],hitsAddend:2,quotaModeViolations:[1,2],"
			"quotaModeEnabled:true}");
	envoy_service_free(service);
}
END_TEST

/* ---- Token buckets ------------------------------------------------------------- */

START_TEST(token_bucket)
{
	struct envoy_service *service;
	struct envoy_answer answer;

	options.config.extensions = true;
	service = double_service(&fake, &options,
		"domain: d\n"
		"descriptors:\n"
		"- key: b\n"
		"  rate_limit: {unit: second, requests_per_unit: 2, algorithm: token-bucket,\n"
		"               burst: 6}\n");
	answer = ask(service, "b=1", 4);
	ck_assert_int_eq(answer.overall, CODE_OK);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 2);
	ck_assert_uint_eq(answer.statuses[0].until_reset_s, 2);
	ck_assert_int_eq(ask(service, "b=1", 3).overall, CODE_OVER_LIMIT);
	ck_assert_int_eq(ask(service, "b=1", 2).overall, CODE_OK);
	ck_assert_uint_eq(double_stat(service, "d.b", STAT_WITHIN_LIMIT), 6);
	ck_assert_uint_eq(double_stat(service, "d.b", STAT_OVER_LIMIT), 3);
	envoy_service_free(service);
}
END_TEST

/* ---- The service --------------------------------------------------------------- */

START_TEST(service_errors)
{
	struct envoy_descriptor descriptor = double_descriptor("ten=1");
	struct envoy_request request = { TEXT("d"), &descriptor, 1, 1, 7 };
	struct envoy_service *service;
	struct envoy_answer answer;
	struct weir_error error;

	ck_assert_int_eq(envoy_service_new(&options, &fake.engine, &service, &error), WEIR_OK);
	ck_assert(!envoy_service_loaded(double_reader(service), NULL));
	envoy_service_answer(double_reader(service), &request, &answer, &error);
	ck_assert_str_eq(error.message, "no rate limit configuration loaded");
	request.descriptor_count = 0;
	envoy_service_answer(double_reader(service), &request, &answer, &error);
	ck_assert_str_eq(error.message, "rate limit descriptor list must not be empty");
	request.domain = TEXT("");
	envoy_service_answer(double_reader(service), &request, &answer, &error);
	ck_assert_str_eq(error.message, "rate limit domain must not be empty");
	ck_assert_uint_eq(envoy_service_counter(service, COUNTER_SERVICE_ERROR), 3);
	envoy_service_free(service);

	options.near_limit_ratio = 1.5f;
	ck_assert_int_eq(envoy_service_new(&options, &fake.engine, &service, &error), WEIR_EINVAL);
}
END_TEST

/* A domain that has no rules has no limits, whatever the request brings along. */
START_TEST(override_of_an_unknown_domain)
{
	struct envoy_descriptor descriptor = double_descriptor("ten=1");
	struct envoy_request request = { TEXT("other"), &descriptor, 1, 1, 7 };
	struct envoy_service *service = start_service();
	size_t policies = fake.policy_count;
	struct envoy_answer answer;

	descriptor.has_override = true;
	for (int unit = UNIT_UNKNOWN; unit <= UNIT_WEEK + 1; unit++) {
		descriptor.override_unit = unit;
		ck_assert_int_eq(envoy_service_answer(double_reader(service), &request, &answer,
						      NULL), WEIR_OK);
		ck_assert_int_eq(answer.statuses[0].code, CODE_OK);
		ck_assert(!answer.statuses[0].has_limit);
	}
	ck_assert_uint_eq(fake.policy_count, policies);
	envoy_service_free(service);
}
END_TEST

START_TEST(long_keys_and_long_lists)
{
	struct envoy_service *service = start_service();
	struct envoy_descriptor descriptor = double_descriptor("ten=1");
	struct envoy_entry entry = { TEXT("ten"), { NULL, WEIR_KEY_MAX } };
	struct envoy_request request = { TEXT("d"), &descriptor, 1, 1, 7 };
	struct envoy_answer answer;
	struct weir_error error;
	char *long_value = calloc(1, WEIR_KEY_MAX);

	ck_assert_ptr_nonnull(long_value);
	entry.value.bytes = long_value;
	descriptor.entries = &entry;
	ck_assert_int_eq(envoy_service_answer(double_reader(service), &request, &answer, &error),
			 WEIR_EINVAL);
	request.descriptor_count = 2000;
	ck_assert_int_eq(envoy_service_answer(double_reader(service), &request, &answer, &error),
			 WEIR_EINVAL);
	free(long_value);
	envoy_service_free(service);
}
END_TEST

START_TEST(reload)
{
	struct envoy_source source = { TEXT("config.x.yaml"), TEXT("domain: e") };
	struct envoy_service *service = start_service();
	struct weir_error error;
	size_t domains;

	ask(service, "ten=1", 4);
	source.text = TEXT("domain: d\ndescriptors: [{key: ten}, {key: ten}]");
	ck_assert_int_eq(envoy_service_load(service, &source, 1, &error), WEIR_EINVAL);
	ck_assert_uint_eq(ask(service, "ten=1", 1).statuses[0].limit_remaining, 5);
	ck_assert_uint_eq(envoy_service_counter(service, COUNTER_CONFIG_LOAD_ERROR), 1);

	/* Another number goes on where the old one was. */
	source.text = TEXT("domain: d\ndescriptors: [{key: ten, rate_limit: {unit: minute, "
			   "requests_per_unit: 6}}]");
	ck_assert_int_eq(envoy_service_load(service, &source, 1, &error), WEIR_OK);
	ck_assert_uint_eq(ask(service, "ten=1", 1).statuses[0].limit_remaining, 0);
	ck_assert_uint_eq(envoy_service_counter(service, COUNTER_CONFIG_LOAD_SUCCESS), 2);
	ck_assert_uint_eq(double_stat(service, "d.ten", STAT_TOTAL_HITS), 6);
	ck_assert(envoy_service_loaded(double_reader(service), &domains));
	ck_assert_uint_eq(domains, 1);

	fake.policies_max = fake.policy_count;
	source.text = TEXT("domain: d\ndescriptors: [{key: ten, rate_limit: {unit: year}}]");
	ck_assert_int_eq(envoy_service_load(service, &source, 1, &error), WEIR_ENOSPC);
	ck_assert_int_eq(ask(service, "ten=1", 1).overall, CODE_OVER_LIMIT);
	envoy_service_free(service);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("envoy_decide");
	TCase *cases = tcase_create("deciding");

	tcase_add_checked_fixture(cases, envoy_begin, end);
	tcase_add_test(cases, counts_what_is_denied);
	tcase_add_test(cases, splits_hits);
	tcase_add_test(cases, status_fields);
	tcase_add_test(cases, limit_of_zero);
	tcase_add_test(cases, hits_of_descriptors);
	tcase_add_test(cases, shadow_mode);
	tcase_add_test(cases, global_shadow_mode);
	tcase_add_loop_test(cases, quota_mode, 0, LENGTH(quotas));
	tcase_add_test(cases, stops_counting);
	tcase_add_test(cases, fail_modes);
	tcase_add_loop_test(cases, header, 0, LENGTH(headers));
	tcase_add_test(cases, metadata);
	tcase_add_test(cases, metadata_of_january);
	tcase_add_test(cases, token_bucket);
	tcase_add_test(cases, service_errors);
	tcase_add_test(cases, override_of_an_unknown_domain);
	tcase_add_test(cases, long_keys_and_long_lists);
	tcase_add_test(cases, reload);
	suite_add_tcase(suite, cases);

	return suite_run(suite);
}
