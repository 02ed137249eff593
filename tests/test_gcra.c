/* SPDX-License-Identifier: Apache-2.0 */
/* The token bucket against exact rational arithmetic: times of the oracle are
 * whole numbers of 1/limit nanoseconds, so that period / limit is one too. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shm/gcra.h"
#include "fixture.h"
#include "tests/suite.h"

typedef unsigned __int128 wide;

/* Whole and fractional token times, from 10 ns to a year. */
static const struct weir_limit limits[] = {
	{ .limit = 1, .period_ns = MS },
	{ .limit = 3, .period_ns = 10 * SECOND },
	{ .limit = 7, .period_ns = 3 * SECOND },
	{ .limit = 11, .period_ns = 7 * SECOND },
	{ .limit = 60, .period_ns = MINUTE, .burst = 10 },
	{ .limit = 3, .period_ns = 7 * SECOND, .burst = 14811428 },
	{ .limit = 1000, .period_ns = 999999937, .burst = 1 },
	{ .limit = 7, .period_ns = MS + 1, .burst = 2 },
	{ .limit = 30000000, .period_ns = SECOND },
	{ .limit = 99999989, .period_ns = SECOND },
	{ .limit = 99999989, .period_ns = SECOND, .burst = 3 },
	{ .limit = 100000000, .period_ns = SECOND },
	{ .limit = 100000000, .period_ns = SECOND, .burst = 3456000000000000 },
	{ .limit = 1, .period_ns = 365 * DAY },
	{ .limit = 2999, .period_ns = 365 * DAY, .burst = 3286 },
	{ .limit = 3153599999999999, .period_ns = 365 * DAY, .burst = 9999999999971 },
};

/* A bucket in exact arithmetic, in units of 1/limit ns. */
struct exact {
	wide scale;             /* units per nanosecond */
	wide token;             /* units per token */
	wide burst;             /* tokens */
	wide full;              /* when it will be full */
};

static struct exact exact_bucket(const struct limit *limit)
{
	return (struct exact){ limit->limit, limit->period_ns, limit->burst, 0 };
}

static wide exact_debt(const struct exact *exact, uint64_t now_ns)
{
	wide now = now_ns * exact->scale;

	return exact->full > now ? exact->full - now : 0;
}

static bool exact_allows(const struct exact *exact, uint64_t now_ns, uint64_t cost)
{
	return cost <= exact->burst &&
	       exact_debt(exact, now_ns) + cost * exact->token <= exact->burst * exact->token;
}

static void exact_charge(struct exact *exact, uint64_t now_ns, uint64_t cost)
{
	exact->full = now_ns * exact->scale + exact_debt(exact, now_ns) + cost * exact->token;
}

static bool spend(const struct limit *limit, struct bucket_state *state, uint64_t now_ns,
		  uint64_t cost)
{
	struct bucket_state before = *state;

	return gcra_spend(limit, &before, now_ns, cost, false, state).allowed;
}

static uint64_t remaining(const struct limit *limit, const struct bucket_state *state,
			  uint64_t now_ns)
{
	return gcra_remaining(limit, gcra_phase(limit, state->used), gcra_debt_ns(state, now_ns));
}

static bool would_pass(const struct limit *limit, const struct bucket_state *state,
		       uint64_t now_ns, uint64_t cost)
{
	struct bucket_state copy = *state;

	return spend(limit, &copy, now_ns, cost);
}

static bool same(const struct bucket_state *a, const struct bucket_state *b)
{
	return a->time_ns == b->time_ns && a->used == b->used;
}

/* How long until the next request: often none, or about when something changes. */
static uint64_t random_step(const struct limit *limit, uint64_t *random)
{
	uint64_t token = limit->token_ns, whole = limit->tolerance_ns + token;

	switch (fixture_random(random, 8)) {
	case 0:
	case 1:
	case 2:
		return 0;
	case 3:
		return fixture_random(random, 3);
	case 4:
		return token + fixture_random(random, 3) - 1;
	case 5:
		return fixture_random(random, 2 * token);
	case 6:
		return fixture_random(random, 8) ? fixture_random(random, token) :
						   fixture_random(random, whole);
	}
	return fixture_random(random, 64) ? fixture_random(random, 4 * token) :
					    whole + fixture_random(random, 3);
}

