/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_strict.c - mode strict: hosts and a real Redis, and never a token too many.
 *
 * Nothing here waits for time to pass but for what time itself ends: a lease, and
 * the two seconds in which an epoch begins.
 */
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/redis_server.h"
#include "tests/strict_fixture.h"
#include "tests/suite.h"

#define HOSTS 3
#define LOST 2          /* tokens, at most: a process that is held up between its look and its
			 * charge, while the credit is taken back, has spent and is denied */

static struct redis_server *server, *shared;

static const char *url_of_server(void)
{
	static char url[256];

	snprintf(url, sizeof(url), "unix://%s?command_ms=500", redis_server_socket(server));
	return url;
}

static void start(int host)
{
	struct weir_error error;

	ck_assert_msg(host_start(hosts[host], url_of_server(), HOSTS, &error) == 0, "%s",
		      error.message);
}

static void open_hosts(const char *limit, enum weir_fail_mode fail_mode)
{
	strict_open(HOSTS, url_of_server(), limit, fail_mode);
}

static bool all_agree(const char *key, uint64_t most)
{
	uint64_t remaining = look(0, key).remaining;

	for (int i = 1; i < HOSTS; i++) {
		if (look(i, key).remaining != remaining)
			return false;
	}
	return remaining <= most;
}

/* ---- Tests ------------------------------------------------------------- */

/* The contract: 3 instances x 30 of 100 tokens, and all agree on 90. */
START_TEST(test_thirty_each)
{
	uint64_t left, admitted;

	open_hosts("100/365d", WEIR_FAIL_CLOSED);
	strict_fill("customer");
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < HOSTS; i++)
			strict_take(i, "customer", 1);
	}
	wait_until(all_agree("customer", 10));
	left = look(0, "customer").remaining;
	ck_assert_uint_ge(left, 10 - LOST);
	admitted = strict_take_all(0, "customer");
	ck_assert_uint_le(admitted, 10);
	ck_assert_uint_ge(admitted, left - LOST);
	hosts_close();
}
END_TEST

/* Requests that are larger than what a host holds, and two limits. */
START_TEST(test_costs)
{
	struct weir_decision decision;
	uint64_t tokens;

	open_hosts("60/365d, 100/365d", WEIR_FAIL_CLOSED);
	strict_fill("bulk");
	tokens = strict_take_all_at(0, "bulk", 7);
	ck_assert_uint_le(tokens, 60);
	ck_assert_uint_ge(tokens, 49);
	ck_assert(!ask(0, "bulk", 61, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_COST);
	hosts_close();
}
END_TEST

/* A host that is cut off spends what it has, and no more, until its lease ends; the
 * others get the rest, which is not what it may have spent. */
START_TEST(test_partition)
{
	struct weir_decision decision;
	uint64_t admitted = 0;

	open_hosts("100/365d", WEIR_FAIL_CLOSED);
	strict_fill("cut");
	strict_take(0, "cut", 5);
	admitted = 5;
	ck_assert_int_eq(weir_sync_pause(hosts[0], NULL), 0);
	for (int looks = 0; strict_is_leased(0, "cut") && looks < PATIENCE; looks++) {
		admitted += ask(0, "cut", 1, &decision);
		nap();
	}
	ck_assert(!ask(0, "cut", 1, &decision));
	ck_assert_int_eq(decision.outcome, WEIR_UNAVAILABLE);
	ck_assert_int_eq(decision.reason, WEIR_REASON_STALE);
	admitted += strict_take_all(1, "cut");
	ck_assert_uint_le(admitted, 100);
	ck_assert_uint_ge(admitted, 70);
	ck_assert_int_eq(weir_sync_resume(hosts[0], NULL), 0);
	wait_until(strict_is_leased(0, "cut"));
	admitted += strict_take_all(0, "cut");
	ck_assert_uint_le(admitted, 100);
	hosts_close();
}
END_TEST

static void flush(void)
{
	redisContext *context = redis_server_connect(server);

	freeReplyObject(redisCommand(context, "FLUSHALL"));
	redisFree(context);
}

/* Redis forgets in mid-load, or is another one: still no token too many. */
START_TEST(test_redis_forgets)
{
	uint64_t admitted = 0;
	struct weir_decision decision;

	open_hosts("100/365d", WEIR_FAIL_CLOSED);
	strict_fill("key");
	for (int i = 0; i < HOSTS; i++) {
		strict_take(i, "key", 10);
		admitted += 10;
	}
	if (_i == 0) {
		flush();
	} else {
		redis_server_kill(server);
		redis_server_restart(server);
	}
	/* Till the leases end, and again when there are new ones. */
	for (int turn = 0; turn < 2; turn++) {
		int without = 0;

		for (int looks = 0; without < HOSTS && looks < PATIENCE; looks++) {
			without = 0;
			for (int i = 0; i < HOSTS; i++) {
				admitted += ask(i, "key", 1, &decision);
				without += (decision.outcome == WEIR_UNAVAILABLE) == (turn == 0);
			}
			nap();
		}
		ck_assert_int_eq(without, HOSTS);
	}
	admitted += strict_take_all(0, "key");
	ck_assert_uint_le(admitted, 100);
	ck_assert_uint_ge(admitted, 30);
	hosts_close();
}
END_TEST

/* A process that leads host 0, and does nothing else. */
static pid_t spawn(void)
{
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		start(0);
		for (;;)
			pause();
	}
	return child;
}

