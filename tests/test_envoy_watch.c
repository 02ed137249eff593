/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of configuration files, and what is noticed of its changes. */
#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve/envoy/watch.h"
#include "tests/envoy_double.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static struct engine_double fake;
static struct envoy_service *service;
static struct watch *watch;
static struct watch_options options;
static char root[64];

static void start(void)
{
	struct envoy_options defaults;
	struct weir_error error;

	strcpy(root, "/tmp/weir-envoy-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	ck_assert_int_eq(chdir(root), 0);
	double_init(&fake);
	envoy_options_init(&defaults);
	ck_assert_int_eq(envoy_service_new(&defaults, &fake.engine, &service, &error), WEIR_OK);
	options = (struct watch_options){
		.root = "current",
		.subdirectory = "sub",
		.app_directory = "config",
		.name_by_app = true,
	};
}

static void end(void)
{
	char command[128];

	watch_free(watch);
	envoy_service_free(service);
	snprintf(command, sizeof(command), "rm -rf %s", root);
	ck_assert_int_eq(chdir("/") | system(command), 0);
}

static void run(const char *command)
{
	ck_assert_msg(system(command) == 0, "%s", command);
}

static void start_watch(void)
{
	struct weir_error error;

	ck_assert_msg(watch_new(&options, &watch, &error) == WEIR_OK, "%s", error.message);
}

static void must_load(bool changed)
{
	struct weir_error error;
	bool loaded;

	ck_assert_msg(watch_load(watch, service, &loaded, &error) == WEIR_OK, "%s",
		      error.message);
	ck_assert_int_eq(loaded, changed);
}

/* Wait until something is told to have changed; then, until it is quiet. */
static void must_notice(void)
{
	struct pollfd poll_fd = { .fd = watch_fd(watch), .events = POLLIN };

	ck_assert_int_eq(poll(&poll_fd, 1, 10000), 1);
	ck_assert(watch_changed(watch));
	ck_assert(!watch_changed(watch));
}

static size_t domains(void)
{
	size_t count;

	envoy_service_loaded(double_reader(service), &count);
	return count;
}

START_TEST(files)
{
	struct weir_error error;

	run("mkdir -p current/sub/config/deeper current/sub/other && "
	    "echo 'domain: a' >current/sub/config/a.yaml && "
	    "echo 'domain: b' >current/sub/config/deeper/b.yml && "
	    "echo 'domain: c' >current/sub/config/.c.yaml && "
	    "echo nonsense >current/sub/other/d.yaml && "
	    "mkfifo current/sub/config/pipe && ln -s nowhere current/sub/config/dangling && "
	    "ln -s ../other current/sub/config/link && mkdir current/sub/config/empty");
	start_watch();
	must_load(true);
	ck_assert_uint_eq(domains(), 3);
	must_load(false);
	watch_free(watch);

	options.ignore_dot_files = true;
	start_watch();
	must_load(true);
	ck_assert_uint_eq(domains(), 2);

	run("echo 'domain: [' >current/sub/config/deeper/b.yml");
	must_notice();
	ck_assert_int_eq(watch_load(watch, service, NULL, &error), WEIR_EINVAL);
	ck_assert_msg(strncmp(error.message, "config.deeper.b.yml: ", 21) == 0, "%s",
		      error.message);
	ck_assert_uint_eq(domains(), 2);
	must_load(false);       /* told once */
	watch_free(watch);

	options.name_by_app = false;
	start_watch();
	ck_assert_int_eq(watch_load(watch, service, NULL, &error), WEIR_EINVAL);
	ck_assert_msg(strncmp(error.message, "deeper.b.yml: ", 14) == 0, "%s", error.message);
	ck_assert_uint_eq(envoy_service_counter(service, COUNTER_CONFIG_LOAD_ERROR), 2);
}
END_TEST

/* Each is done to a directory with one file, and makes it two domains. */
static const char *const changes[] = {
	"echo 'domain: b' >current/sub/config/b.yaml",
	"echo 'domain: b' >new && mv new current/sub/config/b.yaml",
	"mkdir current/sub/config/more && echo 'domain: b' >current/sub/config/more/b.yaml",
	"mkdir new && cp -r current/sub new && echo 'domain: b' >new/sub/config/b.yaml && "
	"mv current old && mv new current",
	"cp -r current/sub/config new && echo 'domain: b' >new/b.yaml && "
	"rm -r current/sub/config && mv new current/sub/config",
};

START_TEST(change)
{
	run("mkdir -p current/sub/config && echo 'domain: a' >current/sub/config/a.yaml");
	start_watch();
	must_load(true);
	watch_changed(watch);
	run(changes[_i]);
	must_notice();
	must_load(true);
	ck_assert_uint_eq(domains(), 2);
	/* And it is watched where it is now. */
	watch_changed(watch);
	run("rm current/sub/config/a.yaml");
	must_notice();
	must_load(true);
	ck_assert_uint_eq(domains(), 1);
}
END_TEST

/* A symlink that a deployment renames into place. */
START_TEST(current_is_a_symlink)
{
	run("mkdir -p v1/sub/config v2/sub/config && echo 'domain: a' >v1/sub/config/a.yaml && "
	    "cp v1/sub/config/a.yaml v2/sub/config && echo 'domain: b' >v2/sub/config/b.yaml && "
	    "ln -s v1 current");
	start_watch();
	must_load(true);
	watch_changed(watch);
	run("ln -s v2 new && mv -T new current");
	must_notice();
	must_load(true);
	ck_assert_uint_eq(domains(), 2);
	run("echo 'domain: c' >v2/sub/config/c.yaml");
	must_notice();
	must_load(true);
	ck_assert_uint_eq(domains(), 3);
}
END_TEST

/* A volume of Kubernetes: files are symlinks to ..data/FILE, and ..data is one to a
 * directory, which is replaced as a whole. */
START_TEST(kubernetes)
{
	run("mkdir -p current/sub/config/..1 && cd current/sub/config && "
	    "echo 'domain: a' >..1/a.yaml && ln -s ..1 ..data && ln -s ..data/a.yaml a.yaml");
	start_watch();
	must_load(true);
	ck_assert_uint_eq(domains(), 1);
	watch_changed(watch);
	run("cd current/sub/config && mkdir ..2 && echo 'domain: b' >..2/a.yaml && "
	    "ln -s ..2 ..data_tmp && mv -T ..data_tmp ..data && rm -r ..1");
	must_notice();
	must_load(true);
	ck_assert_uint_eq(domains(), 1);
	run("cd current/sub/config && mkdir ..3 && echo 'domain: b' >..3/a.yaml && "
	    "ln -s ..3 ..data_tmp && mv -T ..data_tmp ..data && rm -r ..2");
	must_notice();
	must_load(false);       /* the same again */
	ck_assert_uint_eq(envoy_service_counter(service, COUNTER_CONFIG_LOAD_SUCCESS), 2);
}
END_TEST

START_TEST(comes_later)
{
	struct weir_error error;

	start_watch();
	ck_assert_int_eq(watch_load(watch, service, NULL, &error), WEIR_ENOENT);
	ck_assert(!envoy_service_loaded(double_reader(service), NULL));
	run("mkdir -p new/sub/config && echo 'domain: a' >new/sub/config/a.yaml && "
	    "mv new current");
	must_notice();
	must_load(true);
	ck_assert_uint_eq(domains(), 1);
	watch_changed(watch);
	run("rm -r current");
	must_notice();
	ck_assert_int_eq(watch_load(watch, service, NULL, &error), WEIR_ENOENT);
	ck_assert_uint_eq(domains(), 1);
}
END_TEST

START_TEST(paths_that_are_too_long)
{
	char *path = calloc(1, 5001);
	struct weir_error error;

	memset(path, 'a', 5000);
	options.subdirectory = path;
	ck_assert_int_eq(watch_new(&options, &watch, &error), WEIR_EINVAL);
	watch = NULL;
	free(path);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("envoy_watch");
	TCase *cases = tcase_create("directories");

	tcase_set_timeout(cases, 30);
	tcase_add_checked_fixture(cases, start, end);
	tcase_add_test(cases, files);
	tcase_add_loop_test(cases, change, 0, LENGTH(changes));
	tcase_add_test(cases, current_is_a_symlink);
	tcase_add_test(cases, kubernetes);
	tcase_add_test(cases, comes_later);
	tcase_add_test(cases, paths_that_are_too_long);
	suite_add_tcase(suite, cases);

	return suite_run(suite);
}
