/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis.c - finding the server, calling scripts, and which reply is whose.
 */
#include "sync/redis.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shm/error.h"
#include "sync/redis_private.h"
#include "sync/redis_socket.h"

#define NS_PER_MS 1000000ull

/* ---- Calls ------------------------------------------------------------- */

void redis_disconnect(struct redis *redis)
{
	redis_link_close(redis->link);
	redis_link_free_replies(redis->link);
	redis->queued = 0;
}

enum redis_error redis_append(struct redis *redis, int argc, const char *const *argv,
			      const size_t *lengths)
{
	enum redis_error result;

	if (!redis_link_is_open(redis->link))
		return REDIS_ERROR_NOT_CONNECTED;
	if (redis->queued >= REDIS_CALLS_MAX)
		return REDIS_ERROR_NO_ROOM;
	result = redis_link_append(redis->link, argc, argv, lengths);
	if (result == REDIS_ERROR_NONE)
		redis->queued++;
	return result;
}

enum redis_error redis_append_eval(struct redis *redis, unsigned script, const char *key,
				   size_t key_length, int argc, const char *const *argv,
				   const size_t *lengths)
{
	const char *words[4 + REDIS_ARGUMENTS_MAX] = { "EVALSHA" };
	size_t sizes[4 + REDIS_ARGUMENTS_MAX] = { strlen("EVALSHA") };

	if (script >= redis->script_count || argc < 0 || argc > REDIS_ARGUMENTS_MAX)
		return REDIS_ERROR_NO_ROOM;
	words[1] = redis->scripts[script].sha;
	sizes[1] = SHA_LENGTH;
	words[2] = "1";
	sizes[2] = 1;
	words[3] = key;
	sizes[3] = key_length;
	for (int i = 0; i < argc; i++) {
		words[4 + i] = argv[i];
		sizes[4 + i] = lengths[i];
	}
	return redis_append(redis, 4 + argc, words, sizes);
}

enum redis_error redis_append_call(struct redis *redis, const struct redis_call *call)
{
	if (call->script == REDIS_COMMAND)
		return redis_append(redis, call->argc, call->argv, call->lengths);
	return redis_append_eval(redis, call->script, call->key, call->key_length, call->argc,
				 call->argv, call->lengths);
}

/* Redis has forgotten the scripts: a restart, a failover, SCRIPT FLUSH.  If it
 * refuses them now, the next call finds out. */
static enum redis_error load_again(struct redis *redis, uint64_t deadline_ns,
				   struct weir_error *error)
{
	unsigned first = redis_link_reply_count(redis->link);
	enum redis_error result;

	for (unsigned i = 0; i < redis->script_count; i++)
		if (redis_append_load(redis, &redis->scripts[i]) != REDIS_ERROR_NONE)
			return redis_link_fail(redis->link, REDIS_ERROR_NO_ROOM, error,
					       "no memory to load a script; free some");
	result = redis_link_exchange(redis->link, redis->script_count, deadline_ns, error);
	for (unsigned i = 0; result == REDIS_ERROR_NONE && i < redis->script_count; i++)
		redis_keep_sha(&redis->scripts[i], redis_link_reply(redis->link, first + i));
	return result;
}

/* Which reply is whose: those from FIRST on.  After a breach of the protocol nobody
 * knows. */
static bool fill_in(const struct redis *redis, enum redis_error result, unsigned first,
		    unsigned calls, struct redis_result *results)
{
	unsigned replies = redis_link_reply_count(redis->link) - first;
	bool forgotten = false;

	if (result == REDIS_ERROR_PROTOCOL)
		replies = 0;
	for (unsigned i = 0; i < calls; i++) {
		results[i] = (struct redis_result){ result, NULL };
		if (i >= replies)
			continue;
		results[i].reply = redis_link_reply(redis->link, first + i);
		results[i].error = redis_reply_error(results[i].reply);
		if (results[i].error == REDIS_ERROR_NOSCRIPT)
			forgotten = true;
	}
	return forgotten;
}

/* What can be said before anything is sent. */
static enum redis_error check_flush(struct redis_flush *flush)
{
	struct redis *redis = flush->redis;
	unsigned room;

	for (unsigned i = 0; i < flush->count; i++)
		flush->results[i] = (struct redis_result){ REDIS_ERROR_NOT_CONNECTED, NULL };
	if (!redis_link_is_open(redis->link))
		return redis_link_fail(redis->link, REDIS_ERROR_NOT_CONNECTED, &flush->error,
				       "there is no connection; connect first");
	room = REDIS_LINK_REPLIES_MAX - redis->script_count - redis_link_reply_count(redis->link);
	room = flush->count < room ? flush->count : room;
	if (redis->queued > room) {
		unsigned calls = redis->queued;

		redis->queued = 0;
		return redis_link_fail(redis->link, REDIS_ERROR_NO_ROOM, &flush->error,
				       "%u calls and room for %u results; give more, or forget "
				       "replies", calls, room);
	}
	return redis_link_check(redis->link, &flush->error);
}

