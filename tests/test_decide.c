/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions through the public functions, on the caller's clock: outcomes,
 * reasons, numbers, and what each of them leaves in the buckets. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/handle.h"
#include "tests/decide_fixture.h"
#include "tests/suite.h"

static bool same(const struct weir_decision *a, const struct weir_decision *b)
{
	return a->outcome == b->outcome && a->reason == b->reason &&
	       a->limit_index == b->limit_index && a->flagged == b->flagged &&
	       a->limit == b->limit && a->remaining == b->remaining &&
	       a->retry_after_ns == b->retry_after_ns && a->reset_after_ns == b->reset_after_ns;
}

/* ---- One limit --------------------------------------------------------- */

struct expectation {
	char operation;         /* d decide, s status, f force, r refund, R reset */
	uint64_t at_ns, cost;
	struct weir_decision expected;
};

#define YES WEIR_ALLOWED, WEIR_REASON_LIMIT
#define NO WEIR_DENIED, WEIR_REASON_LIMIT
#define NEVER WEIR_DENIED, WEIR_REASON_COST
#define DEBT WEIR_DENIED, WEIR_REASON_DEBT

static void run(const char *limits, const struct expectation *steps, size_t count)
{
	weir_policy_id id = fixture_set(weir, "table", limits);

	for (size_t i = 0; i < count; i++) {
		struct weir_request request =
			request_for(id, "key", steps[i].cost, EPOCH + steps[i].at_ns);
		const struct weir_decision *expected = &steps[i].expected;
		struct weir_decision got;

		memset(&got, 0xff, sizeof(got));
		switch (steps[i].operation) {
		case 'd':
			weir_decide(weir, &request, &got);
			break;
		case 's':
			weir_status(weir, &request, &got);
			break;
		case 'f':
			weir_force_take(weir, &request, &got);
			break;
		case 'r':
			weir_refund(weir, &request, &got);
			break;
		case 'R':
			weir_reset(weir, &request, &got);
			break;
		}
		ck_assert_msg(same(&got, expected),
			      "step %zu: %s %s, limit %u of %llu, %sremaining %llu, retry %llu, "
			      "reset %llu",
			      i, weir_outcome_name(got.outcome), weir_reason_name(got.reason),
			      got.limit_index, (unsigned long long)got.limit,
			      got.flagged ? "flagged, " : "", (unsigned long long)got.remaining,
			      (unsigned long long)got.retry_after_ns,
			      (unsigned long long)got.reset_after_ns);
	}
}

START_TEST(token_bucket)
{
	static const struct expectation steps[] = {
		{ 's', 0, 1, { YES, 0, false, 5, 5, 0, 0 } },
		{ 'd', 0, 0, { YES, 0, false, 5, 5, 0, 0 } },
		{ 'd', 0, 2, { YES, 0, false, 5, 3, 0, 2 * SECOND } },
		{ 's', 0, 3, { YES, 0, false, 5, 3, 0, 2 * SECOND } },
		{ 's', 0, 4, { NO, 0, false, 5, 3, SECOND, 2 * SECOND } },
		{ 'd', 0, 4, { NO, 0, false, 5, 3, SECOND, 2 * SECOND } },
		{ 'd', 0, 6, { NEVER, 0, false, 5, 3, WEIR_NEVER, 2 * SECOND } },
		{ 'd', SECOND, 4, { YES, 0, false, 5, 0, 0, 5 * SECOND } },
		{ 'd', SECOND, 1, { NO, 0, false, 5, 0, SECOND, 5 * SECOND } },
		{ 'f', SECOND, 3, { YES, 0, false, 5, 0, 0, 8 * SECOND } },
		{ 'd', SECOND, 1, { NO, 0, false, 5, 0, 4 * SECOND, 8 * SECOND } },
		{ 'r', SECOND, 4, { YES, 0, false, 5, 1, 0, 4 * SECOND } },
		{ 'r', SECOND, 99, { YES, 0, false, 5, 5, 0, 0 } },
		{ 'f', SECOND, 69120000, { YES, 0, false, 5, 0, 0, 2 * WEIR_DEBT_MAX_NS } },
		{ 'f', SECOND, 1, { DEBT, 0, false, 5, 0, SECOND, 2 * WEIR_DEBT_MAX_NS } },
		{ 'f', SECOND, 69120001, { DEBT, 0, false, 5, 0, WEIR_NEVER,
					   2 * WEIR_DEBT_MAX_NS } },
		{ 'R', SECOND, 0, { YES, 0, false, 5, 5, 0, 0 } },
		{ 'd', SECOND, 5, { YES, 0, false, 5, 0, 0, 5 * SECOND } },
	};

	run("60/1m burst 5", steps, LENGTH(steps));
}
END_TEST

