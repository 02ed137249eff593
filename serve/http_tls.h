/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_tls.h - TLS for HTTP.  libmicrohttpd's is GnuTLS, which reads the same files as
 * tls.c, with the same rules: they are read at the start and again on SIGHUP.
 *
 * THREADS: http_tls_load() may be called while loops accept.
 */
#ifndef WEIR_SERVE_HTTP_TLS_H
#define WEIR_SERVE_HTTP_TLS_H

#include <stdbool.h>

#include <microhttpd.h>

#include "serve/options.h"
#include "weir.h"

struct server;
struct http_tls;

/* Read the files that the options name.  Errors: as tls_new(). */
int http_tls_new(const struct options *options, struct http_tls **tls, struct weir_error *error);

/* Read them again.  On failure what was read before stays in force. */
int http_tls_load(struct http_tls *tls, struct weir_error *error);

void http_tls_delete(struct http_tls *tls);

/* What MHD_start_daemon() has to be told, for a listener with TLS or without. */
#define HTTP_TLS_OPTIONS 5
void http_tls_options(struct server *server, bool tls,
		      struct MHD_OptionItem options[HTTP_TLS_OPTIONS]);

/* Has the client of a connection with TLS shown a certificate, where one is demanded? */
bool http_tls_verified(struct server *server, struct MHD_Connection *connection);

#endif
