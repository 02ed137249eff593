/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/options.h"

#include <sched.h>
#include <string.h>

#include "serve/environment.h"
#include "serve/headers.h"
#include "serve/survey.h"

#define MS_NS 1000000ull

#define S_NS 1000000000ull

/* Room for 200,000 keys, in 33 MB; with sync in 50 MB, which still fits where /dev/shm has
 * 64 MB, as it has in a container. */
#define SLOTS_DEFAULT 262144u

#define NOT_GIVEN UINT64_MAX
#define COMPAT_NONE 99u         /* not given: no rules */

/* Where the service listens unless it is told: this host only. */
#define DEFAULT_GRPC "127.0.0.1:8081"

/* What the callbacks of options that may be given again fill in. */
static struct options *under_way;

static void add_listener(struct cli *cli, const char *address, enum room_kind room, bool tls)
{
	if (under_way->listener_count == LISTENERS_MAX)
		cli_die(cli, "\"%s\" is one address too many: give %d at most", address,
			LISTENERS_MAX);
	under_way->listeners[under_way->listener_count++] =
		(struct listen_option){ room, tls, address };
}

static void add_grpc(struct cli *cli, const struct cli_option *option, const char *value)
{
	(void)option;
	add_listener(cli, value, ROOM_GRPC, false);
}

static void set_socket_mode(struct cli *cli, const struct cli_option *option, const char *value)
{
	uint64_t mode;

	(void)option;
	if (text_parse_number(value, 8, &mode) != TEXT_NUMBER_OK || mode < 1 || mode > 0777)
		cli_die(cli, "--socket-mode is \"%s\", which is no file mode: give octal digits, as "
			"0660", value);
	under_way->socket_mode = (mode_t)mode;
}

static void add_grpc_tls(struct cli *cli, const struct cli_option *option, const char *value)
{
	(void)option;
	add_listener(cli, value, ROOM_GRPC, true);
}

static void add_http(struct cli *cli, const struct cli_option *option, const char *value)
{
	(void)option;
	add_listener(cli, value, ROOM_HTTP, false);
}

static void add_http_tls(struct cli *cli, const struct cli_option *option, const char *value)
{
	(void)option;
	add_listener(cli, value, ROOM_HTTP, true);
}

static const char *compat_choice(unsigned index)
{
	static const char *const names[] = { "envoy", "envoy-2026-01", "strict", NULL };

	return names[index];
}

/* Envoy's rules are there if --compat says how they are to be held to. */
static void set_rules(struct cli *cli, struct options *options, unsigned compat,
		      const char *directory, bool extensions, const char **redis)
{
	struct rules_options *rules = &options->rules;

	if (compat == COMPAT_NONE) {
		if (directory || extensions || options->check_rules)
			cli_die(cli, "rules are there only with --compat: give --compat envoy or "
				"--compat strict");
		return;
	}
	rules->enabled = true;
	rules->envoy.compat = compat == 2 ? COMPAT_STRICT : COMPAT_ENVOY;
	rules->envoy.config.release = compat == 1 ? ENVOY_2026_01 : ENVOY_2026_07;
	rules->envoy.config.extensions = extensions;
	if (directory)
		rules->directory = (struct watch_options){ directory, "", "", false, false };
	environment_read(cli, options, redis);
}

/* The processors that this process may use. */
static uint64_t processors(void)
{
	cpu_set_t set;
	int count;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	count = CPU_COUNT(&set);
	return count < 1 ? 1 : count > LOOPS_MAX ? LOOPS_MAX : (uint64_t)count;
}

static void check_tls(struct cli *cli, const struct options *options)
{
	bool wanted = false;

	for (size_t i = 0; i < options->listener_count; i++)
		wanted |= options->listeners[i].tls;
	if (wanted && !(options->tls_certificate && options->tls_key))
		cli_die(cli, "an address with TLS needs a certificate: give --tls-certificate FILE "
			"and --tls-key FILE");
	if (options->tls_client_name && !options->tls_client_ca)
		cli_die(cli, "--tls-client-name is \"%s\", and nothing says who may sign such a "
			"certificate; give --tls-client-ca FILE, too", options->tls_client_name);
	if (!wanted && (options->tls_certificate || options->tls_key || options->tls_client_ca))
		cli_die(cli, "a certificate without an address that uses it: give --grpc-tls "
			"or --http-tls ADDRESS, or leave the --tls options out");
}

