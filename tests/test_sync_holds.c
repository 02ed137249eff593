/* SPDX-License-Identifier: Apache-2.0 */
/* test_sync_holds.c - concurrency limits of several hosts, and a real Redis. */
#include <string.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "tests/suite.h"
#include "tests/sync_held.h"
#include "tests/sync_redis.h"

#define HOSTS 2
#define LIMIT 10u

/* As a caller does who honours the cap, and waits for a view that is late: a machine that is
 * busy may be late with any. */
static void acquire_all(int host, unsigned count)
{
	struct weir_decision decision;

	for (unsigned i = 0; i < count; i++) {
		wait_until(acquire(host, &decision) || (decision.reason != WEIR_REASON_CAP &&
							decision.reason != WEIR_REASON_STALE));
		ck_assert_int_eq(decision.outcome, WEIR_ALLOWED);
	}
}

/* COST units cannot be had, for REASON and, till a view comes that is late, without one. */
static void must_be_denied(int host, uint64_t cost, enum weir_reason reason)
{
	struct weir_decision decision;

	do {
		ck_assert(!acquire_n(host, cost, &decision));
		if (decision.reason == WEIR_REASON_STALE)
			nap();
	} while (decision.reason == WEIR_REASON_STALE);
	ck_assert_int_eq(decision.outcome, WEIR_DENIED);
	ck_assert_int_eq(decision.reason, reason);
}

/* Every host sees what all of them hold, and Redis knows of everything. */
static void all_agree(void)
{
	unsigned sum = held_by_all();

	all_agree_on(HELD_KEY, sum < LIMIT ? LIMIT - sum : 0);
}

/* ---- Agreement --------------------------------------------------------- */

