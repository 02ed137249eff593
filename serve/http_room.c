/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_room.c - libmicrohttpd's daemons in an event loop: one for each listening socket.
 *
 * A daemon has an epoll descriptor of its own.  The loop watches that, runs the daemon
 * when it is readable, and again when the daemon wants it (MHD_get_timeout).
 *
 * TIMEOUTS: a connection on which no request was completed for --request-timeout is
 * closed, whatever the client sends meanwhile; so an idle one is, too.
 */
#include "serve/http_room.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/fail.h"
#include "serve/http.h"
#include "serve/http_tls.h"
#include "serve/server.h"

/* What a request line and its headers may take, with the buffers for the answer. */
#define CONNECTION_BYTES (32u * 1024)
#define BUFFERED_MAX_BYTES (64ull << 20)        /* bodies of a loop that are not whole */
/* At its own bound a daemon lets clients wait; on_accept() tells them at once. */
#define CONNECTIONS_SPARE 64u
#define ACCEPT_ROUNDS 64                        /* when a listener is given up */

struct http_connection {
	LIST_ENTRY(http_connection) entry;
	struct MHD_Connection *connection;
	uint64_t since_s;               /* loop->seconds when it was last done with something */
	bool asks;                      /* a request has begun */
};

struct http_listener {
	struct http_listener *next;
	struct http_room *room;
	struct MHD_Daemon *daemon;
	struct event *readable;
	struct event *timer;
	bool tls;
};

struct http_room {
	struct loop *loop;
	struct http_listener *listeners;
	LIST_HEAD(, http_connection) connections;
	uint64_t buffered_bytes;
	bool draining;
};

/* ---- Requests ---------------------------------------------------------- */

/* NULL: there was no memory for it. */
static struct http_connection *set_asks(struct MHD_Connection *connection, bool asks)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct http_connection *own = info ? info->socket_context : NULL;

	if (own)
		own->asks = asks;
	return own;
}

static unsigned method_of(const char *method)
{
	if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
		return HTTP_GET;
	return strcmp(method, "POST") == 0 ? HTTP_POST : 0;
}

static struct http_request *request_begin(struct http_listener *listener,
					  struct MHD_Connection *connection, const char *path,
					  const char *method)
{
	struct http_request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	request->loop = listener->room->loop;
	request->connection = connection;
	request->page = http_page(listener->room->loop->server->options, path);
	request->method = method_of(method);
	request->result = MHD_YES;
	return request;
}

/* What the headers say of where the request ends. */
struct framing {
	unsigned hosts;
	unsigned lengths;
	unsigned encodings;
	bool chunked;
	bool blank;                     /* before a colon */
};

static bool is_name(const char *name, size_t length, const char *wanted)
{
	return length == strlen(wanted) && strncasecmp(name, wanted, length) == 0;
}

static enum MHD_Result look_at_header(void *context, enum MHD_ValueKind kind, const char *name,
				      size_t length, const char *value, size_t value_length)
{
	struct framing *framing = context;

	(void)kind;
	framing->blank |= length == 0 || name[length - 1] == ' ' || name[length - 1] == '\t';
	framing->hosts += is_name(name, length, MHD_HTTP_HEADER_HOST);
	framing->lengths += is_name(name, length, MHD_HTTP_HEADER_CONTENT_LENGTH);
	if (is_name(name, length, MHD_HTTP_HEADER_TRANSFER_ENCODING)) {
		framing->encodings++;
		framing->chunked = is_name(value, value_length, "chunked");
	}
	return MHD_YES;
}

/* A proxy in front of us may find another end of such a request, and so take what follows
 * for another one's (RFC 9112, 6.3 and 11.2): the connection ends with it. */
static void refuse_ambiguity(struct http_request *request)
{
	struct framing framing = { 0 };

	MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, look_at_header, &framing);
	request->ends_connection = true;
	if (framing.blank)
		http_fail(request, MHD_HTTP_BAD_REQUEST, "a header's name is empty, or has a blank "
			  "before its colon; leave that out");
	else if (framing.hosts > 1)
		http_fail(request, MHD_HTTP_BAD_REQUEST, "the request has %u Host headers; send one",
			  framing.hosts);
	else if (framing.lengths + framing.encodings > 1)
		http_fail(request, MHD_HTTP_BAD_REQUEST, "the length of the body is told %u times "
			  "(Content-Length, Transfer-Encoding); send one of the two, once",
			  framing.lengths + framing.encodings);
	else if (framing.encodings && !framing.chunked)
		http_fail(request, MHD_HTTP_NOT_IMPLEMENTED, "the body comes in a Transfer-Encoding "
			  "other than chunked; send that, or a Content-Length");
	else
		request->ends_connection = false;
}

