/* SPDX-License-Identifier: Apache-2.0 */
/* redis_cluster.h - a real Redis Cluster for a test: masters that share the slots out, and
 * replicas of them, each a redis_server.h on a free port of 127.0.0.1. */
#ifndef WEIR_TESTS_REDIS_CLUSTER_H
#define WEIR_TESTS_REDIS_CLUSTER_H

#include <stdbool.h>

#include "tests/redis_server.h"

#define CLUSTER_NODES_MAX 6
#define CLUSTER_SLOTS 16384

struct redis_cluster_node {
	struct redis_server *server;
	struct redisContext *admin;     /* over its unix socket */
	int port;
	char id[41];
};

/* The masters first, then for each of the first REPLICAS masters its replica. */
extern struct redis_cluster_node cluster_nodes[CLUSTER_NODES_MAX];
extern int cluster_count;

/* Start one and wait until every node says that it is up. */
void cluster_start(int masters, int replicas);
void cluster_end(void);

/* The first node's URL, with QUERY behind it. */
const char *cluster_url(const char *scheme, const char *query);

/* Make NODE carry out a command, which must not fail; an integer, or else 0. */
long long cluster_do(int node, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Does CLUSTER INFO of NODE say so? */
bool cluster_is_up(int node);

/* The slot of KEY, as Redis has it, and the node that has the slot, by NODE. */
int cluster_slot(const char *key);
int cluster_owner(int node, int slot);

#endif
