/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_redis_sentinel.c - sentinels that answer, lie, know nothing, are silent or
 * gone: stubs say what a test wants them to; the master and a replica are real.
 */
#include <stdio.h>
#include <string.h>

#include "sync/redis_socket.h"
#include "tests/proxy.h"
#include "tests/redis_client.h"
#include "tests/redis_server.h"
#include "tests/stub.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define NS_PER_MS 1000000ull
#define STUBS 2

/* Long enough that it never ends a wait in these tests. */
#define LONG_MS 50000

static struct redis_server *master, *replica;
static struct proxy *to_master, *to_replica;

/* A stub, and the port under which it is a sentinel. */
static struct sentinel {
	char text[1024];
	struct stub_answer answers[2];
	struct stub *stub;
	struct proxy *proxy;
} sentinels[STUBS];

/* ---- What there is ----------------------------------------------------- */

static void set_up(void)
{
	static const char *const of_nobody[] = { "--replicaof", "127.0.0.1", "1", NULL };

	master = redis_server_start(NULL);
	replica = redis_server_start(of_nobody);
	to_master = proxy_start("127.0.0.1:0", redis_server_socket(master));
	to_replica = proxy_start("127.0.0.1:0", redis_server_socket(replica));
	for (int i = 0; i < STUBS; i++) {
		char path[160];

		snprintf(path, sizeof(path), "%s/sentinel%d", redis_server_directory(master), i);
		sentinels[i].answers[0] = (struct stub_answer){ sentinels[i].text, 0, false };
		sentinels[i].stub = stub_start(path, sentinels[i].answers);
		sentinels[i].proxy = proxy_start("127.0.0.1:0", path);
	}
}

static void tear_down(void)
{
	for (int i = 0; i < STUBS; i++) {
		proxy_end(sentinels[i].proxy);
		stub_end(sentinels[i].stub);
	}
	proxy_end(to_master);
	proxy_end(to_replica);
	redis_server_end(master);
	redis_server_end(replica);
}

/* Before anybody asks. */
static void sentinel_says(int i, const char *bytes)
{
	snprintf(sentinels[i].text, sizeof(sentinels[i].text), "%s", bytes);
	sentinels[i].answers[0].length = strlen(sentinels[i].text);
}

/* The master is at PORT, and the other sentinel, if any, at that one's. */
static void sentinel_names(int i, uint16_t port, int other)
{
	char text[512], digits[8];
	int length = snprintf(digits, sizeof(digits), "%u", port);
	int end = snprintf(text, sizeof(text), "*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n", length,
			   digits);

	if (other >= 0) {
		length = snprintf(digits, sizeof(digits), "%u", proxy_port(sentinels[other].proxy));
		snprintf(text + end, sizeof(text) - (size_t)end,
			 "*1\r\n*6\r\n$4\r\nname\r\n$1\r\nx\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n"
			 "$4\r\nport\r\n$%d\r\n%s\r\n", length, digits);
	} else {
		snprintf(text + end, sizeof(text) - (size_t)end, "*0\r\n");
	}
	sentinel_says(i, text);
}

static struct redis *create(unsigned connect_ms)
{
	return client_create("redis-sentinel://127.0.0.1:%u,127.0.0.1:%u/mymaster?connect_ms=%u",
			     proxy_port(sentinels[0].proxy), proxy_port(sentinels[1].proxy),
			     connect_ms);
}

static void must_reach_master(struct redis *redis)
{
	int64_t sum;

	client_connect(redis);
	ck_assert_int_eq(client_add_now(redis, "key", 5, &sum), REDIS_ERROR_NONE);
	ck_assert_int_eq(client_admin(master, "GET key"), sum);
}

/* ---- One that answers -------------------------------------------------- */

START_TEST(a_sentinel_leads_to_the_master)
{
	struct redis *redis = create(LONG_MS);
	char place[64];

	sentinel_names(0, proxy_port(to_master), -1);
	must_reach_master(redis);
	snprintf(place, sizeof(place), "127.0.0.1:%u", proxy_port(to_master));
	ck_assert_str_eq(redis_place(redis), place);
	ck_assert_uint_eq(proxy_connections(sentinels[1].proxy), 0);
	redis_destroy(redis);
}
END_TEST

/* ---- Several that do not agree ------------------------------------------ */

