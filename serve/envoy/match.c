/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/match.h"

#include "serve/envoy/failure.h"

/* One descriptor on its way down. */
struct descent {
	const struct envoy_matching *matching;
	const struct envoy_descriptor *descriptor;
	struct builder runtime; /* DOMAIN.KEY_VALUE.KEY_VALUE, as the request has them */
	struct builder metric;  /* the same as the rule's path, but for value_to_metric */
	struct text *shared;
	bool no_memory;
};

static int fail_memory(struct weir_error *error)
{
	return envoy_fail(error, WEIR_ENOMEM,
			  "no memory to match a descriptor; free some and try again");
}

/* KEY_VALUE of an entry, which begins at START of the path so far. */
static struct text last_part(const struct builder *path, size_t start)
{
	struct text text = builder_text(path);

	return text.bytes ? text_from(text, start) : text;
}

/* The value of a wildcard: it without the entry's key, where it begins with that. */
static struct text wildcard_value(struct text wildcard, struct text key)
{
	if (text_begins(wildcard, key) && wildcard.length > key.length &&
	    wildcard.bytes[key.length] == '_')
		return text_from(wildcard, key.length + 1);
	return wildcard;
}

static void keep_shared(struct descent *descent, size_t index, struct text value)
{
	if (!descent->shared)
		descent->shared = pool_array(descent->matching->scratch,
					      descent->descriptor->entry_count,
					      sizeof(*descent->shared));
	if (descent->shared)
		descent->shared[index] = value;
	else
		descent->no_memory = true;
}

static void add_metric(struct descent *descent, struct text key, struct text value)
{
	builder_add_char(&descent->metric, '.');
	builder_add(&descent->metric, key);
	if (value.length == 0)
		return;
	builder_add_char(&descent->metric, '_');
	builder_add(&descent->metric, value);
}

/* Look an entry up, and write its part of both paths. */
static const struct envoy_node *step(struct descent *descent, const struct envoy_level *level,
				     size_t index)
{
	const struct envoy_entry *entry = &descent->descriptor->entries[index];
	size_t start = descent->runtime.length + 1;
	const struct envoy_node *node;
	struct text value = entry->value, part;

	builder_add_char(&descent->runtime, '.');
	builder_add(&descent->runtime, entry->key);
	builder_add_char(&descent->runtime, '_');
	builder_add(&descent->runtime, entry->value);
	part = last_part(&descent->runtime, start);
	if (!part.bytes) {
		descent->no_memory = true;
		return NULL;
	}

	node = envoy_level_find(level, part);
	if (!node) {
		node = envoy_level_wildcard(descent->matching->config, level, part);
		if (node) {
			struct text pattern = wildcard_value(node->key, entry->key);

			if (node->share_threshold)
				keep_shared(descent, index, pattern);
			if (node->share_threshold || !node->value_to_metric)
				value = pattern;
		} else {
			node = envoy_level_find(level, entry->key);
			if (!node || !node->value_to_metric)
				value = TEXT("");
		}
	}
	add_metric(descent, entry->key, value);
	return node;
}

static struct stats *find_stats(const struct envoy_matching *matching,
				const struct envoy_rule *rule, struct text key)
{
	struct stats *stats;

	if (text_is(key, rule->path))
		return rule->stats;
	stats = stats_of_request(matching->stats, key);
	return stats ? stats : rule->stats;
}

/* The path with wildcards where values are shared. */
static struct text shared_path(struct descent *descent, struct text domain)
{
	struct builder path = { .pool = descent->matching->scratch };

	builder_add(&path, domain);
	for (size_t i = 0; i < descent->descriptor->entry_count; i++) {
		const struct envoy_entry *entry = &descent->descriptor->entries[i];
		struct text value = descent->shared[i].length > 0 ? descent->shared[i] :
								    entry->value;

		builder_add_char(&path, '.');
		builder_add(&path, entry->key);
		if (value.length > 0)
			builder_add_char(&path, '_');
		builder_add(&path, value);
	}
	return builder_text(&path);
}

/* Where NODE's rule is counted.  A rule whose metric key is the request's own loses its
 * metadata, as it does in envoyproxy/ratelimit. */
static void fill_match(struct descent *descent, struct text domain, const struct envoy_node *node,
		       struct envoy_match *match)
{
	const struct envoy_rule *rule = node->rule;
	struct text key;

	match->rule = rule;
	match->policy = __atomic_load_n(&rule->policy, __ATOMIC_RELAXED);
	match->shared = descent->shared;
	match->metadata = rule->metadata;
	if (rule->detailed_metric) {
		key = descent->shared ? shared_path(descent, domain) :
					builder_text(&descent->runtime);
		if (!node->below)
			match->metadata = NULL;
	} else {
		key = builder_text(&descent->metric);
		if (!text_is(key, rule->path))
			match->metadata = NULL;
	}
	if (!key.bytes)
		descent->no_memory = true;
	else
		match->stats = find_stats(descent->matching, rule, key);
}

