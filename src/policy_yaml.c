/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy_yaml.c - policies from a YAML file.
 *
 *	policies:
 *	  - name: api
 *	    limits:
 *	      - 100/1m burst 20
 *	      - {limit: 1000, period: 1h, algorithm: sliding-window, action: deny}
 *	    fail_mode: share
 *	    consistency: bounded
 *	    shadow: false
 *	    lease: false
 *	    buckets: customers
 *
 * docs/policy-files.md describes it.  How YAML is read, and what of it is
 * refused, is in yaml_reader.h; here stands what may come where.
 */
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/error.h"
#include "src/limit_text.h"
#include "src/names.h"
#include "src/yaml_reader.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define POLICIES_MAX 4096u

/* Room for a value in a message; longer ones are cut. */
#define QUOTED_SIZE 80

/* What a file holds: the context of its reader. */
struct policy_file {
	struct weir_policy *policies;   /* room for POLICIES_MAX */
	size_t count;
	void *names;            /* a tree of the names in policies, for tsearch() */
};

/* A word of a fixed set was not found. */
static int fail_word(struct weir_error *error, const char *what, const char *text, size_t length,
		     const char *words)
{
	char quoted[QUOTED_SIZE];

	return weir_fail(error, WEIR_EINVAL, "%s \"%s\" does not exist; write %s", what,
			 weir_quote(text, length, quoted, sizeof(quoted)), words);
}

/* ---- Limits ------------------------------------------------------------ */

#define ALGORITHMS "token-bucket, sliding-window, fixed-window or concurrency"
#define ACTIONS "deny or flag"

static int limit_count(const char *text, size_t length, void *object, struct weir_error *error)
{
	struct weir_limit *limit = object;

	return weir_limit_text_count("limit", text, length, &limit->limit, error);
}

static int limit_period(const char *text, size_t length, void *object, struct weir_error *error)
{
	struct weir_limit *limit = object;

	return weir_limit_text_period(text, length, &limit->period_ns, error);
}

static int limit_burst(const char *text, size_t length, void *object, struct weir_error *error)
{
	struct weir_limit *limit = object;

	return weir_limit_text_burst(text, length, &limit->burst, error);
}

static int limit_algorithm(const char *text, size_t length, void *object, struct weir_error *error)
{
	struct weir_limit *limit = object;

	if (weir_algorithm_find(text, length, &limit->algorithm))
		return WEIR_OK;
	return fail_word(error, "the algorithm", text, length, ALGORITHMS);
}

static int limit_action(const char *text, size_t length, void *object, struct weir_error *error)
{
	struct weir_limit *limit = object;

	if (weir_action_find(text, length, &limit->action))
		return WEIR_OK;
	return fail_word(error, "the action", text, length, ACTIONS);
}

static const struct yaml_field limit_fields[] = {
	{ "limit", "100", true, .scalar = limit_count },
	{ "period", "1m", false, .scalar = limit_period },
	{ "burst", "20", false, .scalar = limit_burst },
	{ "algorithm", ALGORITHMS, false, .scalar = limit_algorithm },
	{ "action", ACTIONS, false, .scalar = limit_action },
};

static int read_limit_mapping(struct yaml_reader *reader, struct weir_limit *limit)
{
	yaml_mark_t start = reader->event.start_mark;
	struct weir_error reason;
	int status = weir_yaml_mapping(reader, limit_fields, LENGTH(limit_fields), "a limit",
				       "\"100/1m\" or {limit: 100, period: 1m}", limit);

	if (status < 0)
		return status;
	if (limit->period_ns == 0 && limit->algorithm != WEIR_CONCURRENCY)
		return weir_yaml_fail_at(reader, start,
					 "a limit has no period; add \"period: 1m\", or "
					 "\"algorithm: concurrency\" to limit how many are under "
					 "way at once");
	if (limit->burst == limit->limit)
		limit->burst = 0;       /* as weir_limit_parse() does */
	if (weir_limit_check(limit, &reason) < 0)
		return weir_yaml_fail_at(reader, start, "%s", reason.message);
	return WEIR_OK;
}

