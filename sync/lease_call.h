/* SPDX-License-Identifier: Apache-2.0 */
/* lease_call.h - weir_lease.lua in Redis, called. */
#ifndef WEIR_SYNC_LEASE_CALL_H
#define WEIR_SYNC_LEASE_CALL_H

#include "sync/lease.h"
#include "sync/redis_route.h"

/* Make COUNT calls of SCRIPT for HOST (16 bytes), under PREFIX, and fill in their replies:
 * LEASE_UNANSWERED where there is none.  Shards whose connection brought what is none go
 * into ASTRAY, a bit each.  NONE, or what was with the first one; ERROR says it in words. */
enum redis_error lease_call_redis(struct redis_route *route, unsigned script, const char *prefix,
				  const unsigned char *host, struct lease_call *calls,
				  struct lease_reply *replies, unsigned count,
				  unsigned *astray, struct weir_error *error);

#endif
