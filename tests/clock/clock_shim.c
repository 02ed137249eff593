/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock_shim.c - for LD_PRELOAD: the wall clock of a program, stepped at any time by
 * the seconds (an int64_t) in the file that CLOCK_SHIM_FILE names.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t none;
static const int64_t *step_s = &none;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("CLOCK_SHIM_FILE");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *map = fd >= 0 ? mmap(NULL, sizeof(*step_s), PROT_READ, MAP_SHARED, fd, 0) :
			      MAP_FAILED;

	if (map == MAP_FAILED)
		abort();
	step_s = map;
	close(fd);
}

static time_t step_of_now(void)
{
	return (time_t)__atomic_load_n(step_s, __ATOMIC_RELAXED);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long result = syscall(SYS_clock_gettime, clock, now);

	if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += step_of_now();
	return (int)result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec exact;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &exact);
	now->tv_sec = exact.tv_sec;
	now->tv_usec = exact.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *seconds)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (seconds)
		*seconds = now.tv_sec;
	return now.tv_sec;
}
