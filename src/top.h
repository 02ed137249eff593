/* SPDX-License-Identifier: Apache-2.0 */
/* top.h - picking the largest buckets. */
#ifndef WEIR_TOP_H
#define WEIR_TOP_H

#include "weir.h"

struct top {
	enum weir_top_order order;
	size_t capacity;                /* at least 1 */
	size_t count;
	struct weir_bucket *buckets;    /* a heap, least on top; then sorted */
};

/* A visitor for weir_each_bucket(), CONTEXT being the top. */
bool top_visit(const struct weir_bucket *bucket, void *context);

/* Sort what was picked, largest first.  No more visits after it. */
void top_sort(struct top *top);

/* What BUCKET is ordered by. */
uint64_t top_value(enum weir_top_order order, const struct weir_bucket *bucket);

#endif
