/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - the clocks, in nanoseconds.
 *
 * The kernel's CLOCK_BOOTTIME costs about as much as all the rest of a decision: its
 * reading waits for everything before it.  A segment with WEIR_CLOCK_TSC reads the
 * processor's time stamp counter instead, and turns ticks into the same nanoseconds
 * by a calibration that all processes share: see clock.c.
 */
#ifndef WEIR_SHM_CLOCK_H
#define WEIR_SHM_CLOCK_H

#include <stdint.h>
#include <time.h>

#include "shm/segment.h"

static inline uint64_t clock_ns(clockid_t id)
{
	struct timespec time;

	clock_gettime(id, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A calibration, as a pair of words.  first: the time at which a unit of ticks began;
 * second: CALIBRATION_VALID, the unit's number modulo 2^29, and nanoseconds a tick
 * as a fraction of 2^34. */
#define CALIBRATION_UNIT_BITS 27u       /* of ticks: 34 ms at 4 GHz */
#define CALIBRATION_RATIO_BITS 34u
#define CALIBRATION_RATIO_MASK ((1ull << CALIBRATION_RATIO_BITS) - 1)
#define CALIBRATION_NUMBER_MASK ((1ull << 29) - 1)
#define CALIBRATION_VALID (1ull << 63)
#define CALIBRATION_TICKS_MAX (1ull << 29)      /* it is good for: 134 ms at 4 GHz */

/* The calibration that this thread used last, unpacked. */
struct clock_cache {
	uint64_t second;                /* the calibration's second word, VALID */
	uint64_t first_tick;
	uint64_t first_ns;
	uint64_t ratio;
};
extern WEIR_HIDDEN _Thread_local struct clock_cache weir_clock_cache;

/* The time where the cache does not tell it: after the next calibration, or without
 * a good one. */
uint64_t clock_refresh_ns(const struct segment *segment);

/* May this machine's time stamp counter be used?  The kernel says. */
bool clock_has_ticks(void);

static inline uint64_t clock_ticks(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return 0;
#endif
}

/* The time of a segment that has ticks, if the cache tells it. */
static inline bool clock_cached_ns(const struct segment_header *header, uint64_t *now_ns)
{
	const struct clock_cache *cache = &weir_clock_cache;
	uint64_t second = atomic_load_acquire(&header->ticks.calibration.second); /* E13 */
	uint64_t ticks = clock_ticks() - cache->first_tick;

	/* The same calibration, and few ticks since, in one comparison. */
	if (__builtin_expect((ticks | (second ^ cache->second)) >= CALIBRATION_TICKS_MAX, 0))
		return false;
	*now_ns = cache->first_ns + (ticks * cache->ratio >> CALIBRATION_RATIO_BITS);
	return true;
}

/* The segment's time. */
static inline uint64_t clock_now_ns(const struct segment *segment)
{
	uint64_t now_ns;

	if (!segment->has_ticks)
		return clock_ns(CLOCK_BOOTTIME);
	return clock_cached_ns(segment->header, &now_ns) ? now_ns : clock_refresh_ns(segment);
}

#endif
