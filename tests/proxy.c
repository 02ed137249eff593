/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy.c - one thread, one poll().  A connection has two pipes, one for each
 * direction, each with a queue of bytes that are to go out.  A mutex guards
 * everything; an eventfd wakes the thread when a fault has been changed.
 */
#include "tests/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/must.h"

#define CONNECTIONS_MAX 128
#define QUEUE_SIZE (256u << 10)         /* what is held; then the sender must wait */
#define WAIT_SECONDS 30

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_un un;
	};
	socklen_t size;
	char text[128];
};

struct pipe {
	int from;                       /* -1: it has ended, and the queue runs dry */
	int to;
	uint64_t arrived;
	uint64_t passed;                /* into the queue, repeats not counted */
	size_t begin, end;              /* of what is queued */
	char queue[QUEUE_SIZE];
};

struct connection {
	struct pipe pipes[2];           /* by enum proxy_direction */
};

struct proxy {
	struct address listen;
	struct address server;
	int listener;
	int wake;
	pthread_t thread;

	pthread_mutex_t mutex;          /* of all that follows, and of server */
	pthread_cond_t arrived;
	struct proxy_faults faults[2];
	struct connection *connections[CONNECTIONS_MAX];
	unsigned count;
	uint64_t connection_count;
	uint64_t newest[2];             /* bytes that arrived over the newest one */
	struct connection *newest_connection;
	bool cut;
	bool end;
};

/* ---- Sockets ----------------------------------------------------------- */

static void parse_address(const char *text, struct address *address)
{
	const char *colon = strrchr(text, ':');
	char host[32];

	memset(address, 0, sizeof(*address));
	must(strlen(text) < sizeof(address->text));
	strcpy(address->text, text);
	if (text[0] == '/') {
		must(strlen(text) < sizeof(address->un.sun_path));
		address->un.sun_family = AF_UNIX;
		strcpy(address->un.sun_path, text);
		address->size = sizeof(address->un);
		return;
	}
	must(colon && (size_t)(colon - text) < sizeof(host));
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	address->in.sin_family = AF_INET;
	address->in.sin_port = htons((uint16_t)atoi(colon + 1));
	must(inet_pton(AF_INET, host, &address->in.sin_addr) == 1);
	address->size = sizeof(address->in);
}

