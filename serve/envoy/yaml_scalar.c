/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_scalar.c - what scalars mean, as go-yaml 2 has it (YAML 1.1). */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "serve/envoy/failure.h"
#include "serve/envoy/yaml_node.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define LONG_TAG "tag:yaml.org,2002:"

/* The longest text that may be a number: base 2, 64 digits, sign and prefix, and some
 * underscores. */
#define NUMBER_MAX 160u

/* No message has room for more of a value. */
#define PRINTED_MAX 512u

static const char *const type_tags[] = {
	[SCALAR_NULL] = "!!null",
	[SCALAR_BOOL] = "!!bool",
	[SCALAR_INT] = "!!int",
	[SCALAR_UINT] = "!!int",
	[SCALAR_FLOAT] = "!!float",
	[SCALAR_STRING] = "!!str",
};

static const struct word {
	const char *text;
	enum scalar_type type;
	bool boolean;
	double real;
} words[] = {
	{ "", SCALAR_NULL },
	{ "~", SCALAR_NULL },
	{ "null", SCALAR_NULL },
	{ "Null", SCALAR_NULL },
	{ "NULL", SCALAR_NULL },
	{ "y", SCALAR_BOOL, true },
	{ "Y", SCALAR_BOOL, true },
	{ "yes", SCALAR_BOOL, true },
	{ "Yes", SCALAR_BOOL, true },
	{ "YES", SCALAR_BOOL, true },
	{ "true", SCALAR_BOOL, true },
	{ "True", SCALAR_BOOL, true },
	{ "TRUE", SCALAR_BOOL, true },
	{ "on", SCALAR_BOOL, true },
	{ "On", SCALAR_BOOL, true },
	{ "ON", SCALAR_BOOL, true },
	{ "n", SCALAR_BOOL },
	{ "N", SCALAR_BOOL },
	{ "no", SCALAR_BOOL },
	{ "No", SCALAR_BOOL },
	{ "NO", SCALAR_BOOL },
	{ "false", SCALAR_BOOL },
	{ "False", SCALAR_BOOL },
	{ "FALSE", SCALAR_BOOL },
	{ "off", SCALAR_BOOL },
	{ "Off", SCALAR_BOOL },
	{ "OFF", SCALAR_BOOL },
	{ ".nan", SCALAR_FLOAT, .real = NAN },
	{ ".NaN", SCALAR_FLOAT, .real = NAN },
	{ ".NAN", SCALAR_FLOAT, .real = NAN },
	{ ".inf", SCALAR_FLOAT, .real = INFINITY },
	{ ".Inf", SCALAR_FLOAT, .real = INFINITY },
	{ ".INF", SCALAR_FLOAT, .real = INFINITY },
	{ "+.inf", SCALAR_FLOAT, .real = INFINITY },
	{ "+.Inf", SCALAR_FLOAT, .real = INFINITY },
	{ "+.INF", SCALAR_FLOAT, .real = INFINITY },
	{ "-.inf", SCALAR_FLOAT, .real = -INFINITY },
	{ "-.Inf", SCALAR_FLOAT, .real = -INFINITY },
	{ "-.INF", SCALAR_FLOAT, .real = -INFINITY },
};

