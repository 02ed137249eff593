/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the network does to a connection: bytes cut off anywhere, dropped, held
 * or repeated, and answers that are none.  Waits are in test_redis_waits.c.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "sync/redis_socket.h"
#include "tests/redis_proxied.h"
#include "tests/stub.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define NS_PER_MS 1000000ull

static void set_cut(enum proxy_direction direction, uint64_t at)
{
	struct proxy_faults faults = proxy_no_faults();

	faults.cut_at = at;
	proxy_set(proxy, direction, faults);
}

/* ---- Cut anywhere --------------------------------------------------------- */

struct lengths {
	uint64_t log_in;        /* bytes until we are connected */
	uint64_t all;           /* and until all calls are done */
};

static struct lengths measure(enum proxy_direction direction)
{
	struct redis_result results[CALLS];
	struct redis *redis = proxied_client(LONG_MS);
	struct lengths lengths;

	client_admin(server, "SET key 100000");
	client_connect(redis);
	lengths.log_in = proxy_arrived(proxy, direction);
	ck_assert_int_eq(proxied_calls(redis, results), REDIS_ERROR_NONE);
	lengths.all = proxy_arrived(proxy, direction);
	redis_destroy(redis);
	return lengths;
}

/* However far the replies get: the log-in fails, or the calls do; what is said
 * to be executed was, with the right sum; the rest is in doubt, and happens to
 * have been executed as well. */
START_TEST(replies_cut_anywhere)
{
	struct lengths lengths = measure(PROXY_REPLIES);
	struct redis *redis = proxied_client(LONG_MS);
	int64_t sum = 100000 + CALLS;
	unsigned seen[CALLS + 1] = { 0 };
	struct weir_error error;

	for (uint64_t at = 0; at < lengths.log_in; at++) {
		enum redis_error result;

		set_cut(PROXY_REPLIES, at);
		result = redis_connect(redis, &error);
		ck_assert_msg(result == REDIS_ERROR_CUT, "cut at %llu: %s: %s",
			      (unsigned long long)at, redis_error_name(result), error.message);
		ck_assert(!redis_connected(redis));
	}
	/* Not right behind the log-in: that may be seen before the calls are sent. */
	for (uint64_t at = lengths.log_in + 1; at <= lengths.all; at++) {
		struct redis_result results[CALLS];
		unsigned executed = 0;
		bool connected;

		set_cut(PROXY_REPLIES, at);
		client_connect(redis);
		connected = proxied_calls(redis, results) == REDIS_ERROR_NONE;
		ck_assert_int_eq(connected, at == lengths.all);
		while (executed < CALLS && results[executed].error == REDIS_ERROR_NONE) {
			ck_assert_int_eq(redis_reply_integer(results[executed].reply),
					 sum + 1 + executed);
			executed++;
		}
		seen[executed]++;
		for (unsigned i = executed; i < CALLS; i++) {
			ck_assert_ptr_null(results[i].reply);
			ck_assert_int_eq(results[i].error, REDIS_ERROR_CUT);
		}
		sum += CALLS;
		ck_assert_int_eq(client_admin(server, "GET key"), sum);
	}
	for (unsigned i = 0; i <= CALLS; i++)
		ck_assert_uint_gt(seen[i], 0);
	redis_destroy(redis);
}
END_TEST

/* However far the requests get: Redis has executed those that got there whole,
 * and we never claim more or less. */
START_TEST(requests_cut_anywhere)
{
	struct lengths lengths = measure(PROXY_REQUESTS);
	uint64_t call = (lengths.all - lengths.log_in) / CALLS;
	struct redis *redis = proxied_client(LONG_MS);
	int64_t expected = 100000 + CALLS;
	struct weir_error error;

	ck_assert_uint_eq(call * CALLS, lengths.all - lengths.log_in);
	for (uint64_t at = 0; at < lengths.log_in; at += 1 + at / 64) {
		set_cut(PROXY_REQUESTS, at);
		ck_assert_int_eq(redis_connect(redis, &error), REDIS_ERROR_CUT);
	}
	for (uint64_t at = lengths.log_in + 1; at < lengths.all; at++) {
		struct redis_result results[CALLS];
		int64_t claimed = expected;

		set_cut(PROXY_REQUESTS, at);
		client_connect(redis);
		ck_assert_int_eq(proxied_calls(redis, results), REDIS_ERROR_CUT);
		expected += (int64_t)((at - lengths.log_in) / call);
		for (unsigned i = 0; i < CALLS; i++) {
			if (results[i].error == REDIS_ERROR_NONE)
				claimed++;
			else
				ck_assert_int_eq(redis_error_fate(results[i].error),
						 REDIS_DOUBTFUL);
		}
		ck_assert_int_le(claimed, expected);
		/* It may have them still unread. */
		for (int i = 0; client_admin(server, "GET key") != expected; i++)
			ck_assert_int_lt(i, 10000);
	}
	redis_destroy(redis);
}
END_TEST

