/* SPDX-License-Identifier: Apache-2.0 */
/* config_build.c - from files to a configuration. */
#include <ctype.h>
#include <stdlib.h>

#include "serve/envoy/config.h"
#include "serve/envoy/config_file.h"
#include "serve/envoy/failure.h"

struct build {
	struct envoy_config *config;
	const struct envoy_config_options *options;
	struct text file;
	struct weir_error *error;
};

static int fail_memory(struct build *build)
{
	return envoy_fail(build->error, WEIR_ENOMEM,
			  "%.*s: no memory for its rules; free some and try again",
			  TEXT_ARGUMENTS(build->file));
}

#define fail(build, format, ...) \
	envoy_fail((build)->error, WEIR_EINVAL, "%.*s: " format, \
		  TEXT_ARGUMENTS((build)->file), ##__VA_ARGS__)

static struct text join(struct build *build, struct text a, const char *between, struct text b)
{
	struct builder builder = { .pool = &build->config->pool };

	builder_add(&builder, a);
	builder_add(&builder, text_of(between));
	builder_add(&builder, b);
	return builder_text(&builder);
}

/* ---- Levels -------------------------------------------------------------------- */

static void level_put(struct envoy_node **slots, size_t slot_count, struct envoy_node *node)
{
	size_t i = text_hash(node->key) & (slot_count - 1);

	while (slots[i])
		i = (i + 1) & (slot_count - 1);
	slots[i] = node;
}

/* At most half of the slots are used. */
static bool level_add(struct build *build, struct envoy_level *level, struct envoy_node *node)
{
	if (2 * (level->count + 1) > level->slot_count) {
		size_t slot_count = level->slot_count ? 4 * level->slot_count : 4;
		struct envoy_node **slots = pool_array(&build->config->pool, slot_count,
							sizeof(struct envoy_node *));

		if (!slots)
			return false;
		for (size_t i = 0; i < level->slot_count; i++) {
			if (level->slots[i])
				level_put(slots, slot_count, level->slots[i]);
		}
		level->slots = slots;
		level->slot_count = slot_count;
	}
	level_put(level->slots, level->slot_count, node);
	level->count++;
	return true;
}

static void add_wildcard(struct envoy_level *level, struct envoy_node *node)
{
	if (level->last_wildcard)
		level->last_wildcard->next_wildcard = node;
	else
		level->first_wildcard = node;
	level->last_wildcard = node;
}

/* ---- Rules --------------------------------------------------------------------- */

/* Is NAME that of a unit in any case?  As to Go, the capitals of "ı" and "ſ" are I and S. */
static bool is_unit(struct text name, const char *unit)
{
	const char *end = name.bytes + name.length;
	const char *c = name.bytes;

	for (; *unit; unit++) {
		const char *other = *unit == 'I' ? "\u0131" : *unit == 'S' ? "\u017f" : NULL;

		if (other && end - c >= 2 && memcmp(c, other, 2) == 0)
			c += 2;
		else if (c < end && toupper((unsigned char)*c) == *unit)
			c++;
		else
			return false;
	}
	return c == end;
}

/* The unit of that name, or UNIT_UNKNOWN, which no rule may have. */
static int find_unit(struct text name)
{
	for (int unit = UNIT_SECOND; envoy_unit_seconds(unit) > 0; unit++) {
		if (is_unit(name, envoy_unit_name(unit)))
			return unit;
	}
	return UNIT_UNKNOWN;
}

/* The extensions: how many units a period has, and token buckets. */
static int read_extensions(struct build *build, const struct file_rate_limit *file,
			   struct envoy_rule *rule)
{
	bool bucket = text_is(file->algorithm, TEXT("token-bucket"));

	if (file->has_multiplier && file->unit_multiplier == 0)
		return fail(build, "unit_multiplier is 0; write how many units a period has, or "
			    "leave it out");
	rule->unit_multiplier = file->has_multiplier ? file->unit_multiplier : 1;
	if (file->algorithm.length > 0 && !bucket &&
	    !text_is(file->algorithm, TEXT("fixed-window")))
		return fail(build, "the algorithm '%.*s' does not exist; write fixed-window or "
			    "token-bucket", TEXT_ARGUMENTS(file->algorithm));
	if (bucket && file->requests_per_unit == 0)
		return fail(build, "a token bucket has requests_per_unit 0; write at least 1");
	if (file->burst > 0 && !bucket)
		return fail(build, "burst %u is only for algorithm: token-bucket; add that, or "
			    "remove it", file->burst);

	rule->limit.algorithm = bucket ? ENGINE_TOKEN_BUCKET : ENGINE_FIXED_WINDOW;
	rule->limit.burst = file->burst > 0 ? file->burst : file->requests_per_unit;
	rule->limit.limit = rule->requests_per_unit > 0 ? rule->requests_per_unit : 1;
	rule->limit.period_s = envoy_unit_seconds(rule->unit) * rule->unit_multiplier;
	if (rule->limit.period_s > WEIR_PERIOD_MAX_NS / 1000000000)
		return fail(build, "a period of %u units of one %s is longer than a year; write a "
			    "smaller unit_multiplier", rule->unit_multiplier,
			    envoy_unit_name(rule->unit));
	return WEIR_OK;
}

static int read_replaces(struct build *build, const struct file_rate_limit *file,
			 struct envoy_rule *rule)
{
	struct text *names = pool_array(&build->config->pool, file->replaces_count + 1,
					 sizeof(*names));

	if (!names)
		return fail_memory(build);
	for (size_t i = 0; i < file->replaces_count; i++) {
		names[i] = file->replaces[i].name;
		if (names[i].length == 0)
			return fail(build, "should not have an empty replaces entry");
		if (text_is(names[i], file->name))
			return fail(build, "replaces should not contain name of same descriptor");
	}
	rule->replaces = names;
	rule->replaces_count = file->replaces_count;
	return WEIR_OK;
}

static int read_rule(struct build *build, const struct file_descriptor *descriptor,
		     struct text path, struct envoy_rule **result)
{
	const struct file_rate_limit *file = descriptor->rate_limit;
	struct envoy_rule *rule = pool_take(&build->config->pool, sizeof(*rule));
	int status;

	if (!rule)
		return fail_memory(build);
	rule->unit = find_unit(file->unit);
	if (file->unlimited && rule->unit != UNIT_UNKNOWN)
		return fail(build, "should not specify rate limit unit when unlimited");
	if (!file->unlimited && rule->unit == UNIT_UNKNOWN)
		return fail(build, "invalid rate limit unit '%.*s'", TEXT_ARGUMENTS(file->unit));

	rule->requests_per_unit = file->requests_per_unit;
	rule->unlimited = file->unlimited;
	rule->shadow_mode = descriptor->shadow_mode;
	rule->quota_mode = descriptor->quota_mode;
	rule->detailed_metric = descriptor->detailed_metric;
	rule->name = file->name;
	rule->path = path;
	rule->metadata = descriptor->metadata;
	status = read_replaces(build, file, rule);
	if (status == WEIR_OK)
		status = read_extensions(build, file, rule);
	if (status < 0)
		return status;

	if (build->config->last_rule)
		build->config->last_rule->next = rule;
	else
		build->config->first_rule = rule;
	build->config->last_rule = rule;
	*result = rule;
	return WEIR_OK;
}

/* ---- Descriptors --------------------------------------------------------------- */

static bool has_wildcard(const struct build *build, struct text key)
{
	if (build->options->release == ENVOY_2026_01)
		return key.bytes[key.length - 1] == '*';
	return text_has(key, '*');
}

static int read_share(struct build *build, const struct file_descriptor *file, struct text key)
{
	if (!file->share_threshold || has_wildcard(build, key))
		return WEIR_OK;
	return fail(build, "share_threshold can only be used with wildcard values (%s '*'), but "
		    "found key '%.*s'",
		    build->options->release == ENVOY_2026_01 ? "ending with" : "containing",
		    TEXT_ARGUMENTS(key));
}

static int read_level(struct build *build, struct envoy_level *level, struct text path,
		      const struct file_descriptor *files, size_t count);

static int read_below(struct build *build, struct envoy_node *node, struct text path,
		      const struct file_descriptor *file)
{
	if (file->descriptor_count == 0)
		return WEIR_OK;
	node->below = pool_take(&build->config->pool, sizeof(*node->below));
	if (!node->below)
		return fail_memory(build);
	return read_level(build, node->below, path, file->descriptors, file->descriptor_count);
}

static int read_descriptor(struct build *build, struct envoy_level *level, struct text parent,
			   const struct file_descriptor *file)
{
	struct envoy_node *node = pool_take(&build->config->pool, sizeof(*node));
	struct text path;
	int status = WEIR_OK;

	if (!node)
		return fail_memory(build);
	if (file->key.length == 0)
		return fail(build, "descriptor has empty key");
	node->key = file->value.length > 0 ? join(build, file->key, "_", file->value) : file->key;
	path = join(build, parent, ".", node->key);
	if (!node->key.bytes || !path.bytes)
		return fail_memory(build);
	if (envoy_level_find(level, node->key))
		return fail(build, "duplicate descriptor composite key '%.*s'",
			    TEXT_ARGUMENTS(path));

	if (file->rate_limit)
		status = read_rule(build, file, path, &node->rule);
	if (status == WEIR_OK)
		status = read_share(build, file, node->key);
	if (status < 0)
		return status;
	node->value_to_metric = file->value_to_metric;
	node->share_threshold = file->share_threshold;
	if (has_wildcard(build, node->key))
		add_wildcard(level, node);
	status = read_below(build, node, path, file);
	if (status == WEIR_OK && !level_add(build, level, node))
		return fail_memory(build);
	return status;
}

static int read_level(struct build *build, struct envoy_level *level, struct text path,
		      const struct file_descriptor *files, size_t count)
{
	int status = WEIR_OK;

	for (size_t i = 0; i < count && status == WEIR_OK; i++)
		status = read_descriptor(build, level, path, &files[i]);
	return status;
}

/* ---- Domains ------------------------------------------------------------------- */

static struct envoy_domain *find_domain(struct envoy_config *config, struct text name)
{
	for (struct envoy_domain *domain = config->first_domain; domain; domain = domain->next) {
		if (text_is(domain->name, name))
			return domain;
	}
	return NULL;
}

static int read_domain(struct build *build, const struct file_root *file)
{
	struct envoy_config *config = build->config;
	struct envoy_domain *domain;

	if (file->domain.length == 0)
		return fail(build, "config file cannot have empty domain");
	domain = find_domain(config, file->domain);
	if (domain && !build->options->merge_domains)
		return fail(build, "duplicate domain '%.*s' in config file",
			    TEXT_ARGUMENTS(file->domain));
	if (!domain) {
		domain = pool_take(&config->pool, sizeof(*domain));
		if (!domain)
			return fail_memory(build);
		domain->name = file->domain;
		if (config->last_domain)
			config->last_domain->next = domain;
		else
			config->first_domain = domain;
		config->last_domain = domain;
		config->domain_count++;
	}
	return read_level(build, &domain->level, file->domain, file->descriptors,
			  file->descriptor_count);
}

static int index_domains(struct build *build)
{
	struct envoy_config *config = build->config;
	size_t slots = 4;

	while (slots < 2 * config->domain_count)
		slots *= 2;
	config->domains = pool_array(&config->pool, slots, sizeof(struct envoy_domain *));
	if (!config->domains)
		return fail_memory(build);
	config->domain_slots = slots;
	for (struct envoy_domain *domain = config->first_domain; domain; domain = domain->next) {
		size_t i = text_hash(domain->name) & (slots - 1);

		while (config->domains[i])
			i = (i + 1) & (slots - 1);
		config->domains[i] = domain;
	}
	return WEIR_OK;
}

/* ---- Files --------------------------------------------------------------------- */

/* All files are read before the first is put in its place: a mistake in how one is
 * written is told before two that contradict each other. */
static int read_sources(struct build *build, const struct envoy_source *sources, size_t count)
{
	struct file_options options = {
		.release = build->options->release,
		.extensions = build->options->extensions,
	};
	struct file_root *roots = pool_array(&build->config->pool, count + 1, sizeof(*roots));
	int status = WEIR_OK;

	if (!roots)
		return fail_memory(build);
	for (size_t i = 0; i < count && status == WEIR_OK; i++) {
		build->file = sources[i].name;
		status = config_file_read(sources[i].text, &options, &build->config->pool,
					  &roots[i], build->error);
		if (status < 0 && build->error)
			return envoy_fail(build->error, status, "%.*s: %s",
					  TEXT_ARGUMENTS(build->file), build->error->message);
	}
	for (size_t i = 0; i < count && status == WEIR_OK; i++) {
		build->file = sources[i].name;
		status = read_domain(build, &roots[i]);
	}
	return status == WEIR_OK ? index_domains(build) : status;
}

int envoy_config_read(const struct envoy_source *sources, size_t count,
		      const struct envoy_config_options *options, struct envoy_config **config,
		      struct weir_error *error)
{
	struct build build = { .options = options, .error = error, .file = TEXT("configuration") };
	int status;

	build.config = calloc(1, sizeof(*build.config));
	if (!build.config)
		return fail_memory(&build);
	build.config->release = options->release;
	status = read_sources(&build, sources, count);
	if (status < 0) {
		envoy_config_free(build.config);
		return status;
	}
	*config = build.config;
	return envoy_ok(error);
}
