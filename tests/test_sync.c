/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync.c - hosts and a real Redis.
 */
#include <string.h>

#include <hiredis/hiredis.h>

#include "tests/suite.h"
#include "tests/sync_scenarios.h"

#define IDLE_NS 1600000000ull       /* 80 intervals: a bucket is idle after 63 */

/* ---- Tests ------------------------------------------------------------- */

START_TEST(test_thirty_each)
{
	static const enum weir_consistency modes[] = { WEIR_BOUNDED, WEIR_EVENTUAL };

	thirty_each("100/365d", modes[_i]);
}
END_TEST

START_TEST(test_bounded)
{
	hammer_one_key("60/365d");
}
END_TEST

/* A host that has never heard of Redis answers by the fail mode, at once. */
START_TEST(test_never_merged)
{
	static const enum weir_fail_mode modes[] = { WEIR_FAIL_OPEN, WEIR_FAIL_SHARE,
						     WEIR_FAIL_CLOSED };
	static const uint64_t admitted[] = { 12, 4, 0 };
	struct weir_policy policy = fixture_policy("api", "12/365d");
	struct weir *weir = host_open(host_secret);
	struct weir_decision decision;
	weir_policy_id id;
	uint64_t passed = 0;

	policy.fail_mode = modes[_i];
	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, NULL), 0);
	id = weir_policy_find(weir, "api");
	ck_assert_int_eq(weir_sync_pause(weir, NULL), 0);
	ck_assert_int_eq(host_start(weir, url, 3, NULL), 0);
	for (int i = 0; i < 30; i++) {
		passed += weir_allow(weir, id, "key", 3, &decision);
		ck_assert_int_eq(decision.reason, WEIR_REASON_STALE);
	}
	ck_assert_uint_eq(passed, admitted[_i]);
	if (modes[_i] == WEIR_FAIL_CLOSED) {
		ck_assert_int_eq(decision.outcome, WEIR_UNAVAILABLE);
		ck_assert_uint_eq(fixture_counter(weir, "stale_closed"), 30);
		/* Switchable at run time. */
		ck_assert_int_eq(weir_fail_mode_set(weir, "api", WEIR_FAIL_OPEN, NULL), 0);
		ck_assert(weir_allow(weir, id, "key", 3, &decision));
	}
	weir_close(weir);
}
END_TEST

START_TEST(test_partition)
{
	cut_one_off("100/365d");
}
END_TEST

START_TEST(test_redis_forgets)
{
	lose_redis("100/365d", WEIR_FAIL_SHARE, 0);
}
END_TEST

START_TEST(test_redis_stops)
{
	stop_redis("1000/365d");
}
END_TEST

START_TEST(test_refund_and_reset)
{
	refund_and_reset("100/365d");
}
END_TEST

/* What one host took is given back on another, also on one that never saw the key. */
START_TEST(test_refund_elsewhere)
{
	open_hosts(HOSTS, "100/365d", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	take(0, "key", 30);
	wait_until(status_of(hosts[0]).unmerged_tokens == 0);
	for (int i = 1; i < HOSTS; i++) {
		/* This one asks for the key first, the last one never has. */
		if (i == 1)
			take(i, "key", 1);
		give_back(i, "key", 10);
	}
	all_agree_on("key", 89);
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 1);
	all_agree_on("key", 86);
	hosts_close();
}
END_TEST

/* Buckets at their limit are idle after a while, and no round asks for them: what
 * another host gives back reaches them when they deny the next time. */