/* An RST instead of an end: what had been sent may be lost with it. */
START_TEST(reset)
{
	struct proxy *tcp = proxy_start("127.0.0.1:0", redis_server_socket(server));
	struct redis *redis = client_create("redis://127.0.0.1:%u?command_ms=%d", proxy_port(tcp),
					    LONG_MS);
	struct redis_result results[CALLS];
	struct proxy_faults faults = proxy_no_faults();

	client_connect(redis);
	faults.cut_at = proxy_arrived(tcp, PROXY_REPLIES) + 5;
	faults.reset = true;
	proxy_set(tcp, PROXY_REPLIES, faults);
	ck_assert_int_eq(proxied_calls(redis, results), REDIS_ERROR_CUT);
	proxy_end(tcp);
	redis_destroy(redis);
}
END_TEST

/* ---- Dropped, held, repeated ----------------------------------------------- */

START_TEST(dropped)
{
	struct redis *redis = proxied_client(50);
	struct redis_result results[CALLS];
	struct proxy_faults faults = proxy_no_faults();
	uint64_t start_ns;

	client_admin(server, "SET key 0");
	faults.drop = true;
	for (int direction = 0; direction < 2; direction++) {
		client_connect(redis);
		proxy_set(proxy, direction, faults);
		start_ns = redis_now_ns();
		ck_assert_int_eq(proxied_calls(redis, results), REDIS_ERROR_TIMEOUT);
		ck_assert_uint_ge(redis_now_ns() - start_ns, 50 * NS_PER_MS);
		ck_assert_int_eq(redis_error_fate(results[0].error), REDIS_DOUBTFUL);
		proxy_set(proxy, direction, proxy_no_faults());
	}
	/* Of the two, the one whose replies were lost was executed. */
	ck_assert_int_eq(client_admin(server, "GET key"), CALLS);
	redis_destroy(redis);
}
END_TEST

/* Requests that the network delivers after we have given up. */
START_TEST(delivered_late)
{
	struct redis *redis = proxied_client(50);
	struct redis_result results[CALLS];
	struct proxy_faults faults = proxy_no_faults();

	client_admin(server, "SET key 0");
	client_connect(redis);
	faults.hold = true;
	proxy_set(proxy, PROXY_REQUESTS, faults);
	ck_assert_int_eq(proxied_calls(redis, results), REDIS_ERROR_TIMEOUT);
	ck_assert_int_eq(client_admin(server, "GET key"), 0);
	proxy_set(proxy, PROXY_REQUESTS, proxy_no_faults());
	for (int i = 0; client_admin(server, "GET key") != CALLS; i++)
		ck_assert_int_lt(i, 10000);
	redis_destroy(redis);
}
END_TEST

/* After a reply too many nobody knows which belongs to which call. */
START_TEST(repeated)
{
	struct redis *redis = proxied_client(LONG_MS);
	struct redis_result results[CALLS];
	struct proxy_faults faults = proxy_no_faults();

	client_connect(redis);
	faults.duplicate = true;
	proxy_set(proxy, PROXY_REPLIES, faults);
	ck_assert_int_eq(proxied_calls(redis, results), REDIS_ERROR_PROTOCOL);
	for (int i = 0; i < CALLS; i++) {
		ck_assert_int_eq(results[i].error, REDIS_ERROR_PROTOCOL);
		ck_assert_ptr_null(results[i].reply);
	}
	ck_assert(!redis_connected(redis));
	redis_destroy(redis);
}
END_TEST

/* ---- Answers that are none --------------------------------------------------- */

#define ANSWER(text) { text, sizeof(text) - 1, false }
#define ANSWER_AND_CLOSE(text) { text, sizeof(text) - 1, true }
#define SHA "0123456789012345678901234567890123456789"
#define LOADED "$40\r\n" SHA "\r\n$40\r\n" SHA "\r\n"
#define INFORMED "$9\r\n# Server\n\r\n"