START_TEST(fixed_window)
{
	/* EPOCH is a whole number of 10 s. */
	static const struct expectation steps[] = {
		{ 'd', 3 * SECOND, 4, { YES, 0, false, 5, 1, 0, 7 * SECOND } },
		{ 'd', 4 * SECOND, 2, { NO, 0, false, 5, 1, 6 * SECOND, 6 * SECOND } },
		{ 'd', 4 * SECOND, 6, { NEVER, 0, false, 5, 1, WEIR_NEVER, 6 * SECOND } },
		{ 'r', 4 * SECOND, 1, { YES, 0, false, 5, 2, 0, 6 * SECOND } },
		{ 'f', 5 * SECOND, 9, { YES, 0, false, 5, 0, 0, 5 * SECOND } },
		{ 's', 5 * SECOND, 1, { NO, 0, false, 5, 0, 5 * SECOND, 5 * SECOND } },
		{ 'd', 10 * SECOND, 5, { YES, 0, false, 5, 0, 0, 10 * SECOND } },
		{ 'R', 11 * SECOND, 0, { YES, 0, false, 5, 5, 0, 0 } },
		{ 'd', 11 * SECOND, 5, { YES, 0, false, 5, 0, 0, 9 * SECOND } },
	};

	run("5/10s fixed-window", steps, LENGTH(steps));
}
END_TEST

START_TEST(sliding_window)
{
	static const struct expectation steps[] = {
		{ 'd', 5 * SECOND, 4, { YES, 0, false, 4, 0, 0, 15 * SECOND } },
		{ 'd', 5 * SECOND, 1, { NO, 0, false, 4, 0, 7500 * MS, 15 * SECOND } },
		{ 'd', 5 * SECOND, 5, { NEVER, 0, false, 4, 0, WEIR_NEVER, 15 * SECOND } },
		{ 'd', 12500 * MS, 1, { YES, 0, false, 4, 0, 0, 17500 * MS } },
		{ 'r', 12500 * MS, 1, { YES, 0, false, 4, 1, 0, 7500 * MS } },
		{ 'f', 12500 * MS, 2, { YES, 0, false, 4, 0, 0, 17500 * MS } },
		{ 'R', 12500 * MS, 0, { YES, 0, false, 4, 4, 0, 0 } },
	};

	run("4/10s sliding-window", steps, LENGTH(steps));
}
END_TEST

START_TEST(flagging_window)
{
	static const struct expectation steps[] = {
		{ 'd', 0, 4, { YES, 0, false, 4, 0, 0, 20 * SECOND } },
		{ 's', 0, 1, { YES, 0, true, 4, 0, 0, 20 * SECOND } },
		{ 'd', 0, 1, { YES, 0, true, 4, 0, 0, 20 * SECOND } },
		{ 'd', 0, 9, { YES, 0, true, 4, 0, 0, 20 * SECOND } },
	};

	run("4/10s sliding-window flag", steps, LENGTH(steps));
	ck_assert_uint_eq(fixture_counter(weir, "flagged"), 2);
	ck_assert_uint_eq(fixture_counter(weir, "allowed"), 3);
	ck_assert_uint_eq(fixture_counter(weir, "tokens"), 14);
}
END_TEST

/* ---- Several limits ---------------------------------------------------- */

/* Of the limits that deny, the one with the longest wait decides; of those that
 * allow, the one with the least left. */
START_TEST(the_limit_that_decides)
{
	static const struct expectation steps[] = {
		{ 'd', 0, 1, { YES, 1, false, 3, 2, 0, 30 * SECOND } },
		{ 'd', 0, 2, { YES, 1, false, 3, 0, 0, 90 * SECOND } },
		{ 's', 0, 1, { NO, 1, false, 3, 0, 30 * SECOND, 90 * SECOND } },
		{ 'd', 0, 4, { NEVER, 1, false, 3, 0, WEIR_NEVER, 90 * SECOND } },
		{ 'd', 0, 3, { NO, 1, false, 3, 0, 90 * SECOND, 90 * SECOND } },
		{ 'r', 0, 3, { YES, 1, false, 3, 3, 0, 0 } },
		{ 'f', 0, 10, { YES, 0, false, 10, 0, 0, 10 * SECOND } },
		{ 'd', 0, 1, { NO, 1, false, 3, 0, 240 * SECOND, 300 * SECOND } },
	};

	run("10/10s, 3/90s, 20/20s", steps, LENGTH(steps));
}
END_TEST

