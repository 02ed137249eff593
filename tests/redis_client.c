/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/redis_client.h"

#include <dirent.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/redis_server.h"

static const char *const scripts[CLIENT_SCRIPTS] = {
	[CLIENT_ADD] = "return redis.call('INCRBY', KEYS[1], ARGV[1])",
	[CLIENT_ECHO] = "return { KEYS[1], ARGV[1], 7, false, { redis.status_reply('OK') } }",
};

struct redis *client_create(const char *format, ...)
{
	struct redis_options options;
	struct weir_error error;
	struct redis *redis;
	va_list arguments;
	char url[1024];
	sigset_t pipe;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, NULL);
	va_start(arguments, format);
	vsnprintf(url, sizeof(url), format, arguments);
	va_end(arguments);
	ck_assert_msg(redis_url_parse(url, &options, &error) == WEIR_OK, "%s", error.message);
	ck_assert_msg(redis_create(&options, scripts, CLIENT_SCRIPTS, &redis, &error) == WEIR_OK,
		      "%s", error.message);
	return redis;
}

void client_connect(struct redis *redis)
{
	struct weir_error error;
	enum redis_error result = redis_connect(redis, &error);

	ck_assert_msg(result == REDIS_ERROR_NONE, "%s: %s", redis_error_name(result),
		      error.message);
	ck_assert(redis_connected(redis));
}

void client_add(struct redis *redis, const char *key, int64_t add)
{
	char number[24];
	const char *argv[] = { number };
	size_t lengths[] = { (size_t)snprintf(number, sizeof(number), "%lld", (long long)add) };

	ck_assert_int_eq(redis_append_eval(redis, CLIENT_ADD, key, strlen(key), 1, argv, lengths),
			 REDIS_ERROR_NONE);
}

enum redis_error client_add_now(struct redis *redis, const char *key, int64_t add, int64_t *sum)
{
	struct redis_result result;
	struct weir_error error;
	enum redis_error flushed;

	client_add(redis, key, add);
	flushed = redis_flush_and_read(redis, &result, 1, &error);
	ck_assert_int_eq(redis_connected(redis), flushed == REDIS_ERROR_NONE);
	ck_assert_int_eq(flushed == REDIS_ERROR_NONE, error.status == WEIR_OK);
	if (result.error == REDIS_ERROR_NONE) {
		ck_assert_int_eq(redis_reply_type(result.reply), REDIS_TYPE_INTEGER);
		if (sum)
			*sum = redis_reply_integer(result.reply);
	}
	return result.error;
}

int64_t client_admin(const struct redis_server *server, const char *format, ...)
{
	redisContext *context = redis_server_connect(server);
	redisReply *reply;
	va_list arguments;
	int64_t value;

	va_start(arguments, format);
	reply = redisvCommand(context, format, arguments);
	va_end(arguments);
	ck_assert_msg(reply, "%s: %s", format, context->errstr);
	ck_assert_msg(reply->type != REDIS_REPLY_ERROR, "%s: %s", format, reply->str);
	value = reply->type == REDIS_REPLY_INTEGER ? reply->integer :
		reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, NULL, 10) : 0;
	freeReplyObject(reply);
	redisFree(context);
	return value;
}

unsigned client_count_files(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	ck_assert_ptr_nonnull(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}
