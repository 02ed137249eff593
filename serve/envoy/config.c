/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - what a configuration is looked up in.  What files say is put there by
 * config_build.c. */
#include "serve/envoy/config.h"

#include <stdlib.h>

#include "serve/envoy/failure.h"

static const struct {
	const char *name;
	uint64_t seconds;
} units[] = {
	[UNIT_UNKNOWN] = { "UNKNOWN", 0 },
	[UNIT_SECOND] = { "SECOND", 1 },
	[UNIT_MINUTE] = { "MINUTE", 60 },
	[UNIT_HOUR] = { "HOUR", 3600 },
	[UNIT_DAY] = { "DAY", 86400 },
	[UNIT_MONTH] = { "MONTH", 30 * 86400 },
	[UNIT_YEAR] = { "YEAR", 365 * 86400 },
	[UNIT_WEEK] = { "WEEK", 7 * 86400 },
};

#define UNIT_COUNT ((int)(sizeof(units) / sizeof(units[0])))

uint64_t envoy_unit_seconds(int unit)
{
	return unit >= 0 && unit < UNIT_COUNT ? units[unit].seconds : 0;
}

const char *envoy_unit_name(int unit)
{
	return units[unit >= 0 && unit < UNIT_COUNT ? unit : UNIT_UNKNOWN].name;
}

void envoy_config_free(struct envoy_config *config)
{
	if (!config)
		return;
	pool_free(&config->pool);
	free(config);
}

/* ---- Looking up ---------------------------------------------------------------- */

const struct envoy_domain *envoy_config_domain(const struct envoy_config *config, struct text name)
{
	size_t mask = config->domain_slots - 1;

	if (config->domain_slots == 0)
		return NULL;
	for (size_t i = text_hash(name) & mask; config->domains[i]; i = (i + 1) & mask) {
		if (text_is(config->domains[i]->name, name))
			return config->domains[i];
	}
	return NULL;
}

struct envoy_node *envoy_level_find(const struct envoy_level *level, struct text key)
{
	size_t mask = level->slot_count - 1;

	if (level->slot_count == 0)
		return NULL;
	for (size_t i = text_hash(key) & mask; level->slots[i]; i = (i + 1) & mask) {
		if (text_is(level->slots[i]->key, key))
			return level->slots[i];
	}
	return NULL;
}

/* What stands between two stars must be found in order, leftmost first. */
static bool match_middle(struct text pattern, struct text text)
{
	for (;;) {
		const char *star = memchr(pattern.bytes, '*', pattern.length);
		size_t length = star ? (size_t)(star - pattern.bytes) : pattern.length;
		const char *found = length > 0 ?
			memmem(text.bytes, text.length, pattern.bytes, length) : text.bytes;

		if (!found)
			return false;
		if (!star)
			return true;
		text = text_from(text, (size_t)(found - text.bytes) + length);
		pattern = text_from(pattern, length + 1);
	}
}

static bool match_wildcard(struct text pattern, struct text text)
{
	const char *first = memchr(pattern.bytes, '*', pattern.length);
	const char *last = memrchr(pattern.bytes, '*', pattern.length);
	struct text prefix = { pattern.bytes, (size_t)(first - pattern.bytes) };
	struct text suffix = text_from(pattern, (size_t)(last - pattern.bytes) + 1);

	if (text.length < prefix.length + suffix.length || !text_begins(text, prefix) ||
	    !text_is(text_from(text, text.length - suffix.length), suffix))
		return false;
	if (first == last)
		return true;
	text = text_from(text, prefix.length);
	text.length -= suffix.length;
	return match_middle((struct text){ first + 1, (size_t)(last - first) - 1 }, text);
}

const struct envoy_node *envoy_level_wildcard(const struct envoy_config *config,
					      const struct envoy_level *level, struct text key)
{
	const struct envoy_node *node = level->first_wildcard;

	for (; node; node = node->next_wildcard) {
		struct text prefix = { node->key.bytes, node->key.length - 1 };

		if (config->release == ENVOY_2026_01 ? text_begins(key, prefix) :
						       match_wildcard(node->key, key))
			return node;
	}
	return NULL;
}

/* ---- Policies ------------------------------------------------------------------ */

int envoy_config_prepare(struct envoy_config *config, struct stats_table *stats,
			 struct engine *engine, struct weir_error *error)
{
	for (struct envoy_rule *rule = config->first_rule; rule; rule = rule->next) {
		int status;

		rule->stats = stats_of_rule(stats, rule->path);
		if (!rule->stats)
			return envoy_fail(error, WEIR_ENOMEM,
					  "no memory for the counters of %.*s; free some and try "
					  "again", TEXT_ARGUMENTS(rule->path));
		if (rule->unlimited)
			continue;
		status = engine->policy(engine, &rule->limit, &rule->policy, error);
		if (status < 0)
			return status;
	}
	return envoy_ok(error);
}

void envoy_config_print(const struct envoy_config *config, struct builder *builder)
{
	for (const struct envoy_rule *rule = config->first_rule; rule; rule = rule->next)
		builder_print(builder,
			      "%.*s: unit=%s requests_per_unit=%u, shadow_mode: %s, quota_mode: "
			      "%s\n", TEXT_ARGUMENTS(rule->path), envoy_unit_name(rule->unit),
			      rule->requests_per_unit, rule->shadow_mode ? "true" : "false",
			      rule->quota_mode ? "true" : "false");
}
