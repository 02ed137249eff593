/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_node.c - from text to nodes.  What scalars mean is in yaml_scalar.c. */
#include "serve/envoy/yaml_node.h"

#include <yaml.h>

#include "serve/envoy/failure.h"

struct anchor {
	const char *name;
	struct node *node;
};

struct node_parser {
	yaml_parser_t yaml;
	yaml_event_t event;
	struct pool *pool;
	struct weir_error *error;
	struct anchor *anchors; /* room for YAML_NODE_ANCHORS_MAX, once there is one */
	uint32_t anchor_count;
	uint32_t depth;
};

static int fail_memory(struct weir_error *error)
{
	return envoy_fail(error, WEIR_ENOMEM, "no memory to read it; free some and try again");
}

/* The line as go-yaml tells it: counted from 0 but where the scanner failed, and left
 * out if it is 0. */
static int fail_syntax(struct node_parser *parser)
{
	const yaml_parser_t *yaml = &parser->yaml;
	const char *problem = yaml->problem ? yaml->problem :
					      "unknown problem parsing YAML content";
	size_t line = yaml->problem_mark.line;

	if (yaml->error == YAML_MEMORY_ERROR)
		return fail_memory(parser->error);
	if (line != 0)
		line += yaml->error == YAML_SCANNER_ERROR;
	else
		line = yaml->context_mark.line;
	if (line == 0)
		return envoy_fail(parser->error, WEIR_EINVAL, "yaml: %s", problem);
	return envoy_fail(parser->error, WEIR_EINVAL, "yaml: line %zu: %s", line, problem);
}

static int next_event(struct node_parser *parser)
{
	yaml_event_delete(&parser->event);
	return yaml_parser_parse(&parser->yaml, &parser->event) ? WEIR_OK : fail_syntax(parser);
}

static struct text copy_string(struct node_parser *parser, const yaml_char_t *string)
{
	return pool_copy(parser->pool, text_of((const char *)string));
}

static int keep_anchor(struct node_parser *parser, const yaml_char_t *name, struct node *node)
{
	struct anchor *anchor;

	if (!name)
		return WEIR_OK;
	if (!parser->anchors)
		parser->anchors = pool_array(parser->pool, YAML_NODE_ANCHORS_MAX,
					      sizeof(*parser->anchors));
	if (!parser->anchors)
		return fail_memory(parser->error);
	if (parser->anchor_count == YAML_NODE_ANCHORS_MAX)
		return envoy_fail(parser->error, WEIR_EINVAL,
				  "yaml: line %u: more than %u anchors; write some values out",
				  node->line, YAML_NODE_ANCHORS_MAX);
	anchor = &parser->anchors[parser->anchor_count++];
	anchor->name = copy_string(parser, name).bytes;
	anchor->node = node;
	return anchor->name ? WEIR_OK : fail_memory(parser->error);
}

static int read_tag(struct node_parser *parser, const yaml_char_t *tag, struct node *node)
{
	if (!tag || tag[0] == '\0')
		return WEIR_OK;
	node->tag = copy_string(parser, tag).bytes;
	return node->tag ? WEIR_OK : fail_memory(parser->error);
}

static int read_scalar(struct node_parser *parser, struct node *node)
{
	struct text text = {
		(const char *)parser->event.data.scalar.value,
		parser->event.data.scalar.length,
	};
	int status;

	node->kind = NODE_SCALAR;
	node->plain = parser->event.data.scalar.plain_implicit;
	node->text = pool_copy(parser->pool, text);
	if (!node->text.bytes)
		return fail_memory(parser->error);
	status = read_tag(parser, parser->event.data.scalar.tag, node);
	if (status == WEIR_OK)
		status = keep_anchor(parser, parser->event.data.scalar.anchor, node);
	return status;
}

