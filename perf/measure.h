/* SPDX-License-Identifier: Apache-2.0 */
/* measure.h - what all programs here measure with: clocks, times in a histogram,
 * medians, keys, and random numbers that repeat. */
#ifndef WEIR_PERF_MEASURE_H
#define WEIR_PERF_MEASURE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "weir.h"

/* Print what is wrong, and leave. */
void die(const char *what, const char *message) __attribute__((noreturn));

/* The number TEXT, or leave with a message. */
uint64_t number(const char *text, uint64_t least, uint64_t most);

/* ---- Clocks -------------------------------------------------------------- */

static inline uint64_t time_ns(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* As the library reads it. */
static inline uint64_t now_ns(void)
{
	return time_ns(CLOCK_BOOTTIME);
}

/* Ticks of a counter that is cheaper to read than the clock. */
static inline uint64_t ticks(void)
{
#ifdef __x86_64__
	unsigned unused;

	return __builtin_ia32_rdtscp(&unused);
#else
	return now_ns();
#endif
}

double ns_per_tick(void);

/* This thread, from now on, on one processor; on all but one of them, if there are
 * more.  PROCESSOR counts from 0. */
void pin(unsigned processor);
void pin_beside(unsigned processor);
unsigned processors(void);

/* ---- Times, in cells of 1/16 of a power of two --------------------------- */

#define HISTOGRAM_FRACTION_BITS 4u
#define HISTOGRAM_CELLS ((64u - HISTOGRAM_FRACTION_BITS + 1) << HISTOGRAM_FRACTION_BITS)

struct histogram {
	uint64_t count[HISTOGRAM_CELLS];
};

static inline void histogram_count(struct histogram *histogram, uint64_t ns)
{
	unsigned exponent;

	if (ns < 1u << HISTOGRAM_FRACTION_BITS) {
		histogram->count[ns]++;
		return;
	}
	exponent = 63u - (unsigned)__builtin_clzll(ns) - HISTOGRAM_FRACTION_BITS;
	histogram->count[(exponent << HISTOGRAM_FRACTION_BITS) + (unsigned)(ns >> exponent)]++;
}

void histogram_add(struct histogram *sum, const struct histogram *one);
uint64_t histogram_total(const struct histogram *histogram);

/* The time that all but one in PARTS stayed below; the cell of the longest, for
 * more parts than there are times. */
uint64_t histogram_quantile(const struct histogram *histogram, uint64_t parts);

/* Print the cells that have any, as [[least ns, count], ...]. */
void histogram_print_json(const struct histogram *histogram);

/* The upper median of COUNT values, and the LEAST of them (may be NULL). */
double median(const double *values, unsigned count, double *least);

/* ---- Keys ---------------------------------------------------------------- */

struct key {
	uint64_t words[2];              /* 16 bytes */
};

static inline struct key key_of(uint64_t n)
{
	return (struct key){ { n, 0x79656b2d72696577ull } };
}

static inline uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* A number below N. */
static inline uint64_t below(uint64_t *state, uint64_t n)
{
	return (uint64_t)((unsigned __int128)next_random(state) * n >> 64);
}

/* Fill SAMPLES with numbers below N, of which number i comes 1 / (i + 1)^0.99 times
 * as often as the first (Zipf). */
void zipf_fill(uint32_t *samples, size_t count, uint32_t n, uint64_t seed);

/* ---- Memory -------------------------------------------------------------- */

/* SIZE bytes for this process and its children, all zero and in the memory already: in huge
 * pages where a segment has them, so that no table is slow for the size of its pages. */
void *table_map(size_t size);

/* All that is mapped from now on has small pages; children inherit it. */
void small_pages_only(void);

/* ---- Segments ------------------------------------------------------------ */

/* Make a segment and open it; its name is gone at once. */
struct weir *segment_open_new(const struct weir_options *options);

/* Define a policy of one LIMIT. */
weir_policy_id policy_define(struct weir *weir, const char *name, const char *limit,
			     enum weir_fail_mode fail_mode);

/* Never denies, and a charge of OPEN_DEBT outlasts any run: its key keeps its slot. */
#define OPEN_LIMIT "100000000/1s burst 1000000000000"
#define OPEN_DEBT 500000000000ull
/* Denies all but the first. */
#define CLOSED_LIMIT "1/365d"

#endif
