/* SPDX-License-Identifier: Apache-2.0 */
/* Concurrency limits: who may hold, who may release, and what becomes of the
 * holds of the dead. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"

static const char key[] = "the door";

static unsigned asked; /* the kernel, who is alive */

int fcntl(int fd, int command, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, command);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	asked += command == F_OFD_GETLK;
	return (int)syscall(SYS_fcntl, fd, command, argument);
}

static struct weir *open_segment(uint32_t holds)
{
	struct weir_options options;

	support_options(&options);
	options.slots = 16;
	options.holds = holds;
	return support_segment(&options);
}

static struct weir_request request_of(weir_policy_id id, uint64_t cost)
{
	return (struct weir_request){ id, key, sizeof(key), cost, 0 };
}

static bool acquire(struct weir *weir, weir_policy_id id, uint64_t cost, struct weir_hold *hold,
		    struct weir_decision *decision)
{
	struct weir_request request = request_of(id, cost);

	return weir_acquire(weir, &request, hold, decision);
}

static weir_policy_id define(struct weir *weir, const char *limit)
{
	struct weir_policy policy = support_policy("door", limit, NULL);

	return support_define(weir, &policy);
}

static uint64_t held(const struct weir *weir)
{
	struct weir_bucket bucket;

	return support_bucket(weir, "door", 0, key, sizeof(key), 0, &bucket) ? bucket.consumed : 0;
}

/* ---- Holding ----------------------------------------------------------- */

