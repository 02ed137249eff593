/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policies.c - asking Redis about policies.
 *
 * What.  Hosts that count one key under different limits are all right by themselves,
 * but together they enforce neither: people must know.  So each host writes what it has,
 * in words, beside a digest into one hash; the script answers who has another digest,
 * and what those have is read, once for all hosts that have the same, and compared.  It
 * also answers what is published: that is read when it is new, put back when Redis has
 * lost it, and applied by a host that follows.
 *
 * A look is up to a few steps, and each step is one flush, so that a slow Redis delays a
 * round by one call at most.
 */
#include "sync/policies.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"
#include "shm/policy_table.h"
#include "shm/report.h"
#include "sync/follow.h"
#include "sync/keys.h"

#define ASK_INTERVALS 10u               /* between two looks, */
#define ASK_MIN_NS 100000000ull
#define ASK_NS 1000000000ull            /* but not more than this */
#define ASK_MAX_NS 10000000000ull       /* in a cluster of a thousand: hosts count for 30 s */
#define HOSTS_PER_ASK 100u              /* hosts that share a second */
#define FETCHED_AT_ONCE 4u

enum step {
	STEP_LOOK,
	STEP_TEXTS,                     /* read what variants lack */
	STEP_PUBLICATION,               /* read what is published */
	STEP_PUT_BACK,
};

struct policies {
	struct segment *segment;
	unsigned char host[HOST_ID_SIZE];
	unsigned look, publish;         /* scripts */
	char key[SYNC_KEY_SIZE];
	uint64_t due_ns;
	enum step step;
	bool send_text;
	bool problem;                   /* something is wrong, and was told */
	bool asked_publication;         /* in this look */
	bool put_back;                  /* in this look */
	struct variants variants;
	struct follow follow;
};

struct policies *policies_create(struct segment *segment, const char *prefix,
				 const unsigned char host_id[HOST_ID_SIZE], unsigned look,
				 unsigned publish)
{
	struct policies *policies = calloc(1, sizeof(*policies));

	if (!policies)
		return NULL;
	policies->segment = segment;
	policies->look = look;
	policies->publish = publish;
	policies->variants.segment = segment;
	policies->follow.segment = segment;
	memcpy(policies->host, host_id, HOST_ID_SIZE);
	sync_policies_key(policies->key, prefix);
	return policies;
}

void policies_destroy(struct policies *policies)
{
	if (!policies)
		return;
	variants_destroy(&policies->variants);
	follow_destroy(&policies->follow);
	free(policies);
}

static void __attribute__((format(printf, 2, 3)))
tell_problem(struct policies *policies, const char *format, ...)
{
	struct report report = { .hosts = 1 };
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(report.text, sizeof(report.text), format, arguments);
	va_end(arguments);
	policies->problem = true;
	report_write(policies->segment, REPORT_PROBLEM, &report);
}

/* ---- The end of a look ------------------------------------------------- */

/* Time between two looks: the more hosts, the longer, so that Redis hears as many. */
static uint64_t period_ns(const struct segment *segment)
{
	/* Relaxed: numbers that are good by themselves. */
	uint64_t period = ASK_INTERVALS * atomic_load_relaxed(&segment->header->sync.interval_ns);
	uint64_t hosts = 0;

	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		uint64_t seen = atomic_load_relaxed(&segment->shards[i].hosts);

		hosts = seen > hosts ? seen : hosts;
	}
	if (hosts >= HOSTS_PER_ASK * ASK_MAX_NS / ASK_NS)
		return ASK_MAX_NS;
	if (hosts > HOSTS_PER_ASK)
		return ASK_NS / HOSTS_PER_ASK * hosts;
	return period < ASK_MIN_NS ? ASK_MIN_NS : period > ASK_NS ? ASK_NS : period;
}

static void rest(struct policies *policies, uint64_t now_ns)
{
	policies->due_ns = now_ns + period_ns(policies->segment);
	policies->step = STEP_LOOK;
}

/* All that is to be known is: apply what is new, compare, and rest. */
static void finish_look(struct policies *policies, uint64_t now_ns)
{
	char problem[REPORT_TEXT_SIZE];

	for (unsigned i = 0; i < policies->variants.count; i++)
		policies->variants.list[i].asked = false;
	rest(policies, now_ns);
	if (!follow_apply(&policies->follow, problem, sizeof(problem)) && problem[0])
		tell_problem(policies, "%s", problem);
	else if (policies->follow.problem[0])
		tell_problem(policies, "%s", policies->follow.problem);
	variants_compare(&policies->variants);
	if (!policies->problem)
		report_write(policies->segment, REPORT_PROBLEM, NULL);
}

