/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync_policies.c - hosts that do not have the same policies, and find out by a real Redis.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/policy_fixture.h"
#include "tests/suite.h"

static uint64_t incarnation_of(int host)
{
	struct weir_info info;

	weir_info(hosts[host], &info);
	return info.incarnation;
}

START_TEST(test_seen_and_gone)
{
	struct weir_disagreement found;

	open_hosts(3, "100/1m", WEIR_BOUNDED, WEIR_FAIL_OPEN);
	set(2, "api", "200/1m burst 50", WEIR_BOUNDED);
	for (int i = 0; i < 2; i++) {
		found = disagreement(i);
		ck_assert_str_eq(found.policy, "api");
		ck_assert_str_eq(found.ours, "100/1m bounded");
		ck_assert_str_eq(found.theirs, "200/1m burst 50 bounded");
		ck_assert_uint_eq(found.hosts, 1);
		ck_assert_uint_eq(found.host, incarnation_of(2));
		ck_assert_uint_eq(status_of(hosts[i]).disagreeing, 1);
		ck_assert_uint_eq(fixture_counter(hosts[i], "sync_disagreements"), 1);
	}
	wait_until(disagreement(2).hosts == 2);
	ck_assert_str_eq(disagreement(2).theirs, "100/1m bounded");
	for (int i = 0; i < 2; i++)
		set(i, "api", "200/1m burst 50", WEIR_BOUNDED);
	for (int i = 0; i < 3; i++)
		wait_until(agrees(i));
	for (int i = 0; i < 3; i++)
		ck_assert_str_eq(status_of(hosts[i]).policy_error, "");
	hosts_close();
}
END_TEST

/* Three hosts, three minds: each sees both others. */
START_TEST(test_three_minds)
{
	struct weir_disagreement list[4];

	open_hosts(3, "100/1m", WEIR_BOUNDED, WEIR_FAIL_OPEN);
	set(1, "api", "100/1m, 5/1s", WEIR_BOUNDED);
	set(2, "api", "100/1m", WEIR_EVENTUAL);
	for (int i = 0; i < 3; i++) {
		wait_until(weir_sync_disagreements(hosts[i], list, 4) == 2);
		ck_assert_uint_eq(status_of(hosts[i]).disagreeing, 1);
		ck_assert_str_ne(list[0].theirs, list[1].theirs);
	}
	hosts_close();
}
END_TEST

/* What is a host's own: fail mode, shadow, policies that are local on both, or that the
 * others do not have. */
START_TEST(test_may_differ)
{
	struct weir_policy policy = host_policy("100/1m", WEIR_BOUNDED, WEIR_FAIL_CLOSED);

	open_hosts(2, "100/1m", WEIR_BOUNDED, WEIR_FAIL_OPEN);
	policy.shadow = true;
	ck_assert_int_eq(weir_policy_set(hosts[1], &policy, 1, NULL), 0);
	set(0, "own", "1/1s", WEIR_LOCAL);
	set(1, "own", "2/1s", WEIR_LOCAL);
	set(0, "mine", "1/1s", WEIR_BOUNDED);
	set(1, "yours", "1/1s", WEIR_BOUNDED);
	/* Were one of them not its own, both would be told of. */
	set(0, "half", "1/1s", WEIR_LOCAL);
	set(1, "half", "1/1s", WEIR_BOUNDED);
	for (int i = 0; i < 2; i++) {
		ck_assert_str_eq(disagreement(i).policy, "half");
		ck_assert_uint_eq(status_of(hosts[i]).disagreeing, 1);
	}
	hosts_close();
}
END_TEST

/* More than is kept: the number is right, and 14 are told. */
START_TEST(test_many)
{
	struct weir_disagreement list[32];
	char name[16];

	open_hosts(2, "100/1m", WEIR_BOUNDED, WEIR_FAIL_OPEN);
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "p%02d", i);
		set(0, name, "1/1s", WEIR_BOUNDED);
		set(1, name, "2/1s", WEIR_BOUNDED);
	}
	wait_until(status_of(hosts[0]).disagreeing == 20);
	ck_assert_uint_eq(weir_sync_disagreements(hosts[0], list, 32), 14);
	ck_assert_uint_eq(weir_sync_disagreements(hosts[0], NULL, 0), 14);
	ck_assert_str_eq(list[0].policy, "p00");
	ck_assert_str_eq(list[13].policy, "p13");
	hosts_close();
}
END_TEST

/* Redis starts anew, empty: hosts tell again, and go on to agree. */
START_TEST(test_redis_forgets)
{
	open_hosts(2, "100/1m", WEIR_BOUNDED, WEIR_FAIL_OPEN);
	set(0, "api", "7/1s", WEIR_BOUNDED);
	ck_assert_str_eq(disagreement(1).theirs, "7/1s bounded");
	redis_server_kill(server);
	wait_until(!status_of(hosts[1]).connected);
	/* While it is away, what was found last is told. */
	ck_assert_uint_eq(status_of(hosts[1]).disagreeing, 1);
	redis_server_restart(server);
	set(0, "api", "8/1s", WEIR_BOUNDED);
	wait_until(is_told(1, "8/1s bounded"));
	set(1, "api", "8/1s", WEIR_BOUNDED);
	wait_until(agrees(0) && agrees(1));
	hosts_close();
}
END_TEST

/* A stranger without the secret writes to our hash. */
START_TEST(test_hostile_hash)
{
	unsigned char record[36] = "stranger stranger with a digest!";
	redisReply *reply;
	uint32_t now;

	open_hosts(2, "100/1m", WEIR_BOUNDED, WEIR_FAIL_OPEN);
	/* A host that never was, with policies that do not fit its digest. */
	reply = redis("TIME");
	now = (uint32_t)strtoul(reply->element[0]->str, NULL, 10) + 20;
	freeReplyObject(reply);
	memcpy(record + 32, &now, 4);
	freeReplyObject(redis("HSET weir:policies hosts %b t%b %s", record, sizeof(record), record,
			      (size_t)16, "weir policies 1\napi\t1/1s bounded\n"));
	wait_until(strstr(status_of(hosts[0]).policy_error, "not what it wrote"));
	ck_assert_ptr_nonnull(strstr(status_of(hosts[0]).policy_error, "weir:policies"));
	ck_assert(agrees(0));
	/* Of another type: told, and rounds go on. */
	freeReplyObject(redis("DEL weir:policies"));
	freeReplyObject(redis("SET weir:policies nonsense"));
	wait_until(strstr(status_of(hosts[0]).policy_error, "WRONGTYPE"));
	take(0, "key", 3);
	take(1, "key", 3);
	all_agree_on("key", 94);
	/* Bytes of no meaning. */
	freeReplyObject(redis("DEL weir:policies"));
	freeReplyObject(redis("HSET weir:policies hosts %s", "some bytes that are no records of hosts"));
	set(0, "api", "9/1s", WEIR_BOUNDED);
	ck_assert_str_eq(disagreement(1).theirs, "9/1s bounded");
	wait_until(status_of(hosts[1]).policy_error[0] == '\0');
	hosts_close();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_policies");
	TCase *tests = tcase_create("sync_policies");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, server_begin_patient, server_end);
	tcase_add_test(tests, test_seen_and_gone);
	tcase_add_test(tests, test_three_minds);
	tcase_add_test(tests, test_may_differ);
	tcase_add_test(tests, test_many);
	tcase_add_test(tests, test_redis_forgets);
	tcase_add_test(tests, test_hostile_hash);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
