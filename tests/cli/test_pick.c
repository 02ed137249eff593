/* SPDX-License-Identifier: Apache-2.0 */
/* How `weir top` tells how fast a bucket grows. */
#include <check.h>
#include <string.h>

#include "src/cli/top.h"
#include "tests/suite.h"

/* A bucket whose fingerprint is its number. */
static struct weir_bucket make_bucket(uint32_t number, uint64_t consumed, uint64_t denied)
{
	struct weir_bucket bucket = { .consumed = consumed, .denied_sampled = denied };

	for (unsigned i = 0; i < sizeof(number); i++)
		bucket.fingerprint[i] = (uint8_t)(number >> (24 - 8 * i));
	return bucket;
}

/* BUCKET was taken. */
static void add(struct top *top, uint32_t number, uint64_t consumed)
{
	top->buckets[top->count++] = make_bucket(number, consumed, 0);
}

START_TEST(growth)
{
	struct weir_bucket bucket = make_bucket(7, 25, 0);
	uint64_t grown;
	struct top top;

	ck_assert(top_init(&top, 2));
	ck_assert(!top_growth(&top, &bucket, &grown));
	add(&top, 7, 20);
	add(&top, 8, 30);
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

	tcase_add_test(tests, growth);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
