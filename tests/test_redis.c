/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to a real Redis that is healthy, hangs or is gone.  One that refuses is in
 * test_redis_refusals.c, what the network does in test_redis_network.c.
 */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "sync/redis_socket.h"
#include "tests/proxy.h"
#include "tests/redis_client.h"
#include "tests/redis_server.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define NS_PER_MS 1000000ull

/* Long enough that it never ends a wait in these tests. */
#define LONG_MS 50000

/* ---- What needs no Redis ------------------------------------------------ */

static const struct {
	const char *text;
	enum redis_error error;
} replies[] = {
	{ "NOSCRIPT No matching script.", REDIS_ERROR_NOSCRIPT },
	{ "READONLY You can't write against a read only replica. script: ab, on @user_script:1.",
	  REDIS_ERROR_READONLY },
	{ "MOVED 3999 127.0.0.1:6381", REDIS_ERROR_MOVED },
	{ "ASK 3999 127.0.0.1:6381", REDIS_ERROR_ASK },
	{ "TRYAGAIN Multiple keys request during rehashing of slot", REDIS_ERROR_TRYAGAIN },
	{ "CLUSTERDOWN The cluster is down", REDIS_ERROR_CLUSTERDOWN },
	{ "LOADING Redis is loading the dataset in memory", REDIS_ERROR_LOADING },
	{ "BUSY Redis is busy running a script.", REDIS_ERROR_BUSY },
	{ "MASTERDOWN Link with MASTER is down", REDIS_ERROR_MASTERDOWN },
	{ "OOM command not allowed when used memory > 'maxmemory'.", REDIS_ERROR_OOM },
	{ "NOREPLICAS Not enough good replicas to write.", REDIS_ERROR_NOREPLICAS },
	{ "MISCONF Redis is configured to save RDB snapshots", REDIS_ERROR_MISCONF },
	{ "ERR max number of clients reached", REDIS_ERROR_MAXCLIENTS },
	{ "NOAUTH Authentication required.", REDIS_ERROR_NOAUTH },
	{ "WRONGPASS invalid username-password pair or user is disabled.",
	  REDIS_ERROR_WRONGPASS },
	{ "ERR invalid password", REDIS_ERROR_WRONGPASS },
	{ "ERR wrong number of arguments for 'auth' command", REDIS_ERROR_WRONGPASS },
	{ "ERR Protocol error: unauthenticated bulk length", REDIS_ERROR_NOAUTH },
	{ "ERR Protocol error: unauthenticated multibulk length", REDIS_ERROR_NOAUTH },
	{ "ERR DB index is out of range", REDIS_ERROR_DATABASE },
	{ "ERR SELECT is not allowed in cluster mode", REDIS_ERROR_DATABASE },
	{ "NOPERM this user has no permissions to run the 'evalsha' command",
	  REDIS_ERROR_NOPERM },
	{ "ERR The user executing the script can't run this command or subcommand",
	  REDIS_ERROR_NOPERM },
	{ "WRONGTYPE Operation against a key holding the wrong kind of value",
	  REDIS_ERROR_WRONGTYPE },
	{ "DENIED Redis is running in protected mode", REDIS_ERROR_DENIED },
	{ "ERR Error running script (call to f_ab): @user_script:1: @user_script: 1: -OOM command "
	  "not allowed", REDIS_ERROR_OOM },
	{ "ERR Error running script (call to f_ab): @user_script:1: x", REDIS_ERROR_OTHER },
	{ "BUSYGROUP Consumer Group name already exists", REDIS_ERROR_OTHER },
	{ "ERR unknown command 'EVALSHA'", REDIS_ERROR_OTHER },
	{ "LOADING", REDIS_ERROR_LOADING },
	{ "LOADIN", REDIS_ERROR_OTHER },
	{ "ERR", REDIS_ERROR_OTHER },
	{ "", REDIS_ERROR_OTHER },
};

START_TEST(error_replies_are_told_apart)
{
	ck_assert_str_eq(redis_error_name(redis_error_classify(replies[_i].text,
							       strlen(replies[_i].text))),
			 redis_error_name(replies[_i].error));
}
END_TEST

