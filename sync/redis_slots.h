/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_slots.h - which node of a Redis Cluster has a key, as its nodes tell.
 * Pure functions.  What a node says is not trusted: what makes no sense in it is
 * passed over.
 */
#ifndef WEIR_SYNC_REDIS_SLOTS_H
#define WEIR_SYNC_REDIS_SLOTS_H

#include "sync/redis.h"

#define REDIS_SLOTS 16384u

/* The hash slot of a key: CRC16 of it, or of what stands between its first '{' and
 * the next '}', if that is anything. */
unsigned redis_slot(const char *key, size_t length);

/* The master of SLOT by REPLY, the answer of the node at ASKED to CLUSTER SLOTS.
 * False if it names none.  Where ranges overlap the last one counts. */
bool redis_slots_owner(const struct redis_reply *reply, unsigned slot,
		       const struct redis_address *asked, struct redis_address *owner);

/* Call VISIT with every node in REPLY, replicas as well, until it returns false. */
void redis_slots_each(const struct redis_reply *reply, const struct redis_address *asked,
		      bool (*visit)(void *context, const struct redis_address *address),
		      void *context);

/* Where "MOVED 3999 host:port" or "ASK 3999 host:port" of the node at ASKED sends the
 * caller.  False if it is neither, or no address. */
bool redis_slots_redirect(const char *text, size_t length, const struct redis_address *asked,
			  struct redis_address *to);

#endif
