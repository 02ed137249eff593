/* SPDX-License-Identifier: Apache-2.0 */
/*
 * statsd.h - what Envoy's rules have counted, sent to statsd.
 *
 * By the names and in the form of envoyproxy/ratelimit: every so often, what each counter
 * has grown by, as "ratelimit.service.rate_limit.KEY.over_limit:3|c".  What could not be
 * sent is sent with what comes next.
 *
 * THREADS: one of its own, which alone waits for the network.
 */
#ifndef WEIR_SERVE_STATSD_H
#define WEIR_SERVE_STATSD_H

#include <stdbool.h>
#include <stdint.h>

#include "serve/envoy/service.h"

#define STATSD_INTERVAL_MIN_NS 1000000ull

struct statsd;

struct statsd_options {
	bool enabled;
	const char *host;
	uint16_t port;
	bool udp;               /* else TCP */
	bool tags_last;         /* "NAME:1|cTAGS", as DogStatsD has it, not "NAMETAGS:1|c" */
	const char *tags;       /* ready to be put there */
	uint64_t interval_ns;
	struct statsd *running; /* once statsd_start() was called */
};

/* Strings and SERVICE must live as long.  TELL is told once that nobody can be reached,
 * and once that somebody can again.  Errors: WEIR_ENOMEM, WEIR_ESYSTEM. */
int statsd_start(const struct statsd_options *options, const struct envoy_service *service,
		 void (*tell)(const char *sentence), struct statsd **statsd,
		 struct weir_error *error);

/* Send what is left, if that is possible at once, and end. */
void statsd_stop(struct statsd *statsd);

/* Packets that were not sent, and lines that fit into none.  From any thread. */
uint64_t statsd_errors(const struct statsd *statsd);

#endif
