/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection.h - a client's connection: a socket, perhaps TLS on it, an HTTP/2 session,
 * and how long it may take for what.
 *
 * READING AND WRITING
 *
 * Bytes are read into a buffer that all connections of a loop share, and handed to the
 * session, which keeps what it needs.  What the session has to say is gathered in another
 * such buffer and written at once.  If the socket takes less, the rest is kept, and until
 * it has left nothing is read and nothing more is gathered: a client that does not read
 * its answers costs one buffer.
 *
 * TIMEOUTS
 *
 * A connection is busy while its client owes something: the TLS handshake, the HTTP/2
 * preface, the rest of a request, or taking what was answered.  A busy connection on which
 * nothing was completed for --request-timeout is closed; one without calls, after
 * --idle-timeout.  Busy and quiet connections stand in two queues, the one that waits
 * longest first, so that the loop looks at the heads alone.  A call that waits beside
 * others that go on is reset (grpc_tick()).
 *
 * A client of which nothing was heard for --keepalive is asked whether it is there, by a
 * PING, and given up if it says nothing for --request-timeout.  So those are found that
 * are gone without a word, and those whose host is there but that have stopped; TCP's
 * keepalive would find the first alone, and only while nothing is sent to them.  These are
 * two queues more, of who was heard and of who was asked.
 */
#ifndef WEIR_SERVE_CONNECTION_H
#define WEIR_SERVE_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <nghttp2/nghttp2.h>

#include "serve/loop.h"

struct ssl_st;
struct grpc_call;
struct grpc_listener;

/* Bytes that are read, or written, at once. */
#define IO_BYTES (64u * 1024)

TAILQ_HEAD(connection_queue, connection);
TAILQ_HEAD(grpc_call_queue, grpc_call);
TAILQ_HEAD(grpc_stream_queue, grpc_call);

/* The state of the gRPC room in a loop: grpc_room.c's. */
struct grpc_room {
	struct loop *loop;
	struct grpc_listener *listeners;
	struct connection_queue busy;
	struct connection_queue quiet;
	struct connection_queue heard;
	struct connection_queue asked;
	struct grpc_stream_queue streaming;     /* calls that answer more than once */
	struct grpc_stream_queue waiting;       /* calls that wait for their clients */
	struct event patience;          /* how long the drain waits for clients to hear of it */
	bool rules_healthy;             /* as calls were told last */
	size_t call_count;              /* of all connections, under way */
	size_t buffered_bytes;          /* on the heap, of requests and answers */
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *session_options;
	unsigned char input[IO_BYTES];
	unsigned char output[IO_BYTES];
};

struct connection {
	TAILQ_ENTRY(connection) entry;  /* in room->busy or room->quiet */
	struct grpc_room *room;
	struct event readable;
	struct event writable;
	struct event age;               /* --max-connection-age, and then the grace */
	evutil_socket_t fd;
	struct ssl_st *ssl;             /* NULL: plain */
	bool handshaking;
	bool reading;                   /* readable is pending */
	bool is_busy;                   /* in room->busy */
	bool leaving;                   /* it was old, and its client told to go */
	bool progress;                  /* a call waits no more, or all that was unsent has left */
	uint64_t since_s;               /* loop->seconds when it came into its queue */

	TAILQ_ENTRY(connection) heard_entry;    /* in room->heard or room->asked */
	bool is_asked;                  /* in room->asked */
	uint64_t heard_s;               /* loop->seconds when bytes came last, or it was asked */

	unsigned char *unsent;          /* what the socket did not take, or NULL */
	size_t unsent_length;
	size_t unsent_offset;

	/* http2.c's */
	nghttp2_session *session;
	bool greeted;                   /* the preface and SETTINGS came */
	bool going;                     /* the last GOAWAY was said: no more calls */
	struct grpc_call_queue call_queue;      /* under way */
	size_t calls;                   /* as many */
	size_t owing;                   /* calls that wait for their client */
};

/* Take over FD, which does not block.  SSL: NULL, or made for it; owned from here on.
 * Returns false if there is no memory; FD and SSL are closed then. */
bool connection_open(struct grpc_room *room, evutil_socket_t fd, struct ssl_st *ssl);

/* Send what the session has to say.  Not from within a callback of the session: it may
 * close the connection and end its calls. */
void connection_flush(struct connection *connection);

/* Close connections that have waited too long.  Once a second. */
void connection_tick(struct grpc_room *room);

/* Call FUNCTION, which may change the session but not close it, on all connections, and
 * send what it said. */
void connection_each(struct grpc_room *room, void (*function)(struct connection *connection));

void connection_close(struct connection *connection);

#endif
