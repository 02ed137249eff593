/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library is loaded by a program that is not linked to it, as by a module of
 * a web server or of a scripting language; used, from threads and across fork();
 * and unloaded while threads that used it live on.
 */
#include <check.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "weir.h"
#include "tests/suite.h"

#define KEY "key"

/* What is used of it. */
static struct {
	void *handle;
	__typeof__(&weir_options_init) options_init;
	__typeof__(&weir_create) create;
	__typeof__(&weir_open) open;
	__typeof__(&weir_close) close;
	__typeof__(&weir_remove) remove;
	__typeof__(&weir_info) info;
	__typeof__(&weir_limit_parse) limit_parse;
	__typeof__(&weir_policy_set) policy_set;
	__typeof__(&weir_policy_find) policy_find;
	__typeof__(&weir_allow) allow;
	__typeof__(&weir_version) version;
} lib;

static const char *path; /* of the shared object */
static char folder[] = "/dev/shm/weir-dlopen-XXXXXX";
static char name[64];
static struct weir *weir;

static void *symbol(const char *function)
{
	void *address = dlsym(lib.handle, function);

	ck_assert_msg(address, "%s", dlerror());
	return address;
}

static void load(void)
{
	lib.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	ck_assert_msg(lib.handle, "%s", dlerror());
	lib.options_init = symbol("weir_options_init");
	lib.create = symbol("weir_create");
	lib.open = symbol("weir_open");
	lib.close = symbol("weir_close");
	lib.remove = symbol("weir_remove");
	lib.info = symbol("weir_info");
	lib.limit_parse = symbol("weir_limit_parse");
	lib.policy_set = symbol("weir_policy_set");
	lib.policy_find = symbol("weir_policy_find");
	lib.allow = symbol("weir_allow");
	lib.version = symbol("weir_version");
}

static void setup(void)
{
	struct weir_policy policy = { .name = "p", .limit_count = 1 };
	struct weir_options options;
	struct weir_error error;

	load();
	snprintf(name, sizeof(name), "%s/%d", folder, (int)getpid());
	lib.options_init(&options);
	options.slots = 64;
	ck_assert_msg(lib.create(name, &options, &error) == 0, "%s", error.message);
	ck_assert_msg(lib.open(name, &weir, &error) == 0, "%s", error.message);
	ck_assert_msg(lib.remove(name, &error) == 0, "%s", error.message);
	ck_assert_int_eq(lib.limit_parse("10/1d", &policy.limits[0], &error), 0);
	ck_assert_msg(lib.policy_set(weir, &policy, 1, &error) == 0, "%s", error.message);
}

static bool take(void)
{
	return lib.allow(weir, lib.policy_find(weir, "p"), KEY, strlen(KEY), NULL);
}

static void take_the_rest(unsigned wanted)
{
	unsigned taken = 0;

	while (take())
		taken++;
	ck_assert_uint_eq(taken, wanted);
}

START_TEST(loaded_and_unloaded)
{
	ck_assert_str_eq(lib.version(), WEIR_VERSION);
	ck_assert_ptr_null(dlsym(RTLD_DEFAULT, "weir_allow"));
	take_the_rest(10);
	lib.close(weir);
	ck_assert_int_eq(dlclose(lib.handle), 0);
}
END_TEST

START_TEST(loaded_again)
{
	take_the_rest(10);
	lib.close(weir);
	ck_assert_int_eq(dlclose(lib.handle), 0);
	setup();
	take_the_rest(10);
	lib.close(weir);
	ck_assert_int_eq(dlclose(lib.handle), 0);
}
END_TEST

START_TEST(used_by_a_child)
{
	struct weir_info info;
	pid_t child;
	int status;

	ck_assert(take());
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		lib.info(weir, &info);
		if (info.participants != 2 || !take())
			_exit(1);
		lib.close(weir);
		_exit(dlclose(lib.handle));
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	take_the_rest(8);
	lib.close(weir);
	ck_assert_int_eq(dlclose(lib.handle), 0);
}
END_TEST

/* Uses the library, and ends when it is gone. */
static void *guest(void *context)
{
	pthread_barrier_t *barrier = context;
	bool taken = take();

	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	return taken ? NULL : barrier;
}

START_TEST(unloaded_before_its_threads_end)
{
	pthread_t threads[4];
	pthread_barrier_t barrier;
	void *failed;
	pid_t child;
	int status;

	ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, 5), 0);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, guest, &barrier), 0);
	pthread_barrier_wait(&barrier);
	take_the_rest(6);
	lib.close(weir);
	ck_assert_int_eq(dlclose(lib.handle), 0);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
		ck_assert_ptr_null(failed);
	}
	/* Its fork handlers are called yet. */
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("dlopen");
	TCase *tcase = tcase_create("dlopen");
	int result;

	path = getenv("WEIR_LIBRARY");
	if (!path || !mkdtemp(folder)) {
		fputs("set WEIR_LIBRARY to the path of libweir.so; /dev/shm must be writable\n",
		      stderr);
		return EXIT_FAILURE;
	}
	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_set_timeout(tcase, 20);
	tcase_add_test(tcase, loaded_and_unloaded);
	tcase_add_test(tcase, loaded_again);
	tcase_add_test(tcase, used_by_a_child);
	tcase_add_test(tcase, unloaded_before_its_threads_end);
	suite_add_tcase(suite, tcase);
	result = suite_run(suite);
	rmdir(folder);
	return result;
}
