/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync_threads.c - 128 threads call all operations, set fail mode included, while
 * two hosts make rounds with a real Redis.
 *
 * ThreadSanitizer looks for races; here it is seen that the hosts are sound and agree
 * when all is over.  Threads go on until both hosts have made rounds meanwhile, however
 * long that takes: nothing depends on time.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/suite.h"
#include "tests/sync_redis.h"

#undef must                     /* Check's assertions are not for threads */
#include "tests/must.h"

#define THREADS 128
#define KEYS 24
#define CALLS_MIN 40            /* of each thread */
#define ROUNDS 10               /* of each host, meanwhile */

static bool enough;
static const char *const names[] = { "api", "strict", "jobs", "window" };

static struct weir_policy policy_of(unsigned i)
{
	static const char *const limits[] = { "1000/365d", "500/1h burst 100", "8 concurrency",
					      "100/1s sliding-window" };
	static const enum weir_consistency modes[] = { WEIR_BOUNDED, WEIR_STRICT, WEIR_LOCAL,
						       WEIR_EVENTUAL };
	struct weir_policy policy = fixture_policy(names[i], limits[i]);

	policy.consistency = modes[i];
	return policy;
}

/* ---- Calls ------------------------------------------------------------- */

struct caller {
	struct weir *weir;
	uint64_t random;
};

static struct weir_request request_of(struct caller *caller, char key[8])
{
	const char *name = names[fixture_random(&caller->random, LENGTH(names))];

	key[0] = (char)('a' + fixture_random(&caller->random, KEYS));
	key[1] = '\0';
	return (struct weir_request){ .policy = weir_policy_find(caller->weir, name), .key = key,
				      .key_length = 1,
				      .cost = fixture_random(&caller->random, 4) };
}

static void decide(struct caller *caller)
{
	char key[8], other[8];
	struct weir_request requests[2] = { request_of(caller, key), request_of(caller, other) };
	struct weir_decision decisions[2];

	weir_decide(caller->weir, &requests[0], decisions);
	weir_allow(caller->weir, requests[1].policy, other, 1, decisions);
	weir_decide_batch(caller->weir, requests, decisions, 2);
	weir_status(caller->weir, &requests[0], decisions);
}

static void settle(struct caller *caller)
{
	char key[8];
	struct weir_request request = request_of(caller, key);

	switch (fixture_random(&caller->random, 3)) {
	case 0:
		weir_force_take(caller->weir, &request, NULL);
		break;
	case 1:
		weir_refund(caller->weir, &request, NULL);
		break;
	default:
		weir_reset(caller->weir, &request, NULL);
		break;
	}
}

static void hold(struct caller *caller)
{
	char key[8];
	struct weir_request request = request_of(caller, key);
	struct weir_hold taken;

	request.policy = weir_policy_find(caller->weir, "jobs");
	request.cost = 1;
	if (weir_acquire(caller->weir, &request, &taken, NULL))
		must(weir_release(caller->weir, &taken) == 0);
}

static void switch_fail_mode(struct caller *caller)
{
	const char *name = names[fixture_random(&caller->random, LENGTH(names))];
	enum weir_fail_mode mode = (enum weir_fail_mode)fixture_random(&caller->random, 3);

	must(weir_fail_mode_set(caller->weir, name, mode, NULL) == 0);
	must(weir_fail_mode_get(caller->weir, name, &mode, NULL) == 0);
	if (fixture_random(&caller->random, 2))
		must(weir_fail_mode_clear(caller->weir, name, NULL) == 0);
}

static void set_policy(struct caller *caller)
{
	struct weir_policy policy = policy_of((unsigned)fixture_random(&caller->random,
								       LENGTH(names)));
	struct weir_sync_options options = host_sync(url, 2);
	const char *name = policy.name;
	int status;

	if (policy.limits[0].algorithm == WEIR_TOKEN_BUCKET)
		policy.limits[0].limit += fixture_random(&caller->random, 3);
	must(weir_policy_set(caller->weir, &policy, 1, NULL) == 0);
	if (fixture_random(&caller->random, 8) != 0)
		return;
	status = weir_sync_publish(caller->weir, &options, &name, 1, NULL, NULL);
	must(status == 0 || status == WEIR_EBUSY);
}

static bool count_bucket(const struct weir_bucket *bucket, void *context)
{
	*(unsigned *)context += bucket->key_length > 0;
	return true;
}

