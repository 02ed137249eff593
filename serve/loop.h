/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - a thread that answers: an event loop with the connections it has accepted.
 *
 * A connection stays with its loop.  What arrives is decoded, decided and answered in
 * place: a decision takes less than a microsecond, so no loop ever waits for anything
 * but its sockets, and loops share nothing but the segment.
 *
 * ROOMS: connections are handled by rooms, one for each protocol (struct room).  Each
 * loop has its own state of each room.
 *
 * THREADS: all functions but loop_start(), loop_wake() and loop_join() are called in the
 * loop's thread.
 */
#ifndef WEIR_SERVE_LOOP_H
#define WEIR_SERVE_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "serve/arena.h"
#include "serve/counts.h"
#include "serve/options.h"
#include "weir.h"

struct server;
struct loop;

/* A protocol.  To add one: write a struct room, name it in loop.c's table, and give it an
 * option that adds listeners of its kind (options.c). */
struct room {
	const char *name;               /* for people: "gRPC" */

	/* Make the loop's state of this room, to be found in loop->rooms[kind]. */
	int (*open)(struct loop *loop, struct weir_error *error);

	/* Take connections from FD from now on: a listening socket that does not block,
	 * closed by the loop after close().  TLS: connections begin with a handshake. */
	int (*listen)(struct loop *loop, evutil_socket_t fd, bool tls, struct weir_error *error);

	/* Take those that wait in FD, then no more; let the others end what is under way.
	 * May be NULL. */
	void (*drain)(struct loop *loop);

	/* Once a second.  May be NULL. */
	void (*tick)(struct loop *loop);

	/* Close all connections and free the state. */
	void (*close)(struct loop *loop);
};

/* A room's name, for people. */
const char *room_name(enum room_kind kind);

struct loop {
	struct server *server;
	struct event_base *base;
	void *rooms[ROOM_COUNT];        /* each room's state, NULL: it is not open here */
	struct arena arena;             /* of the request that is being answered */
	uint64_t seconds;               /* since the loop began: a clock for timeouts */
	struct counts counts;

	struct event *tick;
	struct event *wake;
	int wake_fd;                    /* eventfd */
	atomic_bool stopping;
	bool drained;                   /* rooms were told */
	pthread_t thread;
	bool started;
};

/* Prepare a loop, take connections from all listeners of the server, start the thread. */
int loop_open(struct loop *loop, struct server *server, struct weir_error *error);
int loop_start(struct loop *loop, struct weir_error *error);

/* Make the loop look whether it has to drain or to stop. */
void loop_wake(struct loop *loop);

/* Stop the thread, if it was started, and free everything. */
void loop_close(struct loop *loop);

#endif
