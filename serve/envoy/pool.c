/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/pool.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ALIGNMENT sizeof(max_align_t)
#define BLOCK_SIZE 16384u

/* A cleared pool keeps no more than this: one huge request does not hold its memory
 * for ever. */
#define KEPT_MAX (1u << 20)

struct pool_block {
	struct pool_block *older;
	size_t size;            /* of bytes */
	max_align_t bytes[];
};

static bool add_block(struct pool *pool, size_t size)
{
	struct pool_block *block;

	if (size < BLOCK_SIZE)
		size = BLOCK_SIZE;
	block = malloc(sizeof(*block) + size);
	if (!block)
		return false;
	block->older = pool->newest;
	block->size = size;
	pool->newest = block;
	pool->used = 0;
	return true;
}

void *pool_take(struct pool *pool, size_t size)
{
	char *bytes;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	if (!pool->newest || pool->newest->size - pool->used < size) {
		if (!add_block(pool, size))
			return NULL;
	}
	bytes = (char *)pool->newest->bytes + pool->used;
	pool->used += size;
	return memset(bytes, 0, size);
}

void *pool_array(struct pool *pool, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	return pool_take(pool, bytes);
}

struct text pool_copy(struct pool *pool, struct text text)
{
	char *bytes;

	if (text.length == SIZE_MAX)
		return (struct text){ NULL, 0 };
	bytes = pool_take(pool, text.length + 1);
	if (!bytes)
		return (struct text){ NULL, 0 };
	if (text.length > 0)
		memcpy(bytes, text.bytes, text.length);
	return (struct text){ bytes, text.length };
}

static void free_older(struct pool_block *block)
{
	while (block) {
		struct pool_block *older = block->older;

		free(block);
		block = older;
	}
}

/* Of several blocks none is kept: the next use begins with one of their size. */
void pool_clear(struct pool *pool)
{
	size_t size = 0;

	if (pool->newest && pool->newest->older) {
		for (struct pool_block *block = pool->newest; block; block = block->older)
			size += block->size;
		pool_free(pool);
		if (size <= KEPT_MAX)
			add_block(pool, size); /* or the next pool_take() does */
	} else if (pool->newest && pool->newest->size > KEPT_MAX) {
		pool_free(pool);
	}
	pool->used = 0;
}

void pool_free(struct pool *pool)
{
	free_older(pool->newest);
	*pool = (struct pool){ 0 };
}

/* ---- Texts that are put together ----------------------------------------- */

static bool builder_room(struct builder *builder, size_t more)
{
	size_t size = builder->size ? builder->size : 128;
	char *bytes;

	if (builder->failed)
		return false;
	if (more > SIZE_MAX / 4 || builder->length > SIZE_MAX / 4) {
		builder->failed = true;
		return false;
	}
	if (builder->size - builder->length > more)
		return true;
	while (size - builder->length <= more)
		size *= 2;
	bytes = pool_take(builder->pool, size);
	if (!bytes) {
		builder->failed = true;
		return false;
	}
	if (builder->length > 0)
		memcpy(bytes, builder->bytes, builder->length);
	builder->bytes = bytes;
	builder->size = size;
	return true;
}

void builder_add(struct builder *builder, struct text text)
{
	if (text.length == 0 || !builder_room(builder, text.length))
		return;
	memcpy(builder->bytes + builder->length, text.bytes, text.length);
	builder->length += text.length;
}

void builder_add_char(struct builder *builder, char c)
{
	builder_add(builder, (struct text){ &c, 1 });
}

void builder_print(struct builder *builder, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (length < 0 || !builder_room(builder, (size_t)length))
		return;
	va_start(arguments, format);
	vsnprintf(builder->bytes + builder->length, (size_t)length + 1, format, arguments);
	va_end(arguments);
	builder->length += (size_t)length;
}
