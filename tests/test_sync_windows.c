/* SPDX-License-Identifier: Apache-2.0 */
/* test_sync_windows.c - fixed and sliding windows of several hosts, and a real Redis. */
#include <stdio.h>
#include <string.h>

#include "shm/clock.h"
#include "shm/layout.h"
#include "src/handle.h"
#include "tests/redis_server.h"
#include "tests/sync_fixture.h"

#define HOSTS 3

static struct redis_server *server;
static char url[256];

/* 100 in 365 days: no test sees such a window end. */
static const char *const limits[] = { "100/365d fixed-window", "100/365d sliding-window" };

static void open_hosts(const char *limit, enum weir_consistency consistency,
		       enum weir_fail_mode fail_mode)
{
	struct weir_policy policy = host_policy(limit, consistency, fail_mode);

	hosts_open(HOSTS, url, &policy);
}

/* Shard SHARD's clock, less this machine's, as HOST has it. */
static uint64_t window_offset(int host, unsigned shard)
{
	return atomic_load_relaxed(&hosts[host]->segment->shards[shard].window_offset_ns);
}

static void give_back(int host, const char *key, uint64_t cost, bool all)
{
	struct weir_request request = { .policy = ids[host], .key = key,
					.key_length = strlen(key), .cost = cost };

	ck_assert(all ? weir_reset(hosts[host], &request, NULL) :
			weir_refund(hosts[host], &request, NULL));
}

/* ---- Agreement --------------------------------------------------------- */

/* The contract: 3 instances x 30 of 100 tokens, and all agree on 90. */
START_TEST(test_thirty_each)
{
	static const enum weir_consistency modes[] = { WEIR_BOUNDED, WEIR_EVENTUAL };

	open_hosts(limits[_i / 2], modes[_i % 2], WEIR_FAIL_CLOSED);
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < HOSTS; i++)
			take(i, "customer", 1);
	}
	all_agree_on("customer", 10);
	for (int i = 0; i < HOSTS; i++)
		wait_until(status_of(hosts[i]).unmerged_tokens == 0);
	hosts_close();
}
END_TEST

/* Three hosts that hammer one key admit the limit, and the bound beyond it. */
START_TEST(test_bounded)
{
	static const char *const small[] = { "60/365d fixed-window", "60/365d sliding-window" };
	uint64_t admitted = 0, denied = 0;

	open_hosts(small[_i], WEIR_BOUNDED, WEIR_FAIL_CLOSED);
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
END_TEST

/* Cut off by a pause: what was admitted meanwhile is merged after the heal. */
START_TEST(test_partition)
{
	open_hosts(limits[_i], WEIR_BOUNDED, WEIR_FAIL_OPEN);
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
END_TEST

/* With a stale view a host has its share of the window, whatever is left of it. */
START_TEST(test_stale_share)
{
	uint64_t passed = 0;
	struct weir_decision decision;

	open_hosts(limits[_i], WEIR_EVENTUAL, WEIR_FAIL_SHARE);
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 3);
	all_agree_on("key", 91);
	ck_assert_int_eq(weir_sync_pause(hosts[2], NULL), 0);
	wait_until(look(2, "key").reason == WEIR_REASON_STALE);
	for (int i = 0; i < 100; i++)
		passed += ask(2, "key", 1, &decision);
	ck_assert_uint_eq(passed, 33 - 3);
	ck_assert_int_eq(decision.outcome, WEIR_DENIED);
	ck_assert_int_eq(decision.reason, WEIR_REASON_STALE);
	ck_assert_uint_eq(decision.remaining, 91 - 30);
	ck_assert_uint_gt(decision.retry_after_ns, 0);
	/* Of a key that it has never seen, as well. */
	ck_assert(ask(2, "new", 33, NULL));
	ck_assert(!ask(2, "newer", 34, NULL));
	hosts_close();
}
END_TEST

/* Redis killed and back, empty: what was agreed is told to it again. */
START_TEST(test_redis_forgets)
{
	open_hosts(limits[_i], WEIR_BOUNDED, WEIR_FAIL_OPEN);
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 10);
	all_agree_on("key", 70);
	redis_server_kill(server);
	for (int i = 0; i < HOSTS; i++)
		wait_until(!is_fresh(hosts[i]) && !status_of(hosts[i]).connected);
	take(0, "key", 2);
	redis_server_restart(server);
	all_are_fresh();
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 5);
	all_agree_on("key", 53);
	hosts_close();
}
END_TEST

