/* SPDX-License-Identifier: Apache-2.0 */
/* What sync/weir_sync.lua promises, on a real Redis with a clock that the test turns, and with its
 * own.  Every answer is also compared with the model's. */
#include "tests/script_fixture.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support.h"

#define MS_NS (SECOND_NS / 1000)

static void pass(int64_t ns)
{
	shard.true_us += ns / 1000;
}

/* ---- The algebra ------------------------------------------------------- */

START_TEST(test_one_charge)
{
	struct peer a = peer("a");
	struct script_item first = item("k", SECOND_NS + 1);

	peer_fence(&a);
	first.empty = first.charge;
	ck_assert_int_eq(script_ns(peer_send_item(&a, first).debt), SECOND_NS + 1);
	pass(SECOND_NS);
	ck_assert_int_eq(peer_debt_ns(&a, "k"), 1);
	pass(1000);
	ck_assert_int_eq(peer_debt_ns(&a, "k"), -999);
	pass(60 * SECOND_NS);
	ck_assert_int_eq(peer_debt_ns(&a, "k"), -5 * SECOND_NS);
	ck_assert_int_eq(peer_debt_ns(&a, "another"), -5 * SECOND_NS);
}
END_TEST

/* Any requests of a window are max(tat + d, now + E). */
START_TEST(test_windows_compose)
{
	struct peer a = peer("a"), b = peer("b");
	struct script_item window;

	peer_fence(&a);
	peer_fence(&b);

	/* On a debt: what b charged is added, though b alone would have had none. */
	peer_send_item(&a, item("busy", 7 * SECOND_NS));
	window = item("busy", 3 * SECOND_NS);
	window.empty = script_duration(-SECOND_NS);
	ck_assert_int_eq(script_ns(peer_send_item(&b, window).debt), 5 * SECOND_NS);

	/* Charges spread over two seconds paid for themselves: now is not a floor. */
	window = item("spread", 5 * SECOND_NS);
	ck_assert_int_eq(script_ns(peer_send_item(&a, window).debt), 0);
	pass(2 * SECOND_NS);
	window = item("spread", 2 * SECOND_NS);
	window.empty = script_duration(20 * MS_NS);
	ck_assert_int_eq(script_ns(peer_send_item(&b, window).debt), 20 * MS_NS);

	/* An old tat is not a credit: E says what came after the bucket was full. */
	pass(4 * SECOND_NS);
	window = item("spread", 200 * MS_NS);
	window.empty = script_duration(200 * MS_NS);
	ck_assert_int_eq(script_ns(peer_send_item(&a, window).debt), 200 * MS_NS);

	/* E counts as well where charge and refund are equal. */
	window = item("even", 0);
	window.empty = script_duration(3);
	ck_assert_int_eq(script_ns(peer_send_item(&a, window).debt), 3);
	ck_assert_int_eq(peer_debt_ns(&b, "even"), 3);
}
END_TEST

/* To the second, one nanosecond before, and one behind. */
START_TEST(test_carries)
{
	struct peer a = peer("a");

	shard.true_us -= shard.true_us % SECOND_US - 300000;
	peer_fence(&a);
	for (int i = -1; i <= 1; i++) {
		char name[] = { (char)('b' + i), 0 };
		int64_t debt_ns = 700 * MS_NS + i;
		struct script_item charge = item(name, 5 * SECOND_NS + debt_ns);

		ck_assert_int_eq(script_ns(peer_send_item(&a, charge).debt), debt_ns);
		pass(700 * MS_NS);
		ck_assert_int_eq(peer_debt_ns(&a, name), i);
		ck_assert_int_eq(script_ns(peer_send_item(&a, item(name, -i)).debt), 0);
		pass(300 * MS_NS);
	}
}
END_TEST

