/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policies.c - which hosts have other policies.
 *
 * What.  Hosts that count one key under different limits are all right by themselves,
 * but together they enforce neither: people must know.  So each host writes what it has,
 * in words, beside a digest into one hash; the script answers who has another digest,
 * and what those have is read, once for all hosts that have the same, and compared.
 *
 * Only what makes a difference to others is told: limits and consistency.  The fail mode
 * and shadow say what a host answers, not what it counts: hosts may differ in them.
 *
 * Invariant.  Nothing is believed that does not fit its digest, which is keyed by the
 * cluster's secret.
 *
 * Each step is one flush, so that a slow Redis delays a round by one call at most.
 */
#include "sync/policies.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/counter.h"
#include "shm/error.h"
#include "shm/hash.h"
#include "shm/policy_table.h"
#include "shm/report.h"
#include "sync/keys.h"

#define ASK_INTERVALS 10u               /* between two looks, */
#define ASK_MIN_NS 100000000ull
#define ASK_NS 1000000000ull            /* but not more than this */
#define ASK_MAX_NS 10000000000ull       /* in a cluster of a thousand: hosts count for 30 s */
#define HOSTS_PER_ASK 100u              /* hosts that share a second */
#define VARIANTS_MAX 16u                /* different sets of policies that are compared */
#define FETCHED_AT_ONCE 4u
#define TEXT_MAX (4u << 20)             /* bytes of one host's policies */
#define DIGEST_SIZE 16u
#define OTHER_SIZE (HOST_ID_SIZE + DIGEST_SIZE)
#define LIMIT_TEXT_SIZE 96

static const char first_line[] = "weir policies 1\n";
static const char local_end[] = " local";

/* What a group of hosts has. */
struct variant {
	unsigned char digest[DIGEST_SIZE];
	unsigned char host[HOST_ID_SIZE];       /* one of them */
	uint64_t hosts;
	char *text;                     /* NULL: not read yet, or not what it should be */
	unsigned misses;                /* how often it was not */
	bool asked;                     /* in this look */
	bool new;                       /* with this look */
};

struct policies {
	const struct segment *segment;
	unsigned char host[HOST_ID_SIZE];
	char key[SYNC_KEY_SIZE];
	uint64_t due_ns;
	uint64_t version;               /* of the policies that text tells of, */
	bool described;                 /* if it does */
	bool send_text;
	bool fetch;                     /* read what variants lack */
	bool problem;                   /* something is wrong, and was told */
	char *text;
	size_t length;
	unsigned char digest[DIGEST_SIZE];
	struct variant variants[VARIANTS_MAX];
	unsigned variant_count;
};

struct policies *policies_create(const struct segment *segment, const char *prefix,
				 const unsigned char host_id[HOST_ID_SIZE])
{
	struct policies *policies = calloc(1, sizeof(*policies));

	if (!policies)
		return NULL;
	policies->segment = segment;
	memcpy(policies->host, host_id, HOST_ID_SIZE);
	sync_policies_key(policies->key, prefix);
	return policies;
}

void policies_destroy(struct policies *policies)
{
	if (!policies)
		return;
	for (unsigned i = 0; i < policies->variant_count; i++)
		free(policies->variants[i].text);
	free(policies->text);
	free(policies);
}

/* ---- Telling people ---------------------------------------------------- */

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

static uint64_t host_number(const unsigned char host[HOST_ID_SIZE])
{
	uint64_t number;

	memcpy(&number, host, sizeof(number));
	return number;
}

/* ---- In words ---------------------------------------------------------- */

static void digest_of(const struct policies *policies, const char *text, size_t length,
		      unsigned char digest[DIGEST_SIZE])
{
	struct fingerprint hash = hash_strong(policies->segment->secret, text, length);

	memcpy(digest, &hash.low, 8);
	memcpy(digest + 8, &hash.high, 8);
}

size_t policies_describe(const struct weir_policy *policy, char *text, size_t size)
{
	char limit[LIMIT_TEXT_SIZE];
	size_t length = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < policy->limit_count && length < size; i++) {
		weir_limit_format(&policy->limits[i], limit, sizeof(limit));
		length += (size_t)snprintf(text + length, size - length, "%s%s", i ? ", " : "",
					   limit);
	}
	if (length < size)
		length += (size_t)snprintf(text + length, size - length, " %s",
					   weir_consistency_name(policy->consistency));
	return length < size ? length : size - 1;
}

