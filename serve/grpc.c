/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls: what the headers ask for, messages out of the bytes that follow, and the method
 * that answers.  What is answered is grpc_answer.c's.
 */
#include "serve/grpc.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "serve/grpc_answer.h"
#include "serve/gunzip.h"
#include "serve/http2.h"
#include "serve/server.h"

#define PREFIX_BYTES 5u                 /* compressed?, and the length */
#define S_NS 1000000000ull

/* Bytes of requests that are not whole and of answers that were not read, in a loop; or
 * four of the largest messages. */
#define BUFFERED_MAX_BYTES (64u << 20)

struct server *grpc_server(const struct grpc_call *call)
{
	return call->connection->room->loop->server;
}

struct arena *grpc_arena(const struct grpc_call *call)
{
	return &call->connection->room->loop->arena;
}

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * S_NS + (uint64_t)now.tv_nsec;
}

/* ---- Beginning and end ------------------------------------------------- */

struct grpc_call *grpc_begin(struct connection *connection, int32_t stream_id)
{
	struct grpc_call *call = malloc(sizeof(*call));

	if (!call)
		return NULL;
	/* All but the buffers' bytes. */
	memset(call, 0, offsetof(struct grpc_call, request));
	buffer_init(&call->request);
	buffer_init(&call->answer);
	call->connection = connection;
	call->stream_id = stream_id;
	TAILQ_INSERT_TAIL(&connection->call_queue, call, entry);
	connection->calls++;
	connection->room->call_count++;
	grpc_wait(call, GRPC_WAIT_REQUEST);
	return call;
}

void grpc_wait(struct grpc_call *call, enum grpc_wait what)
{
	struct connection *connection = call->connection;

	if (call->waits == 0) {
		connection->owing++;
		call->waits_since_s = connection->room->loop->seconds;
		TAILQ_INSERT_TAIL(&connection->room->waiting, call, wait_entry);
	}
	call->waits |= what;
}

static void wait_no_more(struct grpc_call *call)
{
	call->waits = 0;
	call->connection->owing--;
	TAILQ_REMOVE(&call->connection->room->waiting, call, wait_entry);
}

void grpc_go_on(struct grpc_call *call, enum grpc_wait what)
{
	if (!(call->waits & what))
		return;
	if (call->waits != (unsigned)what) {
		call->waits &= ~(unsigned)what;
		return;
	}
	wait_no_more(call);
	call->connection->progress = true;
}

void grpc_tick(struct grpc_room *room)
{
	const struct options *options = room->loop->server->options;
	struct grpc_call *call;

	while ((call = TAILQ_FIRST(&room->waiting)) &&
	       room->loop->seconds - call->waits_since_s > options->request_timeout_s) {
		count_up(&room->loop->counts, COUNT_CALLS_TIMED_OUT);
		/* It is there until the reset leaves, which the socket may not take now. */
		wait_no_more(call);
		call->finished = true;
		http2_reset(call);
		connection_flush(call->connection);
	}
}

void grpc_free(struct grpc_call *call)
{
	struct connection *connection = call->connection;
	struct grpc_room *room = connection->room;

	if (call->method && call->method->end && call->taken)
		call->method->end(call);
	if (call->deadline)
		event_free(call->deadline);
	if (call->streaming)
		TAILQ_REMOVE(&room->streaming, call, stream_entry);
	TAILQ_REMOVE(&connection->call_queue, call, entry);
	connection->calls--;
	if (call->waits)
		wait_no_more(call);
	room->call_count--;
	room->buffered_bytes -= buffer_heap_bytes(&call->request) +
				buffer_heap_bytes(&call->answer);
	buffer_free(&call->request);
	buffer_free(&call->answer);
	free(call->status_message);
	free(call);
}

void grpc_end_all(struct connection *connection)
{
	struct grpc_call *call;

	while ((call = TAILQ_FIRST(&connection->call_queue)))
		grpc_free(call);
}

void grpc_drain(struct grpc_room *room)
{
	struct grpc_call *call, *next;

	for (call = TAILQ_FIRST(&room->streaming); call; call = next) {
		next = TAILQ_NEXT(call, stream_entry);
		if (!call->finished && call->method->drain)
			call->method->drain(call);
	}
}