/* Of a body that is too large the client is told before it sends it. */
static void refuse_too_much(struct http_request *request)
{
	uint64_t most = request->loop->server->options->message_max_bytes;
	const char *length = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND,
							 MHD_HTTP_HEADER_CONTENT_LENGTH);

	if (request->answered || !length || strtoull(length, NULL, 10) <= most)
		return;
	http_fail(request, MHD_HTTP_CONTENT_TOO_LARGE, "the body has %.20s bytes; send %llu at "
		  "most, or start the service with a larger --max-message", length,
		  (unsigned long long)most);
}

/* Keep LENGTH bytes more of the body.  False: too many; the connection ends. */
static bool request_take(struct http_request *request, const char *bytes, size_t length)
{
	struct http_room *room = request->loop->rooms[ROOM_HTTP];
	size_t most = request->loop->server->options->message_max_bytes;
	size_t wanted = request->body_length + length, space;
	char *larger;

	if (wanted > most)
		return false;
	if (wanted + 1 > request->body_room) {
		space = request->body_room * 2 > wanted + 1 ? request->body_room * 2 : wanted + 1;
		if (room->buffered_bytes + space - request->body_room > BUFFERED_MAX_BYTES)
			return false;
		larger = realloc(request->body, space);
		if (!larger)
			return false;
		room->buffered_bytes += space - request->body_room;
		request->body = larger;
		request->body_room = space;
	}
	memcpy(request->body + request->body_length, bytes, length);
	request->body_length = wanted;
	request->body[wanted] = '\0';
	return true;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
				  const char *path, const char *method, const char *version,
				  const char *upload, size_t *upload_length, void **state)
{
	struct http_listener *listener = context;
	struct http_request *request = *state;

	(void)version;
	if (!request) {
		request = request_begin(listener, connection, path, method);
		*state = request;
		if (!request)
			return MHD_NO;
		set_asks(connection, true);
		if (listener->tls && !http_tls_verified(listener->room->loop->server, connection))
			http_fail(request, MHD_HTTP_FORBIDDEN, "no certificate that this service "
				  "accepts was shown; use one that --tls-client-ca has signed");
		else
			refuse_ambiguity(request);
		refuse_too_much(request);
		return request->result;
	}
	if (*upload_length > 0) {
		size_t length = *upload_length;

		*upload_length = 0;
		return request_take(request, upload, length) ? MHD_YES : MHD_NO;
	}
	if (!request->answered)
		http_answer(request);
	arena_reset(&request->loop->arena);
	return request->result;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
			 enum MHD_RequestTerminationCode how)
{
	struct http_listener *listener = context;
	struct http_request *request = *state;
	struct http_connection *own = set_asks(connection, false);

	(void)how;
	*state = NULL;
	if (own)
		own->since_s = listener->room->loop->seconds;
	if (!request)
		return;
	listener->room->buffered_bytes -= request->body_room;
	free(request->body);
	free(request);
}

/* ---- Connections ------------------------------------------------------- */

static enum MHD_Result on_accept(void *context, const struct sockaddr *address, socklen_t length)
{
	struct http_listener *listener = context;
	struct server *server = listener->room->loop->server;

	(void)address;
	(void)length;
	if (atomic_load(&server->connections) < server->options->connections_max)
		return MHD_YES;
	count_up(&listener->room->loop->counts, COUNT_CONNECTIONS_REFUSED);
	return MHD_NO;
}

static void on_connection(void *context, struct MHD_Connection *connection, void **state,
			  enum MHD_ConnectionNotificationCode code)
{
	struct http_listener *listener = context;
	struct http_room *room = listener->room;
	struct http_connection *own = *state;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		atomic_fetch_add(&room->loop->server->connections, 1);
		count_up(&room->loop->counts, COUNT_CONNECTIONS);
		own = calloc(1, sizeof(*own));
		*state = own;
		if (!own)
			return;         /* libmicrohttpd's own timeout is left */
		own->connection = connection;
		own->since_s = room->loop->seconds;
		LIST_INSERT_HEAD(&room->connections, own, entry);
		return;
	}
	atomic_fetch_sub(&room->loop->server->connections, 1);
	if (own)
		LIST_REMOVE(own, entry);
	free(own);
	*state = NULL;
}

/* libmicrohttpd notices that the socket has ended, and closes it. */
static void cut_off(const struct http_connection *own)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(own->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	if (info)
		shutdown(info->connect_fd, SHUT_RDWR);
}

/* ---- Daemons ----------------------------------------------------------- */

static void run(struct http_listener *listener)
{
	MHD_UNSIGNED_LONG_LONG wait_ms;
	struct timeval wait;

	MHD_run(listener->daemon);
	if (MHD_get_timeout(listener->daemon, &wait_ms) != MHD_YES) {
		event_del(listener->timer);
		return;
	}
	wait.tv_sec = (time_t)(wait_ms / 1000);
	wait.tv_usec = (suseconds_t)(wait_ms % 1000 * 1000);
	event_add(listener->timer, &wait);
}

static void on_event(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	run(context);
}

static struct MHD_Daemon *start(struct http_listener *listener, evutil_socket_t fd)
{
	struct loop *loop = listener->room->loop;
	const struct options *options = loop->server->options;
	struct MHD_OptionItem tls[HTTP_TLS_OPTIONS];

