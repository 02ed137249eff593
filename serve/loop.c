/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/loop.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "serve/fail.h"
#include "serve/grpc_room.h"
#include "serve/http_room.h"
#include "serve/server.h"

/* A message can be decoded into many times its bytes: what one request may take. */
#define ARENA_BOUND_BYTES (64u << 20)

static const struct room *const rooms[ROOM_COUNT] = {
	[ROOM_GRPC] = &grpc_room,
	[ROOM_HTTP] = &http_room,
};

const char *room_name(enum room_kind kind)
{
	return rooms[kind]->name;
}

/* ---- In the thread ----------------------------------------------------- */

static void on_tick(evutil_socket_t fd, short what, void *context)
{
	struct loop *loop = context;

	(void)fd;
	(void)what;
	loop->seconds++;
	for (size_t i = 0; i < ROOM_COUNT; i++) {
		if (loop->rooms[i] && rooms[i]->tick)
			rooms[i]->tick(loop);
	}
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
	struct loop *loop = context;
	uint64_t count;

	(void)what;
	/* EAGAIN cannot be: the descriptor was readable, and is read here alone. */
	if (read(fd, &count, sizeof(count)) < 0)
		return;
	if (atomic_load(&loop->stopping)) {
		event_base_loopbreak(loop->base);
		return;
	}
	if (!atomic_load(&loop->server->draining) || loop->drained)
		return;
	loop->drained = true;
	for (size_t i = 0; i < ROOM_COUNT; i++) {
		if (loop->rooms[i] && rooms[i]->drain)
			rooms[i]->drain(loop);
	}
}

static void *run(void *context)
{
	struct loop *loop = context;

	event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
	return NULL;
}

/* ---- From the main thread ---------------------------------------------- */

static int open_events(struct loop *loop, struct weir_error *error)
{
	struct event_config *config = event_config_new();
	const struct timeval second = { .tv_sec = 1 };

	if (config) {
		/* No other thread touches the base: it is woken by a descriptor. */
		event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
		loop->base = event_base_new_with_config(config);
		event_config_free(config);
	}
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->base && loop->wake_fd >= 0) {
		loop->tick = event_new(loop->base, -1, EV_PERSIST, on_tick, loop);
		loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake,
				       loop);
	}
	if (!loop->tick || !loop->wake || event_add(loop->tick, &second) < 0 ||
	    event_add(loop->wake, NULL) < 0)
		return fail(error, WEIR_ESYSTEM, "cannot make an event loop: %m; raise the limit of "
			    "descriptors (ulimit -n)");
	if (arena_init(&loop->arena, ARENA_BOUND_BYTES) < 0)
		return fail(error, WEIR_ENOMEM, "no memory for an event loop");
	return WEIR_OK;
}

static int open_listener(struct loop *loop, const struct listener *listener,
			 struct weir_error *error)
{
	const struct room *room = rooms[listener->room];
	int fd;

	if (!loop->rooms[listener->room] && room->open(loop, error) < 0)
		return error->status;
	for (size_t i = 0; i < listener->address_count; i++) {
		if (listener_socket(listener, i, &fd, error) < 0)
			return error->status;
		if (room->listen(loop, fd, listener->tls, error) < 0) {
			close(fd);
			return error->status;
		}
	}
	return WEIR_OK;
}

int loop_open(struct loop *loop, struct server *server, struct weir_error *error)
{
	int status;

	*loop = (struct loop){ .server = server, .wake_fd = -1 };
	status = open_events(loop, error);
	for (size_t i = 0; status == WEIR_OK && i < server->listener_count; i++)
		status = open_listener(loop, server->listeners[i], error);
	if (status < 0)
		loop_close(loop);
	return status;
}

int loop_start(struct loop *loop, struct weir_error *error)
{
	sigset_t all, before;
	int failure;

	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failure = pthread_create(&loop->thread, NULL, run, loop);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failure)
		return fail(error, WEIR_ESYSTEM, "cannot start a thread: %s; give fewer --threads",
			    strerror(failure));
	loop->started = true;
	return WEIR_OK;
}

void loop_wake(struct loop *loop)
{
	const uint64_t one = 1;

	/* It can only fail if it was written 2^64 - 1 times and never read. */
	while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void loop_close(struct loop *loop)
{
	if (loop->started) {
		atomic_store(&loop->stopping, true);
		loop_wake(loop);
		pthread_join(loop->thread, NULL);
	}
	for (size_t i = 0; i < ROOM_COUNT; i++) {
		if (loop->rooms[i])
			rooms[i]->close(loop);
		loop->rooms[i] = NULL;
	}
	if (loop->tick)
		event_free(loop->tick);
	if (loop->wake)
		event_free(loop->wake);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->base)
		event_base_free(loop->base);
	arena_destroy(&loop->arena);
}
