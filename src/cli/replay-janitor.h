/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-janitor.h - a process that deletes a replay's keys from Redis once everybody
 * who may write them is gone, however they went.
 */
#ifndef WEIR_CLI_REPLAY_JANITOR_H
#define WEIR_CLI_REPLAY_JANITOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "weir.h"

struct replay_janitor {
	pid_t pid;
	int fd;         /* held by this process and its later children */
};

/* Start it: once this process and all its later children have ended, or released
 * it, it deletes what SYNC keeps, and tells of a failure if *WRITTEN (in shared
 * memory).  Call it with signals blocked, before the children.  Errors:
 * WEIR_ESYSTEM. */
int replay_janitor_start(struct replay_janitor *janitor, const struct weir_sync_options *sync,
			 const _Atomic bool *written, struct weir_error *error);

/* All children have ended: let it do its work, and wait for that. */
void replay_janitor_release(struct replay_janitor *janitor);

#endif
