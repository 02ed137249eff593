/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sentinel_fixture.h - a master, a replica of it and a real sentinel that makes up its
 * mind by itself.
 *
 * Servers listen on unix sockets; a proxy gives each the TCP port under which the
 * others know it.
 */
#ifndef WEIR_TESTS_SENTINEL_FIXTURE_H
#define WEIR_TESTS_SENTINEL_FIXTURE_H

#include <stdbool.h>

#include "tests/redis_server.h"

extern struct redis_server *sentinel_master, *sentinel_replica;

/* Start them, and wait until the sentinel knows of both. */
void sentinel_start(void);
void sentinel_end(void);

/* The URL of the master by its name, with QUERY behind it. */
const char *sentinel_url(const char *query);

/* What the master is told from now on the replica never hears. */
void sentinel_cut_replication(void);

/* Has the replica been promoted? */
bool sentinel_has_promoted(void);

#endif
