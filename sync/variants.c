/* SPDX-License-Identifier: Apache-2.0 */
/*
 * variants.c - what this host has, and what others have otherwise.
 *
 * Only what makes a difference to others is told: limits, consistency and which buckets
 * they are.  The fail mode and shadow say what a host answers, not what it counts: hosts may
 * differ in them.
 *
 * Invariant.  Nothing is believed that does not fit its digest, which is keyed by the
 * cluster's secret.
 */
#include "sync/variants.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/counter.h"
#include "shm/hash.h"
#include "shm/policy_table.h"
#include "shm/report.h"

#define LIMIT_TEXT_SIZE 96

static const char first_line[] = "weir policies 1\n";
static const char local_end[] = " local";

void variants_destroy(struct variants *variants)
{
	for (unsigned i = 0; i < variants->count; i++)
		free(variants->list[i].text);
	free(variants->text);
}

uint64_t host_number(const unsigned char host[HOST_ID_SIZE])
{
	uint64_t number;

	memcpy(&number, host, sizeof(number));
	return number;
}

/* ---- In words ---------------------------------------------------------- */

static void digest_of(const struct variants *variants, const char *text, size_t length,
		      unsigned char digest[DIGEST_SIZE])
{
	struct fingerprint hash = hash_strong(variants->segment->secret, text, length);

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
	if (policy->buckets[0] && length < size)
		length += (size_t)snprintf(text + length, size - length, " buckets %s",
					   policy->buckets);
	return length < size ? length : size - 1;
}

/* A line for each policy, in the order of their names. */
static bool describe_all(struct variants *variants, uint64_t version)
{
	const struct segment *segment = variants->segment;
	struct weir_policy *list = calloc(segment->policies, sizeof(*list));
	size_t count = list ? policy_table_list(segment, list, segment->policies) : 0;
	FILE *file = list ? open_memstream(&variants->text, &variants->length) : NULL;
	bool good = false;

	if (file) {
		fputs(first_line, file);
		for (size_t i = 0; i < count && i < segment->policies; i++) {
			char text[REPORT_TEXT_SIZE];

			policies_describe(&list[i], text, sizeof(text));
			fprintf(file, "%s\t%s\n", list[i].name, text);
		}
		good = fclose(file) == 0 && variants->length <= TEXT_MAX;
	}
	free(list);
	if (!good)
		return false;
	digest_of(variants, variants->text, variants->length, variants->digest);
	variants->version = version;
	variants->described = true;
	return true;
}

bool variants_described(const struct variants *variants)
{
	return variants->described && variants->version == policy_version(variants->segment);
}

bool variants_describe(struct variants *variants)
{
	uint64_t version = policy_version(variants->segment);

	variants->described = false;
	free(variants->text);
	variants->text = NULL;
	return describe_all(variants, version);
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

static void tell_difference(const struct variants *variants, unsigned *index,
			    const struct line *theirs, const struct variant *variant)
{
	struct report report = { .host = host_number(variant->host), .hosts = variant->hosts };

	if (*index >= REPORTS)
		return;
	snprintf(report.policy, sizeof(report.policy), "%.*s", (int)theirs->name_length,
		 theirs->name);
	snprintf(report.text, sizeof(report.text), "%.*s", (int)theirs->text_length, theirs->text);
	report_write(variants->segment, (*index)++, &report);
}

static const char *body(const char *text)
{
	return text + sizeof(first_line) - 1;
}

void variants_compare(const struct variants *variants)
{
	struct segment_header *header = variants->segment->header;
	const char *at = body(variants->text), *theirs_at[VARIANTS_MAX];
	unsigned index = REPORT_FIRST;
	uint64_t disagreeing = 0, before;
	struct line ours, theirs;

	for (unsigned i = 0; i < variants->count; i++)
		theirs_at[i] = variants->list[i].text ? body(variants->list[i].text) : "";
	while (next_line(&at, &ours)) {
		bool differ = false;

		for (unsigned i = 0; i < variants->count; i++) {
			if (!differs(&theirs_at[i], &ours, &theirs))
				continue;
			tell_difference(variants, &index, &theirs, &variants->list[i]);
			differ = true;
		}
		disagreeing += differ;
	}
	while (index < REPORTS)
		report_write(variants->segment, index++, NULL);
	/* Relaxed: for people. */
	before = atomic_load_relaxed(&header->others.disagreeing);
	if (disagreeing > before)
		counter_add_global(variants->segment, COUNTER_DISAGREEMENTS, disagreeing - before);
	atomic_store_relaxed(&header->others.disagreeing, disagreeing);
}

/* ---- Variants ---------------------------------------------------------- */

static struct variant *find_variant(struct variants *variants, const unsigned char *digest)
{
	for (unsigned i = 0; i < variants->count; i++) {
		if (memcmp(variants->list[i].digest, digest, DIGEST_SIZE) == 0)
			return &variants->list[i];
	}
	return NULL;
}

/* Those that nobody has any more go. */
static void drop_variants(struct variants *variants)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < variants->count; i++) {
		if (variants->list[i].hosts == 0)
			free(variants->list[i].text);
		else
			variants->list[kept++] = variants->list[i];
	}
	variants->count = kept;
}

/* One more host that has what DIGEST stands for.  A new variant is read from it. */
static bool count_other(struct variants *variants, const unsigned char *other, bool new)
{
	const unsigned char *digest = other + HOST_ID_SIZE;
	struct variant *variant = find_variant(variants, digest);

	if (!variant) {
		if (!new)
			return true;
		if (variants->count == VARIANTS_MAX)
			return false;
		variant = &variants->list[variants->count++];
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

bool variants_count(struct variants *variants, const unsigned char *others, size_t count)
{
	bool all = true;

	for (unsigned i = 0; i < variants->count; i++) {
		variants->list[i].hosts = 0;
		variants->list[i].new = false;
	}
	for (size_t i = 0; i < count; i++)
		count_other(variants, others + i * OTHER_SIZE, false);
	drop_variants(variants);
	for (size_t i = 0; i < count; i++)
		all = count_other(variants, others + i * OTHER_SIZE, true) && all;
	return all;
}

bool variant_is_wanted(const struct variant *variant)
{
	return !variant->text && !variant->asked;
}

bool variants_keep(struct variants *variants, struct variant *variant, const char *text,
		   size_t length)
{
	unsigned char digest[DIGEST_SIZE];

	variant->asked = true;
	if (text && length < TEXT_MAX && strlen(text) == length &&
	    strncmp(text, first_line, strlen(first_line)) == 0) {
		digest_of(variants, text, length, digest);
		if (memcmp(digest, variant->digest, DIGEST_SIZE) == 0)
			variant->text = strdup(text);
	}
	/* Once is no wonder: it was changed since. */
	return variant->text || variant->misses++ == 0;
}
