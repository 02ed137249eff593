/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NS_PER_S 1000000000ull

#define WORD_MAX 63u

static const struct {
	const char *name;
	uint64_t ns;
} small_units[] = {
	{ "ns", 1 }, { "us", 1000 }, { "ms", 1000000 }, { "s", NS_PER_S },
};

static const struct {
	char name;
	char part_name;
	uint64_t s;
	uint64_t part_s;
} large_units[] = {
	{ 'm', 's', 60, 1 }, { 'h', 'm', 3600, 60 }, { 'd', 'h', 86400, 3600 },
};

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t divide_up(uint64_t dividend, uint64_t divisor)
{
	return dividend / divisor + (dividend % divisor != 0);
}

/* Below a minute: a unit with up to three decimals. */
static bool duration_small(uint64_t duration_ns, char *buffer)
{
	for (size_t i = 0; i < ARRAY_SIZE(small_units); i++) {
		uint64_t unit = small_units[i].ns;
		uint64_t end = unit == NS_PER_S ? 60 : 1000;
		uint64_t thousandths = unit == 1 ? duration_ns * 1000 :
						   divide_up(duration_ns, unit / 1000);
		int digits = 3;

		if (thousandths >= end * 1000)
			continue;
		for (uint64_t rest = thousandths; digits > 0 && rest % 10 == 0; rest /= 10)
			digits--;
		if (digits == 0) {
			snprintf(buffer, TEXT_DURATION_SIZE, "%" PRIu64 "%s", thousandths / 1000,
				 small_units[i].name);
		} else {
			static const unsigned divisors[] = { 0, 100, 10, 1 };

			snprintf(buffer, TEXT_DURATION_SIZE, "%" PRIu64 ".%0*u%s",
				 thousandths / 1000, digits,
				 (unsigned)(thousandths % 1000) / divisors[digits],
				 small_units[i].name);
		}
		return true;
	}
	return false;
}

const char *text_duration(uint64_t duration_ns, char buffer[TEXT_DURATION_SIZE])
{
	if (duration_ns == UINT64_MAX) {
		snprintf(buffer, TEXT_DURATION_SIZE, "never");
		return buffer;
	}
	if (duration_ns < 60 * NS_PER_S && duration_small(duration_ns, buffer))
		return buffer;

	/* From a minute on: two units, the smaller one rounded up. */
	uint64_t s = divide_up(duration_ns, NS_PER_S);
	size_t unit = 0;

	while (unit + 1 < ARRAY_SIZE(large_units)) {
		uint64_t part_s = large_units[unit].part_s;

		if (divide_up(s, part_s) * part_s < large_units[unit + 1].s)
			break;
		unit++;
	}

	uint64_t part_s = large_units[unit].part_s;
	uint64_t parts = divide_up(s, part_s);
	uint64_t whole = parts / (large_units[unit].s / part_s);
	uint64_t rest = parts % (large_units[unit].s / part_s);

	if (rest == 0)
		snprintf(buffer, TEXT_DURATION_SIZE, "%" PRIu64 "%c", whole,
			 large_units[unit].name);
	else
		snprintf(buffer, TEXT_DURATION_SIZE, "%" PRIu64 "%c%" PRIu64 "%c", whole,
			 large_units[unit].name, rest, large_units[unit].part_name);
	return buffer;
}

/* The length of the UTF-8 sequence at BYTES, 0 if there is none; its character
 * in *CHARACTER.  Overlong forms and surrogates are none. */
static size_t decode_utf8(const unsigned char *bytes, size_t length, uint32_t *character)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t size = bytes[0] < 0x80 ? 1 : bytes[0] < 0xc2 ? 0 : bytes[0] < 0xe0 ? 2 :
		      bytes[0] < 0xf0 ? 3 : bytes[0] < 0xf5 ? 4 : 0;

	if (size == 0 || size > length)
		return 0;
	if (size == 1) {
		*character = bytes[0];
		return 1;
	}
	*character = bytes[0] & (0xffu >> (size + 1));
	for (size_t i = 1; i < size; i++) {
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
		*character = *character << 6 | (bytes[i] & 0x3f);
	}
	if (*character < smallest[size] || *character > 0x10ffff ||
	    (*character >= 0xd800 && *character <= 0xdfff))
		return 0;
	return size;
}

