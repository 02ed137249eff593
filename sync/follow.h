/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow.h - the publication, as a leader sees it.
 *
 * Every leader keeps the newest one that it has seen, and puts it back where Redis has
 * lost it.  Only a host that follows applies it.  Publications are ordered by version,
 * and by rank within one.
 */
#ifndef WEIR_SYNC_FOLLOW_H
#define WEIR_SYNC_FOLLOW_H

#include "shm/segment.h"
#include "sync/publication.h"

struct follow {
	struct segment *segment;
	unsigned char there[TAG_SIZE];          /* what Redis has, */
	size_t there_length;                    /* 0 if nothing */
	unsigned char refused[TAG_SIZE];        /* what of it was no good, if anything */
	bool has_refused;
	bool went_back;                         /* Redis has an older one than we do */
	struct publication publication;         /* the newest one; version 0: none */
	char *text;
	size_t length;
	unsigned char tag[TAG_SIZE];
	char problem[512];                      /* with what Redis has */
};

void follow_destroy(struct follow *follow);

/* Redis has a publication with this TAG (of LENGTH bytes; 0: none), of BYTES. */
void follow_look(struct follow *follow, const char *tag, size_t length, int64_t bytes);

/* Is it one that we should read, or have us put back? */
bool follow_wants(const struct follow *follow);
bool follow_has_lost(const struct follow *follow);

/* This was read: tag and text, as they stood beside each other. */
void follow_take(struct follow *follow, const char *tag, size_t tag_length, const char *text,
		 size_t length);

/* Apply it, if this host follows and has not applied it.  False: not now, as somebody
 * else changes policies, or not at all (PROBLEM, of SIZE, is not ""). */
bool follow_apply(struct follow *follow, char *problem, size_t size);

/* The same for who has published it, and waits for its turn. */
int follow_apply_now(struct segment *segment, const struct publication *publication,
		     uint64_t rank, struct weir_error *error);

#endif
