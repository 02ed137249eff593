/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis.c - logging in, calling scripts, and which reply is whose.
 */
#include "sync/redis.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shm/error.h"
#include "sync/redis_link.h"
#include "sync/redis_socket.h"
#include "sync/redis_tls.h"

#define SHA_LENGTH 40

#define NS_PER_MS 1000000ull

struct script {
	char *source;
	size_t length;
	char sha[SHA_LENGTH + 1];       /* as of the last SCRIPT LOAD */
};

struct redis {
	struct redis_options options;
	int interrupt_fd;               /* eventfd */
	struct redis_link *link;
	struct redis_tls *tls;
	struct redis_lookup *lookup;    /* one that outlasted its deadline */
	struct redis_identity identity;

	struct script scripts[REDIS_SCRIPTS_MAX];
	unsigned script_count;

	unsigned queued;                /* calls appended since the last flush */
};

/* ---- Calls ------------------------------------------------------------- */

void redis_disconnect(struct redis *redis)
{
	redis_link_close(redis->link);
	redis_link_free_replies(redis->link);
	redis->queued = 0;
}

static enum redis_error reply_error(const struct redis_reply *reply)
{
	size_t length;
	const char *text = redis_reply_text(reply, &length);

	if (redis_reply_type(reply) != REDIS_TYPE_ERROR)
		return REDIS_ERROR_NONE;
	return redis_error_classify(text, length);
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

static enum redis_error append_words(struct redis *redis, int argc, const char *const *argv)
{
	size_t lengths[3] = { 0 };

	for (int i = 0; i < argc; i++)
		lengths[i] = strlen(argv[i]);
	return redis_link_append(redis->link, argc, argv, lengths);
}

static enum redis_error append_load(struct redis *redis, const struct script *script)
{
	const char *words[] = { "SCRIPT", "LOAD", script->source };

	return append_words(redis, 3, words);
}

/* Keep the name under which Redis knows the script. */
static bool keep_sha(struct script *script, const struct redis_reply *reply)
{
	size_t length;
	const char *sha = redis_reply_text(reply, &length);

	if (redis_reply_type(reply) != REDIS_TYPE_STRING || length != SHA_LENGTH)
		return false;
	memcpy(script->sha, sha, SHA_LENGTH);
	return true;
}

/* Redis has forgotten the scripts: a restart, a failover, SCRIPT FLUSH.  If it
 * refuses them now, the next call finds out. */
static enum redis_error load_again(struct redis *redis, uint64_t deadline_ns,
				   struct weir_error *error)
{
	unsigned first = redis_link_reply_count(redis->link);
	enum redis_error result;

	for (unsigned i = 0; i < redis->script_count; i++)
		if (append_load(redis, &redis->scripts[i]) != REDIS_ERROR_NONE)
			return redis_link_fail(redis->link, REDIS_ERROR_NO_ROOM, error,
					       "no memory to load a script; free some");
	result = redis_link_exchange(redis->link, redis->script_count, deadline_ns, error);
	for (unsigned i = 0; result == REDIS_ERROR_NONE && i < redis->script_count; i++)
		keep_sha(&redis->scripts[i], redis_link_reply(redis->link, first + i));
	return result;
}

/* Which reply is whose.  After a breach of the protocol nobody knows. */
static bool fill_in(const struct redis *redis, enum redis_error result, unsigned calls,
		    struct redis_result *results)
{
	unsigned replies = result == REDIS_ERROR_PROTOCOL ? 0 : redis_link_reply_count(redis->link);
	bool forgotten = false;

	for (unsigned i = 0; i < calls; i++) {
		results[i] = (struct redis_result){ result, NULL };
		if (i >= replies)
			continue;
		results[i].reply = redis_link_reply(redis->link, i);
		results[i].error = reply_error(results[i].reply);
		if (results[i].error == REDIS_ERROR_NOSCRIPT)
			forgotten = true;
	}
	return forgotten;
}

enum redis_error redis_flush_and_read(struct redis *redis, struct redis_result *results,
				      unsigned count, struct weir_error *error)
{
	uint64_t deadline_ns = redis_now_ns() + redis->options.command_ms * NS_PER_MS;
	unsigned calls = redis->queued;
	enum redis_error result;

	weir_ok(error);
	redis_link_free_replies(redis->link);
	for (unsigned i = 0; i < count; i++)
		results[i] = (struct redis_result){ REDIS_ERROR_NOT_CONNECTED, NULL };
	if (!redis_link_is_open(redis->link))
		return redis_link_fail(redis->link, REDIS_ERROR_NOT_CONNECTED, error,
				       "there is no connection; connect first");
	if (count < calls)
		return redis_link_fail(redis->link, REDIS_ERROR_NO_ROOM, error,
				       "%u calls and room for %u results; give more", calls, count);
	result = redis_link_check(redis->link, error);
	redis->queued = 0;
	if (result == REDIS_ERROR_NONE)
		result = redis_link_exchange(redis->link, calls, deadline_ns, error);
	if (fill_in(redis, result, calls, results) && result == REDIS_ERROR_NONE)
		result = load_again(redis, deadline_ns, error);
	return result;
}

/* ---- Connecting -------------------------------------------------------- */

enum step_kind {
	STEP_LOG_IN,
	STEP_SELECT,
	STEP_LOAD,
	STEP_INFO,
};

/* A command of the log-in, and which script it is about. */
struct step {
	enum step_kind kind;
	unsigned script;
};

#define STEPS_MAX (3 + REDIS_SCRIPTS_MAX)

static const char *const step_names[] = {
	[STEP_LOG_IN] = "AUTH",
	[STEP_SELECT] = "SELECT",
	[STEP_LOAD] = "SCRIPT LOAD",
	[STEP_INFO] = "INFO",
};

static enum redis_error append_log_in(struct redis *redis)
{
	const struct redis_options *options = &redis->options;
	const char *words[3] = { "AUTH", options->user, options->password };