/* The leader is killed, and another process of the host goes on with what it had. */
START_TEST(test_takeover)
{
	struct weir_sync_status status = { .leading = false };
	uint64_t admitted;
	pid_t leader;

	strict_create(HOSTS, "100/365d", WEIR_FAIL_CLOSED);
	leader = spawn();
	for (int i = 1; i < HOSTS; i++)
		start(i);
	strict_fill("takeover");
	strict_take(0, "takeover", 10);
	start(0);
	kill(leader, SIGKILL);
	waitpid(leader, NULL, 0);
	while (!status.leading) {
		ck_assert_int_eq(weir_sync_status(hosts[0], &status, NULL), 0);
		nap();
	}
	/* All that was granted was spent, or told unspent: but for what was on its way. */
	admitted = strict_take_all(0, "takeover");
	ck_assert_uint_le(admitted, 90);
	ck_assert_uint_ge(admitted, 80);
	hosts_close();
}
END_TEST

/* A process is killed while it spends: what it spent stays spent. */
START_TEST(test_killed_spender)
{
	uint64_t *admitted = mmap(NULL, sizeof(*admitted), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child;

	ck_assert_ptr_ne(admitted, MAP_FAILED);
	open_hosts("200/365d", WEIR_FAIL_CLOSED);
	strict_fill("killed");
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		struct weir_decision decision;

		for (;;) {
			if (ask(0, "killed", 1, &decision))
				__atomic_add_fetch(admitted, 1, __ATOMIC_SEQ_CST);
		}
	}
	wait_until(__atomic_load_n(admitted, __ATOMIC_SEQ_CST) >= 20);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_assert_uint_le(*admitted + strict_take_all(0, "killed"), 200);
	hosts_close();
	munmap(admitted, sizeof(*admitted));
}
END_TEST

/* Without a lease the fail mode answers. */
START_TEST(test_fail_modes)
{
	static const enum weir_fail_mode modes[] = { WEIR_FAIL_OPEN, WEIR_FAIL_SHARE,
						     WEIR_FAIL_CLOSED };
	static const uint64_t admitted[] = { 12, 4, 0 };
	struct weir_decision decision;
	uint64_t passed = 0;

	redis_server_stop(server);
	open_hosts("12/365d", modes[_i]);
	for (int i = 0; i < 20; i++) {
		passed += ask(0, "key", 1, &decision);
		ck_assert_int_eq(decision.reason, WEIR_REASON_STALE);
	}
	ck_assert_uint_eq(passed, admitted[_i]);
	ck_assert_int_eq(decision.outcome,
			 modes[_i] == WEIR_FAIL_CLOSED ? WEIR_UNAVAILABLE : WEIR_DENIED);
	redis_server_continue(server);
	hosts_close();
}
END_TEST

/* What was admitted open is debt for all; a refund gives nothing back, a reset all. */
START_TEST(test_open_refund_reset)
{
	struct weir_request request = { .key = "open", .key_length = 4, .cost = 8 };
	struct weir_decision decision;
	uint64_t admitted;

	open_hosts("20/365d", WEIR_FAIL_OPEN);
	strict_fill("open");
	strict_take(0, "open", 4);
	strict_take(1, "open", 4);
	wait_until(look(0, "open").remaining == 12 && look(1, "open").remaining == 12);
	request.policy = ids[0];
	ck_assert(weir_refund(hosts[0], &request, &decision));
	ck_assert_uint_eq(decision.remaining, 12);
	ck_assert(weir_force_take(hosts[0], &request, &decision));
	wait_until(look(1, "open").remaining <= 4);
	ck_assert_uint_le(strict_take_all(0, "open"), 4);
	request.policy = ids[1];
	ck_assert(weir_reset(hosts[1], &request, &decision));
	wait_until(look(1, "open").remaining == 20);
	admitted = strict_take_all(0, "open");
	ck_assert_uint_le(admitted, 20);
	ck_assert_uint_ge(admitted, 20 - LOST);
	hosts_close();
}
END_TEST

