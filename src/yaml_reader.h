/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yaml_reader.h - read YAML strictly, event by event, into structs.
 *
 * The caller describes each mapping by a table of fields.  Nothing is ever
 * skipped, so the tables bound the depth, and whatever they do not know is an
 * error at its line and column.  A key may stand once.  Anchors, aliases and
 * tags are refused: they make a small file mean a large one.
 *
 * A function that reads a node is called with the reader's event at the first
 * event of the node and returns with it at the first event after the node.
 * All return WEIR_OK or a negative status, with the reader's error filled in.
 */
#ifndef WEIR_YAML_READER_H
#define WEIR_YAML_READER_H

#include <yaml.h>

#include "weir.h"

#define YAML_SIZE_MAX (4u << 20)

struct yaml_reader {
	/* Set these, zero the rest, and call weir_yaml_read(). */
	const char *text;       /* not NULL */
	size_t length;
	const char *source;     /* names the text in messages */
	void *context;          /* for those who read nodes */
	struct weir_error *error;

	yaml_parser_t parser;
	yaml_event_t event;     /* the one to be read next */
	const char *source_cut; /* "..." if the start of source is left out */
};

/* A key that a mapping may have, and what reads its value into OBJECT: SCALAR
 * if that is a single value, else NODE.  A scalar's message needs no place: it
 * is put in front. */
struct yaml_field {
	const char *name;
	const char *example;    /* of a value */
	bool required;
	int (*scalar)(const char *text, size_t length, void *object, struct weir_error *error);
	int (*node)(struct yaml_reader *reader, void *object);
};

/* Read the whole text, one mapping called WHAT in messages (EXAMPLE says what to
 * write instead of something else), into OBJECT.  At most YAML_SIZE_MAX bytes. */
int weir_yaml_read(struct yaml_reader *reader, const struct yaml_field *fields, size_t count,
		   const char *what, const char *example, void *object);

/* Read a mapping within it. */
int weir_yaml_mapping(struct yaml_reader *reader, const struct yaml_field *fields, size_t count,
		      const char *what, const char *example, void *object);

/* Go on to the next event. */
int weir_yaml_next(struct yaml_reader *reader);

/* The event must begin a node of TYPE, called WHAT in messages; WANTED says what
 * to write instead. */
int weir_yaml_expect(struct yaml_reader *reader, yaml_event_type_t type, const char *what,
		     const char *wanted);

/* Fail with a message about the place MARK, or about the event. */
int weir_yaml_fail_at(struct yaml_reader *reader, yaml_mark_t mark, const char *format, ...)
	__attribute__((format(printf, 3, 4), cold));
#define weir_yaml_fail(reader, ...) \
	weir_yaml_fail_at(reader, (reader)->event.start_mark, __VA_ARGS__)

int weir_yaml_fail_memory(struct yaml_reader *reader);

/* The event's text, when it is a scalar.  A zero byte ends it, but it may have
 * some before its end: quoted YAML can say "\0". */
static inline const char *weir_yaml_text(const struct yaml_reader *reader)
{
	return (const char *)reader->event.data.scalar.value;
}

static inline size_t weir_yaml_length(const struct yaml_reader *reader)
{
	return reader->event.data.scalar.length;
}

#endif
