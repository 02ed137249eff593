/* SPDX-License-Identifier: Apache-2.0 */
/* config_fields.c - from a tree whose keys are known to the fields of a file. */
#include "serve/envoy/config_file.h"
#include "serve/envoy/failure.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Reading ------------------------------------------------------------------- */

struct field_reader {
	const struct file_options *options;
	struct pool *pool;
	struct builder mistakes;        /* values of the wrong type, all of them */
	bool no_memory;
};

/* A field of a file, as go-yaml knows it. */
struct field {
	const char *key;
	void (*read)(struct field_reader *reader, const struct node *value, void *object);
	size_t offset;
	bool extension;
};

/* The object's type in Go, for messages. */
struct type {
	const char *name;
	const struct field *fields;
	size_t field_count;
	size_t size;
};

static void *take(struct field_reader *reader, size_t count, size_t size)
{
	void *memory = pool_array(reader->pool, count ? count : 1, size);

	reader->no_memory |= !memory;
	return memory;
}

/* NODE cannot be a TYPE. */
static void mistake(struct field_reader *reader, const struct node *node, const char *type)
{
	struct scalar scalar;

	builder_print(&reader->mistakes, "%s line %u: cannot unmarshal ",
		      reader->mistakes.length > 0 ? ";" : "", node->line);
	if (node->kind == NODE_SCALAR) {
		bool cut = node->text.length > 10;

		yaml_node_scalar(node, &scalar, NULL);
		builder_print(&reader->mistakes, "%s `%.*s%s`", yaml_node_tag(node, &scalar),
			      cut ? 7 : (int)node->text.length, node->text.bytes,
			      cut ? "..." : "");
	} else {
		builder_print(&reader->mistakes, "%s",
			      node->kind == NODE_LIST ? "!!seq" : "!!map");
	}
	builder_print(&reader->mistakes, " into %s", type);
}

/* The value of a scalar, or a mistake.  A null gives a field its zero back. */
static bool read_scalar(struct field_reader *reader, const struct node *node, const char *type,
			struct scalar *scalar)
{
	if (node->kind != NODE_SCALAR) {
		mistake(reader, node, type);
		return false;
	}
	yaml_node_scalar(node, scalar, NULL);
	return true;
}

static void read_text(struct field_reader *reader, const struct node *node, void *object)
{
	struct text *text = object;
	struct scalar scalar;

	if (read_scalar(reader, node, "string", &scalar))
		*text = scalar.type == SCALAR_NULL ? TEXT("") : node->text;
}

static void read_bool(struct field_reader *reader, const struct node *node, void *object)
{
	bool *flag = object;
	struct scalar scalar;

	if (!read_scalar(reader, node, "bool", &scalar))
		return;
	if (scalar.type == SCALAR_BOOL || scalar.type == SCALAR_NULL)
		*flag = scalar.type == SCALAR_BOOL && scalar.boolean;
	else
		mistake(reader, node, "bool");
}

static void read_number(struct field_reader *reader, const struct node *node, void *object)
{
	uint32_t *number = object;
	struct scalar scalar;

	if (!read_scalar(reader, node, "uint32", &scalar))
		return;
	if (scalar.type == SCALAR_NULL)
		*number = 0;
	else if (scalar.type == SCALAR_INT && scalar.integer >= 0 && scalar.integer <= UINT32_MAX)
		*number = (uint32_t)scalar.integer;
	else
		mistake(reader, node, "uint32");
}

struct object_context {
	struct field_reader *reader;
	const struct type *type;
	char *object;
};

static int read_pair(const struct node *key, const struct node *value, void *context)
{
	struct object_context *into = context;

	for (size_t i = 0; i < into->type->field_count; i++) {
		const struct field *field = &into->type->fields[i];

		if (field->extension && !into->reader->options->extensions)
			continue;
		if (text_is(key->text, text_of(field->key)))
			field->read(into->reader, value, into->object + field->offset);
	}
	return into->reader->no_memory ? WEIR_ENOMEM : WEIR_OK;
}

/* Read a map into OBJECT, which is zero or was read before.  A null empties it. */
static void read_object(struct field_reader *reader, const struct node *node,
			const struct type *type, void *object)
{
	struct object_context context = { reader, type, object };
	struct scalar scalar = { .type = SCALAR_STRING };

	if (node->kind == NODE_SCALAR)
		yaml_node_scalar(node, &scalar, NULL);
	if (node->kind == NODE_MAP)
		config_file_each_pair(node, read_pair, &context);
	else if (scalar.type == SCALAR_NULL)
		memset(object, 0, type->size);
	else
		mistake(reader, node, type->name);
}

/* Read a list of objects.  NAME is the list's type. */
static void *read_list(struct field_reader *reader, const struct node *node,
		       const struct type *type, const char *name, size_t *count)
{
	struct scalar scalar;
	char *objects, *object;

	*count = 0;
	if (node->kind == NODE_SCALAR && read_scalar(reader, node, name, &scalar) &&
	    scalar.type == SCALAR_NULL)
		return NULL;
	if (node->kind != NODE_LIST) {
		mistake(reader, node, name);
		return NULL;
	}
	objects = object = take(reader, node->count, type->size);
	if (!objects)
		return NULL;
	for (const struct node *child = node->first; child && !reader->no_memory;
	     child = child->next, object += type->size)
		read_object(reader, config_file_target(child), type, object);
	*count = node->count;
	return objects;
}

