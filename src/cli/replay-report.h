/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-report.h - what a replay found, for people and as JSON.
 */
#ifndef WEIR_CLI_REPLAY_REPORT_H
#define WEIR_CLI_REPLAY_REPORT_H

#include "cli.h"
#include "replay-run.h"

#define REPLAY_TOP_KEYS 10u

/* All that a report tells of. */
struct replay_report {
	const char *path;                       /* of the log, or "-" */
	const struct replay_key_form *form;
	const struct replay_input *input;
	const struct replay_plan *plan;
	const struct replay_options *options;
	const struct replay_result *result;
};

struct replay_key_count {
	uint32_t key;
	uint32_t requests;
	uint32_t denied;
};

/* The keys with the most denied requests, the most first; of those that are
 * equal the one with more requests, then the one seen first.  Returns how many
 * there are; fails with -1 for want of memory. */
int replay_top_keys(const struct replay_input *input, const struct replay_result *result,
		    struct replay_key_count top[REPLAY_TOP_KEYS]);

/* The tally of limit LIMIT alone, of policy POLICY. */
const struct replay_tally *replay_alone_tally(const struct replay_report *report, uint32_t policy,
					      uint32_t limit);

/* Write a time in ns since 1970 as "2015-05-17T10:05:03Z".  Returns TEXT. */
#define REPLAY_TIME_SIZE 32
const char *replay_time_text(uint64_t time_ns, char text[REPLAY_TIME_SIZE]);

uint64_t replay_decisions_per_second(const struct replay_result *result);

/* Set what tells of the log and its keys. */
void replay_json_set_input(json_t *object, const struct replay_input *input,
			   const struct replay_key_form *form);

/* Print the report to standard output. */
void replay_print_text(struct cli *cli, const struct replay_report *report);
void replay_print_json(struct cli *cli, const struct replay_report *report);

#endif
