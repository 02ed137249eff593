/* SPDX-License-Identifier: Apache-2.0 */
/*
 * served.h - one loop of the service, whose only client is what is fuzzed: both are in one
 * thread, which turns the loop whenever the client has sent something.
 */
#ifndef WEIR_FUZZ_SERVED_H
#define WEIR_FUZZ_SERVED_H

#include <stdbool.h>

#include "serve/server.h"
#include "tests/fuzz/fuzz.h"

struct weir_policy;

extern struct server server;
extern struct loop loop;
extern int client;              /* a socket; negative: none */

/* A segment with COUNT policies, rules, and a server of OPTIONS, but no loop yet. */
void served_begin(const struct options *options, const struct weir_policy *policies, size_t count);

/* Let the service do what there is to do, and read what it says. */
void served_turn(void);

/* Send LENGTH bytes, as far as the service takes them. */
void served_put(const void *bytes, size_t length);

/* Turn until no connection is left. */
void served_settle(void);

/* The client goes, and nothing may be left of it. */
void served_leave(void);

#endif