/* Characters that a terminal obeys, that reorder what follows, or that nobody
 * can see. */
static bool is_harmful(uint32_t character)
{
	static const struct {
		uint32_t first;
		uint32_t last;
	} ranges[] = {
		{ 0x00, 0x1f },         /* C0 controls */
		{ '\\', '\\' },         /* or an escape could be forged */
		{ 0x7f, 0x9f },         /* delete, C1 controls */
		{ 0xad, 0xad },         /* soft hyphen */
		{ 0x61c, 0x61c },       /* Arabic letter mark */
		{ 0x180b, 0x180f },     /* Mongolian selectors */
		{ 0x200b, 0x200f },     /* zero widths, directions */
		{ 0x2028, 0x202e },     /* line separators, directions */
		{ 0x2060, 0x206f },     /* invisible operators, directions */
		{ 0xfdd0, 0xfdef },     /* no characters */
		{ 0xfe00, 0xfe0f },     /* variation selectors */
		{ 0xfeff, 0xfeff },     /* byte order mark */
		{ 0xfff0, 0xfffb },     /* annotations */
		{ 0xe0000, 0xe0fff },   /* tags */
	};

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		if (character >= ranges[i].first && character <= ranges[i].last)
			return true;
	}
	return (character & 0xfffe) == 0xfffe;
}

size_t text_printable(const unsigned char *bytes, size_t length, enum text_escape escape)
{
	size_t position = 0;

	while (position < length) {
		uint32_t character;
		size_t size = decode_utf8(bytes + position, length - position, &character);

		if (size == 0 || is_harmful(character) || (size > 1 && escape == TEXT_ASCII))
			break;
		position += size;
	}
	return position;
}

size_t text_distance(const char *a, const char *b)
{
	size_t a_length = strlen(a);
	size_t b_length = strlen(b);
	unsigned char rows[3][WORD_MAX + 1];    /* this row and the two before it */

	if (a_length > WORD_MAX || b_length > WORD_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_length; j++)
		rows[0][j] = (unsigned char)j;
	for (size_t i = 1; i <= a_length; i++) {
		unsigned char *row = rows[i % 3];
		const unsigned char *above = rows[(i + 2) % 3];
		const unsigned char *above_two = rows[(i + 1) % 3];

		row[0] = (unsigned char)i;
		for (size_t j = 1; j <= b_length; j++) {
			size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);

			if (above[j] + 1u < best)
				best = above[j] + 1u;
			if (row[j - 1] + 1u < best)
				best = row[j - 1] + 1u;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    above_two[j - 2] + 1u < best)
				best = above_two[j - 2] + 1u;
			row[j] = (unsigned char)best;
		}
	}
	return rows[a_length % 3][b_length];
}

struct text_search text_search_begin(const char *word)
{
	/* A slip in every third letter, and one in a word of two. */
	return (struct text_search){ .word = word, .distance = (strlen(word) + 1) / 3 + 1 };
}

void text_search_offer(struct text_search *search, const char *name)
{
	size_t distance = text_distance(search->word, name);

	if (distance < search->distance) {
		search->distance = distance;
		search->nearest = name;
	}
}

enum text_number text_parse_number(const char *text, unsigned base, uint64_t *value)
{
	uint64_t sum = 0;
	bool overflow = false;

	if (*text == '\0')
		return TEXT_NUMBER_MALFORMED;
	for (; *text != '\0'; text++) {
		if (*text < '0' || (unsigned)(*text - '0') >= base)
			return TEXT_NUMBER_MALFORMED;
		if (__builtin_mul_overflow(sum, (uint64_t)base, &sum) ||
		    __builtin_add_overflow(sum, (uint64_t)(*text - '0'), &sum))
			overflow = true;
	}
	if (overflow)
		return TEXT_NUMBER_OVERFLOW;
	*value = sum;
	return TEXT_NUMBER_OK;
}
