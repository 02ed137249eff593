/* SPDX-License-Identifier: Apache-2.0 */
/* limiter.h - weir.v1.Limiter: proto/weir/v1/limiter.proto says what it promises. */
#ifndef WEIR_SERVE_LIMITER_H
#define WEIR_SERVE_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "serve/grpc.h"
#include "weir.h"

#include "weir/v1/limiter.pb-c.h"

extern const struct grpc_service limiter_service;

/* limiter_watch.c's */
void limiter_watch(struct grpc_call *call, const void *message);
void limiter_watch_drain(struct grpc_call *call);
void limiter_watch_end(struct grpc_call *call);

Weir__V1__FailMode limiter_fail_mode(enum weir_fail_mode mode);

/* NOT_FOUND, with the policies that there are. */
void limiter_unknown_policy(struct grpc_call *call, const char *name);

#endif
