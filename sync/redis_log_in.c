/* SPDX-License-Identifier: Apache-2.0 */
/* redis_log_in.c - what a new connection says first. */
#include <stdio.h>
#include <string.h>

#include "shm/error.h"
#include "sync/redis_private.h"

enum redis_error redis_reply_error(const struct redis_reply *reply)
{
	size_t length;
	const char *text = redis_reply_text(reply, &length);

	if (redis_reply_type(reply) != REDIS_TYPE_ERROR)
		return REDIS_ERROR_NONE;
	return redis_error_classify(text, length);
}

enum redis_error redis_append_words(struct redis *redis, int argc, const char *const *argv)
{
	size_t lengths[3] = { 0 };

	for (int i = 0; i < argc; i++)
		lengths[i] = strlen(argv[i]);
	return redis_link_append(redis->link, argc, argv, lengths);
}

enum redis_error redis_append_load(struct redis *redis, const struct script *script)
{
	const char *words[] = { "SCRIPT", "LOAD", script->source };

	return redis_append_words(redis, 3, words);
}

/* Keep the name under which Redis knows the script. */
bool redis_keep_sha(struct script *script, const struct redis_reply *reply)
{
	size_t length;
	const char *sha = redis_reply_text(reply, &length);

	if (redis_reply_type(reply) != REDIS_TYPE_STRING || length != SHA_LENGTH)
		return false;
	memcpy(script->sha, sha, SHA_LENGTH);
	return true;
}

enum step_kind {
	STEP_LOG_IN,
	STEP_ROLE,
	STEP_SELECT,
	STEP_LOAD,
	STEP_INFO,
};

/* A command of the log-in, and which script it is about. */
struct step {
	enum step_kind kind;
	unsigned script;
};

#define STEPS_MAX (4 + REDIS_SCRIPTS_MAX)

static const char *const step_names[] = {
	[STEP_LOG_IN] = "AUTH",
	[STEP_ROLE] = "ROLE",
	[STEP_SELECT] = "SELECT",
	[STEP_LOAD] = "SCRIPT LOAD",
	[STEP_INFO] = "INFO",
};

static enum redis_error append_log_in(struct redis *redis)
{
	const struct redis_options *options = &redis->options;
	const char *words[3] = { "AUTH", options->user, options->password };

	if (options->user[0])
		return redis_append_words(redis, 3, words);
	words[1] = options->password;   /* the form that Redis before 6.0 knows, too */
	return redis_append_words(redis, 2, words);
}

static enum redis_error append_step(struct redis *redis, const struct step *step)
{
	char database[12];
	const char *select[] = { "SELECT", database };
	const char *info[] = { "INFO", "server" };
	const char *role[] = { "ROLE" };

	switch (step->kind) {
	case STEP_LOG_IN:
		return append_log_in(redis);
	case STEP_ROLE:
		return redis_append_words(redis, 1, role);
	case STEP_SELECT:
		snprintf(database, sizeof(database), "%u", redis->options.database);
		return redis_append_words(redis, 2, select);
	case STEP_LOAD:
		return redis_append_load(redis, &redis->scripts[step->script]);
	default:
		return redis_append_words(redis, 2, info);
	}
}

/* The log-in goes in one piece: what is refused after AUTH failed is refused
 * for the same reason, and the first error is the one that is reported. */
static unsigned plan_steps(const struct redis *redis, struct step *steps)
{
	unsigned count = 0;

	if (redis->options.log_in)
		steps[count++].kind = STEP_LOG_IN;
	if (redis->sentinel)
		steps[count++].kind = STEP_ROLE;
	if (redis->options.database)
		steps[count++].kind = STEP_SELECT;
	for (unsigned i = 0; i < redis->script_count; i++)
		steps[count++] = (struct step){ STEP_LOAD, i };
	steps[count++].kind = STEP_INFO;
	return count;
}

static bool has_role(const struct redis_reply *reply, const char *role)
{
	size_t length;
	const char *text = redis_reply_text(redis_reply_at(reply, 0), &length);

	return text && strcmp(text, role) == 0;
}

/* What to do about a refused AUTH, by how the sentence begins, which may not be quoted. */
static const char *log_in_advice(const char *text, size_t length, enum redis_error kind)
{
	static const struct {
		const char *begin, *advice;
	} known[] = {
		{ "ERR AUTH <password> called without any password",
		  "Redis has no password for that user: leave it out of the URL" },
		{ "ERR Client sent AUTH, but no password",
		  "Redis has no password: leave it out of the URL" },
		{ "ERR wrong number of arguments for 'auth'",
		  "Redis before 6.0 has no users: write :password@, without the user" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (text && length >= strlen(known[i].begin) &&
		    memcmp(text, known[i].begin, strlen(known[i].begin)) == 0)
			return known[i].advice;
	}
	return redis_error_advice(kind);
}

/* Redis repeats the words of a command that it does not know: a password must
 * not get from there into a log. */
static enum redis_error refuse(struct redis *redis, const struct step *step,
			       const struct redis_reply *reply, struct weir_error *error)
{
	enum redis_error kind = redis_reply_error(reply);
	bool quotable = step->kind != STEP_LOG_IN;
	char quoted[200] = "";
	size_t length;
	const char *text = redis_reply_text(reply, &length);

	if (step->kind == STEP_ROLE && has_role(reply, "slave"))
		return redis_link_fail(redis->link, REDIS_ERROR_READONLY, error,
				       "it is a replica; wait until it is the master");
	if (kind == REDIS_ERROR_NONE)
		return redis_link_fail(redis->link, REDIS_ERROR_PROTOCOL, error,
				       "the reply to %s is of an odd kind; check what listens "
				       "there", step_names[step->kind]);
	if (quotable)
		weir_quote(text, length, quoted, sizeof(quoted));
	return redis_link_fail(redis->link, kind, error, "%s was refused (%s%s%s); %s",
			       step_names[step->kind], redis_error_name(kind), quotable ? ": " : "",
			       quoted, quotable ? redis_error_advice(kind) :
						  log_in_advice(text, length, kind));
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
	if (redis_reply_error(reply) == REDIS_ERROR_NOPERM)
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
		return redis_keep_sha(&redis->scripts[step->script], reply);
	case STEP_INFO:
		return keep_info(redis, reply);
	case STEP_ROLE:
		/* Where the ACL forbids the question, the first write answers it. */
		return has_role(reply, "master") ||
		       redis_reply_error(reply) == REDIS_ERROR_NOPERM;
	default:
		return redis_reply_type(reply) == REDIS_TYPE_STATUS;
	}
}

enum redis_error redis_log_in(struct redis *redis, uint64_t deadline_ns,
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