/* One name twice in a batch: the second sees the first. */
START_TEST(test_same_name_twice)
{
	struct peer a = peer("a");
	struct script_item items[] = { item("k", 6 * SECOND_NS), item("x", 1), item("k", 7) };

	peer_fence(&a);
	peer_send(&a, items, 3);
	ck_assert_int_eq(script_ns(shard.reply.results[2].debt), SECOND_NS + 7);
	ck_assert_int_eq(peer_debt_ns(&a, "k"), SECOND_NS + 7);
}
END_TEST

#define RESET 4096u      /* a reset begins a generation that is a multiple of it */

START_TEST(test_refund_begins_a_generation)
{
	struct peer a = peer("a"), b = peer("b");
	struct script_result result;
	struct script_item refund = item("k", -2 * SECOND_NS - 1), old = item("k", 0);

	peer_fence(&a);
	peer_fence(&b);
	result = peer_send_item(&a, item("k", 9 * SECOND_NS));
	ck_assert_uint_eq(result.generation, 0);
	result = peer_send_item(&a, refund);
	ck_assert_int_eq(script_ns(result.debt), 2 * SECOND_NS - 1);
	ck_assert_uint_eq(result.generation, 1);

	/* b's older view raises nothing, and its charge still counts. */
	old.view = script_duration(4 * SECOND_NS);
	old.charge = script_duration(5);
	result = peer_send_item(&b, old);
	ck_assert_int_eq(script_ns(result.debt), 2 * SECOND_NS + 4);
	ck_assert_uint_eq(result.generation, 1);

	/* A refund of more than there is stops where an absent entry stands. */
	refund.charge = script_duration(-3600 * SECOND_NS);
	refund.generation = 1;
	ck_assert_int_eq(script_ns(peer_send_item(&a, refund).debt), -5 * SECOND_NS);

	/* There is no generation behind the last. */
	refund.generation = UINT32_MAX;
	ck_assert_uint_eq(peer_send_item(&a, refund).generation, UINT32_MAX);
}
END_TEST

START_TEST(test_reset_leaves_what_came_after)
{
	struct peer a = peer("a"), b = peer("b");
	struct script_item reset = item("k", 100 * SECOND_NS), view = item("k", 0);
	struct script_result result;

	peer_fence(&a);
	peer_fence(&b);
	peer_send_item(&b, item("k", 50 * SECOND_NS));
	reset.flags = SCRIPT_RESET;
	result = peer_send_item(&a, reset);
	ck_assert_int_eq(script_ns(result.debt), 0);
	ck_assert_uint_eq(result.generation, RESET);
	reset.generation = RESET;
	reset.empty = script_duration(30 * MS_NS);
	result = peer_send_item(&a, reset);
	ck_assert_int_eq(script_ns(result.debt), 30 * MS_NS);
	ck_assert_uint_eq(result.generation, 2 * RESET);

	/* Redis forgets all; whoever comes first, b's view of before the reset does not return. */
	for (int first = 0; first < 2; first++) {
		shard_flush();
		peer_fence(&a);
		peer_fence(&b);
		view.view = script_duration(45 * SECOND_NS);
		view.generation = 0;
		if (first)
			peer_send_item(&b, view);
		view.view = script_duration(-SECOND_NS);
		view.generation = 2 * RESET;
		view.flags = SCRIPT_RESTORE;
		result = peer_send_item(&a, view);
		ck_assert_uint_eq(result.generation, 2 * RESET);
		ck_assert_int_eq(script_ns(result.debt), -SECOND_NS);
		view.view = script_duration(45 * SECOND_NS);
		view.generation = 0;
		result = peer_send_item(&b, view);
		ck_assert_uint_eq(result.generation, 2 * RESET);
		ck_assert_int_eq(script_ns(result.debt), -SECOND_NS);
	}
}
END_TEST

/* Redis forgets all, and the first that comes is a refund of a host that knew of less than the
 * others: what they know is no less for it. */
