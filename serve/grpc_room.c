/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/grpc_room.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/fail.h"
#include "serve/grpc.h"
#include "serve/http2.h"
#include "serve/server.h"
#include "serve/tls.h"

#define ACCEPTS_MAX 64          /* at a time: those who are connected have their turn */
#define LAST_ACCEPTS_MAX 65536  /* when a listener is given up: more than wait in one */

/* A client that does not answer the notice in this time is told the last word: some look
 * at their connection only when they call. */
#define DRAIN_PATIENCE_MS 500

struct grpc_listener {
	struct grpc_listener *next;
	struct grpc_room *room;
	struct event readable;
	evutil_socket_t fd;
	bool tls;
	bool paused;                    /* no descriptor was left: tick() tries again */
};

static void begin(struct grpc_listener *listener, evutil_socket_t fd)
{
	struct loop *loop = listener->room->loop;
	struct server *server = loop->server;
	struct ssl_st *ssl = NULL;
	const int on = 1;
	bool taken = atomic_load(&server->connections) < server->options->connections_max;

	if (taken && listener->tls) {
		ssl = tls_accept(server->tls, fd);
		taken = ssl != NULL;
	}
	if (taken) {
		/* A unix socket has no such option, and needs none. */
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		taken = connection_open(listener->room, fd, ssl);
	} else {
		close(fd);
	}
	count_up(&loop->counts, taken ? COUNT_CONNECTIONS : COUNT_CONNECTIONS_REFUSED);
}

/* Accept up to MOST connections.  Returns false if none is left that waits. */
static bool accept_some(struct grpc_listener *listener, size_t most)
{
	for (size_t i = 0; i < most; i++) {
		evutil_socket_t fd = accept4(listener->fd, NULL, NULL,
					     SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			begin(listener, fd);
			continue;
		}
		switch (errno) {
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM:
			/* It would be readable all the time: look again in a second. */
			event_del(&listener->readable);
			listener->paused = true;
			return false;
		case EAGAIN:
			return false;
		default:
			/* This connection was gone before it was accepted. */
			break;
		}
	}
	return true;
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	accept_some(context, ACCEPTS_MAX);
}

static void on_patience(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	connection_each(context, http2_go);
}

static int room_open(struct loop *loop, struct weir_error *error)
{
	struct grpc_room *room = calloc(1, sizeof(*room));

	if (!room || !http2_room_open(room)) {
		free(room);
		return fail(error, WEIR_ENOMEM, "no memory for gRPC");
	}
	room->loop = loop;
	TAILQ_INIT(&room->busy);
	TAILQ_INIT(&room->quiet);
	TAILQ_INIT(&room->heard);
	TAILQ_INIT(&room->asked);
	TAILQ_INIT(&room->streaming);
	TAILQ_INIT(&room->waiting);
	evtimer_assign(&room->patience, loop->base, on_patience, room);
	room->rules_healthy = server_rules_healthy(loop->server);
	loop->rooms[ROOM_GRPC] = room;
	return WEIR_OK;
}

static int room_listen(struct loop *loop, evutil_socket_t fd, bool tls, struct weir_error *error)
{
	struct grpc_room *room = loop->rooms[ROOM_GRPC];
	struct grpc_listener *listener = calloc(1, sizeof(*listener));

	if (!listener)
		return fail(error, WEIR_ENOMEM, "no memory to listen for gRPC");
	*listener = (struct grpc_listener){ .next = room->listeners, .room = room, .fd = fd,
					    .tls = tls };
	if (event_assign(&listener->readable, loop->base, fd, EV_READ | EV_PERSIST, on_readable,
			 listener) < 0 ||
	    event_add(&listener->readable, NULL) < 0) {
		free(listener);
		return fail(error, WEIR_ESYSTEM, "cannot watch a listening socket: %m");
	}
	room->listeners = listener;
	return WEIR_OK;
}

static void say_nothing(struct connection *connection)
{
	(void)connection;
}

/* Who watches the health hears of it within a second. */
static void look_at_health(struct grpc_room *room)
{
	bool healthy = server_rules_healthy(room->loop->server);

	if (room->rules_healthy == healthy)
		return;
	room->rules_healthy = healthy;
	grpc_health(room);
	connection_each(room, say_nothing);     /* but send what the calls said */
}

static void room_tick(struct loop *loop)
{
	struct grpc_room *room = loop->rooms[ROOM_GRPC];

	connection_tick(room);
	grpc_tick(room);
	look_at_health(room);
	for (struct grpc_listener *listener = room->listeners; listener; listener = listener->next) {
		if (listener->paused) {
			listener->paused = false;
			event_add(&listener->readable, NULL);
		}
	}
}

static void close_listeners(struct grpc_room *room)
{
	while (room->listeners) {
		struct grpc_listener *listener = room->listeners;

		room->listeners = listener->next;
		event_del(&listener->readable);
		close(listener->fd);
		free(listener);
	}
}

static void room_drain(struct loop *loop)
{
	struct grpc_room *room = loop->rooms[ROOM_GRPC];
	const struct timeval patience = { .tv_usec = DRAIN_PATIENCE_MS * 1000 };
	struct grpc_listener *listener;

	/* Who has connected is served: with the socket these would be reset. */
	for (listener = room->listeners; listener; listener = listener->next)
		accept_some(listener, LAST_ACCEPTS_MAX);
	close_listeners(room);
	grpc_drain(room);
	connection_each(room, http2_drain);
	event_add(&room->patience, &patience);
}

static void room_close(struct loop *loop)
{
	struct grpc_room *room = loop->rooms[ROOM_GRPC];
	struct connection *connection;

	close_listeners(room);
	event_del(&room->patience);
	while ((connection = TAILQ_FIRST(&room->busy)) ||
	       (connection = TAILQ_FIRST(&room->quiet)))
		connection_close(connection);
	http2_room_close(room);
	free(room);
}

const struct room grpc_room = {
	.name = "gRPC",
	.open = room_open,
	.listen = room_listen,
	.drain = room_drain,
	.tick = room_tick,
	.close = room_close,
};
