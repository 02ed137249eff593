/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/http_rls.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "serve/rules.h"
#include "serve/server.h"

/* A request on its way from JSON: what it points to is the arena's and the value's. */
struct reading {
	struct http_request *request;
	struct arena *arena;
	bool failed;                    /* and answered */
};

static const char *const units[] = { "UNKNOWN", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "YEAR",
				     "WEEK" };
/* Those that an override may name. */
#define OVERRIDE_UNITS 7

/* ---- Reading ----------------------------------------------------------- */

static bool is_named(const char *name, const char *camel, const char *snake)
{
	return strcmp(name, camel) == 0 || strcmp(name, snake) == 0;
}

__attribute__((format(printf, 2, 3))) static void refuse(struct reading *reading,
							 const char *format, ...)
{
	char text[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (!reading->failed)
		http_fail(reading->request, MHD_HTTP_BAD_REQUEST, "%s; send a RateLimitRequest such "
			  "as {\"domain\": \"d\", \"descriptors\": [{\"entries\": [{\"key\": "
			  "\"k\"}]}]}", text);
	reading->failed = true;
}

/* Both names of a field are as one name twice. */
static void check_names(struct reading *reading, const json_t *object, const char *camel,
			const char *snake)
{
	if (json_object_get(object, camel) && json_object_get(object, snake))
		refuse(reading, "%s and %s are one field: write one of them", camel, snake);
}

static void unknown(struct reading *reading, const char *message, const char *name)
{
	refuse(reading, "%s has no field \"%.64s\"", message, name);
}

static struct text read_text(struct reading *reading, const char *name, const json_t *value)
{
	if (json_is_null(value))
		return TEXT("");
	if (!json_is_string(value)) {
		refuse(reading, "%s is not a string", name);
		return TEXT("");
	}
	return (struct text){ json_string_value(value), json_string_length(value) };
}

static bool is_whole(const json_t *value, uint64_t *number)
{
	double real = json_number_value(value);

	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*number = (uint64_t)json_integer_value(value);
		return true;
	}
	if (!json_is_real(value) || !(real >= 0 && real < 18446744073709551616.0) ||
	    real != floor(real))
		return false;
	*number = (uint64_t)real;
	return true;
}

/* A string that has what JSON takes for a number, with no blanks around it: "5", "5.0" or
 * "1e3", not "05".  jansson's own end at 2^63. */
static bool is_whole_in_text(const json_t *string, uint64_t *number)
{
	const char *text = json_string_value(string);
	size_t length = json_string_length(string);
	json_t *value;
	bool whole;

	if (*text >= '1' && *text <= '9' && strspn(text, "0123456789") == length) {
		errno = 0;
		*number = strtoull(text, NULL, 10);
		return errno == 0;
	}
	if (strspn(text, "-0123456789.eE+") != length)
		return false;
	value = json_loadb(text, length, JSON_DECODE_ANY, NULL);
	whole = is_whole(value, number);
	json_decref(value);
	return whole;
}

/* A whole number up to MOST: as a number, or as a string of one. */
static uint64_t read_number(struct reading *reading, const char *name, const json_t *value,
			    uint64_t most)
{
	uint64_t number = 0;

	if (json_is_null(value))
		return 0;
	if (json_is_string(value) && !is_whole_in_text(value, &number))
		refuse(reading, "%s is \"%.32s\", which is no whole number of 0 or more", name,
		       json_string_value(value));
	else if (!json_is_string(value) && !is_whole(value, &number))
		refuse(reading, "%s is no whole number of 0 or more", name);
	if (number > most)
		refuse(reading, "%s is %" PRIu64 ", and %" PRIu64 " is the largest", name, number,
		       most);
	return number;
}

static int read_unit(struct reading *reading, const json_t *value)
{
	const char *text = json_string_value(value);

	if (!text)
		return (int)read_number(reading, "unit", value, INT32_MAX);
	for (int i = 0; i < OVERRIDE_UNITS; i++) {
		if (strcmp(units[i], text) == 0)
			return i;
	}
	refuse(reading, "unit is \"%.32s\", which is none of SECOND, MINUTE, HOUR, DAY, MONTH, YEAR",
	       text);
	return 0;
}

static void read_override(struct reading *reading, const json_t *object,
			  struct envoy_descriptor *descriptor)
{
	const char *name;
	json_t *value;

	if (json_is_null(object))
		return;
	descriptor->has_override = true;
	if (!json_is_object(object))
		refuse(reading, "limit is no object");
	check_names(reading, object, "requestsPerUnit", "requests_per_unit");
	json_object_foreach((json_t *)object, name, value) {
		if (is_named(name, "requestsPerUnit", "requests_per_unit"))
			descriptor->override_requests =
				(uint32_t)read_number(reading, name, value, UINT32_MAX);
		else if (strcmp(name, "unit") == 0)
			descriptor->override_unit = read_unit(reading, value);
		else
			unknown(reading, "limit", name);
	}
}

