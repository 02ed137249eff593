/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rules.h - Envoy's rules in this process: their options, their directory, their thread.
 *
 * THREADS: rules_start() starts one that waits for changes of the directory, loads the
 * configuration anew, and tells of it.  Loops ask by a reader of their own.
 */
#ifndef WEIR_SERVE_RULES_H
#define WEIR_SERVE_RULES_H

#include <stdbool.h>

#include "serve/envoy/service.h"
#include "serve/envoy/watch.h"

struct rules;

struct rules_options {
	bool enabled;
	struct envoy_options envoy;
	struct watch_options directory;
	enum weir_consistency consistency;      /* of the policies that are made */
	enum weir_fail_mode fail_mode;
	bool healthy_when_loaded;       /* not before a configuration with a domain is */
	void (*tell)(const char *what, const char *error);      /* error: "" if it is good */
	struct rules *running;          /* once rules_start() was called */
};

/* Load the configuration and watch it.  One that is bad is told of, and requests are
 * refused until it is good.  Errors: WEIR_EINVAL, WEIR_ENOMEM, WEIR_ESYSTEM. */
int rules_start(const struct rules_options *options, struct weir *weir, struct rules **rules,
		struct weir_error *error);

/* Read the configuration as rules_start() would, without a segment to count in: whether a
 * segment has room for its policies is not asked.  *DOMAINS: how many it has.  Errors:
 * WEIR_EINVAL (what is wrong with it), WEIR_ENOENT, WEIR_EACCES, WEIR_ENOMEM, WEIR_ESYSTEM. */
int rules_check(const struct rules_options *options, size_t *domains, struct weir_error *error);

/* Stop watching and free everything; no loop asks any more. */
void rules_stop(struct rules *rules);

/* Is the service healthy, as far as the rules are concerned?  From any thread. */
bool rules_healthy(const struct rules *rules);

struct envoy_service *rules_service(struct rules *rules);

/* The calling thread's reader, made at its first call.  NULL: no memory. */
struct envoy_reader *rules_reader(struct rules *rules);

#endif
