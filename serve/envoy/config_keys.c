/* SPDX-License-Identifier: Apache-2.0 */
/* config_keys.c - is a document sound, and are all of its keys known? */
#include "serve/envoy/config_file.h"
#include "serve/envoy/failure.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Values -------------------------------------------------------------------- */

/* How much of what was decoded came from aliases, as go-yaml counts it: a small file
 * must not mean a large one. */
struct value_check {
	struct weir_error *error;
	uint64_t decoded;
	uint64_t aliased;
	uint32_t alias_depth;
	uint32_t depth;
};

#define RATIO_FROM 400000.0
#define RATIO_TO 4000000.0

/* Maps in the list of one merge. */
#define MERGED_MAX 256u

static bool too_many_aliases(const struct value_check *check)
{
	double decoded = (double)check->decoded;
	double allowed;

	if (check->aliased <= 100 || check->decoded <= 1000)
		return false;
	if (decoded <= RATIO_FROM)
		allowed = 0.99;
	else if (decoded >= RATIO_TO)
		allowed = 0.10;
	else
		allowed = 0.99 - 0.89 * ((decoded - RATIO_FROM) / (RATIO_TO - RATIO_FROM));
	return (double)check->aliased / decoded > allowed;
}

static int check_value(struct value_check *check, struct node *node);

static int check_alias(struct value_check *check, struct node *node)
{
	int status;

	if (node->entered)
		return envoy_fail(check->error, WEIR_EINVAL,
				  "yaml: anchor '%.*s' value contains itself",
				  TEXT_ARGUMENTS(node->text));
	node->entered = true;
	check->alias_depth++;
	status = check_value(check, node->target);
	check->alias_depth--;
	node->entered = false;
	return status;
}

static int check_merge(struct value_check *check, struct node *value)
{
	static const char wanted[] =
		"yaml: map merge requires map or sequence of maps as the value";
	struct node *first = value->kind == NODE_LIST ? value->first : value;
	int status = WEIR_OK;

	if (value->count > MERGED_MAX && value->kind == NODE_LIST)
		return envoy_fail(check->error, WEIR_EINVAL,
				  "yaml: line %u: more than %u maps are merged; write some out",
				  value->line, MERGED_MAX);
	for (struct node *map = first; map && status == WEIR_OK; map = map->next) {
		const struct node *target = map->kind == NODE_ALIAS ? map->target : map;

		if (target->kind != NODE_MAP)
			return envoy_fail(check->error, WEIR_EINVAL, "%s", wanted);
		status = check_value(check, map);
		if (value->kind != NODE_LIST)
			break;
	}
	return status;
}

static int check_pairs(struct value_check *check, struct node *map)
{
	int status = WEIR_OK;

	for (struct node *key = map->first; key && status == WEIR_OK; key = key->next->next) {
		struct node *value = key->next;
		const struct node *target;

		if (yaml_node_is_merge(key)) {
			status = check_merge(check, value);
			continue;
		}
		status = check_value(check, key);
		if (status < 0)
			break;
		target = config_file_target(key);
		if (target->kind != NODE_SCALAR)
			return envoy_fail(check->error, WEIR_EINVAL,
					  "yaml: invalid map key: line %u has a %s; write a word",
					  key->line, target->kind == NODE_MAP ? "map" : "list");
		status = check_value(check, value);
	}
	return status;
}

static int check_value(struct value_check *check, struct node *node)
{
	struct scalar scalar;
	int status = WEIR_OK;

	check->decoded++;
	check->aliased += check->alias_depth > 0;
	if (too_many_aliases(check))
		return envoy_fail(check->error, WEIR_EINVAL,
				  "yaml: document contains excessive aliasing");
	if (check->depth == YAML_NODE_DEPTH_MAX)
		return envoy_fail(check->error, WEIR_EINVAL,
				  "yaml: line %u: more than %u levels; write it flatter",
				  node->line, YAML_NODE_DEPTH_MAX);

	check->depth++;
	switch (node->kind) {
	case NODE_SCALAR:
		status = yaml_node_scalar(node, &scalar, check->error);
		break;
	case NODE_ALIAS:
		status = check_alias(check, node);
		break;
	case NODE_MAP:
		status = check_pairs(check, node);
		break;
	case NODE_LIST:
		for (struct node *child = node->first; child && status == WEIR_OK;
		     child = child->next)
			status = check_value(check, child);
		break;
	}
	check->depth--;
	return status;
}

int config_file_check_values(struct node *root, struct pool *pool, struct weir_error *error)
{
	struct value_check check = { .error = error };
	const struct node *target = config_file_target(root);
	struct builder text = { .pool = pool };
	struct scalar scalar;
	int status = check_value(&check, root);

	if (status < 0 || target->kind == NODE_MAP || yaml_node_is_null(target))
		return status;
	if (target->kind == NODE_LIST) {
		builder_add(&text, TEXT("!!seq"));
	} else {
		yaml_node_scalar(target, &scalar, NULL);
		builder_print(&text, "%s `%.*s%s`", yaml_node_tag(target, &scalar),
			      target->text.length > 10 ? 7 : (int)target->text.length,
			      target->text.bytes, target->text.length > 10 ? "..." : "");
	}
	return envoy_fail(error, WEIR_EINVAL,
			  "yaml: unmarshal errors: line %u: cannot unmarshal %.*s into "
			  "map[interface {}]interface {}", target->line,
			  TEXT_ARGUMENTS(builder_text(&text)));
}