	if (options->user[0])
		return append_words(redis, 3, words);
	words[1] = options->password;   /* the form that Redis before 6.0 knows, too */
	return append_words(redis, 2, words);
}

static enum redis_error append_step(struct redis *redis, const struct step *step)
{
	char database[12];
	const char *select[] = { "SELECT", database };
	const char *info[] = { "INFO", "server" };

	switch (step->kind) {
	case STEP_LOG_IN:
		return append_log_in(redis);
	case STEP_SELECT:
		snprintf(database, sizeof(database), "%u", redis->options.database);
		return append_words(redis, 2, select);
	case STEP_LOAD:
		return append_load(redis, &redis->scripts[step->script]);
	default:
		return append_words(redis, 2, info);
	}
}

/* The log-in goes in one piece: what is refused after AUTH failed is refused
 * for the same reason, and the first error is the one that is reported. */
static unsigned plan_steps(const struct redis *redis, struct step *steps)
{
	unsigned count = 0;

	if (redis->options.log_in)
		steps[count++].kind = STEP_LOG_IN;
	if (redis->options.database)
		steps[count++].kind = STEP_SELECT;
	for (unsigned i = 0; i < redis->script_count; i++)
		steps[count++] = (struct step){ STEP_LOAD, i };
	steps[count++].kind = STEP_INFO;
	return count;
}

static const char *advice(enum redis_error kind)
{
	switch (kind) {
	case REDIS_ERROR_NOAUTH:
		return "write user:password@ before the host";
	case REDIS_ERROR_WRONGPASS:
		return "check user and password, and Redis' ACL";
	case REDIS_ERROR_NOPERM:
		return "allow the user +evalsha +script|load +select +info, and the keys";
	case REDIS_ERROR_DENIED:
		return "set a password in Redis, or bind it to an address";
	case REDIS_ERROR_MAXCLIENTS:
		return "raise maxclients";
	case REDIS_ERROR_LOADING:
		return "wait until Redis has loaded its data";
	default:
		return "see Redis' manual";
	}
}

/* Redis repeats the words of a command that it does not know: a password must
 * not get from there into a log. */
static enum redis_error refuse(struct redis *redis, const struct step *step,
			       const struct redis_reply *reply, struct weir_error *error)
{
	enum redis_error kind = reply_error(reply);
	bool quotable = step->kind != STEP_LOG_IN;
	char quoted[200] = "";
	size_t length;
	const char *text = redis_reply_text(reply, &length);

	if (kind == REDIS_ERROR_NONE)
		return redis_link_fail(redis->link, REDIS_ERROR_PROTOCOL, error,
				       "the reply to %s is of an odd kind; check what listens "
				       "there", step_names[step->kind]);
	if (quotable)
		weir_quote(text, length, quoted, sizeof(quoted));
	return redis_link_fail(redis->link, kind, error, "%s was refused (%s%s%s); %s",
			       step_names[step->kind], redis_error_name(kind), quotable ? ": " : "",
			       quoted, advice(kind));
}

/* The value of field NAME in the text of INFO, if it fits; else "". */
static void info_field(const struct redis_reply *info, const char *name, char *value, size_t size)
{
	size_t length;
	const char *text = redis_reply_text(info, &length);
	const char *found = memmem(text, length, name, strlen(name));

	value[0] = '\0';
	if (!found)
		return;
	found += strlen(name);
	length = strcspn(found, "\r\n");        /* there is a zero byte behind it */
	if (length >= size)
		return;
	memcpy(value, found, length);
	value[length] = '\0';
}

static bool keep_info(struct redis *redis, const struct redis_reply *reply)
{
	struct redis_identity *identity = &redis->identity;
	char mode[16];

	/* Only strict mode must know of restarts; others do without. */
	if (reply_error(reply) == REDIS_ERROR_NOPERM)
		return true;
	if (redis_reply_type(reply) != REDIS_TYPE_STRING)
		return false;
	info_field(reply, "\nrun_id:", identity->run_id, sizeof(identity->run_id));
	info_field(reply, "\nredis_version:", identity->version, sizeof(identity->version));
	info_field(reply, "\nredis_mode:", mode, sizeof(mode));
	identity->cluster = strcmp(mode, "cluster") == 0;
	return true;
}

static bool accept_step(struct redis *redis, const struct step *step,
			const struct redis_reply *reply)
{
	switch (step->kind) {
	case STEP_LOAD:
		return keep_sha(&redis->scripts[step->script], reply);
	case STEP_INFO:
		return keep_info(redis, reply);
	default:
		return redis_reply_type(reply) == REDIS_TYPE_STATUS;
	}
}

static enum redis_error log_in(struct redis *redis, uint64_t deadline_ns,
			       struct weir_error *error)
{
	struct step steps[STEPS_MAX] = { 0 };
	unsigned count = plan_steps(redis, steps);
	enum redis_error result = REDIS_ERROR_NONE;