START_TEST(test_refund_after_a_loss)
{
	struct peer a = peer("a"), b = peer("b");
	struct script_item view = item("k", -SECOND_NS);
	struct script_result result;

	peer_fence(&a);
	peer_fence(&b);
	view.view = script_duration(2 * SECOND_NS);
	view.flags = SCRIPT_RESTORE;
	result = peer_send_item(&a, view);
	ck_assert_uint_eq(result.generation, 1);
	ck_assert_int_eq(script_ns(result.debt), SECOND_NS);
	view = item("k", 10 * SECOND_NS);
	view.view = script_duration(60 * SECOND_NS);
	view.flags = SCRIPT_RESTORE;
	result = peer_send_item(&b, view);
	ck_assert_uint_eq(result.generation, 1);
	ck_assert_int_eq(script_ns(result.debt), 70 * SECOND_NS);

	/* Where nothing was lost, the refund is what counts. */
	view.charge = script_duration(0);
	view.view = script_duration(90 * SECOND_NS);
	view.flags = 0;
	ck_assert_int_eq(script_ns(peer_send_item(&b, view).debt), 70 * SECOND_NS);
}
END_TEST

/* Redis forgets a generation that nobody was in debt in for long, hosts may remember it: what was
 * charged meanwhile stays.  (Where Redis lost state, it is replaced: test_reset.) */
START_TEST(test_forgotten_generation)
{
	struct peer a = peer("a"), b = peer("b");
	struct script_item late = item("k", SECOND_NS);
	struct script_result result;

	peer_fence(&a);
	peer_fence(&b);
	ck_assert_uint_eq(peer_send_item(&a, item("k", -1)).generation, 1);
	pass(700 * SECOND_NS);
	result = peer_send_item(&b, item("k", 15 * SECOND_NS));
	ck_assert_uint_eq(result.generation, 0);
	ck_assert_int_eq(script_ns(result.debt), 10 * SECOND_NS);
	late.generation = 1;
	late.view = script_duration(-700 * SECOND_NS);
	result = peer_send_item(&a, late);
	ck_assert_uint_eq(result.generation, 1);
	ck_assert_int_eq(script_ns(result.debt), 11 * SECOND_NS);
	late.generation = 2;
	late.view = script_duration(20 * SECOND_NS);
	ck_assert_int_eq(script_ns(peer_send_item(&a, late).debt), 21 * SECOND_NS);
}
END_TEST

START_TEST(test_cap)
{
	struct peer a = peer("a");
	struct script_item capped = item("k", 100 * SECOND_NS);

	peer_fence(&a);
	capped.cap = script_duration(20 * SECOND_NS + 1);
	ck_assert_int_eq(script_ns(peer_send_item(&a, capped).debt), 20 * SECOND_NS + 1);
	capped.empty = script_duration(300 * SECOND_NS);
	ck_assert_int_eq(script_ns(peer_send_item(&a, capped).debt), 20 * SECOND_NS + 1);

	/* It bounds the window, not the debt that was there. */
	peer_send_item(&a, item("k", 20 * SECOND_NS));
	ck_assert_int_eq(script_ns(peer_send_item(&a, capped).debt), 40 * SECOND_NS + 1);
	capped.flags = SCRIPT_RESET;
	ck_assert_int_eq(script_ns(peer_send_item(&a, capped).debt), 20 * SECOND_NS + 1);
}
END_TEST

/* 3 hosts x 30 of 100: Redis knows of exactly 90. */
START_TEST(test_ninety_of_a_hundred)
{
	const int64_t token_ns = 36 * SECOND_NS + 7;
	struct peer hosts[] = { peer("one"), peer("two"), peer("three") };
	int64_t empty_ns = token_ns;

	for (int i = 0; i < 3; i++)
		peer_fence(&hosts[i]);
	for (int i = 0; i < 90; i++) {
		struct script_item one = item("user", token_ns);

		one.empty = script_duration(empty_ns);
		ck_assert_int_eq(script_ns(peer_send_item(&hosts[i % 3], one).debt),
				 (i + 1) * token_ns);
		empty_ns = SCRIPT_NEVER_NS;
	}
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(peer_debt_ns(&hosts[i], "user"), 90 * token_ns);
	ck_assert_uint_eq(shard.reply.live, 3);
}
END_TEST

