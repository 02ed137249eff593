/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "serve/fail.h"

#define BACKLOG 4096            /* the kernel bounds it by net.core.somaxconn */
#define UNIX_PREFIX "unix:"

static int status_of_errno(void)
{
	return errno == EADDRINUSE ? WEIR_EBUSY :
	       errno == EACCES || errno == EPERM ? WEIR_EACCES : WEIR_ESYSTEM;
}

const char *listener_name(const struct listener *listener, size_t index,
			  char text[LISTEN_NAME_MAX])
{
	const struct listen_address *address = &listener->addresses[index];
	char host[INET6_ADDRSTRLEN];

	switch (address->address.any.sa_family) {
	case AF_UNIX:
		snprintf(text, LISTEN_NAME_MAX, UNIX_PREFIX "%s", address->address.path.sun_path);
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &address->address.v6.sin6_addr, host, sizeof(host));
		snprintf(text, LISTEN_NAME_MAX, "[%s]:%u", host,
			 ntohs(address->address.v6.sin6_port));
		break;
	default:
		inet_ntop(AF_INET, &address->address.v4.sin_addr, host, sizeof(host));
		snprintf(text, LISTEN_NAME_MAX, "%s:%u", host,
			 ntohs(address->address.v4.sin_port));
	}
	return text;
}

/* ---- Unix sockets ------------------------------------------------------ */

static int parse_path(struct listener *listener, const char *path, struct weir_error *error)
{
	struct sockaddr_un *address = &listener->addresses[0].address.path;

	/* unix:///run/x, as gRPC writes it, is unix:/run/x. */
	if (strncmp(path, "//", 2) == 0)
		path += 2;
	/* Room for the name under which it is made. */
	if (*path == '\0' || strlen(path) + 12 > sizeof(address->sun_path))
		return fail(error, WEIR_EINVAL, "the path \"%s\" of a unix socket has %zu bytes; "
			    "give one of 1 to %zu", path, strlen(path),
			    sizeof(address->sun_path) - 12);
	address->sun_family = AF_UNIX;
	strcpy(address->sun_path, path);
	listener->addresses[0].length = sizeof(*address);
	listener->address_count = 1;
	return WEIR_OK;
}

/* Does a process accept connections on PATH? */
static bool is_served(const struct listen_address *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool served;

	if (fd < 0)
		return false;
	/* EAGAIN: it does, and has much to do. */
	served = connect(fd, &address->address.any, address->length) == 0 || errno == EAGAIN;
	close(fd);
	return served;
}

/* Is there a file at PATH that is no socket?  It is not ours to replace. */
static bool is_another_file(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0 && !S_ISSOCK(status.st_mode);
}

static int open_path(struct listener *listener, const struct options *options,
		     struct weir_error *error)
{
	const char *path = listener->addresses[0].address.path.sun_path;
	struct sockaddr_un made = { .sun_family = AF_UNIX };

	if (is_another_file(path))
		return fail(error, WEIR_EEXIST, "\"%s\" is a file, and no socket; remove it, or "
			    "give another path", path);
	if (!options->takeover && is_served(&listener->addresses[0]))
		return fail(error, WEIR_EBUSY, "somebody listens on \"%s\" already; stop that "
			    "first, or give --takeover to replace it", path);
	snprintf(made.sun_path, sizeof(made.sun_path), "%.*s.%d",
		 (int)sizeof(made.sun_path) - 12, path, getpid());
	unlink(made.sun_path);
	listener->path_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->path_fd < 0 ||
	    bind(listener->path_fd, (struct sockaddr *)&made, sizeof(made)) < 0 ||
	    (options->socket_mode && chmod(made.sun_path, options->socket_mode) < 0) ||
	    listen(listener->path_fd, BACKLOG) < 0 ||
	    stat(made.sun_path, &listener->path_identity) < 0) {
		fail(error, status_of_errno(), "cannot make the unix socket \"%s\": %m; look at its "
		     "directory", made.sun_path);
		unlink(made.sun_path);
		return error->status;
	}
	if (rename(made.sun_path, path) < 0) {
		fail(error, status_of_errno(), "cannot rename \"%s\" to \"%s\": %m; look at its "
		     "directory", made.sun_path, path);
		unlink(made.sun_path);
		return error->status;
	}
	return WEIR_OK;
}

/* ---- TCP --------------------------------------------------------------- */

/* Split "HOST:PORT", "[HOST]:PORT" or ":PORT". */
static int split_host(const char *text, char host[256], const char **port,
		      struct weir_error *error)
{
	const char *colon = strrchr(text, ':');
	const char *begin = text, *end = colon;

