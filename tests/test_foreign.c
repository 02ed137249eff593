/* SPDX-License-Identifier: Apache-2.0 */
/* Windows that other hosts have tokens in, and which of them a host's cap counts. */
#include <check.h>

#include "shm/bucket.h"
#include "shm/window.h"
#include "fixture.h"
#include "tests/suite.h"

/* 100 in 10 s; stored times are an odd number of periods and more behind aligned ones. */
static struct limit shared_limit(enum weir_algorithm algorithm)
{
	int64_t offset = 1234567 * (int64_t)SECOND;

	return (struct limit){ .limit = 100, .period_ns = 10 * SECOND, .parts = 1,
			       .algorithm = algorithm, .aligned_offset_ns = offset,
			       .stored_offset_ns = offset - offset % (10 * (int64_t)SECOND) };
}

/* The beginning of a window, on a host's clock. */
static uint64_t begin_of(const struct limit *limit, uint64_t index)
{
	return index * limit->period_ns - (uint64_t)limit->aligned_offset_ns;
}

#define INDEX 500000000ull

static struct verdict spend(const struct limit *limit, struct bucket_state *state, uint64_t now_ns,
			    uint64_t cost)
{
	struct bucket_state after = { 0 };
	struct verdict verdict =
		limit->algorithm == WEIR_FIXED_WINDOW ?
			fixed_window_spend(limit, state, now_ns, cost, false, &after) :
			sliding_window_spend(limit, state, now_ns, cost, false, &after);

	if (verdict.allowed && cost > 0) {
		after.foreign = state->foreign;
		*state = after;
	}
	return verdict;
}

static const enum weir_algorithm kinds[] = { WEIR_FIXED_WINDOW, WEIR_SLIDING_WINDOW };

/* ---- The word ---------------------------------------------------------- */

START_TEST(word)
{
	static const int64_t tokens[] = { 0, 1, -1, 90, -90, FOREIGN_MAX, -FOREIGN_MAX };

	for (unsigned i = 0; i < LENGTH(tokens); i++) {
		uint64_t one = foreign_word(tokens[i], INDEX);

		ck_assert_int_eq(foreign_tokens(one, INDEX), tokens[i]);
		ck_assert_int_eq(foreign_tokens(one, INDEX + 1), 0);
		ck_assert_int_eq(foreign_tokens(one, INDEX - 1), 0);
		/* To the owner that it is of; to another one it is of no window near. */
		ck_assert_uint_eq(foreign_mixed(foreign_mixed(one, 7), 7), one);
		ck_assert_int_eq(foreign_tokens(foreign_mixed(foreign_mixed(one, 7), 8), INDEX), 0);
	}
	ck_assert_int_eq(foreign_tokens(foreign_word(INT64_MAX, INDEX), INDEX), FOREIGN_MAX);
	ck_assert_int_eq(foreign_tokens(foreign_word(INT64_MIN, INDEX), INDEX), -FOREIGN_MAX);
	ck_assert_uint_eq(window_sum(5, -6), 0);
	ck_assert_uint_eq(window_sum(5, -5), 0);
	ck_assert_uint_eq(window_sum(5, 6), 11);
	ck_assert_uint_eq(window_sum(WEIR_COUNT_MAX, FOREIGN_MAX), WEIR_COUNT_MAX + FOREIGN_MAX);
}
END_TEST

/* ---- Judging ----------------------------------------------------------- */

START_TEST(sum_is_judged)
{
	struct limit limit = shared_limit(kinds[_i]);
	uint64_t now = begin_of(&limit, INDEX) + SECOND;
	struct bucket_state state = { .foreign = foreign_word(70, INDEX) };

	/* Also where this host has no tokens yet. */
	ck_assert(!spend(&limit, &state, now, 31).allowed);
	ck_assert_uint_eq(spend(&limit, &state, now, 0).remaining, 30);
	ck_assert_uint_eq(spend(&limit, &state, now, 10).remaining, 20);
	ck_assert_uint_eq(state.used, 10);
	ck_assert(spend(&limit, &state, now, 20).allowed);
	ck_assert(!spend(&limit, &state, now, 1).allowed);
	/* Others gave back; or Redis has forgotten what was ours, too. */
	state.foreign = foreign_word(60, INDEX);
	ck_assert_uint_eq(spend(&limit, &state, now, 0).remaining, 10);
	state.foreign = foreign_word(-30, INDEX);
	ck_assert_uint_eq(spend(&limit, &state, now, 0).remaining, 100);
	ck_assert_uint_eq(spend(&limit, &state, now, 0).reset_after_ns, 0);
	state.foreign = foreign_word(-50, INDEX);
	ck_assert_uint_eq(spend(&limit, &state, now, 0).remaining, 100);
	/* Of another window, nothing is known. */
	state.foreign = foreign_word(70, INDEX + 1);
	ck_assert_uint_eq(spend(&limit, &state, now, 0).remaining, 70);
}
END_TEST

START_TEST(fixed_begins_anew)
{
	struct limit limit = shared_limit(WEIR_FIXED_WINDOW);
	uint64_t begin = begin_of(&limit, INDEX);
	struct bucket_state state = { .foreign = foreign_word(60, INDEX) };

	ck_assert(spend(&limit, &state, begin, 40).allowed);
	ck_assert(!spend(&limit, &state, begin + limit.period_ns - 1, 1).allowed);
	ck_assert_uint_eq(spend(&limit, &state, begin + limit.period_ns, 0).remaining, 100);
}
END_TEST