/* A line for each policy, in the order of their names. */
static bool describe_all(struct policies *policies, uint64_t version)
{
	const struct segment *segment = policies->segment;
	struct weir_policy *list = calloc(segment->policies, sizeof(*list));
	size_t count = list ? policy_table_list(segment, list, segment->policies) : 0;
	FILE *file = list ? open_memstream(&policies->text, &policies->length) : NULL;
	bool good = false;

	if (file) {
		fputs(first_line, file);
		for (size_t i = 0; i < count && i < segment->policies; i++) {
			char text[REPORT_TEXT_SIZE];

			policies_describe(&list[i], text, sizeof(text));
			fprintf(file, "%s\t%s\n", list[i].name, text);
		}
		good = fclose(file) == 0 && policies->length <= TEXT_MAX;
	}
	free(list);
	if (!good)
		return false;
	digest_of(policies, policies->text, policies->length, policies->digest);
	policies->version = version;
	policies->described = true;
	return true;
}

static bool describe(struct policies *policies)
{
	uint64_t version = policy_version(policies->segment);

	if (policies->described && policies->version == version)
		return true;
	policies->described = false;
	policies->send_text = true;
	free(policies->text);
	policies->text = NULL;
	if (describe_all(policies, version))
		return true;
	tell_problem(policies, "no memory to compare policies with other hosts; free some");
	return false;
}

/* ---- Comparing --------------------------------------------------------- */

struct line {
	const char *name, *text;
	size_t name_length, text_length;
};

/* The line at AT, and AT behind it.  False at the end, or where no line is. */
static bool next_line(const char **at, struct line *line)
{
	const char *tab = strchr(*at, '\t'), *end = tab ? strchr(tab, '\n') : NULL;

	if (!end)
		return false;
	line->name = *at;
	line->name_length = (size_t)(tab - *at);
	line->text = tab + 1;
	line->text_length = (size_t)(end - tab - 1);
	*at = end + 1;
	return true;
}

static int compare_names(const struct line *a, const struct line *b)
{
	size_t length = a->name_length < b->name_length ? a->name_length : b->name_length;
	int order = memcmp(a->name, b->name, length);

	return order ? order : (a->name_length > b->name_length) - (a->name_length < b->name_length);
}

static bool is_local(const struct line *line)
{
	size_t length = sizeof(local_end) - 1;

	return line->text_length >= length &&
	       memcmp(line->text + line->text_length - length, local_end, length) == 0;
}

static bool same_text(const struct line *a, const struct line *b)
{
	return a->text_length == b->text_length && memcmp(a->text, b->text, a->text_length) == 0;
}

/* What the hosts of one variant say of our policy, if they have it. */
static bool differs(const char **at, const struct line *ours, struct line *theirs)
{
	const char *next = *at;
	int order = -1;

	while (order < 0 && next_line(&next, theirs)) {
		order = compare_names(theirs, ours);
		if (order <= 0)
			*at = next;
	}
	/* A policy that is local everywhere is nobody else's business. */
	return order == 0 && !same_text(ours, theirs) && !(is_local(ours) && is_local(theirs));
}

static void tell_difference(const struct policies *policies, unsigned *index,
			    const struct line *theirs, const struct variant *variant)
{
	struct report report = { .host = host_number(variant->host), .hosts = variant->hosts };

	if (*index >= REPORTS)
		return;
	snprintf(report.policy, sizeof(report.policy), "%.*s", (int)theirs->name_length,
		 theirs->name);
	snprintf(report.text, sizeof(report.text), "%.*s", (int)theirs->text_length, theirs->text);
	report_write(policies->segment, (*index)++, &report);
}

static const char *body(const char *text)
{
	return text + sizeof(first_line) - 1;
}

static void compare(const struct policies *policies)
{
	struct segment_header *header = policies->segment->header;
	const char *at = body(policies->text), *theirs_at[VARIANTS_MAX];
	unsigned index = REPORT_FIRST;
	uint64_t disagreeing = 0, before;
	struct line ours, theirs;

	for (unsigned i = 0; i < policies->variant_count; i++)
		theirs_at[i] = policies->variants[i].text ? body(policies->variants[i].text) : "";
	while (next_line(&at, &ours)) {
		bool differ = false;

		for (unsigned i = 0; i < policies->variant_count; i++) {
			if (!differs(&theirs_at[i], &ours, &theirs))
				continue;
			tell_difference(policies, &index, &theirs, &policies->variants[i]);
			differ = true;
		}
		disagreeing += differ;
	}
	while (index < REPORTS)
		report_write(policies->segment, index++, NULL);
	/* Relaxed: for people. */
	before = atomic_load_relaxed(&header->others.disagreeing);
	if (disagreeing > before)
		counter_add_global(policies->segment, COUNTER_DISAGREEMENTS, disagreeing - before);
	atomic_store_relaxed(&header->others.disagreeing, disagreeing);
}

