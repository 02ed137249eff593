/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync_process.c - leaders that are killed, and leaders that are stopped and
 * wake up: real processes, a real Redis, and every token counted once.
 *
 * A host is a segment.  Each has two processes with a sync thread, of which one
 * leads, and this program, which decides and has none.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/fixture.h"
#include "tests/redis_server.h"

#define HOSTS 2
#define LEADERS 2
#define PATIENCE 30000          /* looks, a millisecond apart */

static struct redis_server *server;
static struct weir *hosts[HOSTS];
static weir_policy_id ids[HOSTS];
static pid_t leaders[HOSTS][LEADERS];

static void nap(void)
{
	struct timespec millisecond = { .tv_nsec = 1000000 };

	nanosleep(&millisecond, NULL);
}

#define wait_until(condition) \
	do { \
		int looks = 0; \
		while (!(condition) && looks++ < PATIENCE) \
			nap(); \
		ck_assert_msg(looks <= PATIENCE, "never came: %s", #condition); \
	} while (0)

static struct weir_sync_status status_of(int host)
{
	struct weir_sync_status status;

	ck_assert_int_eq(weir_sync_status(hosts[host], &status, NULL), 0);
	return status;
}

/* A process that may lead HOST, and does nothing else. */
static pid_t spawn(int host)
{
	struct weir_sync_options options;
	char url[256];
	pid_t child;

	snprintf(url, sizeof(url), "unix://%s?command_ms=200", redis_server_socket(server));
	weir_sync_options_init(&options);
	options.url = url;
	options.interval_ns = 20 * MS;
	options.max_staleness_ns = 2 * SECOND;
	options.expected_hosts = HOSTS;
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (weir_sync_start(hosts[host], &options, NULL) != 0)
			_exit(1);
		for (;;)
			pause();
	}
	return child;
}

static bool is_fresh(int host)
{
	return status_of(host).staleness_ns < SECOND;
}

static void begin(void)
{
	struct weir_policy policy = fixture_policy("api", "1000/365d");
	struct weir_options options;

	server = redis_server_start(NULL);
	policy.consistency = WEIR_EVENTUAL;
	weir_options_init(&options);
	options.slots = 1024;
	options.sync = true;
	options.secret = "sixteen bytes...";
	for (int host = 0; host < HOSTS; host++) {
		hosts[host] = fixture_open(&options);
		ck_assert_int_eq(weir_policy_set(hosts[host], &policy, 1, NULL), 0);
		ids[host] = weir_policy_find(hosts[host], "api");
		for (int i = 0; i < LEADERS; i++)
			leaders[host][i] = spawn(host);
	}
	for (int host = 0; host < HOSTS; host++)
		wait_until(is_fresh(host) && status_of(host).hosts == HOSTS);
}

static void end(void)
{
	for (int host = 0; host < HOSTS; host++) {
		for (int i = 0; i < LEADERS; i++) {
			kill(leaders[host][i], SIGKILL);
			waitpid(leaders[host][i], NULL, 0);
		}
		weir_close(hosts[host]);
	}
	redis_server_end(server);
}

static uint64_t take(int host, uint64_t cost)
{
	struct weir_decision decision;

	ck_assert(weir_allow_n(hosts[host], ids[host], "key", 3, cost, &decision));
	return cost;
}

static uint64_t remaining(int host)
{
	struct weir_request request = { .policy = ids[host], .key = "key", .key_length = 3 };
	struct weir_decision decision;

	weir_status(hosts[host], &request, &decision);
	return decision.remaining;
}

/* The process that leads HOST now. */
static int leader_of(int host)
{
	uint64_t pid = status_of(host).leader_pid;

	for (int i = 0; i < LEADERS; i++) {
		if ((uint64_t)leaders[host][i] == pid)
			return i;
	}
	return -1;
}

static void all_know(uint64_t taken)
{
	for (int host = 0; host < HOSTS; host++)
		wait_until(status_of(host).unmerged_tokens == 0 && remaining(host) == 1000 - taken);
}

/* Killed at whatever it is doing; a new one stands by for the next. */
START_TEST(test_killed)
{
	uint64_t taken = 0;

	for (int round = 0; round < 8; round++) {
		int host = round % HOSTS, leader;
		uint64_t term = status_of(host).term;

		for (int i = 0; i < HOSTS; i++)
			taken += take(i, 3);
		wait_until(leader_of(host) >= 0);
		leader = leader_of(host);
		kill(leaders[host][leader], SIGKILL);
		waitpid(leaders[host][leader], NULL, 0);
		leaders[host][leader] = spawn(host);
		taken += take(host, 2);
		wait_until(status_of(host).term > term && is_fresh(host));
	}
	for (int host = 0; host < HOSTS; host++)
		taken += take(host, 1);
	all_know(taken);
}
END_TEST

/* Stopped until another leads, and continued: what it still has in its hands must
 * neither be lost nor come twice. */
START_TEST(test_stopped)
{
	uint64_t taken = 0;

	for (int round = 0; round < 4; round++) {
		int host = round % HOSTS, leader;
		uint64_t term = status_of(host).term;

		for (int i = 0; i < HOSTS; i++)
			taken += take(i, 5);
		wait_until(leader_of(host) >= 0);
		leader = leader_of(host);
		kill(leaders[host][leader], SIGSTOP);
		taken += take(host, 2);
		wait_until(status_of(host).term > term && leader_of(host) != leader);
		taken += take(host, 2);
		wait_until(status_of(host).unmerged_tokens == 0);
		kill(leaders[host][leader], SIGCONT);
		taken += take(host, 2);
		wait_until(is_fresh(host));
	}
	for (int host = 0; host < HOSTS; host++)
		taken += take(host, 1);
	all_know(taken);
}
END_TEST

/* Decisions while Redis is stopped: none of them waits. */
START_TEST(test_redis_stopped)
{
	uint64_t taken = 0;

	taken += take(0, 1);
	taken += take(1, 1);
	redis_server_stop(server);
	for (int i = 0; i < 200; i++)
		taken += take(0, 1);
	wait_until(!status_of(0).connected);
	for (int i = 0; i < 200; i++)
		taken += take(0, 1);
	redis_server_continue(server);
	wait_until(is_fresh(0) && is_fresh(1));
	taken += take(1, 1);
	all_know(taken);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_process");
	TCase *tests = tcase_create("sync_process");
	SRunner *runner;
	int failed;

	redis_server_require();
	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, begin, end);
	tcase_add_test(tests, test_killed);
	tcase_add_test(tests, test_stopped);
	tcase_add_test(tests, test_redis_stopped);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
