/* SPDX-License-Identifier: Apache-2.0 */
/* Limits in human units: what is read, what is written, and every bound from
 * both sides. */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define MS 1000000ull
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

#define BUCKET WEIR_TOKEN_BUCKET
#define SLIDING WEIR_SLIDING_WINDOW
#define FIXED WEIR_FIXED_WINDOW
#define HOLDS WEIR_CONCURRENCY
#define DENY WEIR_ACTION_DENY
#define FLAG WEIR_ACTION_FLAG

static bool same(const struct weir_limit *a, const struct weir_limit *b)
{
	return a->limit == b->limit && a->period_ns == b->period_ns && a->burst == b->burst &&
	       a->algorithm == b->algorithm && a->action == b->action;
}

/* What TEXT means, and how it is written back. */
static const struct {
	const char *text;
	struct weir_limit limit;
	const char *canonical;
} good[] = {
	{ "100/1m", { 100, MINUTE, 0, BUCKET, DENY }, "100/1m" },
	{ "100/m", { 100, MINUTE, 0, BUCKET, DENY }, "100/1m" },
	{ "  100/60s\t", { 100, MINUTE, 0, BUCKET, DENY }, "100/1m" },
	{ "100/1m burst 20", { 100, MINUTE, 20, BUCKET, DENY }, "100/1m burst 20" },
	{ "100/1m burst 100", { 100, MINUTE, 0, BUCKET, DENY }, "100/1m" },
	{ "100/1m token-bucket", { 100, MINUTE, 0, BUCKET, DENY }, "100/1m" },
	{ "100/1m deny", { 100, MINUTE, 0, BUCKET, DENY }, "100/1m" },
	{ "100/1m deny burst 7 token-bucket", { 100, MINUTE, 7, BUCKET, DENY },
	  "100/1m burst 7" },
	{ "100/1m \t burst \t 7", { 100, MINUTE, 7, BUCKET, DENY }, "100/1m burst 7" },
	{ "1/1ms", { 1, MS, 0, BUCKET, DENY }, "1/1ms" },
	{ "1/ms", { 1, MS, 0, BUCKET, DENY }, "1/1ms" },
	{ "1/1000us", { 1, MS, 0, BUCKET, DENY }, "1/1ms" },
	{ "1/1500us", { 1, 1500000, 0, BUCKET, DENY }, "1/1500us" },
	{ "1/1000001ns", { 1, 1000001, 0, BUCKET, DENY }, "1/1000001ns" },
	{ "1/1500ms", { 1, 1500 * MS, 0, BUCKET, DENY }, "1/1500ms" },
	{ "1/90s", { 1, 90 * SECOND, 0, BUCKET, DENY }, "1/90s" },
	{ "1/120m", { 1, 2 * HOUR, 0, BUCKET, DENY }, "1/2h" },
	{ "1/h", { 1, HOUR, 0, BUCKET, DENY }, "1/1h" },
	{ "1/36h", { 1, 36 * HOUR, 0, BUCKET, DENY }, "1/36h" },
	{ "1/48h", { 1, 2 * DAY, 0, BUCKET, DENY }, "1/2d" },
	{ "1/d", { 1, DAY, 0, BUCKET, DENY }, "1/1d" },
	{ "1/365d", { 1, 365 * DAY, 0, BUCKET, DENY }, "1/365d" },
	{ "10/1s sliding-window", { 10, SECOND, 0, SLIDING, DENY }, "10/1s sliding-window" },
	{ "10/1s sliding-window flag", { 10, SECOND, 0, SLIDING, FLAG },
	  "10/1s sliding-window flag" },
	{ "10/1s flag sliding-window", { 10, SECOND, 0, SLIDING, FLAG },
	  "10/1s sliding-window flag" },
	{ "10/1s sliding-window burst 10", { 10, SECOND, 0, SLIDING, DENY },
	  "10/1s sliding-window" },
	{ "10/1s fixed-window", { 10, SECOND, 0, FIXED, DENY }, "10/1s fixed-window" },
	{ "5 concurrency", { 5, 0, 0, HOLDS, DENY }, "5 concurrency" },
	{ "5 deny concurrency", { 5, 0, 0, HOLDS, DENY }, "5 concurrency" },
	{ "5 concurrency burst 5", { 5, 0, 0, HOLDS, DENY }, "5 concurrency" },
	/* the bounds, from inside */
	{ "100000000/1s", { 100000000, SECOND, 0, BUCKET, DENY }, "100000000/1s" },
	{ "100000/1ms", { 100000, MS, 0, BUCKET, DENY }, "100000/1ms" },
	{ "3153600000000000/365d", { 3153600000000000, 365 * DAY, 0, BUCKET, DENY },
	  "3153600000000000/365d" },
	{ "1/365d burst 1", { 1, 365 * DAY, 0, BUCKET, DENY }, "1/365d" },
	{ "1/400h burst 24", { 1, 400 * HOUR, 24, BUCKET, DENY }, "1/400h burst 24" },
	{ "3/7s burst 14811428", { 3, 7 * SECOND, 14811428, BUCKET, DENY },
	  "3/7s burst 14811428" },
	{ "100000000/1s burst 3456000000000000", { 100000000, SECOND, 3456000000000000, BUCKET,
	  DENY }, "100000000/1s burst 3456000000000000" },
	{ "17592186044415/365d sliding-window", { WEIR_COUNT_MAX, 365 * DAY, 0, SLIDING, DENY },
	  "17592186044415/365d sliding-window" },
	{ "17592186044415/365d fixed-window", { WEIR_COUNT_MAX, 365 * DAY, 0, FIXED, DENY },
	  "17592186044415/365d fixed-window" },
	{ "17592186044415 concurrency", { WEIR_COUNT_MAX, 0, 0, HOLDS, DENY },
	  "17592186044415 concurrency" },
};