/* Mostly 1; sometimes what is just there or just not, sometimes anything. */
static uint64_t random_cost(const struct limit *limit, const struct bucket_state *state,
			    uint64_t now_ns, uint64_t *random)
{
	uint64_t left = remaining(limit, state, now_ns);

	switch (fixture_random(random, 32)) {
	case 0:
		return left;
	case 1:
		return left + 1;
	case 2:
		return 1 + fixture_random(random, left ? left : 1);
	case 3:
		return 1 + fixture_random(random, limit->burst);
	case 4:
		return 1 + fixture_random(random, limit->burst < 9 ? limit->burst : 9);
	}
	return 1;
}

/*
 * Every request that the exact rule allows is allowed, and one that is allowed
 * is less than a nanosecond beyond it; the debt never strays by a nanosecond.
 */
START_TEST(equals_exact_arithmetic)
{
	struct limit limit = fixture_compile(&limits[_i]);
	struct exact exact = exact_bucket(&limit);
	struct bucket_state state = { 0, 0 };
	unsigned rounds = fixture_soak() ? 100000000 : 500000, allowed = 0, denied = 0;
	uint64_t random = 1 + (uint64_t)_i, now_ns = EPOCH;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t cost;
		bool ideal, real;
		wide excess;

		now_ns += random_step(&limit, &random);
		cost = random_cost(&limit, &state, now_ns, &random);
		/* The count of tokens wraps after 2^43, which may cost a nanosecond
		 * where a token's time is no whole number: a test of its own. */
		if (now_ns >> 62 || (limit.token_part && (int64_t)cost > (int64_t)GCRA_COUNT_MOST -
								    gcra_count(state.used))) {
			now_ns = EPOCH;
			/* Where a count begins that is far below 0. */
			state = (struct bucket_state){ 0, GCRA_COUNT_MOST + 2 };
			exact.full = 0;
			continue;
		}
		ideal = exact_allows(&exact, now_ns, cost);
		excess = exact_debt(&exact, now_ns) + cost * exact.token;
		real = spend(&limit, &state, now_ns, cost);
		if (ideal && cost > 0)
			must(real);
		if (real && cost > 0) {
			must(excess < exact.burst * exact.token + exact.scale);
			exact_charge(&exact, now_ns, cost);
			must(state.time_ns * exact.scale < exact.full + exact.scale);
			must(exact.full < state.time_ns * exact.scale + exact.scale);
			allowed++;
		}
		denied += !real;
	}
	/* The schedule has to have tested both. */
	must(allowed > rounds / 1000);
	must(denied > rounds / 1000);
}
END_TEST

/* Charged as soon as it goes, a bucket gives exactly limit per period for ever. */
START_TEST(never_drifts)
{
	struct limit limit = fixture_compile(&limits[_i]);
	struct bucket_state state = { 0, 0 }, after;
	uint64_t charges = fixture_soak() ? 100000000 : 300000, now_ns = EPOCH;
	uint64_t most = ((1ull << 62) - EPOCH) / (limit.token_ns + 1);
	wide exact, real;

	charges = charges < most ? charges : most;
	must(spend(&limit, &state, now_ns, limit.burst));
	for (uint64_t i = 0; i < charges; i++) {
		struct verdict verdict = gcra_spend(&limit, &state, now_ns, 1, false, &after);

		must(!verdict.allowed);
		now_ns += verdict.retry_after_ns;
		must(spend(&limit, &state, now_ns, 1));
	}
	exact = (wide)charges * limit.period_ns;
	real = (wide)(now_ns - EPOCH) * limit.limit;
	must(real < exact + limit.limit && exact < real + limit.limit);
	must(state.used == ((limit.burst + charges) & WEIR_COUNT_MAX));
}
END_TEST

