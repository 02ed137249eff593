/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed and sliding windows: expectation tables, and random schedules beside a
 * log of all requests. */
#include <check.h>
#include <string.h>

#include "shm/window.h"
#include "src/handle.h"
#include "fixture.h"
#include "tests/suite.h"

static bool same(const struct bucket_state *a, const struct bucket_state *b)
{
	return a->time_ns == b->time_ns && a->used == b->used;
}

static struct limit window_limit(uint64_t limit, uint64_t period_ns)
{
	return (struct limit){ .limit = limit, .period_ns = period_ns, .parts = 1 };
}

struct step {
	uint64_t at_ns, cost;
	bool allowed;
	uint64_t remaining, retry_after_ns, reset_after_ns;
};

typedef struct verdict spend_function(const struct limit *limit, const struct bucket_state *before,
				      uint64_t now_ns, uint64_t cost, bool force,
				      struct bucket_state *after);

/* Go through STEPS, whose times count from START. */
static void run_steps(spend_function *spend, const struct limit *limit, uint64_t start_ns,
		      const struct step *steps, size_t count)
{
	struct bucket_state state = { 0, 0 }, after;

	for (size_t i = 0; i < count; i++) {
		struct verdict verdict = spend(limit, &state, start_ns + steps[i].at_ns,
					       steps[i].cost, false, &after);

		ck_assert_msg(verdict.allowed == steps[i].allowed, "step %zu", i);
		ck_assert_msg(verdict.remaining == steps[i].remaining, "step %zu: remaining %llu",
			      i, (unsigned long long)verdict.remaining);
		ck_assert_msg(verdict.retry_after_ns == steps[i].retry_after_ns,
			      "step %zu: retry after %llu", i,
			      (unsigned long long)verdict.retry_after_ns);
		ck_assert_msg(verdict.reset_after_ns == steps[i].reset_after_ns,
			      "step %zu: reset after %llu", i,
			      (unsigned long long)verdict.reset_after_ns);
		ck_assert(verdict.never == (steps[i].retry_after_ns == WEIR_NEVER));
		ck_assert(verdict.allowed || same(&state, &after));
		state = after;
	}
}

/* ---- Fixed ------------------------------------------------------------- */

/* 3 per 7 s: windows begin at multiples of 7 s since 1970. */
START_TEST(fixed_table)
{
	static const struct step steps[] = {
		{ 0, 0, true, 3, 0, 0 },
		{ 0, 1, true, 2, 0, 7 * SECOND },
		{ SECOND, 3, false, 2, 6 * SECOND, 6 * SECOND },
		{ SECOND, 4, false, 2, WEIR_NEVER, 6 * SECOND },
		{ 2 * SECOND, 2, true, 0, 0, 5 * SECOND },
		{ 2 * SECOND, 0, true, 0, 0, 5 * SECOND },
		{ 7 * SECOND - 1, 1, false, 0, 1, 1 },
		{ 7 * SECOND, 1, true, 2, 0, 7 * SECOND },
		{ 14 * SECOND - 1, 2, true, 0, 0, 1 },
		{ 14 * SECOND, 3, true, 0, 0, 7 * SECOND },
		{ 700 * SECOND + 1, 1, true, 2, 0, 7 * SECOND - 1 },
	};
	struct limit limit = window_limit(3, 7 * SECOND);

	run_steps(fixed_window_spend, &limit, EPOCH / (7 * SECOND) * (7 * SECOND), steps,
		  LENGTH(steps));
	/* The first windows of all. */
	run_steps(fixed_window_spend, &limit, 0, steps, LENGTH(steps));
}
END_TEST

