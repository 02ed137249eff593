/* SPDX-License-Identifier: Apache-2.0 */
#include "top.h"

#include <stdlib.h>
#include <string.h>

bool top_init(struct top *top, size_t capacity)
{
	*top = (struct top){ .capacity = capacity };
	top->buckets = calloc(capacity, sizeof(*top->buckets));
	return top->buckets != NULL;
}

void top_free(struct top *top)
{
	free(top->buckets);
	*top = (struct top){ 0 };
}

void top_take(struct top *top, const struct weir *weir, uint64_t now_ns, enum weir_top_order order)
{
	top->order = order;
	top->count = weir_top(weir, now_ns, order, top->buckets, top->capacity);
}

static uint64_t value_of(enum weir_top_order order, const struct weir_bucket *bucket)
{
	return order == WEIR_TOP_DENIED ? bucket->denied_sampled : bucket->consumed;
}

bool top_growth(const struct top *previous, const struct weir_bucket *bucket, uint64_t *growth)
{
	uint64_t value = value_of(previous->order, bucket);

	for (size_t i = 0; i < previous->count; i++) {
		const struct weir_bucket *before = &previous->buckets[i];

		if (before->limit_index != bucket->limit_index ||
		    memcmp(before->fingerprint, bucket->fingerprint,
			   sizeof(bucket->fingerprint)) != 0)
			continue;
		*growth = value - value_of(previous->order, before);
		return value >= value_of(previous->order, before);
	}
	return false;
}
