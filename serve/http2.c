/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/http2.h"

#include <string.h>

#include "serve/grpc.h"
#include "serve/server.h"

#define CALLS_MAX 100000u               /* of a loop */
#define HEADERS_MAX_BYTES (16u * 1024)
#define WINDOW_BYTES (1 << 20)          /* of a connection; of a stream: HTTP/2's 65535 */

/* More than nghttp2 hands out at a time: a frame of 16384 bytes, its header and padding. */
#define FRAME_BYTES (16384u + 512u)

/* What tells the answer to http2_drain() from that to http2_ask(). */
static const uint8_t drain_ping[8] = "draining";

static struct connection *connection_of(void *context)
{
	return context;
}

/* ---- What comes -------------------------------------------------------- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
	struct connection *connection = connection_of(context);
	struct grpc_call *call;

	/* Trailers of a request tell nothing. */
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	/* What the last GOAWAY leaves out its client may repeat elsewhere, and that word may
	 * still wait to be sent: nghttp2 lets such streams begin until then. */
	if (connection->going || connection->room->call_count >= CALLS_MAX)
		call = NULL;
	else
		call = grpc_begin(connection, frame->hd.stream_id);
	count_up(&connection->room->loop->counts, call ? COUNT_CALLS : COUNT_CALLS_REFUSED);
	if (!call) {
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
					  NGHTTP2_REFUSED_STREAM);
		return 0;
	}
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
		     void *context)
{
	struct grpc_call *call;

	(void)flags;
	(void)context;
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (!call)
		return 0;
	/* As RFC 9113, 6.5.2 counts them. */
	call->header_bytes += name_length + value_length + 32;
	if (call->header_bytes > HEADERS_MAX_BYTES)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;   /* resets the stream */
	grpc_header(call, (const char *)name, name_length, (const char *)value, value_length);
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
	struct connection *connection = connection_of(context);
	struct grpc_call *call;

	switch (frame->hd.type) {
	case NGHTTP2_SETTINGS:
		connection->greeted = true;
		return 0;
	case NGHTTP2_PING:
		if ((frame->hd.flags & NGHTTP2_FLAG_ACK) &&
		    memcmp(frame->ping.opaque_data, drain_ping, sizeof(drain_ping)) == 0)
			http2_go(connection);
		return 0;
	case NGHTTP2_HEADERS:
	case NGHTTP2_DATA:
		break;
	default:
		return 0;
	}
	call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (!call)
		return 0;
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		call->whole = true;
		grpc_go_on(call, GRPC_WAIT_REQUEST);
	}
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		grpc_headers_end(call);
	if (call->whole)
		grpc_end(call);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
		   size_t length, void *context)
{
	struct grpc_call *call = nghttp2_session_get_stream_user_data(session, stream_id);

	(void)flags;
	(void)context;
	if (call)
		grpc_data(call, data, length);
	return 0;
}

/* Once an answer is complete, what its client still has to send would be for nothing.
 * Said any earlier, it would overtake the answer. */
static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
	const struct grpc_call *call;

	(void)context;
	if (frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (call && !call->whole)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
					  NGHTTP2_NO_ERROR);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t code,
			   void *context)
{
	struct grpc_call *call = nghttp2_session_get_stream_user_data(session, stream_id);

	(void)code;
	(void)context;
	if (call) {
		nghttp2_session_set_stream_user_data(session, stream_id, NULL);
		grpc_free(call);
	}
	return 0;
}

bool http2_receive(struct connection *connection, const unsigned char *bytes, size_t length)
{
	return nghttp2_session_mem_recv(connection->session, bytes, length) >= 0;
}

/* ---- What leaves ------------------------------------------------------- */

ssize_t http2_gather(struct connection *connection, unsigned char *bytes, size_t size)
{
	size_t length = 0;

	while (size - length >= FRAME_BYTES) {
		const uint8_t *frame;
		ssize_t frame_length = nghttp2_session_mem_send(connection->session, &frame);

		if (frame_length < 0 || (size_t)frame_length > size - length)
			return -1;
		if (frame_length == 0)
			break;
		memcpy(bytes + length, frame, (size_t)frame_length);
		length += (size_t)frame_length;
	}
	return (ssize_t)length;
}