/* ---- Pairs ----------------------------------------------------------------------- */

static int each_merged(const struct node *value,
		       int (*visit)(const struct node *, const struct node *, void *),
		       void *context)
{
	const struct node *target = config_file_target(value);
	int status = WEIR_OK;

	if (target->kind != NODE_LIST)
		return config_file_each_pair(target, visit, context);
	/* The first of a list counts most, so it comes last. */
	for (uint32_t left = target->count; left > 0 && status == WEIR_OK; left--) {
		const struct node *map = target->first;

		for (uint32_t i = 1; i < left; i++)
			map = map->next;
		status = config_file_each_pair(config_file_target(map), visit, context);
	}
	return status;
}

int config_file_each_pair(const struct node *map,
			  int (*visit)(const struct node *key, const struct node *value,
				       void *context),
			  void *context)
{
	int status = WEIR_OK;

	for (const struct node *key = map->first; key && status == WEIR_OK;
	     key = key->next->next) {
		if (yaml_node_is_merge(key))
			status = each_merged(key->next, visit, context);
		else
			status = visit(config_file_target(key), config_file_target(key->next),
				       context);
	}
	return status;
}

/* ---- Keys ------------------------------------------------------------------------ */

struct key_check {
	const struct file_options *options;
	struct pool *pool;
	struct weir_error *error;
};

/* They count at whatever level they stand; one at a level where it means nothing is
 * not looked at. */
static const char *const known_keys[] = {
	"domain",
	"descriptors",
	"key",
	"value",
	"rate_limit",
	"requests_per_unit",
	"unit",
	"unlimited",
	"name",
	"replaces",
	"shadow_mode",
	"quota_mode",
	"detailed_metric",
	"value_to_metric",
	"share_threshold",
};

static const char *const extension_keys[] = { "unit_multiplier", "algorithm", "burst" };

static bool is_metadata(const struct key_check *check, struct text key)
{
	return check->options->release != ENVOY_2026_01 && text_is(key, TEXT("metadata"));
}

static bool is_known(const struct key_check *check, struct text key)
{
	for (size_t i = 0; i < LENGTH(known_keys); i++) {
		if (text_is(key, text_of(known_keys[i])))
			return true;
	}
	for (size_t i = 0; check->options->extensions && i < LENGTH(extension_keys); i++) {
		if (text_is(key, text_of(extension_keys[i])))
			return true;
	}
	return is_metadata(check, key);
}

static int check_pair(const struct node *key, const struct node *value, void *context);

static int fail_element(struct key_check *check, const struct node *element)
{
	struct builder text = { .pool = check->pool };

	yaml_node_print(&text, element);
	return envoy_fail(check->error, WEIR_EINVAL,
			  "config error, yaml file contains list of type other than map: %.*s",
			  TEXT_ARGUMENTS(builder_text(&text)));
}

static int check_leaf(struct key_check *check, const struct node *leaf)
{
	struct scalar scalar;

	yaml_node_scalar(leaf, &scalar, NULL);
	if (scalar.type == SCALAR_FLOAT || scalar.type == SCALAR_UINT)
		return envoy_fail(check->error, WEIR_EINVAL, "error checking config");
	return WEIR_OK;
}

static int check_under(struct key_check *check, const struct node *value)
{
	int status = WEIR_OK;

	if (value->kind == NODE_SCALAR)
		return check_leaf(check, value);
	if (value->kind == NODE_MAP)
		return config_file_each_pair(value, check_pair, check);
	for (const struct node *child = value->first; child && status == WEIR_OK;
	     child = child->next) {
		const struct node *element = config_file_target(child);

		if (element->kind != NODE_MAP)
			return fail_element(check, element);
		status = config_file_each_pair(element, check_pair, check);
	}
	return status;
}

static int check_pair(const struct node *key, const struct node *value, void *context)
{
	struct key_check *check = context;
	struct builder text = { .pool = check->pool };
	struct scalar scalar;

	yaml_node_scalar(key, &scalar, NULL);
	if (scalar.type != SCALAR_STRING) {
		yaml_node_print(&text, key);
		return envoy_fail(check->error, WEIR_EINVAL,
				  "config error, key is not of type string: %.*s",
				  TEXT_ARGUMENTS(builder_text(&text)));
	}
	if (!is_known(check, key->text))
		return envoy_fail(check->error, WEIR_EINVAL, "config error, unknown key '%.*s'",
				  TEXT_ARGUMENTS(key->text));
	if (is_metadata(check, key->text))
		return WEIR_OK;
	return check_under(check, value);
}

int config_file_check_keys(struct node *root, const struct file_options *options,
			   struct pool *pool, struct weir_error *error)
{
	struct key_check check = { options, pool, error };
	const struct node *target = config_file_target(root);

	if (target->kind != NODE_MAP)
		return WEIR_OK;
	return config_file_each_pair(target, check_pair, &check);
}
