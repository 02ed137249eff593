/* SPDX-License-Identifier: Apache-2.0 */
/* redis_client.h - short forms of sync/redis.h for the tests on it. */
#ifndef WEIR_TESTS_REDIS_CLIENT_H
#define WEIR_TESTS_REDIS_CLIENT_H

#include <check.h>
#include <stdint.h>

#include "sync/redis.h"

/* The scripts of client_create(): */
enum client_script {
	CLIENT_ADD,             /* add ARGV[1] to KEYS[1], return the sum */
	CLIENT_ECHO,            /* return { KEYS[1], ARGV[1], 7, nil, { "OK" } } */
	CLIENT_SCRIPTS,
};

/* For URL, a format.  No SIGPIPE for this thread from here on. */
struct redis *client_create(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Connect, or fail the test. */
void client_connect(struct redis *redis);

/* Queue "add ADD to KEY". */
void client_add(struct redis *redis, const char *key, int64_t add);

/* The same alone, flushed: its error, and SUM (may be NULL) if it is NONE. */
enum redis_error client_add_now(struct redis *redis, const char *key, int64_t add, int64_t *sum);

struct redis_server;

/* Run a command beside the connection under test; fails the test if it gets an
 * error.  Returns its integer, or the number in its text. */
int64_t client_admin(const struct redis_server *server, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* How many descriptors this process has. */
unsigned client_count_files(void);

#endif