void grpc_health(struct grpc_room *room)
{
	struct grpc_call *call;

	TAILQ_FOREACH(call, &room->streaming, stream_entry) {
		if (!call->finished && call->method->health)
			call->method->health(call);
	}
}

/* ---- Headers ----------------------------------------------------------- */

static bool equal(const char *text, size_t length, const char *word)
{
	return length == strlen(word) && memcmp(text, word, length) == 0;
}

/* "/weir.v1.Limiter/Allow": the method, or NULL. */
static const struct grpc_method *find_method(const char *path, size_t length)
{
	const char *slash = length > 1 ? memchr(path + 1, '/', length - 1) : NULL;
	const struct grpc_service *service;

	if (!slash || *path != '/')
		return NULL;
	service = grpc_service_find(path + 1, (size_t)(slash - path) - 1);
	for (size_t i = 0; service && i < service->method_count; i++) {
		if (equal(slash + 1, length - (size_t)(slash + 1 - path), service->methods[i].name))
			return &service->methods[i];
	}
	return NULL;
}

/* "100m": up to eight digits and a unit.  Returns false if it is something else. */
static bool parse_timeout(const char *text, size_t length, uint64_t *timeout_ns)
{
	static const struct {
		char unit;
		uint64_t ns;
	} units[] = { { 'H', 3600 * S_NS }, { 'M', 60 * S_NS }, { 'S', S_NS },
		      { 'm', 1000000 },	    { 'u', 1000 },	{ 'n', 1 } };
	uint64_t number = 0;

	if (length < 2 || length > 9)
		return false;
	for (size_t i = 0; i < length - 1; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		number = number * 10 + (uint64_t)(text[i] - '0');
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (units[i].unit == text[length - 1]) {
			/* 584 years are as good as more. */
			if (__builtin_mul_overflow(number, units[i].ns, timeout_ns))
				*timeout_ns = UINT64_MAX;
			return true;
		}
	}
	return false;
}

/* application/grpc, also "+proto" or ";..." behind it. */
static bool is_grpc_type(const char *value, size_t length)
{
	static const char type[] = "application/grpc";
	size_t type_length = sizeof(type) - 1;

	if (length < type_length || memcmp(value, type, type_length) != 0)
		return false;
	return length == type_length || value[type_length] == ';' ||
	       equal(value + type_length, length - type_length, "+proto");
}

/* The path of a method that does not exist stays for the message, cut. */
static void keep_path(struct grpc_call *call, const char *path, size_t length)
{
	if (length > BUFFER_SMALL_BYTES)
		length = BUFFER_SMALL_BYTES;
	memcpy(call->request.small, path, length);
	call->request.length = length;
}

void grpc_header(struct grpc_call *call, const char *name, size_t name_length, const char *value,
		 size_t value_length)
{
	uint64_t timeout_ns;

	if (equal(name, name_length, ":path")) {
		call->method = find_method(value, value_length);
		if (!call->method)
			keep_path(call, value, value_length);
	} else if (equal(name, name_length, ":method")) {
		call->is_post = equal(value, value_length, "POST");
	} else if (equal(name, name_length, "content-type")) {
		call->is_grpc = is_grpc_type(value, value_length);
	} else if (equal(name, name_length, "grpc-encoding")) {
		call->is_gzip = equal(value, value_length, "gzip");
		call->is_compressed = !call->is_gzip && !equal(value, value_length, "identity");
	} else if (equal(name, name_length, "grpc-timeout")) {
		if (!parse_timeout(value, value_length, &timeout_ns))
			call->is_timeout_malformed = true;
		else if (__builtin_add_overflow(monotonic_ns(), timeout_ns, &call->deadline_ns))
			call->deadline_ns = 0;  /* none */
	}
}