static void read_entry(struct reading *reading, const json_t *object, struct envoy_entry *entry)
{
	const char *name;
	json_t *value;

	*entry = (struct envoy_entry){ TEXT(""), TEXT("") };
	if (!json_is_object(object))
		refuse(reading, "an entry is no object");
	json_object_foreach((json_t *)object, name, value) {
		if (strcmp(name, "key") == 0)
			entry->key = read_text(reading, name, value);
		else if (strcmp(name, "value") == 0)
			entry->value = read_text(reading, name, value);
		else
			unknown(reading, "an entry", name);
	}
}

static void read_entries(struct reading *reading, const json_t *array,
			 struct envoy_descriptor *descriptor)
{
	size_t count = json_array_size(array);
	struct envoy_entry *entries = arena_alloc(reading->arena, (count + 1) * sizeof(*entries));

	if (json_is_null(array))
		return;
	if (!json_is_array(array) || !entries) {
		refuse(reading, entries ? "entries is no array" : "entries are too many");
		return;
	}
	for (size_t i = 0; i < count; i++)
		read_entry(reading, json_array_get(array, i), &entries[i]);
	descriptor->entries = entries;
	descriptor->entry_count = count;
}

static void read_descriptor(struct reading *reading, const json_t *object,
			    struct envoy_descriptor *descriptor)
{
	const char *name;
	json_t *value;

	*descriptor = (struct envoy_descriptor){ 0 };
	if (!json_is_object(object))
		refuse(reading, "a descriptor is no object");
	check_names(reading, object, "hitsAddend", "hits_addend");
	json_object_foreach((json_t *)object, name, value) {
		if (strcmp(name, "entries") == 0) {
			read_entries(reading, value, descriptor);
		} else if (strcmp(name, "limit") == 0) {
			read_override(reading, value, descriptor);
		} else if (is_named(name, "hitsAddend", "hits_addend")) {
			descriptor->has_hits = !json_is_null(value);
			descriptor->hits = read_number(reading, name, value, UINT64_MAX);
		} else {
			unknown(reading, "a descriptor", name);
		}
	}
}

static void read_descriptors(struct reading *reading, const json_t *array,
			     struct envoy_request *request)
{
	size_t count = json_array_size(array);
	struct envoy_descriptor *descriptors =
		arena_alloc(reading->arena, (count + 1) * sizeof(*descriptors));

	if (json_is_null(array))
		return;
	if (!json_is_array(array) || !descriptors) {
		refuse(reading, descriptors ? "descriptors is no array" : "descriptors are too many");
		return;
	}
	for (size_t i = 0; i < count; i++)
		read_descriptor(reading, json_array_get(array, i), &descriptors[i]);
	request->descriptors = descriptors;
	request->descriptor_count = count;
}

static void read_request(struct reading *reading, const json_t *object,
			 struct envoy_request *request)
{
	struct timespec now;
	const char *name;
	json_t *value;

	clock_gettime(CLOCK_REALTIME, &now);
	*request = (struct envoy_request){ .domain = TEXT(""), .now_s = (uint64_t)now.tv_sec };
	if (!json_is_object(object))
		refuse(reading, "the body is no object");
	check_names(reading, object, "hitsAddend", "hits_addend");
	json_object_foreach((json_t *)object, name, value) {
		if (strcmp(name, "domain") == 0)
			request->domain = read_text(reading, name, value);
		else if (strcmp(name, "descriptors") == 0)
			read_descriptors(reading, value, request);
		else if (is_named(name, "hitsAddend", "hits_addend"))
			request->hits_addend =
				(uint32_t)read_number(reading, name, value, UINT32_MAX);
		else
			unknown(reading, "a request", name);
	}
}

/* ---- Writing ----------------------------------------------------------- */

static const char *code_name(enum envoy_code code)
{
	return code == CODE_OVER_LIMIT ? "OVER_LIMIT" : "OK";
}

static json_t *write_text(struct text text)
{
	return json_stringn(text.bytes ? text.bytes : "", text.length);
}

static void set_number(json_t *object, const char *name, uint32_t number)
{
	if (number != 0)
		json_object_set_new(object, name, json_integer(number));
}

static json_t *write_limit(const struct envoy_status *status)
{
	json_t *limit = json_object();

	set_number(limit, "requestsPerUnit", status->requests_per_unit);
	if (status->unit > 0 && (size_t)status->unit < sizeof(units) / sizeof(units[0]))
		json_object_set_new(limit, "unit", json_string(units[status->unit]));
	if (status->name.length > 0)
		json_object_set_new(limit, "name", write_text(status->name));
	return limit;
}