START_TEST(read_and_write_back)
{
	struct weir_limit limit, again;
	struct weir_error error;
	char text[96];
	int length;

	memset(&limit, 0xff, sizeof(limit));
	ck_assert_msg(weir_limit_parse(good[_i].text, &limit, &error) == WEIR_OK, "%s",
		      error.message);
	ck_assert_int_eq(error.status, WEIR_OK);
	ck_assert(same(&limit, &good[_i].limit));
	ck_assert_int_eq(weir_limit_check(&limit, &error), WEIR_OK);

	length = weir_limit_format(&limit, text, sizeof(text));
	ck_assert_str_eq(text, good[_i].canonical);
	ck_assert_int_eq(length, (int)strlen(text));
	ck_assert_int_eq(weir_limit_parse(text, &again, &error), WEIR_OK);
	ck_assert(same(&limit, &again));
}
END_TEST

#define ZERO_PERIOD "the period is 0; give 1ms to 365d, or leave \"/\" and it out of a limit of " \
	"concurrency"
#define DIGITS "write decimal digits only, without leading zeros, such as 100"
#define UNITS "write a whole number and ms, s, m, h or d, such as 1m"
#define WORDS "write \"burst N\", token-bucket, sliding-window, fixed-window, concurrency, deny " \
	"or flag"

