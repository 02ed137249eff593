/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_route.h - calls that each have a key, and their replies, wherever the keys
 * are: on one server, or on the nodes of a cluster.
 *
 * The rules of redis.h hold: one thread, deadlines, SIGPIPE, interruptions.
 */
#ifndef WEIR_SYNC_REDIS_ROUTE_H
#define WEIR_SYNC_REDIS_ROUTE_H

#include "sync/redis.h"

#define REDIS_ROUTE_CALLS_MAX 32u       /* calls at once */

struct redis_route;

/* As redis_create(). */
int redis_route_create(const struct redis_options *options, const char *const *scripts,
		       unsigned count, struct redis_route **route, struct weir_error *error);

/* As redis_destroy(). */
void redis_route_destroy(struct redis_route *route);

/* Where it leads to, as a URL without the password. */
const char *redis_route_place(const struct redis_route *route);

/* Connect to the server; or to a node of the cluster, and learn where the keys are.
 * Other nodes are connected to as calls need them. */
enum redis_error redis_route_connect(struct redis_route *route, struct weir_error *error);
void redis_route_disconnect(struct redis_route *route);

/* Close the connection that calls with KEY go over, and look for the server anew. */
void redis_route_leave(struct redis_route *route, const char *key, size_t length);

/* Is there a connection for calls to begin with? */
bool redis_route_connected(const struct redis_route *route);

/* Make COUNT calls, at most REDIS_ROUTE_CALLS_MAX, all of them sent before any reply
 * is waited for; replies come within command_ms of the first one being sent, and live
 * until the next call or disconnect.  Nothing is sent from SEND_BY_NS (redis_now_ns())
 * on.
 *
 * In a cluster a call that was not executed, as its slot has moved or is about to, is
 * made again where it is now, five times at most.  RESULTS tell of each call: one
 * node's failure is not the others'.
 *
 * NONE if each call has a reply, an error reply maybe; else the first that has none
 * tells which error is returned, and ERROR says it in words. */
enum redis_error redis_route_call(struct redis_route *route, const struct redis_call *calls,
				  unsigned count, uint64_t send_by_ns,
				  struct redis_result *results, struct weir_error *error);

/* For people: that Redis refused WHAT by the error that is RESULT, and what to do. */
const char *redis_route_explain(const struct redis_route *route,
				const struct redis_result *result, const char *what, char *text,
				size_t size);

/* As those of redis.h. */
void redis_route_interrupt(struct redis_route *route);
void redis_route_rearm(struct redis_route *route);
bool redis_route_sleep_ns(struct redis_route *route, uint64_t ns);

#endif
