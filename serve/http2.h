/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http2.h - the HTTP/2 session of a connection, by nghttp2: frames, header compression
 * and flow control.  A stream is a call (grpc.h).
 *
 * BOUNDS, of a connection: --max-streams calls at a time, headers of 16 KiB (16 fields of
 * a call are more than gRPC needs), a request of --max-message; of a loop: CALLS_MAX calls
 * under way, and the bytes of requests that are not whole yet (grpc.c).  Beyond them a
 * stream is refused, which clients may repeat elsewhere, or ended with an error.  Floods
 * of frames that cost an answer (PING, SETTINGS, RST_STREAM) end the connection; nghttp2
 * counts them.
 */
#ifndef WEIR_SERVE_HTTP2_H
#define WEIR_SERVE_HTTP2_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "serve/connection.h"
#include "serve/tls.h"
#include "weir.h"

/* What the sessions of a room share.  Returns false if there is no memory. */
bool http2_room_open(struct grpc_room *room);
void http2_room_close(struct grpc_room *room);

/* Begin a session: our SETTINGS wait to be gathered. */
bool http2_open(struct grpc_room *room, struct connection *connection);

/* Read what came.  Returns false if the connection cannot go on. */
bool http2_receive(struct connection *connection, const unsigned char *bytes, size_t length);

/* Fill BYTES with frames to send.  Returns how many bytes, 0 if there is nothing to say,
 * -1 if the connection cannot go on. */
ssize_t http2_gather(struct connection *connection, unsigned char *bytes, size_t size);

/* Has either side said good-bye, and is nothing under way? */
bool http2_is_over(const struct connection *connection);

/* Tell the client to go: first that it should (GOAWAY of the last possible stream), and
 * when it must have heard that, which calls are still answered. */
void http2_drain(struct connection *connection);

/* Ask whether the client is there: it has to answer. */
void http2_ask(struct connection *connection);

/* Tell the client to go at once; calls under way are answered. */
void http2_go(struct connection *connection);

/* End all calls and the session. */
void http2_close(struct connection *connection);

/* ---- For a call -------------------------------------------------------- */

/* Begin to answer: headers, and then what grpc_read() gives. */
void http2_respond(struct grpc_call *call, const nghttp2_nv *headers, size_t count);

/* Answer with headers alone, and end the stream. */
void http2_respond_only(struct grpc_call *call, const nghttp2_nv *headers, size_t count);

/* End the stream with trailers; from within grpc_read(). */
void http2_trailers(struct grpc_call *call, const nghttp2_nv *trailers, size_t count);

/* grpc_read() has something to give again. */
void http2_resume(struct grpc_call *call);

/* Give the call up: it ends when that has left. */
void http2_reset(struct grpc_call *call);

#endif
