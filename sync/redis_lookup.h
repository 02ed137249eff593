/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_lookup.h - a host's addresses, without waiting longer than wanted.
 *
 * getaddrinfo() can block for half a minute and cannot be cancelled.  It runs
 * in a thread of its own; who asks waits with a deadline and may leave.
 */
#ifndef WEIR_SYNC_REDIS_LOOKUP_H
#define WEIR_SYNC_REDIS_LOOKUP_H

#include <netdb.h>
#include <stdint.h>

struct redis_lookup;

/* Begin to look up HOST and PORT.  NULL if there is no memory, descriptor or
 * thread for it (errno). */
struct redis_lookup *redis_lookup_start(const char *host, uint16_t port);

/* A descriptor that is readable as soon as the answer is there. */
int redis_lookup_fd(const struct redis_lookup *lookup);

/* Then, once: the result of getaddrinfo(), and the addresses, which belong to
 * LOOKUP. */
int redis_lookup_result(const struct redis_lookup *lookup, struct addrinfo **addresses);

/* Let go of it (NULL is ignored), answered or not.  Does not wait. */
void redis_lookup_leave(struct redis_lookup *lookup);

#endif
