/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sync_redis.h"

#include <stdio.h>

struct redis_server *server;
char url[256];

static void begin(int command_ms)
{
	server = redis_server_start(NULL);
	snprintf(url, sizeof(url), "unix://%s?command_ms=%d", redis_server_socket(server),
		 command_ms);
}

void server_begin(void)
{
	begin(500);
}

void server_begin_patient(void)
{
	begin(2000);
}

void server_end(void)
{
	redis_server_end(server);
}

void open_hosts(int count, const char *limit, enum weir_consistency consistency,
		enum weir_fail_mode fail_mode)
{
	struct weir_policy policy = host_policy(limit, consistency, fail_mode);

	hosts_open(count, url, &policy);
}
