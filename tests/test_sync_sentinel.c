/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync_sentinel.c - hosts whose Redis is killed and replaced by a replica that
 * lags: real servers, and a real sentinel that makes up its mind by itself.
 */
#include "tests/sentinel_fixture.h"
#include "tests/suite.h"
#include "tests/sync_fixture.h"

#define HOSTS 3
#define BURST 4000
#define CAP 100                 /* 5 % of the burst, for 2 others */

/* ---- Hosts ------------------------------------------------------------- */

static uint64_t admitted;

static void take_each(int count)
{
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", count);
	admitted += (uint64_t)(HOSTS * count);
}

static bool all_fresh(void)
{
	bool fresh = true;

	for (int i = 0; i < HOSTS; i++)
		fresh = fresh && is_fresh(hosts[i]);
	return fresh;
}

/* Ask all hosts without a pause.  Returns whether all have had enough. */
static bool hammer(void)
{
	int refused = 0;

	for (int i = 0; i < HOSTS; i++) {
		struct weir_decision decision;

		if (ask(i, "key", 1, &decision))
			admitted++;
		else
			refused += decision.reason == WEIR_REASON_LIMIT;
	}
	return refused == HOSTS;
}

/* Under load the master dies, and the replica that takes over has heard only of half:
 * the hosts tell it the rest.  Nothing is charged twice, and no more is admitted than
 * the bound: once (N - 1) Q, and once more for the failover. */
START_TEST(test_failover)
{
	struct weir_policy policy = host_policy("4000/365d", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	uint64_t at_failover, left, spent;
	const char *url;

	sentinel_start();
	url = sentinel_url("?command_ms=500");
	admitted = 0;
	hosts_open(HOSTS, url, &policy);
	ck_assert_uint_eq(status_of(hosts[0]).largest_cap, CAP);
	take_each(100);
	all_agree_on("key", BURST - admitted);
	sentinel_cut_replication();
	take_each(300);
	all_agree_on("key", BURST - admitted);
	at_failover = admitted;

	redis_server_kill(sentinel_master);
	while (all_fresh())
		hammer();
	ck_assert_uint_le(admitted, at_failover + HOSTS * CAP);
	/* Load until all have views again. */
	for (int i = 0; !all_fresh() && i < PATIENCE; i++) {
		hammer();
		nap();
	}
	for (int i = 0; i < HOSTS; i++)
		wait_until(status_of(hosts[i]).unmerged_tokens == 0);
	ck_assert(sentinel_has_promoted());

	/* The first round after the fence restores; whoever comes then finds it. */
	left = remaining_in_redis(url, &policy, "key");
	admitted++;
	spent = BURST - left;
	ck_assert_uint_le(spent, admitted);
	ck_assert_uint_ge(spent + (HOSTS - 1) * CAP, admitted);
	wait_until(hammer());
	ck_assert_uint_ge(admitted, BURST);
	ck_assert_uint_le(admitted, BURST + 2 * (HOSTS - 1) * CAP);
	hosts_close();
	sentinel_end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_sentinel");
	TCase *tests = tcase_create("sentinel");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, test_failover);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
