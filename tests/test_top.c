/* SPDX-License-Identifier: Apache-2.0 */
/* How weir_top() picks the largest buckets of all. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "src/top.h"
#include "tests/suite.h"

#define BUCKETS 1000

/* A bucket whose fingerprint is its number. */
static struct weir_bucket make_bucket(uint32_t number, uint64_t consumed, uint64_t denied)
{
	struct weir_bucket bucket = { .consumed = consumed, .denied_sampled = denied };

	for (unsigned i = 0; i < sizeof(number); i++)
		bucket.fingerprint[i] = (uint8_t)(number >> (24 - 8 * i));
	return bucket;
}

/* Picks up to CAPACITY, by ORDER. */
static struct top make_top(size_t capacity, enum weir_top_order order)
{
	struct top top = { .order = order, .capacity = capacity };

	top.buckets = calloc(capacity, sizeof(*top.buckets));
	ck_assert_ptr_nonnull(top.buckets);
	return top;
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
	enum weir_top_order order = _i % 2 ? WEIR_TOP_DENIED : WEIR_TOP_CONSUMED;
	size_t expected = capacity < BUCKETS ? capacity : BUCKETS;
	struct top top = make_top(capacity, order);

	for (uint32_t i = 0; i < BUCKETS; i++) {
		uint32_t value = i * 7919u % BUCKETS + 1;       /* coprime: a permutation */

		visit(&top, i, order == WEIR_TOP_CONSUMED ? value : 1, order == WEIR_TOP_DENIED ? value : 1);
	}
	top_sort(&top);
	ck_assert_uint_eq(top.count, expected);
	for (size_t i = 0; i < expected; i++)
		ck_assert_uint_eq(top_value(order, &top.buckets[i]), BUCKETS - i);
	free(top.buckets);
}
END_TEST

START_TEST(leaves_out_zero)
{
	struct top top = make_top(4, WEIR_TOP_DENIED);

	visit(&top, 1, 5, 0);
	visit(&top, 2, 5, 1);
	top_sort(&top);
	ck_assert_uint_eq(top.count, 1);
	ck_assert_uint_eq(top.buckets[0].denied_sampled, 1);
	free(top.buckets);
}
END_TEST

/* Whatever the order of the visits, so that rows stay where they are. */
START_TEST(equal_values_have_an_order)
{
	for (unsigned turn = 0; turn < 2; turn++) {
		struct top top = make_top(3, WEIR_TOP_CONSUMED);

		for (uint32_t i = 0; i < 10; i++)
			visit(&top, turn ? 9 - i : i, 5, 0);
		top_sort(&top);
		ck_assert_uint_eq(top.count, 3);
		for (uint32_t i = 0; i < 3; i++)
			ck_assert_uint_eq(top.buckets[i].fingerprint[3], i);
		free(top.buckets);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("top");
	TCase *tests = tcase_create("top");

	tcase_add_loop_test(tests, picks_the_largest, 0, 12);
	tcase_add_test(tests, leaves_out_zero);
	tcase_add_test(tests, equal_values_have_an_order);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