static bool find_word(struct text text, struct scalar *scalar)
{
	for (size_t i = 0; i < LENGTH(words); i++) {
		if (!text_is(text, text_of(words[i].text)))
			continue;
		scalar->type = words[i].type;
		scalar->boolean = words[i].boolean;
		scalar->real = words[i].real;
		return true;
	}
	return false;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The base that a prefix tells, and where the digits begin. */
static int number_base(const char **digits)
{
	const char *text = *digits;

	if (text[0] != '0' || text[1] == '\0')
		return 10;
	switch (text[1]) {
	case 'x':
	case 'X':
		*digits += 2;
		return 16;
	case 'o':
	case 'O':
		*digits += 2;
		return 8;
	case 'b':
	case 'B':
		*digits += 2;
		return 2;
	default:
		*digits += 1;
		return 8;
	}
}

/* strtoull() would take blanks, a sign and a second prefix as well. */
static bool begins_digits(const char *digits, int base)
{
	if (digits[0] == '0' && base == 16)
		return digits[1] != 'x' && digits[1] != 'X';
	if (digits[0] == '0' && base == 2)
		return digits[1] != 'b' && digits[1] != 'B';
	return is_digit(digits[0]) ||
	       (base == 16 && digits[0] != '\0' && strchr("abcdefABCDEF", digits[0]));
}

static bool read_integer(const char *text, struct scalar *scalar)
{
	const char *digits = text + (text[0] == '-' || text[0] == '+');
	bool negative = text[0] == '-';
	int base = number_base(&digits);
	unsigned long long value;
	char *end;

	if (!begins_digits(digits, base))
		return false;
	errno = 0;
	value = strtoull(digits, &end, base);
	if (*end != '\0' || errno == ERANGE)
		return false;
	if (negative && value > 1ull << 63)
		return false;
	if (!negative && value > INT64_MAX) {
		if (text[0] == '+')
			return false;
		scalar->type = SCALAR_UINT;
		scalar->natural = value;
		return true;
	}
	scalar->type = SCALAR_INT;
	scalar->integer = negative ? (int64_t)(0 - value) : (int64_t)value;
	return true;
}

/* Digits with a point and an exponent, in base 10; WHOLE: digits before a point may be
 * there. */
static bool is_float(const char *text, bool whole)
{
	size_t digits = 0;

	if (whole && (*text == '-' || *text == '+'))
		text++;
	for (; whole && is_digit(*text); text++)
		digits++;
	if (*text == '.') {
		for (text++; is_digit(*text); text++)
			digits++;
	}
	if (digits == 0)
		return false;
	if (*text == 'e' || *text == 'E') {
		text++;
		if (*text == '-' || *text == '+')
			text++;
		if (!is_digit(*text))
			return false;
		while (is_digit(*text))
			text++;
	}
	return *text == '\0';
}

static bool read_float(const char *text, bool whole, struct scalar *scalar)
{
	if (!is_float(text, whole))
		return false;
	scalar->real = strtod(text, NULL);
	scalar->type = SCALAR_FLOAT;
	return !isinf(scalar->real);    /* beyond the range it stays a string */
}

/* Underscores may stand in numbers, but not in what begins with a point. */
static bool read_number(struct text text, struct scalar *scalar)
{
	char plain[NUMBER_MAX + 1];
	size_t length = 0;

	if (text.length > NUMBER_MAX || text_has(text, '\0'))
		return false;
	if (text.bytes[0] == '.') {
		memcpy(plain, text.bytes, text.length);
		plain[text.length] = '\0';
		return read_float(plain, false, scalar);
	}
	for (size_t i = 0; i < text.length; i++) {
		if (text.bytes[i] != '_')
			plain[length++] = text.bytes[i];
	}
	plain[length] = '\0';
	return read_integer(plain, scalar) || read_float(plain, true, scalar);
}

static void guess(struct text text, struct scalar *scalar)
{
	char first = text.length > 0 ? text.bytes[0] : '\0';

	if (find_word(text, scalar))
		return;
	if ((is_digit(first) || first == '-' || first == '+' || first == '.') &&
	    read_number(text, scalar))
		return;
	scalar->type = SCALAR_STRING;
}

static const char *short_tag(const char *tag, char *room, size_t size)
{
	size_t prefix = strlen(LONG_TAG);

	if (strncmp(tag, LONG_TAG, prefix) != 0)
		return tag;
	snprintf(room, size, "!!%s", tag + prefix);
	return room;
}

int yaml_node_scalar(const struct node *node, struct scalar *scalar, struct weir_error *error)
{
	char room[64];
	const char *tag;

	*scalar = (struct scalar){ .type = SCALAR_STRING };
	if (!node->tag && !node->plain)
		return WEIR_OK;
	if (!node->tag) {
		guess(node->text, scalar);
		return WEIR_OK;
	}

	tag = short_tag(node->tag, room, sizeof(room));
	if (strcmp(tag, "!!binary") == 0)
		return envoy_fail(error, WEIR_EINVAL,
				  "yaml: line %u: !!binary is not supported; write the text itself",
				  node->line);
	if (strcmp(tag, "!!bool") != 0 && strcmp(tag, "!!int") != 0 &&
	    strcmp(tag, "!!float") != 0 && strcmp(tag, "!!null") != 0)
		return WEIR_OK;         /* a string, or a type that nobody knows */

	guess(node->text, scalar);
	if (strcmp(tag, type_tags[scalar->type]) == 0)
		return WEIR_OK;
	if (strcmp(tag, "!!float") == 0 && scalar->type == SCALAR_INT) {
		scalar->type = SCALAR_FLOAT;
		scalar->real = (double)scalar->integer;
		return WEIR_OK;
	}
	return envoy_fail(error, WEIR_EINVAL, "yaml: cannot decode %s `%.*s` as a %s",
			  type_tags[scalar->type], TEXT_ARGUMENTS(node->text), tag);
}

const char *yaml_node_tag(const struct node *node, const struct scalar *scalar)
{
	size_t prefix = strlen(LONG_TAG);

	if (!node->tag)
		return type_tags[scalar->type];
	if (strncmp(node->tag, LONG_TAG, prefix) != 0)
		return node->tag;
	for (size_t i = 0; i < LENGTH(type_tags); i++) {
		if (strcmp(node->tag + prefix, type_tags[i] + 2) == 0)
			return type_tags[i];
	}
	return node->tag;
}

bool yaml_node_is_null(const struct node *node)
{
	if (node->kind != NODE_SCALAR)
		return false;
	if (node->tag)
		return strcmp(node->tag, LONG_TAG "null") == 0;
	if (text_is(node->text, TEXT("")))
		return node->plain;
	return text_is(node->text, TEXT("null")) || text_is(node->text, TEXT("~"));
}

bool yaml_node_is_merge(const struct node *node)
{
	return node->kind == NODE_SCALAR && text_is(node->text, TEXT("<<")) &&
	       (node->plain || (node->tag && strcmp(node->tag, LONG_TAG "merge") == 0));
}

/* ---- Go's %v ----------------------------------------------------------------- */

/* The shortest digits that read back as the same number; an exponent from 10^21 on, and
 * below 10^-4. */
static void print_float(struct builder *builder, double real)
{
	char text[64];

	if (isnan(real) || isinf(real)) {
		builder_print(builder, "%s", isnan(real) ? "NaN" : real < 0 ? "-Inf" : "+Inf");
		return;
	}
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, real);
		if (strtod(text, NULL) == real)
			break;
	}
	if (strchr(text, 'e') && fabs(real) >= 1 && fabs(real) < 1e21)
		snprintf(text, sizeof(text), "%.0f", real);
	builder_print(builder, "%s", text);
}