static void given_back_when_idle(const char *limit)
{
	uint64_t begun_ns;

	open_hosts(HOSTS, limit, WEIR_EVENTUAL, WEIR_FAIL_CLOSED);
	take(0, "reset", 100);
	take(1, "refund", 10);
	wait_until(status_of(hosts[1]).unmerged_tokens == 0);
	take(0, "refund", 90);
	wait_until(look(0, "refund").remaining == 0);
	wait_until(status_of(hosts[0]).unmerged_tokens == 0);
	begun_ns = weir_now_ns(hosts[0]);
	wait_until(weir_now_ns(hosts[0]) - begun_ns > IDLE_NS);
	forgive(1, "reset");
	give_back(1, "refund", 10);
	wait_until(ask(0, "reset", 1, NULL));
	wait_until(ask(0, "refund", 1, NULL));
	hosts_close();
}

START_TEST(test_given_back_when_idle)
{
	given_back_when_idle("100/365d");
}
END_TEST

START_TEST(test_given_back_when_idle_window)
{
	given_back_when_idle("100/365d fixed-window");
}
END_TEST

/* A reset where nobody ever asked for the key reaches the others, too. */
START_TEST(test_reset_elsewhere)
{
	open_hosts(HOSTS, "100/365d", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	take(0, "key", 30);
	wait_until(status_of(hosts[0]).unmerged_tokens == 0);
	ck_assert_uint_eq(look(0, "key").remaining, 70);
	forgive(1, "key");
	wait_until(look(0, "key").remaining == 100);
	hosts_close();
}
END_TEST

static void set_consistency(enum weir_consistency consistency, const char *limit)
{
	struct weir_policy policy = host_policy(limit, consistency, WEIR_FAIL_CLOSED);

	for (int i = 0; i < HOSTS; i++)
		ck_assert_int_eq(weir_policy_set(hosts[i], &policy, 1, NULL), 0);
}

/* A policy that was local for an hour brings what is owed to the others, and not
 * what was paid off long ago. */
START_TEST(test_local_and_back)
{
	uint64_t hour_ns = 3600 * SECOND, now_ns;

	open_hosts(HOSTS, "10/1s", WEIR_LOCAL, WEIR_FAIL_CLOSED);
	now_ns = weir_now_ns(hosts[0]);
	ck_assert_uint_gt(now_ns, hour_ns);
	for (uint64_t ago_ns = hour_ns; ago_ns > SECOND; ago_ns -= SECOND) {
		struct weir_request request = { .policy = ids[0], .key = "key", .key_length = 3,
						.cost = 10, .now_ns = now_ns - ago_ns };

		ck_assert(weir_decide(hosts[0], &request, NULL));
	}
	set_consistency(WEIR_BOUNDED, "10/1s");
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 1);
	all_agree_on("key", 10);
	hosts_close();
}
END_TEST

/* What is not merged when its policy is made local is not waited for: its slot is free
 * to be taken again. */
START_TEST(test_made_local)
{
	struct weir_sync_status status;

	open_hosts(HOSTS, "100/365d", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	ck_assert_int_eq(weir_sync_pause(hosts[0], NULL), 0);
	ck_assert(ask(0, "key", 1, NULL));
	status = status_of(hosts[0]);
	ck_assert_uint_eq(status.unmerged_tokens, 1);
	set_consistency(WEIR_LOCAL, "100/365d");
	ck_assert(ask(0, "key", 5, NULL));
	ck_assert_int_eq(weir_sync_resume(hosts[0], NULL), 0);
	wait_until(status_of(hosts[0]).unmerged_tokens == 0);
	ck_assert(ask(0, "key", 5, NULL));
	status = status_of(hosts[0]);
	ck_assert_uint_eq(status.unmerged_tokens, 0);
	hosts_close();
}
END_TEST

/* The cap in force is told before any leader has set it. */
START_TEST(test_cap_without_a_leader)
{
	struct weir_policy policy = host_policy("1000/1h", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	struct weir *weir = host_open(host_secret);

	ck_assert_int_eq(host_start(weir, "unix:///nowhere/redis.sock", 11, NULL), 0);
	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, NULL), 0);
	ck_assert_uint_eq(status_of(weir).largest_cap, 5);      /* 5 % of 1000, for 10 others */
	weir_close(weir);
}
END_TEST