static void listen_on(struct proxy *proxy)
{
	struct address *address = &proxy->listen;
	char host[INET_ADDRSTRLEN];
	int on = 1;

	proxy->listener = socket(address->any.sa_family,
				 SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	must(proxy->listener >= 0);
	setsockopt(proxy->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	must(bind(proxy->listener, &address->any, address->size) == 0);
	must(listen(proxy->listener, 128) == 0);
	if (address->any.sa_family != AF_INET)
		return;
	must(getsockname(proxy->listener, &address->any, &address->size) == 0);
	must(inet_ntop(AF_INET, &address->in.sin_addr, host, sizeof(host)));
	snprintf(address->text, sizeof(address->text), "%s:%u", host,
		 ntohs(address->in.sin_port));
}

/* With an RST instead of a FIN what was sent and not yet read is lost. */
static void close_socket(int fd, bool reset)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	if (reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

/* ---- Connections (mutex held) ------------------------------------------ */

static void remove_connection(struct proxy *proxy, unsigned index, bool reset)
{
	struct connection *connection = proxy->connections[index];

	close_socket(connection->pipes[PROXY_REQUESTS].to, reset);
	close_socket(connection->pipes[PROXY_REPLIES].to, reset);
	if (proxy->newest_connection == connection)
		proxy->newest_connection = NULL;
	free(connection);
	proxy->connections[index] = proxy->connections[--proxy->count];
}

/* A client for which there is no server is closed at once. */
static void accept_one(struct proxy *proxy)
{
	int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct connection *connection;
	int server, on = 1;

	if (client < 0)
		return;
	proxy->connection_count++;
	server = socket(proxy->server.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(server >= 0);
	if (proxy->count == CONNECTIONS_MAX ||
	    connect(server, &proxy->server.any, proxy->server.size) < 0) {
		close(server);
		close(client);
		return;
	}
	/* Fails on unix sockets, and is not needed there. */
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	connection = calloc(1, sizeof(*connection));
	must(connection);
	connection->pipes[PROXY_REQUESTS].from = client;
	connection->pipes[PROXY_REQUESTS].to = server;
	connection->pipes[PROXY_REPLIES].from = server;
	connection->pipes[PROXY_REPLIES].to = client;
	proxy->connections[proxy->count++] = connection;
	proxy->newest_connection = connection;
	proxy->newest[PROXY_REQUESTS] = proxy->newest[PROXY_REPLIES] = 0;
}

static void enqueue(struct pipe *pipe, const char *bytes, size_t length)
{
	if (pipe->begin > 0) {
		memmove(pipe->queue, pipe->queue + pipe->begin, pipe->end - pipe->begin);
		pipe->end -= pipe->begin;
		pipe->begin = 0;
	}
	must(length <= sizeof(pipe->queue) - pipe->end);
	memcpy(pipe->queue + pipe->end, bytes, length);
	pipe->end += length;
}

/* A piece must fit twice. */
#define PIECE_SIZE 16384u

static bool has_room(const struct pipe *pipe)
{
	return sizeof(pipe->queue) - (pipe->end - pipe->begin) >= 2 * PIECE_SIZE;
}

/* Take in what has arrived. */
static void read_pipe(struct proxy *proxy, struct connection *connection,
		      enum proxy_direction direction)
{
	const struct proxy_faults *faults = &proxy->faults[direction];
	struct pipe *pipe = &connection->pipes[direction];
	char bytes[PIECE_SIZE];
	ssize_t got = recv(pipe->from, bytes, sizeof(bytes), MSG_DONTWAIT);
	size_t length = got > 0 ? (size_t)got : 0;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		pipe->from = -1;
		return;
	}
	pipe->arrived += length;
	if (proxy->newest_connection == connection)
		proxy->newest[direction] = pipe->arrived;
	if (faults->drop)
		return;
	if (faults->cut_at <= pipe->passed)
		length = 0;
	else if (faults->cut_at - pipe->passed < length)
		length = (size_t)(faults->cut_at - pipe->passed);
	enqueue(pipe, bytes, length);
	if (faults->duplicate)
		enqueue(pipe, bytes, length);
	pipe->passed += length;
}

/* Send what is queued.  False if the connection is over: cut, or nothing more
 * can come or go. */
static bool write_pipe(struct proxy *proxy, struct connection *connection,
		       enum proxy_direction direction)
{
	const struct proxy_faults *faults = &proxy->faults[direction];
	struct pipe *pipe = &connection->pipes[direction];
	ssize_t put;

	if (faults->hold)
		return true;
	while (pipe->begin < pipe->end) {
		put = send(pipe->to, pipe->queue + pipe->begin, pipe->end - pipe->begin,
			   MSG_DONTWAIT | MSG_NOSIGNAL);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return errno == EAGAIN;
		pipe->begin += (size_t)put;
	}
	return pipe->from >= 0 && pipe->passed < faults->cut_at;
}

static void turn(struct proxy *proxy)
{
	for (unsigned i = proxy->count; i-- > 0;) {
		bool open = true, reset = proxy->cut;

		for (int direction = 0; direction < 2; direction++) {
			struct pipe *pipe = &proxy->connections[i]->pipes[direction];

			if (pipe->from >= 0 && has_room(pipe))
				read_pipe(proxy, proxy->connections[i], direction);
			if (!write_pipe(proxy, proxy->connections[i], direction)) {
				open = false;
				reset |= pipe->passed >= proxy->faults[direction].cut_at &&
					 proxy->faults[direction].reset;
			}
		}
		if (!open || proxy->cut)
			remove_connection(proxy, i, reset);
	}
	proxy->cut = false;
}

/* ---- The thread -------------------------------------------------------- */

static nfds_t list_events(struct proxy *proxy, struct pollfd *fds)
{
	nfds_t count = 0;

	fds[count++] = (struct pollfd){ proxy->wake, POLLIN, 0 };
	fds[count++] = (struct pollfd){ proxy->listener, POLLIN, 0 };
	for (unsigned i = 0; i < proxy->count; i++) {
		for (int direction = 0; direction < 2; direction++) {
			struct pipe *pipe = &proxy->connections[i]->pipes[direction];
			bool queued = pipe->begin < pipe->end && !proxy->faults[direction].hold;

			if (pipe->from >= 0 && has_room(pipe))
				fds[count++] = (struct pollfd){ pipe->from, POLLIN, 0 };
			if (queued)
				fds[count++] = (struct pollfd){ pipe->to, POLLOUT, 0 };
		}
	}
	return count;
}

static void *run(void *argument)
{
	struct proxy *proxy = argument;
	struct pollfd fds[2 + 4 * CONNECTIONS_MAX];
	uint64_t woken;

	pthread_mutex_lock(&proxy->mutex);
	while (!proxy->end) {
		nfds_t count = list_events(proxy, fds);

		pthread_mutex_unlock(&proxy->mutex);
		must(poll(fds, count, -1) >= 0 || errno == EINTR);
		pthread_mutex_lock(&proxy->mutex);
		if (fds[0].revents)
			must(read(proxy->wake, &woken, sizeof(woken)) == sizeof(woken));
		turn(proxy);
		if (fds[1].revents)
			accept_one(proxy);
		pthread_cond_broadcast(&proxy->arrived);
	}
	while (proxy->count > 0)
		remove_connection(proxy, 0, false);
	pthread_mutex_unlock(&proxy->mutex);
	return NULL;
}

static void wake(struct proxy *proxy)
{
	uint64_t one = 1;

	must(write(proxy->wake, &one, sizeof(one)) == sizeof(one));
}

/* ---- For tests --------------------------------------------------------- */

struct proxy *proxy_start(const char *listen, const char *server)
{
	struct proxy *proxy = calloc(1, sizeof(*proxy));
	sigset_t all, before;

	must(proxy);
	parse_address(listen, &proxy->listen);
	parse_address(server, &proxy->server);
	listen_on(proxy);
	proxy->wake = eventfd(0, EFD_CLOEXEC);
	must(proxy->wake >= 0);
	proxy->faults[PROXY_REQUESTS] = proxy->faults[PROXY_REPLIES] = proxy_no_faults();
	pthread_mutex_init(&proxy->mutex, NULL);
	pthread_cond_init(&proxy->arrived, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	must(pthread_create(&proxy->thread, NULL, run, proxy) == 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return proxy;
}

void proxy_end(struct proxy *proxy)
{
	pthread_mutex_lock(&proxy->mutex);
	proxy->end = true;
	pthread_mutex_unlock(&proxy->mutex);
	wake(proxy);
	pthread_join(proxy->thread, NULL);
	close(proxy->listener);
	close(proxy->wake);
	if (proxy->listen.any.sa_family == AF_UNIX)
		unlink(proxy->listen.text);
	pthread_cond_destroy(&proxy->arrived);
	pthread_mutex_destroy(&proxy->mutex);
	free(proxy);
}

const char *proxy_address(const struct proxy *proxy)
{
	return proxy->listen.text;
}

uint16_t proxy_port(const struct proxy *proxy)
{
	return ntohs(proxy->listen.in.sin_port);
}

struct proxy_faults proxy_no_faults(void)
{
	return (struct proxy_faults){ .cut_at = PROXY_NEVER };
}

void proxy_set(struct proxy *proxy, enum proxy_direction direction, struct proxy_faults faults)
{
	pthread_mutex_lock(&proxy->mutex);
	proxy->faults[direction] = faults;
	pthread_mutex_unlock(&proxy->mutex);
	wake(proxy);
}

void proxy_redirect(struct proxy *proxy, const char *server)
{
	pthread_mutex_lock(&proxy->mutex);
	parse_address(server, &proxy->server);
	pthread_mutex_unlock(&proxy->mutex);
}

void proxy_cut(struct proxy *proxy)
{
	pthread_mutex_lock(&proxy->mutex);
	proxy->cut = true;
	pthread_mutex_unlock(&proxy->mutex);
	wake(proxy);
}

uint64_t proxy_arrived(struct proxy *proxy, enum proxy_direction direction)
{
	uint64_t bytes;

	pthread_mutex_lock(&proxy->mutex);
	bytes = proxy->newest[direction];
	pthread_mutex_unlock(&proxy->mutex);
	return bytes;
}

void proxy_wait(struct proxy *proxy, enum proxy_direction direction, uint64_t bytes)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += WAIT_SECONDS;
	pthread_mutex_lock(&proxy->mutex);
	while (proxy->newest[direction] < bytes)
		must(pthread_cond_timedwait(&proxy->arrived, &proxy->mutex, &deadline) == 0);
	pthread_mutex_unlock(&proxy->mutex);
}

uint64_t proxy_connections(struct proxy *proxy)
{
	uint64_t count;

	pthread_mutex_lock(&proxy->mutex);
	count = proxy->connection_count;
	pthread_mutex_unlock(&proxy->mutex);
	return count;
}
