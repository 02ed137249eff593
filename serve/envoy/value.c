/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/value.h"

struct value *value_add(struct value *parent, struct text name, struct pool *pool)
{
	struct value_field *field = pool_take(pool, sizeof(*field));

	if (!field)
		return NULL;
	field->name = name;
	if (parent->last)
		parent->last->next = field;
	else
		parent->first = field;
	parent->last = field;
	parent->count++;
	return &field->value;
}

struct value *value_find(const struct value *parent, struct text name)
{
	for (struct value_field *field = parent->first; field; field = field->next) {
		if (text_is(field->name, name))
			return &field->value;
	}
	return NULL;
}

static struct value *add_copy(struct value *parent, const struct value_field *field,
			      struct pool *pool)
{
	struct text name = pool_copy(pool, field->name);
	struct value *copy = name.bytes ? value_add(parent, name, pool) : NULL;

	return copy && value_copy(copy, &field->value, pool) ? copy : NULL;
}

bool value_copy(struct value *into, const struct value *from, struct pool *pool)
{
	*into = *from;
	into->count = 0;
	into->first = into->last = NULL;
	if (from->kind == VALUE_STRING) {
		into->string = pool_copy(pool, from->string);
		if (!into->string.bytes)
			return false;
	}
	for (const struct value_field *field = from->first; field; field = field->next) {
		if (!add_copy(into, field, pool))
			return false;
	}
	return true;
}

bool value_merge(struct value *into, const struct value *from, struct pool *pool)
{
	for (const struct value_field *field = from->first; field; field = field->next) {
		struct value *mine = value_find(into, field->name);

		if (!mine) {
			if (!add_copy(into, field, pool))
				return false;
		} else if (mine->kind == VALUE_STRUCT && field->value.kind == VALUE_STRUCT) {
			if (!value_merge(mine, &field->value, pool))
				return false;
		}
	}
	return true;
}