/* A host with another secret shares nothing, and says so. */
START_TEST(test_other_secret)
{
	struct weir *other = host_open("another secret..");

	open_hosts(HOSTS, "10/1s", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	ck_assert_int_eq(host_start(other, url, 1, NULL), 0);
	wait_until(strstr(status_of(other).last_error, "another hash secret") != NULL);
	ck_assert(!is_fresh(other));
	weir_close(other);
	hosts_close();
}
END_TEST

/* Two processes of one host: when the leader is killed, the other takes over. */
START_TEST(test_takeover)
{
	struct weir_sync_status status;
	uint64_t term;

	open_hosts(HOSTS, "100/365d", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	status = status_of(hosts[0]);
	ck_assert(status.leading);
	term = status.term;
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 1);
	/* A leader whose process has gone: stopping resigns, starting stands anew. */
	ck_assert_int_eq(weir_sync_stop(hosts[0], NULL), 0);
	ck_assert(!status_of(hosts[0]).leading);
	ck_assert_int_eq(host_start(hosts[0], url, HOSTS, NULL), 0);
	wait_until(status_of(hosts[0]).leading);
	ck_assert_uint_gt(status_of(hosts[0]).term, term);
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 1);
	all_agree_on("key", 100 - 2 * HOSTS);
	hosts_close();
}
END_TEST

/* Buckets from before sync began are taken along, and so are those of a policy that
 * was removed and came back. */
START_TEST(test_begun_later)
{
	struct weir_policy policy = host_policy("100/365d", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	struct weir_error error;

	hosts_create(HOSTS, &policy);
	for (int i = 0; i < HOSTS; i++)
		ck_assert(ask(i, "key", 10, NULL));
	for (int i = 0; i < HOSTS; i++)
		ck_assert_msg(host_start(hosts[i], url, HOSTS, &error) == 0, "%s", error.message);
	all_are_fresh();
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 1);
	all_agree_on("key", 100 - 11 * HOSTS);
	for (int i = 0; i < HOSTS; i++) {
		ck_assert_int_eq(weir_policy_remove(hosts[i], "api", NULL), 0);
		ck_assert_int_eq(weir_policy_set(hosts[i], &policy, 1, NULL), 0);
		ids[i] = weir_policy_find(hosts[i], "api");
		take(i, "key", 1);
	}
	all_agree_on("key", 100 - 12 * HOSTS);
	hosts_close();
}
END_TEST

static int64_t keys_in_redis(void)
{
	redisContext *context = redis_server_connect(server);
	redisReply *reply = redisCommand(context, "DBSIZE");
	int64_t keys;

	ck_assert_ptr_nonnull(reply);
	keys = reply->integer;
	freeReplyObject(reply);
	redisFree(context);
	return keys;
}

/* A cluster that is given up leaves nothing in Redis; one that goes on loses nothing. */
START_TEST(test_erase)
{
	struct weir_sync_options options;
	struct weir_error error;

	weir_sync_options_init(&options);
	options.url = url;
	open_hosts(HOSTS, "100/365d", WEIR_EVENTUAL, WEIR_FAIL_CLOSED);
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 10);
	all_agree_on("key", 70);
	options.prefix = "another";
	ck_assert_int_eq(weir_sync_erase(&options, &error), 0);
	ck_assert_int_gt(keys_in_redis(), 8);
	options.prefix = "weir";
	ck_assert_msg(weir_sync_erase(&options, &error) == 0, "%s", error.message);
	take(1, "key", 30);
	all_agree_on("key", 40);
	hosts_close();
	ck_assert_msg(weir_sync_erase(&options, &error) == 0, "%s", error.message);
	ck_assert_int_eq(keys_in_redis(), 0);

	options.prefix = "a{b}";
	ck_assert_int_eq(weir_sync_erase(&options, &error), WEIR_EINVAL);
	options.prefix = "weir";
	options.url = "unix:///nowhere/at/all";
	ck_assert_int_eq(weir_sync_erase(&options, &error), WEIR_ESYSTEM);
	ck_assert_ptr_nonnull(strstr(error.message, "/nowhere/at/all"));
}
END_TEST

