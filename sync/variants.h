/* SPDX-License-Identifier: Apache-2.0 */
/*
 * variants.h - the sets of policies that hosts have: ours, and those of others.
 *
 * A set is a text, and is told apart by its digest.  What the hosts of one variant have
 * is read from one of them.
 */
#ifndef WEIR_SYNC_VARIANTS_H
#define WEIR_SYNC_VARIANTS_H

#include "shm/segment.h"

#define HOST_ID_SIZE 16u
#define DIGEST_SIZE 16u
#define OTHER_SIZE (HOST_ID_SIZE + DIGEST_SIZE)
#define VARIANTS_MAX 16u                /* that are compared */
#define TEXT_MAX (4u << 20)             /* bytes of one */

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

struct variants {
	const struct segment *segment;
	uint64_t version;               /* of the policies that text tells of, */
	bool described;                 /* if it does */
	char *text;                     /* ours */
	size_t length;
	unsigned char digest[DIGEST_SIZE];
	struct variant list[VARIANTS_MAX];
	unsigned count;
};

void variants_destroy(struct variants *variants);

/* Is our text of the policies in force?  Make it so; false without memory. */
bool variants_described(const struct variants *variants);
bool variants_describe(struct variants *variants);

/* These COUNT OTHERS, of OTHER_SIZE bytes (id and digest), have another digest.  False
 * if there are more different ones than can be compared. */
bool variants_count(struct variants *variants, const unsigned char *others, size_t count);

bool variant_is_wanted(const struct variant *variant);

/* The text of VARIANT was read.  False if it is not what its digest stands for, for the
 * second time. */
bool variants_keep(struct variants *variants, struct variant *variant, const char *text,
		   size_t length);

/* Tell, in the segment, which of our policies others have otherwise. */
void variants_compare(const struct variants *variants);

/* The incarnation of the host's segment. */
uint64_t host_number(const unsigned char host[HOST_ID_SIZE]);

/* What of POLICY makes a difference to other hosts, in words: "100/1m, 5000/1d bounded".
 * Returns the length of the text, which is cut to SIZE. */
size_t policies_describe(const struct weir_policy *policy, char *text, size_t size);

#endif
