/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/segment_file.h"

#include <dirent.h>
#include <libgen.h>
#include <string.h>
#include <unistd.h>

char name[128], path[160], folder[160];
struct weir_options options;
struct weir_error error;

static void setup(void)
{
	support_options(&options);
	options.slots = 16;
	weir_close(support_named(&options, "file", name, sizeof(name)));
	snprintf(path, sizeof(path), "%s.weir1", name);
	snprintf(folder, sizeof(folder), "%s", path);
	dirname(folder);
}

static void teardown(void)
{
	unlink(path);
}

int open_status(void)
{
	struct weir *weir;
	int status = weir_open(name, &weir, &error);

	ck_assert_int_eq(error.status, status);
	if (status == WEIR_OK)
		weir_close(weir);
	else
		ck_assert_ptr_null(weir);
	return status;
}

void open_fails(int wanted, const char *says)
{
	ck_assert_msg(open_status() == wanted, "status %d, not %d: %s", error.status, wanted,
		      error.message);
	ck_assert_msg(strstr(error.message, says), "no \"%s\" in: %s", says, error.message);
}

void open_works(void)
{
	ck_assert_msg(open_status() == WEIR_OK, "%s", error.message);
}

unsigned files_in(const char *directory)
{
	DIR *stream = opendir(directory);
	struct dirent *entry;
	unsigned count = 0;

	ck_assert_ptr_nonnull(stream);
	while ((entry = readdir(stream)))
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(stream);
	return count;
}

bool is_root(void)
{
	if (geteuid() == 0)
		return true;
	puts("not root: what belongs to other users is not tried");
	return false;
}

TCase *segment_file_add(Suite *suite, const char *part, const TTest *const *tests, size_t count)
{
	TCase *tcase = tcase_create(part);

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 20);
	for (size_t i = 0; i < count; i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	return tcase;
}
