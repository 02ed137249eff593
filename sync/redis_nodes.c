/* SPDX-License-Identifier: Apache-2.0 */
#include "sync/redis_nodes.h"

#include <string.h>

#include "shm/error.h"
#include "sync/redis_socket.h"

/* A node that is slow to fail may take a fifth of the time from the others. */
#define REST 4u

static struct redis_node *known(struct redis_nodes *nodes, const struct redis_address *address)
{
	for (unsigned i = 0; i < nodes->count; i++) {
		struct redis_node *node = &nodes->list[i];

		if (node->address.port == address->port &&
		    strcmp(node->address.host, address->host) == 0)
			return node;
	}
	return NULL;
}

bool redis_nodes_add(struct redis_nodes *nodes, const struct redis_address *address)
{
	if (known(nodes, address))
		return true;
	if (nodes->count == REDIS_NODES_MAX)
		return false;
	nodes->list[nodes->count++] = (struct redis_node){ .address = *address };
	return true;
}

unsigned redis_nodes_find(struct redis_nodes *nodes, const struct redis_address *address)
{
	if (redis_nodes_add(nodes, address))
		return (unsigned)(known(nodes, address) - nodes->list);
	for (unsigned i = 0; i < nodes->count; i++) {
		struct redis_node *node = &nodes->list[i];

		if (node->seed || node->kept)
			continue;
		redis_destroy(node->redis);
		*node = (struct redis_node){ .address = *address };
		return i;
	}
	return REDIS_NODE_NONE;
}

/* ---- Connections ------------------------------------------------------- */

bool redis_node_connected(const struct redis_node *node)
{
	return node->redis && redis_connected(node->redis);
}

static uint64_t next_random(struct redis_nodes *nodes)
{
	nodes->random = nodes->random * 6364136223846793005u + 1442695040888963407u;
	return nodes->random ^ nodes->random << 32;
}

void redis_nodes_failed(struct redis_nodes *nodes, struct redis_node *node, enum redis_error why,
			uint64_t spent_ns)
{
	uint64_t wait_ns = redis_backoff_ns(node->failures, next_random(nodes),
					    redis_error_permanent(why));

	if (why == REDIS_ERROR_INTERRUPTED)
		return;                 /* not its fault */
	if (wait_ns < REST * spent_ns)
		wait_ns = REST * spent_ns;
	node->failures++;
	node->why = why;
	node->retry_ns = redis_now_ns() + wait_ns;
}

/* A call that is not sent is not in doubt, whatever was with the last one. */
static enum redis_error not_yet(const struct redis_node *node, struct weir_error *error)
{
	weir_fail(error, WEIR_ESYSTEM, "%s port %u: failed a moment ago (%s), and is asked again "
		  "soon; check that node", node->address.host, node->address.port,
		  redis_error_name(node->why));
	return redis_error_permanent(node->why) ? node->why : REDIS_ERROR_NOT_CONNECTED;
}

enum redis_error redis_nodes_connect(struct redis_nodes *nodes, struct redis_node *node,
				     struct weir_error *error)
{
	uint64_t begin_ns = redis_now_ns();
	enum redis_error result;

	if (redis_node_connected(node))
		return REDIS_ERROR_NONE;
	if (begin_ns < node->retry_ns)
		return not_yet(node, error);
	if (!node->redis &&
	    redis_create_beside(nodes->owner, &node->address, &node->redis, error) != WEIR_OK)
		return REDIS_ERROR_NO_ROOM;
	result = redis_connect(node->redis, error);
	if (result != REDIS_ERROR_NONE)
		redis_nodes_failed(nodes, node, result, redis_now_ns() - begin_ns);
	return result;
}

void redis_nodes_trim(struct redis_nodes *nodes)
{
	for (unsigned i = 0; i < nodes->count; i++) {
		struct redis_node *node = &nodes->list[i];

		if (node->kept || !node->redis)
			continue;
		if (node->seed) {       /* it may be looking its name up */
			redis_disconnect(node->redis);
			continue;
		}
		redis_destroy(node->redis);
		node->redis = NULL;
	}
}

void redis_nodes_close(struct redis_nodes *nodes)
{
	for (unsigned i = 0; i < nodes->count; i++) {
		redis_destroy(nodes->list[i].redis);
		nodes->list[i].redis = NULL;
	}
}
