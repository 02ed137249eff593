/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c - from ticks of the processor to the kernel's time.
 *
 * What.  A calibration is a point (a tick, its CLOCK_BOOTTIME) and a slope.  It is
 * good for a tenth of a second or so; whoever finds it older reads the kernel's
 * clock, and puts a new one in its place: the point is now, the slope is that from
 * the old point.  So the error is what the kernel's clock is slewed in that time (at
 * most 500 ppm, 70 us), and what a reading of both clocks is apart (below 1 us).
 *
 * A slope that differs from the last one by more than a thousandth is a jump: the
 * machine was suspended, or moved to another host.  The calibration is then not
 * valid, everybody reads the kernel's clock, and the next ones, each from the point
 * of the one before, settle it.  A jump that falls between two calibrations shows
 * for the rest of that tenth of a second.
 *
 * Which point it is: the beginning of a unit of 2^27 ticks, so that a number of few
 * bits tells it, and point and slope fit the 16 bytes of one compare-and-swap.
 *
 * Crash.  Nothing is half made.  Hostile: whoever can write the segment can bend
 * its time, as they could its buckets.
 *
 * Ordering.  E13: the calibration's compare-and-swap -> the loads of its words.
 *
 * References: the kernel's own way, Documentation/virt/kvm/x86/timekeeping.rst and
 * lib/vdso/gettimeofday.c.
 */
#include "shm/clock.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "shm/counter.h"

_Thread_local struct clock_cache weir_clock_cache;

#define READING_TICKS_MAX 8192u         /* of both clocks: else something came between */
#define JUMP_SHARE 1024u                /* a slope this much apart from the last */

bool clock_has_ticks(void)
{
	char name[8] = "";
	ssize_t length;
	int fd;

#ifndef __x86_64__
	return false;
#endif
	/* The kernel measures the counter against other clocks, and does not use one
	 * that stops, wanders, or differs between processors. */
	fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
		  O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	length = read(fd, name, sizeof(name) - 1);
	close(fd);
	return length >= 3 && strncmp(name, "tsc\n", 4) == 0;
}

/* Ticks from the beginning of the calibration's unit to TICKS. */
static uint64_t calibration_ticks(uint64_t second, uint64_t ticks)
{
	uint64_t number = second >> CALIBRATION_RATIO_BITS & CALIBRATION_NUMBER_MASK;
	uint64_t range = (CALIBRATION_NUMBER_MASK + 1) << CALIBRATION_UNIT_BITS;

	return (ticks - (number << CALIBRATION_UNIT_BITS)) & (range - 1);
}

/* The slope from the point of OLD to (TICKS, NOW); 0: no slope of a clock. */
static uint64_t slope(struct word_pair old, uint64_t ticks, uint64_t now_ns)
{
	unsigned __int128 ns = (unsigned __int128)(now_ns - old.first) << CALIBRATION_RATIO_BITS;
	uint64_t passed = calibration_ticks(old.second, ticks);

	if (passed == 0 || now_ns <= old.first || ns / passed > CALIBRATION_RATIO_MASK)
		return 0;
	return (uint64_t)(ns / passed);
}

static struct word_pair calibration(uint64_t ticks, uint64_t now_ns, uint64_t ratio, bool valid)
{
	uint64_t number = ticks >> CALIBRATION_UNIT_BITS & CALIBRATION_NUMBER_MASK;
	uint64_t passed = ticks & ((1ull << CALIBRATION_UNIT_BITS) - 1);

	return (struct word_pair){
		.first = now_ns - (passed * ratio >> CALIBRATION_RATIO_BITS),
		.second = (valid ? CALIBRATION_VALID : 0) | number << CALIBRATION_RATIO_BITS | ratio,
	};
}

static uint64_t calibrate(const struct segment *segment)
{
	struct word_pair *shared = &segment->header->ticks.calibration, old, next;
	uint64_t before = clock_ticks();
	uint64_t now_ns = clock_ns(CLOCK_BOOTTIME);
	uint64_t after = clock_ticks(), ticks = before + (after - before) / 2;
	uint64_t last, ratio, apart;

	/* Torn or old, the compare-and-swap tells. */
	old.second = atomic_load_acquire(&shared->second);              /* E13 */
	old.first = atomic_load_acquire(&shared->first);                /* E13 */
	if (after - before > READING_TICKS_MAX ||
	    (old.first != 0 && calibration_ticks(old.second, ticks) < CALIBRATION_TICKS_MAX))
		return now_ns;
	last = old.second & CALIBRATION_RATIO_MASK;
	ratio = old.first ? slope(old, ticks, now_ns) : 0;
	apart = ratio > last ? ratio - last : last - ratio;
	if (ratio == 0) {
		/* The first one of the segment; or the counter does not go with the clock.
		 * Half a nanosecond a tick is as good a guess as any. */
		next = calibration(ticks, now_ns, last ? last : 1ull << (CALIBRATION_RATIO_BITS - 1),
				   false);
	} else {
		next = calibration(ticks, now_ns, ratio, apart <= last / JUMP_SHARE);
	}
	if (atomic_cas_pair_full(shared, old, next) &&                  /* E13 */
	    (old.second & CALIBRATION_VALID) && !(next.second & CALIBRATION_VALID))
		counter_add_global(segment, COUNTER_CLOCK_JUMPS, 1);
	return now_ns;
}

uint64_t clock_refresh_ns(const struct segment *segment)
{
	const struct word_pair *shared = &segment->header->ticks.calibration;
	uint64_t second = atomic_load_acquire(&shared->second);         /* E13 */
	uint64_t first = atomic_load_acquire(&shared->first);           /* E13 */
	uint64_t now = clock_ticks(), ticks = calibration_ticks(second, now);

	/* No second word comes twice: read again, it tells that both belong together. */
	if (!(second & CALIBRATION_VALID) || ticks >= CALIBRATION_TICKS_MAX ||
	    atomic_load_acquire(&shared->second) != second)             /* E13 */
		return calibrate(segment);
	weir_clock_cache = (struct clock_cache){
		.second = second,
		.first_tick = now - ticks,
		.first_ns = first,
		.ratio = second & CALIBRATION_RATIO_MASK,
	};
	return first + (ticks * weir_clock_cache.ratio >> CALIBRATION_RATIO_BITS);
}
