/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/descriptors.h"

#include <stdint.h>
#include <string.h>

/* ---- Fields of a message ----------------------------------------------- */

struct bytes {
	const unsigned char *at;
	const unsigned char *end;
};

struct field {
	uint64_t number;
	struct bytes value;             /* empty, if it is not of bytes */
};

static bool read_varint(struct bytes *bytes, uint64_t *value)
{
	*value = 0;
	for (unsigned shift = 0; shift < 64 && bytes->at < bytes->end; shift += 7) {
		unsigned char byte = *bytes->at++;

		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return true;
	}
	return false;
}

static bool skip(struct bytes *bytes, uint64_t length)
{
	if (length > (uint64_t)(bytes->end - bytes->at))
		return false;
	bytes->at += length;
	return true;
}

/* The next field; false at the end, or at what is no field. */
static bool next_field(struct bytes *message, struct field *field)
{
	uint64_t tag, value;

	if (!read_varint(message, &tag))
		return false;
	field->number = tag >> 3;
	field->value = (struct bytes){ NULL, NULL };
	switch (tag & 7) {
	case 0:
		return read_varint(message, &value);
	case 1:
		return skip(message, 8);
	case 2:
		if (!read_varint(message, &value))
			return false;
		field->value.at = message->at;
		if (!skip(message, value))
			return false;
		field->value.end = message->at;
		return true;
	case 5:
		return skip(message, 4);
	default:
		return false;
	}
}

/* The first field NUMBER of MESSAGE; empty if there is none. */
static struct bytes field_of(struct bytes message, uint64_t number)
{
	struct field field;

	while (next_field(&message, &field)) {
		if (field.number == number)
			return field.value;
	}
	return (struct bytes){ NULL, NULL };
}

static bool equal(struct bytes bytes, const char *text)
{
	size_t length = (size_t)(bytes.end - bytes.at);

	return strlen(text) == length && (length == 0 || memcmp(bytes.at, text, length) == 0);
}

/* What of SYMBOL follows NAME and a dot; NULL if it does not begin so. */
static const char *behind(const char *symbol, struct bytes name)
{
	size_t length = (size_t)(name.end - name.at);

	if (length == 0)
		return symbol;
	if (strncmp(symbol, (const char *)name.at, length) != 0 || symbol[length] != '.')
		return NULL;
	return symbol + length + 1;
}

/* ---- Symbols ----------------------------------------------------------- */

/* Field numbers of descriptor.proto. */
enum {
	SET_FILE = 1,
	FILE_NAME = 1, FILE_PACKAGE = 2, FILE_DEPENDENCY = 3, FILE_MESSAGE = 4, FILE_ENUM = 5,
	FILE_SERVICE = 6, FILE_EXTENSION = 7,
	MESSAGE_FIELD = 2, MESSAGE_NESTED = 3, MESSAGE_ENUM = 4, MESSAGE_EXTENSION = 6,
	MESSAGE_ONEOF = 8,
	ENUM_VALUE = 2,
	SERVICE_METHOD = 2,
	DECLARED_NAME = 1,              /* in all of them */
};

enum kind { KIND_FILE, KIND_MESSAGE, KIND_ENUM, KIND_SERVICE, KIND_LEAF, KIND_NONE };

/* What field NUMBER of a KIND declares. */
static enum kind kind_of(enum kind kind, uint64_t number)
{
	switch (kind) {
	case KIND_FILE:
		return number == FILE_MESSAGE	? KIND_MESSAGE :
		       number == FILE_ENUM	? KIND_ENUM :
		       number == FILE_SERVICE	? KIND_SERVICE :
		       number == FILE_EXTENSION ? KIND_LEAF : KIND_NONE;
	case KIND_MESSAGE:
		return number == MESSAGE_NESTED ? KIND_MESSAGE :
		       number == MESSAGE_ENUM	? KIND_ENUM :
		       number == MESSAGE_FIELD || number == MESSAGE_EXTENSION ||
		       number == MESSAGE_ONEOF	? KIND_LEAF : KIND_NONE;
	case KIND_ENUM:
		return number == ENUM_VALUE ? KIND_LEAF : KIND_NONE;
	case KIND_SERVICE:
		return number == SERVICE_METHOD ? KIND_LEAF : KIND_NONE;
	default:
		return KIND_NONE;
	}
}

/* Is SYMBOL declared in OUTER, which is of KIND?  As deep as messages are nested. */
static bool declares(struct bytes outer, enum kind kind, const char *symbol)
{
	struct field field;

	while (next_field(&outer, &field)) {
		enum kind inner = kind_of(kind, field.number);
		struct bytes name;
		const char *rest;

		if (inner == KIND_NONE)
			continue;
		name = field_of(field.value, DECLARED_NAME);
		if (equal(name, symbol))
			return true;
		rest = behind(symbol, name);
		if (rest && declares(field.value, inner, rest))
			return true;
		/* Values of an enum are declared beside it. */
		if (inner == KIND_ENUM && declares(field.value, inner, symbol))
			return true;
	}
	return false;
}

/* ---- Files ------------------------------------------------------------- */

static struct bytes content(struct descriptor_file file)
{
	return (struct bytes){ file.bytes, file.bytes + file.length };
}

static bool next_file(struct bytes *set, struct descriptor_file *file)
{
	struct field field;

	while (next_field(set, &field)) {
		if (field.number != SET_FILE)
			continue;
		file->bytes = field.value.at;
		file->length = (size_t)(field.value.end - field.value.at);
		return true;
	}
	return false;
}

static struct bytes all_files(void)
{
	return (struct bytes){ descriptor_set, descriptor_set + descriptor_set_size };
}

static bool is_named(struct descriptor_file file, struct bytes name)
{
	struct bytes own = field_of(content(file), FILE_NAME);
	size_t length = (size_t)(name.end - name.at);

	return (size_t)(own.end - own.at) == length && memcmp(own.at, name.at, length) == 0;
}

static bool find_named(struct bytes name, struct descriptor_file *file)
{
	struct bytes set = all_files();

	while (next_file(&set, file)) {
		if (is_named(*file, name))
			return true;
	}
	return false;
}

bool descriptor_file_named(const char *name, struct descriptor_file *file)
{
	const unsigned char *bytes = (const unsigned char *)name;

	return find_named((struct bytes){ bytes, bytes + strlen(name) }, file);
}

bool descriptor_file_of(const char *symbol, struct descriptor_file *file)
{
	struct bytes set = all_files();

	while (next_file(&set, file)) {
		const char *rest = behind(symbol, field_of(content(*file), FILE_PACKAGE));

		if (rest && declares(content(*file), KIND_FILE, rest))
			return true;
	}
	return false;
}

/* Add FILE unless it is there. */
static size_t add(struct descriptor_file file, struct descriptor_file *files, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (files[i].bytes == file.bytes)
			return count;
	}
	if (count < DESCRIPTOR_FILES_MAX)
		files[count++] = file;
	return count;
}

size_t descriptor_files(struct descriptor_file file,
			struct descriptor_file files[DESCRIPTOR_FILES_MAX])
{
	size_t count = add(file, files, 0);

	/* Each file adds what it imports behind it. */
	for (size_t i = 0; i < count; i++) {
		struct bytes rest = content(files[i]);
		struct descriptor_file imported;
		struct field field;

		while (next_field(&rest, &field)) {
			if (field.number == FILE_DEPENDENCY && find_named(field.value, &imported))
				count = add(imported, files, count);
		}
	}
	return count;
}
