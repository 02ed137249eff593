/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-hosts-worker.h - what the parent of several hosts and their workers share,
 * and the work.
 */
#ifndef WEIR_CLI_REPLAY_HOSTS_WORKER_H
#define WEIR_CLI_REPLAY_HOSTS_WORKER_H

#include <pthread.h>

#include "replay-hosts.h"

/* Written by one worker, read by the parent. */
struct replay_pace {
	_Alignas(64) uint64_t slowest_ns;
	uint64_t latest_ns;
};

/* In shared memory. */
struct replay_hosts_shared {
	pthread_barrier_t barrier;              /* of all workers */
	_Atomic bool reached;                   /* Redis may hold keys of ours */
	uint64_t start_ns;                      /* CLOCK_BOOTTIME of the log's first time */
	struct replay_host hosts[REPLAY_HOSTS_MAX];
	struct replay_worker workers[REPLAY_TEAM_MAX];
	struct replay_pace paces[REPLAY_TEAM_MAX];
};

struct replay_cluster {
	const struct replay_input *input;
	const struct replay_plan *plan;
	const struct replay_hosts_options *options;
	struct weir_sync_options sync;
	struct weir *weirs[REPLAY_HOSTS_MAX];
	weir_policy_id *policies[REPLAY_HOSTS_MAX];
	uint8_t *host_of;                       /* each request */
	struct replay_hosts_shared *shared;
	struct replay_decisions *decisions;     /* its arrays are in shared memory */
};

/* The work of worker NUMBER of a struct replay_cluster: worker NUMBER / hosts of host
 * NUMBER mod hosts.  Worker 0 of a host has its sync thread. */
void replay_hosts_work(void *cluster, unsigned number);

#endif
