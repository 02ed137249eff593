/* SPDX-License-Identifier: Apache-2.0 */
/* redis_nodes.h - the nodes of a cluster that are known, and a connection to each of
 * those in use.  For redis_cluster.c only. */
#ifndef WEIR_SYNC_REDIS_NODES_H
#define WEIR_SYNC_REDIS_NODES_H

#include "sync/redis.h"

#define REDIS_NODES_MAX 96u
#define REDIS_NODE_NONE REDIS_NODES_MAX

struct redis_node {
	struct redis_address address;
	struct redis *redis;            /* NULL: not in use */
	bool seed;                      /* the URL names it: never forgotten */
	bool kept;                      /* in use: neither forgotten nor closed */
	unsigned failures;              /* in a row */
	enum redis_error why;           /* of the last one */
	uint64_t retry_ns;              /* not before */
};

struct redis_nodes {
	const struct redis *owner;
	uint64_t random;
	unsigned count;
	struct redis_node list[REDIS_NODES_MAX];
};

/* The index of the node at ADDRESS, which becomes known in the place of one that is
 * not kept; REDIS_NODE_NONE if all are. */
unsigned redis_nodes_find(struct redis_nodes *nodes, const struct redis_address *address);

/* Know the node at ADDRESS as well, if there is room. */
bool redis_nodes_add(struct redis_nodes *nodes, const struct redis_address *address);

/* Connect to NODE if need be.  NONE, or what is in the way: one that has failed is left
 * alone for a while, so that it takes little of the others' time. */
enum redis_error redis_nodes_connect(struct redis_nodes *nodes, struct redis_node *node,
				     struct weir_error *error);

/* NODE has failed by WHY, which took SPENT_NS. */
void redis_nodes_failed(struct redis_nodes *nodes, struct redis_node *node, enum redis_error why,
			uint64_t spent_ns);

bool redis_node_connected(const struct redis_node *node);

/* Close the connections of those that are not kept. */
void redis_nodes_trim(struct redis_nodes *nodes);

/* Close all. */
void redis_nodes_close(struct redis_nodes *nodes);

#endif