static void print_scalar(struct builder *builder, const struct node *node)
{
	struct scalar scalar;

	if (yaml_node_scalar(node, &scalar, NULL) < 0)
		scalar.type = SCALAR_STRING;
	switch (scalar.type) {
	case SCALAR_NULL:
		builder_add(builder, TEXT("<nil>"));
		break;
	case SCALAR_BOOL:
		builder_add(builder, scalar.boolean ? TEXT("true") : TEXT("false"));
		break;
	case SCALAR_INT:
		builder_print(builder, "%lld", (long long)scalar.integer);
		break;
	case SCALAR_UINT:
		builder_print(builder, "%llu", (unsigned long long)scalar.natural);
		break;
	case SCALAR_FLOAT:
		print_float(builder, scalar.real);
		break;
	case SCALAR_STRING:
		builder_add(builder, node->text);
		break;
	}
}

void yaml_node_print(struct builder *builder, const struct node *node)
{
	bool key = true;

	if (builder->length >= PRINTED_MAX)
		return;
	switch (node->kind) {
	case NODE_SCALAR:
		print_scalar(builder, node);
		return;
	case NODE_ALIAS:
		yaml_node_print(builder, node->target);
		return;
	case NODE_LIST:
		builder_add_char(builder, '[');
		for (const struct node *child = node->first; child; child = child->next) {
			yaml_node_print(builder, child);
			if (child->next)
				builder_add_char(builder, ' ');
		}
		builder_add_char(builder, ']');
		return;
	case NODE_MAP:
		builder_add(builder, TEXT("map["));
		for (const struct node *child = node->first; child; child = child->next) {
			yaml_node_print(builder, child);
			if (child->next)
				builder_add_char(builder, key ? ':' : ' ');
			key = !key;
		}
		builder_add_char(builder, ']');
		return;
	}
}
