/* SPDX-License-Identifier: Apache-2.0 */
/* What cannot be decided by a limit: keys, policies and clocks that are none, full
 * tables and the fail modes, shadow, holds. */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/handle.h"
#include "tests/decide_fixture.h"
#include "tests/suite.h"

/* ---- Keys -------------------------------------------------------------- */

START_TEST(keys)
{
	weir_policy_id id = fixture_set(weir, "keys", "1/1h");
	static unsigned char longest[WEIR_KEY_MAX + 1];
	const struct { const void *key; size_t length; } distinct[] = {
		{ "a", 1 }, { "a\0", 2 }, { "a\0\0", 3 }, { "\0", 1 }, { "\0\0", 2 }, { "\xff", 1 },
		{ "ab", 2 }, { "abc", 3 }, { "b", 1 },
		{ longest, WEIR_KEY_MAX }, { longest, WEIR_KEY_MAX - 1 },
		{ longest + 1, WEIR_KEY_MAX }, { longest, 16 }, { longest, 17 }, { longest, 32 },
	};
	struct weir_request request = { .policy = id, .cost = 1, .now_ns = EPOCH };
	struct weir_decision decision;

	memset(longest, 'x', sizeof(longest) - 1);
	longest[WEIR_KEY_MAX] = 'y';
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < LENGTH(distinct); i++) {
			request.key = distinct[i].key;
			request.key_length = distinct[i].length;
			ck_assert_msg(weir_decide(weir, &request, &decision) == (pass == 0),
				      "key %zu", i);
			ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
		}
	}
}
END_TEST

/* What cannot be decided at all: every function answers unavailable and says why,
 * and nothing is stored. */
START_TEST(undecidable)
{
	static const char long_key[WEIR_KEY_MAX + 1];
	weir_policy_id id = fixture_set(weir, "p", "10/1s");
	weir_policy_id holds = fixture_set(weir, "holds", "10/1s, 3 concurrency");
	const struct { struct weir_request request; enum weir_reason reason; } cases[] = {
		{ { id, "", 0, 1, EPOCH }, WEIR_REASON_KEY },
		{ { id, NULL, 3, 1, EPOCH }, WEIR_REASON_KEY },
		{ { id, long_key, sizeof(long_key), 1, EPOCH }, WEIR_REASON_KEY },
		{ { id, long_key, SIZE_MAX, 1, EPOCH }, WEIR_REASON_KEY },
		{ { id, "k", 1, 1, 0 }, WEIR_REASON_CLOCK },
		{ { WEIR_NO_POLICY, "k", 1, 1, EPOCH }, WEIR_REASON_NO_POLICY },
		{ { id + (1 << 12), "k", 1, 1, EPOCH }, WEIR_REASON_NO_POLICY },
		{ { id ^ 7, "k", 1, 1, EPOCH }, WEIR_REASON_NO_POLICY },
		{ { UINT64_MAX, "k", 1, 1, EPOCH }, WEIR_REASON_NO_POLICY },
		{ { 1, "k", 1, 1, EPOCH }, WEIR_REASON_NO_POLICY },
		{ { holds, "k", 1, 1, EPOCH }, WEIR_REASON_USE_ACQUIRE },
	};
	bool (*const functions[])(struct weir *, const struct weir_request *,
				  struct weir_decision *) = {
		weir_decide, weir_force_take, weir_status, weir_refund, weir_reset,
	};

	for (size_t i = 0; i < LENGTH(cases); i++) {
		for (size_t f = 0; f < LENGTH(functions); f++) {
			struct weir_decision decision;

			if (cases[i].reason == WEIR_REASON_USE_ACQUIRE && f >= 2)
				break;  /* the others work with holds */
			memset(&decision, 0xff, sizeof(decision));
			ck_assert(!functions[f](weir, &cases[i].request, &decision));
			ck_assert_int_eq(decision.outcome, WEIR_UNAVAILABLE);
			ck_assert_int_eq(decision.reason, cases[i].reason);
			ck_assert(!decision.flagged);
			ck_assert_uint_eq(decision.limit, 0);
			ck_assert_uint_eq(decision.remaining, 0);
			ck_assert(!functions[f](weir, &cases[i].request, NULL));
		}
		ck_assert_uint_eq(weir_decide_batch(weir, &cases[i].request,
						    &(struct weir_decision){ 0 }, 1), 0);
	}
	ck_assert_uint_eq(fixture_counter(weir, "unknown_policy"), 5 * 2 * 5 + 5);
	ck_assert_uint_gt(fixture_counter(weir, "bad_request"), 0);
	ck_assert_uint_eq(fixture_counter(weir, "claimed"), 0);
	/* weir_allow() has no time to give. */
	ck_assert(!weir_allow(weir, id, "k", 1, NULL));
}
END_TEST

