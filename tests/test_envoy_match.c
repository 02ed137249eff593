/* SPDX-License-Identifier: Apache-2.0 */
/* Which rule a descriptor is held to, what its bucket is called, and where it is counted. */
#include <check.h>
#include <stdio.h>

#include "tests/envoy_double.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static struct engine_double fake;

static void start(void)
{
	double_init(&fake);
}

/* Each rule has a number of its own, by which it is told. */
static const char tree[] =
	"domain: d\n"
	"descriptors:\n"
	"- {key: user, rate_limit: {unit: hour, requests_per_unit: 1}}\n"
	"- {key: user, value: ann, rate_limit: {unit: hour, requests_per_unit: 2}}\n"
	"- {key: user, value: 'a*', rate_limit: {unit: hour, requests_per_unit: 3}}\n"
	"- {key: user, value: 'ab*', rate_limit: {unit: hour, requests_per_unit: 4}}\n"
	"- {key: 'us*', rate_limit: {unit: hour, requests_per_unit: 5}}\n"
	"- key: path\n"
	"  value: /x\n"
	"  rate_limit: {unit: hour, requests_per_unit: 6}\n"
	"  descriptors:\n"
	"  - {key: method, value: GET, rate_limit: {unit: hour, requests_per_unit: 7}}\n"
	"  - {key: method, rate_limit: {unit: hour, requests_per_unit: 8}}\n"
	"  - {key: only, value: child}\n"
	"- key: path\n"
	"  descriptors:\n"
	"  - {key: other, rate_limit: {unit: hour, requests_per_unit: 9}}\n"
	"- {key: a_b, value: c, rate_limit: {unit: hour, requests_per_unit: 10}}\n"
	"- {key: empty_, rate_limit: {unit: hour, requests_per_unit: 11}}\n"
	"- {key: plain}\n";

static const struct {
	const char *descriptor;
	uint32_t rule;          /* 0: none */
} found[] = {
	{ "user=bob", 5 },              /* a wildcard comes before the key alone */
	{ "user=ann", 2 },
	{ "user=anne", 3 },
	{ "user=abel", 3 },             /* the first wildcard, not the longest */
	{ "user=", 5 },
	{ "usable=x", 5 },
	{ "user=ann,more=1", 0 },
	{ "path=/x", 6 },
	{ "path=/x,method=GET", 7 },
	{ "path=/x,method=PUT", 8 },
	{ "path=/x,other=1", 0 },       /* no way back to "path" alone */
	{ "path=/y,other=1", 9 },
	{ "path=/y,method=GET", 0 },
	{ "path=/x,only=child", 0 },
	{ "path=/x,method=GET,more=1", 0 },
	{ "a=b_c", 10 },                /* what is joined can be split elsewhere */
	{ "a_b=c", 10 },
	{ "empty=", 11 },
	{ "empty=x", 0 },
	{ "plain=x", 0 },
	{ "nothing=x", 0 },
};

START_TEST(rules)
{
	struct envoy_service *service = double_service(&fake, NULL, tree);
	struct envoy_answer answer = double_ask(service, "d", found[_i].descriptor, 1);
	struct envoy_status *status = &answer.statuses[0];

	ck_assert_int_eq(status->code, CODE_OK);
	ck_assert_int_eq(status->has_limit, found[_i].rule > 0);
	ck_assert_uint_eq(status->requests_per_unit, found[_i].rule);
	ck_assert_uint_eq(status->limit_remaining, found[_i].rule ? found[_i].rule - 1 : 0);
	envoy_service_free(service);
}
END_TEST

START_TEST(unknown_domain)
{
	struct envoy_service *service = double_service(&fake, NULL, tree);
	struct envoy_answer answer = double_ask(service, "other", "user=ann", 1);

	ck_assert_int_eq(answer.overall, CODE_OK);
	ck_assert(!answer.statuses[0].has_limit);
	ck_assert_uint_eq(double_stat(service, "other", STAT_DOMAIN_NOT_FOUND), 1);
	ck_assert_uint_eq(fake.calls, 0);
	envoy_service_free(service);
}
END_TEST