/* A limit is a line of text or a mapping. */
static int read_limit(struct yaml_reader *reader, struct weir_limit *limit)
{
	struct weir_error reason;
	char quoted[QUOTED_SIZE];
	int status;

	if (reader->event.type != YAML_SCALAR_EVENT)
		return read_limit_mapping(reader, limit);
	status = weir_yaml_expect(reader, YAML_SCALAR_EVENT, "a limit", "\"100/1m\"");
	if (status < 0)
		return status;
	if (memchr(weir_yaml_text(reader), '\0', weir_yaml_length(reader)))
		return weir_yaml_fail(reader, "limit \"%s\": it has a zero byte in it; remove it",
				      weir_quote(weir_yaml_text(reader), weir_yaml_length(reader),
						 quoted, sizeof(quoted)));
	if (weir_limit_parse(weir_yaml_text(reader), limit, &reason) < 0)
		return weir_yaml_fail(reader, "%s", reason.message);
	return weir_yaml_next(reader);
}

/* ---- Policies ---------------------------------------------------------- */

#define FAIL_MODES "share, open or closed"
#define CONSISTENCIES "bounded, local, eventual or strict"
#define BOOLEANS "true or false"

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void keep_name(void *name)
{
	(void)name;     /* it belongs to its policy */
}

static int read_policy_name(struct yaml_reader *reader, void *object)
{
	struct policy_file *file = reader->context;
	struct weir_policy *policy = object;
	struct weir_error reason;
	char **found;
	int status = weir_yaml_expect(reader, YAML_SCALAR_EVENT, "name", "a word, such as api");

	if (status < 0)
		return status;
	if (weir_policy_name_check(weir_yaml_text(reader), weir_yaml_length(reader), &reason) < 0)
		return weir_yaml_fail(reader, "%s", reason.message);

	memcpy(policy->name, weir_yaml_text(reader), weir_yaml_length(reader) + 1);
	found = tsearch(policy->name, &file->names, compare_names);
	if (!found)
		return weir_yaml_fail_memory(reader);
	if (*found != policy->name)
		return weir_yaml_fail(reader, "a policy \"%s\" stands above already; rename or "
				      "remove one of them", policy->name);
	return weir_yaml_next(reader);
}

static int read_policy_limits(struct yaml_reader *reader, void *object)
{
	static const char wanted[] = "a list of 1 to 4 limits, such as [100/1m, 1000/1h]";
	struct weir_policy *policy = object;
	yaml_mark_t start = reader->event.start_mark;
	int status = weir_yaml_expect(reader, YAML_SEQUENCE_START_EVENT, "limits", wanted);

	if (status == WEIR_OK)
		status = weir_yaml_next(reader);
	while (status == WEIR_OK && reader->event.type != YAML_SEQUENCE_END_EVENT) {
		if (policy->limit_count == WEIR_LIMITS_MAX)
			return weir_yaml_fail(reader, "a policy has more than %u limits; remove "
					      "some, or make a second policy", WEIR_LIMITS_MAX);
		status = read_limit(reader, &policy->limits[policy->limit_count++]);
	}
	if (status < 0)
		return status;
	if (policy->limit_count == 0)
		return weir_yaml_fail_at(reader, start, "limits is empty; write %s", wanted);
	return weir_yaml_next(reader);
}

static int policy_fail_mode(const char *text, size_t length, void *object,
			    struct weir_error *error)
{
	struct weir_policy *policy = object;

	if (weir_fail_mode_find(text, length, &policy->fail_mode))
		return WEIR_OK;
	return fail_word(error, "the fail_mode", text, length, FAIL_MODES);
}

static int policy_consistency(const char *text, size_t length, void *object,
			      struct weir_error *error)
{
	struct weir_policy *policy = object;

	if (weir_consistency_find(text, length, &policy->consistency))
		return WEIR_OK;
	return fail_word(error, "the consistency", text, length, CONSISTENCIES);
}

static int policy_boolean(const char *what, const char *text, size_t length, bool *value,
			  struct weir_error *error)
{
	*value = length == 4 && memcmp(text, "true", 4) == 0;
	if (*value || (length == 5 && memcmp(text, "false", 5) == 0))
		return WEIR_OK;
	return fail_word(error, what, text, length, BOOLEANS);
}

static int policy_shadow(const char *text, size_t length, void *object, struct weir_error *error)
{
	struct weir_policy *policy = object;

	return policy_boolean("the value of shadow", text, length, &policy->shadow, error);
}

static int policy_lease(const char *text, size_t length, void *object, struct weir_error *error)
{
	struct weir_policy *policy = object;

	return policy_boolean("the value of lease", text, length, &policy->lease, error);
}

static int policy_buckets(const char *text, size_t length, void *object, struct weir_error *error)
{
	struct weir_policy *policy = object;

	if (weir_policy_buckets_check(text, length, error) < 0)
		return WEIR_EINVAL;
	memcpy(policy->buckets, text, length);
	return WEIR_OK;
}

