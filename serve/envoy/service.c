/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/service.h"

#include <stdlib.h>
#include <time.h>

#include "serve/envoy/decide.h"
#include "serve/envoy/failure.h"
#include "serve/envoy/policies.h"

/* Of one request; replacing looks at each with each. */
#define DESCRIPTORS_MAX 1024u

/* Policies that are removed at once for a request that needs one: each takes some 0.1 ms. */
#define ROOM_AT_ONCE 16u

struct envoy_service {
	struct envoy_options options;
	struct engine *engine;
	struct stats_table *stats;
	struct envoy_config *config;    /* NULL: none was loaded yet */
	struct envoy_config *before;    /* its policies stay for one more configuration: what
					 * they counted may not have reached other hosts */
	uint64_t full_until_s;          /* no room for policies can be made: by request->now_s */
	struct envoy_reader *readers;   /* only ever added to */
	uint64_t counters[COUNTER_COUNT];
};

/*
 * A reader says which configuration it uses before it looks whether that is still the
 * current one, and who replaces it looks at what readers say afterwards.  Both are
 * sequentially consistent: either the reader sees the new one, and says so, or it is
 * seen, and waited for.
 */
struct envoy_reader {
	struct envoy_service *service;
	struct envoy_reader *next;
	const struct envoy_config *in_use;      /* NULL: none */
	struct pool scratch;            /* of the last request */
} __attribute__((aligned(64)));

static const char *const counter_names[] = {
	[COUNTER_CONFIG_LOAD_SUCCESS] = "config_load_success",
	[COUNTER_CONFIG_LOAD_ERROR] = "config_load_error",
	[COUNTER_GLOBAL_SHADOW_MODE] = "global_shadow_mode",
	[COUNTER_SERVICE_ERROR] = "call.should_rate_limit.service_error",
};

static void count(struct envoy_service *service, enum service_counter counter)
{
	__atomic_fetch_add(&service->counters[counter], 1, __ATOMIC_RELAXED);
}

uint64_t envoy_service_counter(const struct envoy_service *service, enum service_counter counter)
{
	return __atomic_load_n(&service->counters[counter], __ATOMIC_RELAXED);
}

const char *envoy_service_counter_name(enum service_counter counter)
{
	return counter_names[counter];
}

struct stats_table *envoy_service_stats(const struct envoy_service *service)
{
	return service->stats;
}

void envoy_options_init(struct envoy_options *options)
{
	*options = (struct envoy_options){
		.near_limit_ratio = 0.8f,
		.key_prefix = "",
		.limit_header = "RateLimit-Limit",
		.remaining_header = "RateLimit-Remaining",
		.reset_header = "RateLimit-Reset",
		.stats_keys = 1000,
	};
}

static int check_header(const char *name, struct weir_error *error)
{
	size_t length = strlen(name);

	if (length == 0 || length > ENVOY_HEADER_MAX)
		return envoy_fail(error, WEIR_EINVAL,
				  "a header's name has %zu bytes; write 1 to %u", length,
				  ENVOY_HEADER_MAX);
	return WEIR_OK;
}

int envoy_service_new(const struct envoy_options *options, struct engine *engine,
		      struct envoy_service **result, struct weir_error *error)
{
	struct envoy_service *service;
	int status = WEIR_OK;

	if (!(options->near_limit_ratio >= 0 && options->near_limit_ratio <= 1))
		return envoy_fail(error, WEIR_EINVAL,
				  "the near limit ratio %g is not from 0 to 1; write 0.8",
				  (double)options->near_limit_ratio);
	if (options->headers)
		status = check_header(options->limit_header, error);
	if (options->headers && status == WEIR_OK)
		status = check_header(options->remaining_header, error);
	if (options->headers && status == WEIR_OK)
		status = check_header(options->reset_header, error);
	if (status < 0)
		return status;

	service = calloc(1, sizeof(*service));
	if (service)
		service->stats = stats_table_new(options->stats_keys);
	if (!service || !service->stats) {
		free(service);
		return envoy_fail(error, WEIR_ENOMEM,
				  "no memory for the service; free some and try again");
	}
	service->options = *options;
	service->engine = engine;
	*result = service;
	return envoy_ok(error);
}

void envoy_service_free(struct envoy_service *service)
{
	if (!service)
		return;
	while (service->readers) {
		struct envoy_reader *reader = service->readers;

		service->readers = reader->next;
		pool_free(&reader->scratch);
		free(reader);
	}
	envoy_config_free(service->config);
	envoy_config_free(service->before);
	stats_table_free(service->stats);
	free(service);
}

/* ---- Readers ------------------------------------------------------------------- */

struct envoy_reader *envoy_reader_new(struct envoy_service *service)
{
	struct envoy_reader *reader = aligned_alloc(64, sizeof(*reader));