	if (!colon || colon[1] == '\0')
		return fail(error, WEIR_EINVAL, "\"%s\" has no port; give HOST:PORT, [IPV6]:PORT, "
			    ":PORT or unix:PATH", text);
	if (*begin == '[' && end > begin + 2 && end[-1] == ']') {
		begin++;
		end--;
	} else if (strncmp(begin, "[]", 2) == 0 || strncmp(begin, "*:", 2) == 0) {
		/* getaddrinfo() would take "*" for this host's own address only. */
		return fail(error, WEIR_EINVAL, "\"%s\" has no host; give :PORT for all addresses "
			    "of this host", text);
	} else if (memchr(begin, ':', (size_t)(end - begin))) {
		return fail(error, WEIR_EINVAL, "\"%s\" has more than one colon; give an IPv6 "
			    "address as [ADDRESS]:PORT", text);
	}
	if (end - begin > 255)
		return fail(error, WEIR_EINVAL, "the host of \"%s\" has more than 255 bytes; give "
			    "a name or an address", text);
	memcpy(host, begin, (size_t)(end - begin));
	host[end - begin] = '\0';
	*port = colon + 1;
	return WEIR_OK;
}

static int parse_port(const char *text, const char *port, struct weir_error *error)
{
	uint64_t number;

	if (text_parse_number(port, 10, &number) != TEXT_NUMBER_OK || number > 65535)
		return fail(error, WEIR_EINVAL, "the port of \"%s\" is \"%s\"; give a number from 0 "
			    "to 65535, 0 for one that is free", text, port);
	return WEIR_OK;
}

/* All addresses of this host: one socket takes IPv4 as well, where there is IPv6. */
static void any_address(struct listener *listener, unsigned port)
{
	struct listen_address *address = &listener->addresses[0];
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	listener->address_count = 1;
	if (fd >= 0) {
		close(fd);
		address->address.v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6,
							     .sin6_port = htons(port) };
		address->length = sizeof(address->address.v6);
	} else {
		address->address.v4 = (struct sockaddr_in){ .sin_family = AF_INET,
							    .sin_port = htons(port) };
		address->length = sizeof(address->address.v4);
	}
}

static int parse_host(struct listener *listener, const char *text, struct weir_error *error)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	char host[256];
	const char *port = "";
	int status;

	if (split_host(text, host, &port, error) < 0 || parse_port(text, port, error) < 0)
		return error->status;
	if (*host == '\0') {
		any_address(listener, (unsigned)strtoul(port, NULL, 10));
		return WEIR_OK;
	}
	status = getaddrinfo(host, port, &hints, &found);
	if (status != 0)
		return fail(error, WEIR_EINVAL, "the host \"%s\" has no address here (%s); give an "
			    "address of this host, or a name in /etc/hosts", host,
			    gai_strerror(status));
	for (struct addrinfo *entry = found; entry; entry = entry->ai_next) {
		struct listen_address *address;

		if (listener->address_count == LISTEN_ADDRESSES_MAX ||
		    (entry->ai_family != AF_INET && entry->ai_family != AF_INET6))
			continue;
		address = &listener->addresses[listener->address_count++];
		memcpy(&address->address, entry->ai_addr, entry->ai_addrlen);
		address->length = entry->ai_addrlen;
	}
	freeaddrinfo(found);
	return WEIR_OK;
}

/* A socket bound to ADDRESS, or -1. */
static int bind_socket(const struct listen_address *address, bool shared)
{
	static const int on = 1, off = 0;
	int family = address->address.any.sa_family;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool any;

	if (fd < 0)
		return -1;
	any = family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address->address.v6.sin6_addr);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? &off : &on, sizeof(on));
	if ((shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0) ||
	    bind(fd, &address->address.any, address->length) < 0) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

static int reserve(struct listener *listener, size_t index, bool takeover,
		   struct weir_error *error)
{
	struct listen_address *address = &listener->addresses[index];
	char name[LISTEN_NAME_MAX];
	int fd;

	if (!takeover) {
		/* A socket that shares with nobody cannot be bound where another listens. */
		fd = bind_socket(address, false);
		if (fd < 0 && errno == EADDRINUSE)
			return fail(error, WEIR_EBUSY, "somebody listens on %s already; stop that "
				    "first, give another port, or --takeover to listen beside it",
				    listener_name(listener, index, name));
		if (fd >= 0)
			close(fd);
	}
	address->reserved_fd = bind_socket(address, true);
	if (address->reserved_fd < 0 ||
	    getsockname(address->reserved_fd, &address->address.any, &address->length) < 0)
		return fail(error, status_of_errno(), "cannot listen on %s: %m; give an address of "
			    "this host, and a port that this user may use",
			    listener_name(listener, index, name));
	return WEIR_OK;
}