static void go_on(struct policies *policies, uint64_t now_ns)
{
	for (unsigned i = 0; i < policies->variants.count; i++) {
		if (variant_is_wanted(&policies->variants.list[i])) {
			policies->step = STEP_TEXTS;
			return;
		}
	}
	if (follow_wants(&policies->follow) && !policies->asked_publication) {
		policies->step = STEP_PUBLICATION;
		policies->asked_publication = true;
	} else if (follow_has_lost(&policies->follow) && !policies->put_back) {
		policies->step = STEP_PUT_BACK;
		policies->put_back = true;
	} else {
		finish_look(policies, now_ns);
	}
}

/* ---- Calls ------------------------------------------------------------- */

static enum redis_error call(const struct policies *policies, struct redis_route *route,
			     unsigned script, int argc, const char *const *argv,
			     const size_t *lengths, struct redis_result *result)
{
	struct redis_call made = { script, policies->key, strlen(policies->key), argc, argv,
				   lengths };

	return redis_route_call(route, &made, 1, UINT64_MAX, result, NULL);
}

static enum redis_error ask_look(const struct policies *policies, struct redis_route *route,
				 struct redis_result *result)
{
	const struct variants *variants = &policies->variants;
	const char *argv[3] = { (const char *)policies->host, (const char *)variants->digest, "" };
	size_t lengths[3] = { HOST_ID_SIZE, DIGEST_SIZE, 0 };

	if (policies->send_text) {
		argv[2] = variants->text;
		lengths[2] = variants->length;
	}
	return call(policies, route, policies->look, 3, argv, lengths, result);
}

static enum redis_error ask_texts(const struct policies *policies, struct redis_route *route,
				  struct redis_result *result)
{
	char fields[FETCHED_AT_ONCE][HOST_ID_SIZE + 1];
	const char *argv[2 + FETCHED_AT_ONCE] = { "HMGET", policies->key };
	size_t lengths[2 + FETCHED_AT_ONCE] = { strlen("HMGET"), strlen(policies->key) };
	int count = 0;

	for (unsigned i = 0; i < policies->variants.count && count < (int)FETCHED_AT_ONCE; i++) {
		const struct variant *variant = &policies->variants.list[i];

		if (!variant_is_wanted(variant))
			continue;
		fields[count][0] = 't';
		memcpy(fields[count] + 1, variant->host, HOST_ID_SIZE);
		argv[2 + count] = fields[count];
		lengths[2 + count++] = HOST_ID_SIZE + 1;
	}
	return call(policies, route, REDIS_COMMAND, 2 + count, argv, lengths, result);
}

static enum redis_error ask_publication(const struct policies *policies, struct redis_route *route,
					struct redis_result *result)
{
	const char *argv[] = { "HMGET", policies->key, "tag", "publication" };

	return call(policies, route, REDIS_COMMAND, 4, argv, NULL, result);
}

static enum redis_error ask_put_back(const struct policies *policies, struct redis_route *route,
				     struct redis_result *result)
{
	const struct follow *follow = &policies->follow;
	const char *argv[3] = { (const char *)follow->there, (const char *)follow->tag,
				follow->text };
	size_t lengths[3] = { follow->there_length, TAG_SIZE, follow->length };

	return call(policies, route, policies->publish, 3, argv, lengths, result);
}

static enum redis_error ask(const struct policies *policies, struct redis_route *route,
			    struct redis_result *result)
{
	switch (policies->step) {
	case STEP_TEXTS:
		return ask_texts(policies, route, result);
	case STEP_PUBLICATION:
		return ask_publication(policies, route, result);
	case STEP_PUT_BACK:
		return ask_put_back(policies, route, result);
	case STEP_LOOK:
		break;
	}
	return ask_look(policies, route, result);
}

/* ---- Answers ----------------------------------------------------------- */