/* 100,000 charges of odd nanoseconds, most below what a double of microseconds resolves. */
START_TEST(test_sums_are_exact)
{
	enum { NAMES = 10, BATCHES = 100 };
	static struct script_item items[SCRIPT_MAX_ITEMS];
	struct random_state random = random_start(support_seed(), 1);
	int64_t debts_ns[NAMES];
	struct peer a = peer("a");

	shard.keep_seconds = 60;
	peer_fence(&a);
	for (int i = 0; i < NAMES; i++)
		debts_ns[i] = -60 * SECOND_NS;
	for (int batch = 0; batch < BATCHES; batch++) {
		for (int i = 0; i < SCRIPT_MAX_ITEMS; i++) {
			uint64_t bound = UINT64_C(1) << (4 + random_below(&random, 28));
			int64_t charge_ns = (int64_t)(random_below(&random, bound) | 1);
			char name[2] = { (char)('a' + i % NAMES), 0 };

			items[i] = item(name, charge_ns);
			debts_ns[i % NAMES] += charge_ns;
		}
		peer_send(&a, items, SCRIPT_MAX_ITEMS);
		for (int i = 0; i < NAMES; i++)
			ck_assert_int_eq(script_ns(shard.reply.results[SCRIPT_MAX_ITEMS - NAMES +
								       i].debt), debts_ns[i]);
		if (debts_ns[0] > SECOND_NS) {
			pass(1000);
			for (int i = 0; i < NAMES; i++)
				debts_ns[i] -= 1000;
		}
	}
	ck_assert_int_gt(debts_ns[0], 0);
}
END_TEST

/* ---- Exactly once ------------------------------------------------------ */

START_TEST(test_replay_is_refused)
{
	struct peer a = peer("a");
	struct script_item charge = item("k", 9 * SECOND_NS);
	struct script_call call;

	peer_fence(&a);
	call = peer_call(&a, &charge, 1);
	peer_send_item(&a, charge);
	ck_assert_int_eq(shard_call(&call), SCRIPT_FENCE_FIRST);
	ck_assert_uint_eq(shard.reply.term, 1);
	ck_assert_uint_eq(shard.reply.seq, 1);

	call.seq = 3;                           /* a gap: what became of 2? */
	ck_assert_int_eq(shard_call(&call), SCRIPT_FENCE_FIRST);
	call.term = 2;                          /* a term that was not fenced */
	call.seq = 1;
	ck_assert_int_eq(shard_call(&call), SCRIPT_FENCE_FIRST);
	ck_assert_int_eq(peer_debt_ns(&a, "k"), 4 * SECOND_NS);
}
END_TEST

START_TEST(test_old_terms_are_dead)
{
	struct peer before = peer("a"), after = peer("a");
	struct script_item charge = item("k", 9 * SECOND_NS);
	struct script_call call;

	peer_fence(&before);
	peer_send_item(&before, charge);
	call = peer_call(&before, &charge, 1);
	after.term = 6;
	peer_fence(&after);
	ck_assert_int_eq(shard_call(&call), SCRIPT_STALE);
	ck_assert_uint_eq(shard.reply.term, 7);
	ck_assert_uint_eq(shard.reply.seq, 0);

	call = peer_call(&after, NULL, 0);      /* the fence once more, and one of the middle */
	call.seq = 0;
	ck_assert_int_eq(shard_call(&call), SCRIPT_STALE);
	call.term = 5;
	ck_assert_int_eq(shard_call(&call), SCRIPT_STALE);
	ck_assert_int_eq(peer_debt_ns(&after, "k"), 4 * SECOND_NS);
}
END_TEST

