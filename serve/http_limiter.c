/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/http_limiter.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "serve/headers.h"
#include "serve/server.h"
#include "src/cli/json.h"

#define PROBLEM_TYPES "https://iana.org/assignments/http-problem-types#"

/* What was asked.  Strings are the request's, or the JSON value's. */
struct asked {
	json_t *json;                   /* NULL: it stands in the query */
	const char *policy;
	size_t policy_length;
	const char *key;
	size_t key_length;
	unsigned char *decoded;         /* key_base64, or NULL */
	uint64_t cost;
	uint64_t now_ns;
	bool force;
};

/* ---- Reading ----------------------------------------------------------- */

static bool bad(struct http_request *request, const char *what, const char *wanted)
{
	http_fail(request, MHD_HTTP_BAD_REQUEST, "%s; give %s", what, wanted);
	return false;
}

/* Padded as it must be: EVP_DecodeBlock() takes blanks around it, and '=' within. */
static bool is_base64(const char *text, size_t length)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789+/";
	size_t padding = length - strspn(text, letters);

	return length > 0 && length % 4 == 0 && length / 4 * 3 <= WEIR_KEY_MAX + 2 &&
	       padding <= 2 && memcmp(text + length - padding, "==", padding) == 0;
}

static bool is_first_key(struct http_request *request, const struct asked *asked)
{
	return !asked->key || bad(request, "key and key_base64 are both there", "one of them");
}

static bool set_key(struct http_request *request, struct asked *asked, const char *text,
		    size_t length)
{
	if (!is_first_key(request, asked))
		return false;
	asked->key = text;
	asked->key_length = length;
	return true;
}

static bool read_base64(struct http_request *request, struct asked *asked, const char *text,
			size_t length)
{
	int size;

	if (!is_first_key(request, asked))
		return false;
	if (!is_base64(text, length))
		return bad(request, "key_base64 is not base64 of 1 to 65536 bytes",
			   "it padded, with the letters + and /");
	asked->decoded = malloc(length / 4 * 3);
	size = asked->decoded ? EVP_DecodeBlock(asked->decoded, (const unsigned char *)text,
						(int)length) : -1;
	if (size <= 0) {
		http_fail(request, MHD_HTTP_SERVICE_UNAVAILABLE, "no memory for a key; ask again");
		return false;
	}
	/* The padding was decoded to zeroes. */
	size -= (text[length - 1] == '=') + (text[length - 2] == '=');
	return set_key(request, asked, (const char *)asked->decoded, (size_t)size);
}

static bool read_integer(struct http_request *request, const char *name, const json_t *value,
			 uint64_t *number)
{
	char *text;

	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*number = (uint64_t)json_integer_value(value);
		return true;
	}
	text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	http_fail(request, MHD_HTTP_BAD_REQUEST, "%s is not a whole number of 0 or more, but %.64s; "
		  "give one", name, text ? text : "something else");
	free(text);
	return false;
}

static bool read_string(struct http_request *request, const char *name, const json_t *value,
			const char **text, size_t *length)
{
	*text = json_string_value(value);
	*length = json_string_length(value);
	if (*text)
		return true;
	http_fail(request, MHD_HTTP_BAD_REQUEST, "%s is not a string; write it in quotes", name);
	return false;
}

static bool unknown(struct http_request *request, const char *name)
{
	http_fail(request, MHD_HTTP_BAD_REQUEST, "\"%.64s\" is not known; give policy, key or "
		  "key_base64, cost, force and now_ns", name);
	return false;
}

static bool read_member(struct http_request *request, struct asked *asked, const char *name,
			const json_t *value)
{
	const char *text;
	size_t length;

	if (strcmp(name, "policy") == 0)
		return read_string(request, name, value, &asked->policy, &asked->policy_length);
	if (strcmp(name, "key") == 0)
		return read_string(request, name, value, &text, &length) &&
		       set_key(request, asked, text, length);
	if (strcmp(name, "key_base64") == 0)
		return read_string(request, name, value, &text, &length) &&
		       read_base64(request, asked, text, length);
	if (strcmp(name, "cost") == 0)
		return read_integer(request, name, value, &asked->cost);
	if (strcmp(name, "now_ns") == 0)
		return read_integer(request, name, value, &asked->now_ns);
	if (strcmp(name, "force") == 0 && json_is_boolean(value)) {
		asked->force = json_is_true(value);
		return true;
	}
	if (strcmp(name, "force") == 0)
		return bad(request, "force is not true or false", "one of them");
	return unknown(request, name);
}

