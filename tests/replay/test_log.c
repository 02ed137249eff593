/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of an access log: what is read from sound ones, why others are refused. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "src/cli/replay-log.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define S 1000000000u
#define NOON 1717243200u        /* 2024-06-01 12:00:00 UTC */

/* Parse a copy that ends where its memory ends: the sanitizer sees what is read
 * beyond it. */
static const char *parse(const char *line, size_t length, struct replay_line *parsed,
			 char **copy)
{
	*copy = malloc(length ? length : 1);
	ck_assert_ptr_nonnull(*copy);
	memcpy(*copy, line, length);
	return replay_log_parse(*copy, length, parsed);
}

static const struct {
	const char *line;
	const char *fields[REPLAY_FIELD_COUNT]; /* addr, user, method, path, user-agent */
	uint64_t time_s;
} good[] = {
	{ "192.0.2.1 - - [01/Jun/2024:12:00:00 +0000] \"GET /a HTTP/1.1\" 200 123",
	  { "192.0.2.1", "-", "GET", "/a", "-" },
	  NOON },
	{ "192.0.2.1 - - [01/Jun/2024:12:00:00 +0000] \"GET /a HTTP/1.1\" 200 123 \"-\" \"curl/8\"",
	  { "192.0.2.1", "-", "GET", "/a", "curl/8" },
	  NOON },
	{ "192.0.2.1 - - [01/Jun/2024:12:00:00 +0000] \"GET /a HTTP/1.1\" 200 123\r",
	  { "192.0.2.1", "-", "GET", "/a", "-" },
	  NOON },
	{ "2001:db8::1 id al [01/Jun/2024:12:00:00 +0000] \"PUT /a?b?c HTTP/2.0\" 304 - \"r\" "
	  "\"u\"",
	  { "2001:db8::1", "al", "PUT", "/a", "u" },
	  NOON },
	/* Users with spaces and brackets. */
	{ "h - a b c [01/Jun/2024:12:00:00 +0000] \"GET / HTTP/1.1\" 200 1",
	  { "h", "a b c", "GET", "/", "-" },
	  NOON },
	{ "h - a [x] [y] [01/Jun/2024:12:00:00 +0000] \"GET / HTTP/1.1\" 200 1",
	  { "h", "a [x] [y]", "GET", "/", "-" },
	  NOON },
	/* Escapes stay as they are, and do not end a string. */
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET /\\\"a\\\\ HTTP/1.1\" 200 1 \"\\\"\" "
	  "\"\\\\\\\"b\"",
	  { "h", "-", "GET", "/\\\"a\\\\", "\\\\\\\"b" },
	  NOON },
	/* Requests that are none. */
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"-\" 408 -", { "h", "-", "-", "-", "-" }, NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"\" 400 0", { "h", "-", "-", "-", "-" }, NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"\\x16\\x03\" 400 0",
	  { "h", "-", "-", "-", "-" },
	  NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \" / x\" 400 0", { "h", "-", "-", "-", "-" }, NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET \" 400 0",
	  { "h", "-", "GET", "-", "-" },
	  NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET ?q x\" 400 0",
	  { "h", "-", "GET", "-", "-" },
	  NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET /a\" - 0",
	  { "h", "-", "GET", "/a", "-" },
	  NOON },
	/* An empty user agent, one that was cut off, and more fields. */
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1 \"-\" \"\"",
	  { "h", "-", "GET", "/", "-" },
	  NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1 \"-\" \"cut o",
	  { "h", "-", "GET", "/", "cut o" },
	  NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1 \"-\" \"cut\\",
	  { "h", "-", "GET", "/", "cut\\" },
	  NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1 \"-\" \"",
	  { "h", "-", "GET", "/", "-" },
	  NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1 \"cut",
	  { "h", "-", "GET", "/", "-" },
	  NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1 \"-\" \"u\" \"more\" 0.004",
	  { "h", "-", "GET", "/", "u" },
	  NOON },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1 0.004",
	  { "h", "-", "GET", "/", "-" },
	  NOON },
	/* Zones, and the ends of time. */
	{ "h - - [01/Jun/2024:17:30:00 +0530] \"GET / x\" 200 1",
	  { "h", "-", "GET", "/", "-" },
	  NOON },
	{ "h - - [31/May/2024:23:15:00 -1245] \"GET / x\" 200 1",
	  { "h", "-", "GET", "/", "-" },
	  NOON },
	{ "h - - [29/Feb/2024:23:59:60 +0000] \"GET / x\" 200 1",
	  { "h", "-", "GET", "/", "-" },
	  1709251200 },
	{ "h - - [01/Jan/1970:00:00:01 +0000] \"GET / x\" 200 1",
	  { "h", "-", "GET", "/", "-" },
	  1 },
	{ "h - - [01/Jan/1970:00:00:00 -0001] \"GET / x\" 200 1",
	  { "h", "-", "GET", "/", "-" },
	  60 },
	{ "h - - [31/Dec/2199:23:59:59 +0000] \"GET / x\" 200 1",
	  { "h", "-", "GET", "/", "-" },
	  7258118399 },
};

START_TEST(read_what_is_sound)
{
	struct replay_line parsed;
	char *copy;

	ck_assert_ptr_null(parse(good[_i].line, strlen(good[_i].line), &parsed, &copy));
	ck_assert_uint_eq(parsed.time_ns, good[_i].time_s * S);
	for (int field = 0; field < REPLAY_FIELD_COUNT; field++) {
		ck_assert_uint_eq(parsed.fields[field].length, strlen(good[_i].fields[field]));
		ck_assert_mem_eq(parsed.fields[field].bytes, good[_i].fields[field],
				 parsed.fields[field].length);
	}
	free(copy);
}
END_TEST

