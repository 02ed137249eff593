/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - counters by metric key, as envoyproxy/ratelimit has them.
 *
 * Keys of rules are there from when a configuration is loaded, and stay: a reload does
 * not set a counter back.  Keys that requests bring along (detailed_metric,
 * value_to_metric, overrides, unknown domains) are bounded: when there is no room for
 * one more, its counts go to the rule's own key, or to none.
 *
 * Any number of threads find, add and count at once, and nobody waits.  An entry is never
 * taken away.
 */
#ifndef WEIR_SERVE_STATS_H
#define WEIR_SERVE_STATS_H

#include "serve/envoy/text.h"

enum stats_counter {
	STAT_TOTAL_HITS,
	STAT_OVER_LIMIT,
	STAT_NEAR_LIMIT,
	STAT_WITHIN_LIMIT,
	STAT_SHADOW_MODE,
	STAT_DOMAIN_NOT_FOUND,  /* of a key that is a domain */
	STAT_COUNT,
};

struct stats {
	struct stats *next;     /* of the same bucket */
	uint64_t hash;
	uint64_t counters[STAT_COUNT];
	uint64_t told[STAT_COUNT];      /* what statsd knows of them; one thread's alone */
	size_t key_length;
	char key[];             /* as it was given; and a zero byte */
};

struct stats_table;

/* A table with room for DYNAMIC keys of requests.  NULL: no memory. */
struct stats_table *stats_table_new(size_t dynamic);
void stats_table_free(struct stats_table *table);

/* The counters of KEY, which a rule has; made if they are not there.  NULL: no memory. */
struct stats *stats_of_rule(struct stats_table *table, struct text key);

/* The counters of KEY, which a request has; made if there is room, else NULL. */
struct stats *stats_of_request(struct stats_table *table, struct text key);

/* How many keys of requests found no room. */
uint64_t stats_refused(const struct stats_table *table);

void stats_each(const struct stats_table *table,
		void (*visit)(const struct stats *stats, void *context), void *context);

/* The name that a counter goes by: "total_hits". */
const char *stats_name(enum stats_counter stat);

/* The key as statsd wants it: without ':' and '|', and the points of IPv4 addresses
 * are '_'.  TEXT has room for key_length + 1 bytes. */
void stats_clean_key(const struct stats *stats, char *text);

static inline void stats_add(struct stats *stats, enum stats_counter stat, uint64_t count)
{
	if (stats)
		__atomic_fetch_add(&stats->counters[stat], count, __ATOMIC_RELAXED);
}

static inline uint64_t stats_read(const struct stats *stats, enum stats_counter stat)
{
	return __atomic_load_n(&stats->counters[stat], __ATOMIC_RELAXED);
}

#endif
