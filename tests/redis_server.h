/* SPDX-License-Identifier: Apache-2.0 */
/* redis_server.h - a real redis-server for a test: on a socket of its own, in a directory of its
 * own, without persistence.  It ends, and its directory goes, with the process that started it,
 * however that ends.  It is a child of that process, which alone may stop, continue, kill, restart
 * and end it. */
#ifndef WEIR_TESTS_REDIS_SERVER_H
#define WEIR_TESTS_REDIS_SERVER_H

struct redisContext;
struct redis_server;

/* For main(): leave with exit code 77, which test runners count as skipped, if there is no
 * redis-server. */
void redis_server_require(void);

/* Start one and wait until it answers.  OPTIONS, up to a NULL, follow the command line and win over
 * what stands there ("--maxmemory", "1mb"); NULL for none.  Fails the program when it cannot, with
 * the server's log.  Call it from a thread that lives as long as the server shall. */
struct redis_server *redis_server_start(const char *const *options);

/* A sentinel instead, with CONFIGURATION ("sentinel monitor ...") in a file of its own: the same
 * program, and all of what is below holds for it. */
struct redis_server *redis_server_start_sentinel(const char *configuration);

/* Kill it, remove its directory and free it. */
void redis_server_end(struct redis_server *server);

/* The path of its socket, and its directory. */
const char *redis_server_socket(const struct redis_server *server);
const char *redis_server_directory(const struct redis_server *server);

/* A connection with timeouts of seconds, never NULL and without an error. */
struct redisContext *redis_server_connect(const struct redis_server *server);

/* SIGSTOP and SIGCONT; they return when it has stopped or goes on. */
void redis_server_stop(struct redis_server *server);
void redis_server_continue(struct redis_server *server);

/* SIGKILL, also when it is stopped; connections end, and hiredis raises SIGPIPE when it writes to
 * one. */
void redis_server_kill(struct redis_server *server);

/* Start it again where it was, after a kill or instead of one, with the same options: it comes back
 * empty unless they say otherwise. */
void redis_server_restart(struct redis_server *server);

#endif
