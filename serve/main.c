/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weir-serve, which `weir serve` becomes: the segment, sync, the server, and signals.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "serve/options.h"
#include "serve/server.h"

#define DRAIN_LOOK_MS 20
#define RULES_POLICIES 1024             /* room for one for each limit of Envoy's rules */
#define CONNECTIONS_DEFAULT 20000       /* or what descriptors permit */

static const struct cli_command command = {
	"serve", "[OPTION]...",
	"answer over gRPC from a segment, until a signal ends it", NULL,
};

/* Tell systemd, if it waits for that (sd_notify(3)). */
static void notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = path ? strlen(path) : 0;
	int fd;

	if (length == 0 || length >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, length);
	if (*path == '@')               /* the abstract name space */
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
	close(fd);
}

/* Each connection is a descriptor.  How many there may be is settled here. */
static void settle_connections(struct cli *cli, struct options *options)
{
	/* For listeners, loops, the segment and Redis. */
	uint64_t others = 64 + (LISTENERS_MAX + 4) * options->loops;
	uint64_t wanted = options->connections_max ? options->connections_max : CONNECTIONS_DEFAULT;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		cli_die(cli, "cannot read the limit of descriptors: %m");
	if (limit.rlim_cur < wanted + others && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = wanted + others < limit.rlim_max ? wanted + others :
								     limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur < wanted + others && options->connections_max)
		cli_die(cli, "%" PRIu64 " connections need %" PRIu64 " descriptors, and %" PRIu64
			" are permitted; raise the limit (ulimit -n), or give fewer "
			"--max-connections", wanted, wanted + others, (uint64_t)limit.rlim_cur);
	if (limit.rlim_cur < others + 1)
		cli_die(cli, "%" PRIu64 " descriptors are permitted, which is too few; raise the "
			"limit (ulimit -n) to %" PRIu64 " or more", (uint64_t)limit.rlim_cur,
			others + 64);
	options->connections_max = limit.rlim_cur - others < wanted ? limit.rlim_cur - others :
								      wanted;
}

static void create_segment(struct cli *cli, const struct options *options)
{
	unsigned char secret[WEIR_SECRET_SIZE];
	struct weir_options segment;
	struct weir_error error;

	weir_options_init(&segment);
	segment.slots = options->slots;
	segment.sync = options->redis;
	if (options->secret_file) {
		cli_read_secret(cli, options->secret_file, secret);
		segment.secret = secret;
	}
	if (options->rules.enabled)
		segment.policies = RULES_POLICIES;
	/* Somebody else may have made it at the same moment. */
	if (weir_create(cli->segment, &segment, &error) < 0 && error.status != WEIR_EEXIST)
		cli_die(cli, "%s", error.message);
	explicit_bzero(secret, sizeof(secret));
}

static int load_policies(struct weir *weir, const char *path, struct weir_error *error)
{
	struct weir_policy *policies;
	size_t count;
	int status = weir_policy_parse_file(path, &policies, &count, error);

	if (status < 0)
		return status;
	status = weir_policy_set(weir, policies, count, error);
	free(policies);
	return status;
}

/* SIGHUP: read certificates and policies again.  What is wrong changes nothing. */
static void reload(struct server *server)
{
	const char *path = server->options->policies;
	struct weir_error error;

	if (server->tls && (tls_load(server->tls, &error) < 0 ||
			    http_tls_load(server->http_tls, &error) < 0))
		cli_warn("the certificates stay as they were: %s", error.message);
	if (path && load_policies(server->weir, path, &error) < 0)
		cli_warn("the policies stay as they were: %s", error.message);
}

static void tell_rules(const char *what, const char *error)
{
	cli_warn("%s%s", what, error);
}

static void tell_listeners(const struct server *server)
{
	char name[LISTEN_NAME_MAX];

	for (size_t i = 0; i < server->listener_count; i++) {
		const struct listener *listener = server->listeners[i];

		for (size_t j = 0; j < listener->address_count; j++)
			cli_warn("serving %s%s on %s", room_name(listener->room),
				 listener->tls ? " with TLS" : "",
				 listener_name(listener, j, name));
	}
}

static void serve(struct server *server, const sigset_t *signals)
{
	struct timespec look = { .tv_nsec = DRAIN_LOOK_MS * 1000000l };
	uint64_t looks;
	int signal;

	while ((signal = sigwaitinfo(signals, NULL)) < 0 || signal == SIGHUP) {
		if (signal == SIGHUP)
			reload(server);
	}
	notify("STOPPING=1");
	server_drain(server);
	looks = server->options->drain_timeout_s * (1000 / DRAIN_LOOK_MS);
	/* Another signal ends the patience. */
	while (server_connections(server) > 0 && looks-- > 0 &&
	       ((signal = sigtimedwait(signals, NULL, &look)) < 0 || signal == SIGHUP))
		;
	if (server_connections(server) > 0)
		cli_warn("%zu connections are cut off, with what they were doing",
			 server_connections(server));
}

int main(int argc, char **argv)
{
	const char *segment = getenv("WEIR_SEGMENT");
	struct cli cli = { .command = &command, .segment = segment && *segment ? segment : "weir" };
	struct options options;
	struct server server;
	struct weir_error error;
	sigset_t signals;

	options_parse(&cli, argc, argv, &options);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	/* Blocked in all threads: sigwaitinfo() takes them. */
	sigprocmask(SIG_BLOCK, &signals, NULL);
	settle_connections(&cli, &options);
	if (options.create)
		create_segment(&cli, &options);
	cli_open(&cli);
	if (options.policies && load_policies(cli.weir, options.policies, &error) < 0)
		cli_die(&cli, "%s", error.message);
	if (options.redis && weir_sync_start(cli.weir, &options.sync, &error) < 0)
		cli_die(&cli, "%s", error.message);
	options.rules.tell = tell_rules;
	if (options.rules.enabled &&
	    rules_start(&options.rules, cli.weir, &options.rules.running, &error) < 0)
		cli_die(&cli, "%s", error.message);
	if (server_start(&server, cli.weir, &options, &error) < 0)
		cli_die(&cli, "%s", error.message);
	tell_listeners(&server);
	notify("READY=1");
	serve(&server, &signals);
	server_stop(&server);
	if (options.rules.running)
		rules_stop(options.rules.running);
	if (options.redis)
		weir_sync_stop(cli.weir, NULL);
	return cli_finish(&cli, CLI_OK);
}