#define KNOWS_NOTHING "*-1\r\n-ERR No such master with that name\r\n"

/* Whatever the first says, the second is asked, and from then on first. */
static const char *const useless[] = {
	KNOWS_NOTHING,
	"-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n",
	"*2\r\n$9\r\n127.0.0.1\r\n$1\r\n1\r\n*0\r\n",           /* nobody listens there */
	"*2\r\n$9\r\n127.0.0.1\r\n$1\r\n0\r\n*0\r\n",
	"+OK\r\n+OK\r\n",
	"HTTP/1.0 400 Bad Request\r\n",
	NULL,                                                   /* a replica */
};

START_TEST(another_is_asked)
{
	struct redis *redis = create(LONG_MS);

	if (useless[_i])
		sentinel_says(0, useless[_i]);
	else
		sentinel_names(0, proxy_port(to_replica), -1);
	sentinel_names(1, proxy_port(to_master), -1);
	must_reach_master(redis);
	ck_assert_uint_eq(proxy_connections(sentinels[0].proxy), 1);
	must_reach_master(redis);
	ck_assert_uint_eq(proxy_connections(sentinels[0].proxy), 1);
	ck_assert_uint_eq(proxy_connections(sentinels[1].proxy), 2);
	redis_destroy(redis);
}
END_TEST

/* One that never answers gets its share of the time, not all of it. */
START_TEST(a_silent_one)
{
	struct proxy_faults silent = { .cut_at = PROXY_NEVER, .hold = true };
	struct redis *redis = create(2000);

	proxy_set(sentinels[0].proxy, PROXY_REPLIES, silent);
	sentinel_names(0, proxy_port(to_master), -1);
	sentinel_names(1, proxy_port(to_master), -1);
	must_reach_master(redis);
	redis_destroy(redis);
}
END_TEST

/* A sentinel that the URL does not name is asked when those that it names are gone. */
START_TEST(others_are_learned)
{
	struct redis *redis = client_create("redis-sentinel://127.0.0.1:%u/mymaster?connect_ms=%d",
					    proxy_port(sentinels[0].proxy), LONG_MS);

	sentinel_names(0, proxy_port(to_master), 1);
	sentinel_names(1, proxy_port(to_master), -1);
	must_reach_master(redis);
	ck_assert_uint_eq(proxy_connections(sentinels[1].proxy), 0);
	proxy_redirect(sentinels[0].proxy, "127.0.0.1:1");
	must_reach_master(redis);
	ck_assert_uint_eq(proxy_connections(sentinels[1].proxy), 1);
	redis_destroy(redis);
}
END_TEST

/* ---- No master --------------------------------------------------------- */

static const struct {
	const char *first;              /* NULL: a replica's address */
	enum redis_error error;
	const char *said;
} hopeless[] = {
	{ KNOWS_NOTHING, REDIS_ERROR_NO_MASTER,
	  "no master \"mymaster\" (check that name in the URL against \"sentinel monitor\" in the "
	  "sentinels' configuration, and that the hosts are its sentinels): 127.0.0.1:" },
	{ KNOWS_NOTHING, REDIS_ERROR_NO_MASTER, ": knows no master of that name; and 127.0.0.1:" },
	{ "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n",
	  REDIS_ERROR_NOAUTH, ": wants a password; give sentinel_password" },
	{ "-ERR unknown command `SENTINEL`, with args beginning with:\r\n-ERR unknown\r\n",
	  REDIS_ERROR_OTHER, ": is no sentinel; check the port" },
	{ "-NOPERM this user has no permissions to run the 'sentinel' command\r\n-NOPERM\r\n",
	  REDIS_ERROR_NOPERM, ": refused (NOPERM this user" },
	{ "-ERR max number of clients reached\r\n", REDIS_ERROR_PROTOCOL, NULL },
	{ "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n65536\r\n*0\r\n", REDIS_ERROR_PROTOCOL,
	  ": answered what no sentinel should" },
	{ "*2\r\n$0\r\n\r\n$4\r\n6379\r\n*0\r\n", REDIS_ERROR_PROTOCOL, ": answered what" },
	{ "*1\r\n$4\r\n6379\r\n*0\r\n", REDIS_ERROR_PROTOCOL, ": answered what" },
	{ "*2\r\n$9\r\n127.0.0.1\r\n$1\r\n1\r\n*0\r\n", REDIS_ERROR_CONNECT,
	  " names 127.0.0.1 port 1: cannot connect" },
	{ NULL, REDIS_ERROR_READONLY, "no master \"mymaster\" (a failover is due or under way; it is "
	  "tried again): 127.0.0.1:" },
	{ NULL, REDIS_ERROR_READONLY, ": it is a replica; wait until it is the master" },
};

