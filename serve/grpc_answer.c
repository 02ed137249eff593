/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers: messages behind their prefix, and how a call ended, in the trailers.  A call
 * that fails before it has answered anything has trailers only.
 */
#include "serve/grpc_answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/grpc.h"
#include "serve/http2.h"

#define PREFIX_BYTES 5u
#define SENTENCE_BYTES 512u

/* Text that outlives the frame. */
#define HEADER(name, value) \
	{ (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, strlen(value), \
	  NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE }

/* The status and, if there is one, its sentence.  Returns how many. */
static size_t status_headers(const struct grpc_call *call, nghttp2_nv headers[2])
{
	static const char *const numbers[] = { "0", "1", "2",  "3",  "4",  "5",	 "6",  "7", "8",
					       "9", "10", "11", "12", "13", "14" };
	const nghttp2_nv status = HEADER("grpc-status", numbers[call->status]);

	headers[0] = status;
	if (!call->status_message)
		return 1;
	/* Copied: the call may end before the frame leaves. */
	headers[1] = (nghttp2_nv){ (uint8_t *)"grpc-message", (uint8_t *)call->status_message,
				   strlen("grpc-message"), strlen(call->status_message),
				   NGHTTP2_NV_FLAG_NO_COPY_NAME };
	return 2;
}

/* SENTENCE as a header takes it: what is not printable ASCII as %XX. */
static char *percent_encode(const char *sentence)
{
	static const char digits[] = "0123456789ABCDEF";
	char *text = malloc(3 * strlen(sentence) + 1);
	char *end = text;

	for (const unsigned char *c = (const unsigned char *)sentence; text && *c; c++) {
		if (*c >= ' ' && *c <= '~' && *c != '%') {
			*end++ = (char)*c;
		} else {
			*end++ = '%';
			*end++ = digits[*c >> 4];
			*end++ = digits[*c & 15];
		}
	}
	if (text)
		*end = '\0';
	return text;
}

static void respond(struct grpc_call *call)
{
	static const nghttp2_nv headers[] = {
		{ (uint8_t *)":status", (uint8_t *)"200", 7, 3,
		  NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE },
		{ (uint8_t *)"content-type", (uint8_t *)"application/grpc", 12, 16,
		  NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE },
	};

	call->responding = true;
	http2_respond(call, headers, sizeof(headers) / sizeof(headers[0]));
}

/* Nothing was answered yet, and nothing will be but the status. */
static void respond_with_status(struct grpc_call *call)
{
	nghttp2_nv headers[5] = {
		HEADER(":status", "200"),
		HEADER("content-type", "application/grpc"),
		HEADER("grpc-accept-encoding", "identity,gzip"),
	};
	size_t count = 3 + status_headers(call, headers + 3);

	call->responding = true;
	call->ended = true;
	http2_respond_only(call, headers, count);
}

void grpc_refuse(struct grpc_call *call, const char *code)
{
	const nghttp2_nv headers[] = { HEADER(":status", code) };

	count_up(&call->connection->room->loop->counts, COUNT_CALLS_FAILED);
	call->finished = true;
	call->responding = true;
	call->ended = true;
	http2_respond_only(call, headers, 1);
}

void grpc_send(struct grpc_call *call, const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	unsigned char *bytes;

	if (call->finished)
		return;
	bytes = length > UINT32_MAX ? NULL :
				      grpc_reserve(call, &call->answer, PREFIX_BYTES + length);
	if (!bytes) {
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "no room for an answer of %zu bytes: too "
			  "many wait for clients that do not read; ask again later", length);
		return;
	}
	bytes[0] = 0;
	bytes[1] = (unsigned char)(length >> 24);
	bytes[2] = (unsigned char)(length >> 16);
	bytes[3] = (unsigned char)(length >> 8);
	bytes[4] = (unsigned char)length;
	protobuf_c_message_pack(message, bytes + PREFIX_BYTES);
	call->answer.length += PREFIX_BYTES + length;
	grpc_wait(call, GRPC_WAIT_ROOM);
	if (call->responding)
		http2_resume(call);
	else
		respond(call);
}

/* No more will be sent: the trailers follow what was. */
static void finish(struct grpc_call *call)
{
	call->finished = true;
	if (!call->responding) {
		respond_with_status(call);
		return;
	}
	/* Trailers, too, wait for room. */
	grpc_wait(call, GRPC_WAIT_ROOM);
	http2_resume(call);
}

void grpc_finish(struct grpc_call *call)
{
	if (!call->finished)
		finish(call);
}

void grpc_reply(struct grpc_call *call, const ProtobufCMessage *message)
{
	grpc_send(call, message);
	grpc_finish(call);
}

void grpc_fail(struct grpc_call *call, enum grpc_status status, const char *format, ...)
{
	char sentence[SENTENCE_BYTES];
	va_list arguments;

	if (call->finished)
		return;
	va_start(arguments, format);
	vsnprintf(sentence, sizeof(sentence), format, arguments);
	va_end(arguments);
	count_up(&call->connection->room->loop->counts, COUNT_CALLS_FAILED);
	call->status = status;
	call->status_message = percent_encode(sentence);
	finish(call);
}

size_t grpc_unsent(const struct grpc_call *call)
{
	return buffer_length(&call->answer);
}

void grpc_flush(struct grpc_call *call)
{
	connection_flush(call->connection);
}

size_t grpc_read(struct grpc_call *call, unsigned char *bytes, size_t size, bool *over)
{
	size_t length = buffer_length(&call->answer);
	nghttp2_nv trailers[2];

	if (length > size)
		length = size;
	memcpy(bytes, buffer_bytes(&call->answer), length);
	buffer_take(&call->answer, length);
	if (buffer_length(&call->answer) == 0)
		grpc_go_on(call, GRPC_WAIT_ROOM);
	*over = call->finished && buffer_length(&call->answer) == 0;
	if (*over && !call->ended) {
		call->ended = true;
		http2_trailers(call, trailers, status_headers(call, trailers));
	}
	return length;
}