/* Whole messages, behind "limit TEXT: ". */
static const struct {
	const char *text;
	const char *message;
} bad[] = {
	{ "", "it is empty; write a limit such as \"100/1m\"" },
	{ " \t", "it is empty; write a limit such as \"100/1m\"" },
	{ "x", "the limit \"x\" is not a whole number; " DIGITS },
	{ "/1m", "the limit \"\" is not a whole number; " DIGITS },
	{ "burst 20", "the limit \"burst\" is not a whole number; " DIGITS },
	{ "-1/1m", "the limit \"-1\" is not a whole number; " DIGITS },
	{ "+1/1m", "the limit \"+1\" is not a whole number; " DIGITS },
	{ "1.5/1m", "the limit \"1.5\" is not a whole number; " DIGITS },
	{ "1e3/1m", "the limit \"1e3\" is not a whole number; " DIGITS },
	{ "0x10/1m", "the limit \"0x10\" is not a whole number; " DIGITS },
	{ "1_000/1m", "the limit \"1_000\" is not a whole number; " DIGITS },
	{ "010/1m", "the limit \"010\" is not a whole number; " DIGITS },
	{ "\xd9\xa1/1m", "the limit \"\\xd9\\xa1\" is not a whole number; " DIGITS },
	{ "0/1m", "the limit is 0 tokens; give at least 1" },
	{ "0", "the limit is 0 tokens; give at least 1" },
	{ "0 concurrency", "the limit is 0 tokens; give at least 1" },
	{ "18446744073709551616/1m", "the limit 18446744073709551616 is too large; write at most "
	  "18446744073709551615" },
	{ "99999999999999999999/1m", "the limit 99999999999999999999 is too large; write at most "
	  "18446744073709551615" },
	{ "5", "it has no period; write \"5/1m\" for so many a minute, or \"5 concurrency\" for so "
	  "many at once" },
	{ "5 fixed-window", "it has no period; write \"5/1m\" for so many a minute, or \"5 "
	  "concurrency\" for so many at once" },
	{ "5/", "the period \"\" has no known unit; " UNITS },
	{ "5/1", "the period \"1\" has no known unit; " UNITS },
	{ "5/1w", "the period \"1w\" has no known unit; " UNITS },
	{ "5/1min", "the period \"1min\" has no known unit; " UNITS },
	{ "5/1M", "the period \"1M\" has no known unit; " UNITS },
	{ "5/1m30s", "the period \"1m30s\" has no known unit; " UNITS },
	{ "5/-1m", "the period \"-1m\" has no known unit; " UNITS },
	{ "5/1.5m", "the period \"1.5m\" has no known unit; " UNITS },
	{ "5/1m/1s", "the period \"1m/1s\" has no known unit; " UNITS },
	{ "5 / 1m", "\"/\" is not known here; " WORDS },
	{ "5/ 1m", "the period \"\" has no known unit; " UNITS },
	{ "5/01m", "the period's number \"01\" is not a whole number; " DIGITS },
	{ "5/18446744073709551616ms", "the period's number 18446744073709551616 is too large; "
	  "write at most 18446744073709551615" },
	{ "5/18446744073709551615s", "the period 18446744073709551615s is too long; write at most "
	  "365d" },
	{ "5/0s", ZERO_PERIOD },
	{ "5/0s concurrency", ZERO_PERIOD },
	{ "5/1m burst", "no number follows \"burst\"; write \"burst 20\"" },
	{ "5/1m burst x", "the burst \"x\" is not a whole number; " DIGITS },
	{ "5/1m burst -1", "the burst \"-1\" is not a whole number; " DIGITS },
	{ "5/1m burst 0", "the burst is 0 tokens; write at least 1, or leave it out to have a "
	  "burst as large as the limit" },
	{ "5/1m burst 18446744073709551616", "the burst 18446744073709551616 is too large; write "
	  "at most 18446744073709551615" },
	{ "5/1m burst 1 burst 1", "\"burst\" stands there twice; keep one" },
	{ "5/1m 20", "\"20\" is not known here; " WORDS },
	{ "5/1m Burst 20", "\"Burst\" is not known here; " WORDS },
	{ "5/1m gcra", "\"gcra\" is not known here; " WORDS },
	{ "5/1m\n", "the period \"1m\\x0a\" has no known unit; " UNITS },
	{ "5/1m fixed-window fixed-window", "\"fixed-window\" is a second algorithm; keep one" },
	{ "5/1m token-bucket fixed-window", "\"fixed-window\" is a second algorithm; keep one" },
	{ "5/1m deny flag", "\"flag\" is a second action; keep one" },
	{ "5/1m flag", "a token-bucket limit cannot flag; use sliding-window, or the action deny" },
	{ "5/1m fixed-window flag", "a fixed-window limit cannot flag; use sliding-window, or the "
	  "action deny" },
	{ "5 concurrency flag", "a concurrency limit cannot flag; use sliding-window, or the "
	  "action deny" },
	{ "5/1m concurrency", "a concurrency limit has no period (1m); leave it out" },
	{ "5/1m sliding-window burst 6", "a sliding-window limit has no burst (6); leave it out, "
	  "or use token-bucket" },
	{ "5/1m fixed-window burst 4", "a fixed-window limit has no burst (4); leave it out, or "
	  "use token-bucket" },
	{ "5 concurrency burst 6", "a concurrency limit has no burst (6); leave it out, or use "
	  "token-bucket" },
	/* the bounds, from outside */
	{ "1/999us", "the period 999us is too short; give 1ms to 365d" },
	{ "1/999999ns", "the period 999999ns is too short; give 1ms to 365d" },
	{ "1/366d", "the period 366d is too long; give 1ms to 365d" },
	{ "1/31536000000000001ns", "the period 31536000000000001ns is too long; give 1ms to 365d" },
	{ "100000001/1s", "100000001 per 1s is more than 100000000 tokens per second; lower the "
	  "limit to at most 100000000 or lengthen the period" },
	{ "100001/1ms", "100001 per 1ms is more than 100000000 tokens per second; lower the limit "
	  "to at most 100000 or lengthen the period" },
	{ "100001/1000009ns", "100001 per 1000009ns is more than 100000000 tokens per second; "
	  "lower the limit to at most 100000 or lengthen the period" },
	{ "18446744073709551615/365d", "18446744073709551615 per 365d is more than 100000000 "
	  "tokens per second; lower the limit to at most 3153600000000000 or lengthen the period" },
	{ "1/400h burst 25", "a burst of 25 takes more than 400 days to come back at this rate; "
	  "lower it to at most 24" },
	{ "1/365d burst 2", "a burst of 2 takes more than 400 days to come back at this rate; "
	  "lower it to at most 1" },
	{ "3/7s burst 14811429", "a burst of 14811429 takes more than 400 days to come back at "
	  "this rate; lower it to at most 14811428" },
	{ "100000000/1s burst 3456000000000001", "a burst of 3456000000000001 takes more than 400 "
	  "days to come back at this rate; lower it to at most 3456000000000000" },
	{ "1/365d burst 18446744073709551615", "a burst of 18446744073709551615 takes more than "
	  "400 days to come back at this rate; lower it to at most 1" },
	{ "17592186044416/365d sliding-window", "the limit 17592186044416 is more than a "
	  "sliding-window limit can count; give at most 17592186044415, or use token-bucket" },
	{ "17592186044416/365d fixed-window", "the limit 17592186044416 is more than a "
	  "fixed-window limit can count; give at most 17592186044415, or use token-bucket" },
	{ "17592186044416 concurrency", "the limit 17592186044416 is more than a concurrency "
	  "limit can count; give at most 17592186044415" },
};