/* A count per window, and nothing else. */
START_TEST(fixed_random)
{
	static const struct { uint64_t limit, period_ns; } limits[] = {
		{ 1, MS }, { 3, 7 * SECOND }, { 100, 999999937 }, { WEIR_COUNT_MAX, 365 * DAY },
	};
	struct limit limit = window_limit(limits[_i].limit, limits[_i].period_ns);
	uint64_t random = 3 + (uint64_t)_i, now_ns = EPOCH, window = 0, count = 0;
	struct bucket_state state = { 0, 0 }, after;

	for (unsigned i = 0; i < 100000; i++) {
		uint64_t cost = fixture_random(&random, 4) ?
					fixture_random(&random, 3) :
					fixture_random(&random, limit.limit + 2);
		bool force = fixture_random(&random, 16) == 0, ideal;
		uint64_t wait_ns;
		struct verdict verdict;

		now_ns = (now_ns + fixture_random(&random, limit.period_ns / 4)) % (1ull << 62);
		if (now_ns / limit.period_ns != window)
			count = 0;
		window = now_ns / limit.period_ns;
		wait_ns = (window + 1) * limit.period_ns - now_ns;
		ideal = force ? cost <= WEIR_COUNT_MAX - count :
				cost <= limit.limit && (cost == 0 || count + cost <= limit.limit);

		verdict = fixed_window_spend(&limit, &state, now_ns, cost, force, &after);
		must(verdict.allowed == ideal);
		must(verdict.allowed || same(&state, &after));
		if (ideal)
			count += cost;
		must(verdict.remaining == (count < limit.limit ? limit.limit - count : 0));
		must(verdict.reset_after_ns == (count ? wait_ns : 0));
		if (!ideal)
			must(verdict.retry_after_ns ==
			     (cost > limit.limit && !force ? WEIR_NEVER : wait_ns));
		state = after;
		if (fixture_random(&random, 16) == 0) {
			cost = fixture_random(&random, count + 2);
			fixed_window_refund(&limit, &state, now_ns, cost, &after);
			count = count > cost ? count - cost : 0;
			state = after;
		}
	}
}
END_TEST

/* Two processes whose readings straddle the end of a window: the later one
 * begins the new window, and the earlier one goes by it. */
START_TEST(fixed_reading_that_is_late)
{
	struct limit limit = window_limit(2, SECOND);
	struct bucket_state state = { 0, 0 }, after;

	ck_assert(fixed_window_spend(&limit, &state, EPOCH + SECOND, 1, false, &after).allowed);
	state = after;
	ck_assert(fixed_window_spend(&limit, &state, EPOCH + SECOND - 1, 1, false, &after).allowed);
	state = after;
	ck_assert(!fixed_window_spend(&limit, &state, EPOCH + SECOND - 1, 1, false, &after)
			   .allowed);
	ck_assert(!fixed_window_spend(&limit, &state, EPOCH + SECOND, 1, false, &after).allowed);
	/* Also one that was stopped for many windows after it read the clock. */
	ck_assert(!fixed_window_spend(&limit, &state, EPOCH - 9 * SECOND, 1, false, &after)
			   .allowed);
	/* Longer than any window can last is damage. */
	ck_assert(fixed_window_spend(&limit, &state, EPOCH - WINDOW_AHEAD_MAX_NS - 1, 1, false,
				     &after).allowed);
}
END_TEST

/* A refund, say of a request that another limit denied, comes after the next
 * window has begun: it must not take out what others have spent there. */
START_TEST(fixed_refund_that_is_late)
{
	struct limit limit = window_limit(1, SECOND);
	struct bucket_state state = { 0, 0 }, after;

	fixed_window_spend(&limit, &state, EPOCH, 1, false, &after);
	state = after;
	ck_assert(fixed_window_spend(&limit, &state, EPOCH + SECOND, 1, false, &after).allowed);
	state = after;
	fixed_window_refund(&limit, &state, EPOCH, 1, &after);
	ck_assert(same(&state, &after));
	fixed_window_refund(&limit, &state, EPOCH + SECOND, 1, &after);
	ck_assert(fixed_window_spend(&limit, &after, EPOCH + SECOND, 1, false, &state).allowed);
}
END_TEST

