/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - the table that a segment has, behind one face: the one of 64-byte slots
 * (shm/table.h, shm/bucket.h) or the compact one (shm/compact.h). */
#ifndef WEIR_STORE_H
#define WEIR_STORE_H

#include "shm/segment.h"

static inline bool store_is_compact(const struct segment *segment)
{
	return segment->compact.groups != 0;
}

static inline void store_prefetch(const struct segment *segment, struct fingerprint fingerprint)
{
	if (store_is_compact(segment))
		compact_prefetch(&segment->compact, fingerprint);
	else
		table_prefetch(&segment->table, fingerprint);
}

static inline bool store_find(const struct segment *segment, struct fingerprint fingerprint,
			      struct bucket_ref *ref)
{
	return store_is_compact(segment) ? compact_find(&segment->compact, fingerprint, ref) :
					   table_find(&segment->table, fingerprint, ref);
}

static inline enum table_claim store_claim(const struct segment *segment,
					   struct fingerprint fingerprint, uint64_t now_ns,
					   uint64_t newcomer_debt_ns, struct bucket_ref *ref,
					   struct claim_report *report)
{
	return store_is_compact(segment) ?
		       compact_claim(&segment->compact, fingerprint, now_ns, newcomer_debt_ns, ref,
				     report) :
		       table_claim(&segment->table, fingerprint, now_ns, newcomer_debt_ns, ref,
				   report);
}

static inline enum bucket_result store_apply(const struct segment *segment,
					     struct fingerprint fingerprint,
					     const struct bucket_ref *ref, const struct limit *limit,
					     const struct bucket_request *request,
					     struct verdict *verdict)
{
	return store_is_compact(segment) ? compact_apply(&segment->compact, fingerprint, ref, limit,
							 request, verdict) :
					   bucket_apply(ref, limit, request, verdict);
}

#endif
