/* SPDX-License-Identifier: Apache-2.0 */
/*
 * environment.h - what envoyproxy/ratelimit is told by its environment, for this service.
 *
 * docs/envoy.md has the list, and says what is left out.
 */
#ifndef WEIR_SERVE_ENVIRONMENT_H
#define WEIR_SERVE_ENVIRONMENT_H

#include "serve/options.h"

/* Fill in what the variables say about rules, addresses, certificates and Redis, as far as
 * the command line has not said it.  *REDIS is its --redis, or NULL.  Strings that are
 * put together are never freed.  What is wrong ends in cli_die(). */
void environment_read(struct cli *cli, struct options *options, const char **redis);

#endif