/* At one instant exactly the burst passes: not one more, not one less. */
START_TEST(burst_at_one_instant)
{
	struct limit limit = fixture_compile(&limits[_i]);
	struct bucket_state state = { 0, fixture_soak() ? 0 : (uint64_t)_i * 5 };
	uint64_t single = limit.burst < 100000 ? limit.burst : 100000;

	for (uint64_t i = 0; i < single; i++) {
		must(remaining(&limit, &state, EPOCH) == limit.burst - i);
		must(spend(&limit, &state, EPOCH, 1));
	}
	if (single < limit.burst)
		must(spend(&limit, &state, EPOCH, limit.burst - single));
	must(remaining(&limit, &state, EPOCH) == 0);
	must(!would_pass(&limit, &state, EPOCH, 1));
}
END_TEST

/* retry_after is the first instant, and remaining the largest cost, that goes. */
START_TEST(numbers_are_exact)
{
	struct limit limit = fixture_compile(&limits[_i]);
	struct bucket_state state = { 0, 0 }, after;
	uint64_t random = 77 + (uint64_t)_i, now_ns = EPOCH;
	unsigned rounds = fixture_soak() ? 3000000 : 50000;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t cost, left;
		struct verdict verdict;

		now_ns += random_step(&limit, &random);
		if (now_ns >> 62) {
			now_ns = EPOCH;
			state = (struct bucket_state){ 0, 0 };
		}
		cost = random_cost(&limit, &state, now_ns, &random);
		left = remaining(&limit, &state, now_ns);
		must(left <= limit.burst);
		if (left > 0)
			must(would_pass(&limit, &state, now_ns, left));
		must(!would_pass(&limit, &state, now_ns, left + 1));

		verdict = gcra_spend(&limit, &state, now_ns, cost, false, &after);
		if (verdict.allowed) {
			must(verdict.retry_after_ns == 0);
		} else if (verdict.never) {
			must(cost > limit.burst);
			must(verdict.retry_after_ns == WEIR_NEVER);
		} else {
			uint64_t retry_ns = now_ns + verdict.retry_after_ns;

			must(verdict.retry_after_ns > 0);
			must(!would_pass(&limit, &state, retry_ns - 1, cost));
			must(would_pass(&limit, &state, retry_ns, cost));
			must(same(&after, &state));
		}

		state = after;
		must(remaining(&limit, &state, now_ns + verdict.reset_after_ns) == limit.burst);
		if (verdict.reset_after_ns > 0)
			must(remaining(&limit, &state, now_ns + verdict.reset_after_ns - 1) <
			     limit.burst);
	}
}
END_TEST

/* What limits 3 per 10 s mean, spelled out. */
START_TEST(table_three_per_ten_seconds)
{
	static const struct {
		uint64_t at_ns, cost;
		bool allowed;
		uint64_t remaining, retry_after_ns, reset_after_ns;
	} steps[] = {
		{ 0, 0, true, 3, 0, 0 },
		{ 0, 1, true, 2, 0, 3333333333 },
		{ 0, 3, false, 2, 3333333333, 3333333333 },
		{ 0, 2, true, 0, 0, 10000000000 },
		{ 0, 1, false, 0, 3333333333, 10000000000 },
		{ 0, 0, true, 0, 0, 10000000000 },
		{ 0, 4, false, 0, WEIR_NEVER, 10000000000 },
		{ 3333333332, 1, false, 0, 1, 6666666668 },
		{ 3333333333, 1, true, 0, 0, 10000000000 },
		{ 6666666665, 1, false, 0, 1, 6666666668 },
		{ 6666666666, 1, true, 0, 0, 10000000000 },
		{ 9999999999, 1, false, 0, 1, 6666666667 },
		{ 10000000000, 1, true, 0, 0, 10000000000 },
		{ 20000000000, 3, true, 0, 0, 10000000000 },
		{ 31000000000, 0, true, 3, 0, 0 },
	};
	struct limit limit = fixture_compile(&limits[1]);
	struct bucket_state state = { 0, 0 }, after;

	for (size_t i = 0; i < LENGTH(steps); i++) {
		uint64_t now_ns = EPOCH + steps[i].at_ns;
		struct verdict verdict =
			gcra_spend(&limit, &state, now_ns, steps[i].cost, false, &after);

		ck_assert_msg(verdict.allowed == steps[i].allowed, "step %zu", i);
		ck_assert_uint_eq(verdict.retry_after_ns, steps[i].retry_after_ns);
		ck_assert_uint_eq(verdict.reset_after_ns, steps[i].reset_after_ns);
		ck_assert_uint_eq(remaining(&limit, &after, now_ns), steps[i].remaining);
		ck_assert(verdict.never == (steps[i].retry_after_ns == WEIR_NEVER));
		state = after;
	}
}
END_TEST

