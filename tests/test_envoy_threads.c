/* SPDX-License-Identifier: Apache-2.0 */
/* Threads answer while the configuration is replaced: each request is answered by one
 * configuration as a whole, and none of them is freed too early. */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#include "serve/envoy/service.h"
#include "tests/suite.h"

#define THREADS 3
#define LOADS 60

static bool over;
static struct envoy_service *service;

static int make_policy(struct engine *engine, const struct engine_limit *limit,
		       weir_policy_id *policy, struct weir_error *error)
{
	(void)engine;
	(void)error;
	*policy = limit->limit;
	return WEIR_OK;
}

static void remove_policy(struct engine *engine, const struct engine_limit *limit)
{
	(void)engine;
	(void)limit;
}

static size_t make_room(struct engine *engine, const struct engine_limit *kept, size_t count,
			size_t most)
{
	(void)engine;
	(void)kept;
	(void)count;
	(void)most;
	return 0;
}

static struct engine_answer call(struct engine *engine, enum engine_call call_,
				 weir_policy_id policy, struct text key, uint64_t cost)
{
	(void)engine;
	(void)call_;
	(void)key;
	(void)cost;
	return (struct engine_answer){ .allowed = true, .decided = true, .counted = policy - 1 };
}

static void must(bool condition)
{
	if (!condition)
		abort();
}

/* Both descriptors have the same number, in each configuration another. */
static void *answer(void *context)
{
	static const struct envoy_entry a = { TEXT("a"), TEXT("x") }, b = { TEXT("b"), TEXT("x") };
	const struct envoy_descriptor descriptors[] = {
		{ .entries = &a, .entry_count = 1 },
		{ .entries = &b, .entry_count = 1 },
	};
	const struct envoy_request request = { TEXT("d"), descriptors, 2, 1, 7 };
	struct envoy_reader *reader = envoy_reader_new(service);
	struct envoy_answer got;
	uint64_t *answered = context;

	must(reader);
	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		must(envoy_service_answer(reader, &request, &got, NULL) == WEIR_OK);
		must(got.statuses[0].requests_per_unit == got.statuses[1].requests_per_unit);
		must(got.statuses[0].limit_remaining == 1 && got.statuses[1].limit_remaining == 1);
		must(got.statuses[0].name.length == 1);
		(*answered)++;
	}
	return NULL;
}

static void load(int number)
{
	struct pool pool = { 0 };
	struct builder yaml = { .pool = &pool };
	struct envoy_source source = { .name = TEXT("x") };
	struct weir_error error;

	builder_print(&yaml, "domain: d\ndescriptors:\n"
		      "- {key: a, rate_limit: {unit: day, requests_per_unit: %d, name: n}}\n"
		      "- {key: b, value_to_metric: true, rate_limit: {unit: day, "
		      "requests_per_unit: %d, name: m}}\n", number, number);
	source.text = builder_text(&yaml);
	ck_assert_msg(envoy_service_load(service, &source, 1, &error) == WEIR_OK, "%s",
		      error.message);
	pool_free(&pool);
}

START_TEST(reload_meanwhile)
{
	struct engine engine = {
		.policy = make_policy,
		.remove = remove_policy,
		.make_room = make_room,
		.call = call,
	};
	uint64_t answered[THREADS] = { 0 };
	pthread_t threads[THREADS];
	struct envoy_options options;

	envoy_options_init(&options);
	ck_assert_int_eq(envoy_service_new(&options, &engine, &service, NULL), WEIR_OK);
	load(1000);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, answer, &answered[i]), 0);
	for (int i = 1; i <= LOADS; i++)
		load(1000 + i);
	__atomic_store_n(&over, true, __ATOMIC_RELAXED);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(envoy_service_counter(service, COUNTER_CONFIG_LOAD_SUCCESS), LOADS + 1);
	envoy_service_free(service);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("envoy_threads");
	TCase *cases = tcase_create("threads");

	tcase_set_timeout(cases, 60);
	tcase_add_test(cases, reload_meanwhile);
	suite_add_tcase(suite, cases);

	return suite_run(suite);
}