START_TEST(there_is_no_master)
{
	struct redis *redis = create(hopeless[_i].said ? LONG_MS : 1000);
	struct weir_error error;
	enum redis_error result;

	for (int i = 0; i < STUBS; i++) {
		if (hopeless[_i].first)
			sentinel_says(i, hopeless[_i].first);
		else
			sentinel_names(i, proxy_port(to_replica), -1);
	}
	result = redis_connect(redis, &error);
	ck_assert(!redis_connected(redis));
	if (!hopeless[_i].said) {       /* one reply where two are due */
		ck_assert_int_eq(result, REDIS_ERROR_MAXCLIENTS);
		ck_assert_ptr_nonnull(strstr(error.message, "max number of clients"));
	} else {
		ck_assert_msg(result == hopeless[_i].error, "%s: %s", redis_error_name(result),
			      error.message);
		ck_assert_msg(strstr(error.message, hopeless[_i].said), "%s", error.message);
	}
	redis_destroy(redis);
}
END_TEST

/* All silent: the time is over when the URL says so. */
START_TEST(all_are_silent)
{
	struct redis *redis = create(200);
	uint64_t begin_ns = redis_now_ns();
	struct weir_error error;

	sentinel_says(0, "");
	sentinel_says(1, "");
	ck_assert_int_eq(redis_connect(redis, &error), REDIS_ERROR_TIMEOUT);
	ck_assert_uint_lt(redis_now_ns() - begin_ns, LONG_MS * NS_PER_MS / 10);
	redis_destroy(redis);
}
END_TEST

/* ---- Passwords, with a real sentinel ------------------------------------ */

static const struct {
	const char *query;
	enum redis_error error;
	const char *said;
} passwords[] = {
	{ "sentinel_password=right", REDIS_ERROR_NONE, NULL },
	{ "sentinel_user=default&sentinel_password=right", REDIS_ERROR_NONE, NULL },
	{ "db=0", REDIS_ERROR_NOAUTH, "wants a password; give sentinel_password" },
	{ "sentinel_password=wrong", REDIS_ERROR_WRONGPASS,
	  "refused AUTH; check sentinel_user and sentinel_password" },
};

START_TEST(sentinels_with_a_password)
{
	char configuration[256];
	struct redis_server *sentinel;
	struct proxy *to_sentinel;
	struct weir_error error;
	struct redis *redis;

	snprintf(configuration, sizeof(configuration),
		 "requirepass right\nsentinel monitor mymaster 127.0.0.1 %u 1\n",
		 proxy_port(to_master));
	sentinel = redis_server_start_sentinel(configuration);
	to_sentinel = proxy_start("127.0.0.1:0", redis_server_socket(sentinel));
	redis = client_create("redis-sentinel://127.0.0.1:%u/mymaster?connect_ms=%d&%s",
			      proxy_port(to_sentinel), LONG_MS, passwords[_i].query);
	ck_assert_int_eq(redis_connect(redis, &error), passwords[_i].error);
	if (passwords[_i].said)
		ck_assert_msg(strstr(error.message, passwords[_i].said), "%s", error.message);
	ck_assert_msg(!strstr(error.message, "wrong"), "%s", error.message);
	redis_destroy(redis);
	proxy_end(to_sentinel);
	redis_server_end(sentinel);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("redis_sentinel");
	TCase *tests = tcase_create("sentinels");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, set_up, tear_down);
	tcase_add_test(tests, a_sentinel_leads_to_the_master);
	tcase_add_loop_test(tests, another_is_asked, 0, LENGTH(useless));
	tcase_add_test(tests, a_silent_one);
	tcase_add_test(tests, others_are_learned);
	tcase_add_loop_test(tests, there_is_no_master, 0, LENGTH(hopeless));
	tcase_add_test(tests, all_are_silent);
	tcase_add_loop_test(tests, sentinels_with_a_password, 0, LENGTH(passwords));
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
