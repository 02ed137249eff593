/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy.h - a network that misbehaves as told: a thread that passes bytes
 * between those who connect to it and a server, and drops, holds, repeats or
 * cuts them, requests and replies apart.
 *
 * Faults are set at any time and hold for the connections there are and those
 * to come; counts of bytes begin with each connection.  Nothing depends on
 * time: a test waits until so many bytes have arrived, then does the next thing.
 * All functions may be called from any thread of the process that started it.
 */
#ifndef WEIR_TESTS_PROXY_H
#define WEIR_TESTS_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#define PROXY_NEVER UINT64_MAX

struct proxy;

enum proxy_direction {
	PROXY_REQUESTS,         /* to the server */
	PROXY_REPLIES,          /* from it */
};

struct proxy_faults {
	uint64_t cut_at;        /* pass so many bytes, then close both ends at once */
	bool reset;             /* a cut is an RST (TCP), which overtakes what was sent */
	bool drop;              /* read and forget */
	bool hold;              /* read and keep, until it is false again */
	bool duplicate;         /* send what arrives in one piece twice */
};

/* Listen on LISTEN for SERVER.  Both are "/path" or "127.0.0.1:port"; port 0
 * takes a free one.  Fails the program when it cannot. */
struct proxy *proxy_start(const char *listen, const char *server);

/* Cut all connections, end the thread, remove the socket's file and free it. */
void proxy_end(struct proxy *proxy);

/* Where it listens, as LISTEN is written. */
const char *proxy_address(const struct proxy *proxy);

/* The port, for TCP. */
uint16_t proxy_port(const struct proxy *proxy);

/* No fault: pass everything on. */
struct proxy_faults proxy_no_faults(void);

void proxy_set(struct proxy *proxy, enum proxy_direction direction, struct proxy_faults faults);

/* Connections from now on go to SERVER. */
void proxy_redirect(struct proxy *proxy, const char *server);

/* Cut all connections now. */
void proxy_cut(struct proxy *proxy);

/* How many bytes have arrived from the one end, whatever became of them, over
 * the newest connection. */
uint64_t proxy_arrived(struct proxy *proxy, enum proxy_direction direction);

/* Wait until that is BYTES at least.  Fails the program after 30 seconds. */
void proxy_wait(struct proxy *proxy, enum proxy_direction direction, uint64_t bytes);

/* How many connections there have been. */
uint64_t proxy_connections(struct proxy *proxy);

#endif
