/* SPDX-License-Identifier: Apache-2.0 */
/*
 * erase.c - what hosts keep in Redis is deleted.
 *
 * One key a command: those of a Redis Cluster are on several servers.
 */
#include "sync/erase.h"

#include <string.h>

#include "shm/error.h"
#include "shm/layout.h"
#include "sync/keys.h"
#include "sync/redis.h"

#define KEYS (SYNC_SHARDS + 2u)

int sync_prefix_check(const char *prefix, struct weir_error *error)
{
	size_t length = strlen(prefix);

	if (length == 0 || length > SYNC_PREFIX_MAX || strpbrk(prefix, "{}"))
		return weir_fail(error, WEIR_EINVAL,
				 "prefix of %zu bytes does not do; give 1 to %u bytes without braces",
				 length, SYNC_PREFIX_MAX);
	return 0;
}

static enum redis_error append_delete(struct redis *redis, const char *key, size_t length)
{
	const char *argv[] = { "DEL", key };
	size_t lengths[] = { strlen("DEL"), length };

	return redis_append(redis, 2, argv, lengths);
}

/* The first thing that went wrong, in words. */
static int delete_all(struct redis *redis, const char *prefix, struct weir_error *error)
{
	struct redis_result results[KEYS];
	struct weir_error cause = { 0 };
	char key[SYNC_KEY_SIZE];
	enum redis_error outcome = redis_connect(redis, &cause);

	for (unsigned i = 0; i < SYNC_SHARDS && outcome == REDIS_ERROR_NONE; i++)
		outcome = append_delete(redis, key, sync_shard_key(key, prefix, i));
	if (outcome == REDIS_ERROR_NONE)
		outcome = append_delete(redis, key, sync_cluster_key(key, prefix));
	if (outcome == REDIS_ERROR_NONE)
		outcome = append_delete(redis, key, sync_policies_key(key, prefix));
	if (outcome == REDIS_ERROR_NONE)
		outcome = redis_flush_and_read(redis, results, KEYS, &cause);
	if (outcome != REDIS_ERROR_NONE)
		return weir_fail(error, WEIR_ESYSTEM, "%s: %s", redis_place(redis),
				 cause.message[0] ? cause.message : redis_error_name(outcome));
	for (unsigned i = 0; i < KEYS; i++) {
		const char *text;
		size_t length;

		if (results[i].error == REDIS_ERROR_NONE)
			continue;
		text = redis_reply_text(results[i].reply, &length);
		return weir_fail(error, WEIR_ESYSTEM, "%s: DEL was refused (%s): %s",
				 redis_place(redis), redis_error_name(results[i].error),
				 text ? text : "no reply");
	}
	return weir_ok(error);
}

int sync_erase(const struct weir_sync_options *options, struct weir_error *error)
{
	struct redis_options parsed;
	struct redis *redis;
	int status = redis_url_parse(options->url, &parsed, error);

	if (status == 0)
		status = sync_prefix_check(options->prefix, error);
	if (status == 0)
		status = redis_create(&parsed, NULL, 0, &redis, error);
	if (status)
		return status;
	status = delete_all(redis, options->prefix, error);
	redis_destroy(redis);
	return status;
}
