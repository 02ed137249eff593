/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/http2.h"
#include "serve/server.h"

/* Reads of one connection before the others have their turn. */
#define READS_MAX 4

/* Silent clients that are asked at a time: the others have their turn. */
#define ASKED_MAX 1000

/* ---- Queues ------------------------------------------------------------ */

static struct connection_queue *queue_of(struct connection *connection)
{
	return connection->is_busy ? &connection->room->busy : &connection->room->quiet;
}

/* Does the client owe something? */
static bool owes(const struct connection *connection)
{
	return connection->handshaking || !connection->greeted || connection->unsent ||
	       connection->owing > 0;
}

/* Put the connection where it belongs.  One that goes on as before keeps its place, unless
 * a call completed something meanwhile: answering a PING is no progress. */
static void requeue(struct connection *connection)
{
	bool busy = owes(connection);

	if (busy == connection->is_busy && !connection->progress)
		return;
	TAILQ_REMOVE(queue_of(connection), connection, entry);
	connection->is_busy = busy;
	connection->progress = false;
	connection->since_s = connection->room->loop->seconds;
	TAILQ_INSERT_TAIL(queue_of(connection), connection, entry);
}

/* Bytes came, or (ASKED) the client was asked to send some. */
static void set_heard(struct connection *connection, bool asked)
{
	struct grpc_room *room = connection->room;
	uint64_t now_s = room->loop->seconds;

	if (connection->is_asked == asked && connection->heard_s == now_s)
		return;
	TAILQ_REMOVE(connection->is_asked ? &room->asked : &room->heard, connection, heard_entry);
	connection->is_asked = asked;
	connection->heard_s = now_s;
	TAILQ_INSERT_TAIL(asked ? &room->asked : &room->heard, connection, heard_entry);
}

/* Ask those who are silent whether they are there, and give up who did not answer. */
static void tick_silence(struct grpc_room *room)
{
	const struct options *options = room->loop->server->options;
	uint64_t now_s = room->loop->seconds;
	struct connection *connection;

	while ((connection = TAILQ_FIRST(&room->asked)) &&
	       now_s - connection->heard_s > options->request_timeout_s) {
		count_up(&room->loop->counts, COUNT_CONNECTIONS_TIMED_OUT);
		connection_close(connection);
	}
	for (int i = 0; i < ASKED_MAX && (connection = TAILQ_FIRST(&room->heard)) &&
			now_s - connection->heard_s > options->keepalive_s; i++) {
		set_heard(connection, true);
		http2_ask(connection);
		connection_flush(connection);
	}
}

void connection_tick(struct grpc_room *room)
{
	const struct options *options = room->loop->server->options;
	uint64_t now_s = room->loop->seconds;
	struct connection *connection;

	while ((connection = TAILQ_FIRST(&room->busy)) &&
	       now_s - connection->since_s > options->request_timeout_s) {
		count_up(&room->loop->counts, COUNT_CONNECTIONS_TIMED_OUT);
		connection_close(connection);
	}
	tick_silence(room);
	if (options->idle_timeout_s == 0)
		return;
	while ((connection = TAILQ_FIRST(&room->quiet)) &&
	       now_s - connection->since_s > options->idle_timeout_s) {
		/* A long call is not idleness. */
		connection->progress = true;
		requeue(connection);
		if (connection->calls == 0) {
			http2_go(connection);
			connection_flush(connection);
		}
	}
}

/* ---- Bytes ------------------------------------------------------------- */

enum io { IO_DONE, IO_AGAIN, IO_OVER };

/* What a TLS operation that returned RESULT has to wait for. */
static enum io tls_wait(struct connection *connection, int result)
{
	switch (tls_error(connection->ssl, result)) {
	case TLS_WANTS_READ:
		return IO_AGAIN;
	case TLS_WANTS_WRITE:
		event_add(&connection->writable, NULL);
		return IO_AGAIN;
	default:
		return IO_OVER;
	}
}

static enum io receive(struct connection *connection, unsigned char *bytes, size_t size,
		       size_t *length)
{
	ssize_t got;

	if (connection->ssl) {
		int result = tls_read(connection->ssl, bytes, size, length);

		return result > 0 ? IO_DONE : tls_wait(connection, result);
	}
	got = recv(connection->fd, bytes, size, 0);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_OVER;
	*length = (size_t)got;
	return got > 0 ? IO_DONE : IO_OVER;
}