/* Two hosts share ten: whatever one takes, the other cannot have. */
START_TEST(test_shared)
{
	struct weir_decision decision;

	open_hosts(HOSTS, "10 concurrency", _i ? WEIR_EVENTUAL : WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	acquire_all(0, 6);
	acquire_all(1, 1);
	all_agree();
	acquire_all(1, 3);
	all_agree();
	for (int i = 0; i < HOSTS; i++)
		must_be_denied(i, 1, WEIR_REASON_LIMIT);
	/* What one host releases, the other may have. */
	release(0, 2);
	wait_until(acquire(1, &decision));
	wait_until(acquire(1, &decision));
	ck_assert_uint_eq(held_by_all(), LIMIT);
	all_agree();
	release(0, 4);
	release(1, 6);
	all_agree();
	for (int i = 0; i < HOSTS; i++)
		wait_until(status_of(hosts[i]).unmerged_tokens == 0);
	hosts_close();
}
END_TEST

/* A host that waits, and holds nothing itself, gets what is released: the denials make
 * its leader ask. */
START_TEST(test_waits)
{
	struct weir_decision decision;

	open_hosts(HOSTS, "10 concurrency", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	acquire_all(0, LIMIT);
	/* The first request is decided before this host has heard of the key. */
	wait_until(status_of(hosts[0]).unmerged_tokens == 0);
	acquire_all(1, 1);
	wait_until(status_of(hosts[1]).unmerged_tokens == 0);
	release(1, 1);
	for (int i = 0; i < 100; i++) {
		ck_assert(!acquire(1, &decision));
		nap();
	}
	/* More than the limit at once is nothing that others could release. */
	must_be_denied(1, LIMIT + 1, WEIR_REASON_COST);
	release(0, 10);
	wait_until(acquire_n(1, 1, &decision));
	release(1, 1);
	all_agree();
	hosts_close();
}
END_TEST

/* Hosts that take and release all the time: never more at once than the bound. */
START_TEST(test_bound)
{
	static const int counts[] = { 2, 3 };
	int count = counts[_i % 2];
	bool bounded = _i < 2;
	/* 5 % of 10 for the others, and at least 1. */
	unsigned most = bounded ? LIMIT + (unsigned)count - 1 : (unsigned)count * LIMIT;
	unsigned largest = 0, admitted = 0;
	uint64_t random = 12345;

	open_hosts(count, "10 concurrency", bounded ? WEIR_BOUNDED : WEIR_EVENTUAL,
		   WEIR_FAIL_CLOSED);
	ck_assert(!bounded || status_of(hosts[0]).largest_cap == 1);
	for (unsigned i = 0; i < 6000 || admitted < 200; i++) {
		struct weir_decision decision;
		int host;

		random = random * 6364136223846793005u + 1442695040888963407u;
		host = (int)((random >> 33) % (unsigned)count);
		/* Runs of releases and of requests. */
		if ((random >> 40) % 40 == 0)
			release(host, held_count[host]);
		else if (acquire(host, &decision))
			admitted++;
		else if (i % 4 == 0)
			nap();
		if (held_by_all() > largest)
			largest = held_by_all();
		ck_assert_uint_le(held_by_all(), most);
	}
	ck_assert_uint_ge(largest, LIMIT);
	hosts_close();
}
END_TEST

/* ---- Trouble ----------------------------------------------------------- */

/* With a stale view, what others held at last does not count: open is this host alone,
 * and share is its share. */
START_TEST(test_partition)
{
	struct weir_decision decision;

	open_hosts(HOSTS, "10 concurrency", WEIR_BOUNDED,
		   _i ? WEIR_FAIL_SHARE : WEIR_FAIL_OPEN);
	acquire_all(0, 8);
	acquire_all(1, 2);
	all_agree();
	ck_assert_int_eq(weir_sync_pause(hosts[1], NULL), 0);
	wait_until(look(1, HELD_KEY).reason == WEIR_REASON_STALE);
	while (acquire(1, &decision))
		ck_assert_int_eq(decision.reason, WEIR_REASON_STALE);
	ck_assert_int_eq(decision.reason, WEIR_REASON_STALE);
	ck_assert_uint_eq(held_count[1], _i ? LIMIT / HOSTS : LIMIT);
	ck_assert_int_eq(weir_sync_resume(hosts[1], NULL), 0);
	wait_until(is_fresh(hosts[1]));
	/* Both hold more than the limit, and nobody gets more until they hold less. */
	wait_until(look(1, HELD_KEY).remaining == 0 && look(0, HELD_KEY).remaining == 0);
	release(1, held_count[1]);
	release(0, 1);
	all_agree();
	hosts_close();
}
END_TEST

/* A leader that goes between its calls is followed by one that tells what is held. */
START_TEST(test_takeover)
{
	struct weir_decision decision;

	open_hosts(HOSTS, "10 concurrency", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	for (int i = 0; i < 3; i++) {
		acquire_all(0, 1);
		ck_assert_int_eq(weir_sync_stop(hosts[0], NULL), 0);
		if (i == 2)
			release(0, 1);
		ck_assert_int_eq(host_start(hosts[0], url, HOSTS, NULL), 0);
		wait_until(status_of(hosts[0]).leading && is_fresh(hosts[0]));
		acquire_all(1, 1);
	}
	acquire_all(0, 1);
	all_agree();
	while (held_by_all() < LIMIT)
		acquire(0, &decision);
	all_agree();
	hosts_close();
}
END_TEST

/* A process of HOST that leads it, holds COUNT units, and says so. */
static pid_t spawn_holder(int host, unsigned count)
{
	int ready[2];
	pid_t child;
	char byte;

	ck_assert_int_eq(pipe(ready), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (host_start(hosts[host], url, HOSTS, NULL) != 0)
			_exit(1);
		while (held_count[host] < count)
			if (!acquire(host, NULL))
				nap();
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return child;
}

/* The leader is killed while it holds; another process of its host leads on, gives the
 * dead one's units back though nobody asks there, and the other host gets them. */
START_TEST(test_leader_killed)
{
	struct weir_policy policy = host_policy("10 concurrency", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	struct weir_decision decision;
	pid_t holder;

	hosts_create(HOSTS, &policy);
	holder = spawn_holder(0, 8);
	for (int i = 0; i < HOSTS; i++)
		ck_assert_int_eq(host_start(hosts[i], url, HOSTS, NULL), 0);
	all_are_fresh();
	acquire_all(1, 1);
	wait_until(look(1, HELD_KEY).remaining == 1);
	wait_until(acquire(1, &decision));
	wait_until(status_of(hosts[1]).unmerged_tokens == 0);
	ck_assert(!acquire(1, &decision));
	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	while (held_by_all() < LIMIT)
		wait_until(acquire(1, &decision));
	ck_assert_uint_ge(fixture_counter(hosts[0], "holds_reaped"), 8);
	wait_until(look(1, HELD_KEY).remaining == 0);
	hosts_close();
}
END_TEST

/* Redis empty: what is held is told to it again, and nobody is given it meanwhile. */
START_TEST(test_flushall)
{
	struct redisContext *context;
	struct weir_decision decision;

	open_hosts(HOSTS, "10 concurrency", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	acquire_all(0, 6);
	acquire_all(1, 4);
	all_agree();
	context = redis_server_connect(server);
	for (int i = 0; i < 5; i++) {
		freeReplyObject(redisCommand(context, "FLUSHALL"));
		for (int k = 0; k < 100; k++) {
			ck_assert(!acquire(k % HOSTS, &decision));
			nap();
		}
	}
	redisFree(context);
	all_are_fresh();
	release(0, 3);
	wait_until(acquire(1, &decision));
	all_agree();
	hosts_close();
}
END_TEST

/* Redis killed and back, empty. */
START_TEST(test_redis_forgets)
{
	open_hosts(HOSTS, "10 concurrency", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	acquire_all(0, 3);
	acquire_all(1, 4);
	all_agree();
	redis_server_kill(server);
	for (int i = 0; i < HOSTS; i++)
		wait_until(!is_fresh(hosts[i]) && !status_of(hosts[i]).connected);
	/* To release needs no view. */
	release(0, 1);
	redis_server_restart(server);
	all_are_fresh();
	acquire_all(1, 1);
	all_agree();
	hosts_close();
}
END_TEST

/* Let what Redis was told of holds be SECONDS older. */
static void age(uint32_t seconds)
{
	struct redisContext *context = redis_server_connect(server);
	redisReply *keys = redisCommand(context, "KEYS *");
	unsigned aged = 0;

	for (size_t i = 0; i < keys->elements; i++) {
		const char *key = keys->element[i]->str;
		redisReply *all = redisCommand(context, "HGETALL %s", key);

		for (size_t k = 0; all->type == REDIS_REPLY_ARRAY && k + 1 < all->elements; k += 2) {
			redisReply *field = all->element[k], *value = all->element[k + 1];

			if (field->len != 17 || field->str[0] != 'g')
				continue;
			for (size_t at = 24; at < value->len; at += 28) {
				uint32_t told;

				memcpy(&told, value->str + at, 4);
				told -= seconds;
				memcpy(value->str + at, &told, 4);
				aged++;
			}
			freeReplyObject(redisCommand(context, "HSET %s %b %b", key, field->str,
						     field->len, value->str, value->len));
		}
		freeReplyObject(all);
	}
	freeReplyObject(keys);
	redisFree(context);
	ck_assert_uint_gt(aged, 0);
}

/* A host that ends with its units and does not come back: the others get them when it has
 * told nothing for 30 s.  Who is there tells anew, and keeps what it holds. */
START_TEST(test_host_gone)
{
	struct weir_decision decision;

	open_hosts(HOSTS, "10 concurrency", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	acquire_all(0, 2);
	acquire_all(1, 8);
	all_agree();
	ck_assert_int_eq(weir_sync_stop(hosts[1], NULL), 0);
	age(25);
	for (int i = 0; i < 50; i++) {
		ck_assert(!acquire(0, &decision));
		nap();
	}
	age(30);
	while (held_count[0] < LIMIT)
		wait_until(acquire(0, &decision));
	wait_until(status_of(hosts[0]).unmerged_tokens == 0);
	ck_assert(!acquire(0, &decision));
	hosts_close();
}
END_TEST

static void begin(void)
{
	held_forget();
	server_begin();
}

int main(void)
{
	Suite *suite = suite_create("sync_holds");
	TCase *tests = tcase_create("sync_holds");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, begin, server_end);
	tcase_add_loop_test(tests, test_shared, 0, 2);
	tcase_add_test(tests, test_waits);
	tcase_add_loop_test(tests, test_bound, 0, 4);
	tcase_add_loop_test(tests, test_partition, 0, 2);
	tcase_add_test(tests, test_takeover);
	tcase_add_test(tests, test_leader_killed);
	tcase_add_test(tests, test_flushall);
	tcase_add_test(tests, test_redis_forgets);
	tcase_add_test(tests, test_host_gone);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
