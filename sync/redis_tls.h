/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_tls.h - TLS for rediss://.  hiredis never compares the certificate with
 * the host's name, so the session is made and the handshake done here, and
 * hiredis gets a session that is ready for it.
 *
 * Built without WEIR_REDIS_TLS (hiredis before 1.0 has no TLS) there is none:
 * redis_tls_create() says so.
 */
#ifndef WEIR_SYNC_REDIS_TLS_H
#define WEIR_SYNC_REDIS_TLS_H

#include "sync/redis_error.h"
#include "sync/redis_url.h"

struct redis_tls;               /* what all connections share: certificates */
struct ssl_st;

/* Errors: WEIR_EINVAL (a file is not what it should be, or no TLS in this
 * build), WEIR_ENOMEM. */
int redis_tls_create(const struct redis_options *options, struct redis_tls **tls,
		     struct weir_error *error);
void redis_tls_destroy(struct redis_tls *tls);

/* A new session for a connection to options->host; SSL_free() it, or give it to
 * redisInitiateSSL(). */
struct ssl_st *redis_tls_session(const struct redis_tls *tls, const struct redis_options *options,
				 struct weir_error *error);

/* Say why the handshake of SESSION failed, and return REDIS_ERROR_TLS. */
enum redis_error redis_tls_fail(const struct ssl_st *session, const struct redis_options *options,
				struct weir_error *error);

/* Go on with the handshake of SESSION on its socket FD until it is done: NONE,
 * TLS, TIMEOUT or INTERRUPTED. */
enum redis_error redis_tls_handshake(struct ssl_st *session, const struct redis_options *options,
				     int fd, int interrupt_fd, uint64_t deadline_ns,
				     struct weir_error *error);

#endif
