/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - bytes with their length.
 *
 * Keys and values of requests and configurations may hold any byte, a zero as well, so
 * none of them ends at one.  A text owns nothing: its bytes belong to a request, a
 * configuration or a pool.
 */
#ifndef WEIR_SERVE_TEXT_H
#define WEIR_SERVE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct text {
	const char *bytes;
	size_t length;
};

#define TEXT(literal) ((struct text){ (literal), sizeof(literal) - 1 })

/* For printf's "%.*s". */
#define TEXT_ARGUMENTS(text) (int)(text).length, (text).bytes ? (text).bytes : ""

static inline struct text text_of(const char *string)
{
	return (struct text){ string, strlen(string) };
}

static inline bool text_is(struct text a, struct text b)
{
	return a.length == b.length && (a.length == 0 || memcmp(a.bytes, b.bytes, a.length) == 0);
}

static inline bool text_begins(struct text text, struct text with)
{
	return text.length >= with.length &&
	       (with.length == 0 || memcmp(text.bytes, with.bytes, with.length) == 0);
}

static inline struct text text_from(struct text text, size_t offset)
{
	return (struct text){ text.bytes + offset, text.length - offset };
}

static inline bool text_has(struct text text, char c)
{
	return text.length > 0 && memchr(text.bytes, c, text.length) != NULL;
}

/* FNV-1a.  The tables it serves are either made from a configuration, and do not grow
 * with requests, or bound the number of their probes. */
static inline uint64_t text_hash(struct text text)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < text.length; i++)
		hash = (hash ^ (unsigned char)text.bytes[i]) * 0x100000001b3ull;
	return hash ^ hash >> 32;
}

#endif