static json_t *write_status(const struct envoy_status *status)
{
	json_t *object = json_object();
	char seconds[32];

	json_object_set_new(object, "code", json_string(code_name(status->code)));
	if (status->has_limit)
		json_object_set_new(object, "currentLimit", write_limit(status));
	set_number(object, "limitRemaining", status->limit_remaining);
	if (status->has_reset) {
		snprintf(seconds, sizeof(seconds), "%" PRIu64 "s", status->until_reset_s);
		json_object_set_new(object, "durationUntilReset", json_string(seconds));
	}
	return object;
}

static json_t *write_value(const struct value *value)
{
	json_t *json;

	switch (value->kind) {
	case VALUE_BOOL:
		return json_boolean(value->boolean);
	case VALUE_NUMBER:
		return value->number == floor(value->number) && fabs(value->number) < 1e15 ?
			       json_integer((json_int_t)value->number) : json_real(value->number);
	case VALUE_STRING:
		return write_text(value->string);
	case VALUE_LIST:
		json = json_array();
		for (const struct value_field *field = value->first; field; field = field->next)
			json_array_append_new(json, write_value(&field->value));
		return json;
	case VALUE_STRUCT:
		json = json_object();
		for (const struct value_field *field = value->first; field; field = field->next) {
			/* jansson's names end at a zero byte; a configuration has none. */
			char *name = strndup(field->name.bytes ? field->name.bytes : "",
					     field->name.length);

			if (name)
				json_object_set_new(json, name, write_value(&field->value));
			free(name);
		}
		return json;
	case VALUE_NULL:
		break;
	}
	return json_null();
}

static json_t *write_answer(const struct envoy_answer *answer)
{
	json_t *object = json_object(), *statuses = json_array(), *headers = json_array();

	json_object_set_new(object, "overallCode", json_string(code_name(answer->overall)));
	for (size_t i = 0; i < answer->status_count; i++)
		json_array_append_new(statuses, write_status(&answer->statuses[i]));
	json_object_set_new(object, "statuses", statuses);
	for (size_t i = 0; i < answer->header_count; i++)
		json_array_append_new(headers, json_pack("{s:s, s:s}", "key", answer->headers[i].name,
							 "value", answer->headers[i].value));
	if (answer->header_count > 0)
		json_object_set(object, "responseHeadersToAdd", headers);
	json_decref(headers);
	if (answer->metadata)
		json_object_set_new(object, "dynamicMetadata", write_value(answer->metadata));
	return object;
}

/* ---- Pages ------------------------------------------------------------- */

/* The loop's way to the rules, or NULL: the request is answered. */
static struct envoy_reader *reader_of(struct http_request *request)
{
	struct rules *rules = request->loop->server->rules;
	struct envoy_reader *reader;

	if (!rules) {
		http_fail(request, MHD_HTTP_NOT_FOUND, "the service was started without rules; start "
			  "it with --compat, and a directory of them");
		return NULL;
	}
	reader = rules_reader(rules);
	if (!reader)
		http_fail(request, MHD_HTTP_SERVICE_UNAVAILABLE, "no memory for the request; ask "
			  "again");
	return reader;
}

static void answer(struct http_request *request, struct envoy_reader *reader, const json_t *object)
{
	struct reading reading = { request, &request->loop->arena, false };
	struct envoy_request asked;
	struct envoy_answer told;
	struct weir_error error;

	read_request(&reading, object, &asked);
	if (reading.failed)
		return;
	if (envoy_service_answer(reader, &asked, &told, &error) < 0) {
		http_fail(request, error.status == WEIR_ENOSPC || error.status == WEIR_ENOMEM ?
			  MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_BAD_REQUEST, "%s", error.message);
		return;
	}
	/* For clients that do not look into the answer. */
	for (size_t i = 0; i < told.header_count; i++)
		http_field(request, told.headers[i].name, "%s", told.headers[i].value);
	http_reply_json(request, told.overall == CODE_OVER_LIMIT ? MHD_HTTP_TOO_MANY_REQUESTS :
								   MHD_HTTP_OK,
			HTTP_JSON, write_answer(&told));
}

void http_rls(struct http_request *request)
{
	struct envoy_reader *reader = reader_of(request);
	json_t *object;

	if (!reader)
		return;
	object = http_read_json(request, "a RateLimitRequest");
	if (object)
		answer(request, reader, object);
	json_decref(object);
}

void http_rlconfig(struct http_request *request)
{
	struct envoy_reader *reader = reader_of(request);
	struct pool pool = { 0 };
	struct builder builder = { .pool = &pool };
	struct text text;

	if (!reader)
		return;
	envoy_service_print(reader, &builder);
	text = builder_text(&builder);
	if (text.bytes)
		http_reply(request, MHD_HTTP_OK, "text/plain; charset=utf-8", text.bytes,
			   text.length);
	else
		http_fail(request, MHD_HTTP_SERVICE_UNAVAILABLE, "no memory for the rules; ask again");
	pool_free(&pool);
}