START_TEST(no_entries)
{
	struct envoy_service *service = double_service(&fake, NULL, tree);
	struct envoy_descriptor none = { 0 };
	struct envoy_request request = { TEXT("d"), &none, 1, 0, 7 };
	struct envoy_answer answer;

	ck_assert_int_eq(envoy_service_answer(double_reader(service), &request, &answer, NULL), WEIR_OK);
	ck_assert_int_eq(answer.statuses[0].code, CODE_OK);
	ck_assert(!answer.statuses[0].has_limit);
	envoy_service_free(service);
}
END_TEST

/* ---- Keys ---------------------------------------------------------------------- */

START_TEST(bucket_keys)
{
	struct envoy_options options;
	struct envoy_service *service;

	envoy_options_init(&options);
	options.key_prefix = "p:";
	service = double_service(&fake, &options,
		"domain: d\n"
		"descriptors:\n"
		"- {key: k, rate_limit: {unit: minute, requests_per_unit: 9}}\n"
		"- key: file\n"
		"  value: 'x*'\n"
		"  share_threshold: true\n"
		"  descriptors:\n"
		"  - {key: file, value: 'x*', rate_limit: {unit: day, requests_per_unit: 9}}\n"
		"- {key: all, value: '*', share_threshold: true,\n"
		"   rate_limit: {unit: minute, requests_per_unit: 9}}\n");
	double_ask(service, "d", "k=v", 2);
	double_ask(service, "d", "k=", 3);
	double_ask(service, "d", "file=xa,file=xb", 4);
	double_ask(service, "d", "file=xc,file=xb", 1);
	double_ask(service, "d", "all=1", 1);
	double_ask(service, "d", "all=2", 1);
	ck_assert_uint_eq(double_counted(&fake, 60, "p:d_k_v_"), 2);
	ck_assert_uint_eq(double_counted(&fake, 60, "p:d_k__"), 3);
	ck_assert_uint_eq(double_counted(&fake, 86400, "p:d_file_x*_file_xb_"), 5);
	ck_assert_uint_eq(double_counted(&fake, 60, "p:d_all_*_"), 2);
	envoy_service_free(service);
}
END_TEST

/* ---- Metric keys --------------------------------------------------------------- */

static const char metrics[] =
	"domain: d\n"
	"descriptors:\n"
	"- {key: plain, rate_limit: {unit: hour, requests_per_unit: 9}}\n"
	"- {key: v, value_to_metric: true, rate_limit: {unit: hour, requests_per_unit: 9},\n"
	"   metadata: {a: b}}\n"
	"- {key: det, detailed_metric: true, rate_limit: {unit: hour, requests_per_unit: 9}}\n"
	"- {key: w, value: 'x*', rate_limit: {unit: hour, requests_per_unit: 9}}\n"
	"- {key: wv, value: 'x*', value_to_metric: true, rate_limit: {unit: hour, "
	"requests_per_unit: 9}}\n"
	"- {key: s, value: 'x*', share_threshold: true, value_to_metric: true,\n"
	"   rate_limit: {unit: hour, requests_per_unit: 9}}\n"
	"- {key: sd, value: 'x*', share_threshold: true, detailed_metric: true,\n"
	"   rate_limit: {unit: hour, requests_per_unit: 9}}\n"
	"- key: deep\n"
	"  value_to_metric: true\n"
	"  descriptors:\n"
	"  - {key: end, value: here, rate_limit: {unit: hour, requests_per_unit: 9}}\n"
	"- {key: e_, rate_limit: {unit: hour, requests_per_unit: 9}}\n";

