/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/server.h"

#include <stdlib.h>

#include "serve/fail.h"
#include "serve/rules.h"

static void close_all(struct server *server)
{
	for (size_t i = 0; i < server->loop_count; i++)
		loop_close(&server->loops[i]);
	/* Each uses the other until it has ended: the survey reads what loops have counted. */
	survey_stop(server->survey);
	free(server->loops);
	http_tls_delete(server->http_tls);
	tls_delete(server->tls);
	for (size_t i = 0; i < server->listener_count; i++)
		listener_close(server->listeners[i]);
	*server = (struct server){ 0 };
}

/* An address of two listeners would have each answer some of the other's clients. */
static int check_overlap(const struct server *server, size_t index, struct weir_error *error)
{
	const struct listen_option *options = server->options->listeners;

	for (size_t i = 0; i < index; i++) {
		if (listener_overlaps(server->listeners[index], server->listeners[i]))
			return fail(error, WEIR_EINVAL, "%s%s on \"%s\" would share an address with "
				    "%s%s on \"%s\"; give each of them its own",
				    room_name(options[index].room),
				    options[index].tls ? " with TLS" : "", options[index].address,
				    room_name(options[i].room), options[i].tls ? " with TLS" : "",
				    options[i].address);
	}
	return WEIR_OK;
}

static int open_listeners(struct server *server, bool *http, struct weir_error *error)
{
	const struct options *options = server->options;

	for (size_t i = 0; i < options->listener_count; i++) {
		if (listener_open(options, i, &server->listeners[i], error) < 0)
			return error->status;
		server->listener_count++;
		if (check_overlap(server, i, error) < 0)
			return error->status;
		*http |= options->listeners[i].room == ROOM_HTTP;
	}
	return WEIR_OK;
}

static int open_all(struct server *server, struct weir_error *error)
{
	const struct options *options = server->options;
	bool http = false;

	if (options->tls_certificate && (tls_new(options, &server->tls, error) < 0 ||
					 http_tls_new(options, &server->http_tls, error) < 0))
		return error->status;
	if (open_listeners(server, &http, error) < 0)
		return error->status;
	server->loops = calloc(options->loops, sizeof(*server->loops));
	if (!server->loops)
		return fail(error, WEIR_ENOMEM, "no memory for %zu threads",
			    (size_t)options->loops);
	/* All sockets before the first connection. */
	for (size_t i = 0; i < options->loops; i++) {
		if (loop_open(&server->loops[i], server, error) < 0)
			return error->status;
		server->loop_count++;
	}
	/* It reads what loops count. */
	if (http && survey_start(server, (unsigned)options->top_keys, &server->survey, error) < 0)
		return error->status;
	for (size_t i = 0; i < server->loop_count; i++) {
		if (loop_start(&server->loops[i], error) < 0)
			return error->status;
	}
	return WEIR_OK;
}

int server_start(struct server *server, struct weir *weir, const struct options *options,
		 struct weir_error *error)
{
	struct weir_info info;

	weir_info(weir, &info);
	*server = (struct server){
		.options = options,
		.weir = weir,
		.clock_is_callers = info.clock == WEIR_CLOCK_CALLER,
		.rules = options->rules.running,
	};
	if (open_all(server, error) < 0) {
		close_all(server);
		return error->status;
	}
	return WEIR_OK;
}

void server_drain(struct server *server)
{
	atomic_store(&server->draining, true);
	/* Loops keep what they share of a unix socket until they have accepted the last. */
	for (size_t i = 0; i < server->listener_count; i++)
		listener_unlink(server->listeners[i]);
	for (size_t i = 0; i < server->loop_count; i++)
		loop_wake(&server->loops[i]);
}

size_t server_connections(struct server *server)
{
	return atomic_load(&server->connections);
}

bool server_rules_healthy(const struct server *server)
{
	return !server->rules || rules_healthy(server->rules);
}

uint64_t server_count(const struct server *server, enum count which)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < server->loop_count; i++)
		sum += count_read(&server->loops[i].counts, which);
	return sum;
}

void server_stop(struct server *server)
{
	close_all(server);
}
