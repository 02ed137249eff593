/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/environment_value.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define S_NS 1000000000ull
#define DURATION_MAX_NS (100 * 365 * 86400ull * S_NS)

const char *environment_text(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value && *value ? value : otherwise;
}

const char *environment_any_text(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value ? value : otherwise;
}

bool environment_is_set(const char *name)
{
	return environment_text(name, NULL) != NULL;
}

static bool is_one_of(const char *text, const char *const words[6])
{
	for (int i = 0; i < 6; i++) {
		if (strcmp(text, words[i]) == 0)
			return true;
	}
	return false;
}

bool environment_flag(struct cli *cli, const char *name, bool otherwise)
{
	static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };
	static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False" };
	const char *value = environment_text(name, NULL);

	if (!value)
		return otherwise;
	if (!is_one_of(value, yes) && !is_one_of(value, no))
		cli_die(cli, "%s is \"%s\"; write true or false", name, value);
	return is_one_of(value, yes);
}

uint64_t environment_number(struct cli *cli, const char *name, uint64_t otherwise,
			    uint64_t minimum, uint64_t maximum)
{
	const char *value = environment_text(name, NULL);

	return value ? cli_number(cli, name, value, minimum, maximum) : otherwise;
}

float environment_ratio(struct cli *cli, const char *name, float otherwise)
{
	const char *value = environment_text(name, NULL);
	char *end;
	float number;

	if (!value)
		return otherwise;
	number = strtof(value, &end);
	if (*end != '\0' || !(number >= 0 && number <= 1))
		cli_die(cli, "%s is \"%s\"; write a number from 0 to 1, such as 0.8", name, value);
	return number;
}

/* The unit that *TEXT begins with, which is skipped; 0: none. */
static uint64_t take_unit_ns(const char **text)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {
		{ "ns", 1 }, { "us", 1000 }, { "\u00b5s", 1000 }, { "\u03bcs", 1000 },
		{ "ms", 1000000 }, { "s", S_NS }, { "m", 60 * S_NS }, { "h", 3600 * S_NS },
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t length = strlen(units[i].name);

		if (strncmp(*text, units[i].name, length) == 0) {
			*text += length;
			return units[i].ns;
		}
	}
	return 0;
}

/* Digits with at most one point, and a unit: "1.5h".  Returns false if it is none. */
static bool take_part_ns(const char **text, double *sum_ns)
{
	size_t length = strspn(*text, "0123456789.");
	char number[32];
	char *end;
	double value;
	uint64_t unit_ns;

	if (length == 0 || length >= sizeof(number))
		return false;
	memcpy(number, *text, length);
	number[length] = '\0';
	value = strtod(number, &end);
	*text += length;
	unit_ns = take_unit_ns(text);
	*sum_ns += value * (double)unit_ns;
	return end != number && *end == '\0' && unit_ns > 0;
}

uint64_t environment_duration_ns(struct cli *cli, const char *name, const char *otherwise)
{
	const char *value = environment_text(name, otherwise);
	const char *rest = value;
	double sum_ns = 0;

	if (strcmp(value, "0") == 0)
		return 0;
	do {
		if (!take_part_ns(&rest, &sum_ns) || sum_ns > (double)DURATION_MAX_NS)
			cli_die(cli, "%s is \"%s\", which is no duration; write one as 10s, 1h30m "
				"or 100ms", name, value);
	} while (*rest);
	return (uint64_t)sum_ns;
}

/* Reachable, so that nobody who looks for leaks finds one. */
static struct room {
	struct room *next;
	char text[];
} *rooms;

char *environment_room(struct cli *cli, size_t size)
{
	struct room *room = malloc(sizeof(*room) + size);

	if (!room)
		cli_die(cli, "no memory for the options; free some and try again");
	room->next = rooms;
	rooms = room;
	return room->text;
}

const char *environment_print(struct cli *cli, const char *format, ...)
{
	va_list arguments, again;
	char *text;
	int length;

	va_start(arguments, format);
	va_copy(again, arguments);
	length = vsnprintf(NULL, 0, format, arguments);
	if (length < 0)
		cli_die(cli, "a variable is longer than any use of it; shorten it");
	text = environment_room(cli, (size_t)length + 1);
	vsnprintf(text, (size_t)length + 1, format, again);
	va_end(again);
	va_end(arguments);
	return text;
}
