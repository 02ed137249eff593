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
#include "sync/redis_route.h"

#define KEYS (2 * SYNC_SHARDS + 2u)

int sync_prefix_check(const char *prefix, struct weir_error *error)
{
	size_t length = strlen(prefix);

	if (length == 0 || length > SYNC_PREFIX_MAX || strpbrk(prefix, "{}"))
		return weir_fail(error, WEIR_EINVAL,
				 "prefix of %zu bytes does not do; give 1 to %u bytes without braces",
				 length, SYNC_PREFIX_MAX);
	return 0;
}

/* The name of key I of all. */
static size_t key_name(char key[SYNC_KEY_SIZE], const char *prefix, unsigned i)
{
	if (i < SYNC_SHARDS)
		return sync_shard_key(key, prefix, i);
	if (i < 2 * SYNC_SHARDS)
		return sync_lease_key(key, prefix, i - SYNC_SHARDS);
	return i == 2 * SYNC_SHARDS ? sync_cluster_key(key, prefix) :
				      sync_policies_key(key, prefix);
}

/* The first thing that went wrong, in words. */
static int delete_all(struct redis_route *route, const char *prefix, struct weir_error *error)
{
	char keys[KEYS][SYNC_KEY_SIZE], why[256];
	const char *argv[KEYS][2];
	struct redis_call calls[KEYS];
	struct redis_result results[KEYS];
	struct weir_error cause = { 0 };
	enum redis_error outcome = redis_route_connect(route, &cause);

	for (unsigned i = 0; i < KEYS; i++) {
		size_t length = key_name(keys[i], prefix, i);

		argv[i][0] = "DEL";
		argv[i][1] = keys[i];
		calls[i] = (struct redis_call){ .script = REDIS_COMMAND, .key = keys[i],
						.key_length = length, .argc = 2, .argv = argv[i] };
	}
	if (outcome == REDIS_ERROR_NONE)
		outcome = redis_route_call(route, calls, KEYS, UINT64_MAX, results, &cause);
	if (outcome != REDIS_ERROR_NONE)
		return weir_fail(error, WEIR_ESYSTEM, "%s: %s", redis_route_place(route),
				 cause.message[0] ? cause.message : redis_error_name(outcome));
	for (unsigned i = 0; i < KEYS; i++) {
		if (results[i].error != REDIS_ERROR_NONE)
			return weir_fail(error, WEIR_ESYSTEM, "%s",
					 redis_route_explain(route, &results[i], "DEL", why,
							     sizeof(why)));
	}
	return weir_ok(error);
}

int sync_erase(const struct weir_sync_options *options, struct weir_error *error)
{
	struct redis_options parsed;
	struct redis_route *route;
	int status = redis_url_parse(options->url, &parsed, error);

	if (status == 0)
		status = sync_prefix_check(options->prefix, error);
	if (status == 0)
		status = redis_route_create(&parsed, NULL, 0, &route, error);
	if (status)
		return status;
	status = delete_all(route, options->prefix, error);
	redis_route_destroy(route);
	return status;
}
