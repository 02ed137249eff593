/* SPDX-License-Identifier: Apache-2.0 */
/*
 * counts.h - what a loop has done since it began.
 *
 * THREADS: a loop counts for itself, and any thread may read: each number is whole, and
 * nothing else is ordered by it (relaxed).
 */
#ifndef WEIR_SERVE_COUNTS_H
#define WEIR_SERVE_COUNTS_H

#include <stdatomic.h>
#include <stdint.h>

enum count {
	COUNT_CONNECTIONS,              /* accepted */
	COUNT_CONNECTIONS_REFUSED,      /* beyond --max-connections, or no memory */
	COUNT_CONNECTIONS_TIMED_OUT,    /* of clients that did not go on, or did not read */
	COUNT_CALLS,                    /* of gRPC, begun */
	COUNT_CALLS_REFUSED,            /* too many were under way, or the last word was said */
	COUNT_CALLS_FAILED,             /* ended with another status than OK */
	COUNT_CALLS_TIMED_OUT,          /* of clients that did not go on, beside others that did */
	COUNT_COUNT
};

struct counts {
	_Atomic uint64_t of[COUNT_COUNT];
};

/* By the loop's thread alone, so that no two increments meet. */
static inline void count_up(struct counts *counts, enum count which)
{
	uint64_t before = atomic_load_explicit(&counts->of[which], memory_order_relaxed);

	atomic_store_explicit(&counts->of[which], before + 1, memory_order_relaxed);
}

static inline uint64_t count_read(const struct counts *counts, enum count which)
{
	return atomic_load_explicit(&counts->of[which], memory_order_relaxed);
}

#endif
