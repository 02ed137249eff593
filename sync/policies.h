/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policies.h - which policies the hosts of a cluster have.
 *
 * Belongs to the sync thread.  Charges are durations and need no policy to be merged:
 * nothing here is in the way of a round, and an error here is told, not retried at once.
 */
#ifndef WEIR_SYNC_POLICIES_H
#define WEIR_SYNC_POLICIES_H

#include "shm/segment.h"
#include "sync/redis.h"

#define HOST_ID_SIZE 16u

struct policies;

/* For the host HOST_ID; keys begin with PREFIX.  NULL without memory. */
struct policies *policies_create(const struct segment *segment, const char *prefix,
				 const unsigned char host_id[HOST_ID_SIZE]);
void policies_destroy(struct policies *policies);

/* What of POLICY makes a difference to other hosts, in words: "100/1m, 5000/1d bounded".
 * Returns the length of the text, which is cut to SIZE. */
size_t policies_describe(const struct weir_policy *policy, char *text, size_t size);

/* Is there something to ask?  Once a second, and when a policy was changed here. */
bool policies_due(const struct policies *policies, uint64_t now_ns);

/* One flush: SCRIPT is the index of weir_policies.lua.  REDIS has nothing queued, and
 * may be disconnected afterwards. */
void policies_ask(struct policies *policies, struct redis *redis, unsigned script,
		  uint64_t now_ns);

#endif
