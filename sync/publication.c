/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publication.c - what is published, as text.
 *
 * Whoever has the secret has written it, but perhaps in another version of the library,
 * or with a mistake: nothing of it is used before all of it was read and checked.
 */
#include "sync/publication.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"
#include "shm/hash.h"

#define SOURCE "publication"
#define HOST_DIGITS 16
#define QUOTED_SIZE 100

static const char magic[] = "weir publication 1 ";
static const char remove_word[] = "remove ";

void publication_tag(const uint64_t secret[2], const char *text, size_t length,
		     unsigned char tag[TAG_SIZE])
{
	struct fingerprint hash = hash_strong(secret, text, length);

	memcpy(tag, &hash.low, 8);
	memcpy(tag + 8, &hash.high, 8);
}

uint64_t publication_rank(const unsigned char tag[TAG_SIZE])
{
	uint64_t rank;

	memcpy(&rank, tag, sizeof(rank));
	return rank;
}

void publication_free(struct publication *publication)
{
	free(publication->policies);
	free(publication->removed);
	*publication = (struct publication){ 0 };
}

/* ---- Reading ----------------------------------------------------------- */

/* What is left of the text. */
struct rest {
	const char *at, *end;
};

static bool take(struct rest *rest, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(rest->end - rest->at) < length || memcmp(rest->at, word, length) != 0)
		return false;
	rest->at += length;
	return true;
}

/* A version is written in one way only. */
static bool take_version(struct rest *rest, uint64_t *version)
{
	const char *from = rest->at;

	*version = 0;
	while (rest->at < rest->end && *rest->at >= '0' && *rest->at <= '9') {
		*version = *version * 10 + (uint64_t)(*rest->at++ - '0');
		if (*version > PUBLICATION_VERSION_MAX)
			return false;
	}
	return rest->at > from && *from != '0';
}

static bool take_host(struct rest *rest, uint64_t *host)
{
	*host = 0;
	for (int i = 0; i < HOST_DIGITS; i++, rest->at++) {
		const char *digits = "0123456789abcdef", *digit;

		digit = rest->at < rest->end && *rest->at ? strchr(digits, *rest->at) : NULL;
		if (!digit)
			return false;
		*host = *host << 4 | (uint64_t)(digit - digits);
	}
	return true;
}

static int read_head(struct rest *rest, struct publication *publication, struct weir_error *error)
{
	char quoted[QUOTED_SIZE];
	const char *from = rest->at;

	if (take(rest, magic) && take_version(rest, &publication->version) && take(rest, " ") &&
	    take_host(rest, &publication->host) && take(rest, "\n"))
		return 0;
	return weir_fail(error, WEIR_EINVAL,
			 SOURCE " begins with \"%s\" instead of \"%sVERSION HOST\"; was it made by "
			 "another version of weir?",
			 weir_quote(from, strnlen(from, (size_t)(rest->end - from) < 40 ?
							(size_t)(rest->end - from) : 40),
				    quoted, sizeof(quoted)), magic);
}

static bool is_name(const char *name)
{
	struct weir_policy probe = { .limit_count = 1,
				     .limits = { { .limit = 1, .period_ns = WEIR_PERIOD_MAX_NS } } };

	snprintf(probe.name, sizeof(probe.name), "%s", name);
	return weir_policy_check(&probe, NULL) == 0;
}

static bool is_removed(const struct publication *publication, const char *name)
{
	for (size_t i = 0; i < publication->removed_count; i++) {
		if (strcmp(publication->removed[i], name) == 0)
			return true;
	}
	return false;
}

static int read_removed(struct rest *rest, struct publication *publication,
			struct weir_error *error)
{
	const char *end = memchr(rest->at, '\n', (size_t)(rest->end - rest->at));
	size_t length = end ? (size_t)(end - rest->at) : 0;
	char name[WEIR_NAME_MAX + 1] = "", quoted[QUOTED_SIZE];

	if (publication->removed_count == PUBLICATION_REMOVED_MAX)
		return weir_fail(error, WEIR_EINVAL,
				 SOURCE " removes more than %u policies; publish anew",
				 PUBLICATION_REMOVED_MAX);
	if (length > 0 && length <= WEIR_NAME_MAX)
		memcpy(name, rest->at, length);
	if (strlen(name) != length || !is_name(name) || is_removed(publication, name))
		return weir_fail(error, WEIR_EINVAL,
				 SOURCE " removes \"%s\", which is no policy's name, or stands there "
				 "twice; publish anew",
				 weir_quote(rest->at, end ? length : 0, quoted, sizeof(quoted)));
	memcpy(publication->removed[publication->removed_count++], name, sizeof(name));
	rest->at = end + 1;
	return 0;
}

static int read_policies(struct rest *rest, struct publication *publication,
			 struct weir_error *error)
{
	int status = 0;

	if (rest->at < rest->end)
		status = weir_policy_parse(rest->at, (size_t)(rest->end - rest->at), SOURCE,
					   &publication->policies, &publication->count, error);
	for (size_t i = 0; status == 0 && i < publication->removed_count; i++) {
		if (publication_has(publication, publication->removed[i]))
			status = weir_fail(error, WEIR_EINVAL,
					   SOURCE " both has and removes \"%s\"; publish anew",
					   publication->removed[i]);
	}
	return status;
}