/* The longest round, and the longest wait for a merge, are measured, also a wait that
 * has not ended. */
START_TEST(test_longest)
{
	struct weir_sync_status status;

	open_hosts(HOSTS, "1000/365d", WEIR_EVENTUAL, WEIR_FAIL_OPEN);
	take(0, "key", 1);
	wait_until(status_of(hosts[0]).unmerged_tokens == 0);
	status = status_of(hosts[0]);
	ck_assert_uint_gt(status.longest_round_ns, 0);
	ck_assert_uint_ge(status.longest_round_ns, status.round_ns);
	ck_assert_uint_ge(status.longest_unmerged_ns, status.round_ns);

	redis_server_stop(server);
	take(0, "key", 1);
	wait_until(status_of(hosts[0]).longest_unmerged_ns > 500 * MS);
	redis_server_continue(server);
	wait_until(status_of(hosts[0]).unmerged_tokens == 0);
	ck_assert_uint_gt(status_of(hosts[0]).longest_unmerged_ns, 500 * MS);
	hosts_close();
}
END_TEST

/* Bad options are refused with the value, and a segment without room for sync. */
START_TEST(test_arguments)
{
	struct weir_sync_options options;
	struct weir_error error;
	struct weir *weir = host_open(host_secret), *plain = fixture_open(NULL);

	weir_sync_options_init(&options);
	ck_assert_int_eq(weir_sync_start(plain, &options, &error), WEIR_EINVAL);
	ck_assert_ptr_nonnull(strstr(error.message, "--sync"));
	options.interval_ns = 1;
	ck_assert_int_eq(weir_sync_start(weir, &options, &error), WEIR_EINVAL);
	ck_assert_ptr_nonnull(strstr(error.message, "1 ns"));
	weir_sync_options_init(&options);
	options.url = "http://example.org";
	ck_assert_int_eq(weir_sync_start(weir, &options, &error), WEIR_EINVAL);
	weir_sync_options_init(&options);
	options.prefix = "a{b}";
	ck_assert_int_eq(weir_sync_start(weir, &options, &error), WEIR_EINVAL);
	ck_assert_int_eq(weir_sync_stop(weir, &error), WEIR_ENOENT);
	ck_assert_int_eq(host_start(weir, url, 1, NULL), 0);
	ck_assert_int_eq(host_start(weir, url, 1, &error), WEIR_EEXIST);
	weir_close(weir);
	weir_close(plain);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync");
	TCase *tests = tcase_create("sync");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, server_begin, server_end);
	tcase_add_loop_test(tests, test_thirty_each, 0, 2);
	tcase_add_test(tests, test_bounded);
	tcase_add_loop_test(tests, test_never_merged, 0, 3);
	tcase_add_test(tests, test_partition);
	tcase_add_test(tests, test_redis_forgets);
	tcase_add_test(tests, test_redis_stops);
	tcase_add_test(tests, test_refund_and_reset);
	tcase_add_test(tests, test_refund_elsewhere);
	tcase_add_test(tests, test_reset_elsewhere);
	tcase_add_test(tests, test_given_back_when_idle);
	tcase_add_test(tests, test_given_back_when_idle_window);
	tcase_add_test(tests, test_local_and_back);
	tcase_add_test(tests, test_made_local);
	tcase_add_test(tests, test_cap_without_a_leader);
	tcase_add_test(tests, test_other_secret);
	tcase_add_test(tests, test_takeover);
	tcase_add_test(tests, test_begun_later);
	tcase_add_test(tests, test_erase);
	tcase_add_test(tests, test_longest);
	tcase_add_test(tests, test_arguments);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
