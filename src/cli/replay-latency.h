/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_CLI_REPLAY_LATENCY_H
#define WEIR_CLI_REPLAY_LATENCY_H

#include <stddef.h>
#include <stdint.h>

struct replay_latency {
	uint64_t p50_ns;
	uint64_t p99_ns;
	uint64_t p99_9_ns;
	uint64_t max_ns;
};

/* The percentiles of COUNT (at least 1) SAMPLES in ns, which this sorts.  By
 * nearest rank: a percentile is a sample, the least one that P % of them do not
 * exceed. */
void replay_latency_of(uint32_t *samples, size_t count, struct replay_latency *latency);

#endif