static ssize_t on_read(nghttp2_session *session, int32_t stream_id, uint8_t *bytes, size_t size,
		       uint32_t *flags, nghttp2_data_source *source, void *context)
{
	struct grpc_call *call = source->ptr;
	bool over = false;
	size_t length;

	(void)session;
	(void)stream_id;
	(void)context;
	length = grpc_read(call, bytes, size, &over);
	if (over)
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
	else if (length == 0)
		return NGHTTP2_ERR_DEFERRED;
	return (ssize_t)length;
}

void http2_respond(struct grpc_call *call, const nghttp2_nv *headers, size_t count)
{
	const nghttp2_data_provider provider = { .source.ptr = call, .read_callback = on_read };

	nghttp2_submit_response(call->connection->session, call->stream_id, headers, count,
				&provider);
}

void http2_respond_only(struct grpc_call *call, const nghttp2_nv *headers, size_t count)
{
	nghttp2_submit_response(call->connection->session, call->stream_id, headers, count, NULL);
}

void http2_trailers(struct grpc_call *call, const nghttp2_nv *trailers, size_t count)
{
	nghttp2_submit_trailer(call->connection->session, call->stream_id, trailers, count);
}

void http2_resume(struct grpc_call *call)
{
	/* It fails if the stream is not waiting, which is as good. */
	nghttp2_session_resume_data(call->connection->session, call->stream_id);
}

void http2_reset(struct grpc_call *call)
{
	nghttp2_submit_rst_stream(call->connection->session, NGHTTP2_FLAG_NONE, call->stream_id,
				  NGHTTP2_CANCEL);
}

/* ---- Beginning and end ------------------------------------------------- */

bool http2_room_open(struct grpc_room *room)
{
	if (nghttp2_session_callbacks_new(&room->callbacks) != 0 ||
	    nghttp2_option_new(&room->session_options) != 0)
		return false;
	nghttp2_session_callbacks_set_on_begin_headers_callback(room->callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(room->callbacks, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(room->callbacks, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(room->callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_send_callback(room->callbacks, on_frame_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(room->callbacks, on_stream_close);
	nghttp2_option_set_no_closed_streams(room->session_options, 1);
	return true;
}

void http2_room_close(struct grpc_room *room)
{
	nghttp2_session_callbacks_del(room->callbacks);
	nghttp2_option_del(room->session_options);
}

bool http2_open(struct grpc_room *room, struct connection *connection)
{
	const struct options *options = room->loop->server->options;
	const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)options->streams_max },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADERS_MAX_BYTES },
	};

	if (nghttp2_session_server_new2(&connection->session, room->callbacks, connection,
					room->session_options) != 0)
		return false;
	if (nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings,
				    sizeof(settings) / sizeof(settings[0])) != 0 ||
	    nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0,
						  WINDOW_BYTES) != 0) {
		nghttp2_session_del(connection->session);
		connection->session = NULL;
		return false;
	}
	return true;
}

bool http2_is_over(const struct connection *connection)
{
	return !nghttp2_session_want_read(connection->session) &&
	       !nghttp2_session_want_write(connection->session);
}

void http2_drain(struct connection *connection)
{
	nghttp2_submit_shutdown_notice(connection->session);
	/* The answer comes after all that the client sent before it heard the notice. */
	nghttp2_submit_ping(connection->session, NGHTTP2_FLAG_NONE, drain_ping);
}

void http2_ask(struct connection *connection)
{
	nghttp2_submit_ping(connection->session, NGHTTP2_FLAG_NONE, NULL);
}

void http2_go(struct connection *connection)
{
	if (connection->going)
		return;
	connection->going = true;
	nghttp2_submit_goaway(connection->session, NGHTTP2_FLAG_NONE,
			      nghttp2_session_get_last_proc_stream_id(connection->session),
			      NGHTTP2_NO_ERROR, NULL, 0);
}

void http2_close(struct connection *connection)
{
	/* Closes no streams, so their calls are ended here. */
	grpc_end_all(connection);
	nghttp2_session_del(connection->session);
}