/* All hosts' tokens become the previous counter, and decay. */
START_TEST(sliding_rolls_on)
{
	struct limit limit = shared_limit(WEIR_SLIDING_WINDOW);
	uint64_t begin = begin_of(&limit, INDEX), next = begin + limit.period_ns;
	struct bucket_state state = { .foreign = foreign_word(40, INDEX) };

	ck_assert(spend(&limit, &state, begin + SECOND, 20).allowed);
	ck_assert_uint_eq(spend(&limit, &state, next, 0).remaining, 40);
	ck_assert_uint_eq(spend(&limit, &state, next + 5 * SECOND, 0).remaining, 70);
	/* The roll stores it: what the word says later of that window moves nothing. */
	ck_assert(spend(&limit, &state, next + 5 * SECOND, 10).allowed);
	ck_assert_uint_eq(window_previous(&limit, &state), 60);
	state.foreign = foreign_word(1000, INDEX);
	ck_assert_uint_eq(spend(&limit, &state, next + 5 * SECOND, 0).remaining, 60);
	state.foreign = foreign_word(50, INDEX + 1);
	ck_assert_uint_eq(spend(&limit, &state, next + 5 * SECOND, 0).remaining, 10);
	ck_assert_uint_eq(spend(&limit, &state, next + 2 * limit.period_ns, 0).remaining, 100);
}
END_TEST

/* How long a denied request has to wait goes by all hosts' tokens. */
START_TEST(wait_is_right)
{
	struct limit limit = shared_limit(kinds[_i]);
	uint64_t now = begin_of(&limit, INDEX) + SECOND;
	struct bucket_state state = { .foreign = foreign_word(80, INDEX) };
	struct verdict verdict;

	ck_assert(spend(&limit, &state, now, 20).allowed);
	verdict = spend(&limit, &state, now, 10);
	ck_assert(!verdict.allowed);
	ck_assert(!spend(&limit, &state, now + verdict.retry_after_ns - 1, 10).allowed);
	ck_assert(spend(&limit, &state, now + verdict.retry_after_ns, 10).allowed);
}
END_TEST

/* ---- Which window ------------------------------------------------------ */

START_TEST(window_is_told)
{
	struct limit limit = shared_limit(kinds[_i]);
	uint64_t begin = begin_of(&limit, INDEX), gone;
	struct bucket_state state = { .foreign = foreign_word(33, INDEX - 1) };

	ck_assert_uint_eq(window_gone_ns(&limit, &state), 0);
	ck_assert(spend(&limit, &state, begin - 1, 7).allowed);
	ck_assert(spend(&limit, &state, begin, 5).allowed);
	gone = window_gone_ns(&limit, &state);
	ck_assert_uint_eq(window_index(&limit, gone), INDEX);
	ck_assert_uint_eq(window_gone_of_index(&limit, INDEX), gone);
	ck_assert_uint_eq(window_previous(&limit, &state),
			  kinds[_i] == WEIR_SLIDING_WINDOW ? 40 : 0);
	ck_assert_uint_eq(state.time_ns, gone + window_previous(&limit, &state));
	/* A slot may be taken when its time has passed: not before the window's end. */
	ck_assert_uint_ge(state.time_ns, begin + limit.period_ns);
	ck_assert_uint_eq(window_own_at(&limit, &state, begin).tokens, 5);
	ck_assert_uint_eq(window_own_at(&limit, &state, begin).index, INDEX);
	ck_assert_uint_eq(window_own_at(&limit, &state, begin + 1).left_ns, limit.period_ns - 1);
	ck_assert_uint_eq(window_own_at(&limit, &state, begin + limit.period_ns).tokens, 0);
}
END_TEST

/* Only what came with the counts of the same window is merged. */
START_TEST(unmerged)
{
	const uint64_t generation = 77;
	uint64_t merged = 30ull << STATE_USED_SHIFT |
			  (INDEX << MERGED_WINDOW_SHIFT & MERGED_WINDOW_MASK) | generation;
	uint64_t foreign = foreign_word(12, INDEX);

	ck_assert_uint_eq(window_unmerged(generation, INDEX, 40, merged, foreign), 10);
	ck_assert_uint_eq(window_unmerged(generation, INDEX, 30, merged, foreign), 0);
	/* A refund that no view has. */
	ck_assert_uint_eq(window_unmerged(generation, INDEX, 20, merged, foreign), 0);
	ck_assert_uint_eq(window_unmerged(generation + 1, INDEX, 40, merged, foreign), 40);
	ck_assert_uint_eq(window_unmerged(generation, INDEX + 1, 40, merged, foreign), 40);
	ck_assert_uint_eq(window_unmerged(generation, INDEX, 40, merged,
					  foreign_word(12, INDEX - 1)), 40);
	/* Sixteen windows later merged looks alike, and foreign does not. */
	ck_assert_uint_eq(window_unmerged(generation, INDEX + 16, 40, merged, foreign), 40);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("foreign");
	TCase *tests = tcase_create("foreign");

	tcase_add_test(tests, word);
	tcase_add_loop_test(tests, sum_is_judged, 0, (int)LENGTH(kinds));
	tcase_add_test(tests, fixed_begins_anew);
	tcase_add_test(tests, sliding_rolls_on);
	tcase_add_loop_test(tests, wait_is_right, 0, (int)LENGTH(kinds));
	tcase_add_loop_test(tests, window_is_told, 0, (int)LENGTH(kinds));
	tcase_add_test(tests, unmerged);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
