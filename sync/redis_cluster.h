/* SPDX-License-Identifier: Apache-2.0 */
/* redis_cluster.h - what redis_route.h promises, for a Redis Cluster.  For
 * redis_route.c only. */
#ifndef WEIR_SYNC_REDIS_CLUSTER_H
#define WEIR_SYNC_REDIS_CLUSTER_H

#include "sync/redis_route.h"

struct redis_cluster;

/* OWNER, which outlives it, never connects: nodes are made beside it. */
int redis_cluster_create(const struct redis_options *options, const struct redis *owner,
			 struct redis_cluster **cluster, struct weir_error *error);
void redis_cluster_destroy(struct redis_cluster *cluster);

enum redis_error redis_cluster_connect(struct redis_cluster *cluster, struct weir_error *error);
void redis_cluster_disconnect(struct redis_cluster *cluster);
void redis_cluster_leave(struct redis_cluster *cluster, const char *key, size_t length);
bool redis_cluster_connected(const struct redis_cluster *cluster);
enum redis_error redis_cluster_call(struct redis_cluster *cluster, const struct redis_call *calls,
				    unsigned count, uint64_t send_by_ns,
				    struct redis_result *results, struct weir_error *error);

#endif
