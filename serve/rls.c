/* SPDX-License-Identifier: Apache-2.0 */
/* rls.c - from protobuf to a request of Envoy's rules, and from its answer back. */
#include "serve/rls.h"

#include <string.h>
#include <time.h>

#include "serve/arena.h"
#include "serve/rules.h"
#include "serve/server.h"

#include "envoy/service/ratelimit/v3/rls.pb-c.h"

typedef Envoy__Service__Ratelimit__V3__RateLimitRequest request_message;
typedef Envoy__Service__Ratelimit__V3__RateLimitResponse response_message;
typedef Envoy__Service__Ratelimit__V3__RateLimitResponse__RateLimit limit_message;
typedef Envoy__Service__Ratelimit__V3__RateLimitResponse__DescriptorStatus status_message;
typedef Envoy__Extensions__Common__Ratelimit__V3__RateLimitDescriptor descriptor_message;
typedef Envoy__Config__Core__V3__HeaderValue header_message;
typedef Google__Protobuf__Value value_message;
typedef Google__Protobuf__Struct struct_message;
typedef Google__Protobuf__ListValue list_message;
typedef Google__Protobuf__Struct__FieldsEntry field_message;

#define CODE(name) ENVOY__SERVICE__RATELIMIT__V3__RATE_LIMIT_RESPONSE__CODE__##name
_Static_assert((int)CODE(OK) == (int)CODE_OK && (int)CODE(OVER_LIMIT) == (int)CODE_OVER_LIMIT,
	       "codes are copied without a table");
#define UNIT(name) ENVOY__SERVICE__RATELIMIT__V3__RATE_LIMIT_RESPONSE__RATE_LIMIT__UNIT__##name
_Static_assert((int)UNIT(SECOND) == (int)UNIT_SECOND && (int)UNIT(DAY) == (int)UNIT_DAY &&
	       (int)UNIT(YEAR) == (int)UNIT_YEAR && (int)UNIT(WEEK) == (int)UNIT_WEEK,
	       "so are units");

/* ---- Requests ------------------------------------------------------------------ */

/* Strings of a message are UTF-8: shortest forms, no surrogates, nothing above 10FFFF. */
static bool is_utf8(const ProtobufCBinaryData *string)
{
	const unsigned char *at = string->data, *end = at + string->len;

	while (at < end) {
		unsigned char lead = *at++;
		int more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
		uint32_t code = more ? lead & (0x3f >> more) : lead;
		static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };

		if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4 || end - at < more)
			return false;
		for (int i = 0; i < more; i++) {
			if ((*at & 0xc0) != 0x80)
				return false;
			code = code << 6 | (*at++ & 0x3f);
		}
		if (code < least[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
			return false;
	}
	return true;
}

static struct text text_from_message(const ProtobufCBinaryData *string, bool *valid)
{
	*valid &= is_utf8(string);
	return (struct text){ (const char *)string->data, string->len };
}

static bool read_descriptor(struct arena *arena, const descriptor_message *message,
			    struct envoy_descriptor *descriptor, bool *valid)
{
	struct envoy_entry *entries = arena_alloc(arena, (message->n_entries + 1) *
							 sizeof(*entries));

	if (!entries)
		return false;
	for (size_t i = 0; i < message->n_entries; i++) {
		entries[i].key = text_from_message(&message->entries[i]->key, valid);
		entries[i].value = text_from_message(&message->entries[i]->value, valid);
	}
	*descriptor = (struct envoy_descriptor){
		.entries = entries,
		.entry_count = message->n_entries,
		.has_override = message->limit != NULL,
		.has_hits = message->hits_addend != NULL,
	};
	if (message->limit) {
		descriptor->override_requests = message->limit->requests_per_unit;
		descriptor->override_unit = (int)message->limit->unit;
	}
	if (message->hits_addend)
		descriptor->hits = message->hits_addend->value;
	return true;
}

static bool read_request(struct arena *arena, const request_message *message,
			 struct envoy_request *request, bool *valid)
{
	struct envoy_descriptor *descriptors =
		arena_alloc(arena, (message->n_descriptors + 1) * sizeof(*descriptors));
	struct timespec now;