/* The offset to the wall clock: a step within the window shortens it, a step
 * over its end begins a new one. */
START_TEST(fixed_wall_offset)
{
	uint64_t boot_ns = 5 * SECOND;  /* just booted: times are small, offsets large */
	struct limit limit = window_limit(1, 10 * SECOND);
	struct bucket_state state = { 0, 0 }, after;
	struct verdict verdict;

	limit.stored_offset_ns = limit.aligned_offset_ns = (int64_t)EPOCH;
	verdict = fixed_window_spend(&limit, &state, boot_ns, 1, false, &after);
	ck_assert(verdict.allowed);
	ck_assert_uint_eq(verdict.reset_after_ns, 5 * SECOND);
	/* To the table, the slot has debt for as long as the window lasts. */
	ck_assert_uint_eq(after.time_ns, 10 * SECOND);
	state = after;

	limit.aligned_offset_ns += 3 * (int64_t)SECOND;
	verdict = fixed_window_spend(&limit, &state, boot_ns, 1, false, &after);
	ck_assert(!verdict.allowed);
	ck_assert_uint_eq(verdict.retry_after_ns, 2 * SECOND);

	limit.aligned_offset_ns += 2 * (int64_t)SECOND - 1;
	ck_assert(!fixed_window_spend(&limit, &state, boot_ns, 1, false, &after).allowed);
	limit.aligned_offset_ns += 1;
	verdict = fixed_window_spend(&limit, &state, boot_ns, 1, false, &after);
	ck_assert(verdict.allowed);
	ck_assert_uint_eq(verdict.reset_after_ns, 10 * SECOND);
	/* Not before the window's end, though the offset has grown since. */
	ck_assert_uint_ge(after.time_ns, boot_ns + 10 * SECOND);
}
END_TEST

/* Through the library: the wall clock may step forward, which ends the window
 * at once for all processes, and steps back in vain.  The period is a year, so
 * that no window ends by itself meanwhile. */
START_TEST(fixed_wall_clock_steps)
{
	struct weir_options options;
	struct weir *weir;
	weir_policy_id id;
	uint64_t *offset, before;
	struct weir_request request = { .key = "k", .key_length = 1, .cost = 1 };
	struct weir_decision decision;

	weir_options_init(&options);
	options.slots = 16;
	weir = fixture_open(&options);
	id = fixture_set(weir, "yearly", "1/365d fixed-window");
	offset = &weir->segment->header->wall.offset_ns;

	ck_assert(weir_allow(weir, id, "k", 1, NULL));
	ck_assert(!weir_allow(weir, id, "k", 1, NULL));
	/* Another process saw the clock a year ahead. */
	*offset += 365 * DAY;
	before = *offset;
	ck_assert(weir_allow(weir, id, "k", 1, NULL));
	ck_assert(!weir_allow(weir, id, "k", 1, &decision));
	ck_assert_uint_le(decision.retry_after_ns, 365 * DAY);
	/* To us the clock stands a year behind that: it stays where it was. */
	ck_assert_uint_eq(*offset, before);
	/* This process sees it step forward. */
	*offset -= 2 * 365 * DAY;
	before = *offset;
	weir_allow(weir, id, "k", 1, NULL);
	ck_assert_uint_eq((*offset - before) / (364 * DAY), 1);
	/* A request with its own time does not look at the wall clock. */
	*offset = before;
	request.policy = id;
	request.now_ns = weir_now_ns(weir);
	weir_status(weir, &request, &decision);
	ck_assert_uint_eq(*offset, before);
	weir_close(weir);
}
END_TEST

/* ---- Sliding ----------------------------------------------------------- */

