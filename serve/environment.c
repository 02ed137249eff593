/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/environment.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "serve/environment_value.h"

#define TAGS_MAX 32u

static const char *read_header(struct cli *cli, const char *variable, const char *otherwise)
{
	const char *name = environment_any_text(variable, otherwise);

	/* A token of HTTP: what else is one would end the header, or be refused by Envoy. */
	size_t length = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789!#$%&'*+-.^_`|~");

	if (!*name || strlen(name) > ENVOY_HEADER_MAX)
		cli_die(cli, "%s has %zu bytes; write the name of a header, 1 to %u", variable,
			strlen(name), ENVOY_HEADER_MAX);
	if (name[length])
		cli_die(cli, "%s is \"%s\", which is no name of a header; write letters, digits and "
			"hyphens", variable, name);
	return name;
}

static void read_headers(struct cli *cli, struct envoy_options *envoy)
{
	envoy->headers = environment_flag(cli, "LIMIT_RESPONSE_HEADERS_ENABLED", false);
	if (!envoy->headers)
		return;
	envoy->limit_header = read_header(cli, "LIMIT_LIMIT_HEADER", envoy->limit_header);
	envoy->remaining_header =
		read_header(cli, "LIMIT_REMAINING_HEADER", envoy->remaining_header);
	envoy->reset_header = read_header(cli, "LIMIT_RESET_HEADER", envoy->reset_header);
}

static void read_rules(struct cli *cli, struct rules_options *rules)
{
	struct envoy_options *envoy = &rules->envoy;

	envoy->near_limit_ratio = environment_ratio(cli, "NEAR_LIMIT_RATIO", envoy->near_limit_ratio);
	envoy->key_prefix = environment_any_text("CACHE_KEY_PREFIX", envoy->key_prefix);
	envoy->shadow_mode = environment_flag(cli, "SHADOW_MODE", false);
	envoy->quota_mode = environment_flag(cli, "QUOTA_MODE", false);
	envoy->stop_counting_when_over =
		environment_flag(cli, "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", false);
	envoy->dynamic_metadata = environment_flag(cli, "RESPONSE_DYNAMIC_METADATA", false);
	envoy->config.merge_domains = environment_flag(cli, "MERGE_DOMAIN_CONFIG", false);
	rules->healthy_when_loaded =
		environment_flag(cli, "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", false);
	read_headers(cli, envoy);
}

static void read_directory(struct cli *cli, struct watch_options *directory)
{
	directory->ignore_dot_files = environment_flag(cli, "RUNTIME_IGNOREDOTFILES", false);
	if (directory->root)
		return;         /* --rules said where */
	directory->root = environment_any_text("RUNTIME_ROOT", "/srv/runtime_data/current");
	directory->subdirectory = environment_any_text("RUNTIME_SUBDIRECTORY", "");
	directory->app_directory = environment_any_text("RUNTIME_APPDIRECTORY", "config");
	directory->name_by_app = environment_flag(cli, "RUNTIME_WATCH_ROOT", true);
}

/* "key:value,key:value", in the order of the keys; what has no key or no value is none. */
struct tag {
	const char *key, *value;
};

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct tag *)a)->key, ((const struct tag *)b)->key);
}

static size_t read_tags(struct cli *cli, struct tag tags[TAGS_MAX])
{
	const char *given = environment_text("EXTRA_TAGS", "");
	char *rest = (char *)environment_print(cli, "%s", given);
	size_t count = 0;
	char *item;

	while ((item = strsep(&rest, ",")) && (*item || rest)) {
		char *value = strchr(item, ':');

		if (!value || count == TAGS_MAX)
			cli_die(cli, "EXTRA_TAGS is \"%s\"; write up to %u as key:value,key:value",
				given, TAGS_MAX);
		*value++ = '\0';
		for (char *c = value; *c; c++) {
			if (strchr(".:|", *c))
				*c = '_';
		}
		if (*item && *value)
			tags[count++] = (struct tag){ item, value };
	}
	qsort(tags, count, sizeof(*tags), by_key);
	return count;
}

/* As they stand behind a name (".__key=value"), or, for DogStatsD, behind a number. */
static const char *print_tags(struct cli *cli, bool dog)
{
	struct tag tags[TAGS_MAX];
	size_t count = read_tags(cli, tags);
	const char *text = "";

	for (size_t i = 0; i < count; i++)
		text = environment_print(cli, "%s%s%s%s%s", text, !dog ? ".__" : i ? "," : "|#",
					 tags[i].key, dog ? ":" : "=", tags[i].value);
	return text;
}

static bool statsd_protocol_is_udp(struct cli *cli)
{
	const char *protocol = environment_text("STATSD_PROTOCOL", "tcp");

	if (strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0)
		cli_die(cli, "STATSD_PROTOCOL is \"%s\"; write tcp or udp", protocol);
	return strcmp(protocol, "udp") == 0;
}

static void read_statistics(struct cli *cli, struct options *options)
{
	bool dog = environment_flag(cli, "USE_DOG_STATSD", false);
	bool prometheus = environment_flag(cli, "USE_PROMETHEUS", false);
	bool plain = environment_flag(cli, "USE_STATSD", !dog && !prometheus);
	bool disabled = environment_flag(cli, "DISABLE_STATS", false);

	if (dog && plain)
		cli_die(cli, "USE_STATSD and USE_DOG_STATSD are both true; set one of them to "
			"false");
	options->metrics_path = environment_text("PROMETHEUS_PATH", NULL);
	if (options->metrics_path && *options->metrics_path != '/')
		cli_die(cli, "PROMETHEUS_PATH is \"%s\"; write a path, such as /metrics",
			options->metrics_path);
	options->statsd = (struct statsd_options){
		.enabled = (dog || plain) && !disabled,
		.host = environment_text("STATSD_HOST", "localhost"),
		.port = (uint16_t)environment_number(cli, "STATSD_PORT", 8125, 1, 65535),
		.udp = statsd_protocol_is_udp(cli) || dog,
		.tags_last = dog,
		.tags = print_tags(cli, dog),
		.interval_ns = environment_duration_ns(cli, "STATS_FLUSH_INTERVAL", "10s"),
	};
	if (options->statsd.interval_ns < STATSD_INTERVAL_MIN_NS)
		cli_die(cli, "STATS_FLUSH_INTERVAL is \"%s\"; write 1ms or more",
			environment_text("STATS_FLUSH_INTERVAL", ""));
}