static enum io transmit(struct connection *connection, const unsigned char *bytes, size_t size,
			size_t *length)
{
	ssize_t put;

	if (connection->ssl) {
		int result = tls_write(connection->ssl, bytes, size, length);

		return result > 0 ? IO_DONE : tls_wait(connection, result);
	}
	put = send(connection->fd, bytes, size, MSG_NOSIGNAL);
	if (put < 0)
		return errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_OVER;
	*length = (size_t)put;
	return IO_DONE;
}

/* Write all BYTES; what the socket does not take is kept. */
static enum io transmit_all(struct connection *connection, const unsigned char *bytes, size_t size)
{
	size_t done = 0;

	while (done < size) {
		size_t length = 0;
		enum io result = transmit(connection, bytes + done, size - done, &length);

		if (result == IO_OVER)
			return IO_OVER;
		if (result == IO_AGAIN)
			break;
		done += length;
	}
	if (done == size)
		return IO_DONE;
	connection->unsent_length = size - done;
	connection->unsent_offset = 0;
	connection->unsent = malloc(connection->unsent_length);
	if (!connection->unsent)
		return IO_OVER;
	memcpy(connection->unsent, bytes + done, connection->unsent_length);
	return IO_AGAIN;
}

static enum io transmit_unsent(struct connection *connection)
{
	while (connection->unsent) {
		size_t length = 0;
		enum io result = transmit(connection, connection->unsent + connection->unsent_offset,
					  connection->unsent_length - connection->unsent_offset,
					  &length);

		if (result != IO_DONE)
			return result;
		connection->unsent_offset += length;
		if (connection->unsent_offset == connection->unsent_length) {
			free(connection->unsent);
			connection->unsent = NULL;
			connection->progress = true;
		}
	}
	return IO_DONE;
}

/* ---- Turns ------------------------------------------------------------- */

static enum io read_input(struct connection *connection)
{
	unsigned char *input = connection->room->input;

	for (int i = 0; i < READS_MAX || tls_has_pending(connection->ssl); i++) {
		size_t length = 0;
		enum io result = receive(connection, input, IO_BYTES, &length);

		if (result != IO_DONE)
			return result;
		set_heard(connection, false);
		if (!http2_receive(connection, input, length))
			return IO_OVER;
		if (length < IO_BYTES && !tls_has_pending(connection->ssl))
			break;
	}
	return IO_DONE;
}

/* Send what the session has to say, until it is silent or the socket is full. */
static enum io write_output(struct connection *connection)
{
	unsigned char *output = connection->room->output;
	enum io result = transmit_unsent(connection);

	while (result == IO_DONE) {
		ssize_t length = http2_gather(connection, output, IO_BYTES);

		if (length < 0)
			return IO_OVER;
		if (length == 0)
			break;
		result = transmit_all(connection, output, (size_t)length);
	}
	return result;
}

/* What comes next: more input, room for output, or the end. */
static void settle(struct connection *connection, enum io result)
{
	bool read = !connection->unsent;

	if (result == IO_OVER || (!connection->handshaking && !connection->unsent &&
				  http2_is_over(connection))) {
		connection_close(connection);
		return;
	}
	if (connection->unsent)
		event_add(&connection->writable, NULL);
	if (read && !connection->reading)
		event_add(&connection->readable, NULL);
	if (!read && connection->reading)
		event_del(&connection->readable);
	connection->reading = read;
	requeue(connection);
}

static enum io shake_hands(struct connection *connection)
{
	int result = tls_handshake(connection->ssl);

	if (result <= 0)
		return tls_wait(connection, result);
	connection->handshaking = false;
	return IO_DONE;
}

static void on_event(evutil_socket_t fd, short what, void *context)
{
	struct connection *connection = context;
	enum io result = IO_DONE, input = IO_DONE;

	(void)fd;
	(void)what;
	if (connection->handshaking)
		result = shake_hands(connection);
	/* What waits goes first: with nowhere to put an answer nothing is read. */
	if (result == IO_DONE)
		result = transmit_unsent(connection);
	if (result == IO_DONE)
		input = read_input(connection);
	/* The session may have a last word, also after an error. */
	if (result == IO_DONE && !connection->handshaking)
		result = write_output(connection);
	settle(connection, input == IO_OVER ? IO_OVER : result);
}

