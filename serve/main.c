/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weir-serve, which `weir serve` becomes: the segment, sync, the server, and signals.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "serve/fail.h"
#include "serve/log.h"
#include "serve/options.h"
#include "serve/server.h"

#define DRAIN_LOOK_MS 20
#define FULL_TELL_S 60                  /* how often it is told that the segment is full */
#define RULES_POLICIES 1024             /* room for one for each limit of Envoy's rules */
#define CONNECTIONS_DEFAULT 20000       /* or what descriptors permit */

/* What is known, or was told, of a segment that is full. */
struct fullness {
	uint64_t no_room;               /* requests, of all processes, so far */
	uint64_t evicted;               /* keys with debt, likewise */
	time_t when_s;                  /* it was told, by CLOCK_MONOTONIC; 0: never */
};

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

/* Opening a pipe would wait for its writer, and no signal would be taken meanwhile.  One
 * that is not there is who reads it to tell. */
static int check_file(const char *path, struct weir_error *error)
{
	struct stat status;

	if (path && stat(path, &status) == 0 && !S_ISREG(status.st_mode))
		return fail(error, WEIR_EINVAL, "\"%s\" is no regular file; put one there", path);
	return WEIR_OK;
}

static int reload_certificates(struct server *server, struct weir_error *error)
{
	const struct options *options = server->options;

	if (check_file(options->tls_certificate, error) < 0 ||
	    check_file(options->tls_key, error) < 0 ||
	    check_file(options->tls_client_ca, error) < 0 || tls_load(server->tls, error) < 0)
		return error->status;
	return http_tls_load(server->http_tls, error);
}

/* SIGHUP: read certificates and policies again.  What is wrong changes nothing. */
static void reload(struct server *server)
{
	const char *path = server->options->policies;
	struct weir_error error;

	if (server->tls && reload_certificates(server, &error) < 0)
		cli_tell(CLI_LEVEL_ERROR, "the certificates stay as they were: %s", error.message);
	if (path && (check_file(path, &error) < 0 ||
		     load_policies(server->weir, path, &error) < 0))
		cli_tell(CLI_LEVEL_ERROR, "the policies stay as they were: %s", error.message);
}

static void tell_rules(const char *what, const char *error)
{
	cli_tell(*error ? CLI_LEVEL_ERROR : CLI_LEVEL_INFO, "%s%s", what, error);
}

/* That all is well is of less weight than what is not. */
static void tell_bad_rules(const char *what, const char *error)
{
	if (*error)
		tell_rules(what, error);
}

static void tell_statsd(const char *sentence)
{
	cli_warn("%s", sentence);
}

static void tell_listeners(const struct server *server)
{
	char name[LISTEN_NAME_MAX];

	if (server->options->log_level == LOG_ERRORS)
		return;
	for (size_t i = 0; i < server->listener_count; i++) {
		const struct listener *listener = server->listeners[i];

		for (size_t j = 0; j < listener->address_count; j++)
			cli_warn("serving %s%s on %s", room_name(listener->room),
				 listener->tls ? " with TLS" : "",
				 listener_name(listener, j, name));
	}
}

static uint64_t count_of(struct weir *weir, const char *name)
{
	const struct weir_counter *counter;

	for (unsigned i = 0; (counter = weir_counter(i)); i++) {
		if (strcmp(counter->name, name) == 0)
			return weir_counter_read(weir, i, NULL);
	}
	return 0;
}

static struct fullness look_at_table(struct weir *weir)
{
	return (struct fullness){
		.no_room = count_of(weir, "table_full"),
		.evicted = count_of(weir, "evicted_live"),
	};
}

/* Such an answer looks like any other to who gets it: somebody must be told. */
static void tell_fullness(struct server *server, struct fullness *told)
{
	struct fullness now = look_at_table(server->weir);
	struct timespec time;
	struct weir_info info;

	clock_gettime(CLOCK_MONOTONIC, &time);
	if ((now.no_room == told->no_room && now.evicted == told->evicted) ||
	    (told->when_s && time.tv_sec - told->when_s < FULL_TELL_S))
		return;
	weir_info(server->weir, &info);
	cli_warn("the segment's %" PRIu64 " slots are too few: %" PRIu64 " requests found no room "
		 "for their key, and were answered by the fail mode; %" PRIu64 " keys lost what they "
		 "had counted to others.  Make the segment anew with more --slots, 1.3 for each key "
		 "that is counted at a time", info.slots, now.no_room - told->no_room,
		 now.evicted - told->evicted);
	*told = now;
	told->when_s = time.tv_sec;
}