int publication_parse(const char *text, size_t length, struct publication *publication,
		      struct weir_error *error)
{
	struct rest rest = { text, text + length };
	int status;

	*publication = (struct publication){ 0 };
	if (length > PUBLICATION_MAX)
		return weir_fail(error, WEIR_EINVAL, SOURCE " has %zu bytes; at most %u are read",
				 length, PUBLICATION_MAX);
	publication->removed = calloc(PUBLICATION_REMOVED_MAX, sizeof(*publication->removed));
	if (!publication->removed)
		return weir_fail(error, WEIR_ENOMEM, "no memory for a publication; free some");
	status = read_head(&rest, publication, error);
	while (status == 0 && take(&rest, remove_word))
		status = read_removed(&rest, publication, error);
	if (status == 0)
		status = read_policies(&rest, publication, error);
	if (status) {
		publication_free(publication);
		return status;
	}
	return weir_ok(error);
}

/* ---- Writing ----------------------------------------------------------- */

static void write_policy(FILE *file, const struct weir_policy *policy)
{
	fprintf(file, "  - name: \"%s\"\n    fail_mode: %s\n    consistency: %s\n    shadow: %s\n"
		"    lease: %s\n",
		policy->name, weir_fail_mode_name(policy->fail_mode),
		weir_consistency_name(policy->consistency), policy->shadow ? "true" : "false",
		policy->lease ? "true" : "false");
	if (policy->buckets[0])
		fprintf(file, "    buckets: \"%s\"\n", policy->buckets);
	fputs("    limits:\n", file);
	for (uint32_t i = 0; i < policy->limit_count; i++) {
		char limit[96];

		weir_limit_format(&policy->limits[i], limit, sizeof(limit));
		fprintf(file, "      - %s\n", limit);
	}
}

int publication_format(const struct publication *publication, char **text, size_t *length,
		       struct weir_error *error)
{
	FILE *file = open_memstream(text, length);

	if (!file)
		return weir_fail(error, WEIR_ENOMEM, "no memory for a publication; free some");
	fprintf(file, "%s%" PRIu64 " %016" PRIx64 "\n", magic, publication->version,
		publication->host);
	for (size_t i = 0; i < publication->removed_count; i++)
		fprintf(file, "%s%s\n", remove_word, publication->removed[i]);
	if (publication->count > 0)
		fputs("policies:\n", file);
	for (size_t i = 0; i < publication->count; i++)
		write_policy(file, &publication->policies[i]);
	if (fclose(file) != 0) {
		free(*text);
		return weir_fail(error, WEIR_ENOMEM, "no memory for a publication; free some");
	}
	if (*length > PUBLICATION_MAX) {
		free(*text);
		return weir_fail(error, WEIR_EINVAL, SOURCE " has %zu bytes; at most %u are read",
				 *length, PUBLICATION_MAX);
	}
	return weir_ok(error);
}

/* ---- Changing ---------------------------------------------------------- */

static size_t index_of(const struct publication *publication, const char *name)
{
	size_t i = 0;

	while (i < publication->count && strcmp(publication->policies[i].name, name) != 0)
		i++;
	return i;
}

bool publication_has(const struct publication *publication, const char *name)
{
	return index_of(publication, name) < publication->count;
}

static void drop_removed(struct publication *publication, const char *name)
{
	size_t kept = 0;

	for (size_t i = 0; i < publication->removed_count; i++) {
		if (strcmp(publication->removed[i], name) != 0)
			memmove(publication->removed[kept++], publication->removed[i],
				sizeof(publication->removed[i]));
	}
	publication->removed_count = kept;
}

int publication_put(struct publication *publication, const struct weir_policy *policy,
		    struct weir_error *error)
{
	size_t index = index_of(publication, policy->name);
	struct weir_policy *policies = publication->policies;

	if (index == PUBLICATION_POLICIES_MAX)
		return weir_fail(error, WEIR_ENOSPC,
				 SOURCE " has %u policies, and \"%s\" is one too many; withdraw some",
				 PUBLICATION_POLICIES_MAX, policy->name);
	if (index == publication->count) {
		policies = realloc(policies, (index + 1) * sizeof(*policies));
		if (!policies)
			return weir_fail(error, WEIR_ENOMEM,
					 "no memory for a publication; free some");
		publication->policies = policies;
		publication->count++;
	}
	policies[index] = *policy;
	drop_removed(publication, policy->name);
	return weir_ok(error);
}

int publication_remove(struct publication *publication, const char *name,
		       struct weir_error *error)
{
	size_t index = index_of(publication, name);

	if (!publication->removed)
		publication->removed = calloc(PUBLICATION_REMOVED_MAX,
					      sizeof(*publication->removed));
	if (!publication->removed)
		return weir_fail(error, WEIR_ENOMEM, "no memory for a publication; free some");
	if (index < publication->count) {
		publication->count--;
		memmove(&publication->policies[index], &publication->policies[index + 1],
			(publication->count - index) * sizeof(publication->policies[0]));
	}
	drop_removed(publication, name);
	if (publication->removed_count == PUBLICATION_REMOVED_MAX) {
		publication->removed_count--;
		memmove(publication->removed[0], publication->removed[1],
			publication->removed_count * sizeof(publication->removed[0]));
	}
	snprintf(publication->removed[publication->removed_count++],
		 sizeof(publication->removed[0]), "%s", name);
	return weir_ok(error);
}
