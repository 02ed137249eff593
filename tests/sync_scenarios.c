/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sync_scenarios.h"

void thirty_each(const char *limit, enum weir_consistency consistency)
{
	open_hosts(HOSTS, limit, consistency, WEIR_FAIL_CLOSED);
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < HOSTS; i++)
			take(i, "customer", 1);
	}
	all_agree_on("customer", 10);
	for (int i = 0; i < HOSTS; i++)
		wait_until(status_of(hosts[i]).unmerged_tokens == 0);
	hosts_close();
}

void hammer_one_key(const char *limit)
{
	uint64_t admitted = 0, denied = 0;

	open_hosts(HOSTS, limit, WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	ck_assert_uint_eq(status_of(hosts[0]).largest_cap, 1);  /* 5 % of 60, for 2 others */
	while (denied < 300 * HOSTS) {
		for (int i = 0; i < HOSTS; i++) {
			struct weir_decision decision;

			if (ask(i, "hot", 1, &decision))
				admitted++;
			else if (decision.reason == WEIR_REASON_LIMIT)
				denied++;
			else
				nap();
		}
	}
	ck_assert_uint_ge(admitted, 60);
	ck_assert_uint_le(admitted, 60 + (HOSTS - 1) * 1);
	hosts_close();
}

void cut_one_off(const char *limit)
{
	open_hosts(HOSTS, limit, WEIR_BOUNDED, WEIR_FAIL_OPEN);
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 3);
	all_agree_on("key", 91);
	ck_assert_int_eq(weir_sync_pause(hosts[2], NULL), 0);
	wait_until(look(2, "key").reason == WEIR_REASON_STALE);
	take(2, "key", 20);
	take(0, "key", 5);
	take(1, "key", 1);
	wait_until(look(0, "key").remaining == 85 && look(1, "key").remaining == 85);
	ck_assert_uint_eq(look(2, "key").remaining, 71);
	ck_assert_int_eq(weir_sync_resume(hosts[2], NULL), 0);
	wait_until(is_fresh(hosts[2]));
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 1);
	all_agree_on("key", 62);
	ck_assert_uint_eq(status_of(hosts[2]).unmerged_tokens, 0);
	hosts_close();
}

void lose_redis(const char *limit, enum weir_fail_mode fail_mode, int meanwhile)
{
	open_hosts(HOSTS, limit, WEIR_BOUNDED, fail_mode);
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 10);
	all_agree_on("key", 70);
	redis_server_kill(server);
	for (int i = 0; i < HOSTS; i++)
		wait_until(!is_fresh(hosts[i]) && !status_of(hosts[i]).connected);
	take(0, "key", meanwhile);
	redis_server_restart(server);
	all_are_fresh();
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 5);
	all_agree_on("key", 55 - (uint64_t)meanwhile);
	hosts_close();
}

void stop_redis(const char *limit)
{
	open_hosts(HOSTS, limit, WEIR_EVENTUAL, WEIR_FAIL_OPEN);
	for (int i = 0; i < 5; i++) {
		take(0, "key", 3);
		redis_server_stop(server);
		take(0, "key", 3);
		wait_until(!status_of(hosts[0]).connected);
		take(1, "key", 1);
		redis_server_continue(server);
		/* Views are fresh a moment before the leader says that it is connected. */
		wait_until(is_fresh(hosts[0]) && is_fresh(hosts[1]) &&
			   status_of(hosts[0]).connected);
	}
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 1);
	all_agree_on("key", 1000 - 5 * 7 - HOSTS);
	/* Not one for each: the call that ended may be one of which nothing is in doubt. */
	ck_assert_uint_ge(fixture_counter(hosts[0], "sync_fences"), 1);
	hosts_close();
}

void refund_and_reset(const char *limit)
{
	open_hosts(HOSTS, limit, WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 13);
	all_agree_on("key", 61);
	give_back(0, "key", 10);
	take(1, "key", 1);
	take(2, "key", 1);
	all_agree_on("key", 69);
	/* All of it: the bucket is empty, and the cluster still hears of it. */
	give_back(0, "key", 3);
	take(1, "key", 1);
	all_agree_on("key", 71);
	forgive(2, "key");
	ck_assert_uint_eq(look(2, "key").remaining, 100);
	take(2, "key", 1);
	/* Merged, hence after the reset: what others took before it is forgiven. */
	wait_until(status_of(hosts[2]).unmerged_tokens == 0);
	ck_assert_uint_eq(look(2, "key").remaining, 99);
	take(0, "key", 1);
	take(1, "key", 1);
	all_agree_on("key", 97);
	hosts_close();
}
