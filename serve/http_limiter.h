/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_limiter.h - decisions over HTTP, as JSON.
 *
 *	POST /v1/allow   {"policy": "api", "key": "192.0.2.1", "cost": 1}
 *	POST /v1/allow?policy=api&key=192.0.2.1
 *	GET /v1/status?policy=api&key=192.0.2.1&cost=1
 *
 * Members (or parameters): policy and key, or key_base64 for a key that is no text; cost,
 * 1 if it is left out; force, to charge whether or not it is there (allow only); now_ns,
 * for a segment whose clock is the caller's.
 *
 * /v1/allow answers 200 and a decision, 429 if it is denied and 503 if it could not be
 * decided, both with a problem that has the decision in it.  /v1/status charges nothing
 * and answers 200.  The headers of headers.h tell of the limit that decided.
 */
#ifndef WEIR_SERVE_HTTP_LIMITER_H
#define WEIR_SERVE_HTTP_LIMITER_H

#include "serve/http.h"

void http_allow(struct http_request *request);
void http_status(struct http_request *request);

#endif
