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
#include <unistd.h>

#include "tests/redis_server.h"
#include "tests/suite.h"
#include "tests/sync_fixture.h"

#define HOSTS 2
#define LEADERS 2

static struct redis_server *server;
static pid_t leaders[HOSTS][LEADERS];

/* A process that may lead HOST, and does nothing else. */
static pid_t spawn(int host)
{
	struct weir_sync_options options;
	char url[256];
	pid_t child;

	snprintf(url, sizeof(url), "unix://%s?command_ms=200", redis_server_socket(server));
	options = host_sync(url, HOSTS);
	options.max_staleness_ns = 2 * SECOND;
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

static void begin(void)
{
	struct weir_policy policy = host_policy("1000/365d", WEIR_EVENTUAL, WEIR_FAIL_OPEN);

	server = redis_server_start(NULL);
	hosts_create(HOSTS, &policy);
	for (int host = 0; host < HOSTS; host++) {
		for (int i = 0; i < LEADERS; i++)
			leaders[host][i] = spawn(host);
	}
	all_are_fresh();
}

static void end(void)
{
	for (int host = 0; host < HOSTS; host++) {
		for (int i = 0; i < LEADERS; i++) {
			kill(leaders[host][i], SIGKILL);
			waitpid(leaders[host][i], NULL, 0);
		}
	}
	hosts_close();
	redis_server_end(server);
}

static uint64_t take_at_once(int host, uint64_t cost)
{
	struct weir_decision decision;

	ck_assert(ask(host, "key", cost, &decision));
	return cost;
}

/* The process that leads HOST now. */
static int leader_of(int host)
{
	uint64_t pid = status_of(hosts[host]).leader_pid;

	for (int i = 0; i < LEADERS; i++) {
		if ((uint64_t)leaders[host][i] == pid)
			return i;
	}
	return -1;
}

static void all_know(uint64_t taken)
{
	for (int host = 0; host < HOSTS; host++)
		wait_until(status_of(hosts[host]).unmerged_tokens == 0 && look(host, "key").remaining == 1000 - taken);
}

/* Killed at whatever it is doing; a new one stands by for the next. */
START_TEST(test_killed)
{
	uint64_t taken = 0;

	for (int round = 0; round < 8; round++) {
		int host = round % HOSTS, leader;
		uint64_t term = status_of(hosts[host]).term;

		for (int i = 0; i < HOSTS; i++)
			taken += take_at_once(i, 3);
		wait_until(leader_of(host) >= 0);
		leader = leader_of(host);
		kill(leaders[host][leader], SIGKILL);
		waitpid(leaders[host][leader], NULL, 0);
		leaders[host][leader] = spawn(host);
		taken += take_at_once(host, 2);
		wait_until(status_of(hosts[host]).term > term && is_fresh(hosts[host]));
	}
	for (int host = 0; host < HOSTS; host++)
		taken += take_at_once(host, 1);
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
		uint64_t term = status_of(hosts[host]).term;

		for (int i = 0; i < HOSTS; i++)
			taken += take_at_once(i, 5);
		wait_until(leader_of(host) >= 0);
		leader = leader_of(host);
		kill(leaders[host][leader], SIGSTOP);
		taken += take_at_once(host, 2);
		wait_until(status_of(hosts[host]).term > term && leader_of(host) != leader);
		taken += take_at_once(host, 2);
		wait_until(status_of(hosts[host]).unmerged_tokens == 0);
		kill(leaders[host][leader], SIGCONT);
		taken += take_at_once(host, 2);
		wait_until(is_fresh(hosts[host]));
	}
	for (int host = 0; host < HOSTS; host++)
		taken += take_at_once(host, 1);
	all_know(taken);
}
END_TEST

/* Decisions while Redis is stopped: none of them waits. */
START_TEST(test_redis_stopped)
{
	uint64_t taken = 0;

	taken += take_at_once(0, 1);
	taken += take_at_once(1, 1);
	redis_server_stop(server);
	for (int i = 0; i < 200; i++)
		taken += take_at_once(0, 1);
	wait_until(!status_of(hosts[0]).connected);
	for (int i = 0; i < 200; i++)
		taken += take_at_once(0, 1);
	redis_server_continue(server);
	wait_until(is_fresh(hosts[0]) && is_fresh(hosts[1]));
	taken += take_at_once(1, 1);
	all_know(taken);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_process");
	TCase *tests = tcase_create("sync_process");

	redis_server_require();
	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, begin, end);
	tcase_add_test(tests, test_killed);
	tcase_add_test(tests, test_stopped);
	tcase_add_test(tests, test_redis_stopped);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
