/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sentinel_fixture.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "tests/proxy.h"
#include "tests/sync_fixture.h"

struct redis_server *sentinel_master, *sentinel_replica;

static struct redis_server *sentinel;
static struct proxy *to_master, *to_replica, *to_sentinel;

static redisReply *command(struct redis_server *server, const char *text)
{
	redisContext *context = redis_server_connect(server);
	redisReply *reply = redisCommand(context, text);

	ck_assert_msg(reply && reply->type != REDIS_REPLY_ERROR, "%s: %s", text,
		      reply ? reply->str : context->errstr);
	redisFree(context);
	return reply;
}

static void tell(struct redis_server *server, const char *text)
{
	freeReplyObject(command(server, text));
}

static bool info_has(struct redis_server *server, const char *text)
{
	redisReply *reply = command(server, "INFO replication");
	bool found = strstr(reply->str, text);

	freeReplyObject(reply);
	return found;
}

/* Has the sentinel asked the replica how it is? */
static bool sentinel_knows_the_replica(void)
{
	redisReply *reply = command(sentinel, "SENTINEL REPLICAS mymaster");
	bool found = false;

	for (size_t i = 0; reply->elements == 1 && i < reply->element[0]->elements; i += 2)
		if (strcmp(reply->element[0]->element[i]->str, "master-link-status") == 0)
			found = strcmp(reply->element[0]->element[i + 1]->str, "ok") == 0;
	freeReplyObject(reply);
	return found;
}

void sentinel_start(void)
{
	static const char *const at_once[] = { "--repl-diskless-sync-delay", "0", NULL };
	char port[8], announced[8], text[256];
	const char *const follow[] = {
		"--replicaof", "127.0.0.1", port, "--masteruser", "replica", "--masterauth", "pass",
		"--replica-announce-ip", "127.0.0.1", "--replica-announce-port", announced,
		"--repl-diskless-sync-delay", "0", NULL
	};

	sentinel_master = redis_server_start(at_once);
	to_master = proxy_start("127.0.0.1:0", redis_server_socket(sentinel_master));
	to_replica = proxy_start("127.0.0.1:0", redis_server_socket(sentinel_master));
	snprintf(port, sizeof(port), "%u", proxy_port(to_master));
	snprintf(announced, sizeof(announced), "%u", proxy_port(to_replica));
	tell(sentinel_master, "ACL SETUSER replica on >pass +psync +replconf +ping");
	sentinel_replica = redis_server_start(follow);
	proxy_redirect(to_replica, redis_server_socket(sentinel_replica));
	snprintf(text, sizeof(text),
		 "sentinel monitor mymaster 127.0.0.1 %s 1\n"
		 "sentinel down-after-milliseconds mymaster 1000\n", port);
	sentinel = redis_server_start_sentinel(text);
	to_sentinel = proxy_start("127.0.0.1:0", redis_server_socket(sentinel));
	wait_until(info_has(sentinel_replica, "master_link_status:up"));
	wait_until(sentinel_knows_the_replica());
}

void sentinel_end(void)
{
	proxy_end(to_sentinel);
	proxy_end(to_master);
	proxy_end(to_replica);
	redis_server_end(sentinel);
	redis_server_end(sentinel_replica);
	redis_server_end(sentinel_master);
}

void sentinel_cut_replication(void)
{
	tell(sentinel_master, "ACL SETUSER replica off");
	tell(sentinel_master, "CLIENT KILL TYPE replica");
	wait_until(info_has(sentinel_master, "connected_slaves:0"));
}

const char *sentinel_url(const char *query)
{
	static char url[256];

	snprintf(url, sizeof(url), "redis-sentinel://127.0.0.1:%u/mymaster%s",
		 proxy_port(to_sentinel), query);
	return url;
}

bool sentinel_has_promoted(void)
{
	return info_has(sentinel_replica, "role:master");
}
