/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync_redis.h - the Redis that the hosts of a test share, and hosts that share it.
 *
 * It is for tests with one server each, by the checked fixture server_begin() or
 * server_begin_patient(), and server_end().
 */
#ifndef WEIR_TESTS_SYNC_REDIS_H
#define WEIR_TESTS_SYNC_REDIS_H

#include "tests/redis_server.h"
#include "tests/sync_fixture.h"

extern struct redis_server *server;
extern char url[256];

/* A call may take 500 ms, and hence a test that stops Redis waits so long. */
void server_begin(void);

/* It may take 2 s, for tests that do not stop it, but keep the machine busy. */
void server_begin_patient(void);

void server_end(void);

/* COUNT hosts, by hosts_open(), whose policy is host_policy() of the others. */
void open_hosts(int count, const char *limit, enum weir_consistency consistency,
		enum weir_fail_mode fail_mode);

#endif