static void read_log_level(struct cli *cli, struct options *options)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = {
		{ "panic", LOG_ERRORS }, { "fatal", LOG_ERRORS }, { "error", LOG_ERRORS },
		{ "warn", LOG_WARNINGS }, { "warning", LOG_WARNINGS }, { "info", LOG_ALL },
		{ "debug", LOG_ALL }, { "trace", LOG_ALL },
	};
	const char *given = environment_text("LOG_LEVEL", "info");

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcasecmp(given, levels[i].name) == 0) {
			options->log_level = levels[i].level;
			return;
		}
	}
	cli_die(cli, "LOG_LEVEL is \"%s\"; write error, warn, info or debug", given);
}

static void add_listener(struct options *options, enum room_kind room, bool tls,
			 const char *address)
{
	options->listeners[options->listener_count++] = (struct listen_option){
		.room = room,
		.tls = tls,
		.address = address,
	};
}

/* HOST:PORT; an IPv6 address is written in brackets. */
static const char *join(struct cli *cli, const char *host, const char *port)
{
	return environment_print(cli, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static void read_tls(struct cli *cli, struct options *options)
{
	if (!options->tls_certificate)
		options->tls_certificate = environment_text("GRPC_SERVER_TLS_CERT", NULL);
	if (!options->tls_key)
		options->tls_key = environment_text("GRPC_SERVER_TLS_KEY", NULL);
	if (!options->tls_client_ca)
		options->tls_client_ca = environment_text("GRPC_CLIENT_TLS_CACERT", NULL);
	if (!options->tls_client_name)
		options->tls_client_name = environment_text("GRPC_CLIENT_TLS_SAN", NULL);
	if (!options->tls_certificate || !options->tls_key)
		cli_die(cli, "GRPC_SERVER_USE_TLS is true, and there is no %s; set "
			"GRPC_SERVER_TLS_CERT and GRPC_SERVER_TLS_KEY", options->tls_certificate ?
			"key" : "certificate");
	if (options->tls_client_name && !options->tls_client_ca)
		cli_die(cli, "GRPC_CLIENT_TLS_SAN is \"%s\", and nothing says who may sign such a "
			"certificate; set GRPC_CLIENT_TLS_CACERT", options->tls_client_name);
}

/* Where that program listens: gRPC, what is asked over HTTP (its health among it), and
 * where Prometheus and people look. */
static void read_listeners(struct cli *cli, struct options *options)
{
	const char *socket = environment_text("GRPC_UDS", NULL);
	bool tls = environment_flag(cli, "GRPC_SERVER_USE_TLS", false);

	add_listener(options, ROOM_HTTP, false,
		     join(cli, environment_text("HOST", "0.0.0.0"), environment_text("PORT", "8080")));
	add_listener(options, ROOM_GRPC, tls,
		     socket ? environment_print(cli, "unix:%s", socket) :
			      join(cli, environment_text("GRPC_HOST", "0.0.0.0"),
				   environment_text("GRPC_PORT", "8081")));
	if (environment_flag(cli, "USE_PROMETHEUS", false))
		add_listener(options, ROOM_HTTP, false,
			     environment_text("PROMETHEUS_ADDR", ":9090"));
	if (environment_is_set("DEBUG_HOST") || environment_is_set("DEBUG_PORT"))
		add_listener(options, ROOM_HTTP, false,
			     join(cli, environment_text("DEBUG_HOST", "0.0.0.0"),
				  environment_text("DEBUG_PORT", "6070")));
	if (tls)
		read_tls(cli, options);
}

static void read_connections(struct cli *cli, struct options *options)
{
	options->connection_age_ns = environment_duration_ns(cli, "GRPC_MAX_CONNECTION_AGE", "24h");
	options->connection_grace_ns =
		environment_duration_ns(cli, "GRPC_MAX_CONNECTION_AGE_GRACE", "1h");
}

void environment_read(struct cli *cli, struct options *options, const char **redis)
{
	const char *type = environment_text("CONFIG_TYPE", "FILE");
	const char *backend = environment_text("BACKEND_TYPE", "redis");

	if (strcmp(type, "FILE") != 0)
		cli_die(cli, "CONFIG_TYPE is \"%s\"; write FILE, and give the rules as "
			     "files (RUNTIME_ROOT or --rules)", type);
	if (strcmp(backend, "redis") != 0)
		cli_die(cli, "BACKEND_TYPE is \"%s\"; write redis: counters are in the "
			     "segment, and hosts agree through Redis", backend);
	read_rules(cli, &options->rules);
	read_directory(cli, &options->rules.directory);
	read_statistics(cli, options);
	read_log_level(cli, options);
	read_connections(cli, options);
	/* Always so; a mistake in it is told nevertheless. */
	environment_flag(cli, "FORCE_START_WITHOUT_INITIAL_CONFIG", true);
	if (!*redis)
		*redis = environment_redis_url(cli);
	if (options->listener_count == 0)
		read_listeners(cli, options);
	environment_tell_unused();
}