START_TEST(test_fence_tells_what_was_applied)
{
	struct peer a = peer("a"), b = peer("b");

	peer_fence(&a);
	ck_assert_uint_eq(shard.reply.term, 0);
	ck_assert_uint_eq(shard.reply.seq, 0);
	for (int i = 0; i < 3; i++) {
		peer_send_item(&a, item("k", 1));
		ck_assert_uint_eq(shard.reply.term, 1);
		ck_assert_uint_eq(shard.reply.seq, i + 1);
	}
	for (int i = 0; i < 3; i++) {           /* fences alone do not make it forget */
		peer_fence(&a);
		ck_assert_uint_eq(shard.reply.term, 1);
		ck_assert_uint_eq(shard.reply.seq, 3);
	}
	peer_send(&a, NULL, 0);
	peer_fence(&a);
	ck_assert_uint_eq(shard.reply.term, 4);
	ck_assert_uint_eq(shard.reply.seq, 1);
	peer_fence(&b);                         /* each host has its own */
	ck_assert_uint_eq(shard.reply.term, 0);
}
END_TEST

START_TEST(test_views_come_back_after_a_flush)
{
	struct peer a = peer("a"), b = peer("b");
	struct script_item window = item("k", 2 * SECOND_NS);
	struct script_call call;

	peer_fence(&a);
	peer_fence(&b);
	peer_send_item(&a, item("k", 15 * SECOND_NS));
	shard_flush();

	call = peer_call(&a, &window, 1);
	ck_assert_int_eq(shard_call(&call), SCRIPT_FENCE_FIRST);
	ck_assert_int_eq(shard_command("EXISTS %s", SCRIPT_SHARD), 0);
	peer_fence(&a);
	ck_assert_uint_eq(shard.reply.seq, 0);
	peer_fence(&b);

	/* The first view makes the entry, larger ones raise it, each with its window on top. */
	window.view = script_duration(10 * SECOND_NS);
	ck_assert_int_eq(script_ns(peer_send_item(&a, window).debt), 12 * SECOND_NS);
	window.flags = SCRIPT_RESTORE;
	window.view = script_duration(11 * SECOND_NS);
	ck_assert_int_eq(script_ns(peer_send_item(&b, window).debt), 14 * SECOND_NS);
	window.view = script_duration(20 * SECOND_NS);
	ck_assert_int_eq(script_ns(peer_send_item(&b, window).debt), 22 * SECOND_NS);
	window.flags = 0;                       /* in ordinary times a view is nothing new */
	window.view = script_duration(40 * SECOND_NS);
	ck_assert_int_eq(script_ns(peer_send_item(&a, window).debt), 24 * SECOND_NS);

	/* A view without a charge is kept as well. */
	window = item("v", 0);
	window.view = script_duration(1);
	peer_send_item(&a, window);
	ck_assert_int_eq(peer_debt_ns(&b, "v"), 1);
}
END_TEST

/* ---- The clock --------------------------------------------------------- */

/* Steps of Redis' clock by seconds; the debt goes on to fall as time passes. */
START_TEST(test_clock_steps)
{
	static const int64_t steps[] = { 5, -5, 60, -60, -5, -5, 60, 60, 3600, -86400 };
	const int64_t round_ns = 10 * MS_NS;
	struct peer a = peer("a");
	int64_t debt_ns = 1000 * SECOND_NS, now_ns;

	peer_fence(&a);
	peer_send_item(&a, item("k", debt_ns + 5 * SECOND_NS));
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		now_ns = shard.reply.now_ns;
		shard.step_us += steps[i] * SECOND_US;
		pass(round_ns);
		/* A step back costs the round in which it happened. */
		debt_ns -= steps[i] > 0 ? round_ns : 0;
		ck_assert_int_eq(peer_debt_ns(&a, "k"), debt_ns);
		for (int j = 0; j < 20; j++) {
			pass(round_ns);
			debt_ns -= round_ns;
			ck_assert_int_eq(peer_debt_ns(&a, "k"), debt_ns);
		}
		ck_assert_int_ge(shard.reply.now_ns, now_ns + 20 * round_ns);
		ck_assert_int_le(shard.reply.now_ns, now_ns + 21 * round_ns);
	}
}
END_TEST