START_TEST(closed_handle)
{
	struct weir closed = { .segment = NULL };
	struct weir_request request = request_for(1, "k", 1, EPOCH);
	struct weir_decision decisions[20];
	struct weir_request requests[20];
	struct weir_hold hold;

	ck_assert(!weir_decide(&closed, &request, decisions));
	ck_assert_int_eq(decisions[0].outcome, WEIR_UNAVAILABLE);
	ck_assert_int_eq(decisions[0].reason, WEIR_REASON_CLOSED);
	ck_assert(!weir_acquire(&closed, &request, &hold, decisions));
	ck_assert_int_eq(decisions[0].reason, WEIR_REASON_CLOSED);
	ck_assert_int_eq(weir_release(&closed, &hold), WEIR_EINVAL);
	for (size_t i = 0; i < LENGTH(requests); i++)
		requests[i] = request;
	memset(decisions, 0, sizeof(decisions));
	ck_assert_uint_eq(weir_decide_batch(&closed, requests, decisions, LENGTH(requests)), 0);
	for (size_t i = 0; i < LENGTH(requests); i++)
		ck_assert_int_eq(decisions[i].reason, WEIR_REASON_CLOSED);
}
END_TEST

/* Two policies with one key: two buckets.  One policy in two segments with one
 * secret: the same fingerprint; with another secret another one. */
START_TEST(policies_do_not_share)
{
	weir_policy_id a = fixture_set(weir, "a", "1/1h"), b = fixture_set(weir, "b", "1/1h");
	struct weir_decision decision;

	ck_assert(decide(a, "k", 1, EPOCH, &decision));
	ck_assert(!decide(a, "k", 1, EPOCH, &decision));
	ck_assert(decide(b, "k", 1, EPOCH, &decision));
	ck_assert(!decide(b, "k", 1, EPOCH, &decision));
}
END_TEST

static bool copy_fingerprint(const struct weir_bucket *bucket, void *context)
{
	memcpy(context, bucket->fingerprint, sizeof(bucket->fingerprint));
	return true;
}

START_TEST(secret_is_shared_by_a_cluster)
{
	static const unsigned char secrets[3][WEIR_SECRET_SIZE] = { "0123456789abcdef",
								    "0123456789abcdef",
								    "0123456789abcdeg" };
	unsigned char fingerprints[3][16] = { { 0 } };

	for (int i = 0; i < 3; i++) {
		struct weir_request request;
		struct weir_options options;
		struct weir *host;

		weir_options_init(&options);
		options.slots = 16;
		options.clock = WEIR_CLOCK_CALLER;
		options.secret = secrets[i];
		host = fixture_open(&options);
		if (i == 1)
			fixture_set(host, "other", "5/1m");     /* elsewhere in the table */
		request = request_for(fixture_set(host, "p", "10/1m"), "k", 1, EPOCH);
		ck_assert(weir_decide(host, &request, NULL));
		weir_each_bucket(host, EPOCH, copy_fingerprint, fingerprints[i]);
		weir_close(host);
	}
	ck_assert_mem_eq(fingerprints[0], fingerprints[1], 16);
	ck_assert_mem_ne(fingerprints[0], fingerprints[2], 16);
}
END_TEST

/* ---- Fail mode and shadow ---------------------------------------------- */

/* Fill the window of KEY with heavier buckets: the table has 16 slots. */
static struct weir *full_table(weir_policy_id *id, bool shadow)
{
	struct weir *full = fixture_open_slots(16);
	weir_policy_id heavy = fixture_set(full, "heavy", "10/365d");
	struct weir_policy policy = fixture_policy("light", "10/1s");
	struct weir_error error;

	for (unsigned i = 0; i < 64; i++) {
		char key[8];
		struct weir_request request;

		snprintf(key, sizeof(key), "%u", i);
		request = request_for(heavy, key, 10, EPOCH);
		weir_force_take(full, &request, NULL);
	}
	policy.shadow = shadow;
	ck_assert_int_eq(weir_policy_set(full, &policy, 1, &error), WEIR_OK);
	*id = weir_policy_find(full, "light");
	return full;
}