void grpc_headers_end(struct grpc_call *call)
{
	if (!call->is_post)
		grpc_refuse(call, "405");
	else if (!call->is_grpc)
		grpc_refuse(call, "415");
	else if (!call->method)
		grpc_fail(call, GRPC_UNIMPLEMENTED, "no method \"%.*s\" here; the services are told "
			  "by server reflection", (int)call->request.length, call->request.small);
	else if (call->is_compressed)
		grpc_fail(call, GRPC_UNIMPLEMENTED, "the messages are compressed in a way that is "
			  "not read here; send them as they are, or by gzip (grpc-encoding: gzip)");
	else if (call->is_timeout_malformed)
		grpc_fail(call, GRPC_INTERNAL, "grpc-timeout is malformed; give 1 to 8 digits and "
			  "one of H, M, S, m, u, n");
	else
		return;
	call->method = NULL;
}

/* ---- Messages ---------------------------------------------------------- */

/* The length that the prefix at the front tells; false: it is none, or too large. */
static bool read_prefix(struct grpc_call *call, size_t *length)
{
	const unsigned char *prefix = buffer_bytes(&call->request);
	uint64_t most = grpc_server(call)->options->message_max_bytes;

	*length = (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 |
		  prefix[4];
	if (prefix[0] > 1)
		grpc_fail(call, GRPC_INTERNAL, "a message begins with %u, where 0 or 1 (compressed) "
			  "must stand; the frame is malformed", prefix[0]);
	else if (prefix[0] == 1 && !call->is_gzip)
		grpc_fail(call, GRPC_INTERNAL, "a message is compressed, and no grpc-encoding says "
			  "how; send it as it is");
	else if (*length > most)
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "a message of %zu bytes is larger than the "
			  "service takes, %zu; send less at once, or raise --max-message", *length,
			  (size_t)most);
	else
		return true;
	return false;
}

static void on_deadline(evutil_socket_t fd, short what, void *context)
{
	struct grpc_call *call = context;

	(void)fd;
	(void)what;
	grpc_fail(call, GRPC_DEADLINE_EXCEEDED, "the call's deadline is over");
	grpc_flush(call);
}

/* The method will answer later: the drain and the deadline must find the call. */
static void keep_open(struct grpc_call *call)
{
	struct grpc_room *room = call->connection->room;
	uint64_t now_ns, left_ns;
	struct timeval left;

	call->streaming = true;
	TAILQ_INSERT_TAIL(&room->streaming, call, stream_entry);
	if (call->deadline_ns == 0)
		return;
	now_ns = monotonic_ns();
	left_ns = call->deadline_ns > now_ns ? call->deadline_ns - now_ns : 0;
	left = (struct timeval){ .tv_sec = (time_t)(left_ns / S_NS),
				 .tv_usec = (suseconds_t)(left_ns % S_NS / 1000) };
	call->deadline = evtimer_new(room->loop->base, on_deadline, call);
	if (!call->deadline || event_add(call->deadline, &left) < 0)
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "no memory for the call's deadline");
}

static void take_bytes(struct grpc_call *call, size_t length, const unsigned char *bytes)
{
	const ProtobufCMessageDescriptor *type = call->method->request;
	struct arena *arena = grpc_arena(call);
	ProtobufCMessage *message;

	message = protobuf_c_message_unpack(type, &arena->allocator, length, bytes);
	call->taken = true;
	if (message)
		call->method->message(call, message);
	else
		grpc_fail(call, GRPC_INVALID_ARGUMENT, "the %zu bytes of the message are no %s, or "
			  "one that takes too much memory; encode it by its .proto", length,
			  type->name);
	arena_reset(arena);
	if (!call->finished && !call->streaming)
		keep_open(call);
}

/* What a few bytes become is bounded as what is sent uncompressed. */
static void take_gzip(struct grpc_call *call, size_t length, const unsigned char *bytes)
{
	size_t most = grpc_server(call)->options->message_max_bytes, out_length;
	unsigned char *out;

	switch (gunzip(bytes, length, most, &out, &out_length)) {
	case GUNZIP_OK:
		take_bytes(call, out_length, out);
		free(out);
		break;
	case GUNZIP_MALFORMED:
		grpc_fail(call, GRPC_INTERNAL, "the %zu bytes of a compressed message are no gzip, "
			  "or cut off; send one stream of it, or the message as it is", length);
		break;
	case GUNZIP_TOO_LARGE:
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "a compressed message of %zu bytes becomes "
			  "larger than the service takes, %zu; send less at once, or raise "
			  "--max-message", length, most);
		break;
	case GUNZIP_NO_MEMORY:
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "no memory for the message");
		break;
	}
}