static const struct {
	const char *descriptor;
	const char *key;
} metric_keys[] = {
	{ "plain=1", "d.plain" },
	{ "v=1", "d.v_1" },
	{ "v=", "d.v" },
	{ "det=1", "d.det_1" },
	{ "det=", "d.det_" },
	{ "w=xyz", "d.w_x*" },
	{ "wv=xyz", "d.wv_xyz" },
	{ "s=xyz", "d.s_x*" },
	{ "sd=xyz", "d.sd_x*" },
	{ "deep=5,end=here", "d.deep_5.end_here" },
	{ "e=", "d.e" },
};

START_TEST(metric_key)
{
	struct envoy_service *service = double_service(&fake, NULL, metrics);

	double_ask(service, "d", metric_keys[_i].descriptor, 3);
	ck_assert_uint_eq(double_stat(service, metric_keys[_i].key, STAT_TOTAL_HITS), 3);
	ck_assert_uint_eq(double_stat(service, metric_keys[_i].key, STAT_WITHIN_LIMIT), 3);
	envoy_service_free(service);
}
END_TEST

/* Requests bring no more metric keys along than there is room for. */
START_TEST(metric_keys_are_bounded)
{
	struct envoy_options options;
	struct envoy_service *service;
	char descriptor[32];

	envoy_options_init(&options);
	options.stats_keys = 2;
	service = double_service(&fake, &options, metrics);
	for (int i = 0; i < 10; i++) {
		snprintf(descriptor, sizeof(descriptor), "v=%d", i);
		double_ask(service, "d", descriptor, 1);
	}
	ck_assert_uint_eq(double_stat(service, "d.v_0", STAT_TOTAL_HITS), 1);
	ck_assert_uint_eq(double_stat(service, "d.v_1", STAT_TOTAL_HITS), 1);
	ck_assert_uint_eq(double_stat(service, "d.v_2", STAT_TOTAL_HITS), 0);
	ck_assert_uint_eq(double_stat(service, "d.v", STAT_TOTAL_HITS), 8);
	ck_assert_uint_eq(stats_refused(envoy_service_stats(service)), 8);
	envoy_service_free(service);
}
END_TEST

static const struct {
	const char *key;
	const char *clean;
} cleaned[] = {
	{ "a.b_c", "a.b_c" },
	{ "a:b|c", "a_b_c" },
	{ "a.ip_10.0.0.1.b", "a.ip_10_0_0_1.b" },
	{ "1234.5.6.7.8", "1234_5_6_7.8" },
	{ "1.2.3", "1.2.3" },
	{ "1.2.3.4:80", "1_2_3_4_80" },
	{ "1.2.3.4444", "1_2_3_4444" },
	{ "", "" },
};

START_TEST(clean_keys)
{
	struct stats_table *table = stats_table_new(0);
	struct stats *stats = stats_of_rule(table, text_of(cleaned[_i].key));
	char clean[64];

	ck_assert_ptr_eq(stats, stats_of_rule(table, text_of(cleaned[_i].key)));
	stats_clean_key(stats, clean);
	ck_assert_str_eq(clean, cleaned[_i].clean);
	stats_table_free(table);
}
END_TEST

/* ---- Overrides ----------------------------------------------------------------- */

