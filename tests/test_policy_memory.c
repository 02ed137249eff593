/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each allocation that reading a policy file makes fails once: the answer is
 * WEIR_ENOMEM, and nothing is left behind.  This program's malloc stands before
 * that of the C library, for libyaml as well, so it has no sanitizer twin.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weir.h"
#include "tests/suite.h"

#define SKIPPED 77

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
int main(void)
{
	return SKIPPED;
}
#else

/* The C library's own, which it exports for such purposes. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void __libc_free(void *memory);

/* Volatile, because compilers believe that malloc() and free() touch none of them. */
static volatile bool armed;     /* count, and fail when the countdown is at 0 */
static volatile long countdown;
static volatile long live;      /* allocations made and not freed while armed */

static bool fails(void)
{
	if (!armed || countdown-- != 0)
		return false;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t size)
{
	void *memory = fails() ? NULL : __libc_malloc(size);

	live += armed && memory;
	return memory;
}

void *calloc(size_t count, size_t size)
{
	void *memory = fails() ? NULL : __libc_calloc(count, size);

	live += armed && memory;
	return memory;
}

void *realloc(void *old, size_t size)
{
	void *memory = fails() ? NULL : __libc_realloc(old, size);

	live += armed && memory && !old;
	return memory;
}

void free(void *memory)
{
	live -= armed && memory;
	__libc_free(memory);
}

static const char text[] =
	"%YAML 1.1\n---\npolicies:\n- name: \"a\\x62\"\n  limits:\n"
	"  - {limit: 5, period: 1s, burst: 7}\n  - 1/s sliding-window flag\n  shadow: true\n"
	"- {name: b, limits: ['1 concurrency'], fail_mode: closed}\n- name: c\n  limits: [1/s]\n";

/* Fail allocation number FAILING.  Returns whether the parse made so many. */
static bool parse_with_failure(long failing)
{
	struct weir_policy *policies = NULL;
	struct weir_error error;
	size_t count = 0;
	int status;
	bool reached;

	live = 0;
	countdown = failing;
	armed = true;
	status = weir_policy_parse(text, sizeof(text) - 1, "f.yaml", &policies, &count, &error);
	reached = countdown < 0;
	if (status == WEIR_OK)
		free(policies);
	armed = false;

	ck_assert_msg(live == 0, "allocation %ld: %ld are left", failing, live);
	if (status == WEIR_OK) {
		ck_assert_uint_eq(count, 3);    /* the last one only shrinks the result */
	} else {
		ck_assert_msg(reached, "%s", error.message);
		ck_assert_int_eq(status, WEIR_ENOMEM);
		ck_assert_int_eq(error.status, WEIR_ENOMEM);
		ck_assert_ptr_nonnull(strstr(error.message, "; free some and try again"));
	}
	return reached;
}

START_TEST(each_allocation_fails_once)
{
	long failing = 0;

	while (parse_with_failure(failing))
		failing++;
	ck_assert_int_gt(failing, 50);
}
END_TEST

START_TEST(the_file_has_no_room)
{
	char path[] = "/tmp/weir-policies-XXXXXX";
	struct weir_policy *policies;
	struct weir_error error;
	size_t count;
	int fd = mkstemp(path), status;

	ck_assert_int_ge(fd, 0);
	close(fd);
	countdown = 0;
	armed = true;
	status = weir_policy_parse_file(path, &policies, &count, &error);
	armed = false;
	unlink(path);
	ck_assert_int_eq(status, WEIR_ENOMEM);
	ck_assert_ptr_nonnull(strstr(error.message,
				     "no memory for 4194305 bytes of the policy file"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("policy_memory");
	TCase *memory = tcase_create("memory");

	tcase_add_test(memory, each_allocation_fails_once);
	tcase_add_test(memory, the_file_has_no_room);
	suite_add_tcase(suite, memory);

	return suite_run(suite);
}
#endif
