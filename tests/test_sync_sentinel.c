/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync_sentinel.c - hosts whose Redis is killed and replaced by a replica that
 * lags: real servers, and a real sentinel that makes up its mind by itself.
 *
 * Servers listen on unix sockets; a proxy gives each the TCP port under which the
 * others know it.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "tests/proxy.h"
#include "tests/redis_server.h"
#include "tests/sync_fixture.h"

#define HOSTS 3
#define BURST 4000
#define CAP 100                 /* 5 % of the burst, for 2 others */

static struct redis_server *master, *replica, *sentinel;
static struct proxy *to_master, *to_replica, *to_sentinel;

/* ---- Servers ----------------------------------------------------------- */

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

static void start_servers(void)
{
	static const char *const at_once[] = { "--repl-diskless-sync-delay", "0", NULL };
	char port[8], announced[8], text[256];
	const char *const follow[] = {
		"--replicaof", "127.0.0.1", port, "--masteruser", "replica", "--masterauth", "pass",
		"--replica-announce-ip", "127.0.0.1", "--replica-announce-port", announced,
		"--repl-diskless-sync-delay", "0", NULL
	};

	master = redis_server_start(at_once);
	to_master = proxy_start("127.0.0.1:0", redis_server_socket(master));
	to_replica = proxy_start("127.0.0.1:0", redis_server_socket(master));
	snprintf(port, sizeof(port), "%u", proxy_port(to_master));
	snprintf(announced, sizeof(announced), "%u", proxy_port(to_replica));
	tell(master, "ACL SETUSER replica on >pass +psync +replconf +ping");
	replica = redis_server_start(follow);
	proxy_redirect(to_replica, redis_server_socket(replica));
	snprintf(text, sizeof(text),
		 "sentinel monitor mymaster 127.0.0.1 %s 1\n"
		 "sentinel down-after-milliseconds mymaster 1000\n", port);
	sentinel = redis_server_start_sentinel(text);
	to_sentinel = proxy_start("127.0.0.1:0", redis_server_socket(sentinel));
	wait_until(info_has(replica, "master_link_status:up"));
	wait_until(sentinel_knows_the_replica());
}

static void end_servers(void)
{
	proxy_end(to_sentinel);
	proxy_end(to_master);
	proxy_end(to_replica);
	redis_server_end(sentinel);
	redis_server_end(replica);
	redis_server_end(master);
}

/* What the master is told from now on the replica never hears. */
static void cut_replication(void)
{
	tell(master, "ACL SETUSER replica off");
	tell(master, "CLIENT KILL TYPE replica");
	wait_until(info_has(master, "connected_slaves:0"));
}

/* ---- Hosts ------------------------------------------------------------- */

static uint64_t admitted;

static void take_each(int count)
{
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", count);
	admitted += (uint64_t)(HOSTS * count);
}

static bool all_fresh(void)
{
	bool fresh = true;

	for (int i = 0; i < HOSTS; i++)
		fresh = fresh && is_fresh(hosts[i]);
	return fresh;
}

/* Ask all hosts without a pause.  Returns whether all have had enough. */
static bool hammer(void)
{
	int refused = 0;

	for (int i = 0; i < HOSTS; i++) {
		struct weir_decision decision;

		if (ask(i, "key", 1, &decision))
			admitted++;
		else
			refused += decision.reason == WEIR_REASON_LIMIT;
	}
	return refused == HOSTS;
}

/* Under load the master dies, and the replica that takes over has heard only of half:
 * the hosts tell it the rest.  Nothing is charged twice, and no more is admitted than
 * the bound: once (N - 1) Q, and once more for the failover. */
START_TEST(test_failover)
{
	struct weir_policy policy = host_policy("4000/365d", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	uint64_t at_failover, left, spent;
	char url[256];

	start_servers();
	snprintf(url, sizeof(url), "redis-sentinel://127.0.0.1:%u/mymaster?command_ms=500",
		 proxy_port(to_sentinel));
	admitted = 0;
	hosts_open(HOSTS, url, &policy);
	ck_assert_uint_eq(status_of(hosts[0]).largest_cap, CAP);
	take_each(100);
	all_agree_on("key", BURST - admitted);
	cut_replication();
	take_each(300);
	all_agree_on("key", BURST - admitted);
	at_failover = admitted;

	redis_server_kill(master);
	while (all_fresh())
		hammer();
	ck_assert_uint_le(admitted, at_failover + HOSTS * CAP);
	/* Load until all have views again. */
	for (int i = 0; !all_fresh() && i < PATIENCE; i++) {
		hammer();
		nap();
	}
	for (int i = 0; i < HOSTS; i++)
		wait_until(status_of(hosts[i]).unmerged_tokens == 0);
	ck_assert(info_has(replica, "role:master"));

	/* The first round after the fence restores; whoever comes then finds it. */
	left = remaining_in_redis(url, &policy, "key");
	admitted++;
	spent = BURST - left;
	ck_assert_uint_le(spent, admitted);
	ck_assert_uint_ge(spent + (HOSTS - 1) * CAP, admitted);
	wait_until(hammer());
	ck_assert_uint_ge(admitted, BURST);
	ck_assert_uint_le(admitted, BURST + 2 * (HOSTS - 1) * CAP);
	hosts_close();
	end_servers();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_sentinel");
	TCase *tests = tcase_create("sentinel");
	SRunner *runner;
	int failed;

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, test_failover);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