START_TEST(full_table_goes_by_the_fail_mode)
{
	static const struct {
		enum weir_fail_mode mode;
		bool shadow;
		enum weir_outcome outcome;
	} cases[] = {
		{ WEIR_FAIL_SHARE, false, WEIR_ALLOWED },
		{ WEIR_FAIL_OPEN, false, WEIR_ALLOWED },
		{ WEIR_FAIL_CLOSED, false, WEIR_UNAVAILABLE },
		{ WEIR_FAIL_CLOSED, true, WEIR_ALLOWED },
	};
	weir_policy_id id;
	struct weir *full = full_table(&id, cases[_i].shadow);
	struct weir_request request = request_for(id, "newcomer", 1, EPOCH);
	uint64_t already = fixture_counter(full, "table_full");
	uint64_t opened = fixture_counter(full, "fail_open");
	struct weir_decision decision;

	ck_assert_uint_gt(already, 0);
	ck_assert_int_eq(weir_fail_mode_set(full, "light", cases[_i].mode, NULL), WEIR_OK);
	ck_assert(weir_decide(full, &request, &decision) == (cases[_i].outcome == WEIR_ALLOWED));
	ck_assert_int_eq(decision.outcome, cases[_i].outcome);
	ck_assert_int_eq(decision.reason, WEIR_REASON_TABLE_FULL);
	ck_assert_uint_eq(fixture_counter(full, "table_full"), already + 1);
	ck_assert_uint_eq(fixture_counter(full, "unavailable"), cases[_i].outcome != WEIR_ALLOWED);
	ck_assert_uint_eq(fixture_counter(full, "fail_open"),
			  opened + (cases[_i].outcome == WEIR_ALLOWED));
	/* A status needs no slot. */
	ck_assert(weir_status(full, &request, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	weir_close(full);
}
END_TEST

/* Heavier than one that is there, the newcomer takes its place; it is counted. */
START_TEST(eviction_is_counted)
{
	weir_policy_id id;
	struct weir *full = full_table(&id, false);
	weir_policy_id heaviest = fixture_set(full, "heaviest", "1/365d");
	struct weir_request request = request_for(heaviest, "newcomer", 2, EPOCH);
	uint64_t before = fixture_counter(full, "evicted_live");

	ck_assert(weir_force_take(full, &request, NULL));
	ck_assert_uint_eq(fixture_counter(full, "evicted_live"), before + 1);
	weir_close(full);
}
END_TEST

/* Set in one process, in force in the other at once; given back likewise. */
/* A thread that was stopped since it read its clock finds its key's bucket taken by
 * one with a later time, by which the bucket had expired.  The debt that it had at
 * the earlier time is not forgiven: the next token comes a period after the later. */
START_TEST(late_request_after_a_taken_bucket)
{
	weir_policy_id id, filler, brief;
	struct weir_decision decision;
	char key[8];

	weir_close(weir);
	weir = fixture_open_slots(16);
	id = fixture_set(weir, "p", "1/1s");
	filler = fixture_set(weir, "filler", "1/1h");
	brief = fixture_set(weir, "brief", "1/10ms");
	ck_assert(decide(id, "k", 1, EPOCH, &decision));
	for (unsigned i = 0; i < 15; i++) {
		snprintf(key, sizeof(key), "%u", i);
		ck_assert(decide(filler, key, 1, EPOCH, &decision));
	}
	ck_assert(decide(brief, "other", 1, EPOCH + SECOND, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	ck_assert_uint_eq(fixture_counter(weir, "evicted_live"), 0);

	ck_assert(decide(id, "k", 1, EPOCH + SECOND / 2, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	ck_assert(!decide(id, "k", 1, EPOCH + 2 * SECOND - 1, &decision));
	ck_assert(decide(id, "k", 1, EPOCH + 2 * SECOND, &decision));
}
END_TEST

START_TEST(fail_mode_is_for_all_processes)
{
	weir_policy_id id;
	struct weir *full = full_table(&id, false);
	struct weir_request request = request_for(id, "newcomer", 1, EPOCH);
	static const enum weir_fail_mode modes[] = { WEIR_FAIL_CLOSED, WEIR_FAIL_OPEN,
						     WEIR_FAIL_CLOSED };
	struct weir_error error;
	enum weir_fail_mode mode;
	int result;

	for (size_t i = 0; i < LENGTH(modes); i++) {
		pid_t child = fork();

		if (child == 0)
			_exit(weir_fail_mode_set(full, "light", modes[i], NULL) == WEIR_OK ? 0 : 1);
		ck_assert_int_eq(waitpid(child, &result, 0), child);
		ck_assert_int_eq(result, 0);
		ck_assert(weir_decide(full, &request, NULL) == (modes[i] != WEIR_FAIL_CLOSED));
		ck_assert_int_eq(weir_fail_mode_get(full, "light", &mode, &error), WEIR_OK);
		ck_assert_int_eq(mode, modes[i]);
	}
	/* The policy's own does not change, and comes back. */
	ck_assert_int_eq(weir_fail_mode_clear(full, "light", &error), WEIR_OK);
	ck_assert_int_eq(weir_fail_mode_get(full, "light", &mode, &error), WEIR_OK);
	ck_assert_int_eq(mode, WEIR_FAIL_SHARE);
	ck_assert(weir_decide(full, &request, NULL));

	ck_assert_int_eq(weir_fail_mode_set(full, "none", WEIR_FAIL_OPEN, &error), WEIR_ENOENT);
	ck_assert_str_eq(error.message, "no policy \"none\" in the segment; define it first");
	ck_assert_int_eq(weir_fail_mode_clear(full, "none", &error), WEIR_ENOENT);
	ck_assert_int_eq(weir_fail_mode_get(full, NULL, &mode, &error), WEIR_ENOENT);
	ck_assert_int_eq(weir_fail_mode_set(full, "light", (enum weir_fail_mode)3, &error),
			 WEIR_EINVAL);
	ck_assert_str_eq(error.message, "fail mode 3 is none; give open, share or closed");
	weir_close(full);
}
END_TEST

/* A fail mode set at run time survives a replaced policy, not a removed one. */
START_TEST(fail_mode_outlives_replacing)
{
	enum weir_fail_mode mode;

	fixture_set(weir, "p", "10/1s");
	ck_assert_int_eq(weir_fail_mode_set(weir, "p", WEIR_FAIL_CLOSED, NULL), WEIR_OK);
	fixture_set(weir, "p", "20/1s");
	ck_assert_int_eq(weir_fail_mode_get(weir, "p", &mode, NULL), WEIR_OK);
	ck_assert_int_eq(mode, WEIR_FAIL_CLOSED);
	ck_assert_int_eq(weir_policy_remove(weir, "p", NULL), WEIR_OK);
	fixture_set(weir, "p", "20/1s");
	ck_assert_int_eq(weir_fail_mode_get(weir, "p", &mode, NULL), WEIR_OK);
	ck_assert_int_eq(mode, WEIR_FAIL_SHARE);
}
END_TEST

/* Shadow decides and counts as the policy would, and allows. */
START_TEST(shadow)
{
	struct weir_policy policy = fixture_policy("p", "2/1h");
	struct weir_decision decision;
	weir_policy_id id;

	policy.shadow = true;
	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, NULL), WEIR_OK);
	id = weir_policy_find(weir, "p");
	for (unsigned i = 0; i < 5; i++) {
		ck_assert(decide(id, "k", 1, EPOCH, &decision));
		ck_assert_int_eq(decision.reason, i < 2 ? WEIR_REASON_LIMIT : WEIR_REASON_SHADOW);
		ck_assert_uint_eq(decision.retry_after_ns, i < 2 ? 0 : HOUR / 2);
	}
	ck_assert(decide(id, "k", 3, EPOCH, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_SHADOW);
	ck_assert_uint_eq(fixture_counter(weir, "allowed"), 2);
	ck_assert_uint_eq(fixture_counter(weir, "shadow_denied"), 4);
	ck_assert_uint_eq(fixture_counter(weir, "denied"), 0);
}
END_TEST

/* ---- Holds ------------------------------------------------------------- */

START_TEST(holds)
{
	weir_policy_id id = fixture_set(weir, "p", "3 concurrency, 5/1h");
	struct weir_request request = request_for(id, "k", 2, EPOCH);
	struct weir_hold first, second, stale;
	struct weir_decision decision;

	ck_assert(weir_acquire(weir, &request, &first, &decision));
	ck_assert_uint_eq(first.count, 1);
	ck_assert_uint_eq(decision.remaining, 1);
	ck_assert_uint_eq(decision.limit_index, 0);
	ck_assert(!weir_acquire(weir, &request, &second, &decision));
	ck_assert_int_eq(decision.outcome, WEIR_DENIED);
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	ck_assert_uint_eq(decision.limit_index, 0);
	ck_assert_uint_eq(second.count, 0);
	/* A hold that was never taken is released in vain, but harmlessly. */
	ck_assert_int_eq(weir_release(weir, &second), WEIR_OK);
	/* Nothing was charged to the other limit by the denial. */
	request.cost = 1;
	ck_assert(weir_acquire(weir, &request, &second, &decision));
	ck_assert_uint_eq(status(id, "k", 0, EPOCH).remaining, 0);
	request.cost = 4;
	ck_assert(!weir_acquire(weir, &request, &stale, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_COST);
	ck_assert_uint_eq(decision.retry_after_ns, WEIR_NEVER);

	/* Reset fills the token bucket; holds stay. */
	ck_assert(weir_reset(weir, &request, &decision));
	decision = status(id, "k", 1, EPOCH);
	ck_assert_int_eq(decision.outcome, WEIR_DENIED);
	ck_assert_uint_eq(decision.limit_index, 0);

	stale = first;
	ck_assert_int_eq(weir_release(weir, &first), WEIR_OK);
	ck_assert_int_eq(weir_release(weir, &stale), WEIR_EINVAL);
	ck_assert_int_eq(weir_release(weir, &second), WEIR_OK);
	stale.count = WEIR_LIMITS_MAX + 1;
	ck_assert_int_eq(weir_release(weir, &stale), WEIR_EINVAL);
	ck_assert_uint_eq(status(id, "k", 0, EPOCH).remaining, 3);
}
END_TEST

/* The other limit denies: the hold is not taken, or given back. */
START_TEST(holds_are_all_or_nothing)
{
	weir_policy_id id = fixture_set(weir, "p", "3 concurrency, 1/1h");
	struct weir_request request = request_for(id, "k", 1, EPOCH);
	struct weir_decision decision;
	struct weir_hold hold;

	ck_assert(weir_acquire(weir, &request, &hold, &decision));
	ck_assert_int_eq(weir_release(weir, &hold), WEIR_OK);
	for (int i = 0; i < 10; i++) {
		ck_assert(!weir_acquire(weir, &request, &hold, &decision));
		ck_assert_uint_eq(decision.limit_index, 1);
		ck_assert_uint_eq(hold.count, 0);
	}
	ck_assert(weir_reset(weir, &request, NULL));
	fixture_set(weir, "p", "3 concurrency, 100/1h");
	request.cost = 3;
	ck_assert(weir_acquire(weir, &request, &hold, &decision));
	ck_assert_int_eq(weir_release(weir, &hold), WEIR_OK);
}
END_TEST

START_TEST(no_hold_record_left)
{
	weir_policy_id id = fixture_set(weir, "p", "100 concurrency");
	struct weir_request request = request_for(id, "k", 1, EPOCH);
	struct weir_hold taken[16], hold;
	struct weir_decision decision;

	for (size_t i = 0; i < LENGTH(taken); i++)
		ck_assert(weir_acquire(weir, &request, &taken[i], NULL));
	ck_assert(weir_acquire(weir, &request, &hold, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_HOLDS_FULL);
	ck_assert_uint_eq(hold.count, 0);
	ck_assert_int_eq(weir_fail_mode_set(weir, "p", WEIR_FAIL_CLOSED, NULL), WEIR_OK);
	ck_assert(!weir_acquire(weir, &request, &hold, &decision));
	ck_assert_int_eq(decision.outcome, WEIR_UNAVAILABLE);
	ck_assert_int_eq(decision.reason, WEIR_REASON_HOLDS_FULL);
	ck_assert_uint_eq(fixture_counter(weir, "holds_full"), 2);
	ck_assert_int_eq(weir_release(weir, &taken[3]), WEIR_OK);
	ck_assert(weir_acquire(weir, &request, &hold, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("answer");
	TCase *cases = tcase_create("answer");

	tcase_add_checked_fixture(cases, open_weir, close_weir);
	tcase_add_test(cases, keys);
	tcase_add_test(cases, undecidable);
	tcase_add_test(cases, closed_handle);
	tcase_add_test(cases, policies_do_not_share);
	tcase_add_test(cases, secret_is_shared_by_a_cluster);
	tcase_add_loop_test(cases, full_table_goes_by_the_fail_mode, 0, 4);
	tcase_add_test(cases, eviction_is_counted);
	tcase_add_test(cases, late_request_after_a_taken_bucket);
	tcase_add_test(cases, fail_mode_is_for_all_processes);
	tcase_add_test(cases, fail_mode_outlives_replacing);
	tcase_add_test(cases, shadow);
	tcase_add_test(cases, holds);
	tcase_add_test(cases, holds_are_all_or_nothing);
	tcase_add_test(cases, no_hold_record_left);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
