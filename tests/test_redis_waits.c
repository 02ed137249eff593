/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection waits for: names that are not found in time; and what an interruption
 * does to that and to all other waits.
 */
#include <check.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

#include "sync/redis_socket.h"
#include "tests/redis_proxied.h"
#include "tests/suite.h"

#define NS_PER_MS 1000000ull

/* ---- Names -------------------------------------------------------------------- */

static sem_t look_up_may_end;
static sem_t look_up_has_begun;
static atomic_uint look_ups;

/* In front of the C library's: "slow.test" is 127.0.0.1 as soon as it may be. */
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		struct addrinfo **addresses)
{
	static int (*original)(const char *, const char *, const struct addrinfo *,
			       struct addrinfo **);

	if (!original)
		*(void **)&original = dlsym(RTLD_NEXT, "getaddrinfo");
	if (hints && hints->ai_flags & AI_NUMERICHOST)
		return original(host, port, hints, addresses);
	atomic_fetch_add(&look_ups, 1);
	if (strcmp(host, "slow.test") != 0)
		return EAI_NONAME;
	sem_post(&look_up_has_begun);
	sem_wait(&look_up_may_end);
	return original("127.0.0.1", port, hints, addresses);
}

START_TEST(an_unknown_name)
{
	struct redis *redis = client_create("redis://unknown.test?connect_ms=%d", LONG_MS);
	struct weir_error error;

	ck_assert_int_eq(redis_connect(redis, &error), REDIS_ERROR_RESOLVE);
	ck_assert_ptr_nonnull(strstr(error.message, "the host \"unknown.test\" has no address"));
	ck_assert_int_eq(redis_connect(redis, &error), REDIS_ERROR_RESOLVE);
	ck_assert_uint_eq(look_ups, 2);
	redis_destroy(redis);
}
END_TEST

/* A look-up is waited for until the deadline, and the next attempt goes on with
 * the same one. */
START_TEST(a_slow_name)
{
	struct proxy *tcp = proxy_start("127.0.0.1:0", redis_server_socket(server));
	struct redis *redis = client_create("redis://slow.test:%u?connect_ms=30",
					    proxy_port(tcp));
	struct weir_error error;
	enum redis_error result;

	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(redis_connect(redis, &error), REDIS_ERROR_TIMEOUT);
		ck_assert_ptr_nonnull(strstr(error.message, "check the resolver"));
	}
	ck_assert_uint_eq(look_ups, 1);
	sem_post(&look_up_may_end);
	while ((result = redis_connect(redis, &error)) == REDIS_ERROR_TIMEOUT)
		sem_post(&look_up_may_end);
	ck_assert_msg(result == REDIS_ERROR_NONE, "%s", error.message);
	redis_destroy(redis);
	proxy_end(tcp);
}
END_TEST

START_TEST(a_look_up_is_left_alone)
{
	struct redis *redis = client_create("redis://slow.test?connect_ms=10");
	unsigned before = client_count_files();
	struct weir_error error;

	ck_assert_int_eq(redis_connect(redis, &error), REDIS_ERROR_TIMEOUT);
	redis_destroy(redis);
	/* Its thread tidies up. */
	sem_post(&look_up_may_end);
	while (client_count_files() >= before)
		sched_yield();
}
END_TEST

/* ---- Interrupted ----------------------------------------------------------------- */

/* What the thread under test is blocked in. */
enum blocked_in {
	IN_CALL,
	IN_LOG_IN,
	IN_LOOK_UP,
	IN_SLEEP,
	BLOCKED_WAYS,
};

struct blocked {
	enum blocked_in way;
	struct redis *redis;
	enum redis_error result;
};

static void *block(void *argument)
{
	struct blocked *blocked = argument;
	struct redis_result results[CALLS];
	struct weir_error error;

	if (blocked->way == IN_CALL)
		blocked->result = proxied_calls(blocked->redis, results);
	else if (blocked->way == IN_SLEEP)
		blocked->result = redis_sleep_ns(blocked->redis, UINT64_MAX) ?
			REDIS_ERROR_TIMEOUT : REDIS_ERROR_INTERRUPTED;
	else
		blocked->result = redis_connect(blocked->redis, &error);
	return NULL;
}

/* At once, that is, not after LONG_MS, and not before it is blocked where it is
 * to be. */
