/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_file.h - one configuration file, as it is written.
 *
 * Read in the three steps in which envoyproxy/ratelimit reads it, since the first error
 * is the one that is told: the document's values must be sound, then its keys be known,
 * then its values be of the fields' types.  What they mean together is checked where
 * they are put together, in config.h.
 */
#ifndef WEIR_SERVE_CONFIG_FILE_H
#define WEIR_SERVE_CONFIG_FILE_H

#include "serve/envoy/pool.h"
#include "serve/envoy/release.h"
#include "serve/envoy/value.h"
#include "serve/envoy/yaml_node.h"

struct file_replaces {
	struct text name;
};

struct file_rate_limit {
	uint32_t requests_per_unit;
	struct text unit;
	bool unlimited;
	struct text name;
	struct file_replaces *replaces;
	size_t replaces_count;
	/* Extensions. */
	bool has_multiplier;
	uint32_t unit_multiplier;
	struct text algorithm;
	uint32_t burst;
};

struct file_descriptor {
	struct text key;
	struct text value;
	struct file_rate_limit *rate_limit;     /* NULL: none */
	struct file_descriptor *descriptors;
	size_t descriptor_count;
	bool shadow_mode;
	bool quota_mode;
	bool detailed_metric;
	bool value_to_metric;
	bool share_threshold;
	struct value *metadata;                 /* NULL: none */
};

struct file_root {
	struct text domain;
	struct file_descriptor *descriptors;
	size_t descriptor_count;
};

struct file_options {
	enum envoy_release release;
	bool extensions;        /* unit_multiplier, algorithm and burst are keys, too */
};

/* Read TEXT into ROOT, whose parts are in POOL and do not point into TEXT.  Errors:
 * WEIR_EINVAL, WEIR_ENOMEM; messages are those of envoyproxy/ratelimit, without the
 * file's name in front. */
int config_file_read(struct text text, const struct file_options *options, struct pool *pool,
		     struct file_root *root, struct weir_error *error);

/* Its steps.  Are the values of the tree sound, and is it not too large when its aliases
 * are followed? */
int config_file_check_values(struct node *root, struct pool *pool, struct weir_error *error);

/* Are all keys known? */
int config_file_check_keys(struct node *root, const struct file_options *options,
			   struct pool *pool, struct weir_error *error);

/* The pairs of MAP as far as they stand in it: calls VISIT for each, those of merged maps
 * where they are merged, until it returns a negative status, and returns that. */
int config_file_each_pair(const struct node *map,
			  int (*visit)(const struct node *key, const struct node *value,
				       void *context),
			  void *context);

/* What an alias stands for, and any other node for itself. */
static inline const struct node *config_file_target(const struct node *node)
{
	while (node->kind == NODE_ALIAS)
		node = node->target;
	return node;
}

#endif
