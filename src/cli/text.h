/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - turning values into text that is safe to print, and text into
 * values.  Pure functions: no locale, no output.
 */
#ifndef WEIR_CLI_TEXT_H
#define WEIR_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that text_duration() needs, with the zero at the end. */
#define TEXT_DURATION_SIZE 32

/* Write a duration for people ("12ns", "250ms", "1.5s", "1m30s", "3d4h";
 * "never" for UINT64_MAX), rounded up, so that who waits that long has waited
 * long enough.  Returns BUFFER. */
const char *text_duration(uint64_t duration_ns, char buffer[TEXT_DURATION_SIZE]);

enum text_escape {
	TEXT_ASCII = 0,         /* escape all that is not ASCII, too */
	TEXT_UTF8 = 1,          /* the terminal understands UTF-8 */
};

/* How much of BYTES can be printed as it is, up to the first byte that must be
 * escaped.  A byte must be, if it is a control character, a backslash, not
 * UTF-8, or begins a character that a terminal obeys or that has no shape
 * (C1 controls, directions, zero widths, line separators). */
size_t text_printable(const unsigned char *bytes, size_t length, enum text_escape escape);

/* The edits (insert, delete, replace, swap of neighbours) from one word to the
 * other; words above 63 bytes are SIZE_MAX apart. */
size_t text_distance(const char *a, const char *b);

/* A search for the name that a mistyped word was meant to be: begin with the
 * word, offer each name; the nearest one stays, NULL if none is near enough. */
struct text_search {
	const char *word;
	const char *nearest;
	size_t distance;        /* private: only less than this is nearer */
};

struct text_search text_search_begin(const char *word);
void text_search_offer(struct text_search *search, const char *name);

enum text_number {
	TEXT_NUMBER_OK,
	TEXT_NUMBER_MALFORMED,  /* something else than digits */
	TEXT_NUMBER_OVERFLOW,   /* above 64 bits */
};

/* The whole of TEXT as an unsigned number in BASE (2 to 10): digits only, no
 * sign, no space. */
enum text_number text_parse_number(const char *text, unsigned base, uint64_t *value);

#endif
