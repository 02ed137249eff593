/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/stats.h"

#include <stdlib.h>

#define BUCKETS 16384u          /* a power of two */

/* Requests choose keys: those that would make one bucket long are refused. */
#define CHAIN_MAX 64u

/* Longer keys of requests are refused: a name that nobody can read is no metric. */
#define REQUEST_KEY_MAX 1024u

struct stats_table {
	size_t dynamic;         /* room for keys of requests */
	size_t dynamic_used;
	uint64_t refused;
	struct stats *buckets[BUCKETS];
};

static const char *const names[] = {
	[STAT_TOTAL_HITS] = "total_hits",
	[STAT_OVER_LIMIT] = "over_limit",
	[STAT_NEAR_LIMIT] = "near_limit",
	[STAT_WITHIN_LIMIT] = "within_limit",
	[STAT_SHADOW_MODE] = "shadow_mode",
	[STAT_DOMAIN_NOT_FOUND] = "domain_not_found",
};

const char *stats_name(enum stats_counter stat)
{
	return names[stat];
}

struct stats_table *stats_table_new(size_t dynamic)
{
	struct stats_table *table = calloc(1, sizeof(*table));

	if (table)
		table->dynamic = dynamic;
	return table;
}

void stats_table_free(struct stats_table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct stats *stats = table->buckets[i], *next; stats; stats = next) {
			next = stats->next;
			free(stats);
		}
	}
	free(table);
}

/* Entries are only ever put in front: what was looked at down to END needs no second
 * look.  *LENGTH: how many there were. */
static struct stats *find(struct stats *first, const struct stats *end, uint64_t hash,
			  struct text key, size_t *length)
{
	for (struct stats *stats = first; stats != end; stats = stats->next) {
		(*length)++;
		if (stats->hash == hash &&
		    text_is((struct text){ stats->key, stats->key_length }, key))
			return stats;
	}
	return NULL;
}

static struct stats *make(uint64_t hash, struct text key)
{
	struct stats *stats = calloc(1, sizeof(*stats) + key.length + 1);

	if (!stats)
		return NULL;
	stats->hash = hash;
	stats->key_length = key.length;
	if (key.length > 0)
		memcpy(stats->key, key.bytes, key.length);
	return stats;
}

/* One place of those for keys of requests; false: there is none. */
static bool reserve(struct stats_table *table)
{
	size_t used = __atomic_load_n(&table->dynamic_used, __ATOMIC_RELAXED);

	do {
		if (used == table->dynamic)
			return false;
	} while (!__atomic_compare_exchange_n(&table->dynamic_used, &used, used + 1, true,
					      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

/* An entry is whole before it is seen: the release of the bucket's head pairs with the
 * acquire of who finds it there. */
static struct stats *put(struct stats **bucket, struct stats *first, struct stats *stats)
{
	for (;;) {
		struct stats *end = first, *other;
		size_t length = 0;

		stats->next = first;
		if (__atomic_compare_exchange_n(bucket, &first, stats, false, __ATOMIC_RELEASE,
						__ATOMIC_ACQUIRE))
			return stats;
		other = find(first, end, stats->hash,
			     (struct text){ stats->key, stats->key_length }, &length);
		if (other)
			return other;
	}
}

static struct stats *find_or_make(struct stats_table *table, struct text key, bool of_request)
{
	uint64_t hash = text_hash(key);
	struct stats **bucket = &table->buckets[hash & (BUCKETS - 1)];
	struct stats *first = __atomic_load_n(bucket, __ATOMIC_ACQUIRE);
	size_t length = 0;
	struct stats *stats = find(first, NULL, hash, key, &length);
	struct stats *found;

	if (stats)
		return stats;
	if (of_request && (length >= CHAIN_MAX || key.length > REQUEST_KEY_MAX || !reserve(table)))
		return NULL;
	stats = make(hash, key);
	if (!stats)
		return NULL;
	found = put(bucket, first, stats);
	if (found != stats)
		free(stats);
	return found;
}

struct stats *stats_of_rule(struct stats_table *table, struct text key)
{
	return find_or_make(table, key, false);
}

struct stats *stats_of_request(struct stats_table *table, struct text key)
{
	struct stats *stats = find_or_make(table, key, true);

	if (!stats)
		__atomic_fetch_add(&table->refused, 1, __ATOMIC_RELAXED);
	return stats;
}

uint64_t stats_refused(const struct stats_table *table)
{
	return __atomic_load_n(&table->refused, __ATOMIC_RELAXED);
}

void stats_each(const struct stats_table *table,
		void (*visit)(const struct stats *stats, void *context), void *context)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		const struct stats *stats = __atomic_load_n(&table->buckets[i], __ATOMIC_ACQUIRE);

		for (; stats; stats = stats->next)
			visit(stats, context);
	}
}

/* ---- Names --------------------------------------------------------------------- */

/* The length of the IPv4 address that TEXT begins with, or 0: four groups of one to
 * three digits. */
static size_t address_length(const char *text)
{
	size_t length = 0;

	for (int group = 0; group < 4; group++) {
		int digits = 0;

		if (group > 0 && text[length++] != '.')
			return 0;
		while (digits < 3 && text[length] >= '0' && text[length] <= '9') {
			length++;
			digits++;
		}
		if (digits == 0)
			return 0;
	}
	return length;
}

void stats_clean_key(const struct stats *stats, char *text)
{
	size_t i = 0;

	while (i < stats->key_length) {
		size_t address = address_length(stats->key + i);

		do {
			char c = stats->key[i];

			if (c == ':' || c == '|' || (c == '.' && address > 0))
				c = '_';
			text[i++] = c;
		} while (address > 0 && --address > 0);
	}
	text[i] = '\0';
}
