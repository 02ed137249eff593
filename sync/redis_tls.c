/* SPDX-License-Identifier: Apache-2.0 */
#include "sync/redis_tls.h"

#include "shm/error.h"

#ifdef WEIR_REDIS_TLS

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>

#include "sync/redis_socket.h"

struct redis_tls {
	SSL_CTX *context;
};

/* The first of OpenSSL's complaints; the others follow from it. */
static const char *complaint(void)
{
	const char *reason = ERR_reason_error_string(ERR_get_error());

	ERR_clear_error();
	return reason ? reason : "no reason given";
}

static int load_files(SSL_CTX *context, const struct redis_options *options,
		      struct weir_error *error)
{
	int loaded = options->tls_ca[0] ?
		SSL_CTX_load_verify_locations(context, options->tls_ca, NULL) :
		SSL_CTX_set_default_verify_paths(context);

	if (loaded != 1)
		return weir_fail(error, WEIR_EINVAL,
				 "cannot load the certificates to trust, \"%s\" (%s); give a PEM "
				 "file as ca=", options->tls_ca, complaint());
	if (!options->tls_certificate[0])
		return WEIR_OK;
	if (SSL_CTX_use_certificate_chain_file(context, options->tls_certificate) != 1)
		return weir_fail(error, WEIR_EINVAL,
				 "cannot load the certificate \"%s\" (%s); give a PEM file as "
				 "certificate=", options->tls_certificate, complaint());
	if (SSL_CTX_use_PrivateKey_file(context, options->tls_key, SSL_FILETYPE_PEM) != 1)
		return weir_fail(error, WEIR_EINVAL,
				 "cannot load the key \"%s\" (%s); give the PEM file of the "
				 "certificate's key as key=", options->tls_key, complaint());
	return WEIR_OK;
}

int redis_tls_create(const struct redis_options *options, struct redis_tls **tls,
		     struct weir_error *error)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	struct redis_tls *made = malloc(sizeof(*made));

	if (!context || !made) {
		SSL_CTX_free(context);
		free(made);
		return weir_fail(error, WEIR_ENOMEM, "no memory for TLS; free some");
	}
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
			 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (load_files(context, options, error) < 0) {
		SSL_CTX_free(context);
		free(made);
		return WEIR_EINVAL;
	}
	made->context = context;
	*tls = made;
	return weir_ok(error);
}

void redis_tls_destroy(struct redis_tls *tls)
{
	if (!tls)
		return;
	SSL_CTX_free(tls->context);
	free(tls);
}

/* A certificate names addresses and hosts in different fields, and SNI carries
 * names only. */
static int expect_host(SSL *session, const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host);
	return SSL_set1_host(session, host) && SSL_set_tlsext_host_name(session, host);
}

SSL *redis_tls_session(const struct redis_tls *tls, const struct redis_options *options,
		       struct weir_error *error)
{
	SSL *session = SSL_new(tls->context);

	if (session && expect_host(session, options->host) == 1)
		return session;
	weir_fail(error, WEIR_ENOMEM, "cannot make a TLS session for \"%s\" (%s); free memory",
		  options->host, complaint());
	SSL_free(session);
	return NULL;
}

enum redis_error redis_tls_fail(const SSL *session, const struct redis_options *options,
				struct weir_error *error)
{
	long verified = SSL_get_verify_result(session);

	weir_fail(error, WEIR_EACCES,
		  "TLS with \"%s\" failed (%s); check that the port speaks TLS, and its "
		  "certificate", options->host,
		  verified != X509_V_OK ? X509_verify_cert_error_string(verified) : complaint());
	return REDIS_ERROR_TLS;
}

enum redis_error redis_tls_handshake(SSL *session, const struct redis_options *options, int fd,
				     int interrupt_fd, uint64_t deadline_ns,
				     struct weir_error *error)
{
	for (;;) {
		enum redis_error result;
		int done, want;

		ERR_clear_error();
		done = SSL_do_handshake(session);
		if (done == 1)
			return REDIS_ERROR_NONE;
		want = SSL_get_error(session, done);
		if (want != SSL_ERROR_WANT_READ && want != SSL_ERROR_WANT_WRITE)
			return redis_tls_fail(session, options, error);
		result = redis_wait(fd, want == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT,
				    interrupt_fd, deadline_ns);
		if (result != REDIS_ERROR_NONE) {
			weir_fail(error, WEIR_ESYSTEM, "TLS with \"%s\": %s; connect again",
				  options->host, redis_error_name(result));
			return result;
		}
	}
}

#else

int redis_tls_create(const struct redis_options *options, struct redis_tls **tls,
		     struct weir_error *error)
{
	(void)options;
	*tls = NULL;
	return weir_fail(error, WEIR_EINVAL,
			 "this build has no TLS (its hiredis came without hiredis_ssl), so it "
			 "cannot use rediss://; build with hiredis 1.0 or later, or use redis:// "
			 "through a tunnel");
}

void redis_tls_destroy(struct redis_tls *tls)
{
	(void)tls;
}

#endif
