/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policies.h - which policies the rules still need.
 *
 * Each limit that a configuration or a request names becomes a policy of the engine, which
 * has room for so many.  Those that nothing names any more are given back, so that
 * reloads and limits of requests, however many, do not fill it.  One that somebody else
 * needs after all is made again by its next request (decide.c).
 */
#ifndef WEIR_SERVE_POLICIES_H
#define WEIR_SERVE_POLICIES_H

#include "serve/envoy/config.h"

/* Remove the policies of GONE's rules that neither A nor B has (each may be NULL). */
void policies_drop(struct engine *engine, const struct envoy_config *gone,
		   const struct envoy_config *a, const struct envoy_config *b);

/* Remove up to MOST policies that were made for limits, but not for those of IN_USE (which
 * may be NULL).  Returns how many. */
size_t policies_make_room(struct engine *engine, const struct envoy_config *in_use, size_t most);

#endif
