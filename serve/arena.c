/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

#define BLOCK_BYTES (64u * 1024)
#define ALIGNMENT alignof(max_align_t)

struct arena_block {
	struct arena_block *older;
	size_t size;
	size_t used;
	alignas(max_align_t) unsigned char bytes[];
};

static void *allocate(void *context, size_t size)
{
	return arena_alloc(context, size);
}

static void release(void *context, void *pointer)
{
	(void)context;
	(void)pointer;
}

static struct arena_block *new_block(size_t size)
{
	struct arena_block *block = malloc(sizeof(*block) + size);

	if (block)
		*block = (struct arena_block){ .size = size };
	return block;
}

int arena_init(struct arena *arena, size_t bound_bytes)
{
	*arena = (struct arena){
		.first = new_block(BLOCK_BYTES),
		.bound_bytes = bound_bytes,
		.allocator = { allocate, release, arena },
	};
	return arena->first ? 0 : -1;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	struct arena_block *block = arena->first;
	size_t block_size;
	void *piece;

	if (size > SIZE_MAX - ALIGNMENT)
		return NULL;
	size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	if (size > block->size - block->used) {
		block_size = size > BLOCK_BYTES ? size : BLOCK_BYTES;
		if (block_size > arena->bound_bytes - arena->used_bytes)
			return NULL;
		block = new_block(block_size);
		if (!block)
			return NULL;
		arena->used_bytes += block_size;
		block->older = arena->first;
		arena->first = block;
	}
	piece = block->bytes + block->used;
	block->used += size;
	return piece;
}

void arena_reset(struct arena *arena)
{
	while (arena->first->older) {
		struct arena_block *block = arena->first;

		arena->first = block->older;
		free(block);
	}
	arena->first->used = 0;
	arena->used_bytes = 0;
}

void arena_destroy(struct arena *arena)
{
	if (!arena->first)
		return;
	arena_reset(arena);
	free(arena->first);
	arena->first = NULL;
}