/* ---- Metadata ------------------------------------------------------------------ */

/* In one map, since the fields of a struct are a list. */
#define METADATA_FIELDS_MAX 256u

static void read_value(struct field_reader *reader, const struct node *node, struct value *value);

struct value_context {
	struct field_reader *reader;
	struct value *parent;
	bool whole;             /* the map itself, whose keys are taken as they are written */
};

/* The last pair of a key counts. */
static int read_value_pair(const struct node *key, const struct node *node, void *context)
{
	struct value_context *into = context;
	struct field_reader *reader = into->reader;
	struct builder printed = { .pool = reader->pool };
	struct text name = key->text;
	struct value *value;

	if (!into->whole) {
		yaml_node_print(&printed, key);
		name = builder_text(&printed);
	}
	if (into->parent->count == METADATA_FIELDS_MAX) {
		mistake(reader, node, "metadata, whose maps have at most 256 fields");
		return WEIR_EINVAL;
	}
	value = value_find(into->parent, name);
	if (!value)
		value = value_add(into->parent, name, reader->pool);
	if (!value || !name.bytes) {
		reader->no_memory = true;
		return WEIR_ENOMEM;
	}
	*value = (struct value){ 0 };
	read_value(reader, node, value);
	return reader->no_memory ? WEIR_ENOMEM : WEIR_OK;
}

static void read_value_scalar(const struct node *node, struct value *value)
{
	struct scalar scalar;

	yaml_node_scalar(node, &scalar, NULL);
	switch (scalar.type) {
	case SCALAR_NULL:
		value->kind = VALUE_NULL;
		return;
	case SCALAR_BOOL:
		value->kind = VALUE_BOOL;
		value->boolean = scalar.boolean;
		return;
	case SCALAR_STRING:
		value->kind = VALUE_STRING;
		value->string = node->text;
		return;
	default:
		value->kind = VALUE_NUMBER;
		value->number = scalar.type == SCALAR_INT ? (double)scalar.integer :
				scalar.type == SCALAR_UINT ? (double)scalar.natural :
							     scalar.real;
		return;
	}
}

static void read_value(struct field_reader *reader, const struct node *node, struct value *value)
{
	struct value_context context = { reader, value, false };

	switch (node->kind) {
	case NODE_MAP:
		value->kind = VALUE_STRUCT;
		config_file_each_pair(node, read_value_pair, &context);
		return;
	case NODE_LIST:
		value->kind = VALUE_LIST;
		for (const struct node *child = node->first; child; child = child->next) {
			struct value *element = value_add(value, TEXT(""), reader->pool);

			reader->no_memory |= !element;
			if (reader->no_memory)
				return;
			read_value(reader, config_file_target(child), element);
		}
		return;
	default:
		read_value_scalar(node, value);
		return;
	}
}

static void read_metadata(struct field_reader *reader, const struct node *node, void *object)
{
	struct value **metadata = object;
	struct value_context context = { reader, *metadata, true };
	struct scalar scalar;

	if (reader->options->release == ENVOY_2026_01)
		return;
	if (node->kind == NODE_SCALAR && read_scalar(reader, node, "", &scalar) &&
	    scalar.type == SCALAR_NULL) {
		*metadata = NULL;
		return;
	}
	if (node->kind != NODE_MAP) {
		mistake(reader, node, "map[string]interface {}");
		return;
	}
	if (!*metadata)
		context.parent = *metadata = take(reader, 1, sizeof(**metadata));
	if (!*metadata)
		return;
	(*metadata)->kind = VALUE_STRUCT;
	config_file_each_pair(node, read_value_pair, &context);
}

/* ---- Fields -------------------------------------------------------------------- */

static const struct field replaces_fields[] = {
	{ "name", read_text, offsetof(struct file_replaces, name) },
};

static const struct type replaces_type = {
	"config.yamlReplaces", replaces_fields, LENGTH(replaces_fields),
	sizeof(struct file_replaces),
};

/* Its object is the rate limit. */
static void read_replaces(struct field_reader *reader, const struct node *node, void *object)
{
	struct file_rate_limit *limit = object;

	limit->replaces = read_list(reader, node, &replaces_type, "[]config.yamlReplaces",
				    &limit->replaces_count);
}

static void read_multiplier(struct field_reader *reader, const struct node *node, void *object)
{
	struct file_rate_limit *limit = object;

	limit->has_multiplier = true;
	read_number(reader, node, &limit->unit_multiplier);
}

