/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork() in both directions: a child uses its parent's handle at once, with
 * descriptors and a participant of its own, and either may outlive the other.
 * And threads that come and go leave nothing behind.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/handle.h"
#include "tests/support.h"

#define KEY	 "key"
#define DECIDERS 3

static struct weir *weir;
static char name[128];

/* A segment that has a name, so that it can be opened anew. */
static void setup(void)
{
	struct weir_policy many = support_policy("many", "1000000/1d", NULL);
	struct weir_policy one = support_policy("one", "1 concurrency", NULL);
	struct weir_options options;

	support_options(&options);
	weir = support_named(&options, "fork", name, sizeof(name));
	support_define(weir, &many);
	support_define(weir, &one);
}

static void teardown(void)
{
	weir_close(weir);
	weir_remove(name, NULL);
}

static bool take(struct weir *handle)
{
	return weir_allow(handle, weir_policy_find(handle, "many"), KEY, strlen(KEY), NULL);
}

static uint64_t taken(void)
{
	struct weir_bucket bucket;

	return support_bucket(weir, "many", 0, KEY, strlen(KEY), 0, &bucket) ? bucket.consumed : 0;
}

static bool hold_one(struct weir *handle, struct weir_hold *hold)
{
	struct weir_request request = {
		.policy = weir_policy_find(handle, "one"),
		.key = KEY,
		.key_length = strlen(KEY),
		.cost = 1,
	};

	return weir_acquire(handle, &request, hold, NULL);
}

static uint32_t participants(struct weir *handle)
{
	struct weir_info info;

	weir_info(handle, &info);
	return info.participants;
}

/* Both ways between two processes: one tells, the other waits. */
struct line {
	int ends[2];
};

static void line_open(struct line *line)
{
	ck_assert_int_eq(pipe(line->ends), 0);
}

static void tell(const struct line *line)
{
	must(write(line->ends[1], "!", 1) == 1);
}

static void hear(const struct line *line)
{
	char byte;

	must(read(line->ends[0], &byte, 1) == 1);
}

/* ---- One process and its child ----------------------------------------- */

START_TEST(child_uses_its_parents_handle)
{
	struct line up, down;
	pid_t child;

	line_open(&up);
	line_open(&down);
	ck_assert(take(weir));
	ck_assert_uint_eq(participants(weir), 1);
	child = support_fork();
	if (child == 0) {
		must(take(weir));
		must(participants(weir) == 2);
		tell(&up);
		hear(&down);
		/* It closes what it inherited, as any handle. */
		weir_close(weir);
		_exit(0);
	}
	hear(&up);
	ck_assert_uint_eq(participants(weir), 2);
	ck_assert_uint_eq(taken(), 2);
	tell(&down);
	support_join(child);
	ck_assert_uint_eq(participants(weir), 1);
	ck_assert(take(weir));
	ck_assert_uint_eq(taken(), 3);
}
END_TEST

START_TEST(child_opens_and_closes_for_itself)
{
	pid_t child = support_fork();

	if (child == 0) {
		struct weir *own;

		weir_close(weir);
		must(weir_open(name, &own, NULL) == 0);
		must(take(own));
		must(participants(own) == 2);
		weir_close(own);
		_exit(0);
	}
	support_join(child);
	ck_assert(take(weir));
	ck_assert_uint_eq(taken(), 2);
	ck_assert_uint_eq(participants(weir), 1);
}
END_TEST

