/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to a real Redis that lets nobody in, forbids what is called, or refuses it
 * for now: it says so, and works again as soon as Redis does.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "tests/redis_client.h"
#include "tests/redis_server.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Long enough that it never ends a wait in these tests. */
#define LONG_MS 50000

/* ---- Who may what -------------------------------------------------------- */

START_TEST(logs_in_as_acl_user)
{
	struct redis_server *server = redis_server_start(NULL);
	struct redis *redis = client_create("unix://weir:p%%40ss%%20w%%2Frd@%s?db=3",
					    redis_server_socket(server));
	int64_t sum;

	/* No INFO: the run_id is not known, the rest works. */
	client_admin(server, "ACL SETUSER weir on >%s ~w:* +evalsha +script|load +select +incrby",
		     "p@ss w/rd");
	client_connect(redis);
	ck_assert_str_eq(redis_identity(redis)->run_id, "");
	ck_assert_int_eq(client_add_now(redis, "w:1", 4, &sum), REDIS_ERROR_NONE);
	ck_assert_int_eq(client_admin(server, "EXISTS w:1"), 0);
	client_admin(server, "SWAPDB 0 3");
	ck_assert_int_eq(client_admin(server, "GET w:1"), 4);

	/* Rights taken away while we are connected: of a command inside of the
	 * script, of a key, of EVALSHA, and then of everything. */
	client_admin(server, "ACL SETUSER weir -incrby");
	ck_assert_int_eq(client_add_now(redis, "w:1", 4, &sum), REDIS_ERROR_NOPERM);
	ck_assert_int_eq(client_add_now(redis, "x:1", 4, &sum), REDIS_ERROR_NOPERM);
	client_admin(server, "ACL SETUSER weir -evalsha");
	ck_assert_int_eq(client_add_now(redis, "w:1", 4, &sum), REDIS_ERROR_NOPERM);
	client_admin(server, "ACL DELUSER weir");
	ck_assert_int_eq(redis_error_fatal(client_add_now(redis, "w:1", 4, &sum)), true);
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

static const struct {
	const char *login;
	const char *setup;              /* ACL SETUSER ... */
	const char *query;
	enum redis_error error;
	const char *said;
} refusals[] = {
	{ "weir:wrong-secret@", "weir on >right +@all ~*", "", REDIS_ERROR_WRONGPASS,
	  "AUTH was refused (wrongpass)" },
	{ "nobody:wrong-secret@", "weir on >right +@all ~*", "", REDIS_ERROR_WRONGPASS,
	  "AUTH was refused" },
	{ ":wrong-secret@", "default on nopass", "", REDIS_ERROR_WRONGPASS, "AUTH was refused" },
	{ ":wrong-secret@", "default resetpass >right", "", REDIS_ERROR_WRONGPASS,
	  "AUTH was refused" },
	{ "", "default resetpass >right", "", REDIS_ERROR_NOAUTH, "write user:password@" },
	{ "weir:wrong-secret@", "weir on >wrong-secret +evalsha +info ~*", "",
	  REDIS_ERROR_NOPERM, "SCRIPT LOAD was refused (noperm: NOPERM" },
	{ "weir:wrong-secret@", "weir on >wrong-secret +@all -select ~*", "?db=2",
	  REDIS_ERROR_NOPERM, "SELECT was refused (noperm: NOPERM" },
	{ "", "weir on", "?db=2000000", REDIS_ERROR_DATABASE,
	  "SELECT was refused (database: ERR DB index is out of range)" },
};

START_TEST(is_refused)
{
	struct redis_server *server = redis_server_start(NULL);
	struct redis *redis = client_create("unix://%s%s%s", refusals[_i].login,
					    redis_server_socket(server), refusals[_i].query);
	char command[128];
	struct weir_error error;
	enum redis_error result;

	snprintf(command, sizeof(command), "ACL SETUSER %s", refusals[_i].setup);
	client_admin(server, command, NULL);
	result = redis_connect(redis, &error);
	ck_assert_msg(result == refusals[_i].error, "%s: %s", redis_error_name(result),
		      error.message);
	ck_assert_msg(strstr(error.message, refusals[_i].said), "%s", error.message);
	ck_assert_ptr_null(strstr(error.message, "wrong-secret"));
	ck_assert_ptr_null(strstr(redis_place(redis), "wrong-secret"));
	ck_assert(redis_error_permanent(result));
	ck_assert_int_eq(error.status, WEIR_EACCES);
	ck_assert(!redis_connected(redis));
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

/* A server that knows no AUTH repeats the words of the command. */
START_TEST(a_password_is_not_echoed)
{
	const char *options[] = { "--rename-command", "AUTH", "NOAUTH", NULL };
	struct redis_server *server = redis_server_start(options);
	struct redis *redis = client_create("unix://weir:secret@%s", redis_server_socket(server));
	struct weir_error error;

	ck_assert_int_eq(redis_connect(redis, &error), REDIS_ERROR_OTHER);
	ck_assert_ptr_nonnull(strstr(error.message, "AUTH was refused"));
	ck_assert_ptr_null(strstr(error.message, "secret"));
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

/* ---- What Redis refuses for now ------------------------------------------ */

START_TEST(scripts_are_loaded_again)
{
	struct redis_server *server = redis_server_start(NULL);
	struct redis *redis = client_create("unix://%s", redis_server_socket(server));
	struct redis_result results[3];
	struct weir_error error;
	int64_t sum;

	client_connect(redis);
	for (int round = 0; round < 20; round++) {
		client_admin(server, "SCRIPT FLUSH");
		for (int i = 0; i < 3; i++)
			client_add(redis, "a", 1);
		ck_assert_int_eq(redis_flush_and_read(redis, results, 3, &error),
				 REDIS_ERROR_NONE);
		for (int i = 0; i < 3; i++)
			ck_assert_int_eq(results[i].error, REDIS_ERROR_NOSCRIPT);
		ck_assert_int_eq(client_add_now(redis, "a", 1, &sum), REDIS_ERROR_NONE);
		ck_assert_int_eq(sum, round + 1);
	}
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

static const struct {
	const char *commands[3];
	enum redis_error error;
} moods[] = {
	{ { "REPLICAOF 127.0.0.1 1" }, REDIS_ERROR_READONLY },
	{ { "CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1" },
	  REDIS_ERROR_MASTERDOWN },
	{ { "CONFIG SET maxmemory 1", "CONFIG SET maxmemory-policy noeviction" },
	  REDIS_ERROR_OOM },
	{ { "CONFIG SET min-replicas-to-write 1" }, REDIS_ERROR_NOREPLICAS },
};

/* Refused as a whole and not executed; the connection stays, and works again as
 * soon as Redis does. */
START_TEST(is_refused_for_now)
{
	struct redis_server *server = redis_server_start(NULL);
	struct redis *redis = client_create("unix://%s", redis_server_socket(server));
	enum redis_error refused;
	int64_t sum;

	client_connect(redis);
	for (int i = 0; moods[_i].commands[i]; i++)
		client_admin(server, moods[_i].commands[i], NULL);
	refused = client_add_now(redis, "a", 1, NULL);
	ck_assert_str_eq(redis_error_name(refused), redis_error_name(moods[_i].error));
	ck_assert_int_eq(redis_error_fate(refused), REDIS_NOT_EXECUTED);
	ck_assert(!redis_error_permanent(refused));
	client_admin(server, "REPLICAOF NO ONE");
	client_admin(server, "CONFIG SET maxmemory 0");
	client_admin(server, "CONFIG SET min-replicas-to-write 0");
	ck_assert_int_eq(client_add_now(redis, "a", 1, &sum), REDIS_ERROR_NONE);
	ck_assert_int_eq(sum, 1);
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

/* Call until the result is no longer BEFORE, but THEN. */
static void add_while(struct redis *redis, enum redis_error before, enum redis_error then)
{
	enum redis_error result = before;

	for (int i = 0; i < 10000 && result == before; i++)
		result = client_add_now(redis, "a", 1, NULL);
	ck_assert_str_eq(redis_error_name(result), redis_error_name(then));
}

START_TEST(a_script_of_others_runs_on)
{
	const char *options[] = { "--lua-time-limit", "1", NULL };
	struct redis_server *server = redis_server_start(options);
	struct redis *redis = client_create("unix://%s?command_ms=%d", redis_server_socket(server),
					    LONG_MS);
	redisContext *other = redis_server_connect(server);
	int done = 0;

	client_connect(redis);
	redisAppendCommand(other, "EVAL %s 0", "while true do end");
	while (!done)
		ck_assert_int_eq(redisBufferWrite(other, &done), REDIS_OK);
	/* Redis reads either of the two first, and ends the script when it next
	 * looks up from it. */
	add_while(redis, REDIS_ERROR_NONE, REDIS_ERROR_BUSY);
	client_admin(server, "SCRIPT KILL");
	add_while(redis, REDIS_ERROR_BUSY, REDIS_ERROR_NONE);
	redisFree(other);
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

/* There is room for it as soon as Redis has noticed that those before it left. */
static redisContext *only_client(const struct redis_server *server)
{
	for (int i = 0; i < 1000; i++) {
		redisContext *client = redis_server_connect(server);
		redisReply *reply = redisCommand(client, "PING");
		bool taken = reply && reply->type == REDIS_REPLY_STATUS;

		freeReplyObject(reply);
		if (taken)
			return client;
		redisFree(client);
	}
	ck_abort_msg("there is never room for one client");
	return NULL;
}

START_TEST(there_are_too_many_clients)
{
	const char *options[] = { "--maxclients", "1", NULL };
	struct redis_server *server = redis_server_start(options);
	struct redis *redis = client_create("unix://%s", redis_server_socket(server));
	redisContext *other = only_client(server);
	struct weir_error error;

	for (int i = 0; i < 100; i++) {
		enum redis_error result = redis_connect(redis, &error);

		ck_assert_msg(result == REDIS_ERROR_MAXCLIENTS, "%s: %s",
			      redis_error_name(result), error.message);
		ck_assert_ptr_nonnull(strstr(error.message, "raise maxclients"));
		ck_assert(!redis_error_permanent(result));
	}
	redisFree(other);
	redis_destroy(redis);
	redis_server_end(server);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("redis_refusals");
	TCase *tests = tcase_create("refusing");

	redis_server_require();
	tcase_add_test(tests, logs_in_as_acl_user);
	tcase_add_loop_test(tests, is_refused, 0, LENGTH(refusals));
	tcase_add_test(tests, a_password_is_not_echoed);
	tcase_add_test(tests, scripts_are_loaded_again);
	tcase_add_loop_test(tests, is_refused_for_now, 0, LENGTH(moods));
	tcase_add_test(tests, a_script_of_others_runs_on);
	tcase_add_test(tests, there_are_too_many_clients);
	tcase_set_timeout(tests, 60);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
