/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policies.h - the policies of the cluster's hosts, and those that were published.
 *
 * Belongs to the sync thread.  Charges are durations and need no policy to be merged:
 * nothing here is in the way of a round, and an error here is told, not retried at once.
 */
#ifndef WEIR_SYNC_POLICIES_H
#define WEIR_SYNC_POLICIES_H

#include "sync/redis_route.h"
#include "sync/variants.h"

struct policies;

/* For the host HOST_ID; keys begin with PREFIX; LOOK and PUBLISH are the indexes of
 * weir_policies.lua and weir_publish.lua.  NULL without memory. */
struct policies *policies_create(struct segment *segment, const char *prefix,
				 const unsigned char host_id[HOST_ID_SIZE], unsigned look,
				 unsigned publish);
void policies_destroy(struct policies *policies);

/* Is there something to ask?  Every ten intervals, and when a policy was changed here. */
bool policies_due(const struct policies *policies, uint64_t now_ns);

/* One call, after which ROUTE may be disconnected. */
void policies_ask(struct policies *policies, struct redis_route *route, uint64_t now_ns);

#endif
