/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_CLI_REPLAY_HOSTS_COMMAND_H
#define WEIR_CLI_REPLAY_HOSTS_COMMAND_H

#include "cli.h"
#include "replay-hosts.h"

/* `weir replay --hosts`: what its options ask for, beside the plan. */
struct replay_hosts_request {
	struct replay_hosts_options options;    /* slots: 0 for what the log needs */
	uint32_t modes;                         /* 1 << enum weir_consistency each */
	double demand;                          /* 0: read the log PATH */
	uint64_t demand_s;
	const char *path;
	const struct replay_key_form *form;
	const char *plot;
};

/* Run it, and print the report.  Returns the exit status. */
int replay_hosts_command(struct cli *cli, const struct replay_hosts_request *request,
			 const struct replay_plan *plan);

/* The slots to make: those asked for, if they are enough, else those needed. */
uint64_t replay_choose_slots(struct cli *cli, uint64_t asked, const struct replay_plan *plan,
			     uint32_t keys);

#endif
