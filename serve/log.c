/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "serve/environment_value.h"
#include "src/cli/cli.h"

#define TIMESTAMP_SIZE sizeof("2026-11-25T13:00:03.947037667+01:00")

static const char *const level_names[] = {
	[CLI_LEVEL_FATAL] = "fatal",
	[CLI_LEVEL_ERROR] = "error",
	[CLI_LEVEL_WARNING] = "warning",
	[CLI_LEVEL_INFO] = "info",
};

/* RFC 3339, in the time zone of the process. */
static void print_timestamp(char timestamp[TIMESTAMP_SIZE])
{
	struct timespec now;
	struct tm local;
	size_t length;
	long offset_min;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	offset_min = local.tm_gmtoff / 60;
	length = strftime(timestamp, TIMESTAMP_SIZE, "%Y-%m-%dT%H:%M:%S", &local);
	length += (size_t)snprintf(timestamp + length, TIMESTAMP_SIZE - length, ".%09ld",
				   now.tv_nsec);
	if (offset_min == 0)
		snprintf(timestamp + length, TIMESTAMP_SIZE - length, "Z");
	else
		snprintf(timestamp + length, TIMESTAMP_SIZE - length, "%c%02ld:%02ld",
			 offset_min < 0 ? '-' : '+', labs(offset_min) / 60 % 100,
			 labs(offset_min) % 60);
}

/* A line is written at once: threads do not mix theirs. */
static bool write_json(enum cli_level level, const char *message)
{
	char timestamp[TIMESTAMP_SIZE];
	json_t *line;
	char *text;

	print_timestamp(timestamp);
	line = json_pack("{s:o, s:s, s:s}", "@message", cli_json_text(message), "@timestamp",
			 timestamp, "level", level_names[level]);
	text = json_dumps(line, JSON_COMPACT);
	json_decref(line);
	if (!text)
		return false;   /* no memory: as text, then */
	fprintf(stderr, "%s\n", text);
	free(text);
	return true;
}

void log_start(void)
{
	const char *format = environment_text("LOG_FORMAT", "text");

	if (strcasecmp(format, "json") == 0)
		cli_set_log(write_json);
	else if (strcasecmp(format, "text") != 0)
		cli_warn("LOG_FORMAT is \"%s\", and lines are text; write json or text", format);
}