/* A cost above the burst never passes, whatever the bucket holds; with a bucket
 * that is deeper in debt than its burst, not even a peek does. */
START_TEST(cost_zero_and_cost_above_burst)
{
	struct limit limit = fixture_compile(&limits[_i]);
	struct bucket_state state = { 0, 0 }, after;
	struct verdict verdict;

	verdict = gcra_spend(&limit, &state, EPOCH, limit.burst + 1, false, &after);
	ck_assert(!verdict.allowed && verdict.never);
	ck_assert_mem_eq(&after, &state, sizeof(state));
	verdict = gcra_spend(&limit, &state, EPOCH, UINT64_MAX, false, &after);
	ck_assert(!verdict.allowed && verdict.never);

	ck_assert(spend(&limit, &state, EPOCH, limit.burst));
	verdict = gcra_spend(&limit, &state, EPOCH, 0, false, &after);
	ck_assert(verdict.allowed);
	ck_assert_mem_eq(&after, &state, sizeof(state));

	ck_assert(gcra_spend(&limit, &state, EPOCH, 1, true, &after).allowed);
	verdict = gcra_spend(&limit, &after, EPOCH, 0, false, &state);
	ck_assert(!verdict.allowed && !verdict.never);
	ck_assert(would_pass(&limit, &state, EPOCH + verdict.retry_after_ns, 0));
	ck_assert(!would_pass(&limit, &state, EPOCH + verdict.retry_after_ns - 1, 0));
}
END_TEST

/* Force-take goes into debt up to a cap to the nanosecond, and never past it. */
START_TEST(force_take_and_its_cap)
{
	struct limit limit = fixture_compile(&limits[_i]);
	struct bucket_state state = { 0, 0 }, after;
	wide most = (wide)GCRA_DEBT_MAX_NS * limit.limit / limit.period_ns;
	uint64_t first = (uint64_t)(most / 2), second = (uint64_t)(most - most / 2);
	uint64_t now_ns = EPOCH;
	struct verdict verdict;

	verdict = gcra_spend(&limit, &state, EPOCH, (uint64_t)most + 2, true, &after);
	ck_assert(!verdict.allowed && verdict.never);
	ck_assert_uint_eq(verdict.retry_after_ns, WEIR_NEVER);
	/* Beyond 2^43 tokens the count wraps, and the rest is off by a nanosecond. */
	if (limit.token_part && first > GCRA_COUNT_MOST)
		return;

	ck_assert(gcra_spend(&limit, &state, EPOCH, first, true, &after).allowed);
	state = after;
	/* The second half, at the first instant at which it goes. */
	verdict = gcra_spend(&limit, &state, EPOCH, second + 1, true, &after);
	ck_assert(!verdict.allowed && !verdict.never);
	ck_assert_mem_eq(&after, &state, sizeof(state));
	ck_assert(!gcra_spend(&limit, &state, EPOCH + verdict.retry_after_ns - 1, second + 1, true,
			      &after).allowed);
	now_ns += verdict.retry_after_ns;
	verdict = gcra_spend(&limit, &state, now_ns, second + 1, true, &after);
	ck_assert(verdict.allowed);
	ck_assert_uint_eq(verdict.reset_after_ns, GCRA_DEBT_MAX_NS);
	ck_assert_uint_eq(remaining(&limit, &after, now_ns), 0);
}
END_TEST

