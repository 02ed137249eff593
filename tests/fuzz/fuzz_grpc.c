/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as what a client of the service sends.  The first byte says how they are sent:
 * as they are, behind a proper beginning, as the body of a call, or as a message; whether
 * the service drains before that, and whether all timeouts pass after it.  The service
 * must survive, and when the client has gone nothing may be left of it.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/connection.h"
#include "serve/grpc.h"
#include "serve/grpc_room.h"
#include "serve/http2.h"
#include "tests/fuzz/served.h"
#include "weir.h"

/* In the first byte, beside two bits for how. */
#define DRAINS 0x40
#define TIME_PASSES 0x80

static struct options options = {
	.loops = 1,
	.connections_max = 10,
	.streams_max = 100,
	.message_max_bytes = 65536,
	.request_timeout_s = 30,
	.keepalive_s = 60,
};

static const struct weir_policy policy = {
	.name = "api",
	.limit_count = 1,
	.limits = { { .limit = 100, .period_ns = 1000000000 } },
};

static const char *const paths[] = {
	"/weir.v1.Limiter/Allow",
	"/weir.v1.Limiter/AllowN",
	"/weir.v1.Limiter/AllowBatch",
	"/weir.v1.Limiter/GetStatus",
	"/weir.v1.Limiter/Reset",
	"/weir.v1.Limiter/Refund",
	"/weir.v1.Limiter/SetFailOpen",
	"/weir.v1.Limiter/Watch",
	"/grpc.health.v1.Health/Check",
	"/grpc.health.v1.Health/Watch",
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
	"/nowhere",
	"/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
};

static void begin(void)
{
	struct weir_error error;

	if (loop.base)
		return;
	served_begin(&options, &policy, 1);
	must(loop_open(&loop, &server, &error) == WEIR_OK);
	must(grpc_room.open(&loop, &error) == WEIR_OK);
}

static void put_frame(uint8_t kind, uint8_t flags, const void *payload, size_t length)
{
	const uint32_t stream = kind == NGHTTP2_SETTINGS ? 0 : 1;
	const unsigned char head[] = { (unsigned char)(length >> 16), (unsigned char)(length >> 8),
				       (unsigned char)length, kind, flags, 0, 0, 0,
				       (unsigned char)stream };

	served_put(head, sizeof(head));
	served_put(payload, length);
}

/* Add a field to a header block, as it is. */
static size_t add_field(unsigned char *block, size_t length, const char *name, const char *value)
{
	size_t name_length = strlen(name), value_length = strlen(value);

	block[length++] = 0;
	block[length++] = (unsigned char)name_length;
	memcpy(block + length, name, name_length);
	length += name_length;
	block[length++] = (unsigned char)value_length;
	memcpy(block + length, value, value_length);
	return length + value_length;
}

static void greet(void)
{
	served_put("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	put_frame(NGHTTP2_SETTINGS, 0, NULL, 0);
}

static void put_headers(const char *path)
{
	unsigned char block[256];
	size_t length = 0;

	length = add_field(block, length, ":method", "POST");
	length = add_field(block, length, ":scheme", "http");
	length = add_field(block, length, ":path", path);
	length = add_field(block, length, "content-type", "application/grpc");
	put_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, block, length);
}

/* The bytes as the body of a call; as a message of it, if PREFIXED. */
static void put_call(const uint8_t *data, size_t size, bool prefixed)
{
	const char *path = paths[size > 0 ? data[0] % (sizeof(paths) / sizeof(paths[0])) : 0];
	unsigned char prefix[5] = { 0 };

	if (size > 0) {
		data++;
		size--;
	}
	greet();
	put_headers(path);
	prefix[1] = (unsigned char)(size >> 24);
	prefix[2] = (unsigned char)(size >> 16);
	prefix[3] = (unsigned char)(size >> 8);
	prefix[4] = (unsigned char)size;
	if (prefixed)
		put_frame(NGHTTP2_DATA, 0, prefix, sizeof(prefix));
	for (size_t piece; size > 16384; data += piece, size -= piece) {
		piece = 16384;
		put_frame(NGHTTP2_DATA, 0, data, piece);
	}
	put_frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, data, size);
}

/* Longer than anything may last, in steps: who is silent is asked first. */
static void pass_time(void)
{
	for (int i = 0; i < 3; i++) {
		loop.seconds += options.keepalive_s + 1;
		grpc_room.tick(&loop);
		served_turn();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t how = size > 0 ? data[0] : 0;
	struct grpc_room *room;
	int pair[2];

	begin();
	room = loop.rooms[ROOM_GRPC];
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	client = pair[1];
	must(connection_open(room, pair[0], NULL));
	if (how & DRAINS)
		connection_each(room, http2_drain);
	switch (how % 4) {
	case 0:
		served_put(data, size);
		break;
	case 1:
		greet();
		served_put(data + 1, size - 1);
		break;
	case 2:
		put_call(data + 1, size - 1, false);
		break;
	case 3:
		put_call(data + 1, size - 1, true);
		break;
	}
	served_turn();
	if (how & TIME_PASSES) {
		pass_time();
		must(server_connections(&server) == 0);
	}
	served_leave();
	must(room->call_count == 0);
	must(room->buffered_bytes == 0);
	must(TAILQ_EMPTY(&room->streaming));
	must(TAILQ_EMPTY(&room->waiting));
	must(TAILQ_EMPTY(&room->heard) && TAILQ_EMPTY(&room->asked));
	return 0;
}
