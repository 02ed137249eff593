/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_socket.h - a connected, non-blocking socket to Redis, by a deadline,
 * and waiting on it.  Every wait ends at once when another thread makes
 * INTERRUPT_FD (an eventfd) readable.
 */
#ifndef WEIR_SYNC_REDIS_SOCKET_H
#define WEIR_SYNC_REDIS_SOCKET_H

#include <stdint.h>

#include "sync/redis_error.h"
#include "sync/redis_lookup.h"
#include "sync/redis_url.h"

/* CLOCK_MONOTONIC: deadlines are points on it. */
uint64_t redis_now_ns(void);

struct pollfd;

/* Wait until one of COUNT FDS has events: NONE, TIMEOUT, or NO_ROOM. */
enum redis_error redis_poll(struct pollfd *fds, unsigned count, uint64_t deadline_ns);

/* Wait until FD (-1: none) has one of EVENTS (poll.h).  NONE, TIMEOUT or
 * INTERRUPTED.  An event wins over an interruption: what has arrived is not
 * in doubt. */
enum redis_error redis_wait(int fd, short events, int interrupt_fd, uint64_t deadline_ns);

/* Connect.  LOOKUP keeps a look-up of the host that outlasted the deadline, for
 * the next attempt to go on with: there is never more than one thread.
 * NONE, RESOLVE, CONNECT, TIMEOUT, INTERRUPTED or NO_ROOM. */
enum redis_error redis_socket_open(const struct redis_options *options, int interrupt_fd,
				   uint64_t deadline_ns, struct redis_lookup **lookup, int *fd,
				   struct weir_error *error);

#endif