/* A charge that is taken back after another one, which came when a part of the
 * first had drained: what is left is as if the first had never been made, to the
 * nanosecond. */
START_TEST(undo_leaves_what_has_drained)
{
	struct limit limit = fixture_compile(&limits[_i]);
	uint64_t token_ns = gcra_charge_ns(&limit, 0, 1);

	for (uint64_t drained = 0; drained <= 4; drained++) {
		uint64_t later_ns = EPOCH + token_ns * drained / 4;
		struct bucket_state state = { 0, 0 }, charged, after, ideal = { 0, 0 };

		if (limit.burst < 2 && drained < 4)
			continue;
		must(spend(&limit, &state, EPOCH, 1));
		charged = state;
		must(spend(&limit, &state, later_ns, 1));
		gcra_undo(&limit, &state, &charged, 1, later_ns, &after);
		must(spend(&limit, &ideal, later_ns, 1));
		must(after.used == ideal.used);
		must(after.time_ns - ideal.time_ns <= 1);
	}
}
END_TEST

/* Whatever was charged can be given back, in other portions, and the bucket is
 * where it was; more than that fills it and no more. */
START_TEST(refund_undoes_charges)
{
	struct limit limit = fixture_compile(&limits[_i]);
	uint64_t random = 5 + (uint64_t)_i;

	/* Beyond 2^43 tokens the count wraps, and refunds go by less. */
	if (limit.burst > GCRA_COUNT_MOST / 2)
		limit.burst = GCRA_COUNT_MOST / 2;
	for (unsigned round = 0; round < 2000; round++) {
		uint64_t before_cost = fixture_random(&random, limit.burst + 1);
		uint64_t owed = 0, spendable = limit.burst - before_cost;
		struct bucket_state start = { 0, fixture_random(&random, 1 << 20) }, state, after;

		if (before_cost)
			must(spend(&limit, &start, EPOCH, before_cost));
		state = start;
		while (owed < spendable && fixture_random(&random, 4)) {
			uint64_t cost = 1 + fixture_random(&random, spendable - owed);

			must(spend(&limit, &state, EPOCH, cost));
			owed += cost;
		}
		while (owed > 0) {
			uint64_t cost = 1 + fixture_random(&random, owed);

			gcra_refund(&limit, &state, EPOCH, cost, &after);
			state = after;
			owed -= cost;
		}
		must(gcra_debt_ns(&state, EPOCH) == gcra_debt_ns(&start, EPOCH));
		must(state.used == start.used);

		gcra_refund(&limit, &state, EPOCH, before_cost + 1 + fixture_random(&random, 100),
			    &after);
		must(remaining(&limit, &after, EPOCH) == limit.burst);
		must(after.time_ns <= EPOCH);
		gcra_refund(&limit, &state, EPOCH, UINT64_MAX, &after);
		must(remaining(&limit, &after, EPOCH) == limit.burst);
		must(gcra_count(after.used - state.used) == -(int64_t)GCRA_COUNT_MOST);
	}
}
END_TEST

/* What is given back may have been taken elsewhere: the count goes below 0, and
 * charges from there on are exact. */