/* A request that one limit denies spends nothing in any: at each place of the
 * limit that denies, for each algorithm of the others. */
START_TEST(all_or_nothing)
{
	static const char *const wide[] = { "100/1h", "100/1h sliding-window",
					    "100/1h fixed-window" };
	const char *other = wide[_i % 3];
	unsigned place = (unsigned)_i / 3;
	struct weir_policy policy;
	struct weir_decision decision;
	weir_policy_id id;
	char limits[128] = "";

	for (unsigned i = 0; i < 3; i++) {
		strcat(limits, i ? ", " : "");
		strcat(limits, i == place ? "2/1h" : other);
	}
	id = fixture_set(weir, "several", limits);
	ck_assert(decide(id, "k", 2, EPOCH, &decision));
	ck_assert_uint_eq(decision.limit_index, place);
	for (int i = 0; i < 10; i++) {
		ck_assert(!decide(id, "k", 1, EPOCH, &decision));
		ck_assert_uint_eq(decision.limit_index, place);
	}

	/* What the others hold is seen once the narrow one is a wide one of another
	 * kind: the others keep their buckets. */
	policy = fixture_policy("several", limits);
	policy.limits[place].limit = 1000000;
	policy.limits[place].period_ns = MINUTE;
	policy.limits[place].algorithm = WEIR_FIXED_WINDOW;
	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, NULL), WEIR_OK);
	decision = status(id, "k", 1, EPOCH);
	ck_assert_uint_ne(decision.limit_index, place);
	ck_assert_uint_eq(decision.remaining, 98);
}
END_TEST

