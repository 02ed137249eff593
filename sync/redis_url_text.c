/* SPDX-License-Identifier: Apache-2.0 */
#include "sync/redis_url_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "shm/error.h"

/* The longest word before "://" that is one of ours: a longer one may be a secret. */
#define SCHEME_MAX 15

/* ---- Messages ---------------------------------------------------------- */

/* Where a port begins that is none: "user:password" without its "@host". */
static const char *odd_port(const char *authority)
{
	for (;;) {
		const char *bracket = authority[strcspn(authority, "],/?")] == ']' ?
			strchr(authority, ']') : authority;
		const char *port = bracket + strcspn(bracket, ":,/?");
		const char *end = port;

		if (*port == ':') {
			end = ++port;
			end += strspn(end, "0123456789");
			if (!strchr(",/?", *end))
				return port;
		}
		if (*end != ',')
			return NULL;
		authority = end + 1;
	}
}

/* The URL as it may be shown: without a log-in, and without a query, where
 * people put passwords as well.  What stands before the last '@' of all is a
 * log-in, whatever the grammar says, and so is a port that is no number. */
static const char *redact(const char *url, char *shown, size_t size)
{
	const char *mark = strstr(url, "://");
	const char *at = strrchr(url, '@');
	const char *rest = mark ? mark + 3 : url;
	int scheme_length = 0;
	char text[256];
	char *query;

	if (mark && mark - url <= SCHEME_MAX && (!at || mark < at))
		scheme_length = (int)(mark + 3 - url);
	if (at)
		snprintf(text, sizeof(text), "%.*s***@%s", scheme_length, url, at + 1);
	else if (odd_port(rest))
		snprintf(text, sizeof(text), "%.*s***", (int)(odd_port(rest) - url), url);
	else
		snprintf(text, sizeof(text), "%s", url);
	query = strchr(text, '?');
	if (query)
		query[1] = '\0';
	return weir_quote(text, strlen(text), shown, size);
}

int url_fail(struct weir_error *error, const char *url, const char *format, ...)
{
	char shown[QUOTED_SIZE], what[384];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	return weir_fail(error, WEIR_EINVAL, "the Redis URL \"%s\": %s",
			 redact(url, shown, sizeof(shown)), what);
}

/* ---- Words ------------------------------------------------------------- */

bool span_is(struct span span, const char *text)
{
	return strlen(text) == span.length && strncasecmp(span.text, text, span.length) == 0;
}

struct span span_cut(struct span span, char byte, struct span *rest)
{
	const char *found = span.length > 0 ? memchr(span.text, byte, span.length) : NULL;

	*rest = (struct span){ NULL, 0 };
	if (!found)
		return span;
	rest->text = found + 1;
	rest->length = (size_t)(span.text + span.length - rest->text);
	return (struct span){ span.text, (size_t)(found - span.text) };
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

const char *span_decode(struct span span, char *text, size_t size)
{
	size_t length = 0;

	for (size_t i = 0; i < span.length; i++) {
		char c = span.text[i];

		if (c == '%') {
			int high = i + 1 < span.length ? hex_digit(span.text[i + 1]) : -1;
			int low = i + 2 < span.length ? hex_digit(span.text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return "has a '%' without two hexadecimal digits; write %25 for "
				       "a percent sign";
			c = (char)(high << 4 | low);
			i += 2;
		}
		if (c == '\0')
			return "has a zero byte in it; leave it out";
		if (length + 1 >= size)
			return "is too long; shorten it";
		text[length++] = c;
	}
	text[length] = '\0';
	return NULL;
}

bool span_is_digits(struct span span)
{
	size_t digits = 0;

	while (digits < span.length && span.text[digits] >= '0' && span.text[digits] <= '9')
		digits++;
	return digits > 0 && digits == span.length;
}

bool span_number(struct span span, uint32_t min, uint32_t max, uint32_t *value)
{
	uint64_t sum = 0;

	if (!span_is_digits(span) || span.length > 10)
		return false;
	for (size_t i = 0; i < span.length; i++)
		sum = sum * 10 + (uint64_t)(span.text[i] - '0');
	if (sum < min || sum > max)
		return false;
	*value = (uint32_t)sum;
	return true;
}

int url_number_fail(struct weir_error *error, const char *url, const char *name,
		       struct span span, uint32_t min, uint32_t max)
{
	char quoted[40];

	return url_fail(error, url, "%s \"%s\" is no number that fits; give %u to %u", name,
			weir_quote(span.text, span.length, quoted, sizeof(quoted)), min, max);
}