static const struct yaml_field policy_fields[] = {
	{ "name", "api", true, .node = read_policy_name },
	{ "limits", "[100/1m]", true, .node = read_policy_limits },
	{ "fail_mode", FAIL_MODES, false, .scalar = policy_fail_mode },
	{ "consistency", CONSISTENCIES, false, .scalar = policy_consistency },
	{ "shadow", BOOLEANS, false, .scalar = policy_shadow },
	{ "lease", BOOLEANS, false, .scalar = policy_lease },
	{ "buckets", "a name, such as customers", false, .scalar = policy_buckets },
};

static int read_policies(struct yaml_reader *reader, void *object)
{
	struct policy_file *file = object;
	yaml_mark_t start = reader->event.start_mark;
	int status = weir_yaml_expect(reader, YAML_SEQUENCE_START_EVENT, "policies",
				      "a list of policies, such as [{name: api, limits: "
				      "[100/1m]}]");

	if (status == WEIR_OK)
		status = weir_yaml_next(reader);
	while (status == WEIR_OK && reader->event.type != YAML_SEQUENCE_END_EVENT) {
		if (file->count == POLICIES_MAX)
			return weir_yaml_fail(reader,
					      "there are more than %u policies; remove some",
					      POLICIES_MAX);
		status = weir_yaml_mapping(reader, policy_fields, LENGTH(policy_fields), "a policy",
					   "a mapping, such as {name: api, limits: [100/1m]}",
					   &file->policies[file->count++]);
	}
	if (status < 0)
		return status;
	if (file->count == 0)
		return weir_yaml_fail_at(reader, start,
					 "policies is empty; list at least one policy");
	return weir_yaml_next(reader);
}

static const struct yaml_field file_fields[] = {
	{ "policies", "[{name: api, limits: [100/1m]}]", true, .node = read_policies },
};

/* ---- Files ------------------------------------------------------------- */

int weir_policy_parse(const char *text, size_t length, const char *source,
		      struct weir_policy **policies, size_t *count, struct weir_error *error)
{
	struct policy_file file = { 0 };
	struct yaml_reader reader = {
		.text = text ? text : "",
		.length = text ? length : 0,
		.source = source ? source : "policies",
		.context = &file,
		.error = error,
	};
	int status;

	/* Room for all there may be: the tree points into it, so it must not move,
	 * and pages that are not written cost nothing. */
	file.policies = calloc(POLICIES_MAX, sizeof(*file.policies));
	if (!file.policies)
		return weir_fail(error, WEIR_ENOMEM,
				 "no memory for %u policies; free some and try again",
				 POLICIES_MAX);

	status = weir_yaml_read(&reader, file_fields, LENGTH(file_fields), "the policy file",
				"\"policies:\" and a list of policies", &file);
	tdestroy(file.names, keep_name);
	if (status < 0) {
		free(file.policies);
		return status;
	}

	*count = file.count;
	*policies = realloc(file.policies, file.count * sizeof(*file.policies));
	if (!*policies)
		*policies = file.policies;      /* it could not be shrunk: as good */
	return weir_ok(error);
}

/* Read FD to its end, which may be a pipe's.  More than YAML_SIZE_MAX bytes
 * are left for weir_yaml_read() to refuse. */
static ssize_t read_all(int fd, char *text, size_t size)
{
	size_t length = 0;

	while (length < size) {
		ssize_t got = read(fd, text + length, size - length);

		if (got == 0)
			break;
		if (got > 0)
			length += (size_t)got;
		else if (errno != EINTR)
			return -1;
	}
	return (ssize_t)length;
}

int weir_policy_parse_file(const char *path, struct weir_policy **policies, size_t *count,
			   struct weir_error *error)
{
	size_t size = YAML_SIZE_MAX + 1;
	ssize_t length;
	char *text;
	int fd, status;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return weir_fail(error, errno == ENOENT ? WEIR_ENOENT : WEIR_ESYSTEM,
				 "cannot open the policy file %.300s: %m; check the path and its "
				 "permissions", path);
	text = malloc(size);
	if (!text) {
		close(fd);
		return weir_fail(error, WEIR_ENOMEM,
				 "no memory for %zu bytes of the policy file %.300s; free some and "
				 "try again", size, path);
	}

	length = read_all(fd, text, size);
	if (length < 0)
		status = weir_fail(error, WEIR_ESYSTEM,
				   "cannot read the policy file %.300s: %m; check that it is a "
				   "file", path);
	else
		status = weir_policy_parse(text, (size_t)length, path, policies, count, error);
	free(text);
	close(fd);
	return status;
}