START_TEST(count_below_zero)
{
	struct limit limit = fixture_compile(&limits[_i]);
	struct bucket_state state = { 0, 0 }, after;
	uint64_t tokens = limit.burst < 7 ? limit.burst : 7;

	gcra_refund(&limit, &state, EPOCH, tokens, &after);
	ck_assert_int_eq(gcra_count(after.used), -(int64_t)tokens);
	state = after;
	for (uint64_t i = 0; i < tokens; i++)
		ck_assert(spend(&limit, &state, EPOCH, 1));
	ck_assert_uint_eq(state.used, 0);
	/* -floor(-x) is x rounded up. */
	ck_assert_uint_eq(state.time_ns - EPOCH, gcra_return_ns(&limit, 0, tokens));
	gcra_undo(&limit, &state, &state, tokens, EPOCH, &after);
	ck_assert_int_eq(gcra_count(after.used), -(int64_t)tokens);
	ck_assert_uint_eq(after.time_ns, EPOCH);
}
END_TEST

/* The count of tokens comes round at 2^43: one charge may then be a nanosecond off,
 * and everything goes on. */
START_TEST(count_wraps)
{
	struct limit limit = fixture_compile(&limits[_i]);
	struct bucket_state state = { EPOCH, GCRA_COUNT_MOST - 1 };
	uint64_t tokens = limit.burst < 5 ? limit.burst : 5;
	wide exact = (wide)tokens * limit.period_ns, real;

	for (uint64_t i = 0; i < tokens; i++)
		ck_assert(spend(&limit, &state, EPOCH, 1));
	ck_assert_uint_eq(state.used, GCRA_COUNT_MOST - 1 + tokens);
	ck_assert(tokens == 1 || gcra_count(state.used) < 0);
	real = (wide)(state.time_ns - EPOCH) * limit.limit;
	ck_assert(real < exact + 2 * (wide)limit.limit && exact < real + 2 * (wide)limit.limit);
	ck_assert(!would_pass(&limit, &state, EPOCH, limit.burst - tokens + 1));
}
END_TEST

/* The largest costs, counts and times meet nowhere in an overflow. */
START_TEST(large_numbers)
{
	struct limit limit = fixture_compile(&limits[_i]);
	static const uint64_t nows[] = { 1, EPOCH, (1ull << 62) - 1, 1ull << 62 };
	static const uint64_t costs[] = { 1, WEIR_COUNT_MAX - 1, WEIR_COUNT_MAX, 1ull << 62,
					  UINT64_MAX - 1, UINT64_MAX };
	static const uint64_t useds[] = { 0, 1, WEIR_COUNT_MAX - 1, WEIR_COUNT_MAX };

	for (size_t i = 0; i < LENGTH(nows) * LENGTH(costs) * LENGTH(useds); i++) {
		uint64_t now_ns = nows[i % LENGTH(nows)];
		uint64_t cost = costs[i / LENGTH(nows) % LENGTH(costs)];
		uint64_t used = useds[i / LENGTH(nows) / LENGTH(costs)];
		struct bucket_state state = { now_ns, used }, after;
		wide charge = (wide)cost * limit.period_ns;
		struct verdict verdict;

		verdict = gcra_spend(&limit, &state, now_ns, cost, false, &after);
		ck_assert(verdict.allowed == (cost <= limit.burst));
		verdict = gcra_spend(&limit, &state, now_ns, cost, true, &after);
		/* No limit of the table is within a nanosecond of the cap. */
		ck_assert(verdict.allowed == (charge <= (wide)GCRA_DEBT_MAX_NS * limit.limit));
		ck_assert_uint_le(gcra_debt_ns(&after, now_ns), GCRA_DEBT_MAX_NS);
		ck_assert_uint_le(after.used, WEIR_COUNT_MAX);
		gcra_refund(&limit, &after, now_ns, cost, &state);
		ck_assert_uint_le(gcra_debt_ns(&state, now_ns), 1);
	}
}
END_TEST

