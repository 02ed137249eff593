/* SPDX-License-Identifier: Apache-2.0 */
/* round_call.h - calls of rounds and fences, to Redis and back. */
#ifndef WEIR_SYNC_ROUND_CALL_H
#define WEIR_SYNC_ROUND_CALL_H

#include "sync/leader.h"
#include "sync/redis_route.h"

struct round_caller {
	const struct segment *segment;
	struct redis_route *route;
	unsigned script;                /* its index there */
	const char *prefix;
	const unsigned char *host;
	uint64_t keep_s;
};

/* Of the last calls, by their shards: a bit each. */
struct round_faults {
	unsigned sound;                 /* what came over the connection was the call's reply */
	unsigned permanent;             /* and takes a person to mend */
};

/* Make COUNT calls and fill in their replies, as struct leader_transport's call().  NONE,
 * or what was with the first one that has none; ERROR says it in words. */
enum redis_error round_call_redis(const struct round_caller *caller,
				  const struct leader_call *calls, struct round_reply *replies,
				  unsigned count, struct round_faults *faults,
				  struct weir_error *error);

#endif
