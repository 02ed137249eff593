/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/redis_proxied.h"

#include <stdio.h>

struct redis_server *server;
struct proxy *proxy;

void proxied_begin(void)
{
	char path[160];

	server = redis_server_start(NULL);
	snprintf(path, sizeof(path), "%s/proxy.sock", redis_server_directory(server));
	proxy = proxy_start(path, redis_server_socket(server));
}

void proxied_end(void)
{
	proxy_end(proxy);
	redis_server_end(server);
}

struct redis *proxied_client(unsigned command_ms)
{
	return client_create("unix://%s?command_ms=%u&connect_ms=%d", proxy_address(proxy),
			     command_ms, LONG_MS);
}

enum redis_error proxied_calls(struct redis *redis, struct redis_result *results)
{
	struct weir_error error;

	for (int i = 0; i < CALLS; i++)
		client_add(redis, "key", 1);
	return redis_flush_and_read(redis, results, CALLS, &error);
}
