/* SPDX-License-Identifier: Apache-2.0 */
#include "src/yaml_reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "shm/error.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Room for a value in a message; longer ones are cut. */
#define QUOTED_SIZE 80

/* Of a longer source its end is shown, so that the rest of a message has room. */
#define SOURCE_SHOWN 200

/* ---- Errors ------------------------------------------------------------ */

/* MARK counts from 0, as libyaml does; people and editors count from 1. */
int weir_yaml_fail_at(struct yaml_reader *reader, yaml_mark_t mark, const char *format, ...)
{
	char message[sizeof(reader->error->message)];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	return weir_fail(reader->error, WEIR_EINVAL, "%s%s:%zu:%zu: %s", reader->source_cut,
			 reader->source, mark.line + 1, mark.column + 1, message);
}

int weir_yaml_fail_memory(struct yaml_reader *reader)
{
	return weir_fail(reader->error, WEIR_ENOMEM,
			 "%s%s: no memory to read it; free some and try again",
			 reader->source_cut, reader->source);
}

static yaml_mark_t mark_of_offset(const struct yaml_reader *reader, size_t offset)
{
	yaml_mark_t mark = { 0 };

	for (size_t i = 0; i < offset; i++) {
		bool continuation = ((unsigned char)reader->text[i] & 0xc0) == 0x80;

		if (reader->text[i] == '\n') {
			mark.line++;
			mark.column = 0;
		} else if (!continuation) {
			mark.column++;
		}
	}
	return mark;
}

/* libyaml tells by offset only where bytes are not UTF-8. */
static int fail_bytes(struct yaml_reader *reader)
{
	size_t offset = reader->parser.problem_offset;

	if (offset >= reader->length)
		offset = reader->length - 1;
	return weir_yaml_fail_at(reader, mark_of_offset(reader, offset),
				 "%s (byte 0x%02x); write UTF-8 text without control characters",
				 reader->parser.problem, (unsigned char)reader->text[offset]);
}

static int fail_syntax(struct yaml_reader *reader)
{
	const yaml_parser_t *parser = &reader->parser;

	if (parser->error == YAML_MEMORY_ERROR)
		return weir_yaml_fail_memory(reader);
	if (parser->error == YAML_READER_ERROR)
		return fail_bytes(reader);
	return weir_yaml_fail_at(reader, parser->problem_mark,
				 "this is not YAML: %s%s%s; check indentation, quotes and brackets",
				 parser->context ? parser->context : "",
				 parser->context ? ", " : "",
				 parser->problem ? parser->problem : "unknown error");
}

int weir_yaml_next(struct yaml_reader *reader)
{
	yaml_event_delete(&reader->event);
	/* On failure libyaml leaves a zeroed event, which may be deleted again. */
	return yaml_parser_parse(&reader->parser, &reader->event) ? WEIR_OK : fail_syntax(reader);
}

static const char *event_kind(const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return event->data.scalar.length > 0 ? "a single value" : "empty";
	case YAML_SEQUENCE_START_EVENT:
		return "a list";
	case YAML_MAPPING_START_EVENT:
		return "a mapping";
	default:
		return "nothing";
	}
}

static int fail_unsupported(struct yaml_reader *reader, const char *what, const yaml_char_t *value,
			    const char *instead)
{
	const char *text = (const char *)value;
	char quoted[QUOTED_SIZE];

	return weir_yaml_fail(reader, "%s%s is not supported; %s", what,
			      weir_quote(text, strlen(text), quoted, sizeof(quoted)), instead);
}

int weir_yaml_expect(struct yaml_reader *reader, yaml_event_type_t type, const char *what,
		     const char *wanted)
{
	const yaml_event_t *event = &reader->event;
	const yaml_char_t *anchor = NULL, *tag = NULL;

	switch (event->type) {
	case YAML_ALIAS_EVENT:
		return fail_unsupported(reader, "the alias *", event->data.alias.anchor,
					"write the value out");
	case YAML_SCALAR_EVENT:
		anchor = event->data.scalar.anchor;
		tag = event->data.scalar.tag;
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = event->data.sequence_start.anchor;
		tag = event->data.sequence_start.tag;
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = event->data.mapping_start.anchor;
		tag = event->data.mapping_start.tag;
		break;
	default:
		break;
	}
	if (anchor)
		return fail_unsupported(reader, "the anchor &", anchor, "remove it");
	if (tag)
		return fail_unsupported(reader, "the tag ", tag, "remove it");
	if (event->type != type)
		return weir_yaml_fail(reader, "%s is %s; write %s", what, event_kind(event),
				      wanted);
	return WEIR_OK;
}

/* ---- Mappings by table ------------------------------------------------- */

/* The index of the field that the event names, or negative. */
static int read_key(struct yaml_reader *reader, const struct yaml_field *fields, size_t count,
		    const char *what)
{
	const char *text;
	char known[160] = "";
	char quoted[QUOTED_SIZE];
	int status = weir_yaml_expect(reader, YAML_SCALAR_EVENT, "a key", "a word");
	size_t length, used = 0;

	if (status < 0)
		return status;
	text = weir_yaml_text(reader);
	length = weir_yaml_length(reader);
	for (size_t i = 0; i < count; i++)
		if (strlen(fields[i].name) == length && memcmp(fields[i].name, text, length) == 0)
			return (int)i;

	for (size_t i = 0; i < count && used < sizeof(known); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
					 i == 0 ? "" : i + 1 < count ? ", " : " or ",
					 fields[i].name);
	return weir_yaml_fail(reader, "the key \"%s\" is not known in %s; write %s",
			      weir_quote(text, length, quoted, sizeof(quoted)), what, known);
}

