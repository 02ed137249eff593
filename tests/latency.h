/* SPDX-License-Identifier: Apache-2.0 */
/* latency.h - a histogram of nanoseconds, exact to a sixteenth; to be printed,
 * never to be asserted on. */
#ifndef WEIR_TESTS_LATENCY_H
#define WEIR_TESTS_LATENCY_H

#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define LATENCY_CELLS (64 * 16)

struct latency {
	uint64_t count;
	uint64_t cells[LATENCY_CELLS];
};

static inline uint64_t latency_clock_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Below 16 ns a cell each, then 16 cells to each power of two. */
static inline void latency_add(struct latency *latency, uint64_t value_ns)
{
	unsigned shift = value_ns < 16 ? 0 : 59 - (unsigned)__builtin_clzll(value_ns);

	latency->cells[shift * 16 + (value_ns >> shift)]++;
	latency->count++;
}

/* The latency that a share of 1 / ONE_IN of the samples exceeds, at most. */
static inline uint64_t latency_exceeded_by(const struct latency *latency, uint64_t one_in)
{
	uint64_t allowed = latency->count / one_in, above = 0;

	for (unsigned i = LATENCY_CELLS; i-- > 0;) {
		above += latency->cells[i];
		if (above > allowed)
			return i < 32 ? i : (uint64_t)(i % 16 + 16) << (i / 16 - 1);
	}
	return 0;
}

static inline void latency_print(const char *what, const struct latency *latency)
{
	printf("%s: %llu, p50 %llu ns, p99 %llu ns, p99.9 %llu ns, p99.99 %llu ns\n", what,
	       (unsigned long long)latency->count,
	       (unsigned long long)latency_exceeded_by(latency, 2),
	       (unsigned long long)latency_exceeded_by(latency, 100),
	       (unsigned long long)latency_exceeded_by(latency, 1000),
	       (unsigned long long)latency_exceeded_by(latency, 10000));
}

#endif