void redis_flush_all(struct redis_flush *flushes, unsigned count, uint64_t deadline_ns)
{
	struct redis_exchange exchanges[REDIS_FLUSHES_MAX];
	unsigned firsts[REDIS_FLUSHES_MAX], places[REDIS_FLUSHES_MAX], open = 0;

	for (unsigned i = 0; i < count; i++) {
		struct redis_flush *flush = &flushes[i];

		weir_ok(&flush->error);
		flush->outcome = check_flush(flush);
		firsts[i] = redis_link_reply_count(flush->redis->link);
		if (flush->outcome != REDIS_ERROR_NONE)
			continue;
		places[open] = i;
		exchanges[open++] = (struct redis_exchange){ .link = flush->redis->link,
							     .count = flush->redis->queued,
							     .error = &flush->error };
	}
	redis_link_exchange_all(exchanges, open, deadline_ns);
	for (unsigned k = 0; k < open; k++)
		flushes[places[k]].outcome = exchanges[k].result;
	for (unsigned i = 0; i < count; i++) {
		struct redis_flush *flush = &flushes[i];
		unsigned calls = flush->redis->queued;

		flush->redis->queued = 0;
		if (fill_in(flush->redis, flush->outcome, firsts[i], calls, flush->results) &&
		    flush->outcome == REDIS_ERROR_NONE)
			flush->outcome = load_again(flush->redis, deadline_ns, &flush->error);
	}
}

void redis_forget_replies(struct redis *redis)
{
	redis_link_free_replies(redis->link);
}

enum redis_error redis_flush_and_read(struct redis *redis, struct redis_result *results,
				      unsigned count, struct weir_error *error)
{
	struct redis_flush flush = { .redis = redis, .results = results, .count = count };

	redis_forget_replies(redis);
	redis_flush_all(&flush, 1, redis_now_ns() + redis->options.command_ms * NS_PER_MS);
	if (error)
		*error = flush.error;
	return flush.outcome;
}

/* ---- Connecting -------------------------------------------------------- */

static enum redis_error connect_node(struct redis *redis, uint64_t deadline_ns,
				     struct weir_error *error)
{
	enum redis_error result;
	int fd;

	redis->identity = (struct redis_identity){ 0 };
	result = redis_socket_open(&redis->node, redis->interrupt_fd, deadline_ns, &redis->lookup,
				   &fd, error);
	if (result == REDIS_ERROR_NONE)
		result = redis_link_open(redis->link, fd, redis->tls, deadline_ns, error);
	if (result == REDIS_ERROR_NONE)
		result = redis_log_in(redis, deadline_ns, error);
	redis_link_free_replies(redis->link);
	return result;
}

/* From here on the node is MASTER. */
static void aim_at(struct redis *redis, const struct redis_address *master)
{
	char place[3 * sizeof(master->host) + 16];

	if (strcmp(redis->node.host, master->host) != 0 || redis->node.port != master->port) {
		redis_lookup_leave(redis->lookup);
		redis->lookup = NULL;
	}
	memcpy(redis->node.host, master->host, sizeof(redis->node.host));
	redis->node.port = master->port;
	redis_address_format(master->host, master->port, place, sizeof(place));
	redis_link_set_place(redis->link, place);
}

static enum redis_error connect_master(struct redis *redis, uint64_t deadline_ns,
				       struct weir_error *error)
{
	struct redis_address master;
	struct weir_error what = { 0 };
	enum redis_error result;
	uint64_t try_until_ns;

	redis_sentinel_begin(redis->sentinel, deadline_ns);
	for (;;) {
		result = redis_sentinel_next(redis->sentinel, &master, &try_until_ns, error);
		if (result != REDIS_ERROR_NONE)
			return result;
		aim_at(redis, &master);
		result = connect_node(redis, try_until_ns, &what);
		if (result == REDIS_ERROR_NONE) {
			redis_sentinel_accept(redis->sentinel);
			return result;
		}
		if (result == REDIS_ERROR_INTERRUPTED) {
			weir_fail(error, WEIR_ESYSTEM, "%s", what.message);
			return result;
		}
		redis_sentinel_reject(redis->sentinel, result, &what);
	}
}

enum redis_error redis_connect(struct redis *redis, struct weir_error *error)
{
	uint64_t deadline_ns = redis_now_ns() + redis->options.connect_ms * NS_PER_MS;
	enum redis_error result;

	redis_disconnect(redis);
	result = redis->sentinel ? connect_master(redis, deadline_ns, error) :
				   connect_node(redis, deadline_ns, error);
	if (result == REDIS_ERROR_NONE)
		weir_ok(error);
	return result;
}

bool redis_connected(const struct redis *redis)
{
	return redis_link_is_open(redis->link);
}

const struct redis_identity *redis_identity(const struct redis *redis)
{
	return &redis->identity;
}

