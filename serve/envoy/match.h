/* SPDX-License-Identifier: Apache-2.0 */
/*
 * match.h - which rule a descriptor of a request is held to.
 *
 * As envoyproxy/ratelimit: entry by entry down the tree, without going back, and only a
 * rule at the last entry counts.  At each level KEY_VALUE comes first, then wildcards in
 * the order of the file, then KEY.
 */
#ifndef WEIR_SERVE_MATCH_H
#define WEIR_SERVE_MATCH_H

#include "serve/envoy/config.h"

struct envoy_entry {
	struct text key;
	struct text value;
};

struct envoy_descriptor {
	const struct envoy_entry *entries;
	size_t entry_count;
	bool has_override;      /* the request brings a limit along */
	uint32_t override_requests;
	int override_unit;
	bool has_hits;          /* else those of the request */
	uint64_t hits;
};

struct envoy_match {
	const struct envoy_rule *rule;  /* NULL: none, or it is unlimited or replaced */
	struct stats *stats;            /* what to count in; NULL: no room */
	const struct value *metadata;
	const struct text *shared;      /* per entry: the wildcard that stands for its value in
	                                 * the bucket's key, if not empty; NULL: none */
	weir_policy_id policy;
	bool unlimited;
};

struct envoy_matching {
	const struct envoy_config *config;
	struct stats_table *stats;
	struct pool *scratch;
};

/* The limit that a descriptor brings along.  Errors: WEIR_EINVAL, its unit is none. */
int envoy_override(const struct envoy_descriptor *descriptor, struct engine_limit *limit,
		   struct weir_error *error);

/* Match one descriptor of a request to DOMAIN.  The policy of an override is the caller's
 * matter.  Errors: WEIR_EINVAL (an override's unit), WEIR_ENOMEM. */
int envoy_match(const struct envoy_matching *matching, struct text domain,
		const struct envoy_descriptor *descriptor, struct envoy_match *match,
		struct weir_error *error);

/* Take the unlimited and the replaced ones out of a request's matches.  Errors:
 * WEIR_ENOMEM. */
int envoy_match_replace(struct envoy_match *matches, size_t count, struct pool *scratch,
			struct weir_error *error);

#endif