static int read_value(struct yaml_reader *reader, const struct yaml_field *field, void *object)
{
	struct weir_error reason;
	int status;

	if (field->node)
		return field->node(reader, object);
	status = weir_yaml_expect(reader, YAML_SCALAR_EVENT, field->name, field->example);
	if (status < 0)
		return status;
	if (field->scalar(weir_yaml_text(reader), weir_yaml_length(reader), object, &reason) < 0)
		return weir_yaml_fail(reader, "%s", reason.message);
	return weir_yaml_next(reader);
}

int weir_yaml_mapping(struct yaml_reader *reader, const struct yaml_field *fields, size_t count,
		      const char *what, const char *example, void *object)
{
	yaml_mark_t start = reader->event.start_mark;
	unsigned seen = 0;
	int status = weir_yaml_expect(reader, YAML_MAPPING_START_EVENT, what, example);

	if (status == WEIR_OK)
		status = weir_yaml_next(reader);
	while (status == WEIR_OK && reader->event.type != YAML_MAPPING_END_EVENT) {
		int key = read_key(reader, fields, count, what);

		if (key < 0)
			return key;
		if (seen & 1u << key)
			return weir_yaml_fail(reader, "the key \"%s\" stands twice in %s; keep one",
					      fields[key].name, what);
		seen |= 1u << key;
		status = weir_yaml_next(reader);
		if (status == WEIR_OK)
			status = read_value(reader, &fields[key], object);
	}
	if (status < 0)
		return status;

	for (size_t i = 0; i < count; i++)
		if (fields[i].required && !(seen & 1u << i))
			return weir_yaml_fail_at(reader, start,
						 "%s has no key \"%s\"; add it, such as \"%s: %s\"",
						 what, fields[i].name, fields[i].name,
						 fields[i].example);
	return weir_yaml_next(reader);
}

/* ---- The stream -------------------------------------------------------- */

/* Does a line begin at OFFSET?  NEL, LS and PS end lines too, in YAML 1.1. */
static bool begins_line(const struct yaml_reader *reader, size_t offset)
{
	static const char *const breaks[] = {
		"\n", "\r", "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9",
	};

	for (size_t i = 0; i < LENGTH(breaks); i++) {
		size_t size = strlen(breaks[i]);

		if (offset >= size && memcmp(reader->text + offset - size, breaks[i], size) == 0)
			return true;
	}
	return offset == 0;
}

/* Refuse %TAG before libyaml sees it.  It compares each with all that came
 * before: a file of 4 MiB of them would take minutes. */
static int refuse_tag_directives(struct yaml_reader *reader)
{
	static const char directive[] = "%TAG";
	const char *at = reader->text, *end = reader->text + reader->length;

	while ((at = memmem(at, (size_t)(end - at), directive, sizeof(directive) - 1))) {
		size_t offset = (size_t)(at - reader->text);

		if (begins_line(reader, offset))
			return weir_yaml_fail_at(reader, mark_of_offset(reader, offset),
						 "the directive %s is not supported; remove it",
						 directive);
		at++;
	}
	return WEIR_OK;
}

static int read_stream(struct yaml_reader *reader, const struct yaml_field *fields, size_t count,
		       const char *what, const char *example, void *object)
{
	int status = weir_yaml_next(reader);    /* the stream's start */

	if (status == WEIR_OK)
		status = weir_yaml_next(reader);
	if (status < 0)
		return status;
	if (reader->event.type == YAML_STREAM_END_EVENT)
		return weir_yaml_fail(reader, "%s is empty; write %s", what, example);

	status = weir_yaml_next(reader);        /* the document's start */
	if (status == WEIR_OK)
		status = weir_yaml_mapping(reader, fields, count, what, example, object);
	if (status == WEIR_OK)
		status = weir_yaml_next(reader);    /* the document's end */
	if (status < 0)
		return status;
	if (reader->event.type != YAML_STREAM_END_EVENT)
		return weir_yaml_fail(reader,
				      "a second document begins here; put all into the first");
	return WEIR_OK;
}

int weir_yaml_read(struct yaml_reader *reader, const struct yaml_field *fields, size_t count,
		   const char *what, const char *example, void *object)
{
	size_t source_length = strlen(reader->source);
	int status;

	reader->source_cut = "";
	if (source_length > SOURCE_SHOWN) {
		reader->source += source_length - SOURCE_SHOWN;
		reader->source_cut = "...";
	}
	if (reader->length > YAML_SIZE_MAX)
		return weir_fail(reader->error, WEIR_EINVAL,
				 "%s%s is larger than %u bytes; split it", reader->source_cut,
				 reader->source, YAML_SIZE_MAX);
	/* Told the encoding, libyaml takes a byte order mark for indentation. */
	if (reader->length >= 3 && memcmp(reader->text, "\xef\xbb\xbf", 3) == 0) {
		reader->text += 3;
		reader->length -= 3;
	}
	status = refuse_tag_directives(reader);
	if (status < 0)
		return status;

	if (!yaml_parser_initialize(&reader->parser))
		return weir_yaml_fail_memory(reader);
	yaml_parser_set_encoding(&reader->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&reader->parser, (const unsigned char *)reader->text,
				     reader->length);

	status = read_stream(reader, fields, count, what, example, object);

	yaml_event_delete(&reader->event);
	yaml_parser_delete(&reader->parser);
	return status;
}
