/* SPDX-License-Identifier: Apache-2.0 */
/* Durations, escapes, distances and numbers of the command line. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "src/cli/text.h"
#include "tests/suite.h"

#define US 1000ull
#define MS 1000000ull
#define S 1000000000ull
#define MINUTE (60 * S)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

static const struct {
	uint64_t duration_ns;
	const char *text;
} durations[] = {
	{ 0, "0ns" },
	{ 12, "12ns" },
	{ 999, "999ns" },
	{ US, "1us" },
	{ 1001, "1.001us" },
	{ 1010, "1.01us" },
	{ 1100, "1.1us" },
	{ 999999, "999.999us" },
	{ MS, "1ms" },
	{ MS + 1, "1.001ms" },          /* rounded up */
	{ 250 * MS, "250ms" },
	{ 999 * MS + 999 * US, "999.999ms" },
	{ S - 1, "1s" },                /* rounded up into the next unit */
	{ S, "1s" },
	{ S + 1, "1.001s" },
	{ S + 500 * MS, "1.5s" },
	{ 59 * S + 999 * MS, "59.999s" },
	{ MINUTE - 1, "1m" },
	{ MINUTE, "1m" },
	{ MINUTE + 1, "1m1s" },
	{ 90 * S, "1m30s" },
	{ HOUR - S, "59m59s" },
	{ HOUR - 1, "1h" },
	{ HOUR + 1, "1h1m" },
	{ 2 * HOUR + 5 * MINUTE, "2h5m" },
	{ DAY - MINUTE, "23h59m" },
	{ DAY - MINUTE + 1, "1d" },
	{ DAY, "1d" },
	{ DAY + 1, "1d1h" },
	{ 3 * DAY + 4 * HOUR, "3d4h" },
	{ 400 * DAY, "400d" },
	{ UINT64_MAX - 1, "213504d" },
	{ UINT64_MAX, "never" },
};

START_TEST(duration)
{
	char buffer[TEXT_DURATION_SIZE];

	ck_assert_str_eq(text_duration(durations[_i].duration_ns, buffer), durations[_i].text);
	ck_assert_ptr_eq(text_duration(durations[_i].duration_ns, buffer), buffer);
}
END_TEST

/* What is printable, and then one byte that is not. */
static const struct {
	const char *bytes;
	size_t length;
	size_t utf8;            /* printable bytes */
	size_t ascii;
} texts[] = {
#define TEXT(literal, utf8, ascii) { literal, sizeof(literal) - 1, utf8, ascii }
	TEXT("", 0, 0),
	TEXT("plain ~text", 11, 11),
	TEXT("a\0b", 1, 1),
	TEXT("a\nb", 1, 1),
	TEXT("a\x1f", 1, 1),
	TEXT("a\x7f", 1, 1),
	TEXT("a\\b", 1, 1),
	TEXT("\xc3\xb6" "x", 3, 0),                     /* o with dots */
	TEXT("\xe6\x9d\xb1", 3, 0),
	TEXT("\xf0\x9f\x98\x80", 4, 0),
	TEXT("\xf4\x8f\xbf\xbd", 4, 0),                 /* the last but two */
	TEXT("\xc2\x9b" "2J", 0, 0),                    /* C1 control */
	TEXT("\xc2\xa0", 2, 0),                         /* the first after them */
	TEXT("\xc2\xad", 0, 0),                         /* soft hyphen */
	TEXT("\xe2\x80\x8b", 0, 0),                     /* zero width space */
	TEXT("\xe2\x80\xae", 0, 0),                     /* right to left */
	TEXT("\xe2\x80\xa8", 0, 0),                     /* line separator */
	TEXT("\xef\xbb\xbf", 0, 0),                     /* byte order mark */
	TEXT("\xef\xbf\xbe", 0, 0),                     /* no character */
	TEXT("\xf3\xa0\x80\x81", 0, 0),                 /* tag */
	TEXT("\xc0\x80", 0, 0),                         /* overlong */
	TEXT("\xc1\xbf", 0, 0),
	TEXT("\xe0\x9f\xbf", 0, 0),
	TEXT("\xf0\x8f\xbf\xbf", 0, 0),
	TEXT("\xed\xa0\x80", 0, 0),                     /* surrogate */
	TEXT("\xf4\x90\x80\x80", 0, 0),                 /* above 10FFFF */
	TEXT("\xf5\x80\x80\x80", 0, 0),
	TEXT("x\xe6\x9d", 1, 1),                        /* cut off */
	TEXT("x\xe6\x9dx", 1, 1),
	TEXT("x\x80", 1, 1),                            /* in the middle */
	TEXT("x\xff", 1, 1),
#undef TEXT
};

