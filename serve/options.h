/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - what the service was told on its command line.
 */
#ifndef WEIR_SERVE_OPTIONS_H
#define WEIR_SERVE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "serve/rules.h"
#include "serve/statsd.h"
#include "src/cli/cli.h"
#include "weir.h"

#define LISTENERS_MAX 32
#define LOOPS_MAX 256

/* Which room takes the connections of a listener. */
enum room_kind {
	ROOM_GRPC,
	ROOM_HTTP,
	ROOM_COUNT
};

/* What is told on standard error. */
enum log_level {
	LOG_ALL,
	LOG_WARNINGS,                   /* not that rules were loaded */
	LOG_ERRORS,                     /* nor what is served where */
};

/* An address as it was given: see listen.h for its forms. */
struct listen_option {
	enum room_kind room;
	bool tls;
	const char *address;
};

struct options {
	struct listen_option listeners[LISTENERS_MAX];
	size_t listener_count;
	bool takeover;                  /* listen beside a service that does already */
	mode_t socket_mode;             /* of unix sockets; 0: as the umask has it */

	bool create;                    /* make the segment if there is none */
	uint64_t slots;                 /* of a segment that is made */
	const char *secret_file;        /* likewise, or NULL */
	const char *policies;           /* file to load, or NULL */
	bool check_rules;               /* and serve nothing */

	enum log_level log_level;
	struct statsd_options statsd;
	const char *metrics_path;       /* beside /metrics, or NULL */
	unsigned headers;               /* enum header_style, of HTTP answers */
	uint64_t top_keys;              /* that /metrics and /top tell of */

	uint64_t loops;                 /* threads that answer */
	uint64_t connections_max;       /* of all loops; 0: not given */
	uint64_t streams_max;           /* calls under way on one connection */
	uint64_t message_max_bytes;
	uint64_t request_timeout_s;     /* for a request to come whole, an answer to leave */
	uint64_t keepalive_s;           /* then a silent client is asked whether it is there */
	uint64_t idle_timeout_s;        /* of a connection without a call; 0: none */
	uint64_t connection_age_ns;     /* of gRPC, until its client is told to go; 0: none */
	uint64_t connection_grace_ns;   /* from then until it is closed; 0: none */
	uint64_t drain_timeout_s;       /* for calls under way, when the service ends */

	const char *tls_certificate;    /* PEM files, or NULL */
	const char *tls_key;
	const char *tls_client_ca;
	const char *tls_client_name;    /* a DNS name that clients' certificates must have */

	struct rules_options rules;     /* Envoy's, if there are any */

	bool redis;                     /* sync with other hosts */
	struct weir_sync_options sync;
};

/* Parse the arguments of `weir serve`; what is wrong ends in cli_die(). */
void options_parse(struct cli *cli, int argc, char **argv, struct options *options);

#endif
