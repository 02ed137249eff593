/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions by policies that have changed, that share their buckets, or that are of
 * several segments. */
#include <check.h>
#include <string.h>

#include "tests/decide_fixture.h"
#include "tests/suite.h"

/* ---- Changed limits ---------------------------------------------------- */

/* A debt is a time and stays one: the wait for the bucket to be full is the same
 * before and after, and the new limit goes by it. */
START_TEST(changed_limit_keeps_the_debt)
{
	weir_policy_id id = fixture_set(weir, "p", "10/10s");
	struct weir_decision decision;

	ck_assert(decide(id, "k", 6, EPOCH, &decision));
	ck_assert_uint_eq(decision.reset_after_ns, 6 * SECOND);
	ck_assert_uint_eq(fixture_set(weir, "p", "100/10s"), id);
	decision = status(id, "k", 1, EPOCH);
	ck_assert_uint_eq(decision.reset_after_ns, 6 * SECOND);
	ck_assert_uint_eq(decision.remaining, 40);
	ck_assert_uint_eq(fixture_set(weir, "p", "1/1s burst 3"), id);
	decision = status(id, "k", 1, EPOCH);
	ck_assert_uint_eq(decision.reset_after_ns, 6 * SECOND);
	ck_assert_int_eq(decision.outcome, WEIR_DENIED);
	ck_assert_uint_eq(decision.retry_after_ns, 4 * SECOND);
}
END_TEST

START_TEST(changed_window)
{
	static const struct {
		const char *before, *after;
		uint64_t remaining;
	} cases[] = {
		/* another limit: the same window */
		{ "10/10s fixed-window", "20/10s fixed-window", 14 },
		{ "10/10s sliding-window", "20/10s sliding-window", 14 },
		{ "10/10s sliding-window", "10/10s sliding-window flag", 4 },
		/* another period or algorithm: anew */
		{ "10/10s fixed-window", "10/20s fixed-window", 10 },
		{ "10/10s fixed-window", "10/5s fixed-window", 10 },
		{ "10/10s sliding-window", "10/11s sliding-window", 10 },
		{ "10/10s sliding-window", "10/10s fixed-window", 10 },
		{ "10/10s fixed-window", "10/10s", 10 },
		{ "10/10s", "10/10s fixed-window", 10 },
		{ "10/10s", "10/10s sliding-window", 10 },
	};
	weir_policy_id id = fixture_set(weir, "p", cases[_i].before);
	struct weir_decision decision;

	ck_assert(decide(id, "k", 6, EPOCH, &decision));
	fixture_set(weir, "p", cases[_i].after);
	ck_assert_uint_eq(remaining(id, "k", EPOCH), cases[_i].remaining);
}
END_TEST

/* ---- Shared buckets ---------------------------------------------------- */

static weir_policy_id set_shared(const char *name, const char *limits, const char *buckets)
{
	struct weir_policy policy = fixture_policy(name, limits);

	strcpy(policy.buckets, buckets);
	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, NULL), WEIR_OK);
	return weir_policy_find(weir, name);
}

/* What one policy has charged, another one of the same buckets finds charged. */
START_TEST(policies_share_buckets)
{
	weir_policy_id owner = fixture_set(weir, "free", "10/10s fixed-window, 50/1m fixed-window");
	weir_policy_id pro = set_shared("pro", "100/10s fixed-window, 500/1m fixed-window", "free");
	weir_policy_id other = set_shared("other", "10/10s fixed-window", "none");
	struct weir_decision decision;

	ck_assert(decide(owner, "k", 6, EPOCH, &decision));
	ck_assert_uint_eq(remaining(pro, "k", EPOCH), 94);
	ck_assert_uint_eq(remaining(other, "k", EPOCH), 10);
	ck_assert(decide(pro, "k", 40, EPOCH, &decision));
	ck_assert(!decide(owner, "k", 1, EPOCH, &decision));
	/* And their second limits, whose window is longer. */
	ck_assert_uint_eq(status(pro, "k", 1, EPOCH + 10 * SECOND).remaining, 100);
	decision = status(owner, "k", 5, EPOCH + 10 * SECOND);
	ck_assert_uint_eq(decision.limit_index, 1);
	ck_assert_uint_eq(decision.counted, 46);
	ck_assert_uint_eq(decision.remaining, 4);
	ck_assert_int_eq(decision.outcome, WEIR_DENIED);
	/* They outlive the policy that made them. */
	ck_assert_int_eq(weir_policy_remove(weir, "free", NULL), WEIR_OK);
	ck_assert_uint_eq(status(pro, "k", 1, EPOCH).remaining, 54);
}
END_TEST

START_TEST(token_buckets_are_not_shared)
{
	struct weir_policy policy = fixture_policy("p", "10/10s fixed-window, 10/10s");
	struct weir_error error;

	strcpy(policy.buckets, "plans");
	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, &error), WEIR_EINVAL);
	ck_assert_ptr_nonnull(strstr(error.message, "limit 1 is a token bucket"));
	ck_assert_ptr_nonnull(strstr(error.message, "\"plans\""));
}
END_TEST

/* Only buckets that count the same are shared. */
START_TEST(buckets_of_another_kind_are_not_shared)
{
	static const char *const others[] = {
		"10/10s sliding-window", "10/20s fixed-window", "10 concurrency",
	};
	weir_policy_id first = set_shared("first", "10/10s fixed-window", "shared");
	weir_policy_id second = set_shared("second", others[_i], "shared");
	struct weir_decision decision;

	ck_assert(decide(first, "k", 6, EPOCH, &decision));
	ck_assert_uint_eq(remaining(second, "k", EPOCH), 10);
}
END_TEST

/* ---- Several segments -------------------------------------------------- */

/* What a thread knows of a policy is no other policy's, of the same id or place, in no
 * other segment, and not of one that was closed. */
START_TEST(policies_of_several_segments)
{
	struct weir *others[3] = { weir, NULL, NULL };
	static const char *const limits[] = { "5/1h", "7/1h", "9/1h" };
	weir_policy_id ids[3][6];

	for (int round = 0; round < 3; round++) {
		char key[17] = "sixteen bytes, 0";

		key[15] = (char)('a' + round);
		for (int i = 0; i < 3; i++) {
			if (i > 0)
				others[i] = fixture_open_slots(1024);
			for (int p = 0; p < 6; p++) {
				char name[2] = { (char)('a' + p), '\0' };

				ids[i][p] = fixture_set(others[i], name, limits[(i + p) % 3]);
				ck_assert(i == 0 || ids[i][p] == ids[0][p] || round > 0);
			}
		}
		for (int n = 0; n < 12; n++) {
			for (int i = 0; i < 3; i++) {
				for (int p = 0; p < 6; p++) {
					struct weir_request request = {
						ids[i][p], key, 16, 1, EPOCH
					};

					ck_assert_int_eq(weir_decide(others[i], &request, NULL),
							 n < 5 + (i + p) % 3 * 2);
				}
			}
		}
		weir_close(others[1]);
		weir_close(others[2]);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("decide_policies");
	TCase *cases = tcase_create("decide_policies");

	tcase_add_checked_fixture(cases, open_weir, close_weir);
	tcase_add_test(cases, changed_limit_keeps_the_debt);
	tcase_add_test(cases, policies_share_buckets);
	tcase_add_test(cases, token_buckets_are_not_shared);
	tcase_add_loop_test(cases, buckets_of_another_kind_are_not_shared, 0, 3);
	tcase_add_loop_test(cases, changed_window, 0, 10);
	tcase_add_test(cases, policies_of_several_segments);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
