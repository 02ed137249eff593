/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h - memory that is given back all at once.
 *
 * A configuration lives in one, and each loop has one for the request it answers: after
 * the first few requests pool_clear() and pool_take() call neither malloc nor free.
 * A struct pool that is all zero is empty.
 */
#ifndef WEIR_SERVE_POOL_H
#define WEIR_SERVE_POOL_H

#include "serve/envoy/text.h"

struct pool_block;

struct pool {
	struct pool_block *newest;
	size_t used;            /* bytes of the newest */
};

/* SIZE bytes, all zero, aligned for anything.  NULL: no memory. */
void *pool_take(struct pool *pool, size_t size);

/* COUNT objects of SIZE bytes.  NULL also if that many bytes cannot be. */
void *pool_array(struct pool *pool, size_t count, size_t size);

/* A copy, followed by a zero byte.  .bytes is NULL if there is no memory. */
struct text pool_copy(struct pool *pool, struct text text);

/* Give everything back, but keep a block for the next use. */
void pool_clear(struct pool *pool);

void pool_free(struct pool *pool);

/* A text that is put together in a pool.  One whose memory ran out stays as it is and
 * says so in failed; builder_text() then has no bytes. */
struct builder {
	struct pool *pool;
	char *bytes;
	size_t length, size;
	bool failed;
};

void builder_add(struct builder *builder, struct text text);
void builder_add_char(struct builder *builder, char c);
void builder_print(struct builder *builder, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static inline struct text builder_text(const struct builder *builder)
{
	if (builder->failed)
		return (struct text){ NULL, 0 };
	return (struct text){ builder->bytes ? builder->bytes : "", builder->length };
}

#endif