static const struct field rate_limit_fields[] = {
	{ "requests_per_unit", read_number, offsetof(struct file_rate_limit, requests_per_unit) },
	{ "unit", read_text, offsetof(struct file_rate_limit, unit) },
	{ "unlimited", read_bool, offsetof(struct file_rate_limit, unlimited) },
	{ "name", read_text, offsetof(struct file_rate_limit, name) },
	{ "replaces", read_replaces, 0 },
	{ "unit_multiplier", read_multiplier, 0, true },
	{ "algorithm", read_text, offsetof(struct file_rate_limit, algorithm), true },
	{ "burst", read_number, offsetof(struct file_rate_limit, burst), true },
};

static const struct type rate_limit_type = {
	"config.YamlRateLimit", rate_limit_fields, LENGTH(rate_limit_fields),
	sizeof(struct file_rate_limit),
};

/* A second one of a descriptor is read over the first. */
static void read_rate_limit(struct field_reader *reader, const struct node *node, void *object)
{
	struct file_rate_limit **limit = object;

	if (yaml_node_is_null(node)) {
		*limit = NULL;
		return;
	}
	if (!*limit)
		*limit = take(reader, 1, sizeof(**limit));
	if (*limit)
		read_object(reader, node, &rate_limit_type, *limit);
}

static void read_descriptors(struct field_reader *reader, const struct node *node, void *object);
static void read_roots(struct field_reader *reader, const struct node *node, void *object);

static const struct field descriptor_fields[] = {
	{ "key", read_text, offsetof(struct file_descriptor, key) },
	{ "value", read_text, offsetof(struct file_descriptor, value) },
	{ "rate_limit", read_rate_limit, offsetof(struct file_descriptor, rate_limit) },
	{ "descriptors", read_descriptors, 0 },
	{ "shadow_mode", read_bool, offsetof(struct file_descriptor, shadow_mode) },
	{ "quota_mode", read_bool, offsetof(struct file_descriptor, quota_mode) },
	{ "detailed_metric", read_bool, offsetof(struct file_descriptor, detailed_metric) },
	{ "value_to_metric", read_bool, offsetof(struct file_descriptor, value_to_metric) },
	{ "share_threshold", read_bool, offsetof(struct file_descriptor, share_threshold) },
	{ "metadata", read_metadata, offsetof(struct file_descriptor, metadata) },
};

static const struct type descriptor_type = {
	"config.YamlDescriptor", descriptor_fields, LENGTH(descriptor_fields),
	sizeof(struct file_descriptor),
};

#define DESCRIPTORS "[]config.YamlDescriptor"

/* The object is the descriptor that has them. */
static void read_descriptors(struct field_reader *reader, const struct node *node, void *object)
{
	struct file_descriptor *parent = object;

	parent->descriptors = read_list(reader, node, &descriptor_type, DESCRIPTORS,
					&parent->descriptor_count);
}

/* The object is the file. */
static void read_roots(struct field_reader *reader, const struct node *node, void *object)
{
	struct file_root *root = object;

	root->descriptors = read_list(reader, node, &descriptor_type, DESCRIPTORS,
				      &root->descriptor_count);
}

static const struct field root_fields[] = {
	{ "domain", read_text, offsetof(struct file_root, domain) },
	{ "descriptors", read_roots, 0 },
};

static const struct type root_type = {
	"config.YamlRoot", root_fields, LENGTH(root_fields), sizeof(struct file_root),
};

/* ---- Files --------------------------------------------------------------------- */

static int fail_memory(struct weir_error *error)
{
	return envoy_fail(error, WEIR_ENOMEM, "no memory to read it; free some and try again");
}

static int read_fields(const struct node *node, const struct file_options *options,
		       struct pool *pool, struct file_root *root, struct weir_error *error)
{
	struct field_reader reader = {
		.options = options,
		.pool = pool,
		.mistakes = { .pool = pool },
	};
	struct text mistakes;

	read_object(&reader, config_file_target(node), &root_type, root);
	mistakes = builder_text(&reader.mistakes);
	if (reader.no_memory || !mistakes.bytes)
		return fail_memory(error);
	if (mistakes.length > 0)
		return envoy_fail(error, WEIR_EINVAL,
				  "error loading config file: yaml: unmarshal errors:%.*s",
				  TEXT_ARGUMENTS(mistakes));
	return envoy_ok(error);
}

/* Put what was wrong with loading in front, as envoyproxy/ratelimit does. */
static int loading(struct weir_error *error, int status)
{
	if (status == WEIR_EINVAL && error)
		return envoy_fail(error, status, "error loading config file: %s", error->message);
	return status;
}

int config_file_read(struct text text, const struct file_options *options, struct pool *pool,
		     struct file_root *root, struct weir_error *error)
{
	struct node *node;
	int status = yaml_node_read(text, pool, &node, error);

	*root = (struct file_root){ { "", 0 }, NULL, 0 };
	if (status < 0)
		return loading(error, status);
	if (!node)
		return envoy_ok(error);
	status = config_file_check_values(node, pool, error);
	if (status < 0)
		return loading(error, status);
	status = config_file_check_keys(node, options, pool, error);
	return status < 0 ? status : read_fields(node, options, pool, root, error);
}