START_TEST(test_up_to_the_limit)
{
	struct weir *weir = open_segment(64);
	weir_policy_id id = define(weir, "5 concurrency");
	struct weir_hold two, three, none;
	struct weir_decision decision;

	ck_assert(acquire(weir, id, 2, &two, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	ck_assert_uint_eq(decision.limit, 5);
	ck_assert_uint_eq(decision.remaining, 3);
	ck_assert(!acquire(weir, id, 4, &none, &decision));
	ck_assert_int_eq(decision.outcome, WEIR_DENIED);
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	ck_assert_uint_eq(decision.remaining, 3);
	ck_assert_uint_eq(none.count, 0);
	ck_assert(acquire(weir, id, 3, &three, &decision));
	ck_assert_uint_eq(decision.remaining, 0);
	ck_assert_uint_eq(held(weir), 5);
	ck_assert(!acquire(weir, id, 1, &none, &decision));

	ck_assert_int_eq(weir_release(weir, &two), WEIR_OK);
	ck_assert_uint_eq(held(weir), 3);
	ck_assert(!acquire(weir, id, 3, &none, &decision));
	ck_assert(acquire(weir, id, 2, &two, &decision));
	ck_assert_int_eq(weir_release(weir, &three), WEIR_OK);
	ck_assert_int_eq(weir_release(weir, &two), WEIR_OK);
	ck_assert_uint_eq(held(weir), 0);
	weir_close(weir);
}
END_TEST

START_TEST(test_release_is_once)
{
	struct weir *weir = open_segment(4);
	weir_policy_id id = define(weir, "9 concurrency");
	struct weir_hold first, forged, later;
	struct weir_decision decision;

	ck_assert(acquire(weir, id, 1, &first, &decision));
	ck_assert_int_eq(weir_release(weir, &first), WEIR_OK);
	ck_assert_int_eq(weir_release(weir, &first), WEIR_EINVAL);

	/* Nor does it release who has the record now. */
	for (int i = 0; i < 4; i++)
		ck_assert(acquire(weir, id, 1, &later, &decision));
	ck_assert_int_eq(weir_release(weir, &first), WEIR_EINVAL);
	ck_assert_uint_eq(held(weir), 4);

	memset(&forged, 0xff, sizeof(forged));
	ck_assert_int_eq(weir_release(weir, &forged), WEIR_EINVAL);
	forged.count = WEIR_LIMITS_MAX;
	ck_assert_int_eq(weir_release(weir, &forged), WEIR_EINVAL);
	ck_assert_uint_eq(held(weir), 4);
	weir_close(weir);
}
END_TEST

START_TEST(test_too_much_and_nothing)
{
	struct weir *weir = open_segment(1);
	weir_policy_id id = define(weir, "2 concurrency");
	struct weir_hold hold, none;
	struct weir_decision decision;

	ck_assert(!acquire(weir, id, 3, &none, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_COST);
	ck_assert_uint_eq(decision.retry_after_ns, WEIR_NEVER);

	/* Cost 0 is a peek: it takes neither units nor the only record. */
	for (int i = 0; i < 2; i++) {
		ck_assert(acquire(weir, id, 0, &none, &decision));
		ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
		ck_assert_uint_eq(none.count, 0);
		if (i == 0)
			ck_assert(acquire(weir, id, 1, &hold, &decision));
	}
	ck_assert_int_eq(weir_release(weir, &hold), WEIR_OK);
	weir_close(weir);
}
END_TEST

/* What is held can be neither spent, refunded nor reset. */
START_TEST(test_other_operations)
{
	struct weir *weir = open_segment(64);
	weir_policy_id id = define(weir, "2 concurrency");
	struct weir_request request = request_of(id, 1);
	struct weir_decision decision;
	struct weir_hold hold;

	ck_assert(!weir_decide(weir, &request, &decision));
	ck_assert_int_eq(decision.outcome, WEIR_UNAVAILABLE);
	ck_assert_int_eq(decision.reason, WEIR_REASON_USE_ACQUIRE);
	ck_assert(!weir_force_take(weir, &request, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_USE_ACQUIRE);

	ck_assert(acquire(weir, id, 2, &hold, &decision));
	ck_assert(weir_refund(weir, &request, &decision));
	ck_assert(weir_reset(weir, &request, &decision));
	ck_assert_uint_eq(held(weir), 2);
	ck_assert(!weir_status(weir, &request, &decision));
	ck_assert_uint_eq(decision.remaining, 0);
	ck_assert_uint_eq(held(weir), 2);
	ck_assert_int_eq(weir_release(weir, &hold), WEIR_OK);
	weir_close(weir);
}
END_TEST

START_TEST(test_lowered_limit)
{
	struct weir *weir = open_segment(64);
	weir_policy_id id = define(weir, "5 concurrency");
	struct weir_hold holds[5], none;
	struct weir_decision decision;

	for (int i = 0; i < 5; i++)
		ck_assert(acquire(weir, id, 1, &holds[i], &decision));
	ck_assert_uint_eq(define(weir, "2 concurrency"), id);
	for (int i = 0; i < 3; i++) {
		ck_assert(!acquire(weir, id, 1, &none, &decision));
		ck_assert_int_eq(weir_release(weir, &holds[i]), WEIR_OK);
	}
	ck_assert_int_eq(weir_release(weir, &holds[3]), WEIR_OK);
	ck_assert(acquire(weir, id, 1, &holds[3], &decision));
	ck_assert_uint_eq(held(weir), 2);
	weir_close(weir);
}
END_TEST

START_TEST(test_shadow_holds_nothing)
{
	struct weir *weir = open_segment(64);
	struct weir_policy policy = support_policy("door", "1 concurrency", NULL);
	struct weir_decision decision;
	struct weir_hold first, second;
	weir_policy_id id;

	policy.shadow = true;
	id = support_define(weir, &policy);
	ck_assert(acquire(weir, id, 1, &first, &decision));
	ck_assert(acquire(weir, id, 1, &second, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_SHADOW);
	ck_assert_uint_eq(support_counter(weir, "shadow_denied", "door"), 1);
	ck_assert_int_eq(weir_release(weir, &second), WEIR_OK);
	ck_assert_uint_eq(held(weir), 1);
	ck_assert_int_eq(weir_release(weir, &first), WEIR_OK);
	weir_close(weir);
}
END_TEST

/* ---- With a token bucket ----------------------------------------------- */

START_TEST(test_all_or_nothing)
{
	struct weir *weir = open_segment(64);
	struct weir_policy policy = support_policy("door", "1 concurrency", "2/365d", NULL);
	weir_policy_id id = support_define(weir, &policy);
	struct weir_decision decision;
	struct weir_hold hold, none;
	struct weir_bucket bucket;

	ck_assert(acquire(weir, id, 1, &hold, &decision));
	ck_assert(!acquire(weir, id, 1, &none, &decision));
	ck_assert_uint_eq(decision.limit_index, 0);
	ck_assert(support_bucket(weir, "door", 1, key, sizeof(key), 0, &bucket));
	ck_assert_uint_eq(bucket.consumed, 1);          /* the denied one spent nothing */
	ck_assert_int_eq(weir_release(weir, &hold), WEIR_OK);

	ck_assert(acquire(weir, id, 1, &hold, &decision));
	ck_assert_int_eq(weir_release(weir, &hold), WEIR_OK);
	ck_assert(!acquire(weir, id, 1, &none, &decision));
	ck_assert_uint_eq(decision.limit_index, 1);
	ck_assert_uint_eq(held(weir), 0);               /* and held nothing */
	weir_close(weir);
}
END_TEST

/* ---- Records ----------------------------------------------------------- */

START_TEST(test_no_record_left)
{
	static const struct {
		enum weir_fail_mode mode;
		enum weir_outcome outcome;
		const char *counter;
	} expected[] = {
		{ WEIR_FAIL_SHARE, WEIR_ALLOWED, "fail_open" },
		{ WEIR_FAIL_OPEN, WEIR_ALLOWED, "fail_open" },
		{ WEIR_FAIL_CLOSED, WEIR_UNAVAILABLE, "unavailable" },
	};
	uint32_t records = _i < 3 ? 2 : 0;
	struct weir *weir = open_segment(records);
	struct weir_policy policy = support_policy("door", "9 concurrency", NULL);
	struct weir_hold holds[2], none;
	struct weir_decision decision;
	weir_policy_id id;

	policy.fail_mode = expected[_i % 3].mode;
	id = support_define(weir, &policy);
	for (uint32_t i = 0; i < records; i++)
		ck_assert(acquire(weir, id, 1, &holds[i], &decision));
	ck_assert(acquire(weir, id, 1, &none, &decision) ==
		  (expected[_i % 3].outcome == WEIR_ALLOWED));
	ck_assert_int_eq(decision.outcome, expected[_i % 3].outcome);
	ck_assert_int_eq(decision.reason, WEIR_REASON_HOLDS_FULL);
	ck_assert_uint_eq(none.count, 0);
	ck_assert_int_eq(weir_release(weir, &none), WEIR_OK);
	ck_assert_uint_eq(support_counter(weir, "holds_full", NULL), 1);
	ck_assert_uint_eq(support_counter(weir, expected[_i % 3].counter, "door"), 1);
	ck_assert_uint_eq(held(weir), records);
	for (uint32_t i = 0; i < records; i++)
		ck_assert_int_eq(weir_release(weir, &holds[i]), WEIR_OK);
	weir_close(weir);
}
END_TEST

/* 16 slots, and a flood of keys that are as heavy as can be. */
START_TEST(test_held_bucket_is_not_evicted)
{
	struct weir *weir = open_segment(64);
	weir_policy_id id = define(weir, "3 concurrency"), heavy;
	struct weir_policy policy = support_policy("heavy", "100/365d", NULL);
	struct weir_decision decision;
	struct weir_hold hold;

	heavy = support_define(weir, &policy);
	ck_assert(acquire(weir, id, 2, &hold, &decision));
	for (uint64_t other = 0; other < 1000; other++)
		weir_allow_n(weir, heavy, &other, sizeof(other), 1 + other % 100, NULL);
	ck_assert_uint_gt(support_counter(weir, "evicted_live", NULL), 0);
	ck_assert_uint_eq(held(weir), 2);
	ck_assert_int_eq(weir_release(weir, &hold), WEIR_OK);

	/* Released it is worth nothing. */
	for (uint64_t other = 1000; other < 2000; other++)
		weir_allow_n(weir, heavy, &other, sizeof(other), 100, NULL);
	ck_assert_uint_eq(held(weir), 0);
	ck_assert(acquire(weir, id, 3, &hold, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	weir_close(weir);
}
END_TEST

/* ---- Processes --------------------------------------------------------- */

START_TEST(test_child_cannot_release)
{
	struct weir *weir = open_segment(64);
	weir_policy_id id = define(weir, "1 concurrency");
	struct weir_decision decision;
	struct weir_hold hold;
	pid_t child;

	ck_assert(acquire(weir, id, 1, &hold, &decision));
	child = support_fork();
	if (child == 0) {
		struct weir_hold own;

		must(weir_release(weir, &hold) == WEIR_EINVAL);
		/* Its parent lives, and so does the hold. */
		must(!acquire(weir, id, 1, &own, &decision));
		_exit(EXIT_SUCCESS);
	}
	support_join(child);
	ck_assert_uint_eq(held(weir), 1);
	ck_assert_int_eq(weir_release(weir, &hold), WEIR_OK);
	weir_close(weir);
}
END_TEST

enum end { EXITS, IS_KILLED, CLOSES };

/* A child that holds all units, and how it ends. */
static void hold_and_end(struct weir *weir, weir_policy_id id, enum end end, const int ready[2])
{
	struct weir_decision decision;
	struct weir_hold hold;

	must(acquire(weir, id, 3, &hold, &decision) && decision.reason == WEIR_REASON_LIMIT);
	if (end == EXITS)
		_exit(EXIT_SUCCESS);
	if (end == CLOSES)
		weir_close(weir);
	must(write(ready[1], "", 1) == 1);
	for (;;)
		pause();
}

START_TEST(test_dead_release_what_they_held)
{
	struct weir *weir = open_segment(2);
	weir_policy_id id = define(weir, "3 concurrency");
	struct weir_decision decision;
	struct weir_hold hold;
	int ready[2];
	pid_t child;
	char byte;

	ck_assert_int_eq(pipe(ready), 0);
	for (int round = 0; round < 10; round++) {
		child = support_fork();
		if (child == 0)
			hold_and_end(weir, id, (enum end)_i, ready);
		if (_i != EXITS)
			ck_assert_int_eq(read(ready[0], &byte, 1), 1);
		if (_i == IS_KILLED)
			ck_assert(!acquire(weir, id, 1, &hold, &decision));
		if (_i != CLOSES) {
			if (_i == IS_KILLED)
				kill(child, SIGKILL);
			ck_assert_int_eq(waitpid(child, NULL, 0), child);
		}
		ck_assert(acquire(weir, id, 3, &hold, &decision));
		ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
		ck_assert_int_eq(weir_release(weir, &hold), WEIR_OK);
		if (_i == CLOSES) {
			kill(child, SIGKILL);
			ck_assert_int_eq(waitpid(child, NULL, 0), child);
		}
	}
	ck_assert_uint_eq(support_counter(weir, "holds_reaped", NULL), 10);
	weir_close(weir);
}
END_TEST

/* A lock belongs to the open file, which a forked child shares: the child of a
 * dead holder must not keep it alive. */
START_TEST(test_child_does_not_keep_a_dead_holder_alive)
{
	struct weir *weir = open_segment(2);
	weir_policy_id id = define(weir, "1 concurrency");
	struct weir_decision decision;
	struct weir_hold hold;
	int ready[2], lives[2];
	pid_t holder;
	char byte;

	ck_assert_int_eq(pipe(ready), 0);
	ck_assert_int_eq(pipe(lives), 0);
	holder = support_fork();
	if (holder == 0) {
		must(acquire(weir, id, 1, &hold, &decision));
		if (fork() == 0) {
			close(lives[1]);
			must(write(ready[1], "", 1) == 1);
			/* Until the test has ended, one way or the other. */
			_exit(read(lives[0], &byte, 1) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
		}
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	ck_assert(!acquire(weir, id, 1, &hold, &decision));
	kill(holder, SIGKILL);
	ck_assert_int_eq(waitpid(holder, NULL, 0), holder);
	ck_assert(acquire(weir, id, 1, &hold, &decision));
	ck_assert_int_eq(weir_release(weir, &hold), WEIR_OK);
	close(lives[1]);
	weir_close(weir);
}
END_TEST

/* Hold one more, each time that it is told. */
static void hold_when_told(struct weir *weir, weir_policy_id id, int told, int done)
{
	struct weir_hold hold;
	char byte;

	while (read(told, &byte, 1) == 1) {
		must(acquire(weir, id, 1, &hold, NULL));
		must(write(done, "", 1) == 1);
	}
	for (;;)
		pause();
}

/* However their records alternate, each holder is asked for once. */
START_TEST(test_each_holder_is_asked_for_once)
{
	enum { HOLDERS = 3, EACH = 4 };
	struct weir *weir = open_segment(64);
	weir_policy_id id = define(weir, "12 concurrency");
	struct weir_decision decision;
	struct weir_hold hold;
	int tell[HOLDERS][2], done[2];
	pid_t holders[HOLDERS];
	char byte;

	ck_assert_int_eq(pipe(done), 0);
	for (unsigned i = 0; i < HOLDERS; i++) {
		ck_assert_int_eq(pipe(tell[i]), 0);
		holders[i] = support_fork();
		if (holders[i] == 0)
			hold_when_told(weir, id, tell[i][0], done[1]);
	}
	for (unsigned i = 0; i < HOLDERS * EACH; i++) {
		ck_assert_int_eq(write(tell[i % HOLDERS][1], "", 1), 1);
		ck_assert_int_eq(read(done[0], &byte, 1), 1);
	}
	asked = 0;
	ck_assert(!acquire(weir, id, 1, &hold, &decision));
	ck_assert_uint_eq(asked, HOLDERS);

	/* One is dead; what it held is free, and it is asked for once, too. */
	kill(holders[1], SIGKILL);
	ck_assert_int_eq(waitpid(holders[1], NULL, 0), holders[1]);
	asked = 0;
	ck_assert(acquire(weir, id, EACH, &hold, &decision));
	ck_assert_uint_eq(asked, HOLDERS);
	ck_assert_uint_eq(support_counter(weir, "holds_reaped", NULL), EACH);
	kill(holders[0], SIGKILL);
	kill(holders[2], SIGKILL);
	weir_close(weir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("holds");
	TCase *all = tcase_create("holds");

	tcase_set_timeout(all, 20);
	tcase_add_test(all, test_up_to_the_limit);
	tcase_add_test(all, test_release_is_once);
	tcase_add_test(all, test_too_much_and_nothing);
	tcase_add_test(all, test_other_operations);
	tcase_add_test(all, test_lowered_limit);
	tcase_add_test(all, test_shadow_holds_nothing);
	tcase_add_test(all, test_all_or_nothing);
	tcase_add_loop_test(all, test_no_record_left, 0, 6);
	tcase_add_test(all, test_held_bucket_is_not_evicted);
	tcase_add_test(all, test_child_cannot_release);
	tcase_add_loop_test(all, test_dead_release_what_they_held, 0, 3);
	tcase_add_test(all, test_child_does_not_keep_a_dead_holder_alive);
	tcase_add_test(all, test_each_holder_is_asked_for_once);
	suite_add_tcase(suite, all);
	return support_main(suite);
}