void connection_flush(struct connection *connection)
{
	if (connection->handshaking)
		return;
	settle(connection, write_output(connection));
}

/* ---- Age --------------------------------------------------------------- */

static void wait_for_age(struct connection *connection, uint64_t wait_ns)
{
	const struct timeval wait = { .tv_sec = (time_t)(wait_ns / 1000000000),
				      .tv_usec = (suseconds_t)(wait_ns % 1000000000 / 1000) };

	if (wait_ns > 0)
		event_add(&connection->age, &wait);
}

/* Clients that came together are not told together: a tenth of the age more or less. */
static uint64_t spread_ns(struct grpc_room *room, uint64_t age_ns)
{
	/* Knuth's multiplier, of the connections so far: even, and no two alike in a row. */
	uint64_t turn = count_read(&room->loop->counts, COUNT_CONNECTIONS) * 2654435761u % 1024;

	return age_ns - age_ns / 10 + age_ns / 5 / 1024 * turn;
}

static void on_age(evutil_socket_t fd, short what, void *context)
{
	struct connection *connection = context;

	(void)fd;
	(void)what;
	if (connection->leaving) {
		connection_close(connection);
		return;
	}
	connection->leaving = true;
	wait_for_age(connection, connection->room->loop->server->options->connection_grace_ns);
	http2_drain(connection);
	connection_flush(connection);
}

/* ---- Beginning and end ------------------------------------------------- */

bool connection_open(struct grpc_room *room, evutil_socket_t fd, struct ssl_st *ssl)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!connection || !http2_open(room, connection)) {
		free(connection);
		tls_free(ssl);
		close(fd);
		return false;
	}
	connection->room = room;
	connection->fd = fd;
	connection->ssl = ssl;
	connection->handshaking = ssl != NULL;
	TAILQ_INIT(&connection->call_queue);
	connection->is_busy = true;
	connection->since_s = room->loop->seconds;
	TAILQ_INSERT_TAIL(&room->busy, connection, entry);
	connection->heard_s = room->loop->seconds;
	TAILQ_INSERT_TAIL(&room->heard, connection, heard_entry);
	event_assign(&connection->readable, room->loop->base, fd, EV_READ | EV_PERSIST, on_event,
		     connection);
	event_assign(&connection->writable, room->loop->base, fd, EV_WRITE, on_event, connection);
	evtimer_assign(&connection->age, room->loop->base, on_age, connection);
	wait_for_age(connection, spread_ns(room, room->loop->server->options->connection_age_ns));
	atomic_fetch_add(&room->loop->server->connections, 1);
	/* Our SETTINGS need not wait for the client's. */
	connection_flush(connection);
	if (ssl)
		settle(connection, IO_DONE);
	return true;
}

void connection_close(struct connection *connection)
{
	struct grpc_room *room = connection->room;

	TAILQ_REMOVE(queue_of(connection), connection, entry);
	TAILQ_REMOVE(connection->is_asked ? &room->asked : &room->heard, connection, heard_entry);
	event_del(&connection->readable);
	event_del(&connection->writable);
	event_del(&connection->age);
	http2_close(connection);
	tls_free(connection->ssl);
	close(connection->fd);
	free(connection->unsent);
	atomic_fetch_sub(&room->loop->server->connections, 1);
	free(connection);
}

void connection_each(struct grpc_room *room, void (*function)(struct connection *connection))
{
	struct connection_queue *queues[] = { &room->busy, &room->quiet };
	struct connection *connection, *next, *last;

	for (size_t i = 0; i < 2; i++) {
		TAILQ_FOREACH(connection, queues[i], entry)
			function(connection);
	}
	/* Sending may close a connection, or move it to the end of a queue: what stands
	 * behind the last one was sent already. */
	for (size_t i = 0; i < 2; i++) {
		last = TAILQ_LAST(queues[i], connection_queue);
		for (connection = TAILQ_FIRST(queues[i]); connection; connection = next) {
			next = connection == last ? NULL : TAILQ_NEXT(connection, entry);
			connection_flush(connection);
		}
	}
}