/* ---- Both -------------------------------------------------------------- */

static bool is_any(const struct listen_address *address)
{
	if (address->address.any.sa_family == AF_INET6)
		return IN6_IS_ADDR_UNSPECIFIED(&address->address.v6.sin6_addr);
	return address->address.v4.sin_addr.s_addr == htonl(INADDR_ANY);
}

static bool same_place(const struct listen_address *a, const struct listen_address *b)
{
	sa_family_t family = a->address.any.sa_family;

	if (family == AF_UNIX || b->address.any.sa_family == AF_UNIX)
		return family == b->address.any.sa_family &&
		       strcmp(a->address.path.sun_path, b->address.path.sun_path) == 0;
	/* The port stands in the same place of both kinds. */
	if (a->address.v4.sin_port != b->address.v4.sin_port)
		return false;
	/* "::" is IPv4's addresses, too. */
	if (family != b->address.any.sa_family)
		return is_any(family == AF_INET6 ? a : b);
	if (is_any(a) || is_any(b))
		return true;
	return family == AF_INET6 ?
		       memcmp(&a->address.v6.sin6_addr, &b->address.v6.sin6_addr,
			      sizeof(a->address.v6.sin6_addr)) == 0 :
		       a->address.v4.sin_addr.s_addr == b->address.v4.sin_addr.s_addr;
}

bool listener_overlaps(const struct listener *a, const struct listener *b)
{
	for (size_t i = 0; i < a->address_count; i++) {
		for (size_t j = 0; j < b->address_count; j++) {
			if (same_place(&a->addresses[i], &b->addresses[j]))
				return true;
		}
	}
	return false;
}

int listener_socket(const struct listener *listener, size_t index, int *fd,
		    struct weir_error *error)
{
	char name[LISTEN_NAME_MAX];

	if (listener->path_fd >= 0) {
		*fd = fcntl(listener->path_fd, F_DUPFD_CLOEXEC, 3);
		if (*fd < 0)
			return fail(error, WEIR_ESYSTEM, "no descriptor for %s: %m; raise the "
				    "limit (ulimit -n)", listener_name(listener, index, name));
		return WEIR_OK;
	}
	*fd = bind_socket(&listener->addresses[index], true);
	if (*fd < 0 || listen(*fd, BACKLOG) < 0) {
		fail(error, status_of_errno(), "cannot listen on %s: %m; give another address",
		     listener_name(listener, index, name));
		if (*fd >= 0)
			close(*fd);
		return error->status;
	}
	return WEIR_OK;
}

int listener_open(const struct options *options, size_t index, struct listener **listener,
		  struct weir_error *error)
{
	const struct listen_option *option = &options->listeners[index];
	const char *text = option->address;
	struct listener *new = calloc(1, sizeof(*new));
	int status;

	if (!new)
		return fail(error, WEIR_ENOMEM, "no memory to listen on \"%s\"", text);
	new->room = option->room;
	new->tls = option->tls;
	new->path_fd = -1;
	for (size_t i = 0; i < LISTEN_ADDRESSES_MAX; i++)
		new->addresses[i].reserved_fd = -1;
	if (strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0) {
		status = parse_path(new, text + strlen(UNIX_PREFIX), error);
		if (status == WEIR_OK)
			status = open_path(new, options, error);
	} else {
		status = parse_host(new, text, error);
		for (size_t i = 0; status == WEIR_OK && i < new->address_count; i++)
			status = reserve(new, i, options->takeover, error);
	}
	if (status < 0) {
		listener_close(new);
		return status;
	}
	*listener = new;
	return WEIR_OK;
}

void listener_unlink(struct listener *listener)
{
	struct listen_address *addresses = listener->addresses;
	struct stat now;

	for (size_t i = 0; i < LISTEN_ADDRESSES_MAX; i++) {
		if (addresses[i].reserved_fd >= 0)
			close(addresses[i].reserved_fd);
		addresses[i].reserved_fd = -1;
	}
	if (listener->path_fd < 0)
		return;
	if (lstat(addresses[0].address.path.sun_path, &now) == 0 &&
	    now.st_dev == listener->path_identity.st_dev &&
	    now.st_ino == listener->path_identity.st_ino)
		unlink(addresses[0].address.path.sun_path);
	close(listener->path_fd);
	listener->path_fd = -1;
}

void listener_close(struct listener *listener)
{
	listener_unlink(listener);
	free(listener);
}
