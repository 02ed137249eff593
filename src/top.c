/* SPDX-License-Identifier: Apache-2.0 */
/*
 * top.c - the buckets with the largest values, picked from all in one pass and
 * in memory for those alone: a heap with the least of them on top.
 */
#include "src/top.h"

#include <stdlib.h>
#include <string.h>

uint64_t top_value(enum weir_top_order order, const struct weir_bucket *bucket)
{
	return order == WEIR_TOP_DENIED ? bucket->denied_sampled : bucket->consumed;
}

/* Equal values are ordered by fingerprint, so that rows do not jump about. */
static int compare(enum weir_top_order order, const struct weir_bucket *a, const struct weir_bucket *b)
{
	uint64_t a_value = top_value(order, a);
	uint64_t b_value = top_value(order, b);
	int difference;

	if (a_value != b_value)
		return a_value < b_value ? -1 : 1;
	difference = memcmp(b->fingerprint, a->fingerprint, sizeof(a->fingerprint));
	if (difference != 0)
		return difference;
	return (a->limit_index < b->limit_index) - (a->limit_index > b->limit_index);
}

static void place(struct top *top, size_t position, const struct weir_bucket *bucket)
{
	if (&top->buckets[position] != bucket)
		top->buckets[position] = *bucket;
}

/* BUCKET rises from the free place POSITION. */
static void sift_up(struct top *top, size_t position, const struct weir_bucket *bucket)
{
	while (position > 0) {
		size_t parent = (position - 1) / 2;

		if (compare(top->order, &top->buckets[parent], bucket) <= 0)
			break;
		place(top, position, &top->buckets[parent]);
		position = parent;
	}
	place(top, position, bucket);
}

/* BUCKET sinks from the free place on top. */
static void sift_down(struct top *top, const struct weir_bucket *bucket)
{
	size_t position = 0;

	for (;;) {
		size_t child = 2 * position + 1;

		if (child >= top->count)
			break;
		if (child + 1 < top->count &&
		    compare(top->order, &top->buckets[child + 1], &top->buckets[child]) < 0)
			child++;
		if (compare(top->order, bucket, &top->buckets[child]) <= 0)
			break;
		place(top, position, &top->buckets[child]);
		position = child;
	}
	place(top, position, bucket);
}

bool top_visit(const struct weir_bucket *bucket, void *context)
{
	struct top *top = context;

	if (top_value(top->order, bucket) == 0)
		return true;
	if (top->count < top->capacity)
		sift_up(top, top->count++, bucket);
	else if (compare(top->order, bucket, &top->buckets[0]) > 0)
		sift_down(top, bucket);
	return true;
}

static int compare_descending(const void *a, const void *b, void *context)
{
	const enum weir_top_order *order = context;

	return compare(*order, b, a);
}

void top_sort(struct top *top)
{
	qsort_r(top->buckets, top->count, sizeof(*top->buckets), compare_descending, &top->order);
}

size_t weir_top(const struct weir *weir, uint64_t now_ns, enum weir_top_order order,
		struct weir_bucket *buckets, size_t capacity)
{
	struct top top = { .order = order, .capacity = capacity, .buckets = buckets };

	if (capacity > 0)
		weir_each_bucket(weir, now_ns, top_visit, &top);
	top_sort(&top);
	return top.count;
}
