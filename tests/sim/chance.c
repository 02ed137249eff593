/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chance.c - what differs from one process to the next, kept from runs.
 *
 * What.  The functions by which the library would read a clock, draw a number or learn
 * which process it is, in place of libc's.  While a run lasts, no clock may be read:
 * hosts have their own, and give the time to all that they ask.  Numbers are drawn from
 * the seed, and the process is always the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shm/note.h"
#include "tests/sim/sim.h"

static bool running;

void chance_begin(void)
{
	running = true;
	/* Otherwise it goes on from where the last run left it, or begins by an address. */
	weir_note_random = 1;
}

void chance_end(void)
{
	running = false;
}

static void refuse(const char *what, long number)
{
	fprintf(stderr, "seed %llu: %s %ld is read %.6f ms after the run began; give what reads it "
		"the time of a host (host_now())\n", (unsigned long long)world.scenario.seed, what,
		number, (double)world.now_ns / 1e6);
	abort();
}

int clock_gettime(clockid_t id, struct timespec *now)
{
	if (running)
		refuse("clock", (long)id);
	return (int)syscall(SYS_clock_gettime, id, now);
}

ssize_t getrandom(void *bytes, size_t size, unsigned flags)
{
	if (!running)
		return syscall(SYS_getrandom, bytes, size, flags);
	for (size_t done = 0; done < size; done += sizeof(uint64_t)) {
		uint64_t random = sim_random(STREAM_IDENTITY);
		size_t some = size - done < sizeof(random) ? size - done : sizeof(random);

		memcpy((unsigned char *)bytes + done, &random, some);
	}
	return (ssize_t)size;
}

pid_t getpid(void)
{
	return running ? 1 : (pid_t)syscall(SYS_getpid);
}