/* Hosts whose secrets differ call a key by other names in Redis: none would ever see what
 * another one counts. */
static void check_create(struct cli *cli, const struct options *options, bool redis)
{
	if (options->create && redis && !options->secret_file)
		cli_die(cli, "--create with Redis needs the secret that all hosts share: give "
			"--secret-file FILE (make one with `head -c %u /dev/urandom`)",
			WEIR_SECRET_SIZE);
	if (options->secret_file && !options->create)
		cli_die(cli, "--secret-file is for a segment that is made: give --create, too");
}

static void set_defaults(struct options *options)
{
	*options = (struct options){
		.slots = SLOTS_DEFAULT,
		.headers = HEADERS_IETF,
		.top_keys = 20,
		.loops = processors(),
		.streams_max = 1000,
		.message_max_bytes = 4 << 20,
		.request_timeout_s = 30,
		.keepalive_s = 60,
		.idle_timeout_s = 3600,
		.drain_timeout_s = 30,
	};
	envoy_options_init(&options->rules.envoy);
	weir_sync_options_init(&options->sync);
}

void options_parse(struct cli *cli, int argc, char **argv, struct options *options)
{
	uint64_t interval_ms, staleness_ms, hosts, overshoot;
	const char *redis = NULL, *rules = NULL;
	uint64_t age_s = NOT_GIVEN, grace_s = NOT_GIVEN;
	unsigned compat = COMPAT_NONE;
	bool extensions = false;

	set_defaults(options);
	under_way = options;
	interval_ms = options->sync.interval_ns / MS_NS;
	staleness_ms = options->sync.max_staleness_ns / MS_NS;
	hosts = options->sync.expected_hosts;
	overshoot = options->sync.overshoot_permille;

	const struct cli_option table[] = {
		{ "grpc", "ADDRESS",
		  "HOST:PORT, :PORT or unix:PATH for gRPC (default " DEFAULT_GRPC ")", CLI_CALL,
		  .call = add_grpc },
		{ "grpc-tls", "ADDRESS", "the same, with TLS", CLI_CALL, .call = add_grpc_tls },
		{ "http", "ADDRESS", "HTTP/1.1: JSON, metrics, health and /top", CLI_CALL,
		  .call = add_http },
		{ "http-tls", "ADDRESS", "the same, with TLS", CLI_CALL, .call = add_http_tls },
		{ "headers", "STYLE", "of HTTP answers: ietf (default), draft-03, legacy or none",
		  CLI_CHOICE, &options->headers, .choice = header_style_name },
		{ "top-keys", "N", "that metrics and /top name (default 20)", CLI_NUMBER,
		  &options->top_keys, 0, SURVEY_KEYS_MAX },
		{ "tls-certificate", "FILE", "PEM, with the chain; read again on SIGHUP", CLI_STRING,
		  &options->tls_certificate },
		{ "tls-key", "FILE", "its private key", CLI_STRING, &options->tls_key },
		{ "tls-client-ca", "FILE", "demand certificates of clients, signed by these",
		  CLI_STRING, &options->tls_client_ca },
		{ "tls-client-name", "NAME", "demand this DNS name in their certificates, too",
		  CLI_STRING, &options->tls_client_name },
		{ "socket-mode", "OCTAL", "who may use unix sockets (default: by the umask)",
		  CLI_CALL, .call = set_socket_mode },
		{ "takeover", NULL, "listen beside a service that listens there already", CLI_FLAG,
		  &options->takeover },
		{ "create", NULL, "make the segment if there is none", CLI_FLAG, &options->create },
		{ "slots", "N", "of a segment that is made (default 262144)", CLI_NUMBER,
		  &options->slots, 16, 1ull << 32 },
		{ "secret-file", "FILE", "of a segment that is made: the hash secret of all hosts",
		  CLI_STRING, &options->secret_file },
		{ "policies", "FILE", "load policies; again on SIGHUP", CLI_STRING,
		  &options->policies },
		{ "compat", "WHOM", "hold Envoy's rules as: envoy, envoy-2026-01 or strict",
		  CLI_CHOICE, &compat, .choice = compat_choice },
		{ "rules", "DIRECTORY", "of Envoy's rules (default: as RUNTIME_ROOT etc. say)",
		  CLI_STRING, &rules },
		{ "extensions", NULL, "Envoy's rules may have unit_multiplier and algorithm",
		  CLI_FLAG, &extensions },
		{ "check-rules", NULL, "tell whether Envoy's rules are good, and serve nothing",
		  CLI_FLAG, &options->check_rules },
		{ "threads", "N", "that answer (default: the processors)", CLI_NUMBER,
		  &options->loops, 1, LOOPS_MAX },
		{ "max-connections", "N", "open at a time (default 20000, or what is permitted)",
		  CLI_NUMBER, &options->connections_max, 1, 1000000 },
		{ "max-streams", "N", "calls at a time on a connection (default 1000)", CLI_NUMBER,
		  &options->streams_max, 1, 100000 },
		{ "max-message", "BYTES", "of a request (default 4194304)", CLI_NUMBER,
		  &options->message_max_bytes, 1024, 64 << 20 },
		{ "request-timeout", "S", "for a request to come, an answer to leave (default 30)",
		  CLI_NUMBER, &options->request_timeout_s, 1, 3600 },
		{ "keepalive", "S", "then a silent client is asked if it is there (default 60)",
		  CLI_NUMBER, &options->keepalive_s, 1, 1000000 },
		{ "idle-timeout", "S", "of a connection without calls (default 3600; 0: never)",
		  CLI_NUMBER, &options->idle_timeout_s, 0, 1000000 },
		{ "max-connection-age", "S", "of gRPC, then its client is told to go (default 0: none)",
		  CLI_NUMBER, &age_s, 0, 1000000000 },
		{ "max-connection-grace", "S", "from then until it is cut off (default 0: never)",
		  CLI_NUMBER, &grace_s, 0, 1000000000 },
		{ "drain-timeout", "S", "for calls under way on SIGTERM (default 30)", CLI_NUMBER,
		  &options->drain_timeout_s, 0, 3600 },
		{ "redis", "URL", "sync with other hosts through Redis", CLI_STRING, &redis },
		{ "prefix", "TEXT", "of the keys in Redis (default \"weir\")", CLI_STRING,
		  &options->sync.prefix },
		{ "interval-ms", "N", "between rounds (default 100)", CLI_NUMBER, &interval_ms, 1,
		  60000 },
		{ "max-staleness-ms", "N", "a view older than this is stale (default 2000)",
		  CLI_NUMBER, &staleness_ms, 2, 3600000 },
		{ "expected-hosts", "N", "until their number is known (default 1)", CLI_NUMBER,
		  &hosts, 1, 1000000 },
		{ "overshoot", "PERMILLE", "of a burst, for bounded policies (default 50)",
		  CLI_NUMBER, &overshoot, 0, 1000 },
		{ "follow-policies", NULL, "apply policies that other hosts publish", CLI_FLAG,
		  &options->sync.follow_policies },
		CLI_OPTION_SEGMENT(cli),
		{ 0 },
	};

	cli_parse(cli, argc, argv, table, 0, 0);
	set_rules(cli, options, compat, rules, extensions, &redis);
	if (age_s != NOT_GIVEN)
		options->connection_age_ns = age_s * S_NS;
	if (grace_s != NOT_GIVEN)
		options->connection_grace_ns = grace_s * S_NS;
	if (options->listener_count == 0)
		add_listener(cli, DEFAULT_GRPC, ROOM_GRPC, false);
	check_tls(cli, options);
	check_create(cli, options, redis != NULL);
	options->redis = redis != NULL;
	options->sync.url = redis;
	options->sync.interval_ns = interval_ms * MS_NS;
	options->sync.max_staleness_ns = staleness_ms * MS_NS;
	options->sync.expected_hosts = (uint32_t)hosts;
	options->sync.overshoot_permille = (uint32_t)overshoot;
}
