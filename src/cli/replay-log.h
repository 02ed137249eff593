/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-log.h - one line of an access log, in the common or combined format:
 *
 *	ADDR IDENT USER [TIME] "REQUEST" STATUS BYTES ["REFERER" "USER-AGENT" ...]
 *
 * Pure: no allocation, no global state.  Bytes are bytes: nothing is assumed
 * about their encoding, and NUL is a byte like any other.
 */
#ifndef WEIR_CLI_REPLAY_LOG_H
#define WEIR_CLI_REPLAY_LOG_H

#include <stddef.h>
#include <stdint.h>

/* Bytes in a line, its newline aside.  A longer one is malformed. */
#define REPLAY_LINE_MAX 65536u

/* Times that a line may carry: from 1970-01-01 00:00:01 UTC (0 means "no
 * time" to the library) to the end of 2199 (below 2^63 with 400 days of debt). */
#define REPLAY_YEAR_MIN 1970
#define REPLAY_YEAR_MAX 2199

enum replay_field {
	REPLAY_ADDR,
	REPLAY_USER,
	REPLAY_METHOD,
	REPLAY_PATH,            /* of the request, without the query string */
	REPLAY_USER_AGENT,
	REPLAY_FIELD_COUNT
};

/* Bytes within the line.  Never empty: a missing or empty field is "-", as
 * servers log it. */
struct replay_text {
	const char *bytes;
	size_t length;
};

struct replay_line {
	uint64_t time_ns;       /* since 1970 UTC, the zone applied */
	struct replay_text fields[REPLAY_FIELD_COUNT];
};

/* Parse LINE (LENGTH bytes, without its newline; a '\r' at the end is
 * ignored).  Fields are what the log says, escapes not undone: what a server
 * logs alike is alike.  Returns NULL, or what is wrong with the line. */
const char *replay_log_parse(const char *line, size_t length, struct replay_line *parsed);

#endif
