/* SPDX-License-Identifier: Apache-2.0 */
/*
 * environment.h - what envoyproxy/ratelimit is told by its environment, for this service.
 *
 * docs/envoy.md has the list, and says what is left out.
 */
#ifndef WEIR_SERVE_ENVIRONMENT_H
#define WEIR_SERVE_ENVIRONMENT_H

#include "serve/options.h"

/* Fill in what the variables say about rules, addresses, certificates, statistics and
 * Redis, as far as the command line has not said it.  *REDIS is its --redis, or NULL.
 * Strings that are put together are never freed.  What is wrong ends in cli_die(); of
 * what has no use here standard error is told. */
void environment_read(struct cli *cli, struct options *options, const char **redis);

/* The URL that the variables of Redis come to; NULL: none, so this host counts alone. */
const char *environment_redis_url(struct cli *cli);

/* Tell which of the variables that are set have no use here, and what does instead. */
void environment_tell_unused(void);

#endif