START_TEST(mistakes)
{
	struct weir_limit limit, before;
	struct weir_error error;
	const char *message;

	memset(&limit, 0x55, sizeof(limit));
	before = limit;
	ck_assert_int_eq(weir_limit_parse(bad[_i].text, &limit, &error), WEIR_EINVAL);
	ck_assert_int_eq(error.status, WEIR_EINVAL);
	ck_assert_int_eq(strncmp(error.message, "limit \"", 7), 0);
	message = strstr(error.message, "\": ");
	ck_assert_ptr_nonnull(message);
	ck_assert_str_eq(message + 3, bad[_i].message);
	ck_assert_mem_eq(&limit, &before, sizeof(limit));
	ck_assert_int_eq(weir_limit_parse(bad[_i].text, &limit, NULL), WEIR_EINVAL);
}
END_TEST

START_TEST(a_mistake_quotes_the_text)
{
	struct weir_limit limit;
	struct weir_error error;
	char text[5000];

	weir_limit_parse("5/1m\x1b[2J gcra", &limit, &error);
	ck_assert_int_eq(strncmp(error.message, "limit \"5/1m\\x1b[2J gcra\": ", 26), 0);

	memset(text, '7', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	weir_limit_parse(text, &limit, &error);
	ck_assert_ptr_nonnull(strstr(error.message, "777...\": the limit 777"));
	ck_assert_ptr_nonnull(strstr(error.message, "write at most 18446744073709551615"));
}
END_TEST

START_TEST(nothing_to_parse)
{
	struct weir_limit limit;
	struct weir_error error;

	ck_assert_int_eq(weir_limit_parse(NULL, &limit, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message,
			 "weir_limit_parse: the text is NULL; pass a text and a limit");
	ck_assert_int_eq(weir_limit_parse("1/s", NULL, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message,
			 "weir_limit_parse: the limit is NULL; pass a text and a limit");
}
END_TEST

START_TEST(format_as_snprintf)
{
	struct weir_limit limit = { 100, MINUTE, 20, BUCKET, DENY };
	char text[8] = "#######";

	ck_assert_int_eq(weir_limit_format(&limit, NULL, 0), 15);
	ck_assert_int_eq(weir_limit_format(&limit, text, 5), 15);
	ck_assert_str_eq(text, "100/");
	ck_assert_int_eq(text[5], '#');
}
END_TEST

START_TEST(format_of_the_longest)
{
	struct weir_limit limit = { UINT64_MAX, UINT64_MAX, UINT64_MAX - 1, SLIDING, FLAG };
	char text[96];

	ck_assert_int_lt(weir_limit_format(&limit, text, sizeof(text)), 96);
	ck_assert_str_eq(text, "18446744073709551615/18446744073709551615ns sliding-window "
			 "burst 18446744073709551614 flag");
}
END_TEST

/* SplitMix64: the same numbers on every run. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Of any magnitude alike, and now and then on a bound. */
static uint64_t random_count(uint64_t *state)
{
	static const uint64_t special[] = {
		0, 1, 2, MS - 1, MS, MS + 1, SECOND, MINUTE, HOUR, DAY, WEIR_PERIOD_MAX_NS,
		WEIR_PERIOD_MAX_NS + 1, WEIR_COUNT_MAX, WEIR_COUNT_MAX + 1, UINT64_MAX,
	};
	uint64_t choice = next_random(state);

	if (choice % 4 == 0)
		return special[(choice >> 8) % LENGTH(special)];
	return next_random(state) >> (choice >> 8) % 64;
}

static struct weir_limit random_limit(uint64_t *state)
{
	uint64_t choice = next_random(state);
	struct weir_limit limit = {
		.limit = random_count(state),
		.period_ns = random_count(state),
		.burst = choice % 3 ? 0 : random_count(state),
		.algorithm = (enum weir_algorithm)(choice / 3 % 4),
		.action = (enum weir_action)(choice / 12 % 8 == 0),
	};

	if (limit.algorithm == HOLDS && choice / 96 % 2)
		limit.period_ns = 0;
	/* Mostly rates that may pass. */
	if (choice / 192 % 4 && limit.limit > limit.period_ns / 10)
		limit.limit = limit.period_ns ? limit.limit % (limit.period_ns / 10 + 1) : 1;
	return limit;
}

/* The rules once more, in floating point: wrong only next to a bound, where the
 * tables above look. */
static bool roughly_valid(const struct weir_limit *limit, bool *near)
{
	long double count = limit->limit, period = limit->period_ns;
	long double burst = limit->burst ? limit->burst : limit->limit;
	long double rate = period > 0 ? count * 1e9L / period / WEIR_RATE_MAX : 0;
	long double debt = count > 0 ? burst * period / count / WEIR_DEBT_MAX_NS : 0;

	*near = (rate > 1 - 1e-12L && rate < 1 + 1e-12L) ||
		(debt > 1 - 1e-12L && debt < 1 + 1e-12L);
	if (limit->limit == 0 || (limit->action == FLAG && limit->algorithm != SLIDING))
		return false;
	if (limit->algorithm != BUCKET &&
	    (burst != count || limit->limit > WEIR_COUNT_MAX))
		return false;
	if (limit->algorithm == HOLDS)
		return limit->period_ns == 0;
	return limit->period_ns >= MS && limit->period_ns <= 365 * DAY && rate <= 1 && debt <= 1;
}

/* What is valid is written and read back unchanged; what is not is refused in
 * writing as well. */
START_TEST(round_trip_of_random_limits)
{
	uint64_t state = (uint64_t)_i;
	unsigned valid = 0;

	for (int i = 0; i < 20000; i++) {
		struct weir_limit limit = random_limit(&state), again;
		struct weir_error error;
		bool near, expected = roughly_valid(&limit, &near);
		bool checked = weir_limit_check(&limit, &error) == WEIR_OK;
		char text[96];

		/* An assertion of Check's is a system call even if it holds. */
		if (weir_limit_format(&limit, text, sizeof(text)) >= 96)
			ck_abort_msg("%s is too long", text);
		if (checked != expected && !near)
			ck_abort_msg("%s: %s", text, error.message);
		if ((weir_limit_parse(text, &again, &error) == WEIR_OK) != checked)
			ck_abort_msg("%s: %s", text, error.message);
		if (!checked)
			continue;
		valid++;
		if (limit.burst == limit.limit)
			limit.burst = 0;
		if (!same(&limit, &again))
			ck_abort_msg("%s is read back as another limit", text);
	}
	ck_assert_uint_gt(valid, 2000);
}
END_TEST

/* ---- Structs with anything in them ------------------------------------- */

static const struct {
	struct weir_limit limit;
	const char *message;
} garbage[] = {
	{ { 5, MINUTE, 0, (enum weir_algorithm)4, DENY },
	  "algorithm 4 does not exist; use one of enum weir_algorithm, 0 to 3" },
	{ { 5, MINUTE, 0, (enum weir_algorithm)-1, DENY },
	  "algorithm 4294967295 does not exist; use one of enum weir_algorithm, 0 to 3" },
	{ { 5, MINUTE, 0, SLIDING, (enum weir_action)2 },
	  "action 2 does not exist; use one of enum weir_action, 0 to 1" },
	{ { 5, MINUTE, 0, SLIDING, (enum weir_action)-1 },
	  "action 4294967295 does not exist; use one of enum weir_action, 0 to 1" },
	{ { 0, 0, 0, BUCKET, DENY }, "the limit is 0 tokens; give at least 1" },
	{ { 5, 0, 0, BUCKET, DENY }, "the period 0s is too short; give 1ms to 365d" },
	{ { 5, UINT64_MAX, 0, FIXED, DENY },
	  "the period 18446744073709551615ns is too long; give 1ms to 365d" },
	{ { 5, 1, 0, HOLDS, DENY }, "a concurrency limit has no period (1ns); leave it out" },
};

START_TEST(check_of_garbage)
{
	struct weir_error error;

	ck_assert_int_eq(weir_limit_check(&garbage[_i].limit, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message, garbage[_i].message);
	ck_assert_int_eq(weir_limit_check(&garbage[_i].limit, NULL), WEIR_EINVAL);
}
END_TEST

/* A burst that is written out, and equal to the limit, is as good as none. */
START_TEST(check_of_a_burst_of_the_limit)
{
	struct weir_limit limit = { 5, MINUTE, 5, BUCKET, DENY };

	for (unsigned algorithm = BUCKET; algorithm <= HOLDS; algorithm++) {
		limit.algorithm = (enum weir_algorithm)algorithm;
		limit.period_ns = algorithm == HOLDS ? 0 : MINUTE;
		ck_assert_int_eq(weir_limit_check(&limit, NULL), WEIR_OK);
	}
}
END_TEST

static struct weir_policy good_policy(void)
{
	return (struct weir_policy){
		.name = "api",
		.limit_count = 2,
		.limits = { { 100, MINUTE, 0, BUCKET, DENY }, { 5, 0, 0, HOLDS, DENY } },
	};
}

START_TEST(policy_that_is_strict)
{
	struct weir_policy policy = good_policy();
	struct weir_error error;

	policy.consistency = WEIR_STRICT;
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message,
			 "policy \"api\": limit 1 is of algorithm concurrency, and mode strict is for "
			 "token buckets alone; use bounded, or another algorithm");
	policy.limit_count = 1;
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_OK);
}
END_TEST

START_TEST(policy_that_is_good)
{
	struct weir_policy policy = good_policy();
	struct weir_error error;

	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_OK);
	ck_assert_int_eq(error.status, WEIR_OK);
	/* What is behind the limits that count is not looked at. */
	memset(&policy.limits[2], 0xff, sizeof(policy.limits[2]));
	policy.fail_mode = WEIR_FAIL_CLOSED;
	policy.consistency = WEIR_EVENTUAL;
	policy.shadow = true;
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_OK);
}
END_TEST

