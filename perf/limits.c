/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.c - kernels of bench.c: the least that a shared limiter can do on this machine.
 */
#include "perf/bench.h"

static volatile uint64_t sink;

void run_clock(struct state *state, unsigned operations)
{
	(void)state;
	for (unsigned i = 0; i < operations; i++)
		sink = now_ns();
}

/* The least that a shared limiter can do: read the clock, read the bucket,
 * compute, compare-and-swap. */
static inline void touch(struct line *line, uint64_t now)
{
	uint64_t time = __atomic_load_n(&line->words[0], __ATOMIC_ACQUIRE);
	uint64_t after = (time > now ? time : now) + 1;

	while (!__atomic_compare_exchange_n(&line->words[0], &time, after, false, __ATOMIC_ACQ_REL,
					    __ATOMIC_ACQUIRE))
		after = (time > now ? time : now) + 1;
}

void run_bare(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++)
		touch(&state->lines[0], now_ns());
}

/* The same with the processor's counter for a clock: a multiplication makes it ns. */
static inline uint64_t counter_ns(void)
{
#ifdef __x86_64__
	return (uint64_t)((unsigned __int128)__builtin_ia32_rdtsc() * 0x4000000000000000ull >> 64);
#else
	return now_ns();
#endif
}

void run_bare_tsc(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++)
		touch(&state->lines[1], counter_ns());
}

/* The same where the bucket is not in the cache: one miss, begun before the
 * clock is read. */
void run_miss(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		struct line *line = &state->lines[below(&state->random, 2 * state->keys)];

		__builtin_prefetch(line, 1);
		touch(line, now_ns());
	}
}

void run_miss_tsc(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		struct line *line = &state->lines[below(&state->random, 2 * state->keys)];

		__builtin_prefetch(line, 1);
		touch(line, counter_ns());
	}
}

void run_miss_alone(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		struct line *line = &state->lines[below(&state->random, 2 * state->keys)];

		__builtin_prefetch(line, 1);
		touch(line, now_ns());
		end_operation();
	}
}

/* The misses of a batch at once, and one clock reading for all of it. */
void run_miss_batch(struct state *state, unsigned operations)
{
	struct line *lines[BATCH];

	for (unsigned i = 0; i < operations; i += BATCH) {
		uint64_t now;

		for (unsigned j = 0; j < BATCH; j++) {
			lines[j] = &state->lines[below(&state->random, 2 * state->keys)];
			__builtin_prefetch(lines[j], 1);
		}
		now = now_ns();
		for (unsigned j = 0; j < BATCH; j++)
			touch(lines[j], now);
	}
}

/* The misses of a new key, of which any of 16 lines may be the bucket: two groups of eight. */
void run_miss_window(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		struct line *groups[2];
		uint64_t now, sum = 0;

		for (unsigned g = 0; g < 2; g++) {
			groups[g] = &state->lines[below(&state->random, 2 * state->keys) & ~7ull];
			for (unsigned j = 0; j < 8; j++)
				__builtin_prefetch(&groups[g][j], 1);
		}
		now = now_ns();
		for (unsigned j = 0; j < 16; j++)
			sum += __atomic_load_n(&groups[j / 8][j % 8].words[0], __ATOMIC_ACQUIRE);
		touch(&groups[1][sum % 8], now);
	}
}