static void look_around(struct caller *caller)
{
	struct weir_disagreement disagreements[2];
	struct weir_sync_status status;
	struct weir_bucket buckets[2];
	unsigned count = 0;

	must(weir_sync_status(caller->weir, &status, NULL) == 0);
	weir_sync_disagreements(caller->weir, disagreements, LENGTH(disagreements));
	weir_top(caller->weir, 0, WEIR_TOP_CONSUMED, buckets, LENGTH(buckets));
	weir_each_bucket(caller->weir, 0, count_bucket, &count);
	weir_counter_read(caller->weir, 0, NULL);
}

static void cut_off(struct caller *caller)
{
	must(weir_sync_pause(caller->weir, NULL) == 0);
	decide(caller);
	must(weir_sync_resume(caller->weir, NULL) == 0);
}

static void *call(void *context)
{
	struct caller *caller = context;

	for (unsigned i = 0; i < CALLS_MIN || !__atomic_load_n(&enough, __ATOMIC_ACQUIRE); i++) {
		uint64_t what = fixture_random(&caller->random, 64);

		if (what < 40)
			decide(caller);
		else if (what < 48)
			settle(caller);
		else if (what < 54)
			hold(caller);
		else if (what < 60)
			switch_fail_mode(caller);
		else if (what == 60)
			set_policy(caller);
		else if (what == 61)
			look_around(caller);
		else if (what == 62)
			cut_off(caller);
		else
			nap();
	}
	return NULL;
}

/* ---- The test ---------------------------------------------------------- */

static void open_two(void)
{
	struct weir_policy policy = policy_of(0);

	hosts_create(2, &policy);
	for (int i = 0; i < 2; i++) {
		struct weir_sync_options options = host_sync(url, 2);

		for (unsigned k = 1; k < LENGTH(names); k++) {
			policy = policy_of(k);
			ck_assert_int_eq(weir_policy_set(hosts[i], &policy, 1, NULL), 0);
		}
		options.follow_policies = true;
		ck_assert_int_eq(weir_sync_start(hosts[i], &options, NULL), 0);
	}
	all_are_fresh();
}

static void report(const char *finding, void *context)
{
	(void)context;
	/* As every segment of the fixture is, at once. */
	if (!strstr(finding, "was removed"))
		ck_abort_msg("%s", finding);
}

/* When all is over, hosts know what each other did. */
static void hosts_agree(void)
{
	struct weir_sync_options options = host_sync(url, 2);
	struct weir_error error;
	uint64_t version;

	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(weir_sync_resume(hosts[i], NULL), 0);
	/* The last publication: nothing that is set after it was applied is undone. */
	ck_assert_msg(weir_sync_publish(hosts[0], &options, NULL, 0, &version, &error) == 0, "%s",
		      error.message);
	for (int i = 0; i < 2; i++) {
		wait_until(status_of(hosts[i]).applied == version);
		for (unsigned k = 0; k < LENGTH(names); k++) {
			struct weir_policy policy = policy_of(k);

			ck_assert_int_eq(weir_fail_mode_clear(hosts[i], names[k], NULL), 0);
			ck_assert_int_eq(weir_policy_set(hosts[i], &policy, 1, NULL), 0);
		}
	}
	all_are_fresh();
	for (int i = 0; i < 2; i++) {
		wait_until(status_of(hosts[i]).unmerged_tokens == 0);
		weir_check(hosts[i], report, NULL);
	}
	for (int i = 0; i < 2; i++)
		take(i, "a new key", 2);
	all_agree_on("a new key", 996);
	for (int i = 0; i < 2; i++)
		wait_until(status_of(hosts[i]).disagreeing == 0);
}

START_TEST(test_all_calls)
{
	struct caller callers[THREADS];
	pthread_t threads[THREADS];
	uint64_t rounds[2];

	open_two();
	for (int i = 0; i < 2; i++)
		rounds[i] = status_of(hosts[i]).rounds;
	for (unsigned i = 0; i < THREADS; i++) {
		callers[i] = (struct caller){ hosts[i % 2], i + 1 };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
	}
	for (int i = 0; i < 2; i++)
		wait_until(status_of(hosts[i]).rounds >= rounds[i] + ROUNDS);
	__atomic_store_n(&enough, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	hosts_agree();
	hosts_close();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_threads");
	TCase *tests = tcase_create("sync_threads");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, server_begin_patient, server_end);
	tcase_add_test(tests, test_all_calls);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
