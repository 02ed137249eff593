/* SPDX-License-Identifier: Apache-2.0 */
#include "sync/redis_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "shm/error.h"

#define NS_PER_SECOND 1000000000ull

/* An idle connection whose other end is gone is found out after about 30 s. */
#define KEEPALIVE_IDLE_S 15
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_PROBES 3

uint64_t redis_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

enum redis_error redis_poll(struct pollfd *fds, unsigned count, uint64_t deadline_ns)
{
	for (;;) {
		uint64_t now_ns = redis_now_ns();
		uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
		struct timespec left = {
			.tv_sec = (time_t)(left_ns / NS_PER_SECOND),
			.tv_nsec = (long)(left_ns % NS_PER_SECOND),
		};
		int ready = ppoll(fds, count, &left, NULL);

		if (ready > 0)
			return REDIS_ERROR_NONE;
		if (ready == 0 && left_ns == 0)
			return REDIS_ERROR_TIMEOUT;
		if (ready < 0 && errno != EINTR && errno != EAGAIN)
			return REDIS_ERROR_NO_ROOM;
	}
}

enum redis_error redis_wait(int fd, short events, int interrupt_fd, uint64_t deadline_ns)
{
	/* poll() skips negative descriptors. */
	struct pollfd fds[2] = {
		{ .fd = fd, .events = events },
		{ .fd = interrupt_fd, .events = POLLIN },
	};
	enum redis_error result = redis_poll(fds, 2, deadline_ns);

	if (result != REDIS_ERROR_NONE)
		return result;
	return fds[0].revents ? REDIS_ERROR_NONE : REDIS_ERROR_INTERRUPTED;
}

/* ---- Connecting -------------------------------------------------------- */

static enum redis_error connect_fail(enum redis_error kind, const char *place, int cause,
				     const struct redis_options *options,
				     struct weir_error *error)
{
	switch (kind) {
	case REDIS_ERROR_TIMEOUT:
		weir_fail(error, WEIR_ESYSTEM,
			  "%s: no connection within connect_ms=%u; check the host, the port and "
			  "the network", place, options->connect_ms);
		break;
	case REDIS_ERROR_INTERRUPTED:
		weir_fail(error, WEIR_ESYSTEM, "%s: connecting was interrupted; connect again",
			  place);
		break;
	default:
		errno = cause;
		weir_fail(error, WEIR_ESYSTEM,
			  "%s: cannot connect (%m); check that Redis runs and listens there",
			  place);
	}
	return kind;
}

/* Wait for the outcome of a connect() under way. */
static enum redis_error finish_connect(int fd, int interrupt_fd, uint64_t deadline_ns, int *cause)
{
	enum redis_error result = redis_wait(fd, POLLOUT, interrupt_fd, deadline_ns);
	socklen_t size = sizeof(*cause);

	if (result != REDIS_ERROR_NONE)
		return result;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, cause, &size) < 0)
		*cause = errno;
	return *cause ? REDIS_ERROR_CONNECT : REDIS_ERROR_NONE;
}

/* A unix socket whose backlog is full answers EAGAIN, and there is no event to
 * wait for: the caller's backoff tries again. */
static enum redis_error connect_to(const struct sockaddr *address, socklen_t size,
				   int interrupt_fd, uint64_t deadline_ns, int *fd, int *cause)
{
	enum redis_error result = REDIS_ERROR_NONE;

	*fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*fd < 0) {
		*cause = errno;
		return REDIS_ERROR_CONNECT;
	}
	/* Interrupted by a signal it goes on, as when it is in progress. */
	if (connect(*fd, address, size) < 0) {
		*cause = errno;
		result = errno == EINPROGRESS || errno == EINTR ?
			finish_connect(*fd, interrupt_fd, deadline_ns, cause) :
			REDIS_ERROR_CONNECT;
	}
	if (result != REDIS_ERROR_NONE) {
		close(*fd);
		*fd = -1;
	}
	return result;
}

/* Best effort: deadlines on every call find out the same, only later. */
static void tune_tcp(int fd, const struct redis_options *options)
{
	int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S;
	int probes = KEEPALIVE_PROBES;
	unsigned unacknowledged_ms = options->command_ms;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	/* A call that is late is given up: let the kernel stop resending it too,
	 * instead of delivering it minutes later. */
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms,
		   sizeof(unacknowledged_ms));
}

