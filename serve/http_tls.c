/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_tls.c - certificates for libmicrohttpd, which takes them when a daemon starts.
 *
 * To change them later, each handshake asks for the certificate (retrieve()), and gets a
 * copy of its own.
 */
#include "serve/http_tls.h"

#include <pthread.h>
#include <stdlib.h>

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include "serve/fail.h"
#include "serve/server.h"

#define CHAIN_MAX 16u
#define PRIORITIES "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct http_tls {
	const struct options *options;
	pthread_mutex_t lock;           /* of the two texts, which a reload replaces */
	gnutls_datum_t certificate;     /* PEM */
	gnutls_datum_t key;
	gnutls_datum_t client_ca;       /* read once: what is trusted changes with a restart */
};

/* GnuTLS' retrieve functions have no argument of ours: a process has one set of files. */
static struct http_tls *in_force;

static int refuse(struct weir_error *error, const char *what, const char *path, int code)
{
	return fail(error, WEIR_EINVAL, "%s \"%s\": %s; give a PEM file that this user may read",
		    what, path, gnutls_strerror(code));
}

static void clear(gnutls_datum_t *text)
{
	gnutls_free(text->data);
	*text = (gnutls_datum_t){ 0 };
}

/* Can the two texts be used together? */
static int check(const struct http_tls *tls, const gnutls_datum_t *certificate,
		 const gnutls_datum_t *key, struct weir_error *error)
{
	gnutls_certificate_credentials_t credentials;
	int code = gnutls_certificate_allocate_credentials(&credentials);

	if (code == 0) {
		code = gnutls_certificate_set_x509_key_mem(credentials, certificate, key,
							   GNUTLS_X509_FMT_PEM);
		gnutls_certificate_free_credentials(credentials);
	}
	if (code == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
		return fail(error, WEIR_EINVAL, "the key \"%s\" does not belong to the certificate "
			    "\"%s\"; give the two that were made together", tls->options->tls_key,
			    tls->options->tls_certificate);
	return code < 0 ? refuse(error, "--tls-certificate", tls->options->tls_certificate, code) :
			  WEIR_OK;
}

int http_tls_load(struct http_tls *tls, struct weir_error *error)
{
	gnutls_datum_t certificate = { 0 }, key = { 0 }, before[2];
	int code, status = WEIR_OK;

	code = gnutls_load_file(tls->options->tls_certificate, &certificate);
	if (code < 0)
		return refuse(error, "--tls-certificate", tls->options->tls_certificate, code);
	code = gnutls_load_file(tls->options->tls_key, &key);
	if (code < 0)
		status = refuse(error, "--tls-key", tls->options->tls_key, code);
	if (status == WEIR_OK)
		status = check(tls, &certificate, &key, error);
	if (status < 0) {
		clear(&certificate);
		clear(&key);
		return status;
	}
	pthread_mutex_lock(&tls->lock);
	before[0] = tls->certificate;
	before[1] = tls->key;
	tls->certificate = certificate;
	tls->key = key;
	pthread_mutex_unlock(&tls->lock);
	clear(&before[0]);
	clear(&before[1]);
	return WEIR_OK;
}

int http_tls_new(const struct options *options, struct http_tls **tls, struct weir_error *error)
{
	struct http_tls *new = calloc(1, sizeof(*new));
	int code = 0;

	if (!new)
		return fail(error, WEIR_ENOMEM, "no memory for TLS");
	new->options = options;
	pthread_mutex_init(&new->lock, NULL);
	if (options->tls_client_ca)
		code = gnutls_load_file(options->tls_client_ca, &new->client_ca);
	if (code < 0)
		refuse(error, "--tls-client-ca", options->tls_client_ca, code);
	if (code < 0 || http_tls_load(new, error) < 0) {
		http_tls_delete(new);
		return error->status;
	}
	in_force = new;
	*tls = new;
	return WEIR_OK;
}

void http_tls_delete(struct http_tls *tls)
{
	if (!tls)
		return;
	clear(&tls->certificate);
	clear(&tls->key);
	clear(&tls->client_ca);
	pthread_mutex_destroy(&tls->lock);
	free(tls);
}

/* Give GnuTLS copies, which it frees when the handshake is over. */
static int retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *about,
		    gnutls_pcert_st **chain, unsigned *chain_length, gnutls_ocsp_data_st **ocsp,
		    unsigned *ocsp_length, gnutls_privkey_t *key, unsigned *flags)
{
	struct http_tls *tls = in_force;
	unsigned count = CHAIN_MAX;
	gnutls_pcert_st *certificates = gnutls_calloc(CHAIN_MAX, sizeof(*certificates));
	gnutls_privkey_t private = NULL;
	int code;

	(void)session;
	(void)about;
	if (!certificates || gnutls_privkey_init(&private) < 0) {
		gnutls_free(certificates);
		return -1;
	}
	pthread_mutex_lock(&tls->lock);
	code = gnutls_privkey_import_x509_raw(private, &tls->key, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (code >= 0)
		code = gnutls_pcert_list_import_x509_raw(certificates, &count, &tls->certificate,
							 GNUTLS_X509_FMT_PEM, 0);
	pthread_mutex_unlock(&tls->lock);
	if (code < 0) {
		gnutls_privkey_deinit(private);
		gnutls_free(certificates);
		return -1;
	}
	*chain = certificates;
	*chain_length = count;
	*key = private;
	*ocsp = NULL;
	*ocsp_length = 0;
	*flags = GNUTLS_CERT_RETR_DEINIT_ALL;
	return 0;
}

void http_tls_options(struct server *server, bool tls,
		      struct MHD_OptionItem options[HTTP_TLS_OPTIONS])
{
	size_t count = 0;

	if (tls) {
		options[count++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_CERT_CALLBACK2, 0,
							    (void *)(intptr_t)retrieve };
		options[count++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0,
							    (void *)PRIORITIES };
		if (server->http_tls->client_ca.data)
			options[count++] = (struct MHD_OptionItem){
				MHD_OPTION_HTTPS_MEM_TRUST, 0, server->http_tls->client_ca.data };
	}
	options[count] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
}

bool http_tls_verified(struct server *server, struct MHD_Connection *connection)
{
	const char *name = server->options->tls_client_name;
	/* A server's certificate is none of a client, as it is not for gRPC. */
	gnutls_typed_vdata_st demands[] = {
		{ GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT, 0 },
		{ GNUTLS_DT_DNS_HOSTNAME, (unsigned char *)name, 0 },
	};
	const union MHD_ConnectionInfo *info;
	unsigned status;

	if (!server->http_tls->client_ca.data)
		return true;
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	return info && info->tls_session &&
	       gnutls_certificate_verify_peers(info->tls_session, demands, name ? 2 : 1,
					       &status) >= 0 && status == 0;
}