/* ---- Variants ---------------------------------------------------------- */

static struct variant *find_variant(struct policies *policies, const unsigned char *digest)
{
	for (unsigned i = 0; i < policies->variant_count; i++) {
		if (memcmp(policies->variants[i].digest, digest, DIGEST_SIZE) == 0)
			return &policies->variants[i];
	}
	return NULL;
}

/* Those that nobody has any more go. */
static void drop_variants(struct policies *policies)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < policies->variant_count; i++) {
		if (policies->variants[i].hosts == 0)
			free(policies->variants[i].text);
		else
			policies->variants[kept++] = policies->variants[i];
	}
	policies->variant_count = kept;
}

/* One more host that has what DIGEST stands for.  A new variant is read from it. */
static bool count_other(struct policies *policies, const unsigned char *other, bool new)
{
	const unsigned char *digest = other + HOST_ID_SIZE;
	struct variant *variant = find_variant(policies, digest);

	if (!variant) {
		if (!new)
			return true;
		if (policies->variant_count == VARIANTS_MAX)
			return false;
		variant = &policies->variants[policies->variant_count++];
		*variant = (struct variant){ .new = true };
		memcpy(variant->digest, digest, DIGEST_SIZE);
	}
	if (variant->new != new)
		return true;
	/* One that is still there, and has it still. */
	memcpy(variant->host, other, HOST_ID_SIZE);
	variant->hosts++;
	return true;
}

static bool count_others(struct policies *policies, const unsigned char *others, size_t count)
{
	bool all = true;

	for (unsigned i = 0; i < policies->variant_count; i++) {
		policies->variants[i].hosts = 0;
		policies->variants[i].new = false;
	}
	for (size_t i = 0; i < count; i++)
		count_other(policies, others + i * OTHER_SIZE, false);
	drop_variants(policies);
	for (size_t i = 0; i < count; i++)
		all = count_other(policies, others + i * OTHER_SIZE, true) && all;
	return all;
}

static bool is_wanted(const struct variant *variant)
{
	return !variant->text && !variant->asked;
}

/* Keep what a host of VARIANT has, if it is that. */
static void keep_text(struct policies *policies, struct variant *variant,
		      const struct redis_reply *reply)
{
	size_t length = 0;
	const char *text = redis_reply_text(reply, &length);
	unsigned char digest[DIGEST_SIZE];

	variant->asked = true;
	if (text && length < TEXT_MAX && strlen(text) == length &&
	    strncmp(text, first_line, strlen(first_line)) == 0) {
		digest_of(policies, text, length, digest);
		if (memcmp(digest, variant->digest, DIGEST_SIZE) == 0)
			variant->text = strdup(text);
	}
	if (variant->text)
		return;
	/* Once is no wonder: it was changed since. */
	if (variant->misses++ > 0)
		tell_problem(policies,
			     "host %016llx: what %s says of its policies is not what it wrote; does "
			     "another program write there?",
			     (unsigned long long)host_number(variant->host), policies->key);
}

/* ---- Asking ------------------------------------------------------------ */

static enum redis_error append_look(const struct policies *policies, struct redis *redis,
				    unsigned script)
{
	const char *argv[3] = { (const char *)policies->host, (const char *)policies->digest, "" };
	size_t lengths[3] = { HOST_ID_SIZE, DIGEST_SIZE, 0 };

	if (policies->send_text) {
		argv[2] = policies->text;
		lengths[2] = policies->length;
	}
	return redis_append_eval(redis, script, policies->key, strlen(policies->key), 3, argv,
				 lengths);
}

static unsigned field_of(const struct variant *variant, char field[HOST_ID_SIZE + 1])
{
	field[0] = 't';
	memcpy(field + 1, variant->host, HOST_ID_SIZE);
	return HOST_ID_SIZE + 1;
}