/* {code, others, tag, bytes} */
static bool read_look(struct policies *policies, const struct redis_reply *reply)
{
	size_t length = 0, tag_length = 0;
	const char *others = redis_reply_text(redis_reply_at(reply, 1), &length);
	const char *tag = redis_reply_text(redis_reply_at(reply, 2), &tag_length);

	if (redis_reply_count(reply) != 4 || !others || length % OTHER_SIZE != 0 || !tag)
		return false;
	if (redis_reply_integer(redis_reply_at(reply, 0)) != 0) {
		if (policies->send_text)
			return false;
		policies->send_text = true;
		return true;
	}
	policies->send_text = false;
	policies->asked_publication = false;
	policies->put_back = false;
	if (!variants_count(&policies->variants, (const unsigned char *)others,
			    length / OTHER_SIZE))
		tell_problem(policies,
			     "hosts have more than %u different sets of policies; those beyond are "
			     "not compared", VARIANTS_MAX);
	follow_look(&policies->follow, tag, tag_length,
		    redis_reply_integer(redis_reply_at(reply, 3)));
	return true;
}

static void read_texts(struct policies *policies, const struct redis_reply *reply)
{
	size_t count = 0;

	for (unsigned i = 0; i < policies->variants.count && count < FETCHED_AT_ONCE; i++) {
		struct variant *variant = &policies->variants.list[i];
		size_t length = 0;
		const char *text;

		if (!variant_is_wanted(variant))
			continue;
		text = redis_reply_text(redis_reply_at(reply, count++), &length);
		if (!variants_keep(&policies->variants, variant, text, length))
			tell_problem(policies,
				     "host %016llx: what %s says of its policies is not what it wrote; "
				     "does another program write there?",
				     (unsigned long long)host_number(variant->host), policies->key);
	}
}

static void read_publication(struct policies *policies, const struct redis_reply *reply)
{
	size_t tag_length = 0, length = 0;
	const char *tag = redis_reply_text(redis_reply_at(reply, 0), &tag_length);
	const char *text = redis_reply_text(redis_reply_at(reply, 1), &length);

	follow_take(&policies->follow, tag, tag_length, text, length);
}

static void read_answer(struct policies *policies, const struct redis_reply *reply,
			uint64_t now_ns)
{
	switch (policies->step) {
	case STEP_LOOK:
		if (!read_look(policies, reply)) {
			tell_problem(policies,
				     "cannot compare policies with other hosts: %s answers what it "
				     "never should; does another program write there?",
				     policies->key);
			rest(policies, now_ns);
			return;
		}
		if (policies->send_text)
			return;         /* again, with it */
		break;
	case STEP_TEXTS:
		read_texts(policies, reply);
		break;
	case STEP_PUBLICATION:
		read_publication(policies, reply);
		break;
	case STEP_PUT_BACK:
		break;                  /* the next look tells */
	}
	go_on(policies, now_ns);
}

/* ---- Asking ------------------------------------------------------------ */

bool policies_due(const struct policies *policies, uint64_t now_ns)
{
	const struct variants *variants = &policies->variants;

	return policies->due_ns <= now_ns || (variants->described && !variants_described(variants));
}

static bool prepare(struct policies *policies)
{
	if (policies->step != STEP_LOOK)
		return true;
	policies->problem = false;
	if (variants_described(&policies->variants))
		return true;
	policies->send_text = true;
	if (variants_describe(&policies->variants))
		return true;
	tell_problem(policies, "no memory to compare policies with other hosts; free some");
	return false;
}

void policies_ask(struct policies *policies, struct redis_route *route, uint64_t now_ns)
{
	struct redis_result result = { 0 };
	enum redis_error outcome;
	size_t length;
	const char *text;

	if (!prepare(policies)) {
		rest(policies, now_ns);
		return;
	}
	outcome = ask(policies, route, &result);
	/* Rounds tell of what is wrong with the connection.  After NOSCRIPT the scripts are
	 * there again. */
	if (outcome != REDIS_ERROR_NONE || result.error == REDIS_ERROR_NOSCRIPT) {
		rest(policies, now_ns);
	} else if (result.error != REDIS_ERROR_NONE) {
		text = redis_reply_text(result.reply, &length);
		tell_problem(policies, "cannot compare policies with other hosts at %s: %s",
			     policies->key, text ? text : redis_error_name(result.error));
		rest(policies, now_ns);
	} else {
		read_answer(policies, result.reply, now_ns);
	}
}
