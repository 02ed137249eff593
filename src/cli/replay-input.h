/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-input.h - an access log, read into memory: what workers decide.
 */
#ifndef WEIR_CLI_REPLAY_INPUT_H
#define WEIR_CLI_REPLAY_INPUT_H

#include <stdbool.h>

#include "replay-key.h"

#define REPLAY_EXAMPLES 5u              /* malformed lines kept to be shown */
#define REPLAY_EXAMPLE_BYTES 120u       /* of each */

struct replay_request {
	uint64_t time_ns;       /* since 1970; never before that of the request before */
	uint32_t key;           /* number in the set */
};

struct replay_example {
	uint64_t line;          /* from 1 */
	const char *reason;
	uint32_t length;        /* of bytes */
	bool cut;               /* the line goes on */
	char bytes[REPLAY_EXAMPLE_BYTES];
};

struct replay_input {
	struct replay_request *requests;
	uint32_t request_count;
	uint32_t requests_size;
	struct replay_key_set keys;
	uint64_t lines;                 /* requests and malformed ones */
	uint64_t malformed;
	unsigned example_count;
	struct replay_example examples[REPLAY_EXAMPLES];
	uint64_t steps_back;            /* times earlier than the line before */
	uint64_t held;                  /* requests earlier than the latest time so far,
	                                 * decided at that time */
	uint64_t last_logged_ns;
};

/* Read the log PATH ("-": stdin), plain or gzip; PROGRESS tells of it on standard
 * error.  Malformed lines are counted; a log without a single request is an
 * error.  On error INPUT is empty. */
int replay_input_read(struct replay_input *input, const char *path,
		      const struct replay_key_form *form, bool progress,
		      struct weir_error *error);

void replay_input_free(struct replay_input *input);

#endif
