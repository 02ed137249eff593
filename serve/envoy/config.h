/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - rules, as requests are matched to them.
 *
 * Put together from files, then never changed: readers need no lock, and who replaces a
 * configuration waits until nobody reads it any more (service.h).
 */
#ifndef WEIR_SERVE_CONFIG_H
#define WEIR_SERVE_CONFIG_H

#include "serve/envoy/engine.h"
#include "serve/envoy/release.h"
#include "serve/envoy/stats.h"
#include "serve/envoy/value.h"

/* Numbers as in envoy.service.ratelimit.v3.RateLimitResponse.RateLimit.Unit. */
enum envoy_unit {
	UNIT_UNKNOWN = 0,
	UNIT_SECOND = 1,
	UNIT_MINUTE = 2,
	UNIT_HOUR = 3,
	UNIT_DAY = 4,
	UNIT_MONTH = 5,
	UNIT_YEAR = 6,
	UNIT_WEEK = 7,
};

/* 0: there is no such unit. */
uint64_t envoy_unit_seconds(int unit);

/* "MINUTE"; "UNKNOWN" also for a number that is no unit. */
const char *envoy_unit_name(int unit);

/* What a rule_limit of a descriptor says. */
struct envoy_rule {
	struct engine_limit limit;
	uint32_t requests_per_unit;
	int unit;               /* enum envoy_unit; an override may have any number */
	uint32_t unit_multiplier;
	bool unlimited;
	bool shadow_mode;
	bool quota_mode;
	bool detailed_metric;
	struct text name;
	const struct text *replaces;
	size_t replaces_count;
	struct text path;       /* its metric key */
	struct stats *stats;
	weir_policy_id policy;  /* unless it is unlimited; made again if somebody removed it */
	const struct value *metadata;   /* NULL: none */
	struct envoy_rule *next;        /* in the order of the files */
};

struct envoy_level;

/* A descriptor: what its key, or its key and value, lead to. */
struct envoy_node {
	struct text key;        /* KEY or KEY_VALUE */
	bool value_to_metric;
	bool share_threshold;
	struct envoy_rule *rule;        /* NULL: none */
	struct envoy_level *below;      /* NULL: nothing */
	struct envoy_node *next_wildcard;
};

/* Descriptors side by side.  Slots are probed one after the other, and some are empty. */
struct envoy_level {
	struct envoy_node **slots;
	size_t slot_count;      /* a power of two */
	size_t count;
	struct envoy_node *first_wildcard, *last_wildcard;
};

struct envoy_domain {
	struct text name;
	struct envoy_level level;
	struct envoy_domain *next;
};

struct envoy_config {
	struct pool pool;     /* all that is here lives in it */
	enum envoy_release release;
	struct envoy_domain *first_domain, *last_domain;
	size_t domain_count;
	struct envoy_domain **domains;  /* by name, as the slots of a level */
	size_t domain_slots;
	struct envoy_rule *first_rule, *last_rule;
};

/* A file of the configuration. */
struct envoy_source {
	struct text name;       /* as messages say it: "config.basic.yaml" */
	struct text text;
};

struct envoy_config_options {
	enum envoy_release release;
	bool extensions;        /* unit_multiplier, algorithm and burst are known */
	bool merge_domains;     /* several files may have one domain */
};

/* Put a configuration together from files, without statistics and policies.  It is freed
 * with envoy_config_free().  Errors: WEIR_EINVAL ("NAME: " and what envoyproxy/ratelimit
 * says), WEIR_ENOMEM. */
int envoy_config_read(const struct envoy_source *sources, size_t count,
		      const struct envoy_config_options *options, struct envoy_config **config,
		      struct weir_error *error);

/* Give its rules their statistics and policies.  Errors: WEIR_ENOMEM, and those of the
 * engine. */
int envoy_config_prepare(struct envoy_config *config, struct stats_table *stats,
			 struct engine *engine, struct weir_error *error);

void envoy_config_free(struct envoy_config *config);

const struct envoy_domain *envoy_config_domain(const struct envoy_config *config,
					       struct text name);

/* The descriptor KEY of a level, or NULL. */
struct envoy_node *envoy_level_find(const struct envoy_level *level, struct text key);

/* The first of a level's wildcards that KEY matches, or NULL. */
const struct envoy_node *envoy_level_wildcard(const struct envoy_config *config,
					      const struct envoy_level *level, struct text key);

/* Write a line for each rule, as /rlconfig shows them. */
void envoy_config_print(const struct envoy_config *config, struct builder *builder);

#endif
