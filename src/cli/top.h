/* SPDX-License-Identifier: Apache-2.0 */
/* top.h - the largest buckets at one time, and how they grew since another. */
#ifndef WEIR_CLI_TOP_H
#define WEIR_CLI_TOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir.h"

struct top {
	enum weir_top_order order;
	size_t capacity;
	size_t count;
	struct weir_bucket *buckets;    /* largest first */
};

/* Returns false if there is no memory. */
bool top_init(struct top *top, size_t capacity);
void top_free(struct top *top);

/* Take the largest buckets of WEIR at NOW_NS, by ORDER. */
void top_take(struct top *top, const struct weir *weir, uint64_t now_ns,
	      enum weir_top_order order);

/* How much BUCKET's value grew since PREVIOUS was taken.  Returns false if it was
 * not among them, or has begun anew. */
bool top_growth(const struct top *previous, const struct weir_bucket *bucket, uint64_t *growth);

#endif