const char *redis_place(const struct redis *redis)
{
	return redis_link_place(redis->link);
}

/* ---- The object -------------------------------------------------------- */

static int copy_script(struct redis *redis, const char *source, struct weir_error *error)
{
	struct script *script = &redis->scripts[redis->script_count];

	script->source = strdup(source);
	if (!script->source)
		return weir_fail(error, WEIR_ENOMEM, "no memory for a script; free some");
	redis->script_count++;
	return WEIR_OK;
}

static int make(const struct redis_options *options, int interrupt_fd, struct redis **redis,
		struct weir_error *error)
{
	*redis = calloc(1, sizeof(**redis));
	if (!*redis)
		return weir_fail(error, WEIR_ENOMEM, "no memory for a connection; free some");
	(*redis)->options = (*redis)->node = *options;
	(*redis)->node.topology = REDIS_ALONE;
	(*redis)->beside = interrupt_fd >= 0;
	(*redis)->interrupt_fd = interrupt_fd >= 0 ? interrupt_fd :
						     eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if ((*redis)->interrupt_fd >= 0)
		(*redis)->link = redis_link_create(&(*redis)->node, (*redis)->interrupt_fd);
	if (!(*redis)->link)
		return weir_fail(error, WEIR_ESYSTEM,
				 "no memory or eventfd for a connection (%m); free some");
	return WEIR_OK;
}

/* Finish making REDIS, or free it. */
static int made(int status, struct redis **redis, struct weir_error *error)
{
	if (status == WEIR_OK)
		return weir_ok(error);
	redis_destroy(*redis);
	*redis = NULL;
	return status;
}

int redis_create(const struct redis_options *options, const char *const *scripts, unsigned count,
		 struct redis **redis, struct weir_error *error)
{
	int status;

	*redis = NULL;
	if (count > REDIS_SCRIPTS_MAX)
		return weir_fail(error, WEIR_EINVAL, "%u scripts are too many; give at most %u",
				 count, REDIS_SCRIPTS_MAX);
	status = make(options, -1, redis, error);
	for (unsigned i = 0; status == WEIR_OK && i < count; i++)
		status = copy_script(*redis, scripts[i], error);
	if (status == WEIR_OK && options->transport == REDIS_OVER_TLS)
		status = redis_tls_create(options, &(*redis)->tls, error);
	if (status == WEIR_OK && options->topology == REDIS_SENTINEL) {
		(*redis)->sentinel = redis_sentinel_create(&(*redis)->options, (*redis)->tls,
							   (*redis)->interrupt_fd);
		if (!(*redis)->sentinel)
			status = weir_fail(error, WEIR_ENOMEM,
					   "no memory for a connection; free some");
	}
	return made(status, redis, error);
}

int redis_create_beside(const struct redis *owner, const struct redis_address *address,
			struct redis **redis, struct weir_error *error)
{
	struct redis_options options = owner->options;
	int status;

	memcpy(options.host, address->host, sizeof(options.host));
	options.port = address->port;
	options.topology = REDIS_ALONE;
	options.seed_count = 0;
	status = make(&options, owner->interrupt_fd, redis, error);
	explicit_bzero(options.password, sizeof(options.password));
	for (unsigned i = 0; status == WEIR_OK && i < owner->script_count; i++)
		status = copy_script(*redis, owner->scripts[i].source, error);
	if (status == WEIR_OK)
		(*redis)->tls = owner->tls;
	return made(status, redis, error);
}

void redis_destroy(struct redis *redis)
{
	if (!redis)
		return;
	redis_sentinel_destroy(redis->sentinel);
	redis_link_destroy(redis->link);
	redis_lookup_leave(redis->lookup);
	if (!redis->beside) {
		redis_tls_destroy(redis->tls);
		if (redis->interrupt_fd >= 0)
			close(redis->interrupt_fd);
	}
	for (unsigned i = 0; i < redis->script_count; i++)
		free(redis->scripts[i].source);
	explicit_bzero(redis, sizeof(*redis));
	free(redis);
}

/* ---- Interrupting ------------------------------------------------------ */

void redis_interrupt(struct redis *redis)
{
	uint64_t one = 1;
	int saved = errno;

	/* EAGAIN: 2^64 - 2 interruptions are waiting already. */
	while (write(redis->interrupt_fd, &one, sizeof(one)) < 0 &&
	       errno == EINTR)
		;
	errno = saved;
}

void redis_rearm(struct redis *redis)
{
	uint64_t count;

	while (read(redis->interrupt_fd, &count, sizeof(count)) < 0 &&
	       errno == EINTR)
		;
}

bool redis_sleep_ns(struct redis *redis, uint64_t ns)
{
	uint64_t now_ns = redis_now_ns();
	uint64_t deadline_ns = ns < UINT64_MAX - now_ns ? now_ns + ns : UINT64_MAX;

	return redis_wait(-1, 0, redis->interrupt_fd, deadline_ns) ==
	       REDIS_ERROR_TIMEOUT;
}
