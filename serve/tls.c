/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/tls.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "serve/fail.h"

struct tls {
	const char *certificate;
	const char *key;
	const char *client_ca;
	const char *client_name;
	pthread_mutex_t lock;           /* of context: it is replaced while loops accept */
	SSL_CTX *context;
};

/* The first error is the cause; those after it say in which library it showed. */
static const char *openssl_reason(void)
{
	unsigned long code = ERR_peek_error();
	const char *reason = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) :
						      ERR_reason_error_string(code);

	return code && reason ? reason : "no reason given";
}

static int refuse(struct weir_error *error, const char *what, const char *path)
{
	fail(error, WEIR_EINVAL, "%s \"%s\": %s; give a PEM file that this user may read", what,
	     path, openssl_reason());
	ERR_clear_error();
	return error->status;
}

/* gRPC is HTTP/2, and a client that offers ALPN must offer that. */
static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_length,
			   const unsigned char *offered, unsigned int offered_length, void *context)
{
	static const unsigned char ours[] = "\x02h2";
	unsigned char *out;

	(void)ssl;
	(void)context;
	if (SSL_select_next_proto(&out, chosen_length, ours, sizeof(ours) - 1, offered,
				  offered_length) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*chosen = out;
	return SSL_TLSEXT_ERR_OK;
}

static int load_client_ca(SSL_CTX *context, const char *path, struct weir_error *error)
{
	STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path);

	if (!names || SSL_CTX_load_verify_file(context, path) != 1) {
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return refuse(error, "--tls-client-ca", path);
	}
	SSL_CTX_set_client_CA_list(context, names);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return WEIR_OK;
}

/* One of the names that a client's certificate is for; the subject is none. */
static int demand_name(SSL_CTX *context, const char *name, struct weir_error *error)
{
	X509_VERIFY_PARAM *demands = SSL_CTX_get0_param(context);

	X509_VERIFY_PARAM_set_hostflags(demands, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (X509_VERIFY_PARAM_set1_host(demands, name, 0) != 1)
		return fail(error, WEIR_EINVAL, "\"%s\" is no name that clients' certificates can "
			    "have; give a DNS name", name);
	return WEIR_OK;
}

/* OpenSSL would ask at the terminal, and wait: also when certificates are read again. */
static int on_pass_phrase(char *text, int size, int writing, void *encrypted)
{
	(void)text;
	(void)size;
	(void)writing;
	*(bool *)encrypted = true;
	return -1;
}

static int load_key(const struct tls *tls, SSL_CTX *context, struct weir_error *error)
{
	bool encrypted = false;
	int loaded;

	SSL_CTX_set_default_passwd_cb(context, on_pass_phrase);
	SSL_CTX_set_default_passwd_cb_userdata(context, &encrypted);
	loaded = SSL_CTX_use_PrivateKey_file(context, tls->key, SSL_FILETYPE_PEM);
	SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
	if (loaded == 1)
		return WEIR_OK;
	if (encrypted) {
		ERR_clear_error();
		return fail(error, WEIR_EINVAL, "the key \"%s\" has a pass phrase, and nobody is "
			    "asked for one; give a key without (`openssl pkey` writes one)",
			    tls->key);
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) != X509_R_KEY_VALUES_MISMATCH)
		return refuse(error, "--tls-key", tls->key);
	ERR_clear_error();
	return fail(error, WEIR_EINVAL, "the key \"%s\" does not belong to the certificate \"%s\"; "
		    "give the two that were made together", tls->key, tls->certificate);
}

static int load_files(const struct tls *tls, SSL_CTX *context, struct weir_error *error)
{
	if (SSL_CTX_use_certificate_chain_file(context, tls->certificate) != 1)
		return refuse(error, "--tls-certificate", tls->certificate);
	if (load_key(tls, context, error) < 0)
		return error->status;
	if (tls->client_ca && load_client_ca(context, tls->client_ca, error) < 0)
		return error->status;
	return tls->client_name ? demand_name(context, tls->client_name, error) : WEIR_OK;
}

int tls_load(struct tls *tls, struct weir_error *error)
{
	static const unsigned char session_context[] = "weir";
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	SSL_CTX *before;

	if (!context)
		return fail(error, WEIR_ENOMEM, "no memory for TLS");
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	/* HTTP/2 forbids renegotiation; without it a read never has to write. */
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
				  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(context, 1);
	SSL_CTX_set_session_id_context(context, session_context, sizeof(session_context) - 1);
	SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
	if (load_files(tls, context, error) < 0) {
		SSL_CTX_free(context);
		return error->status;
	}
	pthread_mutex_lock(&tls->lock);
	before = tls->context;
	tls->context = context;
	pthread_mutex_unlock(&tls->lock);
	SSL_CTX_free(before);           /* connections keep theirs */
	return WEIR_OK;
}

int tls_new(const struct options *options, struct tls **tls, struct weir_error *error)
{
	struct tls *new = calloc(1, sizeof(*new));

	if (!new)
		return fail(error, WEIR_ENOMEM, "no memory for TLS");
	new->certificate = options->tls_certificate;
	new->key = options->tls_key;
	new->client_ca = options->tls_client_ca;
	new->client_name = options->tls_client_name;
	pthread_mutex_init(&new->lock, NULL);
	if (tls_load(new, error) < 0) {
		tls_delete(new);
		return error->status;
	}
	*tls = new;
	return WEIR_OK;
}

void tls_delete(struct tls *tls)
{
	if (!tls)
		return;
	SSL_CTX_free(tls->context);
	pthread_mutex_destroy(&tls->lock);
	free(tls);
}

SSL *tls_accept(struct tls *tls, int fd)
{
	SSL *ssl;

	pthread_mutex_lock(&tls->lock);
	ssl = SSL_new(tls->context);
	pthread_mutex_unlock(&tls->lock);
	if (!ssl || SSL_set_fd(ssl, fd) != 1) {
		SSL_free(ssl);
		return NULL;
	}
	SSL_set_accept_state(ssl);
	return ssl;
}

int tls_handshake(SSL *ssl)
{
	ERR_clear_error();
	return SSL_do_handshake(ssl);
}

int tls_read(SSL *ssl, void *bytes, size_t size, size_t *length)
{
	ERR_clear_error();
	return SSL_read_ex(ssl, bytes, size, length);
}

int tls_write(SSL *ssl, const void *bytes, size_t size, size_t *length)
{
	ERR_clear_error();
	return SSL_write_ex(ssl, bytes, size, length);
}

enum tls_state tls_error(SSL *ssl, int result)
{
	switch (SSL_get_error(ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return TLS_WANTS_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANTS_WRITE;
	default:
		return TLS_OVER;
	}
}

bool tls_has_pending(SSL *ssl)
{
	return ssl && SSL_has_pending(ssl);
}

void tls_free(SSL *ssl)
{
	if (!ssl)
		return;
	/* One attempt: a client that does not read is not waited for. */
	if (SSL_is_init_finished(ssl))
		SSL_shutdown(ssl);
	ERR_clear_error();
	SSL_free(ssl);
}