static const struct {
	const char *line;
	const char *reason;     /* words of it */
} bad[] = {
	{ "", "empty" },
	{ "\r", "empty" },
	{ " - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1", "address" },
	{ "h", "identity" },
	{ "h ", "identity" },
	{ "h  - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1", "identity" },
	{ "h -", "identity" },
	{ "h - ", "time" },
	{ "h - -", "time" },
	{ "h - - [", "time" },
	{ "h - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - 01/Jun/2024:12:00:00 +0000 \"GET / x\" 200 1", "time" },
	{ "h - - [1/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [00/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [31/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [29/Feb/2023:12:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [29/Feb/2100:12:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [01/jun/2024:12:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [01/anF/2024:12:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jun/1969:12:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jun/2200:12:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jan/1970:00:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jan/1970:00:59:59 +0100] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jun/2024:24:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jun/2024:12:60:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jun/2024:12:00:61 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jun/2024:12:00:00 0000] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jun/2024:12:00:00 +2400] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jun/2024:12:00:00 +0060] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jun/2024:12:00:00] \"GET / x\" 200 1", "time" },
	{ "h - - [-1/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1", "time" },
	{ "h - - [01/Jun/2024:12:00:00 +0000]", "\"request\"" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] ", "\"request\"" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] GET / x 200 1", "\"request\"" },
	{ "h - - [01/Jun/2024:12:00:00 +0000]\"GET / x\" 200 1", "\"request\"" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"", "quote" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x 200 1", "quote" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\\\" 200 1", "quote" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\"", "status" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\"200 1", "status" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 20 1", "status" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 2000 1", "status" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 2x0 1", "status" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200", "bytes" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 ", "bytes" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1x", "bytes" },
	{ "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 -1", "bytes" },
};

START_TEST(refuse_the_rest)
{
	struct replay_line parsed;
	char *copy;
	const char *reason = parse(bad[_i].line, strlen(bad[_i].line), &parsed, &copy);

	ck_assert_msg(reason != NULL, "taken: %s", bad[_i].line);
	ck_assert_msg(strstr(reason, bad[_i].reason) != NULL, "%s: %s", bad[_i].line, reason);
	free(copy);
}
END_TEST

/* Wherever a line is cut, it is refused or its fields lie within it. */
START_TEST(cut_anywhere)
{
	const char *line = good[_i].line;

	for (size_t length = 0; length < strlen(line); length++) {
		struct replay_line parsed;
		char *copy;

		if (!parse(line, length, &parsed, &copy))
			ck_assert_uint_eq(parsed.time_ns, good[_i].time_s * S);
		free(copy);
	}
}
END_TEST

/* Each day that a line may carry, against the C library. */
START_TEST(every_day)
{
	for (time_t day = 86400; day < 7258118400; day += 86400) {
		struct replay_line parsed;
		char line[128];
		struct tm utc;

		gmtime_r(&day, &utc);
		strftime(line, sizeof(line), "h - - [%d/%b/%Y:00:00:00 +0000] \"GET / x\" 200 1",
			 &utc);
		ck_assert_ptr_null(replay_log_parse(line, strlen(line), &parsed));
		ck_assert_uint_eq(parsed.time_ns, (uint64_t)day * S);
	}
}
END_TEST

START_TEST(any_byte_in_a_field)
{
	const char start[] = "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1 \"-\" \"";
	char line[sizeof(start) + 256];
	size_t used = sizeof(start) - 1;
	struct replay_line parsed;

	memcpy(line, start, used);
	for (int byte = 0; byte < 256; byte++)
		if (byte != '"' && byte != '\\')
			line[used++] = (char)byte;
	line[used] = '"';
	ck_assert_ptr_null(replay_log_parse(line, used + 1, &parsed));
	ck_assert_uint_eq(parsed.fields[REPLAY_USER_AGENT].length, 254);
	ck_assert_ptr_eq(parsed.fields[REPLAY_USER_AGENT].bytes, line + sizeof(start) - 1);
}
END_TEST

START_TEST(bound_on_the_length)
{
	const char start[] = "h - - [01/Jun/2024:12:00:00 +0000] \"GET / x\" 200 1 \"-\" \"";
	static char line[REPLAY_LINE_MAX + 1];
	struct replay_line parsed;

	memset(line, 'a', sizeof(line));
	memcpy(line, start, sizeof(start) - 1);
	ck_assert_ptr_null(replay_log_parse(line, REPLAY_LINE_MAX, &parsed));
	ck_assert_ptr_nonnull(
		strstr(replay_log_parse(line, REPLAY_LINE_MAX + 1, &parsed), "65536"));
}
END_TEST

/* Brackets without end cost no more than the line is long. */
START_TEST(many_brackets)
{
	static char line[REPLAY_LINE_MAX];
	struct replay_line parsed;

	for (size_t i = 0; i < sizeof(line); i++)
		line[i] = i % 2 ? ' ' : '[';
	ck_assert_ptr_nonnull(strstr(replay_log_parse(line, sizeof(line), &parsed), "time"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("replay-log");
	TCase *lines = tcase_create("lines");

	tcase_add_loop_test(lines, read_what_is_sound, 0, LENGTH(good));
	tcase_add_loop_test(lines, refuse_the_rest, 0, LENGTH(bad));
	tcase_add_loop_test(lines, cut_anywhere, 0, LENGTH(good));
	tcase_add_test(lines, every_day);
	tcase_add_test(lines, any_byte_in_a_field);
	tcase_add_test(lines, bound_on_the_length);
	tcase_add_test(lines, many_brackets);
	suite_add_tcase(suite, lines);

	return suite_run(suite);
}
