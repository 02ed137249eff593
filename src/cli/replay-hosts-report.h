/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-hosts-report.h - what a replay of several hosts found, for people, as JSON and
 * as a plot.
 */
#ifndef WEIR_CLI_REPLAY_HOSTS_REPORT_H
#define WEIR_CLI_REPLAY_HOSTS_REPORT_H

#include "cli.h"
#include "replay-debt.h"

struct replay_hosts_report {
	const char *path;                       /* of the log, "-", or NULL */
	double demand;                          /* 0: a log was read */
	const struct replay_key_form *form;
	const struct replay_input *input;
	const struct replay_plan *plan;         /* as given */
	const struct replay_plan *accelerated;
	const struct replay_hosts_options *options;
	const struct replay_mode_measure *measures;
	unsigned measure_count;
};

/* Tokens, of what was multiplied by LIMIT's period. */
double replay_tokens(replay_wide scaled, const struct weir_limit *limit);

/* Admitted by ideal: 1 where neither admitted anything. */
double replay_admitted_to_ideal(const struct replay_policy_measure *policy);

/* Has any mode exceeded its bound? */
bool replay_hosts_above(const struct replay_hosts_report *report);

void replay_hosts_print_text(const struct replay_hosts_report *report);
void replay_hosts_print_json(struct cli *cli, const struct replay_hosts_report *report);

/* Draw over-admission beside its bound, for each mode, to the SVG file PATH.  Errors:
 * WEIR_ESYSTEM. */
int replay_hosts_plot(const char *path, const struct replay_hosts_report *report,
		      struct weir_error *error);

#endif
