/* SPDX-License-Identifier: Apache-2.0 */
#include "sync/redis_route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"
#include "sync/redis_cluster.h"
#include "sync/redis_socket.h"

struct redis_route {
	struct redis *redis;            /* the server; of a cluster, what its nodes share */
	struct redis_cluster *cluster;  /* NULL: there is one server */
};

int redis_route_create(const struct redis_options *options, const char *const *scripts,
		       unsigned count, struct redis_route **route, struct weir_error *error)
{
	struct redis_route *made = calloc(1, sizeof(*made));
	int status;

	*route = NULL;
	if (!made)
		return weir_fail(error, WEIR_ENOMEM, "no memory for a connection; free some");
	status = redis_create(options, scripts, count, &made->redis, error);
	if (status == WEIR_OK && options->topology == REDIS_CLUSTER)
		status = redis_cluster_create(options, made->redis, &made->cluster, error);
	if (status != WEIR_OK) {
		redis_route_destroy(made);
		return status;
	}
	*route = made;
	return weir_ok(error);
}

void redis_route_destroy(struct redis_route *route)
{
	if (!route)
		return;
	redis_cluster_destroy(route->cluster);
	redis_destroy(route->redis);
	free(route);
}

const char *redis_route_place(const struct redis_route *route)
{
	return redis_place(route->redis);
}

enum redis_error redis_route_connect(struct redis_route *route, struct weir_error *error)
{
	if (route->cluster)
		return redis_cluster_connect(route->cluster, error);
	return redis_connect(route->redis, error);
}

void redis_route_disconnect(struct redis_route *route)
{
	if (route->cluster)
		redis_cluster_disconnect(route->cluster);
	else
		redis_disconnect(route->redis);
}

void redis_route_leave(struct redis_route *route, const char *key, size_t length)
{
	if (route->cluster)
		redis_cluster_leave(route->cluster, key, length);
	else
		redis_disconnect(route->redis);
}

bool redis_route_connected(const struct redis_route *route)
{
	if (route->cluster)
		return redis_cluster_connected(route->cluster);
	return redis_connected(route->redis);
}

/* ---- Calls ------------------------------------------------------------- */

static enum redis_error call_one_server(struct redis *redis, const struct redis_call *calls,
					unsigned count, struct redis_result *results,
					struct weir_error *error)
{
	for (unsigned i = 0; i < count; i++) {
		enum redis_error result = redis_append_call(redis, &calls[i]);

		if (result == REDIS_ERROR_NONE)
			continue;
		for (i = 0; i < count; i++)
			results[i] = (struct redis_result){ REDIS_ERROR_NOT_CONNECTED, NULL };
		redis_disconnect(redis);
		weir_fail(error, WEIR_ESYSTEM, "%s: %s", redis_place(redis),
			  result == REDIS_ERROR_NOT_CONNECTED ?
				  "there is no connection; connect first" :
				  "no memory, or too many arguments, for a call; free some");
		return result;
	}
	return redis_flush_and_read(redis, results, count, error);
}

enum redis_error redis_route_call(struct redis_route *route, const struct redis_call *calls,
				  unsigned count, uint64_t send_by_ns,
				  struct redis_result *results, struct weir_error *error)
{
	if (count > REDIS_ROUTE_CALLS_MAX) {
		weir_fail(error, WEIR_EINVAL, "%u calls at once are too many; make at most %u", count,
			  REDIS_ROUTE_CALLS_MAX);
		return REDIS_ERROR_NO_ROOM;
	}
	if (route->cluster)
		return redis_cluster_call(route->cluster, calls, count, send_by_ns, results, error);
	for (unsigned i = 0; i < count; i++)
		results[i] = (struct redis_result){ REDIS_ERROR_NOT_CONNECTED, NULL };
	if (redis_now_ns() >= send_by_ns) {
		weir_fail(error, WEIR_ESYSTEM, "%s: the calls are too old to be sent; make new ones",
			  redis_place(route->redis));
		return REDIS_ERROR_NOT_CONNECTED;
	}
	return call_one_server(route->redis, calls, count, results, error);
}

static const char *advice(const struct redis_route *route, enum redis_error error)
{
	if (error != REDIS_ERROR_MOVED && error != REDIS_ERROR_ASK)
		return redis_error_advice(error);
	if (route->cluster)
		return "the nodes send it from one to another: see CLUSTER NODES of each";
	return "this is a Redis Cluster: write redis-cluster://, or over TLS rediss-cluster://, "
	       "in the URL";
}

const char *redis_route_explain(const struct redis_route *route,
				const struct redis_result *result, const char *what, char *text,
				size_t size)
{
	char quoted[200] = "";
	size_t length;
	const char *reply = redis_reply_text(result->reply, &length);

	if (reply)
		weir_quote(reply, length, quoted, sizeof(quoted));
	/* What to do comes first: the end may be cut off. */
	snprintf(text, size, "%s refused %s (%s); %s%s%s", redis_route_place(route), what,
		 redis_error_name(result->error), advice(route, result->error),
		 reply ? "; it said: " : "", quoted);
	return text;
}

/* ---- Interrupting ------------------------------------------------------ */

void redis_route_interrupt(struct redis_route *route)
{
	redis_interrupt(route->redis);
}

void redis_route_rearm(struct redis_route *route)
{
	redis_rearm(route->redis);
}

bool redis_route_sleep_ns(struct redis_route *route, uint64_t ns)
{
	return redis_sleep_ns(route->redis, ns);
}
