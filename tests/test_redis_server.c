/* SPDX-License-Identifier: Apache-2.0 */
/* The server that other tests rely on: it stops, goes on, dies, comes back, and leaves nothing. */
#include "tests/redis_server.h"
#include "tests/suite.h"

#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

/* A command's integer, or -1 for what is none. */
static long long ask(struct redisContext *context, const char *command)
{
	redisReply *reply = redisCommand(context, command);
	long long value = reply && reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;

	freeReplyObject(reply);
	return value;
}

START_TEST(test_stop_and_continue)
{
	struct redis_server *server = redis_server_start(NULL);
	struct redisContext *patient = redis_server_connect(server);
	struct redisContext *hasty = redis_server_connect(server);

	ck_assert_int_eq(ask(patient, "INCR n"), 1);
	ck_assert_int_eq(redisSetTimeout(hasty, (struct timeval){ .tv_usec = 20000 }), REDIS_OK);
	redis_server_stop(server);
	ck_assert_int_eq(ask(hasty, "INCR n"), -1);     /* it waits in the socket */
	redis_server_continue(server);
	ck_assert_int_eq(ask(patient, "INCR m"), 1);
	ck_assert_int_ge(ask(patient, "INCR n"), 2);
	redisFree(hasty);
	redisFree(patient);
	redis_server_end(server);
}
END_TEST

START_TEST(test_kill_and_restart)
{
	struct redis_server *server = redis_server_start(NULL);

	for (int stopped = 0; stopped < 2; stopped++) {
		struct redisContext *context = redis_server_connect(server);

		ck_assert_int_eq(ask(context, "INCR n"), 1);
		if (stopped)
			redis_server_stop(server);
		redis_server_kill(server);
		ck_assert_int_eq(ask(context, "INCR n"), -1);
		ck_assert_int_ne(context->err, 0);
		redisFree(context);
		redis_server_restart(server);
	}
	redis_server_restart(server);
	redis_server_kill(server);
	redis_server_end(server);
}
END_TEST

START_TEST(test_options)
{
	const char *const options[] = { "--requirepass", "secret", "--maxclients", "7", NULL };
	struct redis_server *server = redis_server_start(options);
	struct redisContext *context = redis_server_connect(server);
	redisReply *reply;

	ck_assert_int_eq(ask(context, "INCR n"), -1);
	freeReplyObject(redisCommand(context, "AUTH secret"));
	ck_assert_int_eq(ask(context, "INCR n"), 1);
	reply = redisCommand(context, "CONFIG GET maxclients");
	ck_assert_int_eq(reply->type, REDIS_REPLY_ARRAY);
	ck_assert_str_eq(reply->element[1]->str, "7");
	freeReplyObject(reply);
	redisFree(context);
	redis_server_end(server);
}
END_TEST

static bool gone(const char *path)
{
	for (int i = 0; i < 2000 && access(path, F_OK) == 0; i++)
		poll(NULL, 0, 5);
	return access(path, F_OK) != 0;
}

/* However the starter ends, its servers end and their directories go. */
START_TEST(test_nothing_is_left)
{
	enum { SERVERS = 2, WAYS = 4 };

	for (int way = 0; way < WAYS; way++) {
		char paths[SERVERS][128] = { "" };
		int ends[2], status;
		pid_t starter;

		ck_assert_int_eq(pipe(ends), 0);
		starter = fork();
		ck_assert_int_ge(starter, 0);
		if (starter == 0) {
			static struct redis_server *servers[SERVERS];

			for (int i = 0; i < SERVERS; i++) {
				servers[i] = redis_server_start(NULL);
				memset(paths[i], 0, sizeof(paths[i]));
				strncpy(paths[i], redis_server_directory(servers[i]),
					sizeof(paths[i]) - 1);
			}
			if (write(ends[1], paths, sizeof(paths)) != sizeof(paths))
				_exit(EXIT_FAILURE);
			if (way == 0)
				redis_server_stop(servers[0]);
			if (way == 1)
				exit(EXIT_FAILURE);     /* a failed assertion */
			if (way == 2)
				kill(getpid(), SIGKILL); /* a test that hangs */
			for (int i = 0; way == 3 && i < SERVERS; i++)
				redis_server_end(servers[i]);
			_exit(EXIT_SUCCESS);
		}
		ck_assert_int_eq(read(ends[0], paths, sizeof(paths)), sizeof(paths));
		ck_assert_int_eq(waitpid(starter, &status, 0), starter);
		for (int i = 0; i < SERVERS; i++) {
			ck_assert_int_ne(paths[i][0], 0);
			ck_assert_msg(gone(paths[i]), "%s is left, way %d", paths[i], way);
		}
		close(ends[0]);
		close(ends[1]);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("redis_server");
	const struct {
		const char *name;
		const TTest *test;
	} cases[] = {
		{ "stop and continue", test_stop_and_continue },
		{ "kill and restart", test_kill_and_restart },
		{ "options", test_options },
		{ "nothing is left", test_nothing_is_left },
	};

	redis_server_require();
	signal(SIGPIPE, SIG_IGN);               /* hiredis 0.14 writes without MSG_NOSIGNAL */
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		TCase *test_case = tcase_create(cases[i].name);

		tcase_set_timeout(test_case, 30);
		tcase_add_test(test_case, cases[i].test);
		suite_add_tcase(suite, test_case);
	}
	return suite_run(suite);
}
