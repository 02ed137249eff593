/* SPDX-License-Identifier: Apache-2.0 */
/*
 * atomic.h - every atomic access to the segment goes through here.
 *
 * The memory order is in the operation's name, so that it is seen where it is
 * used and spelled out only once.  An "Enn" in a comment names an edge of the
 * table in shm/README.md: a release there pairs with an acquire elsewhere.
 *
 * The file is also the seam of the model tests: with WEIR_MODEL defined, each
 * access first hands control to the explorer, which decides who goes next.
 */
#ifndef WEIR_SHM_ATOMIC_H
#define WEIR_SHM_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

/* For what one file of the library shares with another: not through the global offset
 * table. */
#define WEIR_HIDDEN __attribute__((visibility("hidden")))

#ifdef WEIR_MODEL
void weir_model_step(void);
#define ATOMIC_STEP() weir_model_step()
#else
#define ATOMIC_STEP() ((void)0)
#endif

/* Two words that change together. */
struct word_pair {
	uint64_t first;
	uint64_t second;
} __attribute__((aligned(16)));

#if !defined(__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16)
#error "no inlined 16-byte compare-and-swap: build with -mcx16 (x86-64) or -march=armv8.1-a (arm64)"
#endif

/*
 * Compare-and-swap 16 bytes; a full barrier on both sides whether or not it
 * succeeds.  gcc turns _Atomic __int128 into calls of libatomic, which may take
 * a lock that is private to the process: wrong between processes, silently.
 * The __sync builtins are inlined by gcc and clang alike.
 */
static inline bool atomic_cas_pair_full(struct word_pair *pair, struct word_pair expected,
					struct word_pair desired)
{
	/* Put together by shifts, the words stay in their registers. */
	unsigned __int128 from = (unsigned __int128)expected.second << 64 | expected.first;
	unsigned __int128 to = (unsigned __int128)desired.second << 64 | desired.first;

	ATOMIC_STEP();
	return __sync_bool_compare_and_swap((unsigned __int128 *)pair, from, to);
}

static inline uint64_t atomic_load_acquire(const uint64_t *word)
{
	ATOMIC_STEP();
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline uint64_t atomic_load_relaxed(const uint64_t *word)
{
	ATOMIC_STEP();
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void atomic_store_release(uint64_t *word, uint64_t value)
{
	ATOMIC_STEP();
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline void atomic_store_relaxed(uint64_t *word, uint64_t value)
{
	ATOMIC_STEP();
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static inline void atomic_add_relaxed(uint64_t *word, uint64_t value)
{
	ATOMIC_STEP();
	__atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}

/* What stood there before. */
static inline uint64_t atomic_fetch_add_relaxed(uint64_t *word, uint64_t value)
{
	ATOMIC_STEP();
	return __atomic_fetch_add(word, value, __ATOMIC_RELAXED);
}

/* Full barriers, like the compare-and-swap of a pair. */
static inline uint64_t atomic_or_full(uint64_t *word, uint64_t bits)
{
	ATOMIC_STEP();
	return __atomic_fetch_or(word, bits, __ATOMIC_SEQ_CST);
}

static inline uint64_t atomic_and_full(uint64_t *word, uint64_t bits)
{
	ATOMIC_STEP();
	return __atomic_fetch_and(word, bits, __ATOMIC_SEQ_CST);
}

static inline bool atomic_cas_full(uint64_t *word, uint64_t expected, uint64_t desired)
{
	ATOMIC_STEP();
	return __atomic_compare_exchange_n(word, &expected, desired, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

/* On failure *expected becomes what was found; then nothing is ordered. */
static inline bool atomic_cas_acq_rel(uint64_t *word, uint64_t *expected, uint64_t desired)
{
	ATOMIC_STEP();
	return __atomic_compare_exchange_n(word, expected, desired, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

static inline bool atomic_cas_relaxed(uint64_t *word, uint64_t *expected, uint64_t desired)
{
	ATOMIC_STEP();
	return __atomic_compare_exchange_n(word, expected, desired, false, __ATOMIC_RELAXED,
					   __ATOMIC_RELAXED);
}

#endif
