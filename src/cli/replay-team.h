/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-team.h - worker processes: started, watched, and never left behind.
 */
#ifndef WEIR_CLI_REPLAY_TEAM_H
#define WEIR_CLI_REPLAY_TEAM_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "weir.h"

#define REPLAY_TEAM_MAX 256u

/* Written by one worker, read by the parent. */
struct replay_worker {
	_Alignas(64) _Atomic uint64_t done;     /* requests, for the progress */
	uint64_t start_ns, end_ns;              /* CLOCK_MONOTONIC */
};

struct replay_team {
	unsigned count;                         /* of workers */
	uint64_t requests;                      /* of all of them */
	bool progress;                          /* show it on standard error */
	void (*work)(void *context, unsigned number);   /* what a worker does */
	void *context;
	struct replay_worker *workers;          /* in shared memory */
	pid_t pids[REPLAY_TEAM_MAX];            /* 0: not running */
};

struct replay_signals {
	sigset_t watched;       /* blocked while workers run, and waited for */
	sigset_t before;
	struct sigaction child_before;
};

/* From here on a signal waits until we look for it, so that none can end this
 * process between making a segment and removing its name, or leave workers
 * behind. */
void replay_signals_block(struct replay_signals *signals);
void replay_signals_restore(const struct replay_signals *signals);

/* Fork the workers and wait for them.  A worker's death ends all: the totals would
 * be wrong.  So does a signal, which is then in *SIGNAL; to be raised again once
 * signals are restored.  Errors: WEIR_ESYSTEM. */
int replay_team_run(struct replay_team *team, const struct replay_signals *signals, int *signal,
		    struct weir_error *error);

#endif
