/* SPDX-License-Identifier: Apache-2.0 */
/* How `weir top` picks the largest buckets of all. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "src/cli/top.h"

#define BUCKETS 1000

/* A bucket whose fingerprint is its number. */
static struct weir_bucket make_bucket(uint32_t number, uint64_t consumed, uint64_t denied)
{
	struct weir_bucket bucket = { .consumed = consumed, .denied_sampled = denied };

	for (unsigned i = 0; i < sizeof(number); i++)
		bucket.fingerprint[i] = (uint8_t)(number >> (24 - 8 * i));
	return bucket;
}

static void visit(struct top *top, uint32_t number, uint64_t consumed, uint64_t denied)
{
	struct weir_bucket bucket = make_bucket(number, consumed, denied);

	ck_assert(top_visit(&bucket, top));
}

/* Of the values 1 to BUCKETS in some order, the largest in descending order. */
START_TEST(picks_the_largest)
{
	static const size_t capacities[] = { 1, 2, 3, 20, BUCKETS, BUCKETS + 1 };
	size_t capacity = capacities[_i / 2];
	enum top_order order = _i % 2 ? TOP_DENIED : TOP_CONSUMED;
	size_t expected = capacity < BUCKETS ? capacity : BUCKETS;
	struct top top;

	ck_assert(top_init(&top, capacity));
	top_clear(&top, order);
	for (uint32_t i = 0; i < BUCKETS; i++) {
		uint32_t value = i * 7919u % BUCKETS + 1;       /* coprime: a permutation */

		visit(&top, i, order == TOP_CONSUMED ? value : 1, order == TOP_DENIED ? value : 1);
	}
	top_sort(&top);
	ck_assert_uint_eq(top.count, expected);
	for (size_t i = 0; i < expected; i++)
		ck_assert_uint_eq(top_value(order, &top.buckets[i]), BUCKETS - i);
	top_free(&top);
}
END_TEST

START_TEST(leaves_out_zero)
{
	struct top top;

	ck_assert(top_init(&top, 4));
	top_clear(&top, TOP_DENIED);
	visit(&top, 1, 5, 0);
	visit(&top, 2, 5, 1);
	top_sort(&top);
	ck_assert_uint_eq(top.count, 1);
	ck_assert_uint_eq(top.buckets[0].denied_sampled, 1);

	top_clear(&top, TOP_CONSUMED);
	ck_assert_uint_eq(top.count, 0);
	top_free(&top);
}
END_TEST

/* Whatever the order of the visits, so that rows stay where they are. */
START_TEST(equal_values_have_an_order)
{
	struct top top;

	for (unsigned turn = 0; turn < 2; turn++) {
		ck_assert(top_init(&top, 3));
		top_clear(&top, TOP_CONSUMED);
		for (uint32_t i = 0; i < 10; i++)
			visit(&top, turn ? 9 - i : i, 5, 0);
		top_sort(&top);
		ck_assert_uint_eq(top.count, 3);
		for (uint32_t i = 0; i < 3; i++)
			ck_assert_uint_eq(top.buckets[i].fingerprint[3], i);
		top_free(&top);
	}
}
END_TEST

START_TEST(growth)
{
	struct weir_bucket bucket = make_bucket(7, 25, 0);
	uint64_t grown;
	struct top top;

	ck_assert(top_init(&top, 2));
	top_clear(&top, TOP_CONSUMED);
	ck_assert(!top_growth(&top, &bucket, &grown));
	visit(&top, 7, 20, 0);
	visit(&top, 8, 30, 0);
	ck_assert(top_growth(&top, &bucket, &grown));
	ck_assert_uint_eq(grown, 5);

	bucket.limit_index = 1;                 /* another bucket of the key */
	ck_assert(!top_growth(&top, &bucket, &grown));
	bucket = make_bucket(8, 29, 0);         /* a new window */
	ck_assert(!top_growth(&top, &bucket, &grown));
	bucket = make_bucket(8, 30, 0);
	ck_assert(top_growth(&top, &bucket, &grown));
	ck_assert_uint_eq(grown, 0);
	top_free(&top);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pick");
	TCase *tests = tcase_create("pick");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tests, picks_the_largest, 0, 12);
	tcase_add_test(tests, leaves_out_zero);
	tcase_add_test(tests, equal_values_have_an_order);
	tcase_add_test(tests, growth);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