static enum redis_error append_fetch(const struct policies *policies, struct redis *redis)
{
	char fields[FETCHED_AT_ONCE][HOST_ID_SIZE + 1];
	const char *argv[2 + FETCHED_AT_ONCE] = { "HMGET", policies->key };
	size_t lengths[2 + FETCHED_AT_ONCE] = { 5, strlen(policies->key) };
	int count = 0;

	for (unsigned i = 0; i < policies->variant_count && count < (int)FETCHED_AT_ONCE; i++) {
		if (!is_wanted(&policies->variants[i]))
			continue;
		lengths[2 + count] = field_of(&policies->variants[i], fields[count]);
		argv[2 + count] = fields[count];
		count++;
	}
	return redis_append(redis, 2 + count, argv, lengths);
}

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

/* All that is to be known is: compare, and rest. */
static void finish_look(struct policies *policies, uint64_t now_ns)
{
	for (unsigned i = 0; i < policies->variant_count; i++)
		policies->variants[i].asked = false;
	policies->due_ns = now_ns + period_ns(policies->segment);
	policies->fetch = false;
	compare(policies);
	if (!policies->problem)
		report_write(policies->segment, REPORT_PROBLEM, NULL);
}

static void go_on(struct policies *policies, uint64_t now_ns)
{
	policies->fetch = false;
	for (unsigned i = 0; i < policies->variant_count; i++)
		policies->fetch |= is_wanted(&policies->variants[i]);
	if (!policies->fetch)
		finish_look(policies, now_ns);
}

static bool read_look(struct policies *policies, const struct redis_reply *reply, uint64_t now_ns)
{
	size_t length = 0;
	const char *others = redis_reply_text(redis_reply_at(reply, 1), &length);

	if (redis_reply_count(reply) != 2 || !others || length % OTHER_SIZE != 0)
		return false;
	if (redis_reply_integer(redis_reply_at(reply, 0)) != 0) {
		if (policies->send_text)
			return false;
		policies->send_text = true;
		return true;
	}
	policies->send_text = false;
	if (!count_others(policies, (const unsigned char *)others, length / OTHER_SIZE))
		tell_problem(policies,
			     "hosts have more than %u different sets of policies; those beyond are "
			     "not compared", VARIANTS_MAX);
	go_on(policies, now_ns);
	return true;
}

static bool read_fetched(struct policies *policies, const struct redis_reply *reply,
			 uint64_t now_ns)
{
	size_t count = 0;

	for (unsigned i = 0; i < policies->variant_count && count < FETCHED_AT_ONCE; i++) {
		if (is_wanted(&policies->variants[i]))
			keep_text(policies, &policies->variants[i],
				  redis_reply_at(reply, count++));
	}
	go_on(policies, now_ns);
	return redis_reply_count(reply) == count;
}

bool policies_due(const struct policies *policies, uint64_t now_ns)
{
	return policies->due_ns <= now_ns ||
	       (policies->described && policies->version != policy_version(policies->segment));
}

void policies_ask(struct policies *policies, struct redis *redis, unsigned script,
		  uint64_t now_ns)
{
	struct redis_result result = { 0 };
	enum redis_error outcome;
	size_t length;
	const char *text;
	bool good;

	policies->problem = policies->fetch && policies->problem;
	if (!policies->fetch && !describe(policies)) {
		policies->due_ns = now_ns + period_ns(policies->segment);
		return;
	}
	outcome = policies->fetch ? append_fetch(policies, redis) :
				    append_look(policies, redis, script);
	if (outcome == REDIS_ERROR_NONE)
		outcome = redis_flush_and_read(redis, &result, 1, NULL);
	/* Also the scripts are there again: next time. */
	if (outcome != REDIS_ERROR_NONE || result.error == REDIS_ERROR_NOSCRIPT) {
		policies->due_ns = now_ns + period_ns(policies->segment);
		return;
	}
	if (result.error != REDIS_ERROR_NONE) {
		text = redis_reply_text(result.reply, &length);
		tell_problem(policies, "cannot compare policies with other hosts at %s: %s",
			     policies->key, text ? text : redis_error_name(result.error));
		policies->due_ns = now_ns + period_ns(policies->segment);
		return;
	}
	good = policies->fetch ? read_fetched(policies, result.reply, now_ns) :
				 read_look(policies, result.reply, now_ns);
	if (!good) {
		tell_problem(policies,
			     "cannot compare policies with other hosts: %s answers what it never "
			     "should; does another program write there?", policies->key);
		policies->due_ns = now_ns + period_ns(policies->segment);
	}
}