static const struct {
	struct stub_answer answer;
	enum redis_error error;
} garbage[] = {
	{ ANSWER("HTTP/1.1 400 Bad Request\r\n\r\n"), REDIS_ERROR_PROTOCOL },
	{ ANSWER("\r\n"), REDIS_ERROR_PROTOCOL },
	{ ANSWER("\0\0\0\0"), REDIS_ERROR_PROTOCOL },
	{ ANSWER("*2147483647\r\n"), REDIS_ERROR_PROTOCOL },
	{ ANSWER("*65537\r\n"), REDIS_ERROR_PROTOCOL },
	{ ANSWER("*99999999999999999999\r\n"), REDIS_ERROR_PROTOCOL },
	{ ANSWER("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"),
	  REDIS_ERROR_PROTOCOL },
	{ ANSWER("$-5\r\n"), REDIS_ERROR_PROTOCOL },
	{ ANSWER(":1\r\n:2\r\n"), REDIS_ERROR_PROTOCOL },
	{ ANSWER(":1\r\n:"), REDIS_ERROR_PROTOCOL },
	{ ANSWER(""), REDIS_ERROR_TIMEOUT },
	{ ANSWER("$5\r\nabc"), REDIS_ERROR_TIMEOUT },
	{ ANSWER("*2\r\n:1\r\n"), REDIS_ERROR_TIMEOUT },
	{ ANSWER("$1000000000\r\nabc"), REDIS_ERROR_TIMEOUT },
	{ ANSWER_AND_CLOSE(""), REDIS_ERROR_CUT },
	{ ANSWER_AND_CLOSE("$5\r\nabc"), REDIS_ERROR_CUT },
};

static void stub_path(char *path, size_t size)
{
	snprintf(path, size, "%s/stub.sock", redis_server_directory(server));
}

/* As the answer to a call, and as the one to the log-in. */
START_TEST(garbage_is_no_reply)
{
	struct stub_answer answers[] = { ANSWER(LOADED INFORMED), garbage[_i].answer, { 0 } };
	struct redis_result result;
	struct weir_error error;
	struct redis *redis;
	struct stub *stub;
	char path[160];
	enum redis_error got;

	stub_path(path, sizeof(path));
	stub = stub_start(path, answers);
	redis = client_create("unix://%s?connect_ms=%d&command_ms=%d", path, LONG_MS,
			      garbage[_i].error == REDIS_ERROR_TIMEOUT ? 20 : LONG_MS);
	client_connect(redis);
	ck_assert_str_eq(redis_identity(redis)->run_id, "");
	client_add(redis, "key", 1);
	got = redis_flush_and_read(redis, &result, 1, &error);
	ck_assert_msg(got == garbage[_i].error, "%s: %s", redis_error_name(got), error.message);
	ck_assert_int_eq(result.error, got);
	ck_assert_int_eq(redis_error_fate(got), REDIS_DOUBTFUL);
	ck_assert_ptr_null(result.reply);
	ck_assert(!redis_connected(redis));
	redis_destroy(redis);
	stub_end(stub);

	stub = stub_start(path, answers + 1);
	redis = client_create("unix://%s?connect_ms=20", path);
	got = redis_connect(redis, &error);
	ck_assert(got == REDIS_ERROR_PROTOCOL || got == REDIS_ERROR_TIMEOUT ||
		  got == REDIS_ERROR_CUT);
	ck_assert(!redis_connected(redis));
	redis_destroy(redis);
	stub_end(stub);
}
END_TEST

static const struct {
	struct stub_answer answer;
	enum redis_error error;
} odd_log_ins[] = {
	{ ANSWER("$40\r\n" SHA "\r\n$39\r\n" "012345678901234567890123456789012345678\r\n"
		 INFORMED), REDIS_ERROR_PROTOCOL },
	{ ANSWER(LOADED "+OK\r\n"), REDIS_ERROR_PROTOCOL },
	{ ANSWER(":1\r\n:2\r\n:3\r\n"), REDIS_ERROR_PROTOCOL },
	{ ANSWER(LOADED "-LOADING Redis is loading the dataset in memory\r\n"),
	  REDIS_ERROR_LOADING },
	{ ANSWER("-LOADING a\r\n-LOADING b\r\n" INFORMED), REDIS_ERROR_LOADING },
	{ ANSWER_AND_CLOSE("-DENIED Redis is running in protected mode\r\n"),
	  REDIS_ERROR_DENIED },
	{ ANSWER_AND_CLOSE("-ERR max number of clients reached\r\n"), REDIS_ERROR_MAXCLIENTS },
	{ ANSWER("-ERR unknown command 'SCRIPT'\r\n:1\r\n:2\r\n"), REDIS_ERROR_OTHER },
};