static enum redis_error open_unix(const struct redis_options *options, int interrupt_fd,
				  uint64_t deadline_ns, int *fd, struct weir_error *error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	enum redis_error result;
	int cause = 0;

	memcpy(address.sun_path, options->path, sizeof(address.sun_path));
	result = connect_to((struct sockaddr *)&address, sizeof(address), interrupt_fd,
			    deadline_ns, fd, &cause);
	if (result != REDIS_ERROR_NONE)
		return connect_fail(result, options->path, cause, options, error);
	return result;
}

/* Each address gets its share of the time that is left, so that a dead one does
 * not starve those behind it. */
static enum redis_error open_first(const struct redis_options *options,
				   const struct addrinfo *addresses, int interrupt_fd,
				   uint64_t deadline_ns, int *fd, struct weir_error *error)
{
	enum redis_error result = REDIS_ERROR_CONNECT;
	char place[sizeof(options->host) + 16];
	unsigned left = 0;
	int cause = 0;

	snprintf(place, sizeof(place), "%s port %u", options->host, options->port);
	for (const struct addrinfo *each = addresses; each; each = each->ai_next)
		left++;
	for (; addresses; addresses = addresses->ai_next, left--) {
		uint64_t now_ns = redis_now_ns();
		uint64_t share_ns = deadline_ns > now_ns ? (deadline_ns - now_ns) / left : 0;

		result = connect_to(addresses->ai_addr, addresses->ai_addrlen, interrupt_fd,
				    now_ns + share_ns, fd, &cause);
		if (result == REDIS_ERROR_NONE) {
			tune_tcp(*fd, options);
			return result;
		}
		if (result == REDIS_ERROR_INTERRUPTED)
			break;
	}
	return connect_fail(result, place, cause, options, error);
}

static enum redis_error lookup_fail(const struct redis_options *options, int result,
				    struct weir_error *error)
{
	weir_fail(error, WEIR_ESYSTEM, "the host \"%s\" has no address (%s); check the name and "
		  "the resolver", options->host,
		  result == EAI_SYSTEM ? "system error" : gai_strerror(result));
	return REDIS_ERROR_RESOLVE;
}

/* An address needs no look-up, and so no thread. */
static enum redis_error open_address(const struct redis_options *options, int interrupt_fd,
				     uint64_t deadline_ns, int *fd, struct weir_error *error)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
	};
	struct addrinfo *addresses;
	enum redis_error result;
	char port[8];
	int status;

	snprintf(port, sizeof(port), "%u", options->port);
	status = getaddrinfo(options->host, port, &hints, &addresses);
	if (status != 0)
		return lookup_fail(options, status, error);
	result = open_first(options, addresses, interrupt_fd, deadline_ns, fd, error);
	freeaddrinfo(addresses);
	return result;
}

static enum redis_error open_name(const struct redis_options *options, int interrupt_fd,
				  uint64_t deadline_ns, struct redis_lookup **lookup, int *fd,
				  struct weir_error *error)
{
	struct addrinfo *addresses;
	enum redis_error result;
	int status;

	if (!*lookup)
		*lookup = redis_lookup_start(options->host, options->port);
	if (!*lookup) {
		weir_fail(error, WEIR_ESYSTEM, "cannot look up the host \"%s\" (%m); free memory, "
			  "descriptors or threads", options->host);
		return REDIS_ERROR_NO_ROOM;
	}
	result = redis_wait(redis_lookup_fd(*lookup), POLLIN, interrupt_fd, deadline_ns);
	if (result != REDIS_ERROR_NONE) {
		weir_fail(error, WEIR_ESYSTEM, "the look-up of the host \"%s\" %s; %s",
			  options->host,
			  result == REDIS_ERROR_TIMEOUT ? "takes too long" : "was interrupted",
			  result == REDIS_ERROR_TIMEOUT ? "check the resolver" : "connect again");
		return result;
	}
	status = redis_lookup_result(*lookup, &addresses);
	if (status != 0)
		result = lookup_fail(options, status, error);
	else
		result = open_first(options, addresses, interrupt_fd, deadline_ns, fd, error);
	/* Addresses change: the next attempt asks anew. */
	redis_lookup_leave(*lookup);
	*lookup = NULL;
	return result;
}

enum redis_error redis_socket_open(const struct redis_options *options, int interrupt_fd,
				   uint64_t deadline_ns, struct redis_lookup **lookup, int *fd,
				   struct weir_error *error)
{
	enum redis_error result;

	*fd = -1;
	if (options->transport == REDIS_OVER_UNIX)
		return open_unix(options, interrupt_fd, deadline_ns, fd, error);
	result = open_address(options, interrupt_fd, deadline_ns, fd, error);
	if (result != REDIS_ERROR_RESOLVE)
		return result;
	return open_name(options, interrupt_fd, deadline_ns, lookup, fd, error);
}
