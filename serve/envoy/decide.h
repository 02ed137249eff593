/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decide.h - from matched rules to a status for each descriptor.
 */
#ifndef WEIR_SERVE_DECIDE_H
#define WEIR_SERVE_DECIDE_H

#include "serve/envoy/service.h"

/* A descriptor on its way through a request. */
struct decided {
	struct envoy_match match;
	struct text key;        /* of its bucket */
	uint64_t hits;
	uint64_t before, after; /* counted, before and after this descriptor */
	uint64_t limit;         /* what they are held to */
	uint64_t reset_after_ns;        /* of a token bucket */
	bool over;              /* whatever its mode says about that */
};

struct decision_round {
	const struct envoy_options *options;
	struct engine *engine;
	struct pool *scratch;
	const struct envoy_request *request;
	struct decided *decided;        /* one for each descriptor */
};

/* Ask the engine, and count the statistics.  Errors: WEIR_EINVAL (a key that is too
 * long), WEIR_ENOMEM. */
int envoy_decide(struct decision_round *round, struct weir_error *error);

/* Does what is over refuse the request? */
bool envoy_refuses(const struct decision_round *round);

/* Is descriptor INDEX in quota mode? */
bool envoy_has_quota(const struct decision_round *round, size_t index);

/* Is it reported as over?  Not if its rule is in shadow mode. */
bool envoy_reports_over(const struct decided *decided);

/* Fill in what the decisions mean.  Errors: WEIR_ENOMEM. */
int envoy_fill_answer(const struct decision_round *round, struct envoy_answer *answer,
		      struct weir_error *error);

#endif
