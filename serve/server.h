/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - the service as a whole: one segment, its listeners, its loops.
 *
 * THREADS: the main thread starts, drains and stops a server, and waits for signals
 * meanwhile.  Loops read what stands here and change only what is atomic.
 */
#ifndef WEIR_SERVE_SERVER_H
#define WEIR_SERVE_SERVER_H

#include <stdatomic.h>

#include "serve/listen.h"
#include "serve/http_tls.h"
#include "serve/loop.h"
#include "serve/options.h"
#include "serve/survey.h"
#include "serve/tls.h"
#include "weir.h"

struct rules;

struct server {
	const struct options *options;
	struct weir *weir;
	bool clock_is_callers;          /* requests must bring their time, or must not */
	struct rules *rules;            /* Envoy's; NULL: the service has none */
	struct tls *tls;                /* NULL: no listener has TLS */
	struct http_tls *http_tls;      /* likewise, for HTTP */
	struct survey *survey;          /* NULL: nobody listens for HTTP */
	struct listener *listeners[LISTENERS_MAX];
	size_t listener_count;
	struct loop *loops;
	size_t loop_count;
	atomic_bool draining;           /* set once; loops are woken after it */
	atomic_bool segment_removed;    /* its name is gone, or another's */
	atomic_size_t connections;      /* of all loops */
};

/* Open all listeners and start the loops.  On failure nothing is left behind. */
int server_start(struct server *server, struct weir *weir, const struct options *options,
		 struct weir_error *error);

/* Take no more connections, tell clients to go, let calls under way end.  Returns at
 * once; server_connections() tells how far it is. */
void server_drain(struct server *server);

size_t server_connections(struct server *server);

/* False: Envoy's rules are waited for.  From any thread. */
bool server_rules_healthy(const struct server *server);

/* What all loops have counted.  From any thread. */
uint64_t server_count(const struct server *server, enum count which);

/* Close what is left and wait for the loops. */
void server_stop(struct server *server);

#endif
