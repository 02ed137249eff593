/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publication.h - policies that hosts apply together, as one text in Redis:
 *
 *	weir publication 1 VERSION HOST
 *	remove NAME
 *	policies:
 *	  - name: api
 *	    ...
 *
 * VERSION counts publications, HOST (16 hexadecimal digits) is who made this one.  The
 * lines "remove" are as many as there are; what follows them is a policy file, or
 * nothing.  It holds all that was ever published, as it is now, so that a host that
 * comes late needs no other.
 *
 * Beside it stands its tag, a digest that is keyed by the cluster's secret.  Nobody
 * without the secret can publish, nor change what was published.
 */
#ifndef WEIR_SYNC_PUBLICATION_H
#define WEIR_SYNC_PUBLICATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir.h"

#define PUBLICATION_MAX (4u << 20)              /* bytes */
#define PUBLICATION_POLICIES_MAX 4096u
#define PUBLICATION_REMOVED_MAX 256u            /* the last ones are kept */
#define PUBLICATION_VERSION_MAX (1ull << 53)
#define TAG_SIZE 16u

struct publication {
	uint64_t version;
	uint64_t host;
	struct weir_policy *policies;           /* valid, and no name twice */
	size_t count;
	char (*removed)[WEIR_NAME_MAX + 1];     /* none of them in policies */
	size_t removed_count;
};

/* Read a text.  Errors: WEIR_EINVAL, WEIR_ENOMEM; then there is nothing to free. */
int publication_parse(const char *text, size_t length, struct publication *publication,
		      struct weir_error *error);

/* Write it as such a text, to be freed.  Errors: WEIR_EINVAL (too long), WEIR_ENOMEM. */
int publication_format(const struct publication *publication, char **text, size_t *length,
		       struct weir_error *error);

void publication_free(struct publication *publication);

/* Change it: POLICY is as it says now; NAME is removed.  Errors: WEIR_ENOSPC (4096
 * policies), WEIR_ENOMEM. */
int publication_put(struct publication *publication, const struct weir_policy *policy,
		    struct weir_error *error);
int publication_remove(struct publication *publication, const char *name,
		       struct weir_error *error);

/* Does it have NAME among its policies? */
bool publication_has(const struct publication *publication, const char *name);

void publication_tag(const uint64_t secret[2], const char *text, size_t length,
		     unsigned char tag[TAG_SIZE]);

/* Of two publications with one version, as there may be after a failover, hosts take
 * the one whose tag says more. */
uint64_t publication_rank(const unsigned char tag[TAG_SIZE]);

#endif
