/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_clock.c - the time stamp counter as a clock: always near the kernel's, and
 * back there after a jump.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/counter.h"
#include "src/handle.h"
#include "tests/support.h"
#include "weir.h"

#define NEAR_NS 1000000u        /* slewing makes up to 0.1 ms; the rest is slack */
#define LASTS_NS 600000000u     /* a calibration, at 1 GHz at the slowest */
#define PATIENCE_NS 10000000000ull

static struct weir *weir;

static void open_segment(void)
{
	struct weir_options options;
	struct weir_error error;
	char name[64];

	weir_options_init(&options);
	options.clock = WEIR_CLOCK_TSC;
	snprintf(name, sizeof(name), "weir-test-clock-%ld", (long)getpid());
	ck_assert_msg(weir_create(name, &options, &error) == 0, "%s", error.message);
	ck_assert_msg(weir_open(name, &weir, &error) == 0, "%s", error.message);
	weir_remove(name, NULL);
}

static void close_segment(void)
{
	weir_close(weir);
}

static struct segment *segment(void)
{
	return handle_control(weir);
}

static bool is_valid(void)
{
	return segment()->header->ticks.calibration.second & CALIBRATION_VALID;
}

/* Between two readings of the kernel's clock, or near them. */
static void is_near(void)
{
	uint64_t before = clock_ns(CLOCK_BOOTTIME);
	uint64_t now = weir_now_ns(weir);
	uint64_t after = clock_ns(CLOCK_BOOTTIME);

	ck_assert_uint_ge(now + NEAR_NS, before);
	ck_assert_uint_le(now, after + NEAR_NS);
}

/* Read the clock until a calibration is valid: it takes a few of them. */
static void wait_until_valid(void)
{
	uint64_t begin = clock_ns(CLOCK_BOOTTIME);

	while (!is_valid()) {
		is_near();
		ck_assert_uint_le(clock_ns(CLOCK_BOOTTIME), begin + PATIENCE_NS);
	}
}

static bool skip(void)
{
	if (segment()->has_ticks)
		return false;
	fprintf(stderr, "this kernel does not trust the time stamp counter: not tested\n");
	return true;
}

START_TEST(it_is_near_the_kernels)
{
	if (skip())
		return;
	wait_until_valid();
	for (int i = 0; i < 100000; i++)
		is_near();
	ck_assert_uint_eq(counter_sum_global(segment(), COUNTER_CLOCK_JUMPS), 0);
}
END_TEST

/* A calibration that is far off, as a suspension or a migration leaves it: all that
 * is read once it has run out is near the kernel's time again. */
START_TEST(it_recovers_from_a_jump)
{
	struct word_pair *calibration = &segment()->header->ticks.calibration;
	uint64_t begin;

	if (skip())
		return;
	wait_until_valid();
	calibration->first += _i ? 3600000000000ull : -3600000000000ull;
	begin = clock_ns(CLOCK_BOOTTIME);
	while (is_valid()) {
		weir_now_ns(weir);
		ck_assert_uint_le(clock_ns(CLOCK_BOOTTIME), begin + PATIENCE_NS);
	}
	ck_assert_uint_eq(counter_sum_global(segment(), COUNTER_CLOCK_JUMPS), 1);
	wait_until_valid();
	is_near();
}
END_TEST

/* Whatever is written there, there is a time, and in the end the right one. */
START_TEST(it_recovers_from_any_words)
{
	static const struct word_pair words[] = {
		{ UINT64_MAX, UINT64_MAX },
		{ 1, CALIBRATION_VALID },
		{ 1ull << 63, CALIBRATION_RATIO_MASK },
	};
	struct word_pair *calibration = &segment()->header->ticks.calibration;
	uint64_t begin;

	if (skip())
		return;
	*calibration = words[_i];
	begin = clock_ns(CLOCK_BOOTTIME);
	while (clock_ns(CLOCK_BOOTTIME) < begin + LASTS_NS)
		weir_now_ns(weir);
	wait_until_valid();
	is_near();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("clock");
	TCase *test_case = tcase_create("clock");

	tcase_add_checked_fixture(test_case, open_segment, close_segment);
	tcase_set_timeout(test_case, 60);
	tcase_add_test(test_case, it_is_near_the_kernels);
	tcase_add_loop_test(test_case, it_recovers_from_a_jump, 0, 2);
	tcase_add_loop_test(test_case, it_recovers_from_any_words, 0, 3);
	suite_add_tcase(suite, test_case);
	return support_main(suite);
}
