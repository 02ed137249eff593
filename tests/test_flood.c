/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables that are too small, at their smallest: 16 slots, which are one window,
 * so that every key collides with every other.
 */
#include <string.h>
#include <unistd.h>

#include "tests/support.h"

#define SLOTS 16
#define START_NS 1000000000000000000ull
#define SECOND 1000000000ull
#define FLOOD 20000
#define HEAVY UINT64_MAX        /* a key that no flood has */

static struct weir *weir;
static weir_policy_id id;       /* of "flood": a token is back after a second */

static void setup_segment(bool compact)
{
	struct weir_policy policy = support_policy("flood", "1000/1000s", NULL);
	struct weir_options options;

	support_options(&options);
	options.slots = SLOTS;
	options.clock = WEIR_CLOCK_CALLER;
	options.compact = compact;
	weir = support_segment(&options);
	id = support_define(weir, &policy);
}

static void setup(void)
{
	setup_segment(false);
}

static void setup_compact(void)
{
	setup_segment(true);
}

static void teardown(void)
{
	weir_close(weir);
}

static bool take(uint64_t key, uint64_t cost, uint64_t now_ns, struct weir_decision *decision)
{
	struct weir_request request = { id, &key, sizeof(key), cost, now_ns };

	return weir_decide(weir, &request, decision);
}

/* Of a bucket that has not been full since. */
static uint64_t consumed(uint64_t key)
{
	struct weir_request request = { id, &key, sizeof(key), 0, START_NS };
	struct weir_decision decision;

	ck_assert(weir_status(weir, &request, &decision));
	ck_assert_uint_eq(decision.reset_after_ns % SECOND, 0);
	return decision.reset_after_ns / SECOND;
}

/* All slots have a debt of ten tokens. */
static void fill(void)
{
	for (uint64_t key = 0; key < SLOTS; key++)
		ck_assert(take(key, 10, START_NS, NULL));
}

/* ---- Eviction ---------------------------------------------------------- */

START_TEST(test_heavy_key_outlives_flood)
{
	struct weir_decision decision;
	uint64_t now_ns = START_NS;

	ck_assert(take(HEAVY, 1000, now_ns, NULL));
	for (uint64_t key = 0; key < FLOOD; key++) {
		now_ns += SECOND / 1000;
		ck_assert(take(key, 1, now_ns, &decision));
		ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	}
	/* 20 s later: 20 tokens are back, and the others are not forgotten. */
	ck_assert_uint_eq(consumed(HEAVY), 1000);
	ck_assert(!take(HEAVY, 21, now_ns, &decision));
	ck_assert_uint_eq(decision.retry_after_ns, SECOND);
	ck_assert(take(HEAVY, 20, now_ns, &decision));
	ck_assert_uint_eq(decision.remaining, 0);

	/* Fifteen found a free slot; each later one took the lightest key's. */
	ck_assert_uint_eq(support_counter(weir, "claimed", NULL), FLOOD + 1);
	ck_assert_uint_eq(support_counter(weir, "evicted_live", NULL), FLOOD - (SLOTS - 1));
	ck_assert_uint_eq(support_counter(weir, "table_full", NULL), 0);
}
END_TEST

START_TEST(test_lightest_is_evicted)
{
	for (uint64_t key = 0; key < SLOTS; key++)
		ck_assert(take(key, key == 5 ? 2 : 10, START_NS, NULL));
	ck_assert(take(100, 3, START_NS, NULL));
	for (uint64_t key = 0; key < SLOTS; key++)
		ck_assert_uint_eq(consumed(key), key == 5 ? 0 : 10);
	ck_assert_uint_eq(consumed(100), 3);
	ck_assert_uint_eq(support_counter(weir, "evicted_live", NULL), 1);
}
END_TEST

