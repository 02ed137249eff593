/* SPDX-License-Identifier: Apache-2.0 */
/*
 * headers.h - what an answer tells of a limit, in the headers that clients know.
 *
 *	ietf       RateLimit-Policy: "api";q=100;w=60
 *	           RateLimit: "api";r=42;t=7
 *	           Structured fields (RFC 9651) of draft-ietf-httpapi-ratelimit-headers: q
 *	           is how many tokens at most, w the period in seconds; r is what is left,
 *	           t the seconds until there is more.  Of a policy with several limits the
 *	           second one is called "api/1".  A period below a second has no w.
 *	draft-03   X-RateLimit-Limit: 100, 100;w=60;name="api"
 *	           X-RateLimit-Remaining: 42
 *	           X-RateLimit-Reset: 7
 *	           As Envoy writes them; the reset is in seconds from now.
 *	legacy     The same three, with a bare number as the limit.
 *
 * What is told of is always the limit that decided: the one that denied, else the one
 * that has the least left.  Retry-After is told with each denial that ends.
 */
#ifndef WEIR_SERVE_HEADERS_H
#define WEIR_SERVE_HEADERS_H

#include <stdint.h>

#include "serve/http.h"
#include "weir.h"

enum header_style {
	HEADERS_IETF = 0,
	HEADERS_DRAFT_03 = 1,
	HEADERS_LEGACY = 2,
	HEADERS_NONE = 3,
};

/* Its name, for the command line; NULL past the last one. */
const char *header_style_name(unsigned style);

void headers_add(struct http_request *request, enum header_style style,
		 const struct weir_policy *policy, const struct weir_decision *decision);

/* NS in whole seconds, rounded up: who waits that long has waited long enough. */
uint64_t headers_seconds(uint64_t ns);

/* In how many seconds is there more than now?  0: there is nothing more to come. */
uint64_t headers_more_s(const struct weir_limit *limit, const struct weir_decision *decision);

#endif
