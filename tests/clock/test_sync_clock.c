/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync_clock.c - clocks that are wrong: Redis' is stepped while hosts are at
 * their limit, and hosts have clocks that are seconds apart.  Neither lets anybody
 * in who is over the limit, nor keeps out who is not: what is admitted is what the
 * limit refills, within 10 %.
 *
 * How much time passes is measured, so that no pause of this machine matters.
 */
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/redis_server.h"
#include "tests/suite.h"
#include "tests/sync_fixture.h"

#define HOSTS 2
#define RATE 100                /* tokens a second, and the burst */
#define CAP 5
#define WINDOW_NS (1500 * MS)

static struct redis_server *server;
static int64_t *redis_step_s;
static char url[256];

/* Of this process; the library asks for the time by the same name. */
static int64_t host_step_s;

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long result = syscall(SYS_clock_gettime, clock, now);

	if (result == 0 && clock == CLOCK_BOOTTIME)
		now->tv_sec += host_step_s;
	return (int)result;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static void begin(void)
{
	char path[] = "/tmp/weir-clock-XXXXXX";
	const char *shim = getenv("WEIR_CLOCK_SHIM");
	int fd = mkstemp(path);

	ck_assert_msg(shim, "WEIR_CLOCK_SHIM must name libclock_shim.so; meson test does it");
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, sizeof(*redis_step_s)), 0);
	redis_step_s = mmap(NULL, sizeof(*redis_step_s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(redis_step_s, MAP_FAILED);
	close(fd);
	setenv("LD_PRELOAD", shim, 1);
	setenv("CLOCK_SHIM_FILE", path, 1);
	server = redis_server_start(NULL);
	unsetenv("LD_PRELOAD");
	unlink(path);
	snprintf(url, sizeof(url), "unix://%s?command_ms=2000", redis_server_socket(server));
}

static void end(void)
{
	redis_server_end(server);
	munmap(redis_step_s, sizeof(*redis_step_s));
}

/* Views that do not get stale when this machine is busy. */
static void start_host(struct weir *weir)
{
	struct weir_sync_options options = host_sync(url, HOSTS);

	options.max_staleness_ns = 30 * SECOND;
	ck_assert_int_eq(weir_sync_start(weir, &options, NULL), 0);
}

/* ---- Redis' clock ------------------------------------------------------ */

static void step_redis(int64_t step_s)
{
	redisContext *context = redis_server_connect(server);
	int64_t sum_s = __atomic_add_fetch(redis_step_s, step_s, __ATOMIC_RELAXED);
	int64_t before_s = (int64_t)time(NULL), redis_s;
	redisReply *reply = redisCommand(context, "TIME");

	ck_assert(reply && reply->type == REDIS_REPLY_ARRAY);
	redis_s = atoll(reply->element[0]->str);
	ck_assert_int_ge(redis_s, before_s + sum_s);
	ck_assert_int_le(redis_s, (int64_t)time(NULL) + sum_s);
	freeReplyObject(reply);
	redisFree(context);
}

/* A host of its own process. */
struct other {
	uint64_t admitted;
	bool fresh;
};

static uint64_t admitted_by(const struct other *other)
{
	return other ? __atomic_load_n(&other->admitted, __ATOMIC_RELAXED) : 0;
}

/* What flowed into the bucket in some time. */
struct flow {
	int64_t tokens;         /* admitted, by all hosts, and left over */
	uint64_t took_ns;
	bool overflowed;        /* nobody got to ask for a second: some were lost */
};

/* Ask all hosts as fast as is needed for NS.  A leader that waits for a processor has its host
 * deny by the cap: what was not taken then is left over. */
static struct flow hammer(uint64_t ns, const struct other *other)
{
	uint64_t start_ns = now_ns(), left = look(0, "key").remaining;
	struct flow flow = { .tokens = -(int64_t)(left + admitted_by(other)) };

	do {
		for (int i = 0; i < host_count; i++)
			flow.tokens += ask(i, "key", 1, NULL);
		nap();
		left = look(0, "key").remaining;
		flow.overflowed |= left >= RATE - CAP;
		flow.took_ns = now_ns() - start_ns;
	} while (flow.took_ns < ns);
	flow.tokens += (int64_t)(left + admitted_by(other));
	return flow;
}

static void must_be_the_refill(const struct flow *flow, const char *when, int64_t step_s)
{
	double ideal = RATE * (double)flow->took_ns / (double)SECOND;
	double least = flow->overflowed ? 0 : 0.9 * ideal - CAP;

	ck_assert_msg((double)flow->tokens >= least && (double)flow->tokens <= 1.1 * ideal + CAP,
		      "%s %+ld s: %ld admitted and left in %.3f s", when, (long)step_s,
		      (long)flow->tokens, (double)flow->took_ns / (double)SECOND);
}

START_TEST(test_redis_steps)
{
	static const int64_t steps_s[] = { 5, -5, 60, -60 };
	struct weir_policy policy = host_policy("100/1s", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	struct flow flow;

	hosts_create(HOSTS, &policy);
	for (int i = 0; i < HOSTS; i++)
		start_host(hosts[i]);
	all_are_fresh();
	ck_assert_uint_eq(status_of(hosts[0]).largest_cap, CAP);
	hammer(WINDOW_NS, NULL);
	for (size_t i = 0; i < LENGTH(steps_s); i++) {
		step_redis(steps_s[i]);
		flow = hammer(WINDOW_NS, NULL);
		must_be_the_refill(&flow, "Redis stepped by", steps_s[i]);
	}
	hosts_close();
}
END_TEST

/* ---- Hosts' clocks ----------------------------------------------------- */

/* One whose clock is STEP_S ahead. */
static pid_t start_other(const struct weir_policy *policy, int64_t step_s, struct other *other)
{
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child > 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	host_step_s = step_s;
	hosts_create(1, policy);
	start_host(hosts[0]);
	for (;;) {
		if (ask(0, "key", 1, NULL))
			__atomic_add_fetch(&other->admitted, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&other->fresh, is_fresh(hosts[0]), __ATOMIC_RELAXED);
		nap();
	}
}

START_TEST(test_hosts_apart)
{
	static const int64_t steps_s[] = { 5, -5 };
	struct weir_policy policy = host_policy("100/1s", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	struct other *other = mmap(NULL, sizeof(*other), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t before;
	struct flow flow;
	pid_t child;

	ck_assert_ptr_ne(other, MAP_FAILED);
	child = start_other(&policy, steps_s[_i], other);
	hosts_create(1, &policy);
	start_host(hosts[0]);
	wait_until(is_fresh(hosts[0]) && status_of(hosts[0]).hosts == HOSTS);
	wait_until(__atomic_load_n(&other->fresh, __ATOMIC_RELAXED));
	hammer(WINDOW_NS, other);
	before = admitted_by(other);
	flow = hammer(WINDOW_NS, other);
	must_be_the_refill(&flow, "a host apart by", steps_s[_i]);
	ck_assert_uint_gt(admitted_by(other), before);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	hosts_close();
	munmap(other, sizeof(*other));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_clock");
	TCase *tests = tcase_create("clocks");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, begin, end);
	tcase_add_test(tests, test_redis_steps);
	tcase_add_loop_test(tests, test_hosts_apart, 0, 2);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