START_TEST(odd_answers_to_the_log_in)
{
	struct stub_answer answers[] = { odd_log_ins[_i].answer, { 0 } };
	struct weir_error error;
	struct redis *redis;
	struct stub *stub;
	char path[160];
	enum redis_error got;

	stub_path(path, sizeof(path));
	stub = stub_start(path, answers);
	redis = client_create("unix://%s?connect_ms=%d", path, LONG_MS);
	got = redis_connect(redis, &error);
	ck_assert_msg(got == odd_log_ins[_i].error, "%s: %s", redis_error_name(got),
		      error.message);
	ck_assert(!redis_connected(redis));
	redis_destroy(redis);
	stub_end(stub);
}
END_TEST

/* It is seen before the next calls are sent. */
START_TEST(a_reply_that_nobody_waits_for)
{
	struct stub_answer answers[] = { ANSWER(LOADED INFORMED), ANSWER(":1\r\n"), { 0 } };
	struct redis_result result;
	struct weir_error error;
	struct redis *redis;
	struct stub *stub;
	char path[160];

	stub_path(path, sizeof(path));
	stub = stub_start(path, answers);
	redis = client_create("unix://%s?connect_ms=%d&command_ms=%d", path, LONG_MS, LONG_MS);
	client_connect(redis);
	ck_assert_int_eq(client_add_now(redis, "key", 1, NULL), REDIS_ERROR_NONE);
	stub_say(stub, ":1", 2);
	client_add(redis, "key", 1);
	ck_assert_int_eq(redis_flush_and_read(redis, &result, 1, &error), REDIS_ERROR_PROTOCOL);
	ck_assert_ptr_nonnull(strstr(error.message, "belongs to no call"));
	redis_destroy(redis);
	stub_end(stub);
}
END_TEST

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Replies with bytes changed: there is an answer, and nothing else happens.  A
 * reply that is whole and of the right number is believed, of course. */
START_TEST(mangled_replies)
{
	static const char whole[] = "*5\r\n$1\r\nk\r\n$2\r\nab\r\n:7\r\n$-1\r\n*1\r\n+OK\r\n";
	char mangled[sizeof(whole)];
	struct stub_answer answers[] = {
		ANSWER(LOADED INFORMED), { mangled, sizeof(whole) - 1, true }, { 0 },
	};
	uint64_t state = 1;
	struct redis *redis;
	struct stub *stub;
	char path[160];
	unsigned believed = 0;

	stub_path(path, sizeof(path));
	stub = stub_start(path, answers);
	redis = client_create("unix://%s?connect_ms=%d&command_ms=%d", path, LONG_MS, LONG_MS);
	for (int i = 0; i < 1000; i++) {
		struct redis_result result;
		struct weir_error error;

		client_connect(redis);
		/* The stub reads it after the next request only. */
		memcpy(mangled, whole, sizeof(whole));
		for (int changes = 0; changes < 3; changes++) {
			uint64_t random = next_random(&state);

			mangled[random % (sizeof(whole) - 1)] =
				"*$:+-0123456789\r\nab"[(random >> 32) % 19];
		}
		client_add(redis, "key", 1);
		if (redis_flush_and_read(redis, &result, 1, &error) == REDIS_ERROR_NONE)
			believed++;
		else
			ck_assert(!redis_connected(redis) && error.message[0]);
	}
	ck_assert_uint_gt(believed, 10);
	ck_assert_uint_lt(believed, 900);
	redis_destroy(redis);
	stub_end(stub);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("redis_network");
	TCase *network = tcase_create("network");
	TCase *answers = tcase_create("answers");
	TCase *cases[] = { network, answers };

	redis_server_require();
	tcase_add_test(network, replies_cut_anywhere);
	tcase_add_test(network, requests_cut_anywhere);
	tcase_add_test(network, reset);
	tcase_add_test(network, dropped);
	tcase_add_test(network, delivered_late);
	tcase_add_test(network, repeated);

	tcase_add_loop_test(answers, garbage_is_no_reply, 0, LENGTH(garbage));
	tcase_add_loop_test(answers, odd_answers_to_the_log_in, 0, LENGTH(odd_log_ins));
	tcase_add_test(answers, a_reply_that_nobody_waits_for);
	tcase_add_test(answers, mangled_replies);

	for (size_t i = 0; i < LENGTH(cases); i++) {
		tcase_add_checked_fixture(cases[i], proxied_begin, proxied_end);
		tcase_set_timeout(cases[i], 60);
		suite_add_tcase(suite, cases[i]);
	}
	return suite_run(suite);
}