/* The message stays where it is until it was answered: nothing else touches the buffer. */
static void take_message(struct grpc_call *call, size_t length)
{
	const unsigned char *prefix = buffer_bytes(&call->request);

	grpc_go_on(call, GRPC_WAIT_REQUEST);
	if (prefix[0] == 1)
		take_gzip(call, length, prefix + PREFIX_BYTES);
	else
		take_bytes(call, length, prefix + PREFIX_BYTES);
	buffer_take(&call->request, PREFIX_BYTES + length);
}

/* Take the messages that are whole. */
static void take_messages(struct grpc_call *call)
{
	size_t length;

	while (!call->finished && buffer_length(&call->request) >= PREFIX_BYTES) {
		if (!read_prefix(call, &length) ||
		    buffer_length(&call->request) - PREFIX_BYTES < length)
			return;
		take_message(call, length);
	}
}

unsigned char *grpc_reserve(struct grpc_call *call, struct buffer *buffer, size_t length)
{
	struct grpc_room *room = call->connection->room;
	uint64_t most = 4 * grpc_server(call)->options->message_max_bytes;
	size_t before = buffer_heap_bytes(buffer);
	size_t grown = buffer_heap_bytes_with(buffer, length) - before;
	unsigned char *place;

	if (most < BUFFERED_MAX_BYTES)
		most = BUFFERED_MAX_BYTES;
	if (grown > 0 && (grown > most || room->buffered_bytes > most - grown))
		return NULL;
	place = buffer_reserve(buffer, length);
	room->buffered_bytes += buffer_heap_bytes(buffer) - before;
	return place;
}

void grpc_data(struct grpc_call *call, const unsigned char *bytes, size_t length)
{
	unsigned char *place;
	size_t expected;

	/* An answer was given already: what still comes is dropped. */
	if (call->finished)
		return;
	place = grpc_reserve(call, &call->request, length);
	if (!place) {
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "no room for the message: too many large "
			  "ones come in at once; send it again, later");
		return;
	}
	memcpy(place, bytes, length);
	call->request.length += length;
	if (call->method->client_streams) {
		take_messages(call);
		if (buffer_length(&call->request) > 0)
			grpc_wait(call, GRPC_WAIT_REQUEST);
		return;
	}
	/* One message: what is too large, or too much, need not come whole. */
	if (buffer_length(&call->request) < PREFIX_BYTES || !read_prefix(call, &expected))
		return;
	if (buffer_length(&call->request) - PREFIX_BYTES > expected)
		grpc_fail(call, GRPC_INTERNAL, "%zu bytes follow the message, and this method takes "
			  "one; send one", buffer_length(&call->request) - PREFIX_BYTES - expected);
}

static void take_only_message(struct grpc_call *call)
{
	size_t length = 0;

	if (buffer_length(&call->request) < PREFIX_BYTES) {
		grpc_fail(call, GRPC_INTERNAL, "the request has no message; send one");
		return;
	}
	if (!read_prefix(call, &length))
		return;
	if (buffer_length(&call->request) - PREFIX_BYTES < length)
		grpc_fail(call, GRPC_INTERNAL, "the message is cut off: %zu of %zu bytes came",
			  buffer_length(&call->request) - PREFIX_BYTES, length);
	else if (call->deadline_ns != 0 && monotonic_ns() >= call->deadline_ns)
		grpc_fail(call, GRPC_DEADLINE_EXCEEDED, "the call's deadline was over when its "
			  "message was there; nothing was charged");
	else
		take_message(call, length);
}

void grpc_end(struct grpc_call *call)
{
	if (call->finished)
		return;
	if (!call->method->client_streams) {
		take_only_message(call);
		return;
	}
	if (buffer_length(&call->request) > 0)
		grpc_fail(call, GRPC_INTERNAL, "the last message is cut off: %zu bytes of it came",
			  buffer_length(&call->request));
	else if (call->method->half_closed)
		call->method->half_closed(call);
}
