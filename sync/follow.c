/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow.c - which publication is the newest, and applying it.
 *
 * Invariant.  What was applied only grows, in the order of publications: a Redis that
 * has gone back, or has been given an old one again, changes nothing.  A policy that is
 * changed here afterwards stays until a newer publication.
 *
 * Crash.  Applied, then noted: who dies in between leaves it to be applied once more.
 */
#include "sync/follow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/counter.h"
#include "shm/error.h"
#include "shm/policy_table.h"

void follow_destroy(struct follow *follow)
{
	publication_free(&follow->publication);
	free(follow->text);
}

static bool is_newer(uint64_t version, uint64_t rank, uint64_t than_version, uint64_t than_rank)
{
	return version > than_version || (version == than_version && rank > than_rank);
}

static bool is_applied(const struct segment *segment, uint64_t version, uint64_t rank)
{
	/* Relaxed: hints, but under the control lock. */
	return !is_newer(version, rank, atomic_load_relaxed(&segment->header->others.applied),
			 atomic_load_relaxed(&segment->header->others.applied_rank));
}

static void refuse(struct follow *follow, const char *reason)
{
	memcpy(follow->refused, follow->there, TAG_SIZE);
	follow->has_refused = true;
	snprintf(follow->problem, sizeof(follow->problem), "%s", reason);
}

/* ---- What Redis has ---------------------------------------------------- */

void follow_look(struct follow *follow, const char *tag, size_t length, int64_t bytes)
{
	struct segment_header *header = follow->segment->header;
	/* Relaxed: for people. */
	uint64_t applied = atomic_load_relaxed(&header->others.applied);

	/* What was no good last time still is. */
	if (length != TAG_SIZE || !follow->has_refused || memcmp(follow->refused, tag, TAG_SIZE) != 0)
		follow->problem[0] = '\0';
	follow->went_back = false;
	follow->there_length = length > TAG_SIZE ? TAG_SIZE : length;
	memset(follow->there, 0, TAG_SIZE);
	memcpy(follow->there, tag, follow->there_length);
	if (length == 0) {
		follow->has_refused = false;
		if (follow->publication.version == 0 && applied > 0)
			snprintf(follow->problem, sizeof(follow->problem),
				 "publication %" PRIu64 " is lost, and no host here has it any more; "
				 "publish again", applied);
	} else if (length != TAG_SIZE) {
		refuse(follow, "what is published has no tag of this cluster; publish again");
	} else if (bytes > (int64_t)PUBLICATION_MAX) {
		refuse(follow, "what is published is too long; publish again");
	}
}

static bool is_ours(const struct follow *follow)
{
	return follow->publication.version > 0 && follow->there_length == TAG_SIZE &&
	       memcmp(follow->there, follow->tag, TAG_SIZE) == 0;
}

bool follow_wants(const struct follow *follow)
{
	return follow->there_length == TAG_SIZE && !is_ours(follow) && !follow->went_back &&
	       !(follow->has_refused && memcmp(follow->refused, follow->there, TAG_SIZE) == 0);
}

bool follow_has_lost(const struct follow *follow)
{
	return follow->publication.version > 0 &&
	       (follow->there_length == 0 || follow->went_back);
}

/* ---- Taking it --------------------------------------------------------- */

static void keep(struct follow *follow, const struct publication *publication, const char *text,
		 size_t length)
{
	char *copy = malloc(length);

	if (!copy)
		return;                 /* next time */
	memcpy(copy, text, length);
	follow_destroy(follow);
	follow->publication = *publication;
	follow->text = copy;
	follow->length = length;
	memcpy(follow->tag, follow->there, TAG_SIZE);
	/* Relaxed: for people. */
	atomic_store_relaxed(&follow->segment->header->others.published, publication->version);
}

/* Newer than what we have, and what was applied here before we had any? */
static bool is_progress(const struct follow *follow, const struct publication *publication,
			uint64_t rank)
{
	/* Relaxed: what another leader applied is a moment old at most. */
	uint64_t applied = atomic_load_relaxed(&follow->segment->header->others.applied);

	if (follow->publication.version > 0)
		return is_newer(publication->version, rank, follow->publication.version,
				publication_rank(follow->tag));
	return publication->version >= applied;
}

void follow_take(struct follow *follow, const char *tag, size_t tag_length, const char *text,
		 size_t length)
{
	struct publication publication;
	unsigned char right[TAG_SIZE];
	struct weir_error error;
	char reason[256];

	follow_look(follow, tag ? tag : "", tag ? tag_length : 0, (int64_t)length);
	if (!follow_wants(follow))
		return;
	publication_tag(follow->segment->secret, text ? text : "", text ? length : 0, right);
	if (memcmp(right, follow->there, TAG_SIZE) != 0) {
		refuse(follow, "what is published was not written by a host of this cluster, or was "
			       "changed since; publish again");
	} else if (publication_parse(text, length, &publication, &error) != 0) {
		refuse(follow, error.message);
	} else if (is_progress(follow, &publication, publication_rank(right))) {
		keep(follow, &publication, text, length);
	} else if (follow->publication.version > 0) {
		publication_free(&publication);
		follow->went_back = true;
	} else {
		snprintf(reason, sizeof(reason),
			 "Redis has gone back to publication %" PRIu64 ", and a later one was applied "
			 "here; publish again", publication.version);
		publication_free(&publication);
		refuse(follow, reason);
	}
}

/* ---- Applying it ------------------------------------------------------- */

static int apply_locked(struct segment *segment, const struct publication *publication,
			uint64_t rank, struct weir_error *error)
{
	struct segment_header *header = segment->header;
	int status = 0;

	if (is_applied(segment, publication->version, rank))
		return 0;
	for (size_t i = 0; status == 0 && i < publication->count; i++)
		status = weir_policy_check(&publication->policies[i], error);
	if (status == 0)
		status = policy_table_apply(segment, publication->policies, publication->count,
					    (const char (*)[WEIR_NAME_MAX + 1])publication->removed,
					    publication->removed_count, error);
	if (status)
		return status;
	/* Relaxed: read again under the lock. */
	atomic_store_relaxed(&header->others.applied, publication->version);
	atomic_store_relaxed(&header->others.applied_rank, rank);
	counter_add_global(segment, COUNTER_PUBLICATIONS, 1);
	return 0;
}

bool follow_apply(struct follow *follow, char *problem, size_t size)
{
	struct segment *segment = follow->segment;
	uint64_t rank = publication_rank(follow->tag);
	struct weir_error error;
	int status;

	problem[0] = '\0';
	if (follow->publication.version == 0 ||
	    !atomic_load_relaxed(&segment->header->sync.follow) ||
	    is_applied(segment, follow->publication.version, rank))
		return true;
	if (!segment_trylock(segment))
		return false;
	status = apply_locked(segment, &follow->publication, rank, &error);
	segment_unlock(segment);
	if (status)
		snprintf(problem, size, "publication %" PRIu64 " is not applied: %s",
			 follow->publication.version, error.message);
	return status == 0;
}

int follow_apply_now(struct segment *segment, const struct publication *publication,
		     uint64_t rank, struct weir_error *error)
{
	int status = segment_lock(segment, error);

	if (status)
		return status;
	status = apply_locked(segment, publication, rank, error);
	segment_unlock(segment);
	return status;
}