/* 10 per 10 s: the previous period fades out evenly. */
START_TEST(sliding_table)
{
	static const struct step steps[] = {
		{ 0, 0, true, 10, 0, 0 },
		{ 0, 11, false, 10, WEIR_NEVER, 0 },
		{ 9 * SECOND, 8, true, 2, 0, 11 * SECOND },
		/* 8 are there now; 3 pass once 8 x (10 - e) / 10 is 7 */
		{ 9 * SECOND, 3, false, 2, SECOND + 1250 * MS, 11 * SECOND },
		{ 11250 * MS - 1, 3, false, 2, 1, 8750 * MS + 1 },
		{ 11250 * MS, 3, true, 0, 0, 18750 * MS },
		{ 11250 * MS, 0, true, 0, 0, 18750 * MS },
		{ 11250 * MS, 1, false, 0, 1250 * MS, 18750 * MS },
		/* 8 x 0.5 + 3 = 7 */
		{ 15 * SECOND, 3, true, 0, 0, 15 * SECOND },
		/* 6 of the previous period remain */
		{ 20 * SECOND, 5, false, 4, 1666666667, 10 * SECOND },
		{ 20 * SECOND, 4, true, 0, 0, 20 * SECOND },
		{ 40 * SECOND, 10, true, 0, 0, 20 * SECOND },
		/* all 10 in the next period */
		{ 40 * SECOND, 10, false, 0, 20 * SECOND, 20 * SECOND },
		{ 40 * SECOND, 1, false, 0, 11 * SECOND, 20 * SECOND },
		{ 60 * SECOND, 10, true, 0, 0, 20 * SECOND },
	};
	struct limit limit = window_limit(10, 10 * SECOND);

	run_steps(sliding_window_spend, &limit, EPOCH, steps, LENGTH(steps));
	run_steps(sliding_window_spend, &limit, 0, steps, LENGTH(steps));
}
END_TEST

static const struct { uint64_t limit, period_ns; } sliding_limits[] = {
	{ 1, MS }, { 3, 7 * SECOND }, { 100, 999999937 }, { 100000, MS }, { 10, 101 },
	{ WEIR_COUNT_MAX, 365 * DAY },
};

/* The estimate and all numbers as rational arithmetic has them. */
START_TEST(sliding_random)
{
	typedef unsigned __int128 wide;
	struct limit limit = window_limit(sliding_limits[_i].limit, sliding_limits[_i].period_ns);
	uint64_t random = 9 + (uint64_t)_i, now_ns = EPOCH, period = limit.period_ns;
	uint64_t index = 0, current = 0, previous = 0, denied = 0;
	struct bucket_state state = { 0, 0 }, after, other;

	for (unsigned i = 0; i < 100000; i++) {
		uint64_t cost = fixture_random(&random, 4) ?
					fixture_random(&random, 3) :
					fixture_random(&random, limit.limit + 2);
		uint64_t at;
		bool ideal;
		struct verdict verdict;
		wide spent;

		now_ns += fixture_random(&random, 64) ? fixture_random(&random, period / 3) :
							fixture_random(&random, 3 * period);
		now_ns %= 1ull << 62;
		at = now_ns / period;
		previous = at == index ? previous : at == index + 1 ? current : 0;
		current = at == index ? current : 0;
		index = at;
		spent = (wide)current * period + (wide)previous * (period - now_ns % period);
		ideal = cost == 0 || spent + (wide)cost * period <= (wide)limit.limit * period;

		verdict = sliding_window_spend(&limit, &state, now_ns, cost, false, &after);
		must(verdict.allowed == ideal);
		must(!verdict.flagged);
		must(verdict.never == (cost > limit.limit));
		if (!ideal && !verdict.never) {
			uint64_t wait = verdict.retry_after_ns;

			denied++;
			must(wait > 0 && wait < 2 * period);
			must(sliding_window_spend(&limit, &state, now_ns + wait, cost, false,
						  &other).allowed);
			must(!sliding_window_spend(&limit, &state, now_ns + wait - 1, cost, false,
						   &other).allowed);
			must(!sliding_window_spend(&limit, &state,
						   now_ns + fixture_random(&random, wait), cost,
						   false, &other).allowed);
		}
		if (ideal) {
			current += cost;
			spent += (wide)cost * period;
		}
		must(verdict.remaining ==
		     (spent < (wide)limit.limit * period ?
			      (uint64_t)(((wide)limit.limit * period - spent) / period) :
			      0));
		must(verdict.reset_after_ns == (current    ? (index + 2) * period - now_ns :
						previous ? (index + 1) * period - now_ns :
							   0));
		state = after;
		if (fixture_random(&random, 16) == 0) {
			cost = fixture_random(&random, current + 2);
			sliding_window_refund(&limit, &state, now_ns, cost, &after);
			current = current > cost ? current - cost : 0;
			state = after;
		}
	}
	must(denied > 1000);
}
END_TEST