	if (!reader)
		return NULL;
	*reader = (struct envoy_reader){ .service = service };
	reader->next = __atomic_load_n(&service->readers, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&service->readers, &reader->next, reader, true,
					    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		;
	return reader;
}

static const struct envoy_config *reader_enter(struct envoy_reader *reader)
{
	const struct envoy_config *config, *now;

	now = __atomic_load_n(&reader->service->config, __ATOMIC_ACQUIRE);
	do {
		config = now;
		__atomic_store_n(&reader->in_use, config, __ATOMIC_SEQ_CST);
		now = __atomic_load_n(&reader->service->config, __ATOMIC_SEQ_CST);
	} while (now != config);
	return config;
}

static void reader_leave(struct envoy_reader *reader)
{
	__atomic_store_n(&reader->in_use, NULL, __ATOMIC_RELEASE);
}

/* Wait until nobody uses CONFIG, which is not the current one any more.  A request takes
 * microseconds. */
static void wait_for_readers(struct envoy_service *service, const struct envoy_config *config)
{
	struct timespec moment = { .tv_nsec = 100000 };
	struct envoy_reader *reader = __atomic_load_n(&service->readers, __ATOMIC_SEQ_CST);

	for (; reader; reader = reader->next) {
		while (__atomic_load_n(&reader->in_use, __ATOMIC_SEQ_CST) == config)
			nanosleep(&moment, NULL);
	}
}

/* ---- The configuration --------------------------------------------------------- */

void envoy_service_load_failed(struct envoy_service *service)
{
	count(service, COUNTER_CONFIG_LOAD_ERROR);
}

/* Where there is no room for its policies, those that no configuration has go first. */
static int prepare(struct envoy_service *service, struct envoy_config *config,
		   struct weir_error *error)
{
	int status = envoy_config_prepare(config, service->stats, service->engine, error);

	if (status == WEIR_ENOSPC &&
	    policies_make_room(service->engine, service->config, SIZE_MAX) > 0)
		status = envoy_config_prepare(config, service->stats, service->engine, error);
	if (status < 0)
		policies_drop(service->engine, config, service->config, service->before);
	return status;
}

/* CONFIG is the current one from now on.  The policies of the one before the last are
 * removed, as far as they are needed no more. */
static void replace(struct envoy_service *service, struct envoy_config *config)
{
	struct envoy_config *last = service->before;

	service->before = __atomic_exchange_n(&service->config, config, __ATOMIC_SEQ_CST);
	if (service->before)
		wait_for_readers(service, service->before);
	policies_drop(service->engine, last, config, service->before);
	envoy_config_free(last);
	__atomic_store_n(&service->full_until_s, 0, __ATOMIC_RELAXED);
}

int envoy_service_load(struct envoy_service *service, const struct envoy_source *sources,
		       size_t count_of_sources, struct weir_error *error)
{
	struct envoy_config *config;
	int status = envoy_config_read(sources, count_of_sources, &service->options.config,
				       &config, error);

	if (status == WEIR_OK) {
		status = prepare(service, config, error);
		if (status < 0)
			envoy_config_free(config);
	}
	if (status < 0) {
		envoy_service_load_failed(service);
		return status;
	}
	replace(service, config);
	count(service, COUNTER_CONFIG_LOAD_SUCCESS);
	return envoy_ok(error);
}

bool envoy_service_loaded(struct envoy_reader *reader, size_t *domains)
{
	const struct envoy_config *config = reader_enter(reader);

	if (domains)
		*domains = config ? config->domain_count : 0;
	reader_leave(reader);
	return config != NULL;
}

void envoy_service_print(struct envoy_reader *reader, struct builder *builder)
{
	const struct envoy_config *config = reader_enter(reader);

	if (config)
		envoy_config_print(config, builder);
	reader_leave(reader);
}

/* ---- Requests ------------------------------------------------------------------ */

/* Once loaded, a configuration is only ever replaced. */
static int check_request(struct envoy_reader *reader, const struct envoy_request *request,
			 struct weir_error *error)
{
	if (request->domain.length == 0)
		return envoy_fail(error, WEIR_EINVAL, "rate limit domain must not be empty");
	if (request->descriptor_count == 0)
		return envoy_fail(error, WEIR_EINVAL,
				  "rate limit descriptor list must not be empty");
	if (!envoy_service_loaded(reader, NULL))
		return envoy_fail(error, WEIR_ENOENT, "no rate limit configuration loaded");
	if (request->descriptor_count > DESCRIPTORS_MAX)
		return envoy_fail(error, WEIR_EINVAL,
				  "the request has %zu descriptors; send at most %u",
				  request->descriptor_count, DESCRIPTORS_MAX);
	return WEIR_OK;
}

static int fail_memory(struct weir_error *error)
{
	return envoy_fail(error, WEIR_ENOMEM,
			  "no memory for a request; free some and try again");
}

/* The policy for the limit of a request.  Where there is no room, policies go that no rule
 * has; if there are none, that is not looked for again in this second. */
static int override_policy(struct envoy_reader *reader, const struct engine_limit *limit,
			   uint64_t now_s, weir_policy_id *policy, struct weir_error *error)
{
	struct envoy_service *service = reader->service;
	struct engine *engine = service->engine;
	int status = engine->policy(engine, limit, policy, error);
	size_t removed;

	if (status != WEIR_ENOSPC ||
	    now_s < __atomic_load_n(&service->full_until_s, __ATOMIC_RELAXED))
		return status;
	removed = policies_make_room(engine, reader_enter(reader), ROOM_AT_ONCE);
	reader_leave(reader);
	if (removed > 0)
		return engine->policy(engine, limit, policy, error);
	__atomic_store_n(&service->full_until_s, now_s + 1, __ATOMIC_RELAXED);
	return status;
}

static bool knows_domain(struct envoy_reader *reader, struct text domain)
{
	bool known = envoy_config_domain(reader_enter(reader), domain);

	reader_leave(reader);
	return known;
}

/* The policies of the limits that a request brings along; of a domain that has no rules
 * they are not looked at.  Making one may take a while, so this comes before the
 * configuration is in use. */
static int prepare_overrides(struct envoy_reader *reader, const struct envoy_request *request,
			     weir_policy_id *policies, struct weir_error *error)
{
	if (!knows_domain(reader, request->domain))
		return WEIR_OK;
	for (size_t i = 0; i < request->descriptor_count; i++) {
		const struct envoy_descriptor *descriptor = &request->descriptors[i];
		struct engine_limit limit;
		int status;

		if (!descriptor->has_override)
			continue;
		status = envoy_override(descriptor, &limit, error);
		if (status == WEIR_OK)
			status = override_policy(reader, &limit, request->now_s, &policies[i],
						 error);
		if (status < 0)
			return status;
	}
	return WEIR_OK;
}

static int match_all(struct decision_round *round, const struct envoy_config *config,
		     struct stats_table *stats, const weir_policy_id *policies,
		     struct weir_error *error)
{
	const struct envoy_request *request = round->request;
	const struct envoy_matching matching = {
		.config = config,
		.stats = stats,
		.scratch = round->scratch,
	};
	size_t descriptors = request->descriptor_count;
	struct envoy_match *matches = pool_array(round->scratch, descriptors, sizeof(*matches));
	int status = WEIR_OK;