START_TEST(printable)
{
	/* On the heap, so that AddressSanitizer sees a byte too far. */
	unsigned char *bytes = malloc(texts[_i].length + !texts[_i].length);

	memcpy(bytes, texts[_i].bytes, texts[_i].length);
	ck_assert_uint_eq(text_printable(bytes, texts[_i].length, TEXT_UTF8), texts[_i].utf8);
	ck_assert_uint_eq(text_printable(bytes, texts[_i].length, TEXT_ASCII), texts[_i].ascii);
	free(bytes);
}
END_TEST

START_TEST(distance)
{
	char longest[64];
	char too_long[65];

	ck_assert_uint_eq(text_distance("", ""), 0);
	ck_assert_uint_eq(text_distance("", "abc"), 3);
	ck_assert_uint_eq(text_distance("abc", ""), 3);
	ck_assert_uint_eq(text_distance("status", "status"), 0);
	ck_assert_uint_eq(text_distance("alow", "allow"), 1);
	ck_assert_uint_eq(text_distance("alllow", "allow"), 1);
	ck_assert_uint_eq(text_distance("sTats", "stats"), 1);
	ck_assert_uint_eq(text_distance("satts", "stats"), 1);
	ck_assert_uint_eq(text_distance("stasts", "tats"), 2);
	ck_assert_uint_eq(text_distance("kitten", "sitting"), 3);

	memset(longest, 'x', 63);
	longest[63] = '\0';
	memset(too_long, 'x', 64);
	too_long[64] = '\0';
	ck_assert_uint_eq(text_distance(longest, ""), 63);
	ck_assert_uint_eq(text_distance(too_long, longest), SIZE_MAX);
	ck_assert_uint_eq(text_distance(longest, too_long), SIZE_MAX);
}
END_TEST

START_TEST(search_finds_the_nearest)
{
	static const struct {
		const char *word;
		const char *nearest;
	} cases[] = {
		{ "status", "status" }, { "satus", "status" }, { "stat", "stats" },
		{ "aloow", "allow" }, { "tpo", "top" }, { "foo", NULL }, { "t", NULL },
		{ "", NULL }, { "frobnicate", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct text_search search = text_search_begin(cases[i].word);

		text_search_offer(&search, "status");
		text_search_offer(&search, "stats");
		text_search_offer(&search, "allow");
		text_search_offer(&search, "top");
		ck_assert_pstr_eq(search.nearest, cases[i].nearest);
	}
}
END_TEST

static const struct {
	const char *text;
	unsigned base;
	enum text_number result;
	uint64_t value;
} numbers[] = {
	{ "0", 10, TEXT_NUMBER_OK, 0 },
	{ "007", 10, TEXT_NUMBER_OK, 7 },
	{ "18446744073709551615", 10, TEXT_NUMBER_OK, UINT64_MAX },
	{ "18446744073709551616", 10, TEXT_NUMBER_OVERFLOW, 1 },
	{ "18446744073709551620", 10, TEXT_NUMBER_OVERFLOW, 1 },
	{ "99999999999999999999999999999999999999999", 10, TEXT_NUMBER_OVERFLOW, 1 },
	{ "99999999999999999999999999999999999999999x", 10, TEXT_NUMBER_MALFORMED, 1 },
	{ "660", 8, TEXT_NUMBER_OK, 0660 },
	{ "8", 8, TEXT_NUMBER_MALFORMED, 1 },
	{ "", 10, TEXT_NUMBER_MALFORMED, 1 },
	{ " 1", 10, TEXT_NUMBER_MALFORMED, 1 },
	{ "1 ", 10, TEXT_NUMBER_MALFORMED, 1 },
	{ "+1", 10, TEXT_NUMBER_MALFORMED, 1 },
	{ "-1", 10, TEXT_NUMBER_MALFORMED, 1 },
	{ "1:", 10, TEXT_NUMBER_MALFORMED, 1 },
	{ "0x1", 10, TEXT_NUMBER_MALFORMED, 1 },
};

START_TEST(number)
{
	uint64_t value = 1;     /* stays when there is no number */

	ck_assert_int_eq(text_parse_number(numbers[_i].text, numbers[_i].base, &value),
			 numbers[_i].result);
	ck_assert_uint_eq(value, numbers[_i].value);
}
END_TEST

#define LENGTH(array) ((int)(sizeof(array) / sizeof((array)[0])))

int main(void)
{
	Suite *suite = suite_create("text");
	TCase *tests = tcase_create("text");

	tcase_add_loop_test(tests, duration, 0, LENGTH(durations));
	tcase_add_loop_test(tests, printable, 0, LENGTH(texts));
	tcase_add_test(tests, distance);
	tcase_add_test(tests, search_finds_the_nearest);
	tcase_add_loop_test(tests, number, 0, LENGTH(numbers));
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
