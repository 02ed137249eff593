/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_rls.h - Envoy's rate limit protocol as JSON, as envoyproxy/ratelimit has it.
 *
 *	POST /json       a RateLimitRequest, by protobuf's mapping to JSON; answered with a
 *	                 RateLimitResponse and 200, or 429 if it is over a limit
 *	GET /rlconfig    the rules in force
 *
 * Field names are taken as lowerCamelCase and as they stand in the .proto; fields that are
 * not known are errors; what has its default value is left out of the answer.
 */
#ifndef WEIR_SERVE_HTTP_RLS_H
#define WEIR_SERVE_HTTP_RLS_H

#include "serve/http.h"

void http_rls(struct http_request *request);
void http_rlconfig(struct http_request *request);

#endif
