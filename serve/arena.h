/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - memory for one request: handed out piece by piece, taken back all at once.
 *
 * A message is decoded into many small pieces.  Each loop has one arena, which is
 * empty between two requests; the first block stays, so that an ordinary request costs
 * no malloc.  An arena has a bound: a message can be decoded into many times its size,
 * and what goes beyond the bound is answered with an error instead of memory.
 *
 * THREADS: an arena belongs to one thread.
 */
#ifndef WEIR_SERVE_ARENA_H
#define WEIR_SERVE_ARENA_H

#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

struct arena_block;

struct arena {
	struct arena_block *first;      /* the current one; the oldest is the last */
	size_t used_bytes;              /* in blocks beyond the oldest */
	size_t bound_bytes;
	ProtobufCAllocator allocator;   /* hands out of this arena; its free() does nothing */
};

/* Prepare an arena that hands out at most BOUND_BYTES.  Returns 0 or -1 (no memory). */
int arena_init(struct arena *arena, size_t bound_bytes);

/* SIZE bytes, aligned for anything, or NULL: the bound is reached, or no memory. */
void *arena_alloc(struct arena *arena, size_t size);

/* Take everything back. */
void arena_reset(struct arena *arena);

void arena_destroy(struct arena *arena);

#endif
