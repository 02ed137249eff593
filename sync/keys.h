/* SPDX-License-Identifier: Apache-2.0 */
/* keys.h - the names of what hosts keep in Redis under one prefix. */
#ifndef WEIR_SYNC_KEYS_H
#define WEIR_SYNC_KEYS_H

#include <stdio.h>

#define SYNC_PREFIX_MAX 128u            /* bytes */
#define SYNC_KEY_SIZE (SYNC_PREFIX_MAX + 24)

/* A shard's hash.  The braces make it one slot of a Redis Cluster. */
static inline size_t sync_shard_key(char key[SYNC_KEY_SIZE], const char *prefix, unsigned shard)
{
	return (size_t)snprintf(key, SYNC_KEY_SIZE, "%s:{%u}", prefix, shard);
}

/* A shard's leases, beside it. */
static inline size_t sync_lease_key(char key[SYNC_KEY_SIZE], const char *prefix, unsigned shard)
{
	return (size_t)snprintf(key, SYNC_KEY_SIZE, "%s:{%u}:leases", prefix, shard);
}

/* What all hosts of a cluster must have in common. */
static inline size_t sync_cluster_key(char key[SYNC_KEY_SIZE], const char *prefix)
{
	return (size_t)snprintf(key, SYNC_KEY_SIZE, "%s:cluster", prefix);
}

/* The hash of policies. */
static inline size_t sync_policies_key(char key[SYNC_KEY_SIZE], const char *prefix)
{
	return (size_t)snprintf(key, SYNC_KEY_SIZE, "%s:policies", prefix);
}

#endif