/* As heavy is not heavier: who is there stays. */
START_TEST(test_equal_is_not_evicted)
{
	struct weir_decision decision;

	fill();
	ck_assert(take(100, 10, START_NS, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_TABLE_FULL);
	ck_assert_uint_eq(consumed(100), 0);
	ck_assert(take(100, 11, START_NS, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	ck_assert_uint_eq(consumed(100), 11);
}
END_TEST

START_TEST(test_slots_return_with_the_last_debt)
{
	uint64_t later_ns = START_NS + 10 * SECOND;
	struct weir_decision decision;

	fill();
	ck_assert(take(100, 1, later_ns - 1, &decision));       /* a nanosecond of debt */
	ck_assert_uint_eq(support_counter(weir, "evicted_live", NULL), 1);
	for (uint64_t key = 101; key < 100 + SLOTS; key++) {
		ck_assert(take(key, 10, later_ns, &decision));
		ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	}
	ck_assert_uint_eq(support_counter(weir, "evicted_live", NULL), 1);
	ck_assert_uint_eq(support_counter(weir, "table_full", NULL), 0);
}
END_TEST

START_TEST(test_denials_store_nothing)
{
	struct weir_decision decision;

	ck_assert(take(HEAVY, 1000, START_NS, NULL));
	for (int i = 0; i < FLOOD; i++) {
		ck_assert(!take(HEAVY, 1, START_NS, &decision));
		ck_assert_uint_eq(decision.retry_after_ns, SECOND);
	}
	ck_assert_uint_eq(consumed(HEAVY), 1000);
	ck_assert_uint_eq(support_counter(weir, "denied", "flood"), FLOOD);
}
END_TEST

/* ---- A full table ------------------------------------------------------ */

static const struct {
	enum weir_fail_mode mode;
	bool shadow;
	enum weir_outcome outcome;
	const char *counter;
} full_table[] = {
	{ WEIR_FAIL_SHARE, false, WEIR_ALLOWED, "fail_open" },
	{ WEIR_FAIL_OPEN, false, WEIR_ALLOWED, "fail_open" },
	{ WEIR_FAIL_CLOSED, false, WEIR_UNAVAILABLE, "unavailable" },
	{ WEIR_FAIL_CLOSED, true, WEIR_ALLOWED, "fail_open" },
};

static void must_fail_as(size_t row, const char *policy, weir_policy_id policy_id)
{
	uint64_t key = 100;
	struct weir_request request = { policy_id, &key, sizeof(key), 1, START_NS };
	uint64_t before = support_counter(weir, full_table[row].counter, policy);
	uint64_t full = support_counter(weir, "table_full", NULL);
	struct weir_decision decision;
	bool pass = weir_decide(weir, &request, &decision);

	ck_assert_int_eq(decision.outcome, full_table[row].outcome);
	ck_assert_int_eq(decision.reason, WEIR_REASON_TABLE_FULL);
	ck_assert(pass == (full_table[row].outcome == WEIR_ALLOWED));
	ck_assert_uint_eq(support_counter(weir, full_table[row].counter, policy), before + 1);
	ck_assert_uint_eq(support_counter(weir, "table_full", NULL), full + 1);
	ck_assert_uint_eq(support_counter(weir, "evicted_live", NULL), 0);
	ck_assert_uint_eq(support_counter(weir, "allowed", policy), 0);
}

START_TEST(test_full_table_asks_policy)
{
	struct weir_policy policy = support_policy("light", "1000/1000s", NULL);

	policy.fail_mode = full_table[_i].mode;
	policy.shadow = full_table[_i].shadow;
	fill();
	must_fail_as((size_t)_i, "light", support_define(weir, &policy));
}
END_TEST

START_TEST(test_full_table_asks_switch)
{
	struct weir_policy policy = support_policy("light", "1000/1000s", NULL);
	weir_policy_id light;

	policy.fail_mode = _i == 2 ? WEIR_FAIL_OPEN : WEIR_FAIL_CLOSED;
	policy.shadow = full_table[_i].shadow;
	light = support_define(weir, &policy);
	fill();
	ck_assert_int_eq(weir_fail_mode_set(weir, "light", full_table[_i].mode, NULL), WEIR_OK);
	must_fail_as((size_t)_i, "light", light);
}
END_TEST

/* What needs no slot is decided all the same. */
START_TEST(test_full_table_still_answers)
{
	uint64_t key = 100;
	struct weir_request request = { id, &key, sizeof(key), 1001, START_NS };
	struct weir_decision decision;

	fill();
	ck_assert(!weir_decide(weir, &request, &decision));     /* could never pass */
	ck_assert_int_eq(decision.reason, WEIR_REASON_COST);
	request.cost = 1;
	ck_assert(weir_status(weir, &request, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	ck_assert_uint_eq(decision.remaining, 1000);
	ck_assert(weir_refund(weir, &request, &decision));
	ck_assert(weir_reset(weir, &request, &decision));
	ck_assert_uint_eq(support_counter(weir, "table_full", NULL), 0);
}
END_TEST

/* The first limit finds a slot and the second does not: nothing is spent. */
START_TEST(test_one_slot_for_two_limits)
{
	struct weir_policy policy = support_policy("two", "1000/1000s", "1000/1s", NULL);
	weir_policy_id two = support_define(weir, &policy);
	struct weir_decision decision;
	uint64_t key = 100;

	for (key = 0; key < SLOTS - 1; key++)
		ck_assert(take(key, 10, START_NS, NULL));
	ck_assert(weir_decide(weir, &(struct weir_request){ two, &key, sizeof(key), 1, START_NS },
			      &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_TABLE_FULL);
	ck_assert(weir_status(weir, &(struct weir_request){ two, &key, sizeof(key), 1, START_NS },
			      &decision));
	ck_assert_uint_eq(decision.remaining, 1000);
	ck_assert_uint_eq(decision.reset_after_ns, 0);
}
END_TEST

/* ---- Together ---------------------------------------------------------- */

#define WORKERS 4
#define HEAVY_KEYS 3

struct tally {
	uint64_t now_ns;
	uint64_t granted[HEAVY_KEYS];
};

static void flood_and_use(struct tally *tally, uint64_t worker, uint64_t requests)
{
	struct random_state random = random_start(worker, 1);

	for (uint64_t i = 0; i < requests; i++) {
		uint64_t heavy = random_below(&random, HEAVY_KEYS);
		uint64_t now_ns = __atomic_add_fetch(&tally->now_ns, 1000, __ATOMIC_RELAXED);
		struct weir_decision decision;

		take(worker << 32 | i, 1, now_ns, NULL);
		if (take(HEAVY - heavy, 1, now_ns, &decision)) {
			must(decision.reason == WEIR_REASON_LIMIT);
			__atomic_add_fetch(&tally->granted[heavy], 1, __ATOMIC_RELAXED);
		}
	}
}

/* Processes flood the table while they use three limited keys: no bucket of those
 * is ever lost, so each grants what there was and not a token more. */
START_TEST(test_flood_by_many)
{
	struct tally *tally = support_shared(sizeof(*tally));
	uint64_t requests = support_amount(5000, 1000000);
	pid_t workers[WORKERS];

	tally->now_ns = START_NS;
	for (uint64_t key = 0; key < HEAVY_KEYS; key++)
		ck_assert(take(HEAVY - key, 500, START_NS, NULL));
	for (uint64_t i = 0; i < WORKERS; i++) {
		workers[i] = support_fork();
		if (workers[i] == 0) {
			flood_and_use(tally, i, requests);
			_exit(EXIT_SUCCESS);
		}
	}
	for (int i = 0; i < WORKERS; i++)
		support_join(workers[i]);
	for (uint64_t key = 0; key < HEAVY_KEYS; key++) {
		uint64_t refilled = (tally->now_ns - START_NS) / SECOND;

		ck_assert_uint_eq(consumed(HEAVY - key), 500 + tally->granted[key]);
		ck_assert_uint_ge(tally->granted[key], 500);
		ck_assert_uint_le(tally->granted[key], 500 + refilled);
	}
	ck_assert_uint_gt(support_counter(weir, "evicted_live", NULL) +
			  support_counter(weir, "table_full", NULL), 0);
}
END_TEST

static void add_all(Suite *suite, const char *name, SFun start)
{
	TCase *all = tcase_create(name);

	tcase_set_timeout(all, 20);
	tcase_add_checked_fixture(all, start, teardown);
	tcase_add_test(all, test_heavy_key_outlives_flood);
	tcase_add_test(all, test_lightest_is_evicted);
	tcase_add_test(all, test_equal_is_not_evicted);
	tcase_add_test(all, test_slots_return_with_the_last_debt);
	tcase_add_test(all, test_denials_store_nothing);
	tcase_add_loop_test(all, test_full_table_asks_policy, 0, 4);
	tcase_add_loop_test(all, test_full_table_asks_switch, 0, 4);
	tcase_add_test(all, test_full_table_still_answers);
	tcase_add_test(all, test_one_slot_for_two_limits);
	tcase_add_test(all, test_flood_by_many);
	suite_add_tcase(suite, all);
}

int main(void)
{
	Suite *suite = suite_create("flood");

	add_all(suite, "flood", setup);
	add_all(suite, "compact", setup_compact);
	return support_main(suite);
}