static bool read_body(struct http_request *request, struct asked *asked)
{
	const char *name;
	json_t *value;

	asked->json = http_read_json(request, "an object such as {\"policy\": \"api\", \"key\": "
				     "\"192.0.2.1\"}");
	if (!asked->json)
		return false;
	if (!json_is_object(asked->json))
		return bad(request, "the body is no object",
			   "one such as {\"policy\": \"api\", \"key\": \"192.0.2.1\"}");
	json_object_foreach(asked->json, name, value) {
		if (!read_member(request, asked, name, value))
			return false;
	}
	return true;
}

/* A query on its way into what was asked. */
struct query {
	struct http_request *request;
	struct asked *asked;
	unsigned seen;                  /* a bit for each of query_names */
	bool failed;                    /* and answered */
};

static const char *const query_names[] = { "policy", "key", "key_base64", "cost", "force", "now_ns" };
#define QUERY_NAMES (sizeof(query_names) / sizeof(query_names[0]))

static bool read_number(struct http_request *request, const char *name, const char *text,
			uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	if (*text >= '0' && *text <= '9' && *end == '\0' && errno == 0)
		return true;
	http_fail(request, MHD_HTTP_BAD_REQUEST, "%s is \"%.64s\"; give a whole number", name, text);
	return false;
}

static bool read_argument(const struct query *query, size_t index, const char *text,
			  size_t length)
{
	struct http_request *request = query->request;
	struct asked *asked = query->asked;

	switch (index) {
	case 0:
		asked->policy = text;
		asked->policy_length = length;
		return true;
	case 1:
		return set_key(request, asked, text, length);
	case 2:
		return read_base64(request, asked, text, length);
	case 3:
		return read_number(request, query_names[index], text, &asked->cost);
	case 4:
		asked->force = strcmp(text, "true") == 0;
		return asked->force || strcmp(text, "false") == 0 ||
		       bad(request, "force is neither true nor false", "one of them");
	default:
		return read_number(request, query_names[index], text, &asked->now_ns);
	}
}

/* As strict as with a body: what was mistyped must not silently mean something else. */
static enum MHD_Result on_argument(void *context, enum MHD_ValueKind kind, const char *name,
				   size_t name_length, const char *text, size_t length)
{
	struct query *query = context;
	size_t index = 0;

	(void)kind;
	(void)name_length;
	while (index < QUERY_NAMES && strcmp(query_names[index], name) != 0)
		index++;
	if (index == QUERY_NAMES) {
		query->failed = !unknown(query->request, name);
	} else if (query->seen & (1u << index)) {
		http_fail(query->request, MHD_HTTP_BAD_REQUEST, "%s stands twice in the query; give "
			  "one", name);
		query->failed = true;
	} else {
		query->seen |= 1u << index;
		query->failed = !read_argument(query, index, text ? text : "", length);
	}
	return query->failed ? MHD_NO : MHD_YES;
}

static bool read_query(struct http_request *request, struct asked *asked)
{
	struct query query = { .request = request, .asked = asked };

	MHD_get_connection_values_n(request->connection, MHD_GET_ARGUMENT_KIND, on_argument, &query);
	return !query.failed;
}

/* Who could choose the time could have as many tokens as he likes. */
static bool check_time(struct http_request *request, const struct asked *asked)
{
	if (asked->now_ns == 0 || request->loop->server->clock_is_callers)
		return true;
	http_fail(request, MHD_HTTP_BAD_REQUEST, "now_ns is %" PRIu64 ", and this segment has a "
		  "clock of its own; leave it out", asked->now_ns);
	return false;
}

/* What was asked, checked as far as the segment does not. */
static bool read_asked(struct http_request *request, struct asked *asked, uint64_t least_cost)
{
	*asked = (struct asked){ .cost = 1 };
	if (!(request->body_length > 0 ? read_body(request, asked) : read_query(request, asked)))
		return false;
	if (!asked->policy)
		return bad(request, "there is no policy", "its name");
	if (strlen(asked->policy) != asked->policy_length)
		return bad(request, "the policy's name has a zero byte in it", "its name");
	if (!asked->key || asked->key_length < 1 || asked->key_length > WEIR_KEY_MAX)
		return bad(request, "there is no key of 1 to 65536 bytes",
			   "key, or key_base64 if it is no text");
	if (asked->cost < least_cost || asked->cost > WEIR_COUNT_MAX) {
		http_fail(request, MHD_HTTP_BAD_REQUEST, "cost is %" PRIu64 "; give %" PRIu64 " to %"
			  PRIu64, asked->cost, least_cost, (uint64_t)WEIR_COUNT_MAX);
		return false;
	}
	return check_time(request, asked);
}

/* ---- Answering --------------------------------------------------------- */

/* Reasons that are the client's fault. */
static bool is_fault(enum weir_reason reason)
{
	return reason == WEIR_REASON_CLOCK || reason == WEIR_REASON_USE_ACQUIRE ||
	       reason == WEIR_REASON_KEY;
}

