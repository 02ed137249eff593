/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Would ThreadSanitizer report it if weir_close() did not wait for the decisions
 * under way?  This program is linked with a handle.c of its own, in which the
 * wait for a grace period can be left out.  With it the sanitizer is silent;
 * without it a race is reported, and the process ends with status 66.
 *
 * The order of events is the same in both cases, and nobody reads what is no
 * longer mapped: only the reason why that is so is missing in the mutant.
 */
#include "src/rcu.h"

#include <stdbool.h>

static bool skip_grace_period;

static void wait_or_skip(void)
{
	if (!skip_grace_period)
		rcu_wait();
}

#define rcu_wait() wait_or_skip()
#include "src/handle.c"
#undef rcu_wait

#include <fcntl.h>
#include <sched.h>

#include "tests/support.h"

#define SKIPPED 77
#define RACE_REPORTED 66

static bool has_read;

static void *read_once(void *weir)
{
	must(weir_now_ns(weir) > 0);
	/* Relaxed: this must not be what orders the reader before the close. */
	__atomic_store_n(&has_read, true, __ATOMIC_RELAXED);
	return NULL;
}

static void close_behind_reader(void)
{
	struct weir_options options;
	struct weir *weir;
	pthread_t reader;

	support_options(&options);
	weir = support_segment(&options);
	ck_assert_int_eq(pthread_create(&reader, NULL, read_once, weir), 0);
	while (!__atomic_load_n(&has_read, __ATOMIC_RELAXED))
		sched_yield();
	weir_close(weir);
	pthread_join(reader, NULL);
}

START_TEST(test_with_grace_period)
{
	close_behind_reader();
}
END_TEST

START_TEST(test_without_grace_period)
{
	int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

	/* The report is expected; its text would alarm whoever reads the log. */
	ck_assert_int_ge(dup2(nowhere, STDERR_FILENO), 0);
	skip_grace_period = true;
	close_behind_reader();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("threads_mutant");
	TCase *mutant = tcase_create("without the grace period");

	if (!UNDER_THREAD_SANITIZER)
		return SKIPPED;
	support_add(suite, "with the grace period", test_with_grace_period, 10);
	tcase_add_exit_test(mutant, test_without_grace_period, RACE_REPORTED);
	suite_add_tcase(suite, mutant);
	return support_main(suite);
}