START_TEST(test_clock_tolerance)
{
	struct peer a = peer("a"), b = peer("b");
	int64_t now_ns;

	shard.tolerance_ns = 500 * MS_NS;
	peer_fence(&a);
	now_ns = shard.reply.now_ns;
	shard.step_us += 500000;                /* up to here it is believed */
	peer_send(&a, NULL, 0);
	ck_assert_int_eq(shard.reply.now_ns, now_ns + 500 * MS_NS);
	shard.step_us += 500001;
	peer_send(&a, NULL, 0);
	ck_assert_int_eq(shard.reply.now_ns, now_ns + 500 * MS_NS);

	/* An hour that the caller saw pass did pass. */
	pass(3600 * SECOND_NS);
	peer_send(&a, NULL, 0);
	ck_assert_int_eq(shard.reply.now_ns, now_ns + 500 * MS_NS + 3600 * SECOND_NS);
	peer_fence(&b);
	ck_assert_int_eq(shard.reply.now_ns, now_ns + 500 * MS_NS + 3600 * SECOND_NS);

	/* What any host saw counts, not only what this one did. */
	pass(10 * SECOND_NS);
	peer_send(&b, NULL, 0);
	now_ns = shard.reply.now_ns;
	a.at_us = shard.true_us;
	shard.step_us += 300000;
	peer_send(&a, NULL, 0);
	ck_assert_int_eq(shard.reply.now_ns, now_ns + 300 * MS_NS);
	shard.step_us += 600000;
	a.now_ns = 0;
	peer_send(&a, NULL, 0);
	ck_assert_int_eq(shard.reply.now_ns, now_ns + 300 * MS_NS);

	/* 2^53 - 1 ns and its like are split exactly. */
	shard.tolerance_ns = (UINT64_C(1) << 53) - 1;
	now_ns = shard.reply.now_ns;
	shard.step_us += INT64_C(9007199254740);
	peer_fence(&a);
	ck_assert_int_eq(shard.reply.now_ns, now_ns + INT64_C(9007199254740000));
	shard.tolerance_ns = UINT64_C(9007198999999999);
	now_ns = shard.reply.now_ns;
	shard.step_us += INT64_C(9007199000000);
	peer_fence(&a);
	ck_assert_int_eq(shard.reply.now_ns, now_ns);
}
END_TEST

/* The script as it is in production. */
START_TEST(test_own_clock)
{
	struct script_client own;
	struct script_item charge = item("k", 3600 * SECOND_NS);
	struct peer a = peer("a");
	struct script_call call;
	struct timespec before, after;
	struct script_reply *reply = &shard.reply;

	script_client_start(&own, shard.context, SCRIPT_CLOCK_REDIS);
	a.term = 1;
	call = peer_call(&a, NULL, 0);
	call.seq = 0;
	clock_gettime(CLOCK_REALTIME, &before);
	ck_assert(script_client_call(&own, &call, reply));
	clock_gettime(CLOCK_REALTIME, &after);
	ck_assert_int_eq(reply->code, SCRIPT_DONE);
	ck_assert_int_ge(reply->now_ns, before.tv_sec * SECOND_NS + before.tv_nsec / 1000 * 1000);
	ck_assert_int_le(reply->now_ns, after.tv_sec * SECOND_NS + after.tv_nsec);

	call = peer_call(&a, &charge, 1);
	charge.empty = charge.charge;
	for (call.seq = 1; call.seq <= 100; call.seq++) {
		int64_t now_ns = reply->now_ns;

		ck_assert(script_client_call(&own, &call, reply));
		ck_assert_int_eq(reply->code, SCRIPT_DONE);
		ck_assert_int_ge(reply->now_ns, now_ns);
		charge = item("k", 0);
	}
	ck_assert_int_le(script_ns(reply->results[0].debt), 3600 * SECOND_NS);
	ck_assert_int_gt(script_ns(reply->results[0].debt), 3500 * SECOND_NS);

	/* Nobody can bring a clock along. */
	own.clock = SCRIPT_CLOCK_CALL;
	ck_assert(!script_client_call(&own, &call, reply));
	ck_assert_ptr_nonnull(strstr(own.error, "WEIR expects 1 key and 9 arguments"));
}
END_TEST