/* All admitted requests, to count any window of one period. */
struct log {
	struct { uint64_t at_ns, cost; } entries[4096];
	size_t first, count;
	uint64_t sum;
};

/* Tokens in the window of one period that ends at NOW, that request included. */
static uint64_t log_add(struct log *log, uint64_t now_ns, uint64_t cost, uint64_t period_ns)
{
	size_t size = LENGTH(log->entries);

	must(log->count < size);
	log->entries[(log->first + log->count++) % size].at_ns = now_ns;
	log->entries[(log->first + log->count - 1) % size].cost = cost;
	log->sum += cost;
	while (now_ns - log->entries[log->first].at_ns >= period_ns) {
		log->sum -= log->entries[log->first].cost;
		log->first = (log->first + 1) % size;
		log->count--;
	}
	return log->sum;
}

/*
 * The documented bound, under bursts where they hurt most: never above the
 * limit in an aligned period, and in any window of one period less than twice
 * the limit: at most previous x elapsed / period above it.
 */
START_TEST(sliding_error_bound)
{
	typedef unsigned __int128 wide;
	static struct log log;
	struct limit limit = window_limit(_i + 1, (uint64_t)(_i + 2) * 7);
	uint64_t random = 21 + (uint64_t)_i, now_ns = EPOCH, period = limit.period_ns;
	uint64_t index = 0, current = 0, previous = 0, worst = 0;
	struct bucket_state state = { 0, 0 }, after;

	memset(&log, 0, sizeof(log));
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t cost, at, any;

		/* To the last instants of a period, or a little on, or at once. */
		switch (fixture_random(&random, 4)) {
		case 0:
			now_ns += period - 1 - now_ns % period;
			break;
		case 1:
			now_ns += fixture_random(&random, period);
			break;
		case 2:
			now_ns += fixture_random(&random, 3);
			break;
		}
		cost = fixture_random(&random, 2) ? 1 : 1 + fixture_random(&random, limit.limit);
		if (!sliding_window_spend(&limit, &state, now_ns, cost, false, &after).allowed)
			continue;
		state = after;
		at = now_ns / period;
		previous = at == index ? previous : at == index + 1 ? current : 0;
		current = (at == index ? current : 0) + cost;
		index = at;
		any = log_add(&log, now_ns, cost, period);
		must(current <= limit.limit);
		must(any < 2 * limit.limit);
		if (any > limit.limit)
			must((wide)(any - limit.limit) * period <=
			     (wide)previous * (now_ns % period));
		worst = any > worst ? any : worst;
	}
	/* The bound is no idle one: it is approached. */
	if (limit.limit >= 4)
		must(worst > limit.limit + limit.limit / 2);
}
END_TEST

/* The worst case of the bound, spelled out: 100 late in one period, then as many
 * as the estimate lets through. */