static void answer_fault(struct http_request *request, const struct weir_decision *decision)
{
	if (decision->reason == WEIR_REASON_USE_ACQUIRE)
		http_fail(request, MHD_HTTP_BAD_REQUEST, "the policy has a concurrency limit, which "
			  "only a process of the host can hold; use weir_acquire(3), or a policy "
			  "without");
	else
		http_fail(request, MHD_HTTP_BAD_REQUEST, "now_ns cannot be the time of a request; "
			  "give nanoseconds since 1970: the segment's clock is the caller's");
}

/* What was wrong, and what to do. */
static void explain(const struct weir_policy *policy, const struct weir_decision *decision,
		    char text[256])
{
	char limit[96] = "";

	if (decision->outcome == WEIR_UNAVAILABLE) {
		snprintf(text, 256, "%s", cli_reason_sentence(decision->reason));
		return;
	}
	if (decision->limit_index < policy->limit_count)
		weir_limit_format(&policy->limits[decision->limit_index], limit, sizeof(limit));
	if (decision->reason == WEIR_REASON_COST)
		snprintf(text, 256, "the cost is more than %s can ever allow; ask for less at once",
			 limit);
	else if (decision->retry_after_ns == WEIR_NEVER)
		snprintf(text, 256, "the bucket of %s would be beyond the largest debt or count; ask "
			 "for less", limit);
	else
		snprintf(text, 256, "%s has %" PRIu64 " left; ask again in %" PRIu64 " s", limit,
			 decision->remaining, headers_seconds(decision->retry_after_ns));
}

static json_t *tell_problem(const struct weir_policy *policy, const struct weir_decision *decision)
{
	bool denied = decision->outcome == WEIR_DENIED;
	const char *type = denied ? PROBLEM_TYPES "quota-exceeded" :
				    PROBLEM_TYPES "temporary-reduced-capacity";
	char detail[256];
	json_t *problem;

	explain(policy, decision, detail);
	problem = json_pack("{s:s, s:s, s:i, s:s, s:[s]}", "type", type, "title",
			    denied ? "rate limit exceeded" : "rate limiter unavailable", "status",
			    denied ? MHD_HTTP_TOO_MANY_REQUESTS : MHD_HTTP_SERVICE_UNAVAILABLE,
			    "detail", detail, "violated-policies", policy->name);
	if (problem && !denied)
		json_object_del(problem, "violated-policies");
	return problem;
}

static void answer_decision(struct http_request *request, const struct weir_policy *policy,
			    const struct weir_decision *decision, bool asks)
{
	unsigned status = MHD_HTTP_OK;
	json_t *object;

	if (decision->outcome == WEIR_UNAVAILABLE && is_fault(decision->reason)) {
		answer_fault(request, decision);
		return;
	}
	headers_add(request, request->loop->server->options->headers, policy, decision);
	if (asks && decision->outcome == WEIR_DENIED)
		status = MHD_HTTP_TOO_MANY_REQUESTS;
	else if (asks && decision->outcome == WEIR_UNAVAILABLE)
		status = MHD_HTTP_SERVICE_UNAVAILABLE;
	object = status == MHD_HTTP_OK ? json_object() : tell_problem(policy, decision);
	if (object)
		cli_json_set_decision(object, decision);
	http_reply_json(request, status, status == MHD_HTTP_OK ? HTTP_JSON : HTTP_PROBLEM, object);
}

/* Decide what was asked of the policy that was named. */
static void decide(struct http_request *request, const struct asked *asked, bool asks)
{
	struct weir *weir = request->loop->server->weir;
	struct weir_request wanted = {
		.policy = weir_policy_find(weir, asked->policy),
		.key = asked->key,
		.key_length = asked->key_length,
		.cost = asked->cost,
		.now_ns = asked->now_ns,
	};
	struct weir_decision decision;
	struct weir_policy policy;
	struct weir_error error;

	if (weir_policy_get(weir, asked->policy, &policy, &error) < 0) {
		http_fail(request, MHD_HTTP_NOT_FOUND, "%s", error.message);
		return;
	}
	if (!asks)
		weir_status(weir, &wanted, &decision);
	else if (asked->force)
		weir_force_take(weir, &wanted, &decision);
	else
		weir_decide(weir, &wanted, &decision);
	answer_decision(request, &policy, &decision, asks);
}

static void serve(struct http_request *request, bool asks)
{
	struct asked asked;

	if (read_asked(request, &asked, asks ? 1 : 0))
		decide(request, &asked, asks);
	json_decref(asked.json);
	free(asked.decoded);
}

void http_allow(struct http_request *request)
{
	serve(request, true);
}

void http_status(struct http_request *request)
{
	serve(request, false);
}
