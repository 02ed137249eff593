/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - the kernel's clocks, in nanoseconds. */
#ifndef WEIR_SHM_CLOCK_H
#define WEIR_SHM_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t id)
{
	struct timespec time;

	clock_gettime(id, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

#endif
