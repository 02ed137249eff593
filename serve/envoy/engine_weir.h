/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_weir.h - Envoy's rules count in a segment.
 *
 * A limit is a policy, made when it is first needed: "rls:10/60s" (fixed windows), or
 * "rls:10/60s/20" (a token bucket with its burst).  Fixed windows of one period share
 * their buckets ("rls:60s"), so that a rule whose number changes goes on where it was, as
 * it does in Redis with envoyproxy/ratelimit.  A token bucket's debt is a time, which
 * means another number of tokens where the rate is another: that one starts anew.
 */
#ifndef WEIR_SERVE_ENGINE_WEIR_H
#define WEIR_SERVE_ENGINE_WEIR_H

#include "serve/envoy/engine.h"

struct engine_weir {
	struct engine engine;           /* first: a pointer to it is one to this */
	struct weir *weir;
	enum weir_consistency consistency;      /* of policies that are made */
	enum weir_fail_mode fail_mode;
	size_t next_victim;             /* of make_room(); any thread */
};

void engine_weir_init(struct engine_weir *engine, struct weir *weir,
		      enum weir_consistency consistency, enum weir_fail_mode fail_mode);

#endif
