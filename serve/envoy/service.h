/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service.h - Envoy's rate limit service, without a wire.
 *
 * A request comes in as texts and numbers, and its answer goes out as such; what speaks
 * gRPC or JSON is elsewhere.
 *
 * THREADS: each thread that answers has a reader of its own, and takes no lock.  One thread
 * at a time replaces the configuration, with envoy_service_load(), which waits for the
 * requests that are being answered by the one before.
 */
#ifndef WEIR_SERVE_SERVICE_H
#define WEIR_SERVE_SERVICE_H

#include "serve/envoy/match.h"

enum envoy_compat {
	COMPAT_ENVOY,           /* as envoyproxy/ratelimit: what is denied counts, too */
	COMPAT_STRICT,          /* what is denied spends nothing; all descriptors or none */
};

#define ENVOY_HEADER_MAX 127u   /* bytes in the name of a header */

struct envoy_options {
	enum envoy_compat compat;
	struct envoy_config_options config;
	float near_limit_ratio;         /* of a limit, from which hits are near it */
	const char *key_prefix;         /* of buckets' keys */
	bool shadow_mode;               /* answer OK whatever is found */
	bool quota_mode;                /* all rules are in quota mode */
	bool stop_counting_when_over;   /* compat envoy: count only what makes a key go over,
					 * if any key does */
	bool dynamic_metadata;
	bool headers;                   /* three headers, with these names */
	const char *limit_header;
	const char *remaining_header;
	const char *reset_header;
	size_t stats_keys;              /* metric keys that requests may bring along */
};

/* The defaults of envoyproxy/ratelimit, and 1,000 metric keys.  Strings are not copied:
 * they must live as long as the service. */
void envoy_options_init(struct envoy_options *options);

/* Numbers as in RateLimitResponse.Code. */
enum envoy_code {
	CODE_OK = 1,
	CODE_OVER_LIMIT = 2,
};

struct envoy_request {
	struct text domain;
	const struct envoy_descriptor *descriptors;
	size_t descriptor_count;
	uint32_t hits_addend;
	uint64_t now_s;                 /* since 1970 */
};

struct envoy_status {
	enum envoy_code code;
	bool has_limit;                 /* the next four are there */
	uint32_t requests_per_unit;
	int unit;
	uint32_t unit_multiplier;
	struct text name;
	uint32_t limit_remaining;
	bool has_reset;
	uint64_t until_reset_s;
};

struct envoy_header {
	const char *name;
	char value[24];
};

struct envoy_answer {
	enum envoy_code overall;
	struct envoy_status *statuses;  /* one for each descriptor, in the pool */
	size_t status_count;
	struct envoy_header headers[3];
	size_t header_count;            /* 0 or 3 */
	const struct value *metadata;   /* a struct; NULL: none */
};

enum service_counter {
	COUNTER_CONFIG_LOAD_SUCCESS,
	COUNTER_CONFIG_LOAD_ERROR,
	COUNTER_GLOBAL_SHADOW_MODE,
	COUNTER_SERVICE_ERROR,
	COUNTER_COUNT,
};

struct envoy_service;

/* OPTIONS are copied, the engine is the caller's.  Errors: WEIR_ENOMEM, WEIR_EINVAL. */
int envoy_service_new(const struct envoy_options *options, struct engine *engine,
		      struct envoy_service **service, struct weir_error *error);
void envoy_service_free(struct envoy_service *service);

/* Read a configuration and let requests be answered by it from now on.  On failure the one
 * before stays.  Errors: those of envoy_config_read() and envoy_config_prepare(). */
int envoy_service_load(struct envoy_service *service, const struct envoy_source *sources,
		       size_t count, struct weir_error *error);

/* Count a configuration that could not be read at all. */
void envoy_service_load_failed(struct envoy_service *service);

/* A thread's way to the configuration.  It is freed with the service.  NULL: no memory. */
struct envoy_reader;
struct envoy_reader *envoy_reader_new(struct envoy_service *service);

/* Has a configuration been loaded?  DOMAINS (may be NULL): how many it has. */
bool envoy_service_loaded(struct envoy_reader *reader, size_t *domains);

/* Answer one request.  What ANSWER points to is the reader's, until its next request.
 * Errors: WEIR_EINVAL, WEIR_ENOENT (no configuration), WEIR_ENOMEM, and those of the
 * engine for a limit that the request brings along. */
int envoy_service_answer(struct envoy_reader *reader, const struct envoy_request *request,
			 struct envoy_answer *answer, struct weir_error *error);

/* Write the rules of the configuration, as /rlconfig shows them. */
void envoy_service_print(struct envoy_reader *reader, struct builder *builder);

struct stats_table *envoy_service_stats(const struct envoy_service *service);
uint64_t envoy_service_counter(const struct envoy_service *service, enum service_counter counter);

/* "config_load_success" */
const char *envoy_service_counter_name(enum service_counter counter);

#endif