/* A debt that no limit can have is damage: it counts as none. */
START_TEST(absurd_debt_counts_as_none)
{
	struct limit limit = fixture_compile(&limits[1]);
	struct bucket_state absurd = { EPOCH + GCRA_DEBT_ABSURD_NS + 1, 0 };
	struct bucket_state largest = absurd, after;

	largest.time_ns--;
	ck_assert_uint_eq(gcra_debt_ns(&largest, EPOCH), GCRA_DEBT_ABSURD_NS);
	ck_assert(!would_pass(&limit, &largest, EPOCH, 1));
	ck_assert_uint_eq(gcra_debt_ns(&absurd, EPOCH), 0);
	ck_assert(gcra_spend(&limit, &absurd, EPOCH, 3, false, &after).allowed);
	ck_assert_uint_eq(after.time_ns, EPOCH + 10 * SECOND);
}
END_TEST

/* The largest debt is more than that to a thread that read its clock earlier, and
 * not damage. */
START_TEST(largest_debt_at_an_earlier_time)
{
	struct limit limit = fixture_compile(&limits[1]);
	struct bucket_state state = { EPOCH + GCRA_DEBT_MAX_NS, 0 }, after;
	struct verdict verdict;

	for (uint64_t earlier_ns = 0; earlier_ns <= MINUTE; earlier_ns += 1 + earlier_ns * 9) {
		uint64_t now_ns = EPOCH - earlier_ns;

		ck_assert_uint_eq(gcra_debt_ns(&state, now_ns), GCRA_DEBT_MAX_NS + earlier_ns);
		ck_assert(!would_pass(&limit, &state, now_ns, 1));
		verdict = gcra_spend(&limit, &state, now_ns, 3, true, &after);
		ck_assert(!verdict.allowed && !verdict.never);
		ck_assert_uint_eq(verdict.retry_after_ns, earlier_ns + 10 * SECOND);
		ck_assert_mem_eq(&after, &state, sizeof(state));
		gcra_refund(&limit, &state, now_ns, 3, &after);
		ck_assert_uint_eq(after.time_ns, state.time_ns - 10 * SECOND);
	}
}
END_TEST

/* A refund into a full bucket leaves it full since when it was, so that a charge
 * before it can still be told from one after. */
START_TEST(refund_into_a_full_bucket)
{
	struct limit limit = fixture_compile(&limits[1]);
	struct bucket_state state = { EPOCH - 7, 5 }, after;

	gcra_refund(&limit, &state, EPOCH, 3, &after);
	ck_assert_uint_eq(after.time_ns, EPOCH - 7);
	ck_assert_uint_eq(after.used, 2);
	/* Damage, of course, does not stay. */
	state.time_ns = EPOCH + GCRA_DEBT_ABSURD_NS + 1;
	gcra_refund(&limit, &state, EPOCH, 3, &after);
	ck_assert_uint_eq(after.time_ns, EPOCH);
}
END_TEST

int main(void)
{
	int count = (int)LENGTH(limits);
	Suite *suite = suite_create("gcra");
	TCase *exact = tcase_create("exact");
	TCase *edges = tcase_create("edges");

	tcase_add_loop_test(exact, equals_exact_arithmetic, 0, count);
	tcase_add_loop_test(exact, never_drifts, 0, count);
	tcase_add_loop_test(exact, numbers_are_exact, 0, count);
	tcase_add_test(exact, table_three_per_ten_seconds);
	tcase_add_loop_test(edges, burst_at_one_instant, 0, count);
	tcase_add_loop_test(edges, cost_zero_and_cost_above_burst, 0, count);
	tcase_add_loop_test(edges, force_take_and_its_cap, 0, count);
	tcase_add_loop_test(edges, refund_undoes_charges, 0, count);
	tcase_add_loop_test(edges, undo_leaves_what_has_drained, 0, count);
	tcase_add_loop_test(edges, count_below_zero, 0, count);
	tcase_add_loop_test(edges, count_wraps, 0, count);
	tcase_add_loop_test(edges, large_numbers, 0, count);
	tcase_add_test(edges, absurd_debt_counts_as_none);
	tcase_add_test(edges, largest_debt_at_an_earlier_time);
	tcase_add_test(edges, refund_into_a_full_bucket);
	suite_add_tcase(suite, exact);
	suite_add_tcase(suite, edges);
	return suite_run(suite);
}
