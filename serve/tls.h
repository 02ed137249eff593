/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.h - TLS for the listeners that have it: certificates, and the bytes of a connection.
 *
 * TLS 1.2 and later, ALPN "h2" for gRPC; with --tls-client-ca a client must show a
 * certificate that is signed by one of these (mTLS).  Certificates are read again on
 * SIGHUP: new connections get the new ones; if they cannot be used, the old ones stay.
 *
 * THREADS: tls_load() may be called while loops accept.  A connection is its loop's.
 */
#ifndef WEIR_SERVE_TLS_H
#define WEIR_SERVE_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "serve/options.h"
#include "weir.h"

struct ssl_st;
struct tls;

/* Read the files that the options name.  Errors: WEIR_EINVAL, WEIR_ENOENT, WEIR_ENOMEM. */
int tls_new(const struct options *options, struct tls **tls, struct weir_error *error);

/* Read them again.  On failure what was read before stays in force. */
int tls_load(struct tls *tls, struct weir_error *error);

void tls_delete(struct tls *tls);

/* TLS for the accepted socket FD, or NULL: no memory. */
struct ssl_st *tls_accept(struct tls *tls, int fd);

/* These return 1, or what tls_error() explains. */
int tls_handshake(struct ssl_st *ssl);
int tls_read(struct ssl_st *ssl, void *bytes, size_t size, size_t *length);
int tls_write(struct ssl_st *ssl, const void *bytes, size_t size, size_t *length);

enum tls_state { TLS_WANTS_READ, TLS_WANTS_WRITE, TLS_OVER };

enum tls_state tls_error(struct ssl_st *ssl, int result);

/* Are bytes there that the socket will not tell of?  False for NULL. */
bool tls_has_pending(struct ssl_st *ssl);

/* Say good-bye, if that can be done at once, and free it (NULL is ignored). */
void tls_free(struct ssl_st *ssl);

#endif
