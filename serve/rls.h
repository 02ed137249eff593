/* SPDX-License-Identifier: Apache-2.0 */
/* rls.h - envoy.service.ratelimit.v3.RateLimitService, answered by rules.h. */
#ifndef WEIR_SERVE_RLS_H
#define WEIR_SERVE_RLS_H

#include "serve/grpc.h"

extern const struct grpc_service rls_service;

#endif