START_TEST(sliding_worst_case)
{
	struct limit limit = window_limit(100, 1000);
	struct bucket_state state = { 0, 0 }, after;
	uint64_t start = 10000, total = 100;

	ck_assert(sliding_window_spend(&limit, &state, start + 999, 100, false, &after).allowed);
	state = after;
	for (uint64_t elapsed = 0; elapsed < 999; elapsed++) {
		while (sliding_window_spend(&limit, &state, start + 1000 + elapsed, 1, false,
					    &after).allowed) {
			state = after;
			total++;
		}
		/* exactly previous x elapsed / period above the limit */
		ck_assert_uint_eq(total, 100 + elapsed / 10);
	}
}
END_TEST

/* Flag marks what the limit would have denied, counts it, and lets it go. */
START_TEST(sliding_flag)
{
	struct limit flag = window_limit(10, SECOND), deny = flag;
	uint64_t random = 4, now_ns = EPOCH, flagged = 0, plain = 0;
	struct bucket_state state = { 0, 0 }, after, other;

	flag.action = WEIR_ACTION_FLAG;
	for (unsigned i = 0; i < 50000; i++) {
		uint64_t cost = fixture_random(&random, 13);
		struct verdict strict, verdict;

		now_ns += fixture_random(&random, SECOND);
		strict = sliding_window_spend(&deny, &state, now_ns, cost, false, &other);
		verdict = sliding_window_spend(&flag, &state, now_ns, cost, false, &after);
		must(verdict.allowed);
		must(!verdict.never && verdict.retry_after_ns == 0);
		must(verdict.flagged == !strict.allowed);
		if (verdict.flagged) {
			flagged++;
			must(after.used == cost + sliding_window_at(&flag, &state, now_ns).current);
		} else {
			plain++;
			must(same(&after, &other));
		}
		state = after;
	}
	must(flagged > 1000 && plain > 1000);
}
END_TEST

/* A clock reading of the period before, by another thread, goes by the counters
 * that are there. */
START_TEST(sliding_reading_that_is_late)
{
	struct limit limit = window_limit(2, SECOND);
	struct bucket_state state = { 0, 0 }, after;

	ck_assert(sliding_window_spend(&limit, &state, EPOCH + SECOND, 2, false, &after).allowed);
	state = after;
	ck_assert(!sliding_window_spend(&limit, &state, EPOCH + SECOND - 1, 1, false, &after)
			   .allowed);
	ck_assert(!sliding_window_spend(&limit, &state, EPOCH, 1, false, &after).allowed);
	/* Also one that was stopped for many periods after it read the clock. */
	ck_assert(!sliding_window_spend(&limit, &state, EPOCH - 9 * SECOND, 1, false, &after)
			   .allowed);
	/* Longer than any period is damage. */
	ck_assert(sliding_window_spend(&limit, &state, EPOCH - WINDOW_AHEAD_MAX_NS, 1, false,
				       &after).allowed);
}
END_TEST

/* As fixed_refund_that_is_late. */
START_TEST(sliding_refund_that_is_late)
{
	struct limit limit = window_limit(1, SECOND);
	struct bucket_state state = { 0, 0 }, after;

	ck_assert(sliding_window_spend(&limit, &state, EPOCH, 1, false, &after).allowed);
	state = after;
	sliding_window_refund(&limit, &state, EPOCH - 1, 1, &after);
	ck_assert(same(&state, &after));
	sliding_window_refund(&limit, &state, EPOCH, 1, &after);
	ck_assert(sliding_window_spend(&limit, &after, EPOCH, 1, false, &state).allowed);
}
END_TEST

/* Force may count more tokens than the period has nanoseconds: as the previous
 * counter they are cut to what fits, which is still far above any limit. */