START_TEST(policy_names)
{
	struct weir_policy policy = good_policy();
	struct weir_error error;

	for (unsigned byte = 1; byte < 256; byte++) {
		bool expected = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
				(byte >= '0' && byte <= '9') || byte == '.' || byte == '_' ||
				byte == ':' || byte == '/' || byte == '-';

		policy.name[1] = (char)byte;
		ck_assert_msg((weir_policy_check(&policy, &error) == WEIR_OK) == expected,
			      "byte %u: %s", byte, error.message);
	}

	memset(policy.name, 'x', sizeof(policy.name));
	policy.name[WEIR_NAME_MAX] = '\0';
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_OK);
	policy.name[WEIR_NAME_MAX] = 'x';       /* no zero byte in the array at all */
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message,
			 "the policy's name "
			 "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" is "
			 "64 bytes long; give at most 63");
	policy.name[0] = '\0';
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message,
			 "the policy's name is empty; give 1 to 63 characters");
	strcpy(policy.name, "a\nb");
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message, "the policy's name \"a\\x0ab\" has \"\\x0a\" in it; use "
			 "letters, digits and . _ : / - only");
}
END_TEST

START_TEST(policy_garbage)
{
	struct weir_policy policy = good_policy();
	struct weir_error error;

	policy.limit_count = 0;
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message, "policy \"api\" has 0 limits; give 1 to 4");
	policy.limit_count = 5;
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message, "policy \"api\" has 5 limits; give 1 to 4");
	policy.limit_count = UINT32_MAX;
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_EINVAL);
	policy.limit_count = 2;

	policy.limits[1].period_ns = MINUTE;
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message, "policy \"api\", limit 2 (5/1m concurrency): a concurrency "
			 "limit has no period (1m); leave it out");
	policy.limits[1].period_ns = 0;

	policy.fail_mode = (enum weir_fail_mode)3;
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message, "policy \"api\": fail mode 3 does not exist; use one of "
			 "enum weir_fail_mode, 0 to 2");
	policy.fail_mode = WEIR_FAIL_OPEN;

	policy.consistency = (enum weir_consistency)-1;
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message, "policy \"api\": consistency 4294967295 does not exist; "
			 "use one of enum weir_consistency, 0 to 3");
	policy.consistency = WEIR_LOCAL;

	memset(&policy.shadow, 2, sizeof(policy.shadow));
	ck_assert_int_eq(weir_policy_check(&policy, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message, "policy \"api\": shadow is neither false nor true (2); "
			 "clear the struct before filling it in");
}
END_TEST