/* Without a sync thread nothing renews credit: what host 0 is told to have now, it has. */
static bool stop_with_credit(struct weir_lease *lease)
{
	strict_take(0, "told", 1);
	ck_assert_int_eq(weir_sync_stop(hosts[0], NULL), 0);
	ck_assert_uint_eq(weir_sync_leases(hosts[0], lease, 1), 1);
	if (lease->tokens > 0)
		return true;
	start(0);
	wait_until(strict_is_leased(0, "told"));
	return false;
}

/* An epoch begins: again, if two seconds of it were slept through. */
static bool sees_quarantine(void)
{
	struct weir_sync_status status = status_of(hosts[0]);

	if (status.leased_shards > 0)
		flush();
	return status.leased_shards == 0 && status.quarantined_shards == 8;
}

/* What status tells is what a host may do. */
START_TEST(test_status)
{
	struct weir_decision decision;
	struct weir_lease lease;
	uint64_t epoch, spent = 0;

	open_hosts("1000/365d", WEIR_FAIL_CLOSED);
	wait_until(sees_quarantine());
	strict_fill("told");
	epoch = status_of(hosts[0]).epoch;
	ck_assert_uint_ne(epoch, 0);
	for (int i = 0; i < HOSTS; i++) {
		struct weir_sync_status status;

		strict_take(i, "told", 10);
		wait_until(status_of(hosts[i]).leased_shards == 8);
		status = status_of(hosts[i]);
		ck_assert_uint_eq(status.strict_policies, 1);
		ck_assert_uint_eq(status.quarantined_shards, 0);
		ck_assert_uint_eq(status.epoch, epoch);
		ck_assert_uint_gt(status.tenure_ns, 0);
		ck_assert_uint_le(status.lease_left_ns, 1750 * MS);
		ck_assert_uint_gt(status.unleased, 0);
	}
	ck_assert_uint_eq(weir_sync_leases(hosts[0], NULL, 0), 1);

	wait_until(stop_with_credit(&lease));
	ck_assert_str_eq(lease.policy, "api");
	ck_assert_uint_eq(lease.buckets, 1);
	while (ask(0, "told", 1, &decision))
		spent++;
	ck_assert_uint_le(spent, lease.tokens);
	if (decision.reason == WEIR_REASON_LEASE)
		ck_assert_uint_eq(spent, lease.tokens);
	/* A lease that has lapsed is worth nothing. */
	wait_until(status_of(hosts[0]).leased_shards == 0);
	ck_assert_uint_eq(status_of(hosts[0]).lease_left_ns, 0);
	ck_assert_uint_eq(status_of(hosts[0]).credit_tokens, 0);

	/* Another epoch is another number. */
	flush();
	wait_until(status_of(hosts[1]).epoch != epoch);
	hosts_close();
}
END_TEST

/* A server of a test's own, which it may stop and kill. */
static void begin(void)
{
	server = redis_server_start(NULL);
}

static void end(void)
{
	redis_server_end(server);
	server = shared;
}

int main(void)
{
	Suite *suite = suite_create("strict");
	TCase *tests = tcase_create("shared"), *alone = tcase_create("alone");
	int result;

	redis_server_require();
	tcase_set_timeout(tests, 30);
	tcase_set_timeout(alone, 30);
	tcase_add_checked_fixture(alone, begin, end);
	tcase_add_test(tests, test_thirty_each);
	tcase_add_test(tests, test_costs);
	tcase_add_test(tests, test_partition);
	tcase_add_loop_test(alone, test_redis_forgets, 0, 2);
	tcase_add_test(tests, test_takeover);
	tcase_add_test(tests, test_killed_spender);
	tcase_add_test(alone, test_status);
	tcase_add_loop_test(alone, test_fail_modes, 0, 3);
	tcase_add_test(tests, test_open_refund_reset);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, alone);
	begin();        /* the epoch of the others begins once */
	shared = server;
	result = suite_run(suite);
	end();
	return result;
}
