/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/environment.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *variable(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value ? value : otherwise;
}

static bool is_one_of(const char *text, const char *const words[6])
{
	for (int i = 0; i < 6; i++) {
		if (strcmp(text, words[i]) == 0)
			return true;
	}
	return false;
}

/* As Go reads it. */
static bool flag(struct cli *cli, const char *name, bool otherwise)
{
	static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };
	static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False" };
	const char *value = variable(name, "");

	if (*value == '\0')
		return otherwise;
	if (!is_one_of(value, yes) && !is_one_of(value, no))
		cli_die(cli, "%s is \"%s\"; write true or false", name, value);
	return is_one_of(value, yes);
}

static float ratio(struct cli *cli, const char *name, float otherwise)
{
	const char *value = variable(name, "");
	char *end;
	float number;

	if (*value == '\0')
		return otherwise;
	number = strtof(value, &end);
	if (*end != '\0' || !(number >= 0 && number <= 1))
		cli_die(cli, "%s is \"%s\"; write a number from 0 to 1, such as 0.8", name, value);
	return number;
}

/* A text of its own, which lives as long as the process. */
__attribute__((format(printf, 2, 3))) static const char *
print(struct cli *cli, const char *format, ...)
{
	va_list arguments;
	char *text;
	int length;

	va_start(arguments, format);
	length = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (length < 0)
		cli_die(cli, "no memory for the options; free some and try again");
	return text;
}

static void read_rules(struct cli *cli, struct rules_options *rules)
{
	struct envoy_options *envoy = &rules->envoy;

	envoy->near_limit_ratio = ratio(cli, "NEAR_LIMIT_RATIO", envoy->near_limit_ratio);
	envoy->key_prefix = variable("CACHE_KEY_PREFIX", envoy->key_prefix);
	envoy->shadow_mode = flag(cli, "SHADOW_MODE", false);
	envoy->quota_mode = flag(cli, "QUOTA_MODE", false);
	envoy->stop_counting_when_over =
		flag(cli, "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", false);
	envoy->dynamic_metadata = flag(cli, "RESPONSE_DYNAMIC_METADATA", false);
	envoy->config.merge_domains = flag(cli, "MERGE_DOMAIN_CONFIG", false);
	envoy->headers = flag(cli, "LIMIT_RESPONSE_HEADERS_ENABLED", false);
	envoy->limit_header = variable("LIMIT_LIMIT_HEADER", envoy->limit_header);
	envoy->remaining_header = variable("LIMIT_REMAINING_HEADER", envoy->remaining_header);
	envoy->reset_header = variable("LIMIT_RESET_HEADER", envoy->reset_header);
}

static void read_directory(struct cli *cli, struct watch_options *directory)
{
	directory->ignore_dot_files = flag(cli, "RUNTIME_IGNOREDOTFILES", false);
	if (directory->root)
		return;         /* --rules said where */
	directory->root = variable("RUNTIME_ROOT", "/srv/runtime_data/current");
	directory->subdirectory = variable("RUNTIME_SUBDIRECTORY", "");
	directory->app_directory = variable("RUNTIME_APPDIRECTORY", "config");
	directory->name_by_app = flag(cli, "RUNTIME_WATCH_ROOT", true);
}

static const char *redis_scheme(struct cli *cli, const char *type, bool tls)
{
	if (strcasecmp(type, "SINGLE") == 0)
		return tls ? "rediss://" : "redis://";
	if (tls)
		cli_die(cli, "REDIS_TLS with REDIS_TYPE \"%s\" has no form here; give --redis URL",
			type);
	if (strcasecmp(type, "SENTINEL") == 0)
		return "redis-sentinel://";
	if (strcasecmp(type, "CLUSTER") == 0)
		return "redis-cluster://";
	cli_die(cli, "REDIS_TYPE is \"%s\"; write SINGLE, SENTINEL or CLUSTER", type);
}

/* REDIS_URL is HOST:PORT, or a path; of Sentinel it is MASTER,HOST:PORT,...  No Redis
 * means that this host counts alone. */
static const char *redis_url(struct cli *cli)
{
	const char *url = getenv("REDIS_URL");
	const char *type = variable("REDIS_TYPE", "SINGLE");
	const char *password = variable("REDIS_AUTH", "");
	const char *colon = *password && !strchr(password, ':') ? ":" : "";
	const char *at = *password ? "@" : "";
	const char *scheme, *hosts;

	if (!url || *url == '\0')
		return NULL;
	if (strstr(url, "://"))
		return url;
	if (strcasecmp(variable("REDIS_SOCKET_TYPE", "unix"), "unix") == 0 && *url == '/') {
		if (*password)
			cli_die(cli, "REDIS_AUTH with a unix socket has no form here; give "
				"--redis URL");
		return print(cli, "unix://%s", url);
	}
	scheme = redis_scheme(cli, type, flag(cli, "REDIS_TLS", false));
	hosts = strchr(url, ',');
	if (strcasecmp(type, "SENTINEL") != 0)
		return print(cli, "%s%s%s%s%s", scheme, colon, password, at, url);
	if (!hosts)
		cli_die(cli, "REDIS_URL is \"%s\"; for REDIS_TYPE SENTINEL write "
			"MASTER,HOST:PORT,HOST:PORT", url);
	return print(cli, "%s%s%s%s%s/%.*s", scheme, colon, password, at, hosts + 1,
		     (int)(hosts - url), url);
}

/* Where that program listens: gRPC, and what is asked over HTTP, its health among it. */
static void read_listeners(struct cli *cli, struct options *options)
{
	const char *socket = variable("GRPC_UDS", "");
	bool tls = flag(cli, "GRPC_SERVER_USE_TLS", false);

	options->listeners[options->listener_count++] = (struct listen_option){
		.room = ROOM_HTTP,
		.address = print(cli, "%s:%s", variable("HOST", "0.0.0.0"),
				 variable("PORT", "8080")),
	};
	options->listeners[options->listener_count++] = (struct listen_option){
		.room = ROOM_GRPC,
		.tls = tls,
		.address = *socket ? print(cli, "unix:%s", socket) :
				     print(cli, "%s:%s", variable("GRPC_HOST", "0.0.0.0"),
					   variable("GRPC_PORT", "8081")),
	};
	if (!tls)
		return;
	if (!options->tls_certificate)
		options->tls_certificate = getenv("GRPC_SERVER_TLS_CERT");
	if (!options->tls_key)
		options->tls_key = getenv("GRPC_SERVER_TLS_KEY");
	if (!options->tls_client_ca && *variable("GRPC_CLIENT_TLS_CACERT", ""))
		options->tls_client_ca = getenv("GRPC_CLIENT_TLS_CACERT");
}

void environment_read(struct cli *cli, struct options *options, const char **redis)
{
	const char *type = variable("CONFIG_TYPE", "FILE");
	const char *backend = variable("BACKEND_TYPE", "redis");

	if (strcmp(type, "FILE") != 0)
		cli_die(cli, "CONFIG_TYPE is \"%s\"; only FILE is known here", type);
	if (strcmp(backend, "redis") != 0)
		cli_die(cli, "BACKEND_TYPE is \"%s\"; only redis is known here", backend);
	read_rules(cli, &options->rules);
	read_directory(cli, &options->rules.directory);
	if (!*redis)
		*redis = redis_url(cli);
	if (options->listener_count == 0)
		read_listeners(cli, options);
}
