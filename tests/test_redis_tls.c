/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rediss://, against a Redis that speaks it: who is let in, and above all which
 * servers are not believed.  Only for builds with TLS; certificates are made by
 * the program openssl.
 */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/proxy.h"
#include "tests/redis_client.h"
#include "tests/redis_server.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define SKIPPED 77

/* Long enough that it never ends a wait in these tests. */
#define LONG_MS 50000

/* Two authorities; a server's certificate for localhost and 127.0.0.1, one for
 * another host, one that has expired, and a client's. */
static const char make_certificates[] =
	"set -e; cd '%s'; exec >openssl.log 2>&1\n"
	"for ca in ca other; do openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
	"-nodes -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.pem; done\n"
	"make() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$1 "
	"-keyout $1.key -out $1.csr; printf \"subjectAltName=$2\" >$1.ext; "
	"openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days $3 "
	"-extfile $1.ext -out $1.pem; }\n"
	"make server DNS:localhost,IP:127.0.0.1 2\n"
	"make elsewhere DNS:elsewhere.test,IP:10.0.0.1 2\n"
	"make expired DNS:localhost,IP:127.0.0.1 -1\n"
	"make client DNS:client.test 2\n";

static char directory[64];
static struct redis_server *server;
static struct proxy *proxy;

/* A free port, or one that was a moment ago. */
static unsigned free_port(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	close(fd);
	return ntohs(address.sin_port);
}

/* Redis with the certificate NAME, behind a proxy (which passes TLS on). */
static void start(const char *name, const char *clients)
{
	char port[16], address[32], certificate[128], key[128], ca[128];
	const char *options[] = {
		"--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file", key,
		"--tls-ca-cert-file", ca, "--tls-auth-clients", clients, NULL,
	};
	unsigned number = free_port();

	snprintf(port, sizeof(port), "%u", number);
	snprintf(address, sizeof(address), "127.0.0.1:%u", number);
	snprintf(certificate, sizeof(certificate), "%s/%s.pem", directory, name);
	snprintf(key, sizeof(key), "%s/%s.key", directory, name);
	snprintf(ca, sizeof(ca), "%s/ca.pem", directory);
	server = redis_server_start(options);
	proxy = proxy_start("127.0.0.1:0", address);
}

static void tear_down(void)
{
	if (proxy)
		proxy_end(proxy);
	if (server)
		redis_server_end(server);
}

static const struct {
	const char *certificate;
	const char *clients;            /* tls-auth-clients */
	const char *host;
	const char *ca;
	bool show;                      /* the client's certificate */
	enum redis_error error;
	const char *said;
} servers[] = {
	{ "server", "no", "127.0.0.1", "ca", false, REDIS_ERROR_NONE, "" },
	{ "server", "no", "localhost", "ca", false, REDIS_ERROR_NONE, "" },
	{ "server", "yes", "localhost", "ca", true, REDIS_ERROR_NONE, "" },
	{ "server", "no", "localhost", "other", false, REDIS_ERROR_TLS, "certificate" },
	{ "server", "no", "localhost", NULL, false, REDIS_ERROR_TLS, "certificate" },
	{ "elsewhere", "no", "localhost", "ca", false, REDIS_ERROR_TLS, "hostname mismatch" },
	{ "elsewhere", "no", "127.0.0.1", "ca", false, REDIS_ERROR_TLS, "IP address mismatch" },
	{ "expired", "no", "localhost", "ca", false, REDIS_ERROR_TLS, "expired" },
};

static struct redis *create(const char *host, const char *ca, bool show)
{
	char files[512] = "", client[300] = "";

	if (ca)
		snprintf(files, sizeof(files), "&ca=%s/%s.pem", directory, ca);
	if (show)
		snprintf(client, sizeof(client), "&certificate=%s/client.pem&key=%s/client.key",
			 directory, directory);
	return client_create("rediss://%s:%u?connect_ms=%d&command_ms=%d%s%s", host,
			     proxy_port(proxy), LONG_MS, LONG_MS, files, client);
}

START_TEST(servers_are_checked)
{
	struct weir_error error;
	struct redis *redis;
	enum redis_error result;

	start(servers[_i].certificate, servers[_i].clients);
	redis = create(servers[_i].host, servers[_i].ca, servers[_i].show);
	result = redis_connect(redis, &error);
	ck_assert_msg(result == servers[_i].error, "%s: %s", redis_error_name(result),
		      error.message);
	ck_assert_msg(strstr(error.message, servers[_i].said), "%s", error.message);
	ck_assert_int_eq(redis_connected(redis), result == REDIS_ERROR_NONE);
	if (result == REDIS_ERROR_NONE)
		ck_assert_int_eq(client_add_now(redis, "key", 1, NULL), REDIS_ERROR_NONE);
	else
		ck_assert(redis_error_permanent(result));
	redis_destroy(redis);
}
END_TEST

/* Far more than one record of TLS, both ways at once. */
START_TEST(full_pipelines)
{
	enum { WORD_SIZE = 50000, CALLS = 100 };
	struct redis_result results[CALLS];
	char *word = calloc(1, WORD_SIZE);
	const char *argv[] = { word };
	size_t length = WORD_SIZE;
	struct weir_error error;
	struct redis *redis;

	start("server", "no");
	redis = create("localhost", "ca", false);
	client_connect(redis);
	for (unsigned i = 0; i < CALLS; i++)
		ck_assert_int_eq(redis_append_eval(redis, CLIENT_ECHO, "k", 1, 1, argv, &length),
				 REDIS_ERROR_NONE);
	ck_assert_msg(redis_flush_and_read(redis, results, CALLS, &error) == REDIS_ERROR_NONE,
		      "%s", error.message);
	for (unsigned i = 0; i < CALLS; i++) {
		redis_reply_text(redis_reply_at(results[i].reply, 1), &length);
		ck_assert_uint_eq(length, WORD_SIZE);
	}
	free(word);
	redis_destroy(redis);
}
END_TEST