/* Every error has a name of its own, and every value an answer. */
START_TEST(errors_are_described)
{
	for (int i = 0; i < REDIS_ERROR_COUNT; i++) {
		ck_assert_ptr_nonnull(redis_error_name(i));
		for (int other = 0; other < i; other++)
			ck_assert_str_ne(redis_error_name(i), redis_error_name(other));
	}
	ck_assert_str_eq(redis_error_name(REDIS_ERROR_COUNT), "unknown");
	ck_assert_str_eq(redis_error_name((enum redis_error)-1), "unknown");
	ck_assert_int_eq(redis_error_fate(REDIS_ERROR_COUNT), REDIS_DOUBTFUL);
	ck_assert_int_eq(redis_error_fate(REDIS_ERROR_NONE), REDIS_EXECUTED);
	ck_assert_int_eq(redis_error_fate(REDIS_ERROR_NOSCRIPT), REDIS_NOT_EXECUTED);
	ck_assert_int_eq(redis_error_fate(REDIS_ERROR_TIMEOUT), REDIS_DOUBTFUL);
	ck_assert_int_eq(redis_error_fate(REDIS_ERROR_WRONGTYPE), REDIS_DOUBTFUL);
	ck_assert(redis_error_fatal(REDIS_ERROR_CUT) && !redis_error_fatal(REDIS_ERROR_OOM));
	ck_assert(redis_error_permanent(REDIS_ERROR_WRONGPASS));
	ck_assert(!redis_error_permanent(REDIS_ERROR_LOADING));
}
END_TEST

START_TEST(backoff_grows_to_a_ceiling)
{
	for (int permanent = 0; permanent < 2; permanent++) {
		uint64_t least = permanent ? 1000 * NS_PER_MS : NS_PER_MS;
		uint64_t most = permanent ? 60000 * NS_PER_MS : 1000 * NS_PER_MS;
		uint64_t before = 0;

		for (unsigned attempt = 0; attempt < 70; attempt++) {
			uint64_t ceiling = redis_backoff_ns(attempt, UINT64_MAX, permanent);
			uint64_t middle = redis_backoff_ns(attempt, UINT64_MAX / 2, permanent);

			ck_assert_uint_eq(redis_backoff_ns(attempt, 0, permanent), least);
			ck_assert_uint_ge(ceiling, before);
			ck_assert_uint_lt(ceiling, most);
			ck_assert_uint_ge(middle, least + (ceiling - least) / 2 - 1);
			ck_assert_uint_le(middle, least + (ceiling - least) / 2 + 1);
			before = ceiling;
		}
		ck_assert_uint_eq(redis_backoff_ns(0, UINT64_MAX, permanent), 2 * least - 1);
		ck_assert_uint_eq(before, most - 1);
		ck_assert_uint_eq(redis_backoff_ns(UINT32_MAX, UINT64_MAX, permanent), most - 1);
	}
}
END_TEST

/* ---- A healthy Redis ---------------------------------------------------- */

START_TEST(connects_by_unix_socket)
{
	struct redis_server *server = redis_server_start(NULL);
	struct redis *redis = client_create("unix://%s", redis_server_socket(server));
	int64_t sum;

	ck_assert(!redis_connected(redis));
	client_connect(redis);
	ck_assert_uint_eq(strlen(redis_identity(redis)->run_id), 40);
	ck_assert_uint_gt(strlen(redis_identity(redis)->version), 2);
	ck_assert(!redis_identity(redis)->cluster);
	ck_assert_int_eq(client_add_now(redis, "a", 2, &sum), REDIS_ERROR_NONE);
	ck_assert_int_eq(client_add_now(redis, "a", 3, &sum), REDIS_ERROR_NONE);
	ck_assert_int_eq(sum, 5);
	ck_assert_int_eq(client_admin(server, "GET a"), 5);

	redis_disconnect(redis);
	ck_assert(!redis_connected(redis));
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

/* The socket that is connected to PORT. */
static int find_socket(uint16_t port)
{
	for (int fd = 0; fd < 1024; fd++) {
		struct sockaddr_in peer;
		socklen_t size = sizeof(peer);

		if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 &&
		    peer.sin_family == AF_INET && ntohs(peer.sin_port) == port)
			return fd;
	}
	ck_abort_msg("no socket is connected to port %u", port);
	return -1;
}

static int option_of(int fd, int level, int option)
{
	int value = -1;
	socklen_t size = sizeof(value);

	ck_assert_int_eq(getsockopt(fd, level, option, &value, &size), 0);
	return value;
}

static const char *const hosts[] = { "127.0.0.1", "localhost" };