	for (unsigned i = 0; i < count && result == REDIS_ERROR_NONE; i++)
		result = append_step(redis, &steps[i]);
	if (result != REDIS_ERROR_NONE)
		return redis_link_fail(redis->link, result, error,
				       "no memory to log in; free some");
	/* A server that refuses a connection says so, and closes it. */
	result = redis_link_exchange(redis->link, count, deadline_ns, error);
	for (unsigned i = 0; i < redis_link_reply_count(redis->link); i++) {
		const struct redis_reply *reply = redis_link_reply(redis->link, i);

		if (!accept_step(redis, &steps[i], reply) &&
		    (result == REDIS_ERROR_NONE ||
		     redis_reply_type(reply) == REDIS_TYPE_ERROR))
			return refuse(redis, &steps[i], reply, error);
	}
	return result;
}

enum redis_error redis_connect(struct redis *redis, struct weir_error *error)
{
	uint64_t deadline_ns = redis_now_ns() + redis->options.connect_ms * NS_PER_MS;
	enum redis_error result;
	int fd;

	redis_disconnect(redis);
	redis->identity = (struct redis_identity){ 0 };
	result = redis_socket_open(&redis->options, redis->interrupt_fd,
				   deadline_ns, &redis->lookup, &fd, error);
	if (result == REDIS_ERROR_NONE)
		result = redis_link_open(redis->link, fd, redis->tls, deadline_ns, error);
	if (result == REDIS_ERROR_NONE)
		result = log_in(redis, deadline_ns, error);
	redis_link_free_replies(redis->link);
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

static int copy_scripts(struct redis *redis, const char *const *scripts, unsigned count,
			struct weir_error *error)
{
	for (unsigned i = 0; i < count; i++) {
		redis->scripts[i].source = strdup(scripts[i]);
		redis->script_count++;
		if (!redis->scripts[i].source)
			return weir_fail(error, WEIR_ENOMEM, "no memory for a script; free some");
	}
	return WEIR_OK;
}

int redis_create(const struct redis_options *options, const char *const *scripts, unsigned count,
		 struct redis **redis, struct weir_error *error)
{
	struct redis *made;
	int status;

	*redis = NULL;
	if (count > REDIS_SCRIPTS_MAX)
		return weir_fail(error, WEIR_EINVAL, "%u scripts are too many; give at most %u",
				 count, REDIS_SCRIPTS_MAX);
	if (options->topology != REDIS_ALONE)
		return weir_fail(error, WEIR_EINVAL,
				 "no sentinels are asked yet; write redis://host:port/database with "
				 "the master's host");
	made = calloc(1, sizeof(*made));
	if (!made)
		return weir_fail(error, WEIR_ENOMEM, "no memory for a connection; free some");
	made->options = *options;
	made->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	status = copy_scripts(made, scripts, count, error);
	if (status == WEIR_OK && made->interrupt_fd >= 0)
		made->link = redis_link_create(&made->options, made->interrupt_fd);
	if (status == WEIR_OK && !made->link)
		status = weir_fail(error, WEIR_ESYSTEM,
				   "no memory or eventfd for a connection (%m); free some");
	if (status == WEIR_OK && options->transport == REDIS_OVER_TLS)
		status = redis_tls_create(options, &made->tls, error);
	if (status != WEIR_OK) {
		redis_destroy(made);
		return status;
	}
	*redis = made;
	return weir_ok(error);
}

void redis_destroy(struct redis *redis)
{
	if (!redis)
		return;
	redis_link_destroy(redis->link);
	if (redis->interrupt_fd >= 0)
		close(redis->interrupt_fd);
	redis_lookup_leave(redis->lookup);
	redis_tls_destroy(redis->tls);
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