START_TEST(force_counts_beyond_the_limit)
{
	struct limit limit = window_limit(10, 1000);
	struct bucket_state state = { 0, 0 }, after;
	struct verdict verdict;

	verdict = sliding_window_spend(&limit, &state, EPOCH, 5000, true, &after);
	ck_assert(verdict.allowed);
	ck_assert_uint_eq(verdict.remaining, 0);
	state = after;
	ck_assert_uint_eq(sliding_window_at(&limit, &state, EPOCH + 1000).previous, 999);
	verdict = sliding_window_spend(&limit, &state, EPOCH + 1000, 1, false, &after);
	ck_assert(!verdict.allowed);
	ck_assert(sliding_window_spend(&limit, &state, EPOCH + 1000 + verdict.retry_after_ns, 1,
				       false, &after).allowed);
	ck_assert(sliding_window_spend(&limit, &state, EPOCH + 2000, 10, false, &after).allowed);

	/* The counter itself does not overflow. */
	state = (struct bucket_state){ 0, 0 };
	ck_assert(sliding_window_spend(&limit, &state, EPOCH, WEIR_COUNT_MAX, true, &after)
			  .allowed);
	state = after;
	ck_assert(!sliding_window_spend(&limit, &state, EPOCH, 1, true, &after).allowed);
	ck_assert(same(&state, &after));
	state = (struct bucket_state){ 0, 0 };
	ck_assert(fixed_window_spend(&limit, &state, EPOCH, WEIR_COUNT_MAX, true, &after).allowed);
	state = after;
	ck_assert(!fixed_window_spend(&limit, &state, EPOCH, 1, true, &after).allowed);
	ck_assert(same(&state, &after));

	/* More than can ever be counted is never taken. */
	state = (struct bucket_state){ 0, 0 };
	verdict = fixed_window_spend(&limit, &state, EPOCH, WEIR_COUNT_MAX + 1, true, &after);
	ck_assert(!verdict.allowed && verdict.never && verdict.retry_after_ns == WEIR_NEVER);
	verdict = sliding_window_spend(&limit, &state, EPOCH, WEIR_COUNT_MAX + 1, true, &after);
	ck_assert(!verdict.allowed && verdict.never && verdict.retry_after_ns == WEIR_NEVER);
}
END_TEST

/* A limit that only marks denies nothing, whatever there is to count. */
START_TEST(flag_counts_up_to_the_largest)
{
	struct limit limit = window_limit(10, SECOND);
	const uint64_t costs[] = { WEIR_COUNT_MAX - 1, 3, WEIR_COUNT_MAX, UINT64_MAX };
	struct bucket_state state = { 0, 0 }, after;

	limit.action = WEIR_ACTION_FLAG;
	for (unsigned i = 0; i < LENGTH(costs); i++) {
		struct verdict verdict;

		verdict = sliding_window_spend(&limit, &state, EPOCH, costs[i], false, &after);
		ck_assert(verdict.allowed && verdict.flagged && !verdict.never);
		ck_assert_uint_eq(after.used, i == 0 ? costs[0] : WEIR_COUNT_MAX);
		state = after;
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("window");
	TCase *fixed = tcase_create("fixed");
	TCase *sliding = tcase_create("sliding");

	tcase_add_test(fixed, fixed_table);
	tcase_add_loop_test(fixed, fixed_random, 0, 4);
	tcase_add_test(fixed, fixed_reading_that_is_late);
	tcase_add_test(fixed, fixed_refund_that_is_late);
	tcase_add_test(fixed, fixed_wall_offset);
	tcase_add_test(fixed, fixed_wall_clock_steps);
	tcase_add_test(sliding, sliding_table);
	tcase_add_loop_test(sliding, sliding_random, 0, (int)LENGTH(sliding_limits));
	tcase_add_loop_test(sliding, sliding_error_bound, 0, 12);
	tcase_add_test(sliding, sliding_worst_case);
	tcase_add_test(sliding, sliding_flag);
	tcase_add_test(sliding, sliding_reading_that_is_late);
	tcase_add_test(sliding, sliding_refund_that_is_late);
	tcase_add_test(sliding, force_counts_beyond_the_limit);
	tcase_add_test(sliding, flag_counts_up_to_the_largest);
	suite_add_tcase(suite, fixed);
	suite_add_tcase(suite, sliding);
	return suite_run(suite);
}