START_TEST(override)
{
	struct envoy_service *service = double_service(&fake, NULL, tree);
	struct envoy_descriptor descriptor = double_descriptor("user=ann,x=");
	struct envoy_request request = { TEXT("d"), &descriptor, 1, 2, 7 };
	struct envoy_answer answer;
	struct weir_error error;

	descriptor.has_override = true;
	descriptor.override_requests = 3;
	descriptor.override_unit = UNIT_DAY;
	ck_assert_int_eq(envoy_service_answer(double_reader(service), &request, &answer, &error),
			 WEIR_OK);
	ck_assert_uint_eq(answer.statuses[0].requests_per_unit, 3);
	ck_assert_int_eq(answer.statuses[0].unit, UNIT_DAY);
	ck_assert_uint_eq(answer.statuses[0].limit_remaining, 1);
	ck_assert_uint_eq(double_counted(&fake, 86400, "d_user_ann_x__"), 2);
	ck_assert_uint_eq(double_stat(service, "d.user_ann.x", STAT_TOTAL_HITS), 2);

	/* The domain must be there, the unit, too. */
	request.domain = TEXT("other");
	ck_assert_int_eq(envoy_service_answer(double_reader(service), &request, &answer, &error),
			 WEIR_OK);
	ck_assert(!answer.statuses[0].has_limit);
	request.domain = TEXT("d");
	descriptor.override_unit = 8;
	ck_assert_int_eq(envoy_service_answer(double_reader(service), &request, &answer, &error),
			 WEIR_EINVAL);
	descriptor.override_unit = UNIT_UNKNOWN;
	ck_assert_int_eq(envoy_service_answer(double_reader(service), &request, &answer, &error),
			 WEIR_EINVAL);
	ck_assert_uint_eq(envoy_service_counter(service, COUNTER_SERVICE_ERROR), 2);

	fake.policies_max = fake.policy_count;
	descriptor.override_unit = UNIT_YEAR;
	ck_assert_int_eq(envoy_service_answer(double_reader(service), &request, &answer, &error),
			 WEIR_ENOSPC);
	envoy_service_free(service);
}
END_TEST

/* ---- Replacing ----------------------------------------------------------------- */

static const char replacing[] =
	"domain: d\n"
	"descriptors:\n"
	"- {key: a, rate_limit: {unit: hour, requests_per_unit: 1, name: A}}\n"
	"- {key: b, rate_limit: {unit: hour, requests_per_unit: 2, name: B, replaces: "
	"[{name: A}, {name: C}]}}\n"
	"- {key: c, rate_limit: {unlimited: true, name: C, replaces: [{name: B}]}}\n"
	"- {key: nameless, rate_limit: {unit: hour, requests_per_unit: 3}}\n";

static const struct {
	const char *descriptors;
	const char *limits;     /* of each: 0: none, u: unlimited */
} replaced[] = {
	{ "a=1", "1" },
	{ "b=1", "2" },
	{ "c=1", "u" },
	{ "a=1; b=1", "02" },
	{ "b=1; a=1; a=2", "200" },
	{ "a=1; c=1", "1u" },
	{ "b=1; c=1", "0u" },           /* an unlimited one replaces, and stays */
	{ "a=1; b=1; c=1", "00u" },     /* a replaced one replaces all the same */
	{ "nameless=1; b=1", "32" },
};

START_TEST(replaces)
{
	struct envoy_service *service = double_service(&fake, NULL, replacing);
	struct envoy_answer answer = double_ask(service, "d", replaced[_i].descriptors, 1);
	const char *limits = replaced[_i].limits;

	ck_assert_uint_eq(answer.status_count, strlen(limits));
	for (size_t i = 0; i < answer.status_count; i++) {
		const struct envoy_status *status = &answer.statuses[i];

		ck_assert_int_eq(status->code, CODE_OK);
		ck_assert_int_eq(status->has_limit, limits[i] >= '1' && limits[i] <= '9');
		if (limits[i] == 'u')
			ck_assert_uint_eq(status->limit_remaining, UINT32_MAX);
		else
			ck_assert_uint_eq(status->requests_per_unit, (uint32_t)limits[i] - '0');
	}
	envoy_service_free(service);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("envoy_match");
	TCase *cases = tcase_create("matching");

	tcase_add_checked_fixture(cases, start, NULL);
	tcase_add_loop_test(cases, rules, 0, LENGTH(found));
	tcase_add_test(cases, unknown_domain);
	tcase_add_test(cases, no_entries);
	tcase_add_test(cases, bucket_keys);
	tcase_add_loop_test(cases, metric_key, 0, LENGTH(metric_keys));
	tcase_add_test(cases, metric_keys_are_bounded);
	tcase_add_loop_test(cases, clean_keys, 0, LENGTH(cleaned));
	tcase_add_test(cases, override);
	tcase_add_loop_test(cases, replaces, 0, LENGTH(replaced));
	suite_add_tcase(suite, cases);

	return suite_run(suite);
}