/* In the handshake and after it, the connection ends and nothing hangs. */
START_TEST(cut_anywhere)
{
	struct redis *redis;
	struct weir_error error;
	uint64_t length;

	start("server", "no");
	redis = create("localhost", "ca", false);
	client_connect(redis);
	length = proxy_arrived(proxy, PROXY_REPLIES);
	for (uint64_t at = 0; at < length - 100; at += 37) {
		struct proxy_faults faults = proxy_no_faults();
		enum redis_error result;

		faults.cut_at = at;
		proxy_set(proxy, PROXY_REPLIES, faults);
		result = redis_connect(redis, &error);
		ck_assert_msg(result == REDIS_ERROR_TLS || result == REDIS_ERROR_CUT,
			      "%s: %s", redis_error_name(result), error.message);
	}
	proxy_set(proxy, PROXY_REPLIES, proxy_no_faults());
	client_connect(redis);
	redis_destroy(redis);
}
END_TEST

static void *interrupt_handshake(void *argument)
{
	proxy_wait(proxy, PROXY_REQUESTS, 1);
	redis_interrupt(argument);
	return NULL;
}

START_TEST(interrupted_in_the_handshake)
{
	struct proxy_faults drop = proxy_no_faults();
	struct weir_error error;
	struct redis *redis;
	pthread_t thread;

	start("server", "no");
	redis = create("localhost", "ca", false);
	drop.drop = true;
	proxy_set(proxy, PROXY_REPLIES, drop);
	pthread_create(&thread, NULL, interrupt_handshake, redis);
	ck_assert_int_eq(redis_connect(redis, &error), REDIS_ERROR_INTERRUPTED);
	pthread_join(thread, NULL);
	redis_destroy(redis);
}
END_TEST

/* It takes the handshake for a command that has not ended yet. */
START_TEST(a_plain_server)
{
	struct weir_error error;
	struct redis *redis;
	enum redis_error result;

	server = redis_server_start(NULL);
	proxy = proxy_start("127.0.0.1:0", redis_server_socket(server));
	redis = client_create("rediss://127.0.0.1:%u?connect_ms=100", proxy_port(proxy));
	result = redis_connect(redis, &error);
	ck_assert(result == REDIS_ERROR_TLS || result == REDIS_ERROR_TIMEOUT);
	ck_assert_ptr_nonnull(strstr(error.message, "TLS with \"127.0.0.1\""));
	redis_destroy(redis);
}
END_TEST

static const struct {
	const char *query;              /* formats for the directory */
	const char *said;
} files[] = {
	{ "ca=%s/none.pem", "give a PEM file as ca=" },
	{ "ca=%s/ca.key", "give a PEM file as ca=" },
	{ "ca=%s/ca.pem&certificate=/none&key=/none", "cannot load the certificate \"/none\"" },
	{ "ca=%1$s/ca.pem&certificate=%1$s/client.pem&key=/none", "cannot load the key \"/none\"" },
	{ "ca=%1$s/ca.pem&certificate=%1$s/client.pem&key=%1$s/ca.key", "cannot load the key" },
};

START_TEST(files_are_checked)
{
	char query[400], url[512];
	struct redis_options options;
	struct weir_error error;
	struct redis *redis;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(query, sizeof(query), files[_i].query, directory);
#pragma GCC diagnostic pop
	snprintf(url, sizeof(url), "rediss://localhost?%s", query);
	ck_assert_msg(redis_url_parse(url, &options, &error) == WEIR_OK, "%s", error.message);
	ck_assert_int_eq(redis_create(&options, NULL, 0, &redis, &error), WEIR_EINVAL);
	ck_assert_msg(strstr(error.message, files[_i].said), "%s", error.message);
	ck_assert_ptr_null(redis);
}
END_TEST

static void remove_directory(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	if (system(command) != 0)
		fprintf(stderr, "cannot remove %s\n", directory);
}

int main(void)
{
	Suite *suite;
	TCase *tls;
	char command[2048];
	SRunner *runner;
	int failed;

	redis_server_require();
	if (system("openssl version >/dev/null 2>&1 && "
		   "ldd \"$(command -v redis-server)\" | grep -q libssl") != 0)
		return SKIPPED;
	strcpy(directory, "/tmp/weir-tls-XXXXXX");
	if (!mkdtemp(directory))
		return EXIT_FAILURE;
	snprintf(command, sizeof(command), make_certificates, directory);
	if (system(command) != 0) {
		fprintf(stderr, "openssl cannot make certificates; see %s/openssl.log\n",
			directory);
		return EXIT_FAILURE;
	}

	suite = suite_create("redis_tls");
	tls = tcase_create("tls");
	tcase_add_checked_fixture(tls, NULL, tear_down);
	tcase_add_loop_test(tls, servers_are_checked, 0, LENGTH(servers));
	tcase_add_test(tls, full_pipelines);
	tcase_add_test(tls, cut_anywhere);
	tcase_add_test(tls, interrupted_in_the_handshake);
	tcase_add_test(tls, a_plain_server);
	tcase_add_loop_test(tls, files_are_checked, 0, LENGTH(files));
	tcase_set_timeout(tls, 60);
	suite_add_tcase(suite, tls);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	remove_directory();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