	http_tls_options(loop->server, listener->tls, tls);
	return MHD_start_daemon(MHD_USE_EPOLL | (listener->tls ? MHD_USE_TLS : 0), 0, on_accept,
				listener, on_request, listener,
				MHD_OPTION_LISTEN_SOCKET, (MHD_socket)fd,
				MHD_OPTION_NOTIFY_COMPLETED, on_completed, listener,
				MHD_OPTION_NOTIFY_CONNECTION, on_connection, listener,
				MHD_OPTION_CONNECTION_LIMIT,
				(unsigned)options->connections_max + CONNECTIONS_SPARE,
				MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)options->request_timeout_s,
				MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
				MHD_OPTION_STRICT_FOR_CLIENT, 1,
				MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
				MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
}

static void listener_free(struct http_listener *listener)
{
	/* Before the daemon: its epoll descriptor is closed with it. */
	if (listener->readable)
		event_free(listener->readable);
	if (listener->timer)
		event_free(listener->timer);
	if (listener->daemon)
		MHD_stop_daemon(listener->daemon);
	free(listener);
}

static bool listener_watch(struct http_listener *listener)
{
	struct event_base *base = listener->room->loop->base;
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(listener->daemon, MHD_DAEMON_INFO_EPOLL_FD);

	if (!info)
		return false;
	listener->readable = event_new(base, info->epoll_fd, EV_READ | EV_PERSIST, on_event, listener);
	listener->timer = evtimer_new(base, on_event, listener);
	return listener->readable && listener->timer && event_add(listener->readable, NULL) == 0;
}

static int room_open(struct loop *loop, struct weir_error *error)
{
	struct http_room *room = calloc(1, sizeof(*room));

	if (!room)
		return fail(error, WEIR_ENOMEM, "no memory for HTTP");
	room->loop = loop;
	LIST_INIT(&room->connections);
	loop->rooms[ROOM_HTTP] = room;
	return WEIR_OK;
}

static int room_listen(struct loop *loop, evutil_socket_t fd, bool tls, struct weir_error *error)
{
	struct http_room *room = loop->rooms[ROOM_HTTP];
	struct http_listener *listener = calloc(1, sizeof(*listener));
	evutil_socket_t own = dup(fd);

	if (!listener || own < 0) {
		free(listener);
		if (own >= 0)
			close(own);
		return fail(error, WEIR_ENOMEM, "no memory to listen for HTTP");
	}
	*listener = (struct http_listener){ .room = room, .tls = tls };
	/* A daemon that does not start may have closed its socket, or not: so it has one of
	 * its own, which is left to the end of the process then. */
	listener->daemon = start(listener, own);
	if (!listener->daemon || !listener_watch(listener)) {
		listener_free(listener);
		return fail(error, WEIR_ESYSTEM, "cannot serve HTTP%s: libmicrohttpd does not start: "
			    "%m", tls ? " with TLS" : "");
	}
	close(fd);
	listener->next = room->listeners;
	room->listeners = listener;
	return WEIR_OK;
}

static void room_tick(struct loop *loop)
{
	struct http_room *room = loop->rooms[ROOM_HTTP];
	uint64_t timeout_s = loop->server->options->request_timeout_s;
	struct http_connection *own;

	LIST_FOREACH(own, &room->connections, entry) {
		uint64_t most_s = room->draining && !own->asks ? 1 : timeout_s;

		if (loop->seconds - own->since_s <= most_s)
			continue;
		count_up(&loop->counts, COUNT_CONNECTIONS_TIMED_OUT);
		cut_off(own);
	}
}

/* Take those that wait, then no more.  Requests under way are answered, with "Connection:
 * close"; idle connections are cut off. */
static void room_drain(struct loop *loop)
{
	struct http_room *room = loop->rooms[ROOM_HTTP];
	struct http_connection *own;

	room->draining = true;
	for (struct http_listener *listener = room->listeners; listener; listener = listener->next) {
		MHD_socket fd;

		for (int i = 0; i < ACCEPT_ROUNDS; i++)
			MHD_run(listener->daemon);
		fd = MHD_quiesce_daemon(listener->daemon);
		if (fd != MHD_INVALID_SOCKET)
			close(fd);
		run(listener);
	}
	LIST_FOREACH(own, &room->connections, entry)
		own->since_s = loop->seconds;
}

static void room_close(struct loop *loop)
{
	struct http_room *room = loop->rooms[ROOM_HTTP];

	while (room->listeners) {
		struct http_listener *listener = room->listeners;

		room->listeners = listener->next;
		listener_free(listener);
	}
	loop->rooms[ROOM_HTTP] = NULL;
	free(room);
}

const struct room http_room = {
	.name = "HTTP",
	.open = room_open,
	.listen = room_listen,
	.drain = room_drain,
	.tick = room_tick,
	.close = room_close,
};