	if (!descriptors)
		return false;
	clock_gettime(CLOCK_REALTIME, &now);
	*request = (struct envoy_request){
		.domain = text_from_message(&message->domain, valid),
		.descriptors = descriptors,
		.descriptor_count = message->n_descriptors,
		.hits_addend = message->hits_addend,
		.now_s = (uint64_t)now.tv_sec,
	};
	for (size_t i = 0; i < message->n_descriptors; i++) {
		if (!read_descriptor(arena, message->descriptors[i], &descriptors[i], valid))
			return false;
	}
	return true;
}

/* ---- Metadata ------------------------------------------------------------------ */

/* A string of a Value ends at a zero byte, so what it has after one is left out. */
static char *copy_string(struct arena *arena, struct text text)
{
	char *copy = arena_alloc(arena, text.length + 1);

	if (!copy)
		return NULL;
	if (text.length > 0)
		memcpy(copy, text.bytes, text.length);
	copy[text.length] = '\0';
	return copy;
}

static value_message *write_value(struct arena *arena, const struct value *value);

static struct_message *write_struct(struct arena *arena, const struct value *value)
{
	struct_message *message = arena_alloc(arena, sizeof(*message));
	field_message *fields = arena_alloc(arena, (value->count + 1) * sizeof(*fields));
	const struct value_field *from = value->first;

	if (!message || !fields)
		return NULL;
	google__protobuf__struct__init(message);
	message->fields = arena_alloc(arena, (value->count + 1) * sizeof(*message->fields));
	if (!message->fields)
		return NULL;
	message->n_fields = value->count;
	for (size_t i = 0; from; from = from->next, i++) {
		google__protobuf__struct__fields_entry__init(&fields[i]);
		fields[i].key = copy_string(arena, from->name);
		fields[i].value = write_value(arena, &from->value);
		if (!fields[i].key || !fields[i].value)
			return NULL;
		message->fields[i] = &fields[i];
	}
	return message;
}

static list_message *write_list(struct arena *arena, const struct value *value)
{
	list_message *message = arena_alloc(arena, sizeof(*message));
	const struct value_field *from = value->first;

	if (!message)
		return NULL;
	google__protobuf__list_value__init(message);
	message->values = arena_alloc(arena, (value->count + 1) * sizeof(*message->values));
	if (!message->values)
		return NULL;
	message->n_values = value->count;
	for (size_t i = 0; from; from = from->next, i++) {
		message->values[i] = write_value(arena, &from->value);
		if (!message->values[i])
			return NULL;
	}
	return message;
}

static value_message *write_value(struct arena *arena, const struct value *value)
{
	value_message *message = arena_alloc(arena, sizeof(*message));
	const void *part = message;

	if (!message)
		return NULL;
	google__protobuf__value__init(message);
	switch (value->kind) {
	case VALUE_NULL:
		message->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE;
		break;
	case VALUE_BOOL:
		message->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
		message->bool_value = value->boolean;
		break;
	case VALUE_NUMBER:
		message->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
		message->number_value = value->number;
		break;
	case VALUE_STRING:
		message->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
		part = message->string_value = copy_string(arena, value->string);
		break;
	case VALUE_LIST:
		message->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
		part = message->list_value = write_list(arena, value);
		break;
	case VALUE_STRUCT:
		message->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
		part = message->struct_value = write_struct(arena, value);
		break;
	}
	return part ? message : NULL;
}

/* ---- Answers ------------------------------------------------------------------- */

struct status_parts {
	status_message status;
	limit_message limit;
	Google__Protobuf__Duration reset;
};

static void write_status(const struct envoy_status *from, struct status_parts *parts)
{
	status_message *status = &parts->status;

	envoy__service__ratelimit__v3__rate_limit_response__descriptor_status__init(status);
	status->code = (Envoy__Service__Ratelimit__V3__RateLimitResponse__Code)from->code;
	status->limit_remaining = from->limit_remaining;
	if (from->has_limit) {
		envoy__service__ratelimit__v3__rate_limit_response__rate_limit__init(&parts->limit);
		parts->limit.requests_per_unit = from->requests_per_unit;
		parts->limit.unit =
			(Envoy__Service__Ratelimit__V3__RateLimitResponse__RateLimit__Unit)from->unit;
		parts->limit.name.data = (uint8_t *)from->name.bytes;
		parts->limit.name.len = from->name.length;
		status->current_limit = &parts->limit;
	}
	if (from->has_reset) {
		google__protobuf__duration__init(&parts->reset);
		parts->reset.seconds = (int64_t)from->until_reset_s;
		status->duration_until_reset = &parts->reset;
	}
}

