/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.h - with a stale view and fail mode share: what this host may have of a token
 * bucket.
 *
 * A bucket of limit / hosts, burst / hosts, of one word: share_ns in the slot.  It is
 * charged before the bucket, so a process killed in between has lost a share's charge,
 * which only under-admits.
 */
#ifndef WEIR_SHARE_H
#define WEIR_SHARE_H

#include "shm/layout.h"
#include "shm/limit.h"

struct share {
	const struct limit *limit;
	uint64_t hosts;                 /* that the limit is shared by: 1 or more */
	struct slot *slot;              /* of the bucket; NULL: it has none yet */
	uint64_t cost;
	uint64_t now_ns;
};

/* Take the cost from the share, or only look, without TAKE.  False if the share has not so
 * much; *retry_ns tells when it has. */
bool share_take(const struct share *share, bool take, uint64_t *retry_ns);

/* Give it back. */
void share_return(const struct share *share);

#endif
