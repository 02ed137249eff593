/* SPDX-License-Identifier: Apache-2.0 */
/* What control functions do not wait for: a policy writer that waits for another
 * process keeps nobody of its own process from opening, closing and forking; and
 * a host that calls liburcu's fork handlers is not kept from forking by ours. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/layout.h"
#include "src/handle.h"
#include "tests/support.h"

static struct weir *weir;
static char name[128];
static sem_t waiting, go_on;
static bool held_up;

/* Where a policy writer waits for another process: until it is let go on. */
int nanosleep(const struct timespec *duration, struct timespec *rest)
{
	if (!__atomic_load_n(&held_up, __ATOMIC_SEQ_CST))
		return clock_nanosleep(CLOCK_MONOTONIC, 0, duration, rest);
	sem_post(&waiting);
	while (sem_wait(&go_on) != 0 && errno == EINTR)
		;
	return 0;
}

/* ---- A writer that waits ----------------------------------------------- */

static void set_control_lock(int fd, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = LOCK_CONTROL,
			      .l_len = 1 };

	must(fcntl(fd, F_OFD_SETLK, &lock) == 0);
}

static void *set_policy(void *context)
{
	struct weir_policy policy = support_policy("thread", "1/1s", NULL);

	(void)context;
	must(weir_policy_set(weir, &policy, 1, NULL) == 0);
	return NULL;
}

static void open_and_close(void)
{
	struct weir *own;

	must(weir_open(name, &own, NULL) == 0);
	weir_close(own);
}

/* The writer's mutex was held when the child was made, by nobody of the child's. */
static void child_run(void)
{
	struct weir_policy policy = support_policy("child", "1/1s", NULL);

	open_and_close();
	__atomic_store_n(&held_up, false, __ATOMIC_SEQ_CST);
	must(weir_policy_set(weir, &policy, 1, NULL) == 0);
	_exit(0);
}

START_TEST(a_waiting_writer_is_in_nobodys_way)
{
	struct weir_options options;
	pthread_t thread;
	pid_t child;
	int fd;

	support_options(&options);
	weir = support_named(&options, "control", name, sizeof(name));
	ck_assert_int_eq(sem_init(&waiting, 0, 0), 0);
	ck_assert_int_eq(sem_init(&go_on, 0, 0), 0);
	fd = open(weir->segment->path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	set_control_lock(fd, F_WRLCK);
	held_up = true;
	ck_assert_int_eq(pthread_create(&thread, NULL, set_policy, NULL), 0);
	ck_assert_int_eq(sem_wait(&waiting), 0);

	open_and_close();
	child = support_fork();
	if (child == 0)
		child_run();
	set_control_lock(fd, F_UNLCK);
	support_join(child);

	__atomic_store_n(&held_up, false, __ATOMIC_SEQ_CST);
	ck_assert_int_eq(sem_post(&go_on), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert(weir_policy_find(weir, "thread") != WEIR_NO_POLICY);
	ck_assert(weir_policy_find(weir, "child") != WEIR_NO_POLICY);
	close(fd);
	weir_close(weir);
	ck_assert_int_eq(weir_remove(name, NULL), 0);
}
END_TEST

/* ---- A host that uses liburcu, too ------------------------------------- */

START_TEST(host_calls_liburcus_handlers)
{
	struct weir_policy policy = support_policy("p", "3/1d", NULL);
	struct weir_options options;
	weir_policy_id id;
	pid_t child;

	ck_assert_int_eq(pthread_atfork(urcu_bp_before_fork, urcu_bp_after_fork_parent,
					urcu_bp_after_fork_child),
			 0);
	weir_skip_fork_handlers();
	support_options(&options);
	weir = support_named(&options, "host", name, sizeof(name));
	id = support_define(weir, &policy);
	ck_assert(weir_allow(weir, id, "k", 1, NULL));
	child = support_fork();
	if (child == 0) {
		struct weir_info info;

		must(weir_allow(weir, id, "k", 1, NULL));
		weir_info(weir, &info);
		must(info.participants == 2);
		open_and_close();
		_exit(0);
	}
	support_join(child);
	ck_assert(weir_allow(weir, id, "k", 1, NULL));
	ck_assert(!weir_allow(weir, id, "k", 1, NULL));
	weir_close(weir);
	ck_assert_int_eq(weir_remove(name, NULL), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("control");

	support_add(suite, "writer", a_waiting_writer_is_in_nobodys_way, 10);
	support_add(suite, "host", host_calls_liburcus_handlers, 10);
	return support_main(suite);
}
