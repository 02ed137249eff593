/* SPDX-License-Identifier: Apache-2.0 */
/* redis_proxied.h - a Redis with a proxy in front of it, by a checked fixture. */
#ifndef WEIR_TESTS_REDIS_PROXIED_H
#define WEIR_TESTS_REDIS_PROXIED_H

#include "tests/proxy.h"
#include "tests/redis_client.h"
#include "tests/redis_server.h"

/* Long enough that it never ends a wait in these tests. */
#define LONG_MS 50000

extern struct redis_server *server;
extern struct proxy *proxy;

void proxied_begin(void);
void proxied_end(void);

/* A connection through the proxy, yet to be made. */
struct redis *proxied_client(unsigned command_ms);

/* A flush of calls, the same ones each time, so that they and their replies have equal
 * lengths: sums stay within one number of digits. */
#define CALLS 3
enum redis_error proxied_calls(struct redis *redis, struct redis_result *results);

#endif
