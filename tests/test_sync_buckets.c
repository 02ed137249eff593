/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync_buckets.c - policies that share their buckets, on several hosts: what one
 * host charges by one policy, another finds by another one.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/suite.h"
#include "tests/sync_redis.h"

static weir_policy_id set(int host, const char *name, const char *limits, const char *buckets)
{
	struct weir_policy policy = fixture_policy(name, limits);

	policy.consistency = WEIR_EVENTUAL;
	strcpy(policy.buckets, buckets);
	ck_assert_int_eq(weir_policy_set(hosts[host], &policy, 1, NULL), 0);
	return weir_policy_find(hosts[host], name);
}

static uint64_t counted(int host, weir_policy_id policy, uint64_t cost)
{
	struct weir_decision decision;

	weir_allow_n(hosts[host], policy, "key", 3, cost, &decision);
	return decision.counted;
}

static struct weir_policy api(void)
{
	return host_policy("100/1d fixed-window", WEIR_EVENTUAL, WEIR_FAIL_OPEN);
}

/* Both policies on both hosts; each host charges by both. */
START_TEST(test_hosts_agree)
{
	static const char *const limits[] = { "1000/1d fixed-window", "1000/1d sliding-window" };
	struct weir_policy policy = api();
	weir_policy_id large[2], small[2];

	hosts_open(2, url, &policy);
	for (int i = 0; i < 2; i++) {
		char tenth[64];

		snprintf(tenth, sizeof(tenth), "100%s", strchr(limits[_i], '/'));
		small[i] = set(i, "small", tenth, "plans");
		large[i] = set(i, "large", limits[_i], "plans");
	}
	ck_assert_uint_eq(counted(0, small[0], 3), 3);
	ck_assert_uint_eq(counted(0, large[0], 40), 43);
	/* A host that was never asked for a key has no view of it. */
	ck_assert_uint_eq(counted(1, small[1], 1), 1);
	wait_until(counted(1, small[1], 0) == 44);
	ck_assert_uint_eq(counted(1, small[1], 49), 93);
	wait_until(counted(0, large[0], 0) == 93 && counted(1, large[1], 0) == 93);
	/* Beyond the small one's limit, within the large one's. */
	ck_assert_uint_eq(counted(0, small[0], 8), 93);
	ck_assert_uint_eq(counted(0, large[0], 8), 101);
	wait_until(counted(1, small[1], 0) == 101);
	hosts_close();
}
END_TEST

START_TEST(test_published)
{
	struct weir_sync_options options = host_sync(url, 1);
	struct weir_policy policy = api();
	const char *name = "plan";

	hosts_create(2, &policy);
	options.follow_policies = true;
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(weir_sync_start(hosts[i], &options, NULL), 0);
	all_are_fresh();
	set(0, "plan", "7/1s fixed-window", "plans");
	ck_assert_int_eq(weir_sync_publish(hosts[0], &options, &name, 1, NULL, NULL), 0);
	wait_until(weir_policy_get(hosts[1], "plan", &policy, NULL) == 0);
	ck_assert_str_eq(policy.buckets, "plans");
	hosts_close();
}
END_TEST

/* Hosts that charge other buckets do not limit each other: they are told. */
START_TEST(test_disagreement)
{
	struct weir_disagreement found;
	struct weir_policy policy = api();

	hosts_open(2, url, &policy);
	set(0, "plan", "7/1s fixed-window", "plans");
	set(1, "plan", "7/1s fixed-window", "");
	wait_until(weir_sync_disagreements(hosts[1], &found, 1) == 1);
	ck_assert_str_eq(found.ours, "7/1s fixed-window eventual");
	ck_assert_str_eq(found.theirs, "7/1s fixed-window eventual buckets plans");
	set(1, "plan", "7/1s fixed-window", "plans");
	wait_until(weir_sync_disagreements(hosts[1], &found, 1) == 0);
	hosts_close();
}
END_TEST

/* Nothing is counted of what this host's share of the limit denies. */
START_TEST(test_denied_by_share)
{
	static const char *const limits[] = { "100/1d fixed-window", "100/1d sliding-window" };
	struct weir_policy policy = host_policy(limits[_i], WEIR_BOUNDED, WEIR_FAIL_SHARE);
	weir_policy_id api;

	hosts_create(1, &policy);
	api = weir_policy_find(hosts[0], "api");
	ck_assert_int_eq(host_start(hosts[0], "unix:///nowhere", 2, NULL), 0);
	ck_assert_uint_eq(counted(0, api, 30), 30);
	ck_assert_uint_eq(counted(0, api, 30), 30);
	ck_assert_uint_eq(counted(0, api, 20), 50);
	hosts_close();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_buckets");
	TCase *tests = tcase_create("sync_buckets");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, server_begin_patient, server_end);
	tcase_add_loop_test(tests, test_hosts_agree, 0, 2);
	tcase_add_test(tests, test_published);
	tcase_add_test(tests, test_disagreement);
	tcase_add_loop_test(tests, test_denied_by_share, 0, 2);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