START_TEST(child_has_a_descriptor_of_its_own)
{
	int inherited = weir->segment->fd;
	uint64_t participant = weir->segment->participant_id;
	pid_t child;

	ck_assert(fcntl(inherited, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq(lseek(inherited, 0, SEEK_SET), 0);
	child = support_fork();
	if (child == 0) {
		must(weir->segment->fd >= 0);
		must(fcntl(weir->segment->fd, F_GETFD) & FD_CLOEXEC);
		must(weir->segment->participant_id != 0);
		must(weir->segment->participant_id != participant);
		/* An open file that was shared would share its offset. */
		must(lseek(weir->segment->fd, 4096, SEEK_SET) == 4096);
		_exit(0);
	}
	support_join(child);
	ck_assert_int_eq(lseek(inherited, 0, SEEK_CUR), 0);
}
END_TEST

START_TEST(parent_outlives_its_child)
{
	struct weir_hold hold;
	pid_t child = support_fork();

	if (child == 0) {
		must(hold_one(weir, &hold));
		_exit(0);
	}
	support_join(child);
	ck_assert(hold_one(weir, &hold));
	ck_assert_int_eq(weir_release(weir, &hold), 0);
}
END_TEST

/* The parent holds, forks, and is killed; a child that kept the parent's
 * descriptor would keep its hold alive. */
static void parent_run(const struct line *up, const struct line *down)
{
	struct weir_hold hold;
	pid_t child;

	must(hold_one(weir, &hold));
	child = fork();
	must(child >= 0);
	if (child != 0) {
		pause();
		_exit(1);
	}
	must(!hold_one(weir, &hold));
	tell(up);
	hear(down); /* the parent is dead now */
	must(take(weir));
	must(hold_one(weir, &hold));
	must(weir_release(weir, &hold) == 0);
	tell(up);
	hear(down);
	_exit(0);
}

START_TEST(child_outlives_its_parent)
{
	struct line up, down;
	struct weir_hold hold;
	pid_t parent;
	int status;

	line_open(&up);
	line_open(&down);
	parent = fork();
	ck_assert_int_ge(parent, 0);
	if (parent == 0)
		parent_run(&up, &down);
	hear(&up);
	ck_assert_uint_eq(participants(weir), 3);
	ck_assert(!hold_one(weir, &hold));
	ck_assert_int_eq(kill(parent, SIGKILL), 0);
	ck_assert_int_eq(waitpid(parent, &status, 0), parent);
	ck_assert_uint_eq(participants(weir), 2);
	tell(&down);
	hear(&up);
	ck_assert(hold_one(weir, &hold));
	ck_assert_int_eq(weir_release(weir, &hold), 0);
	ck_assert_uint_eq(taken(), 1);
	tell(&down);
}
END_TEST

/* A hold is its process's: a child can neither release its parent's nor lose it. */
START_TEST(child_does_not_release_its_parents_hold)
{
	struct weir_hold hold, other;
	pid_t child;

	ck_assert(hold_one(weir, &hold));
	child = support_fork();
	if (child == 0) {
		must(weir_release(weir, &hold) == WEIR_EINVAL);
		weir_close(weir);
		_exit(0);
	}
	support_join(child);
	ck_assert(!hold_one(weir, &other));
	ck_assert_int_eq(weir_release(weir, &hold), 0);
	ck_assert(hold_one(weir, &other));
	ck_assert_int_eq(weir_release(weir, &other), 0);
}
END_TEST

START_TEST(generations_of_children)
{
	const int depth = 5;
	int level = 0;
	pid_t child;

	while ((child = fork()) == 0 && level < depth) {
		must(take(weir));
		must(participants(weir) == (uint32_t)(2 + level));
		level++;
	}
	/* The last one was one fork too many. */
	if (child > 0) {
		int status;

		must(waitpid(child, &status, 0) == child);
		must(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	if (level > 0)
		_exit(0);
	ck_assert_uint_eq(taken(), (unsigned)depth);
	ck_assert_uint_eq(participants(weir), 1);
}
END_TEST

/* ---- Forking among threads --------------------------------------------- */

struct crowd {
	bool stop;
	uint64_t taken;
};

static void *decide_on(void *context)
{
	struct crowd *crowd = context;

	while (!__atomic_load_n(&crowd->stop, __ATOMIC_RELAXED)) {
		must(take(weir));
		__atomic_fetch_add(&crowd->taken, 1, __ATOMIC_RELAXED);
		sched_yield();
	}
	return NULL;
}

/* Holds the locks that fork() must not copy in the middle. */
static void *open_and_close(void *context)
{
	struct crowd *crowd = context;
	struct weir_policy policy = support_policy("other", "1/1s", NULL);
	struct weir *own;

	while (!__atomic_load_n(&crowd->stop, __ATOMIC_RELAXED)) {
		must(weir_open(name, &own, NULL) == 0);
		must(weir_policy_set(own, &policy, 1, NULL) == 0);
		weir_close(own);
	}
	return NULL;
}

static void child_run(struct crowd *crowd)
{
	struct weir_policy policy = support_policy("another", "1/1s", NULL);
	struct weir *own;

	for (int i = 0; i < 10; i++) {
		must(take(weir));
		__atomic_fetch_add(&crowd->taken, 1, __ATOMIC_RELAXED);
	}
	must(weir_open(name, &own, NULL) == 0);
	must(weir_policy_set(own, &policy, 1, NULL) == 0);
	weir_close(own);
	weir_close(weir);
	_exit(0);
}

START_TEST(forked_while_threads_decide)
{
	struct crowd *crowd = support_shared(sizeof(*crowd));
	pthread_t threads[DECIDERS + 1];
	uint64_t forks = support_amount(40, 4000);

	for (int i = 0; i < DECIDERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, decide_on, crowd), 0);
	ck_assert_int_eq(pthread_create(&threads[DECIDERS], NULL, open_and_close, crowd), 0);
	for (uint64_t i = 0; i < forks; i++) {
		pid_t child = support_fork();

		if (child == 0)
			child_run(crowd);
		support_join(child);
	}
	__atomic_store_n(&crowd->stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i <= DECIDERS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_uint_eq(taken(), crowd->taken);
	ck_assert_uint_eq(participants(weir), 1);
}
END_TEST

/* ---- Threads that come and go ------------------------------------------ */

static void *visit(void *context)
{
	struct weir *own;

	(void)context;
	must(weir_open(name, &own, NULL) == 0);
	must(take(own));
	weir_close(own);
	return NULL;
}

static void visits(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		pthread_t thread;

		ck_assert_int_eq(pthread_create(&thread, NULL, visit, NULL), 0);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
	}
}

static unsigned descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	ck_assert_ptr_nonnull(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

/* Mappings of this process, and kilobytes in them. */
static uint64_t mapped_kilobytes(unsigned *mappings)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	uint64_t kilobytes = 0;
	char line[512];

	ck_assert_ptr_nonnull(maps);
	*mappings = 0;
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx", &from, &to) == 2) {
			kilobytes += (to - from) / 1024;
			++*mappings;
		}
	}
	fclose(maps);
	return kilobytes;
}

START_TEST(ten_thousand_threads_leave_nothing)
{
	unsigned descriptors_before, mappings_before, mappings;
	uint64_t before, after;

	/* What the first ones leave stays for the next ones. */
	visits(100);
	descriptors_before = descriptors();
	before = mapped_kilobytes(&mappings_before);
	visits(10000);
	after = mapped_kilobytes(&mappings);
	ck_assert_uint_eq(descriptors(), descriptors_before);
	ck_assert_uint_eq(participants(weir), 1);
	ck_assert_uint_eq(taken(), 10100);
#ifndef __SANITIZE_ADDRESS__
	/* A reader of liburcu's takes 128 bytes, a leaked one would show. */
	ck_assert_uint_le(mappings, mappings_before + 2);
	ck_assert_uint_le(after, before + 256);
#else
	(void)before, (void)after;
#endif
}
END_TEST

START_TEST(the_last_handle_unmaps)
{
	unsigned descriptors_before, mappings_before, mappings;

	weir_close(weir);
	weir = NULL;
	visits(10);
	descriptors_before = descriptors();
	mapped_kilobytes(&mappings_before);
	visits(300);
	mapped_kilobytes(&mappings);
	ck_assert_uint_eq(descriptors(), descriptors_before);
	ck_assert_uint_le(mappings, mappings_before + 2);
	ck_assert_int_eq(weir_open(name, &weir, NULL), 0);
	ck_assert_uint_eq(participants(weir), 1);
	ck_assert_uint_eq(taken(), 310);
}
END_TEST

/* ---- Main -------------------------------------------------------------- */

int main(void)
{
	Suite *suite = suite_create("fork");
	TCase *tcase = tcase_create("fork");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 30);
	tcase_add_test(tcase, child_uses_its_parents_handle);
	tcase_add_test(tcase, child_opens_and_closes_for_itself);
	tcase_add_test(tcase, child_has_a_descriptor_of_its_own);
	tcase_add_test(tcase, parent_outlives_its_child);
	tcase_add_test(tcase, child_outlives_its_parent);
	tcase_add_test(tcase, child_does_not_release_its_parents_hold);
	tcase_add_test(tcase, generations_of_children);
	tcase_add_test(tcase, forked_while_threads_decide);
	tcase_add_test(tcase, ten_thousand_threads_leave_nothing);
	tcase_add_test(tcase, the_last_handle_unmaps);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