/* Any bytes at all: an answer, and a message that is a sentence. */
START_TEST(policy_of_random_bytes)
{
	uint64_t state = 1;

	for (int i = 0; i < 20000; i++) {
		struct weir_policy policy = good_policy();
		unsigned char *bytes = (unsigned char *)&policy;
		struct weir_error error;

		for (unsigned changes = 0; changes < 3; changes++) {
			uint64_t random = next_random(&state);

			bytes[random % sizeof(policy)] = (unsigned char)(random >> 32);
		}
		if (weir_policy_check(&policy, &error) == WEIR_OK)
			continue;
		if (error.status != WEIR_EINVAL || !strchr(error.message, ';') ||
		    strlen(error.message) == sizeof(error.message) - 1)
			ck_abort_msg("status %d: %s", error.status, error.message);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("limit");
	TCase *texts = tcase_create("texts");
	TCase *structs = tcase_create("structs");

	tcase_add_loop_test(texts, read_and_write_back, 0, LENGTH(good));
	tcase_add_loop_test(texts, mistakes, 0, LENGTH(bad));
	tcase_add_test(texts, a_mistake_quotes_the_text);
	tcase_add_test(texts, nothing_to_parse);
	tcase_add_test(texts, format_as_snprintf);
	tcase_add_test(texts, format_of_the_longest);
	tcase_add_loop_test(texts, round_trip_of_random_limits, 0, 4);
	suite_add_tcase(suite, texts);

	tcase_add_loop_test(structs, check_of_garbage, 0, LENGTH(garbage));
	tcase_add_test(structs, check_of_a_burst_of_the_limit);
	tcase_add_test(structs, policy_that_is_good);
	tcase_add_test(structs, policy_that_is_strict);
	tcase_add_test(structs, policy_names);
	tcase_add_test(structs, policy_garbage);
	tcase_add_test(structs, policy_of_random_bytes);
	suite_add_tcase(suite, structs);

	return suite_run(suite);
}
