/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc.h - gRPC over HTTP/2: methods, calls, messages and statuses.
 *
 * TO ADD A SERVICE: write its .proto, a table of methods, a struct grpc_service, and name
 * that in services.c.  A method's message() is called once for each message of a request,
 * decoded, and answers in one of these ways:
 *
 *	grpc_reply(call, message)       the answer of a unary call
 *	grpc_fail(call, status, ...)    an error, with a sentence
 *	grpc_send(call, message)        one of several answers, then grpc_finish(call)
 *
 * A request and what is allocated from grpc_arena() live until message() returns.  A call
 * that answers later keeps its state in call->state, and frees it in end(), which is
 * called exactly once, whatever ends the call.  What is sent later must be followed by
 * grpc_flush(), after which the call may be gone.
 *
 * THREADS: a call belongs to its loop.
 */
#ifndef WEIR_SERVE_GRPC_H
#define WEIR_SERVE_GRPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "serve/buffer.h"
#include "serve/connection.h"

enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
};

struct grpc_call;

struct grpc_method {
	const char *name;               /* "Allow" */
	const ProtobufCMessageDescriptor *request;
	void (*message)(struct grpc_call *call, const void *request);
	bool client_streams;            /* any number of messages; else exactly one */

	/* The client has sent all of its messages (client_streams only). */
	void (*half_closed)(struct grpc_call *call);
	/* The service is about to end, and the call is still open.  NULL: it is left to end
	 * by itself, within the drain timeout. */
	void (*drain)(struct grpc_call *call);
	/* Whether Envoy's rules are there is another matter than before.  May be NULL. */
	void (*health)(struct grpc_call *call);
	/* The call is over: free call->state. */
	void (*end)(struct grpc_call *call);
};

struct grpc_service {
	const char *name;               /* "weir.v1.Limiter" */
	const struct grpc_method *methods;
	size_t method_count;
};

/* All services: services.c. */
extern const struct grpc_service *const grpc_services[];
extern const size_t grpc_service_count;

/* The service NAME (LENGTH bytes), or NULL. */
const struct grpc_service *grpc_service_find(const char *name, size_t length);

/* What a call can wait for that its client has to do. */
enum grpc_wait {
	GRPC_WAIT_REQUEST = 1,          /* send the rest of a request that it has begun */
	GRPC_WAIT_ROOM = 2,             /* take what was answered: open its window */
};

struct grpc_call {
	struct connection *connection;
	int32_t stream_id;
	TAILQ_ENTRY(grpc_call) entry;           /* in connection->call_queue */
	TAILQ_ENTRY(grpc_call) stream_entry;    /* in room->streaming */
	TAILQ_ENTRY(grpc_call) wait_entry;      /* in room->waiting, if it waits */
	unsigned waits;                 /* for its client: a set of enum grpc_wait */
	uint64_t waits_since_s;         /* loop->seconds when it began to */
	const struct grpc_method *method;       /* NULL: there is none */
	void *state;                    /* the method's own */
	struct event *deadline;         /* of a call that answers later, or NULL */
	uint64_t deadline_ns;           /* by CLOCK_MONOTONIC; 0: none */
	size_t header_bytes;

	/* What the headers said, until they are whole. */
	bool is_post;
	bool is_grpc;
	bool is_gzip;                   /* messages that say so are compressed by it */
	bool is_compressed;             /* in a way that we do not read */
	bool is_timeout_malformed;

	bool whole;                     /* the request was received to its end */
	bool taken;                     /* message() was called */
	bool streaming;                 /* in room->streaming */
	bool responding;                /* headers were submitted */
	bool finished;                  /* nothing more may be sent */
	bool ended;                     /* trailers were submitted */
	enum grpc_status status;
	char *status_message;           /* percent-encoded, or NULL */

	struct buffer request;
	struct buffer answer;
};

/* ---- For methods ------------------------------------------------------- */

struct server *grpc_server(const struct grpc_call *call);
struct arena *grpc_arena(const struct grpc_call *call);

void grpc_send(struct grpc_call *call, const ProtobufCMessage *message);
void grpc_finish(struct grpc_call *call);
void grpc_reply(struct grpc_call *call, const ProtobufCMessage *message);
void grpc_fail(struct grpc_call *call, enum grpc_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Room for LENGTH bytes more in a buffer of the call; NULL: no memory, or the loop would
 * hold too much of messages that are not whole and answers that were not read.  What is
 * short always has room. */
unsigned char *grpc_reserve(struct grpc_call *call, struct buffer *buffer, size_t length);

/* Bytes that the client has not taken yet. */
size_t grpc_unsent(const struct grpc_call *call);

/* Send what was said outside of message(), half_closed() and drain(). */
void grpc_flush(struct grpc_call *call);

/* ---- For http2.c ------------------------------------------------------- */

/* A stream has begun: its call, or NULL (no memory). */
struct grpc_call *grpc_begin(struct connection *connection, int32_t stream_id);
void grpc_header(struct grpc_call *call, const char *name, size_t name_length, const char *value,
		 size_t value_length);

/* The client has to do what WHAT says, or has done it.  It is in the middle of a request
 * from the beginning; not once all has come, nor between two messages of a call that takes
 * many.  A call that waits for too long is ended: grpc_tick(). */
void grpc_wait(struct grpc_call *call, enum grpc_wait what);
void grpc_go_on(struct grpc_call *call, enum grpc_wait what);

/* The headers are whole, and (grpc_end) the request: call->whole is set before either. */
void grpc_headers_end(struct grpc_call *call);
void grpc_data(struct grpc_call *call, const unsigned char *bytes, size_t length);
void grpc_end(struct grpc_call *call);

/* Take up to SIZE bytes of the answer; *OVER when there will be no more. */
size_t grpc_read(struct grpc_call *call, unsigned char *bytes, size_t size, bool *over);

void grpc_free(struct grpc_call *call);
void grpc_end_all(struct connection *connection);

/* ---- For the room ------------------------------------------------------ */

/* End calls that have waited for their clients too long.  Once a second. */
void grpc_tick(struct grpc_room *room);

void grpc_drain(struct grpc_room *room);

/* Tell calls that stay open of another health than they were told; the room sends it. */
void grpc_health(struct grpc_room *room);

#endif
