/* SPDX-License-Identifier: Apache-2.0 */
/* test_sync_windows.c - fixed and sliding windows of several hosts, and a real Redis. */
#include <string.h>

#include "shm/clock.h"
#include "shm/layout.h"
#include "src/handle.h"
#include "tests/suite.h"
#include "tests/sync_scenarios.h"

/* 100 in 365 days: no test sees such a window end. */
static const char *const limits[] = { "100/365d fixed-window", "100/365d sliding-window" };

/* Shard SHARD's clock, less this machine's, as HOST has it. */
static uint64_t window_offset(int host, unsigned shard)
{
	return atomic_load_relaxed(&hosts[host]->segment->shards[shard].window_offset_ns);
}

/* ---- Agreement --------------------------------------------------------- */

START_TEST(test_thirty_each)
{
	static const enum weir_consistency modes[] = { WEIR_BOUNDED, WEIR_EVENTUAL };

	thirty_each(limits[_i / 2], modes[_i % 2]);
}
END_TEST

START_TEST(test_bounded)
{
	static const char *const small[] = { "60/365d fixed-window", "60/365d sliding-window" };

	hammer_one_key(small[_i]);
}
END_TEST

START_TEST(test_partition)
{
	cut_one_off(limits[_i]);
}
END_TEST

/* With a stale view a host has its share of the window, whatever is left of it. */
START_TEST(test_stale_share)
{
	uint64_t passed = 0;
	struct weir_decision decision;

	open_hosts(HOSTS, limits[_i], WEIR_EVENTUAL, WEIR_FAIL_SHARE);
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

START_TEST(test_redis_forgets)
{
	lose_redis(limits[_i], WEIR_FAIL_OPEN, 2);
}
END_TEST

START_TEST(test_redis_stops)
{
	stop_redis("1000/365d sliding-window");
}
END_TEST

/* A leader that goes between its calls is followed by one that counts nothing twice. */
START_TEST(test_takeover)
{
	open_hosts(HOSTS, limits[_i], WEIR_BOUNDED, WEIR_FAIL_CLOSED);
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

START_TEST(test_refund_and_reset)
{
	refund_and_reset(limits[_i]);
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

	open_hosts(HOSTS, limits[1], WEIR_EVENTUAL, WEIR_FAIL_OPEN);
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

	open_hosts(HOSTS, "40/500ms fixed-window", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
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

int main(void)
{
	Suite *suite = suite_create("sync_windows");
	TCase *tests = tcase_create("sync_windows");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, server_begin, server_end);
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
	return suite_run(suite);
}