static bool write_statuses(struct arena *arena, const struct envoy_answer *answer,
			   response_message *response)
{
	struct status_parts *parts = arena_alloc(arena, answer->status_count * sizeof(*parts));

	response->statuses = arena_alloc(arena, answer->status_count *
						sizeof(*response->statuses));
	if (!parts || !response->statuses)
		return false;
	response->n_statuses = answer->status_count;
	for (size_t i = 0; i < answer->status_count; i++) {
		write_status(&answer->statuses[i], &parts[i]);
		response->statuses[i] = &parts[i].status;
	}
	return true;
}

static bool write_headers(struct arena *arena, const struct envoy_answer *answer,
			  response_message *response)
{
	header_message *headers = arena_alloc(arena, 3 * sizeof(*headers));

	response->response_headers_to_add =
		arena_alloc(arena, 3 * sizeof(*response->response_headers_to_add));
	if (!headers || !response->response_headers_to_add)
		return false;
	response->n_response_headers_to_add = answer->header_count;
	for (size_t i = 0; i < answer->header_count; i++) {
		envoy__config__core__v3__header_value__init(&headers[i]);
		headers[i].key = (char *)answer->headers[i].name;
		headers[i].value = (char *)answer->headers[i].value;
		response->response_headers_to_add[i] = &headers[i];
	}
	return true;
}

static bool write_response(struct arena *arena, const struct envoy_answer *answer,
			   response_message *response)
{
	envoy__service__ratelimit__v3__rate_limit_response__init(response);
	response->overall_code =
		(Envoy__Service__Ratelimit__V3__RateLimitResponse__Code)answer->overall;
	if (!write_statuses(arena, answer, response) || !write_headers(arena, answer, response))
		return false;
	if (answer->metadata)
		response->dynamic_metadata = write_struct(arena, answer->metadata);
	return !answer->metadata || response->dynamic_metadata;
}

/* ---- The method ---------------------------------------------------------------- */

/* What Envoy is told is envoyproxy/ratelimit's: a sentence, and a status that says
 * nothing. */
static enum grpc_status status_of(const struct weir_error *error)
{
	switch (error->status) {
	case WEIR_EINVAL:
	case WEIR_ENOENT:
		return GRPC_UNKNOWN;
	case WEIR_ENOSPC:
	case WEIR_ENOMEM:
		return GRPC_RESOURCE_EXHAUSTED;
	default:
		return GRPC_UNAVAILABLE;
	}
}

static void should_rate_limit(struct grpc_call *call, const void *message)
{
	struct rules *rules = grpc_server(call)->rules;
	struct arena *arena = grpc_arena(call);
	struct envoy_request request;
	struct envoy_reader *reader;
	struct envoy_answer answer;
	response_message response;
	struct weir_error error;
	bool valid = true;

	if (!rules) {
		grpc_fail(call, GRPC_FAILED_PRECONDITION, "the service was started without rules; "
			  "start it with --compat, and a directory of them");
		return;
	}
	reader = rules_reader(rules);
	if (!reader || !read_request(arena, message, &request, &valid)) {
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "no memory for the request");
		return;
	}
	if (!valid) {
		grpc_fail(call, GRPC_INTERNAL, "grpc: error unmarshalling request: string field "
			  "contains invalid UTF-8");
		return;
	}
	if (envoy_service_answer(reader, &request, &answer, &error) < 0)
		grpc_fail(call, status_of(&error), "%s", error.message);
	else if (!write_response(arena, &answer, &response))
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "no memory for the answer");
	else
		grpc_reply(call, &response.base);
}

static const struct grpc_method methods[] = {
	{ "ShouldRateLimit", &envoy__service__ratelimit__v3__rate_limit_request__descriptor,
	  should_rate_limit },
};

const struct grpc_service rls_service = {
	"envoy.service.ratelimit.v3.RateLimitService", methods,
	sizeof(methods) / sizeof(methods[0]),
};
