/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.h - addresses, and sockets that listen there.
 *
 * ADDRESSES
 *
 *	192.0.2.1:8081, [2001:db8::1]:8081      one address
 *	localhost:8081                          a name: all of its addresses
 *	:8081                                   all addresses of the host
 *	unix:/run/weir.sock                     a unix socket
 *
 * Port 0 is one that is free; it is the same for all loops.
 *
 * ACCEPTING
 *
 * On TCP each loop has a socket of its own on the same address (SO_REUSEPORT), and the
 * kernel deals connections out.  A unix socket is one, which all loops accept from.
 *
 * TAKING OVER
 *
 * SO_REUSEPORT lets a new service listen beside an old one that is about to end, so that
 * no client is ever refused.  By mistake it would let two services share a port, and each
 * answer half of the requests: so a new one looks first whether somebody listens, unless
 * it was told to take over.  A unix socket is made under another name and renamed into
 * place; the old one goes on accepting what had connected before.
 */
#ifndef WEIR_SERVE_LISTEN_H
#define WEIR_SERVE_LISTEN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "serve/options.h"
#include "weir.h"

#define LISTEN_NAME_MAX 160
#define LISTEN_ADDRESSES_MAX 8  /* of one name */

struct listen_address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_un path;
	} address;
	socklen_t length;
	int reserved_fd;                /* bound, so that the port stays ours; -1 */
};

struct listener {
	enum room_kind room;
	bool tls;
	struct listen_address addresses[LISTEN_ADDRESSES_MAX];
	size_t address_count;
	int path_fd;                    /* of a unix socket; -1 */
	struct stat path_identity;      /* of its file: another's is not removed */
};

/* Read the address of listener INDEX of the options, look that nobody listens there unless
 * they tell to take over, and reserve it (port 0 is replaced by a free port).  Errors:
 * WEIR_EINVAL, WEIR_EEXIST, WEIR_EBUSY, WEIR_EACCES, WEIR_ESYSTEM, WEIR_ENOMEM. */
int listener_open(const struct options *options, size_t index, struct listener **listener,
		  struct weir_error *error);

/* A socket that listens on address INDEX, for one loop, in *FD; the caller closes it. */
int listener_socket(const struct listener *listener, size_t index, int *fd,
		    struct weir_error *error);

/* Could a client of one reach the other instead?  Both share their ports, so the kernel
 * does not tell. */
bool listener_overlaps(const struct listener *a, const struct listener *b);

/* "127.0.0.1:8081", "unix:/run/weir.sock".  Returns TEXT. */
const char *listener_name(const struct listener *listener, size_t index,
			  char text[LISTEN_NAME_MAX]);

/* Remove a unix socket's file, unless it is another's by now, and let go of addresses. */
void listener_unlink(struct listener *listener);

void listener_close(struct listener *listener);

#endif