/* ---- Hosts ------------------------------------------------------------- */

START_TEST(test_live_hosts_are_counted)
{
	struct peer a = peer("a"), b = peer("b"), c = peer("c");
	struct script_call call;

	peer_fence(&a);
	ck_assert_uint_eq(shard.reply.live, 1);
	peer_fence(&b);
	ck_assert_uint_eq(shard.reply.live, 2);
	peer_fence(&c);
	ck_assert_uint_eq(shard.reply.live, 3);
	for (int i = 0; i < 29; i++) {
		pass(SECOND_NS);
		peer_send(&a, NULL, 0);
		peer_send(&b, NULL, 0);
		ck_assert_uint_eq(shard.reply.live, 3);
	}
	pass(SECOND_NS);
	peer_send(&a, NULL, 0);
	ck_assert_uint_eq(shard.reply.live, 2);

	/* c wakes up and counts at once, with the term it had. */
	peer_send(&c, NULL, 0);
	ck_assert_uint_eq(shard.reply.live, 3);
	pass(40 * SECOND_NS);
	peer_send(&b, NULL, 0);
	ck_assert_uint_eq(shard.reply.live, 1);
	peer_send(&b, NULL, 0);
	ck_assert_uint_eq(shard.reply.live, 1);

	/* After a day a host is a stranger. */
	pass(86401 * SECOND_NS);
	peer_fence(&b);
	ck_assert_uint_eq(shard.reply.live, 1);
	ck_assert_uint_eq(shard.reply.term, 0);
	call = peer_call(&a, NULL, 0);
	ck_assert_int_eq(shard_call(&call), SCRIPT_FENCE_FIRST);
	ck_assert_uint_eq(shard.reply.term, 0);
	for (int i = 0; i < 4; i++)
		peer_send(&b, NULL, 0);
	ck_assert_int_eq(shard_fields(), 5);    /* s v L c and b */
}
END_TEST

START_TEST(test_many_hosts)
{
	struct peer hosts[200];
	char name[32];

	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "h%d", i * 7919);
		hosts[i] = peer(name);
		pass(MS_NS);
		peer_fence(&hosts[i]);
		ck_assert_uint_eq(shard.reply.live, i + 1);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("script");

	script_add(suite, "one charge", test_one_charge, 10);
	script_add(suite, "windows compose", test_windows_compose, 10);
	script_add(suite, "carries", test_carries, 10);
	script_add(suite, "same name twice", test_same_name_twice, 10);
	script_add(suite, "refund", test_refund_begins_a_generation, 10);
	script_add(suite, "reset", test_reset_leaves_what_came_after, 10);
	script_add(suite, "refund after a loss", test_refund_after_a_loss, 10);
	script_add(suite, "forgotten generation", test_forgotten_generation, 10);
	script_add(suite, "cap", test_cap, 10);
	script_add(suite, "ninety of a hundred", test_ninety_of_a_hundred, 10);
	script_add(suite, "exact sums", test_sums_are_exact, 30);
	script_add(suite, "replay", test_replay_is_refused, 10);
	script_add(suite, "old terms", test_old_terms_are_dead, 10);
	script_add(suite, "fence", test_fence_tells_what_was_applied, 10);
	script_add(suite, "flush", test_views_come_back_after_a_flush, 10);
	script_add(suite, "clock steps", test_clock_steps, 10);
	script_add(suite, "clock tolerance", test_clock_tolerance, 10);
	script_add(suite, "own clock", test_own_clock, 10);
	script_add(suite, "live hosts", test_live_hosts_are_counted, 10);
	script_add(suite, "many hosts", test_many_hosts, 20);
	return script_main(suite);
}
