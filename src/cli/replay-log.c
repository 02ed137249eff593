/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-log.c - parse a line of an access log.
 *
 * What is needed to decide a request must be sound: the address, the time, the
 * request, the status and the size.  What comes after may be missing (common
 * format), cut off (a logger with a bound on its lines) or followed by fields
 * of a custom format; none of that makes a line malformed.
 */
#include "replay-log.h"

#include <stdbool.h>
#include <string.h>

struct cursor {
	const char *at;
	const char *end;
};

static const struct replay_text missing = { "-", 1 };

static struct replay_text text_of(const char *from, const char *to)
{
	if (from == to)
		return missing;
	return (struct replay_text){ from, (size_t)(to - from) };
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Bytes up to the next space, or to the end. */
static struct replay_text take_word(struct cursor *cursor)
{
	size_t left = (size_t)(cursor->end - cursor->at);
	const char *space = left ? memchr(cursor->at, ' ', left) : NULL;
	const char *from = cursor->at;
	const char *to = space ? space : cursor->end;

	cursor->at = to;
	return (struct replay_text){ from, (size_t)(to - from) };
}

static bool take_byte(struct cursor *cursor, char byte)
{
	if (cursor->at == cursor->end || *cursor->at != byte)
		return false;
	cursor->at++;
	return true;
}

/* The inside of a quoted string; a backslash keeps the next byte from ending
 * it.  If the line ends first, *CLOSED is false and the text is what there is.
 * Returns false if there is no quote to begin with. */
static bool take_quoted(struct cursor *cursor, struct replay_text *text, bool *closed)
{
	if (!take_byte(cursor, '"'))
		return false;

	const char *from = cursor->at;
	const char *at = from;

	while (at < cursor->end && *at != '"')
		at += *at == '\\' && cursor->end - at > 1 ? 2 : 1;

	*closed = at < cursor->end;
	*text = text_of(from, at);
	cursor->at = at + *closed;
	return true;
}

/* COUNT digits as a number, or -1. */
static int take_number(struct cursor *cursor, int count)
{
	int number = 0;

	for (int i = 0; i < count; i++) {
		if (cursor->at == cursor->end || !is_digit(*cursor->at))
			return -1;
		number = number * 10 + (*cursor->at++ - '0');
	}
	return number;
}

/* 1 to 12, or -1. */
static int take_month(struct cursor *cursor)
{
	static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	if (cursor->end - cursor->at < 3)
		return -1;
	for (int i = 0; i < 12; i++) {
		if (memcmp(cursor->at, names + 3 * i, 3) == 0) {
			cursor->at += 3;
			return i + 1;
		}
	}
	return -1;
}

static bool is_leap_year(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in_month(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	return days[month - 1] + (month == 2 && is_leap_year(year));
}

/* Days from 1970-01-01 to the date, which is valid and not before 1970. */
static int64_t days_since_1970(int year, int month, int day)
{
	static const int before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
	int last = year - 1;
	int leap_days = (last / 4 - last / 100 + last / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);

	return (int64_t)(year - 1970) * 365 + leap_days + before[month - 1] +
	       (month > 2 && is_leap_year(year)) + day - 1;
}

/* "+hhmm" or "-hhmm" in seconds east of UTC. */
static bool take_zone(struct cursor *cursor, int64_t *seconds)
{
	bool west = take_byte(cursor, '-');

	if (!west && !take_byte(cursor, '+'))
		return false;

	int hours = take_number(cursor, 2);
	int minutes = take_number(cursor, 2);

	if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
		return false;
	*seconds = (hours * 60 + minutes) * 60 * (west ? -1 : 1);
	return true;
}

/* "[17/May/2015:10:05:03 +0000]" in nanoseconds since 1970 UTC. */
static bool take_time(struct cursor *cursor, uint64_t *time_ns)
{
	if (!take_byte(cursor, '['))
		return false;

	int day = take_number(cursor, 2);
	bool sound = take_byte(cursor, '/');
	int month = take_month(cursor);
	sound &= take_byte(cursor, '/');
	int year = take_number(cursor, 4);
	sound &= take_byte(cursor, ':');
	int hour = take_number(cursor, 2);
	sound &= take_byte(cursor, ':');
	int minute = take_number(cursor, 2);
	sound &= take_byte(cursor, ':');
	int second = take_number(cursor, 2);
	sound &= take_byte(cursor, ' ');

	int64_t zone_seconds;

	if (!sound || !take_zone(cursor, &zone_seconds) || !take_byte(cursor, ']'))
		return false;
	if (year < REPLAY_YEAR_MIN || year > REPLAY_YEAR_MAX || month < 1 || day < 1 ||
	    day > days_in_month(year, month))
		return false;
	/* Second 60 is a leap second: the same instant as the next minute's 00,
	 * as POSIX counts. */
	if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
		return false;

	int64_t seconds = days_since_1970(year, month, day) * 86400 +
			  (hour * 60 + minute) * 60 + second - zone_seconds;

	if (seconds <= 0)
		return false;
	*time_ns = (uint64_t)seconds * 1000000000u;
	return true;
}

/* The user, up to the time: some servers log names with spaces as they are, so
 * the first " [" that begins a time ends it. */
static bool take_user_and_time(struct cursor *cursor, struct replay_text *user, uint64_t *time_ns)
{
	const char *from = cursor->at;

	for (const char *at = from; at < cursor->end; at++) {
		at = memchr(at, '[', (size_t)(cursor->end - at));
		if (!at)
			return false;
		if (at == from || at[-1] != ' ')
			continue;

		struct cursor after = { at, cursor->end };

		if (take_time(&after, time_ns)) {
			*user = text_of(from, at - 1);
			cursor->at = after.at;
			return true;
		}
	}
	return false;
}

/* "GET /path?query HTTP/1.1".  What is not of that form (a TLS hello sent to a
 * plain port, say) has neither method nor path. */
static void split_request(struct replay_text request, struct replay_line *parsed)
{
	struct cursor cursor = { request.bytes, request.bytes + request.length };
	struct replay_text method = take_word(&cursor);

	parsed->fields[REPLAY_METHOD] = missing;
	parsed->fields[REPLAY_PATH] = missing;
	if (method.length == 0 || !take_byte(&cursor, ' '))
		return;

	struct replay_text target = take_word(&cursor);
	const char *query = target.length ? memchr(target.bytes, '?', target.length) : NULL;
	const char *to = query ? query : target.bytes + target.length;

	parsed->fields[REPLAY_METHOD] = method;
	parsed->fields[REPLAY_PATH] = text_of(target.bytes, to);
}

static bool is_status(struct replay_text text)
{
	return (text.length == 1 && text.bytes[0] == '-') ||
	       (text.length == 3 && is_digit(text.bytes[0]) && is_digit(text.bytes[1]) &&
		is_digit(text.bytes[2]));
}

static bool is_size(struct replay_text text)
{
	if (text.length == 1 && text.bytes[0] == '-')
		return true;
	for (size_t i = 0; i < text.length; i++)
		if (!is_digit(text.bytes[i]))
			return false;
	return text.length > 0;
}

/* Referer and user agent, if the line has them. */
static struct replay_text take_user_agent(struct cursor *cursor)
{
	struct replay_text referer, user_agent;
	bool closed;

	if (!take_byte(cursor, ' ') || !take_quoted(cursor, &referer, &closed) || !closed)
		return missing;
	if (!take_byte(cursor, ' ') || !take_quoted(cursor, &user_agent, &closed))
		return missing;
	return user_agent;
}

const char *replay_log_parse(const char *line, size_t length, struct replay_line *parsed)
{
	struct cursor cursor = { line, line + length };
	struct replay_text request;
	bool closed;

	if (length > REPLAY_LINE_MAX)
		return "longer than 65536 bytes";
	if (length > 0 && cursor.end[-1] == '\r')
		cursor.end--;
	if (cursor.at == cursor.end)
		return "empty line";

	parsed->fields[REPLAY_ADDR] = take_word(&cursor);
	if (parsed->fields[REPLAY_ADDR].length == 0)
		return "no address at the start";

	if (!take_byte(&cursor, ' ') || take_word(&cursor).length == 0 || !take_byte(&cursor, ' '))
		return "no identity after the address";
	if (!take_user_and_time(&cursor, &parsed->fields[REPLAY_USER], &parsed->time_ns))
		return "no valid time such as [17/May/2015:10:05:03 +0000]";
	if (!take_byte(&cursor, ' ') || !take_quoted(&cursor, &request, &closed))
		return "no \"request\" after the time";
	if (!closed)
		return "no quote at the end of the request";
	split_request(request, parsed);

	if (!take_byte(&cursor, ' ') || !is_status(take_word(&cursor)))
		return "no status of three digits after the request";
	if (!take_byte(&cursor, ' ') || !is_size(take_word(&cursor)))
		return "no number of bytes after the status";
	parsed->fields[REPLAY_USER_AGENT] = take_user_agent(&cursor);
	return NULL;
}