START_TEST(interrupted_while_blocked)
{
	struct proxy_faults drop = proxy_no_faults();
	struct blocked blocked = { .way = _i };
	uint64_t start_ns = redis_now_ns();
	uint64_t arrived;
	pthread_t thread;

	drop.drop = true;
	if (_i == IN_LOOK_UP)
		blocked.redis = client_create("redis://slow.test?connect_ms=%d", LONG_MS);
	else
		blocked.redis = proxied_client(LONG_MS);
	if (_i == IN_CALL)
		client_connect(blocked.redis);
	proxy_set(proxy, PROXY_REPLIES, drop);
	arrived = _i == IN_CALL ? proxy_arrived(proxy, PROXY_REQUESTS) : 0;

	pthread_create(&thread, NULL, block, &blocked);
	if (_i == IN_CALL || _i == IN_LOG_IN)
		proxy_wait(proxy, PROXY_REQUESTS, arrived + 1);
	else if (_i == IN_LOOK_UP)
		sem_wait(&look_up_has_begun);
	redis_interrupt(blocked.redis);
	pthread_join(thread, NULL);
	ck_assert_int_eq(blocked.result, REDIS_ERROR_INTERRUPTED);
	ck_assert(!redis_connected(blocked.redis));
	ck_assert_uint_lt(redis_now_ns() - start_ns, LONG_MS * NS_PER_MS);
	redis_destroy(blocked.redis);
	sem_post(&look_up_may_end);
}
END_TEST

/* It stays until the owner says that it has seen it. */
START_TEST(interrupted_before)
{
	struct redis *redis = proxied_client(LONG_MS);
	struct redis_result result;
	struct weir_error error;

	client_connect(redis);
	redis_interrupt(redis);
	redis_interrupt(redis);
	client_add(redis, "key", 1);
	ck_assert_int_eq(redis_flush_and_read(redis, &result, 1, &error),
			 REDIS_ERROR_INTERRUPTED);
	ck_assert_int_eq(client_admin(server, "EXISTS key"), 0);
	ck_assert_int_eq(redis_connect(redis, &error), REDIS_ERROR_INTERRUPTED);
	ck_assert(!redis_sleep_ns(redis, 0));
	redis_rearm(redis);
	redis_rearm(redis);
	ck_assert(redis_sleep_ns(redis, 1));
	client_connect(redis);
	ck_assert_int_eq(client_add_now(redis, "key", 1, NULL), REDIS_ERROR_NONE);
	redis_destroy(redis);
}
END_TEST

struct storm {
	struct redis *redis;
	atomic_bool end;
};

static void *interrupt_often(void *argument)
{
	struct storm *storm = argument;

	while (!atomic_load(&storm->end)) {
		redis_interrupt(storm->redis);
		sched_yield();
	}
	return NULL;
}

/* At any moment: no harm, and exactly once what is said to be. */
START_TEST(interrupted_at_any_moment)
{
	struct storm storm = { .redis = proxied_client(LONG_MS) };
	int64_t executed = 0, doubtful = 0, sum;
	struct weir_error error;
	pthread_t thread;

	pthread_create(&thread, NULL, interrupt_often, &storm);
	for (int i = 0; i < 3000; i++) {
		enum redis_error result;

		redis_rearm(storm.redis);
		if (!redis_connected(storm.redis) &&
		    redis_connect(storm.redis, &error) != REDIS_ERROR_NONE)
			continue;
		redis_rearm(storm.redis);
		result = client_add_now(storm.redis, "key", 1, NULL);
		executed += result == REDIS_ERROR_NONE;
		doubtful += redis_error_fate(result) == REDIS_DOUBTFUL;
	}
	atomic_store(&storm.end, true);
	pthread_join(thread, NULL);
	redis_rearm(storm.redis);
	/* Connections that were given up at once fill the proxy's backlog. */
	while (redis_connect(storm.redis, &error) != REDIS_ERROR_NONE)
		sched_yield();
	ck_assert_int_eq(client_add_now(storm.redis, "key", 0, &sum), REDIS_ERROR_NONE);
	ck_assert_int_ge(sum, executed);
	ck_assert_int_le(sum, executed + doubtful);
	redis_destroy(storm.redis);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("redis_waits");
	TCase *names = tcase_create("names");
	TCase *interrupts = tcase_create("interrupts");
	TCase *cases[] = { names, interrupts };

	redis_server_require();
	sem_init(&look_up_may_end, 0, 0);
	sem_init(&look_up_has_begun, 0, 0);
	tcase_add_test(names, an_unknown_name);
	tcase_add_test(names, a_slow_name);
	tcase_add_test(names, a_look_up_is_left_alone);
	tcase_add_loop_test(interrupts, interrupted_while_blocked, 0, BLOCKED_WAYS);
	tcase_add_test(interrupts, interrupted_before);
	tcase_add_test(interrupts, interrupted_at_any_moment);
	for (size_t i = 0; i < 2; i++) {
		tcase_add_checked_fixture(cases[i], proxied_begin, proxied_end);
		tcase_set_timeout(cases[i], 60);
		suite_add_tcase(suite, cases[i]);
	}
	return suite_run(suite);
}
