/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-latency.h"

#include <stdlib.h>

static int compare_samples(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a;
	uint32_t right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

static uint32_t nearest_rank(const uint32_t *sorted, size_t count, unsigned thousandths)
{
	/* count x thousandths / 1000, rounded up, without the overflow. */
	size_t rank = count / 1000 * thousandths + (count % 1000 * thousandths + 999) / 1000;

	return sorted[rank - 1];
}

void replay_latency_of(uint32_t *samples, size_t count, struct replay_latency *latency)
{
	qsort(samples, count, sizeof(*samples), compare_samples);
	latency->p50_ns = nearest_rank(samples, count, 500);
	latency->p99_ns = nearest_rank(samples, count, 990);
	latency->p99_9_ns = nearest_rank(samples, count, 999);
	latency->max_ns = samples[count - 1];
}