static int match_entries(const struct envoy_matching *matching, const struct envoy_domain *domain,
			 const struct envoy_descriptor *descriptor, struct envoy_match *match,
			 struct weir_error *error)
{
	struct descent descent = {
		.matching = matching,
		.descriptor = descriptor,
		.runtime = { .pool = matching->scratch },
		.metric = { .pool = matching->scratch },
	};
	const struct envoy_level *level = &domain->level;

	builder_add(&descent.runtime, domain->name);
	builder_add(&descent.metric, domain->name);
	for (size_t i = 0; i < descriptor->entry_count && level; i++) {
		const struct envoy_node *node = step(&descent, level, i);

		level = node ? node->below : NULL;
		if (node && node->rule && i + 1 == descriptor->entry_count)
			fill_match(&descent, domain->name, node, match);
	}
	return descent.no_memory ? fail_memory(error) : WEIR_OK;
}

/* ---- Overrides ----------------------------------------------------------------- */

static struct text override_path(const struct envoy_matching *matching, struct text domain,
				 const struct envoy_descriptor *descriptor)
{
	struct builder path = { .pool = matching->scratch };
	size_t start;

	builder_add(&path, domain);
	builder_add_char(&path, '.');
	start = path.length;
	for (size_t i = 0; i < descriptor->entry_count; i++) {
		const struct envoy_entry *entry = &descriptor->entries[i];

		if (path.length > start)
			builder_add_char(&path, '.');
		builder_add(&path, entry->key);
		if (entry->value.length > 0)
			builder_add_char(&path, '_');
		builder_add(&path, entry->value);
	}
	return builder_text(&path);
}

int envoy_override(const struct envoy_descriptor *descriptor, struct engine_limit *limit,
		   struct weir_error *error)
{
	uint32_t requests = descriptor->override_requests;

	*limit = (struct engine_limit){
		.limit = requests > 0 ? requests : 1,
		.period_s = envoy_unit_seconds(descriptor->override_unit),
		.burst = requests,
		.algorithm = ENGINE_FIXED_WINDOW,
	};
	if (limit->period_s == 0)
		return envoy_fail(error, WEIR_EINVAL,
				  "a descriptor's limit has unit %d, which does not exist; send 1 "
				  "(SECOND) to 7 (WEEK)", descriptor->override_unit);
	return WEIR_OK;
}

/* A rule that lives as long as the request. */
static int match_override(const struct envoy_matching *matching, struct text domain,
			  const struct envoy_descriptor *descriptor, struct envoy_match *match,
			  struct weir_error *error)
{
	struct envoy_rule *rule = pool_take(matching->scratch, sizeof(*rule));
	int status;

	if (!rule)
		return fail_memory(error);
	status = envoy_override(descriptor, &rule->limit, error);
	if (status < 0)
		return status;
	rule->requests_per_unit = descriptor->override_requests;
	rule->unit = descriptor->override_unit;
	rule->unit_multiplier = 1;
	rule->path = override_path(matching, domain, descriptor);
	if (!rule->path.bytes)
		return fail_memory(error);
	match->rule = rule;
	match->stats = stats_of_request(matching->stats, rule->path);
	return WEIR_OK;
}

int envoy_match(const struct envoy_matching *matching, struct text domain,
		const struct envoy_descriptor *descriptor, struct envoy_match *match,
		struct weir_error *error)
{
	const struct envoy_domain *found = envoy_config_domain(matching->config, domain);

	*match = (struct envoy_match){ 0 };
	if (!found) {
		stats_add(stats_of_request(matching->stats, domain), STAT_DOMAIN_NOT_FOUND, 1);
		return WEIR_OK;
	}
	if (descriptor->has_override)
		return match_override(matching, domain, descriptor, match, error);
	return match_entries(matching, found, descriptor, match, error);
}

/* ---- Replacing ----------------------------------------------------------------- */

static bool replaces(const struct envoy_rule *rule, struct text name)
{
	for (size_t i = 0; i < rule->replaces_count; i++) {
		if (text_is(rule->replaces[i], name))
			return true;
	}
	return false;
}

static bool is_replaced(const struct envoy_rule *const *rules, size_t count, struct text name)
{
	for (size_t i = 0; i < count && name.length > 0; i++) {
		if (replaces(rules[i], name))
			return true;
	}
	return false;
}

/* One that is itself replaced replaces all the same, and so does an unlimited one. */
int envoy_match_replace(struct envoy_match *matches, size_t count, struct pool *scratch,
			struct weir_error *error)
{
	const struct envoy_rule **replacing = pool_array(scratch, count,
							  sizeof(struct envoy_rule *));
	size_t replacing_count = 0;

	if (!replacing)
		return fail_memory(error);
	for (size_t i = 0; i < count; i++) {
		if (matches[i].rule && matches[i].rule->replaces_count > 0)
			replacing[replacing_count++] = matches[i].rule;
	}
	for (size_t i = 0; i < count; i++) {
		const struct envoy_rule *rule = matches[i].rule;

		if (!rule)
			continue;
		matches[i].unlimited = rule->unlimited;
		if (rule->unlimited || is_replaced(replacing, replacing_count, rule->name))
			matches[i].rule = NULL;
	}
	return WEIR_OK;
}
