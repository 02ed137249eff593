/* SPDX-License-Identifier: Apache-2.0 */
/*
 * value.h - what a google.protobuf.Value can hold, without protobuf: a configuration's
 * metadata, and the dynamic metadata of an answer.
 */
#ifndef WEIR_SERVE_VALUE_H
#define WEIR_SERVE_VALUE_H

#include "serve/envoy/pool.h"

enum value_kind {
	VALUE_NULL,
	VALUE_BOOL,
	VALUE_NUMBER,
	VALUE_STRING,
	VALUE_LIST,
	VALUE_STRUCT,
};

struct value {
	enum value_kind kind;
	bool boolean;
	double number;
	struct text string;
	size_t count;           /* of fields */
	struct value_field *first, *last;       /* a list's have no names */
};

struct value_field {
	struct text name;
	struct value value;
	struct value_field *next;
};

/* Add a field to a struct, or an element to a list (NAME is empty).  NULL: no memory.
 * The value is null until the caller says what it is. */
struct value *value_add(struct value *parent, struct text name, struct pool *pool);

/* The value of the field NAME, or NULL. */
struct value *value_find(const struct value *parent, struct text name);

/* Add to INTO the fields of FROM that it has not; where both have a struct, its fields
 * likewise.  Nothing of FROM is shared.  False: no memory. */
bool value_merge(struct value *into, const struct value *from, struct pool *pool);

/* A copy that shares nothing.  False: no memory. */
bool value_copy(struct value *into, const struct value *from, struct pool *pool);

#endif
