/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yaml_node.h - a YAML document as a tree, and what its scalars mean.
 *
 * Policy files (src/yaml_reader.h) are read strictly, event by event.  Files of
 * envoyproxy/ratelimit are read as that program reads them, so that a file means here
 * what it means there and what is refused there is refused here, in the same words.  It
 * uses go-yaml 2, a port of libyaml: the syntax and its errors are libyaml's, and the
 * rules for types are YAML 1.1's ("yes" is true, 010 is 8), with aliases and merges.
 */
#ifndef WEIR_SERVE_YAML_NODE_H
#define WEIR_SERVE_YAML_NODE_H

#include "serve/envoy/pool.h"
#include "weir.h"

/* Bounds of one file. */
#define YAML_NODE_BYTES_MAX (16u << 20)
#define YAML_NODE_DEPTH_MAX 256u
#define YAML_NODE_ANCHORS_MAX 1024u

enum node_kind {
	NODE_SCALAR,
	NODE_LIST,
	NODE_MAP,
	NODE_ALIAS,
};

struct node {
	enum node_kind kind;
	bool plain;             /* a scalar whose type is guessed: no quotes, no tag */
	bool entered;           /* an alias that is being followed */
	uint32_t line;          /* counted from 1 */
	uint32_t count;         /* of children */
	const char *tag;        /* in full, "tag:yaml.org,2002:str"; NULL: none */
	struct text text;       /* a scalar's text, or the name of an alias */
	struct node *target;    /* of an alias */
	struct node *first;     /* children: of a map keys and values in turn */
	struct node *next;      /* the next child of the same parent */
};

/* Read the first document of TEXT into *ROOT, which is NULL if there is none.  Errors:
 * WEIR_EINVAL, with a message that begins with "yaml: "; WEIR_ENOMEM. */
int yaml_node_read(struct text text, struct pool *pool, struct node **root,
		   struct weir_error *error);

enum scalar_type {
	SCALAR_NULL,
	SCALAR_BOOL,
	SCALAR_INT,
	SCALAR_UINT,            /* above INT64_MAX */
	SCALAR_FLOAT,
	SCALAR_STRING,
};

struct scalar {
	enum scalar_type type;
	bool boolean;
	int64_t integer;
	uint64_t natural;
	double real;
};

/* What a scalar is.  Errors: WEIR_EINVAL, if its text is none of its tag's. */
int yaml_node_scalar(const struct node *node, struct scalar *scalar, struct weir_error *error);

/* Its type's tag, short: "!!int". */
const char *yaml_node_tag(const struct node *node, const struct scalar *scalar);

/* Is it null in one of the spellings that leave the reader's value alone? */
bool yaml_node_is_null(const struct node *node);

/* Is it the key "<<", whose value's pairs belong to its map? */
bool yaml_node_is_merge(const struct node *node);

/* Write a value as Go's %v does. */
void yaml_node_print(struct builder *builder, const struct node *node);

#endif