/* The file that the segment had when it was opened. */
struct segment_file {
	char path[sizeof(((struct weir_info *)0)->path)];
	dev_t device;
	ino_t inode;                    /* 0: not known */
};

static struct segment_file look_at_file(struct weir *weir)
{
	struct segment_file file = { 0 };
	struct weir_info info;
	struct stat status;

	weir_info(weir, &info);
	memcpy(file.path, info.path, sizeof(file.path));
	if (stat(file.path, &status) == 0) {
		file.device = status.st_dev;
		file.inode = status.st_ino;
	}
	return file;
}

/* A segment without its name is as good as before, but nobody else finds it: whoever
 * comes later counts elsewhere, and each limit is there twice. */
static void tell_removal(struct server *server, const struct segment_file *file)
{
	struct stat now;
	bool gone = stat(file->path, &now) < 0;
	bool removed = gone ? errno == ENOENT :
			      now.st_dev != file->device || now.st_ino != file->inode;

	if (file->inode == 0 || removed == atomic_load(&server->segment_removed))
		return;
	atomic_store(&server->segment_removed, removed);
	if (removed)
		cli_warn("%s %s: this service goes on with the segment that it has open, which "
			 "others do not find.  Restart it (--takeover) so that they share one",
			 file->path, gone ? "was removed" : "is another segment now");
}

static void wait_for_end(struct server *server, const sigset_t *signals,
			 const struct segment_file *file)
{
	struct fullness told = look_at_table(server->weir);
	const struct timespec second = { .tv_sec = 1 };
	int signal;

	do {
		signal = sigtimedwait(signals, NULL, &second);
		if (signal == SIGHUP)
			reload(server);
		tell_fullness(server, &told);
		tell_removal(server, file);
	} while (signal < 0 || signal == SIGHUP);
}

static void serve(struct server *server, const sigset_t *signals, const struct segment_file *file)
{
	struct timespec look = { .tv_nsec = DRAIN_LOOK_MS * 1000000l };
	uint64_t looks;
	int signal;

	wait_for_end(server, signals, file);
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

static void start_rules(struct cli *cli, struct options *options)
{
	struct rules_options *rules = &options->rules;
	struct weir_error error;

	rules->tell = options->log_level == LOG_ALL ? tell_rules : tell_bad_rules;
	if (rules_start(rules, cli->weir, &rules->running, &error) < 0 ||
	    (options->statsd.enabled &&
	     statsd_start(&options->statsd, rules_service(rules->running), tell_statsd,
			  &options->statsd.running, &error) < 0))
		cli_die(cli, "%s", error.message);
}

/* For whoever is about to give a service these rules. */
static int check_rules(struct cli *cli, const struct options *options)
{
	struct weir_error error;
	size_t domains;

	if (rules_check(&options->rules, &domains, &error) < 0)
		cli_die(cli, "%s", error.message);
	printf("The rules of %zu domain%s are good.\n", domains, domains == 1 ? "" : "s");
	return cli_finish(cli, CLI_OK);
}

int main(int argc, char **argv)
{
	const char *segment = getenv("WEIR_SEGMENT");
	struct cli cli = { .command = &command, .segment = segment && *segment ? segment : "weir" };
	struct options options;
	struct segment_file file;
	struct server server;
	struct weir_error error;
	sigset_t signals;

	log_start();
	cli_occupy_descriptors();
	options_parse(&cli, argc, argv, &options);
	if (options.check_rules)
		return check_rules(&cli, &options);
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
	file = look_at_file(cli.weir);
	if (options.policies && load_policies(cli.weir, options.policies, &error) < 0)
		cli_die(&cli, "%s", error.message);
	if (options.redis && weir_sync_start(cli.weir, &options.sync, &error) < 0)
		cli_die(&cli, "%s", error.message);
	if (options.rules.enabled)
		start_rules(&cli, &options);
	if (server_start(&server, cli.weir, &options, &error) < 0)
		cli_die(&cli, "%s", error.message);
	tell_listeners(&server);
	notify("READY=1");
	serve(&server, &signals, &file);
	server_stop(&server);
	if (options.statsd.running)
		statsd_stop(options.statsd.running);
	if (options.rules.running)
		rules_stop(options.rules.running);
	if (options.redis)
		weir_sync_stop(cli.weir, NULL);
	return cli_finish(&cli, CLI_OK);
}