/* The newest anchor of a name counts. */
static int read_alias(struct node_parser *parser, struct node *node)
{
	node->kind = NODE_ALIAS;
	node->text = copy_string(parser, parser->event.data.alias.anchor);
	if (!node->text.bytes)
		return fail_memory(parser->error);
	for (uint32_t i = parser->anchor_count; i-- > 0 && !node->target;) {
		if (strcmp(parser->anchors[i].name, node->text.bytes) == 0)
			node->target = parser->anchors[i].node;
	}
	if (!node->target)
		return envoy_fail(parser->error, WEIR_EINVAL,
				  "yaml: unknown anchor '%s' referenced", node->text.bytes);
	return WEIR_OK;
}

static int read_node(struct node_parser *parser, struct node **result);

/* The events up to END are children. */
static int read_children(struct node_parser *parser, struct node *node, yaml_event_type_t end)
{
	struct node **link = &node->first;
	int status;

	if (++parser->depth > YAML_NODE_DEPTH_MAX)
		return envoy_fail(parser->error, WEIR_EINVAL,
				  "yaml: line %u: more than %u levels; write it flatter",
				  node->line, YAML_NODE_DEPTH_MAX);
	for (;;) {
		status = next_event(parser);
		if (status < 0 || parser->event.type == end)
			break;
		status = read_node(parser, link);
		if (status < 0)
			break;
		node->count++;
		link = &(*link)->next;
	}
	parser->depth--;
	return status;
}

/* Read the node that the event begins, up to its last event. */
static int read_node(struct node_parser *parser, struct node **result)
{
	yaml_event_t *event = &parser->event;
	struct node *node = pool_take(parser->pool, sizeof(*node));
	int status = WEIR_OK;

	if (!node)
		return fail_memory(parser->error);
	*result = node;
	node->line = (uint32_t)event->start_mark.line + 1;

	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return read_scalar(parser, node);
	case YAML_ALIAS_EVENT:
		return read_alias(parser, node);
	case YAML_SEQUENCE_START_EVENT:
		node->kind = NODE_LIST;
		status = keep_anchor(parser, event->data.sequence_start.anchor, node);
		return status < 0 ? status : read_children(parser, node, YAML_SEQUENCE_END_EVENT);
	case YAML_MAPPING_START_EVENT:
		node->kind = NODE_MAP;
		status = keep_anchor(parser, event->data.mapping_start.anchor, node);
		return status < 0 ? status : read_children(parser, node, YAML_MAPPING_END_EVENT);
	default:
		return envoy_fail(parser->error, WEIR_EINVAL,
				  "yaml: line %u: a value is missing; write one", node->line);
	}
}

/* The stream's start, the document's, its node.  A second document is not looked at. */
static int read_document(struct node_parser *parser, struct node **root)
{
	int status = next_event(parser);

	if (status == WEIR_OK)
		status = next_event(parser);
	if (status < 0 || parser->event.type == YAML_STREAM_END_EVENT)
		return status;
	status = next_event(parser);
	if (status == WEIR_OK)
		status = read_node(parser, root);
	return status < 0 ? status : next_event(parser);
}

int yaml_node_read(struct text text, struct pool *pool, struct node **root,
		   struct weir_error *error)
{
	struct node_parser parser = { .pool = pool, .error = error };
	int status;

	*root = NULL;
	if (text.length > YAML_NODE_BYTES_MAX)
		return envoy_fail(error, WEIR_EINVAL,
				  "yaml: it has %zu bytes, more than %u; split it", text.length,
				  YAML_NODE_BYTES_MAX);
	if (!yaml_parser_initialize(&parser.yaml))
		return fail_memory(error);
	yaml_parser_set_input_string(&parser.yaml,
				     (const unsigned char *)(text.bytes ? text.bytes : ""),
				     text.length);
	status = read_document(&parser, root);
	yaml_event_delete(&parser.event);
	yaml_parser_delete(&parser.yaml);
	return status < 0 ? status : envoy_ok(error);
}
