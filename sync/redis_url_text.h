/* SPDX-License-Identifier: Apache-2.0 */
/* redis_url_text.h - parts of a URL's text, and messages about one that never show a
 * password.  For redis_url.c only. */
#ifndef WEIR_SYNC_REDIS_URL_TEXT_H
#define WEIR_SYNC_REDIS_URL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir.h"

/* Room for a value in a message; longer ones are cut. */
#define QUOTED_SIZE 120

/* A part of the text being read. */
struct span {
	const char *text;
	size_t length;
};

/* Is it TEXT, in whichever case? */
bool span_is(struct span span, const char *text);

/* Cut SPAN at the first BYTE: what is before it is returned, what is after it
 * becomes REST, whose text is NULL if there is none. */
struct span span_cut(struct span span, char byte, struct span *rest);

/* Undo %XX.  Returns what is wrong, or NULL. */
const char *span_decode(struct span span, char *text, size_t size);

bool span_is_digits(struct span span);

/* A whole number from MIN to MAX; false if it is anything else. */
bool span_number(struct span span, uint32_t min, uint32_t max, uint32_t *value);

/* Fail with "the Redis URL "...": WHAT". */
int url_fail(struct weir_error *error, const char *url, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same: NAME is not a number from MIN to MAX. */
int url_number_fail(struct weir_error *error, const char *url, const char *name,
		    struct span span, uint32_t min, uint32_t max);

#endif