/* Redis stopped for longer than a call may take, and continued: what was in doubt
 * is neither lost nor counted twice. */
START_TEST(test_redis_stops)
{
	open_hosts("1000/365d sliding-window", WEIR_EVENTUAL, WEIR_FAIL_OPEN);
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
END_TEST

/* A leader that goes between its calls is followed by one that counts nothing twice. */
START_TEST(test_takeover)
{
	open_hosts(limits[_i], WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	for (int i = 0; i < 3; i++) {
		take(0, "key", 1);
		ck_assert_int_eq(weir_sync_stop(hosts[0], NULL), 0);
		ck_assert_int_eq(host_start(hosts[0], url, HOSTS, NULL), 0);
		wait_until(status_of(hosts[0]).leading && is_fresh(hosts[0]));
		take(1, "key", 1);
	}
	take(2, "key", 1);
	all_agree_on("key", 93);
	hosts_close();
}
END_TEST

/* A refund and a reset on one host reach the others. */
START_TEST(test_refund_and_reset)
{
	open_hosts(limits[_i], WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 13);
	all_agree_on("key", 61);
	give_back(0, "key", 10, false);
	take(1, "key", 1);
	take(2, "key", 1);
	all_agree_on("key", 69);
	/* All of it: the bucket is empty, and the cluster still hears of it. */
	give_back(0, "key", 3, false);
	take(1, "key", 1);
	all_agree_on("key", 71);
	give_back(2, "key", 1, true);
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
END_TEST

/* ---- Windows that end -------------------------------------------------- */

/* Tokens of KEY that are left, by a clock that the test turns. */
static uint64_t left_at(int host, const char *key, uint64_t now_ns)
{
	struct weir_request request = { .policy = ids[host], .key = key,
					.key_length = strlen(key), .cost = 1, .now_ns = now_ns };
	struct weir_decision decision;

	weir_status(hosts[host], &request, &decision);
	return decision.remaining;
}

/* A sliding window rolls on with all hosts' tokens. */
START_TEST(test_rolls)
{
	const uint64_t year_ns = 365 * 86400 * SECOND;
	uint64_t now_ns, into_ns, next_ns;

	open_hosts(limits[1], WEIR_EVENTUAL, WEIR_FAIL_OPEN);
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", 20);
	all_agree_on("key", 40);
	now_ns = clock_ns(CLOCK_BOOTTIME);
	into_ns = (now_ns + window_offset(0, 0)) % year_ns;
	next_ns = now_ns + year_ns - into_ns + SECOND;
	for (int i = 0; i < HOSTS; i++) {
		ck_assert_uint_eq(left_at(i, "key", next_ns), 40);
		ck_assert_uint_eq(left_at(i, "key", next_ns + year_ns / 2), 70);
		ck_assert_uint_eq(left_at(i, "key", next_ns + year_ns), 100);
	}
	hosts_close();
}
END_TEST

/* Windows of half a second: what all hosts admit in each stays below limit and bound,
 * and the next one begins anew. */
START_TEST(test_many_windows)
{
	const uint64_t period_ns = 500 * MS;
	uint64_t admitted[4] = { 0 }, first = 0, index = 0, asked = 0, sum = 0;

	open_hosts("40/500ms fixed-window", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	while (index < first + 4) {
		int host = (int)(asked++ % HOSTS);
		uint64_t offset = window_offset(host, 0);
		uint64_t now_ns = clock_ns(CLOCK_BOOTTIME);
		struct weir_request request = { .policy = ids[host], .key = "key",
						.key_length = 3, .cost = 1, .now_ns = now_ns };
		struct weir_decision decision;

		if (!weir_decide(hosts[host], &request, &decision)) {
			nap();
			continue;
		}
		/* Shards differ by less than half a period: the end tells which it is. */
		index = (now_ns + offset + decision.reset_after_ns + period_ns / 2) / period_ns;
		if (first == 0)
			first = index;
		if (index < first + 4)
			admitted[index - first]++;
	}
	for (int i = 0; i < 4; i++) {
		sum += admitted[i];
		ck_assert_uint_le(admitted[i], 40 + (HOSTS - 1) * 1);
	}
	ck_assert_uint_gt(sum, 40 + (HOSTS - 1) * 1);
	hosts_close();
}
END_TEST

/* ---- Clocks ------------------------------------------------------------ */

/* HOSTS hosts, whose wall clocks are 5 s apart. */
static void create_skewed(const struct weir_policy *policy)
{
	hosts_create(HOSTS, policy);
	for (int i = 0; i < HOSTS; i++) {
		int64_t skew_ns = (i - 1) * 5 * (int64_t)SECOND;
		struct segment *segment = hosts[i]->segment;

		/* As it is where the segment was made by such a clock. */
		segment->wall_offset_ns += skew_ns;
		segment->header->wall.offset_ns += (uint64_t)skew_ns;
	}
}

/* Tokens taken half a second into a window are in the same one on all hosts, which a
 * host that went by its own clock would not do. */
START_TEST(test_clocks_apart)
{
	const uint64_t hour_ns = 3600 * SECOND;
	static const char *const hourly[] = { "100/1h fixed-window", "100/1h sliding-window" };
	struct weir_policy policy = host_policy(hourly[_i], WEIR_EVENTUAL, WEIR_FAIL_OPEN);
	uint64_t now_ns = clock_ns(CLOCK_BOOTTIME);
	struct weir_error error;

	create_skewed(&policy);
	for (int i = 0; i < HOSTS; i++)
		ck_assert_msg(host_start(hosts[i], url, HOSTS, &error) == 0, "%s", error.message);
	all_are_fresh();
	now_ns -= (now_ns + window_offset(0, 0)) % hour_ns;
	now_ns += SECOND / 2;
	for (int i = 0; i < HOSTS; i++) {
		struct weir_request request = { .policy = ids[i], .key = "key", .key_length = 3,
						.cost = 30, .now_ns = now_ns };

		ck_assert(weir_decide(hosts[i], &request, NULL));
	}
	for (int i = 0; i < HOSTS; i++)
		wait_until(left_at(i, "key", now_ns) == 10);
	hosts_close();
}
END_TEST

/* What a host whose clock is ahead has admitted before Redis told it the time comes
 * back to the present window, and counts there. */
START_TEST(test_clock_ahead)
{
	struct weir_policy policy = host_policy("100/2s fixed-window", WEIR_EVENTUAL,
						WEIR_FAIL_OPEN);
	struct weir_decision decision;

	if (_i)
		policy.limits[0].algorithm = WEIR_SLIDING_WINDOW;
	hosts_create(1, &policy);
	hosts[0]->segment->wall_offset_ns += 60 * (int64_t)SECOND;
	hosts[0]->segment->header->wall.offset_ns += 60 * SECOND;
	ck_assert_int_eq(weir_sync_pause(hosts[0], NULL), 0);
	ck_assert_int_eq(host_start(hosts[0], url, 1, NULL), 0);
	ck_assert(ask(0, "key", 100, NULL));
	ck_assert(!ask(0, "key", 1, &decision));
	ck_assert_int_eq(weir_sync_resume(hosts[0], NULL), 0);
	/* A minute too early, its window would be full for a minute. */
	wait_until(ask(0, "key", 1, NULL));
	hosts_close();
}
END_TEST

static void begin(void)
{
	server = redis_server_start(NULL);
	snprintf(url, sizeof(url), "unix://%s?command_ms=500", redis_server_socket(server));
}

static void end(void)
{
	redis_server_end(server);
}

int main(void)
{
	Suite *suite = suite_create("sync_windows");
	TCase *tests = tcase_create("sync_windows");
	SRunner *runner;
	int failed;

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, begin, end);
	tcase_add_loop_test(tests, test_thirty_each, 0, 4);
	tcase_add_loop_test(tests, test_bounded, 0, 2);
	tcase_add_loop_test(tests, test_partition, 0, 2);
	tcase_add_loop_test(tests, test_stale_share, 0, 2);
	tcase_add_loop_test(tests, test_redis_forgets, 0, 2);
	tcase_add_test(tests, test_redis_stops);
	tcase_add_loop_test(tests, test_takeover, 0, 2);
	tcase_add_loop_test(tests, test_refund_and_reset, 0, 2);
	tcase_add_test(tests, test_rolls);
	tcase_add_test(tests, test_many_windows);
	tcase_add_loop_test(tests, test_clocks_apart, 0, 2);
	tcase_add_loop_test(tests, test_clock_ahead, 0, 2);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