/* Force-take that one limit cannot bear is undone in those before it. */
START_TEST(force_take_is_all_or_nothing)
{
	weir_policy_id id = fixture_set(weir, "force", "1000000/1s, 1/1h");
	struct weir_request request = request_for(id, "k", 100000, EPOCH);
	struct weir_decision decision;

	ck_assert(!weir_force_take(weir, &request, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_DEBT);
	ck_assert_uint_eq(decision.limit_index, 1);
	ck_assert_uint_eq(decision.retry_after_ns, WEIR_NEVER);
	ck_assert_uint_eq(remaining(fixture_set(weir, "force", "1000000/1s"), "k", EPOCH), 1000000);
}
END_TEST

/* ---- What windows tell ------------------------------------------------- */

/* Counted is what a window has, beyond its limit too, and of a denied request only
 * what was there before. */
START_TEST(decisions_tell_what_is_counted)
{
	static const char *const limits[] = { "10/10s fixed-window", "10/10s sliding-window" };
	weir_policy_id id = fixture_set(weir, "p", limits[_i]);
	weir_policy_id bucket = fixture_set(weir, "bucket", "10/10s");
	weir_policy_id held = fixture_set(weir, "held", "10 concurrency");
	struct weir_request request = request_for(id, "k", 9, EPOCH);
	struct weir_decision decision;
	struct weir_hold hold;

	ck_assert_uint_eq(status(id, "k", 4, EPOCH).counted, 0);
	ck_assert(decide(id, "k", 4, EPOCH, &decision));
	ck_assert_uint_eq(decision.counted, 4);
	ck_assert(!decide(id, "k", 7, EPOCH, &decision));
	ck_assert_uint_eq(decision.counted, 4);
	ck_assert(weir_force_take(weir, &request, &decision));
	ck_assert_uint_eq(decision.counted, 13);
	ck_assert_uint_eq(decision.remaining, 0);
	request.cost = 5;
	ck_assert(weir_refund(weir, &request, &decision));
	ck_assert_uint_eq(decision.counted, 8);
	ck_assert_uint_eq(status(id, "k", 1, EPOCH + 10 * SECOND).counted, 0);

	ck_assert(decide(bucket, "k", 4, EPOCH, &decision));
	ck_assert_uint_eq(decision.counted, 0);
	request = request_for(held, "k", 3, EPOCH);
	ck_assert(weir_acquire(weir, &request, &hold, &decision));
	ck_assert_uint_eq(decision.counted, 3);
	ck_assert_uint_eq(status(held, "k", 1, EPOCH).counted, 3);
}
END_TEST

/* ---- Reading without a trace ------------------------------------------- */

/* Status, and a cost of 0, change no byte of the segment. */
START_TEST(status_stores_nothing)
{
	const struct segment *segment = weir->segment;
	weir_policy_id id = fixture_set(weir, "p", "3/1h, 5/1d sliding-window, 9/7d fixed-window");
	struct weir_decision decision, again;
	unsigned char *before = malloc(segment->size);
	struct weir_request request;

	for (int i = 0; i < 5; i++) {
		decide(id, "known", 1, EPOCH + (uint64_t)i, &decision);
		memcpy(before, segment->header, segment->size);
		again = status(id, "known", 1, EPOCH + (uint64_t)i);
		status(id, "unknown", 1, EPOCH + (uint64_t)i);
		status(id, "unknown", 99, EPOCH + (uint64_t)i);
		request = request_for(id, "unknown", 0, EPOCH);
		weir_decide(weir, &request, NULL);
		weir_force_take(weir, &request, NULL);
		weir_decide_batch(weir, &request, &again, 1);
		ck_assert_mem_eq(before, segment->header, segment->size);
	}
	free(before);
}
END_TEST

/* Status tells what the decision that follows will. */
START_TEST(status_foretells)
{
	static const char *const limits[] = {
		"7/3s", "3/10s burst 2", "5/1s fixed-window", "5/1s sliding-window",
		"5/1s, 9/3s fixed-window", "20/1s sliding-window flag, 7/900ms, 30/10s",
	};
	weir_policy_id id = fixture_set(weir, "p", limits[_i]);
	uint64_t random = 1, now_ns = EPOCH, denied = 0;

	for (unsigned i = 0; i < 5000; i++) {
		uint64_t cost = fixture_random(&random, 4);
		struct weir_decision said, got;
		struct weir_request request = request_for(id, "k", cost, now_ns);
		bool passes = weir_status(weir, &request, &said);
		bool quiet = fixture_random(&random, 2) != 0;

		/* A caller without a decision takes the same way. */
		must(weir_decide(weir, &request, quiet ? NULL : &got) == passes);
		if (!passes) {
			must(quiet || same(&said, &got));
			denied++;
			if (said.retry_after_ns != WEIR_NEVER && fixture_random(&random, 2))
				now_ns += said.retry_after_ns - fixture_random(&random, 2);
		}
		now_ns += fixture_random(&random, 4) ? 0 : fixture_random(&random, SECOND);
	}
	must(denied > 100);
}
END_TEST

/* ---- Batch ------------------------------------------------------------- */

/* A batch answers as its requests would one by one, in the same order. */
START_TEST(batch_equals_singles)
{
	struct weir *single = fixture_open_slots(1024);
	static const char *const limits[] = { "5/1s", "3/10s, 7/20s sliding-window",
					      "4/3s fixed-window", "2 concurrency" };
	static const char *const names[] = { "bucket", "two", "fixed", "holds" };
	static const char *const words[] = { "a", "b", "c", "d", "" };
	weir_policy_id ids[2][5] = { { 0 } };
	uint64_t random = 3, now_ns = EPOCH;

	for (size_t i = 0; i < LENGTH(limits); i++) {
		ids[0][i] = fixture_set(weir, names[i], limits[i]);
		ids[1][i] = fixture_set(single, names[i], limits[i]);
	}
	for (unsigned round = 0; round < 400; round++) {
		struct weir_request requests[2][50];
		struct weir_decision batch[50], one;
		char many[LENGTH(batch)][8];
		size_t count = fixture_random(&random, LENGTH(batch) + 1), passed = 0;

		for (size_t i = 0; i < count; i++) {
			size_t policy = fixture_random(&random, LENGTH(ids[0]));

			/* Of so many buckets some are not in the first slot of their window.
			 * (What a fraction of a ns becomes depends on the slot.) */
			snprintf(many[i], sizeof(many[i]), "%u",
				 (unsigned)fixture_random(&random, 250));
			requests[0][i] = request_for(ids[0][policy],
						     policy == 0 ? many[i] :
						     words[fixture_random(&random, LENGTH(words))],
						     fixture_random(&random, 3),
						     fixture_random(&random, 20) ? now_ns : 0);
			requests[1][i] = requests[0][i];
			requests[1][i].policy = ids[1][policy];
			now_ns += fixture_random(&random, 100 * MS);
		}
		memset(batch, 0xff, sizeof(batch));
		passed = weir_decide_batch(weir, requests[0], batch, count);
		for (size_t i = 0; i < count; i++) {
			passed -= weir_decide(single, &requests[1][i], &one);
			must(same(&one, &batch[i]));
		}
		must(passed == 0);
	}
	/* Which slot a key gets depends on the segment's secret. */
	for (unsigned i = 0; weir_counter(i); i++) {
		if (strcmp(weir_counter(i)->unit, "slots") != 0)
			ck_assert_uint_eq(weir_counter_read(weir, i, NULL),
					  weir_counter_read(single, i, NULL));
	}
	weir_close(single);
}
END_TEST

/* ---- Refund and reset -------------------------------------------------- */

/* A key without a bucket is full: nothing to give back, and no bucket is made. */
START_TEST(refund_of_an_unknown_key)
{
	weir_policy_id id = fixture_set(weir, "p", "3/1h, 5/1d fixed-window");
	struct weir_request request = request_for(id, "k", 2, EPOCH);
	struct weir_decision decision;

	ck_assert(weir_refund(weir, &request, &decision));
	ck_assert_uint_eq(decision.remaining, 3);
	ck_assert(weir_reset(weir, &request, &decision));
	ck_assert_uint_eq(decision.remaining, 3);
	ck_assert_uint_eq(fixture_counter(weir, "claimed"), 0);
}
END_TEST

/* The outcome of a refund is that it was done, however empty the bucket is. */
START_TEST(refund_into_debt)
{
	weir_policy_id id = fixture_set(weir, "p", "3/3h");
	struct weir_request request = request_for(id, "k", 9, EPOCH);
	struct weir_decision decision;

	ck_assert(weir_force_take(weir, &request, &decision));
	request.cost = 1;
	ck_assert(weir_refund(weir, &request, &decision));
	ck_assert_int_eq(decision.outcome, WEIR_ALLOWED);
	ck_assert_uint_eq(decision.remaining, 0);
	ck_assert_uint_eq(decision.retry_after_ns, 0);
	ck_assert_uint_eq(decision.reset_after_ns, 8 * HOUR);
	ck_assert_uint_eq(fixture_counter(weir, "refunded"), 1);
}
END_TEST

/* ---- Counters ---------------------------------------------------------- */

START_TEST(outcomes_are_counted)
{
	weir_policy_id id = fixture_set(weir, "p", "5/1h");
	struct weir_decision decision;

	decide(id, "a", 3, EPOCH, &decision);
	decide(id, "a", 3, EPOCH, &decision);
	decide(id, "a", 6, EPOCH, &decision);
	decide(id, "b", 1, EPOCH, &decision);
	decide(id, "b", 0, EPOCH, &decision);
	status(id, "b", 1, EPOCH);
	ck_assert_uint_eq(fixture_counter(weir, "allowed"), 2);
	ck_assert_uint_eq(fixture_counter(weir, "tokens"), 4);
	ck_assert_uint_eq(fixture_counter(weir, "denied"), 2);
	ck_assert_uint_eq(fixture_counter(weir, "claimed"), 2);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("decide");
	TCase *cases = tcase_create("decide");

	tcase_add_checked_fixture(cases, open_weir, close_weir);
	tcase_add_test(cases, token_bucket);
	tcase_add_test(cases, fixed_window);
	tcase_add_test(cases, sliding_window);
	tcase_add_test(cases, flagging_window);
	tcase_add_test(cases, the_limit_that_decides);
	tcase_add_loop_test(cases, all_or_nothing, 0, 9);
	tcase_add_test(cases, force_take_is_all_or_nothing);
	tcase_add_loop_test(cases, decisions_tell_what_is_counted, 0, 2);
	tcase_add_test(cases, status_stores_nothing);
	tcase_add_loop_test(cases, status_foretells, 0, 6);
	tcase_add_test(cases, batch_equals_singles);
	tcase_add_test(cases, refund_of_an_unknown_key);
	tcase_add_test(cases, refund_into_debt);
	tcase_add_test(cases, outcomes_are_counted);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
