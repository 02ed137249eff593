/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/envoy_double.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "serve/envoy/failure.h"

/* ---- Counting ------------------------------------------------------------------ */

static uint64_t family_of(const struct engine_limit *limit)
{
	return limit->period_s * 2 + (limit->algorithm == ENGINE_TOKEN_BUCKET);
}

static int double_policy(struct engine *engine, const struct engine_limit *limit,
			 weir_policy_id *policy, struct weir_error *error)
{
	struct engine_double *fake = (struct engine_double *)engine;

	for (size_t i = 0; i < fake->policy_count; i++) {
		if (memcmp(&fake->policies[i], limit, sizeof(*limit)) == 0) {
			*policy = i + 1;
			return envoy_ok(error);
		}
	}
	if (fake->policy_count == fake->policies_max)
		return envoy_fail(error, WEIR_ENOSPC, "no room for one more policy");
	fake->policies[fake->policy_count++] = *limit;
	*policy = fake->policy_count;
	return envoy_ok(error);
}

/* It keeps what it has: what a segment removes is test_envoy_engine.c's matter. */
static void double_remove(struct engine *engine, const struct engine_limit *limit)
{
	(void)engine;
	(void)limit;
}

static size_t double_make_room(struct engine *engine, const struct engine_limit *kept,
			       size_t count, size_t most)
{
	(void)engine;
	(void)kept;
	(void)count;
	(void)most;
	return 0;
}

static struct double_counter *find_counter(struct engine_double *fake, uint64_t family,
					   struct text key)
{
	struct double_counter *counter;

	for (size_t i = 0; i < fake->counter_count; i++) {
		counter = &fake->counters[i];
		if (counter->family == family && text_is(text_of(counter->key), key))
			return counter;
	}
	ck_assert_uint_lt(fake->counter_count, DOUBLE_COUNTERS);
	ck_assert_uint_lt(key.length, sizeof(counter->key));
	counter = &fake->counters[fake->counter_count++];
	*counter = (struct double_counter){ .family = family };
	memcpy(counter->key, key.bytes, key.length);
	return counter;
}

static struct engine_answer double_call(struct engine *engine, enum engine_call call,
					weir_policy_id policy, struct text key, uint64_t cost)
{
	struct engine_double *fake = (struct engine_double *)engine;
	struct engine_answer answer = { .decided = true, .reset_after_ns = 1500000000 };
	const struct engine_limit *limit;
	struct double_counter *counter;
	uint64_t most;

	ck_assert_uint_ge(policy, 1);
	ck_assert_uint_le(policy, fake->policy_count);
	limit = &fake->policies[policy - 1];
	most = limit->algorithm == ENGINE_TOKEN_BUCKET ? limit->burst : limit->limit;
	counter = find_counter(fake, family_of(limit), key);
	if (++fake->calls == fake->steal_at)
		counter->counted = most;
	answer.allowed = counter->counted + cost <= most;
	if (fake->fail_mode != 0)
		return (struct engine_answer){ .allowed = fake->fail_mode > 0 };
	if (call == ENGINE_COUNT || (call == ENGINE_TAKE && answer.allowed))
		counter->counted += cost;
	if (call == ENGINE_REFUND)
		counter->counted -= cost;
	answer.counted = counter->counted;
	answer.remaining = counter->counted < most ? most - counter->counted : 0;
	return answer;
}

void double_init(struct engine_double *fake)
{
	*fake = (struct engine_double){
		.engine = {
			.policy = double_policy,
			.remove = double_remove,
			.make_room = double_make_room,
			.call = double_call,
		},
		.policies_max = DOUBLE_POLICIES,
	};
}

uint64_t double_counted(const struct engine_double *fake, uint64_t period_s, const char *key)
{
	for (size_t i = 0; i < fake->counter_count; i++) {
		if (fake->counters[i].family == period_s * 2 &&
		    strcmp(fake->counters[i].key, key) == 0)
			return fake->counters[i].counted;
	}
	return 0;
}

void double_forget(struct engine_double *fake)
{
	fake->counter_count = 0;
}

/* ---- Asking -------------------------------------------------------------------- */

struct envoy_service *double_service(struct engine_double *fake,
				     const struct envoy_options *options,
				     const char *yaml)
{
	struct envoy_source source = { TEXT("config.test.yaml"), text_of(yaml) };
	struct envoy_options defaults;
	struct envoy_service *service;
	struct weir_error error;
	int status;

	envoy_options_init(&defaults);
	status = envoy_service_new(options ? options : &defaults, &fake->engine, &service, &error);
	ck_assert_msg(status == WEIR_OK, "%s", error.message);
	status = envoy_service_load(service, &source, 1, &error);
	ck_assert_msg(status == WEIR_OK, "%s", error.message);
	return service;
}

struct envoy_descriptor double_descriptor(const char *text)
{
	static struct envoy_entry pool[8][8];
	static unsigned next;
	struct envoy_entry *entries = pool[next++ % 8];
	struct envoy_descriptor descriptor = { .entries = entries };

	while (*text) {
		struct envoy_entry *entry = &entries[descriptor.entry_count++];

		ck_assert_uint_le(descriptor.entry_count, 8);
		entry->key = (struct text){ text, strcspn(text, "=,;") };
		text += entry->key.length;
		text += *text == '=';
		entry->value = (struct text){ text, strcspn(text, ",;") };
		text += entry->value.length;
		if (*text != ',')
			break;
		text++;
	}
	return descriptor;
}

struct envoy_reader *double_reader(struct envoy_service *service)
{
	struct envoy_reader *reader = envoy_reader_new(service);

	ck_assert_ptr_nonnull(reader);
	return reader;
}

struct envoy_answer double_ask(struct envoy_service *service, const char *domain,
			       const char *descriptors, uint32_t hits)
{
	struct envoy_descriptor list[8];
	struct envoy_request request = {
		.domain = text_of(domain),
		.descriptors = list,
		.hits_addend = hits,
		.now_s = 1720000007,
	};
	struct envoy_answer answer;
	struct weir_error error;
	int status;

	while (descriptors) {
		ck_assert_uint_lt(request.descriptor_count, 8);
		list[request.descriptor_count++] = double_descriptor(descriptors);
		descriptors = strchr(descriptors, ';');
		if (descriptors)
			descriptors += 2;
	}
	status = envoy_service_answer(double_reader(service), &request, &answer, &error);
	ck_assert_msg(status == WEIR_OK, "%s", error.message);
	ck_assert_uint_eq(answer.status_count, request.descriptor_count);
	return answer;
}

struct wanted {
	const char *key;
	const struct stats *found;
};

static void look_for(const struct stats *stats, void *context)
{
	struct wanted *wanted = context;

	if (strcmp(stats->key, wanted->key) == 0)
		wanted->found = stats;
}

uint64_t double_stat(const struct envoy_service *service, const char *key,
		     enum stats_counter stat)
{
	struct wanted wanted = { .key = key };

	stats_each(envoy_service_stats(service), look_for, &wanted);
	return wanted.found ? stats_read(wanted.found, stat) : 0;
}