START_TEST(connects_by_tcp)
{
	struct redis_server *server = redis_server_start(NULL);
	struct proxy *proxy = proxy_start("127.0.0.1:0", redis_server_socket(server));
	struct redis *redis = client_create("redis://%s:%u?command_ms=12345&connect_ms=%d",
					    hosts[_i], proxy_port(proxy), LONG_MS);
	int64_t sum;
	int fd;

	client_connect(redis);
	ck_assert_int_eq(client_add_now(redis, "a", 2, &sum), REDIS_ERROR_NONE);
	fd = find_socket(proxy_port(proxy));
	ck_assert_int_eq(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 12345);
	ck_assert_int_eq(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	ck_assert_int_eq(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	redis_destroy(redis);
	proxy_end(proxy);
	redis_server_end(server);
}
END_TEST

START_TEST(replies_of_every_kind)
{
	struct redis_server *server = redis_server_start(NULL);
	struct redis *redis = client_create("unix://%s", redis_server_socket(server));
	const char *argv[] = { "a\0b\r\n" };
	size_t length = 5;
	struct redis_result result;
	const struct redis_reply *reply;
	struct weir_error error;

	client_connect(redis);
	ck_assert_int_eq(redis_append_eval(redis, CLIENT_ECHO, "k\0y", 3, 1, argv, &length),
			 REDIS_ERROR_NONE);
	ck_assert_int_eq(redis_flush_and_read(redis, &result, 1, &error), REDIS_ERROR_NONE);
	ck_assert_int_eq(result.error, REDIS_ERROR_NONE);
	reply = result.reply;
	ck_assert_int_eq(redis_reply_type(reply), REDIS_TYPE_ARRAY);
	ck_assert_uint_eq(redis_reply_count(reply), 5);
	ck_assert_mem_eq(redis_reply_text(redis_reply_at(reply, 0), &length), "k\0y", 4);
	ck_assert_uint_eq(length, 3);
	ck_assert_mem_eq(redis_reply_text(redis_reply_at(reply, 1), &length), "a\0b\r\n", 6);
	ck_assert_uint_eq(length, 5);
	ck_assert_int_eq(redis_reply_integer(redis_reply_at(reply, 2)), 7);
	ck_assert_int_eq(redis_reply_type(redis_reply_at(reply, 3)), REDIS_TYPE_NIL);
	ck_assert_int_eq(redis_reply_type(redis_reply_at(redis_reply_at(reply, 4), 0)),
			 REDIS_TYPE_STATUS);

	/* Asking for what is not there has an answer, too. */
	ck_assert_int_eq(redis_reply_type(NULL), REDIS_TYPE_NONE);
	ck_assert_ptr_null(redis_reply_at(reply, 5));
	ck_assert_ptr_null(redis_reply_at(NULL, 0));
	ck_assert_int_eq(redis_reply_integer(reply), 0);
	ck_assert_ptr_null(redis_reply_text(redis_reply_at(reply, 2), &length));
	ck_assert_uint_eq(redis_reply_count(redis_reply_at(reply, 2)), 0);
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

/* An error reply is one reply: those after it belong to the calls after it. */
START_TEST(errors_keep_the_pipeline_in_step)
{
	struct redis_server *server = redis_server_start(NULL);
	struct redis *redis = client_create("unix://%s", redis_server_socket(server));
	struct redis_result results[4];
	struct weir_error error;

	client_admin(server, "RPUSH list x");
	client_connect(redis);
	client_add(redis, "a", 1);
	client_add(redis, "list", 2);
	client_add(redis, "b", 3);
	ck_assert_int_eq(redis_flush_and_read(redis, results, 4, &error), REDIS_ERROR_NONE);
	ck_assert_int_eq(redis_reply_integer(results[0].reply), 1);
	ck_assert_int_eq(results[1].error, REDIS_ERROR_WRONGTYPE);
	ck_assert_int_eq(redis_reply_type(results[1].reply), REDIS_TYPE_ERROR);
	ck_assert_int_eq(redis_reply_integer(results[2].reply), 3);
	ck_assert_int_eq(results[3].error, REDIS_ERROR_NOT_CONNECTED);
	ck_assert(redis_connected(redis));

	/* Nothing queued, nothing to wait for. */
	ck_assert_int_eq(redis_flush_and_read(redis, NULL, 0, &error), REDIS_ERROR_NONE);
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

START_TEST(full_pipelines)
{
	enum { WORD_SIZE = 100000 };
	struct redis_server *server = redis_server_start(NULL);
	struct redis *redis = client_create("unix://%s?command_ms=%d", redis_server_socket(server),
					    LONG_MS);
	struct redis_result results[REDIS_CALLS_MAX];
	char *word = calloc(1, WORD_SIZE);
	const char *argv[] = { word };
	size_t length = WORD_SIZE;
	struct weir_error error;

	/* Far more than what the sockets hold, both ways at once. */
	client_connect(redis);
	for (unsigned i = 0; i < REDIS_CALLS_MAX; i++)
		ck_assert_int_eq(redis_append_eval(redis, CLIENT_ECHO, "k", 1, 1, argv, &length),
				 REDIS_ERROR_NONE);
	ck_assert_int_eq(redis_append_eval(redis, CLIENT_ECHO, "k", 1, 1, argv, &length),
			 REDIS_ERROR_NO_ROOM);
	ck_assert_int_eq(redis_flush_and_read(redis, results, REDIS_CALLS_MAX, &error),
			 REDIS_ERROR_NONE);
	for (unsigned i = 0; i < REDIS_CALLS_MAX; i++) {
		redis_reply_text(redis_reply_at(results[i].reply, 1), &length);
		ck_assert_uint_eq(length, WORD_SIZE);
	}

	/* Not enough room for the results: nothing is sent. */
	client_add(redis, "a", 1);
	client_add(redis, "a", 1);
	ck_assert_int_eq(redis_flush_and_read(redis, results, 1, &error), REDIS_ERROR_NO_ROOM);
	ck_assert_int_eq(results[0].error, REDIS_ERROR_NOT_CONNECTED);
	ck_assert_int_eq(client_admin(server, "EXISTS a"), 0);

	/* Neither script nor arguments beyond their bounds. */
	client_connect(redis);
	ck_assert_int_eq(redis_append_eval(redis, CLIENT_SCRIPTS, "k", 1, 1, argv, &length),
			 REDIS_ERROR_NO_ROOM);
	ck_assert_int_eq(redis_append_eval(redis, 0, "k", 1, REDIS_ARGUMENTS_MAX + 1, argv,
					   &length), REDIS_ERROR_NO_ROOM);
	free(word);
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

/* ---- A Redis that hangs, or is gone -------------------------------------- */

/* Wait until KEY has VALUE: what was in doubt may be executed later. */
static void wait_for_value(const struct redis_server *server, const char *key, int64_t value)
{
	for (int i = 0; client_admin(server, "GET %s", key) != value; i++) {
		ck_assert_msg(i < 10000, "%s is never %lld", key, (long long)value);
		poll(NULL, 0, 1);
	}
}

START_TEST(a_frozen_server)
{
	struct redis_server *server = redis_server_start(NULL);
	struct redis *redis = client_create("unix://%s?command_ms=60&connect_ms=70",
					    redis_server_socket(server));
	struct redis *patient = client_create("unix://%s?command_ms=%d&connect_ms=%d",
					      redis_server_socket(server), LONG_MS, LONG_MS);
	uint64_t start_ns;
	struct weir_error error;
	int64_t sum;

	client_connect(patient);
	while (redis_connect(redis, &error) != REDIS_ERROR_NONE)
		;
	redis_server_stop(server);
	start_ns = redis_now_ns();
	ck_assert_int_eq(client_add_now(redis, "a", 1, NULL), REDIS_ERROR_TIMEOUT);
	ck_assert_uint_ge(redis_now_ns() - start_ns, 60 * NS_PER_MS);
	ck_assert_int_eq(redis_append(redis, 0, NULL, NULL), REDIS_ERROR_NOT_CONNECTED);

	/* The kernel still takes connections for it. */
	start_ns = redis_now_ns();
	ck_assert_int_eq(redis_connect(redis, &error), REDIS_ERROR_TIMEOUT);
	ck_assert_uint_ge(redis_now_ns() - start_ns, 70 * NS_PER_MS);
	ck_assert(!redis_connected(redis));

	/* What timed out is executed all the same. */
	redis_server_continue(server);
	wait_for_value(server, "a", 1);
	ck_assert_int_eq(client_add_now(patient, "a", 1, &sum), REDIS_ERROR_NONE);
	ck_assert_int_eq(sum, 2);
	redis_destroy(redis);
	redis_destroy(patient);
	redis_server_end(server);
}
END_TEST

START_TEST(a_paused_server)
{
	struct redis_server *server = redis_server_start(NULL);
	struct redis *redis = client_create("unix://%s?command_ms=60&connect_ms=%d",
					    redis_server_socket(server), LONG_MS);

	client_connect(redis);
	client_admin(server, "CLIENT PAUSE 600000 WRITE");
	ck_assert_int_eq(client_add_now(redis, "a", 1, NULL), REDIS_ERROR_TIMEOUT);
	client_admin(server, "CLIENT UNPAUSE");
	client_connect(redis);
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

START_TEST(a_killed_server)
{
	struct redis_server *server = redis_server_start(NULL);
	struct redis *redis = client_create("unix://%s", redis_server_socket(server));
	char run_id[41];
	struct weir_error error;
	int64_t sum;

	client_connect(redis);
	strcpy(run_id, redis_identity(redis)->run_id);
	redis_server_kill(server);
	/* The end of the connection is there to be seen: nothing is sent. */
	ck_assert_int_eq(client_add_now(redis, "a", 1, NULL), REDIS_ERROR_NOT_CONNECTED);
	ck_assert_int_eq(redis_connect(redis, &error), REDIS_ERROR_CONNECT);
	ck_assert_ptr_nonnull(strstr(error.message, redis_server_socket(server)));
	ck_assert_str_eq(redis_identity(redis)->run_id, "");

	redis_server_restart(server);
	client_connect(redis);
	ck_assert_str_ne(redis_identity(redis)->run_id, run_id);
	ck_assert_int_eq(client_add_now(redis, "a", 1, &sum), REDIS_ERROR_NONE);
	ck_assert_int_eq(sum, 1);
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

/* Neither connections nor attempts leave anything behind. */
START_TEST(descriptors_are_closed)
{
	struct redis_server *server = redis_server_start(NULL);
	unsigned before = client_count_files();
	struct redis *redis = client_create("unix://%s", redis_server_socket(server));
	struct redis *nowhere = client_create("unix://%s.none", redis_server_socket(server));
	struct weir_error error;

	for (int i = 0; i < 50; i++) {
		client_connect(redis);
		ck_assert_int_eq(redis_connect(nowhere, &error), REDIS_ERROR_CONNECT);
	}
	redis_destroy(redis);
	redis_destroy(nowhere);
	redis_destroy(NULL);
	ck_assert_uint_eq(client_count_files(), before);
	redis_server_end(server);
}
END_TEST

#ifndef WEIR_REDIS_TLS
START_TEST(a_build_without_tls_says_so)
{
	struct redis_options options;
	struct weir_error error;
	struct redis *redis;

	ck_assert_int_eq(redis_url_parse("rediss://host", &options, &error), WEIR_OK);
	ck_assert_int_eq(redis_create(&options, NULL, 0, &redis, &error), WEIR_EINVAL);
	ck_assert_ptr_null(redis);
	ck_assert_ptr_nonnull(strstr(error.message, "this build has no TLS"));
}
END_TEST
#endif

START_TEST(too_many_scripts)
{
	struct redis_options options;
	struct weir_error error;
	struct redis *redis;

	redis_url_parse("redis://host", &options, &error);
	ck_assert_int_eq(redis_create(&options, NULL, REDIS_SCRIPTS_MAX + 1, &redis, &error),
			 WEIR_EINVAL);
	ck_assert_str_eq(error.message, "5 scripts are too many; give at most 4");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("redis");
	TCase *pure = tcase_create("pure");
	TCase *healthy = tcase_create("healthy");
	TCase *gone = tcase_create("gone");

	redis_server_require();
	tcase_add_loop_test(pure, error_replies_are_told_apart, 0, LENGTH(replies));
	tcase_add_test(pure, errors_are_described);
	tcase_add_test(pure, backoff_grows_to_a_ceiling);
	tcase_add_test(pure, too_many_scripts);
#ifndef WEIR_REDIS_TLS
	tcase_add_test(pure, a_build_without_tls_says_so);
#endif
	suite_add_tcase(suite, pure);

	tcase_add_test(healthy, connects_by_unix_socket);
	tcase_add_loop_test(healthy, connects_by_tcp, 0, LENGTH(hosts));
	tcase_add_test(healthy, replies_of_every_kind);
	tcase_add_test(healthy, errors_keep_the_pipeline_in_step);
	tcase_add_test(healthy, full_pipelines);
	tcase_set_timeout(healthy, 60);
	suite_add_tcase(suite, healthy);

	tcase_add_test(gone, a_frozen_server);
	tcase_add_test(gone, a_paused_server);
	tcase_add_test(gone, a_killed_server);
	tcase_add_test(gone, descriptors_are_closed);
	tcase_set_timeout(gone, 60);
	suite_add_tcase(suite, gone);

	return suite_run(suite);
}