	if (!matches)
		return fail_memory(error);
	for (size_t i = 0; i < descriptors && status == WEIR_OK; i++) {
		status = envoy_match(&matching, request->domain, &request->descriptors[i],
				     &matches[i], error);
		if (request->descriptors[i].has_override)
			matches[i].policy = policies[i];
	}
	if (status == WEIR_OK)
		status = envoy_match_replace(matches, descriptors, round->scratch, error);
	for (size_t i = 0; i < descriptors && status == WEIR_OK; i++)
		round->decided[i].match = matches[i];
	return status;
}

/* A rule's name must outlive its configuration. */
static int copy_names(struct pool *scratch, struct envoy_answer *answer,
		      struct weir_error *error)
{
	for (size_t i = 0; i < answer->status_count; i++) {
		struct envoy_status *status = &answer->statuses[i];

		if (status->name.length == 0)
			continue;
		status->name = pool_copy(scratch, status->name);
		if (!status->name.bytes)
			return fail_memory(error);
	}
	return WEIR_OK;
}

/* What happens while the configuration must not go. */
static int answer_by(struct envoy_service *service, struct decision_round *round,
		     const struct envoy_config *config, const weir_policy_id *policies,
		     struct envoy_answer *answer, struct weir_error *error)
{
	int status = match_all(round, config, service->stats, policies, error);

	if (status == WEIR_OK)
		status = envoy_decide(round, error);
	if (status == WEIR_OK)
		status = envoy_fill_answer(round, answer, error);
	if (status == WEIR_OK && service->options.shadow_mode && envoy_refuses(round))
		count(service, COUNTER_GLOBAL_SHADOW_MODE);
	return status == WEIR_OK ? copy_names(round->scratch, answer, error) : status;
}

static int answer_request(struct envoy_reader *reader, const struct envoy_request *request,
			  struct envoy_answer *answer, struct weir_error *error)
{
	struct envoy_service *service = reader->service;
	struct decision_round round = {
		.options = &service->options,
		.engine = service->engine,
		.scratch = &reader->scratch,
		.request = request,
	};
	size_t descriptors = request->descriptor_count;
	weir_policy_id *policies = pool_array(round.scratch, descriptors, sizeof(*policies));
	int status;

	round.decided = pool_array(round.scratch, descriptors, sizeof(*round.decided));
	if (!policies || !round.decided)
		return fail_memory(error);
	status = prepare_overrides(reader, request, policies, error);
	if (status < 0)
		return status;
	status = answer_by(service, &round, reader_enter(reader), policies, answer, error);
	reader_leave(reader);
	return status;
}

int envoy_service_answer(struct envoy_reader *reader, const struct envoy_request *request,
			 struct envoy_answer *answer, struct weir_error *error)
{
	int status = check_request(reader, request, error);

	pool_clear(&reader->scratch);
	if (status == WEIR_OK)
		status = answer_request(reader, request, answer, error);
	if (status < 0)
		count(reader->service, COUNTER_SERVICE_ERROR);
	return status < 0 ? status : envoy_ok(error);
}
