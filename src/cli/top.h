/* SPDX-License-Identifier: Apache-2.0 */
/*
 * top.h - the buckets with the largest values, picked from all in one pass and
 * in memory for those alone.
 */
#ifndef WEIR_CLI_TOP_H
#define WEIR_CLI_TOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir.h"

enum top_order {
	TOP_CONSUMED = 0,
	TOP_DENIED = 1,
};

struct top {
	enum top_order order;
	size_t capacity;
	size_t count;
	struct weir_bucket *buckets;    /* a heap, least on top; then sorted */
};

/* Returns false if there is no memory. */
bool top_init(struct top *top, size_t capacity);
void top_free(struct top *top);

/* Begin anew, by ORDER. */
void top_clear(struct top *top, enum top_order order);

/* A visitor for weir_each_bucket(), CONTEXT being the top. */
bool top_visit(const struct weir_bucket *bucket, void *context);

/* Sort what was picked, largest first.  No more visits until top_clear(). */
void top_sort(struct top *top);

/* What BUCKET is ordered by. */
uint64_t top_value(enum top_order order, const struct weir_bucket *bucket);

/* How much BUCKET's value grew since PREVIOUS was picked.  Returns false if it
 * was not among them, or has begun anew. */
bool top_growth(const struct top *previous, const struct weir_bucket *bucket, uint64_t *growth);

#endif
