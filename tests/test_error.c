/* SPDX-License-Identifier: Apache-2.0 */
/* The sentences of errors, and the names of enum values. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "shm/error.h"
#include "src/names.h"
#include "tests/suite.h"

START_TEST(fail_fills_in_status_and_sentence)
{
	struct weir_error error;

	ck_assert_int_eq(weir_fail(&error, WEIR_ENOENT, "no policy \"%s\"", "api"), WEIR_ENOENT);
	ck_assert_int_eq(error.status, WEIR_ENOENT);
	ck_assert_str_eq(error.message, "no policy \"api\"");
}
END_TEST

START_TEST(fail_without_a_struct)
{
	ck_assert_int_eq(weir_fail(NULL, WEIR_EBUSY, "%d", 1), WEIR_EBUSY);
	ck_assert_int_eq(weir_ok(NULL), 0);
}
END_TEST

START_TEST(ok_clears)
{
	struct weir_error error;

	weir_fail(&error, WEIR_ENOMEM, "out of memory");
	ck_assert_int_eq(weir_ok(&error), 0);
	ck_assert_int_eq(error.status, 0);
	ck_assert_str_eq(error.message, "");
}
END_TEST

/* One byte less than the array fits whole; one more is cut, with dots. */
START_TEST(fail_cuts_what_does_not_fit)
{
	struct weir_error error;
	char text[sizeof(error.message) + 1];

	memset(text, 'x', sizeof(text));
	text[sizeof(error.message) - 1] = '\0';
	weir_fail(&error, WEIR_EINVAL, "%s", text);
	ck_assert_str_eq(error.message, text);

	text[sizeof(error.message) - 1] = 'x';
	text[sizeof(error.message)] = '\0';
	weir_fail(&error, WEIR_EINVAL, "%s", text);
	ck_assert_uint_eq(strlen(error.message), sizeof(error.message) - 1);
	ck_assert_str_eq(error.message + sizeof(error.message) - 5, "x...");
}
END_TEST

START_TEST(fail_stays_on_one_line)
{
	struct weir_error error;

	weir_fail(&error, WEIR_EINVAL, "%s", "a\nb\r\nc");
	ck_assert_str_eq(error.message, "a b  c");
}
END_TEST

START_TEST(fail_may_quote_its_own_struct)
{
	struct weir_error error;

	weir_fail(&error, WEIR_EINVAL, "limit is 0");
	weir_fail(&error, WEIR_EINVAL, "policy \"api\": %s", error.message);
	ck_assert_str_eq(error.message, "policy \"api\": limit is 0");
}
END_TEST

START_TEST(fail_prints_and_keeps_errno)
{
	struct weir_error error;

	errno = ENOSPC;
	weir_fail(&error, WEIR_ESYSTEM, "%m");
	ck_assert_str_eq(error.message, strerror(ENOSPC));
	ck_assert_int_eq(errno, ENOSPC);
}
END_TEST

static const struct {
	const char *text;
	size_t length;
	size_t size;
	const char *quoted;
} quote_cases[] = {
	{ "", 0, 8, "" },
	{ "abc", 3, 8, "abc" },
	{ "abcdefg", 7, 8, "abcdefg" },         /* fits to the byte */
	{ "abcdefgh", 8, 8, "abcd..." },
	{ "a\nb", 3, 16, "a\\x0ab" },
	{ "a\0b", 3, 16, "a\\x00b" },
	{ "\\", 1, 8, "\\x5c" },
	{ "\x7f\xff", 2, 16, "\\x7f\\xff" },
	{ "\xff\xff", 2, 8, "\\xff..." },       /* never half an escape */
	{ "ab\xff", 3, 8, "ab\\xff" },
	{ "abcdx", 5, 8, "abcdx" },
	{ "abcd\xff", 5, 8, "abcd..." },
	{ "abcdef\xff", 7, 8, "abcd..." },
	{ " ~", 2, 8, " ~" },
};

START_TEST(quote)
{
	char quoted[16];

	memset(quoted, '#', sizeof(quoted));
	ck_assert_ptr_eq(weir_quote(quote_cases[_i].text, quote_cases[_i].length, quoted,
				    quote_cases[_i].size), quoted);
	ck_assert_str_eq(quoted, quote_cases[_i].quoted);
}
END_TEST

START_TEST(names)
{
	ck_assert_str_eq(weir_algorithm_name(WEIR_TOKEN_BUCKET), "token-bucket");
	ck_assert_str_eq(weir_algorithm_name(WEIR_SLIDING_WINDOW), "sliding-window");
	ck_assert_str_eq(weir_algorithm_name(WEIR_FIXED_WINDOW), "fixed-window");
	ck_assert_str_eq(weir_algorithm_name(WEIR_CONCURRENCY), "concurrency");
	ck_assert_str_eq(weir_action_name(WEIR_ACTION_DENY), "deny");
	ck_assert_str_eq(weir_action_name(WEIR_ACTION_FLAG), "flag");
	ck_assert_str_eq(weir_fail_mode_name(WEIR_FAIL_SHARE), "share");
	ck_assert_str_eq(weir_fail_mode_name(WEIR_FAIL_OPEN), "open");
	ck_assert_str_eq(weir_fail_mode_name(WEIR_FAIL_CLOSED), "closed");
	ck_assert_str_eq(weir_consistency_name(WEIR_BOUNDED), "bounded");
	ck_assert_str_eq(weir_consistency_name(WEIR_LOCAL), "local");
	ck_assert_str_eq(weir_consistency_name(WEIR_EVENTUAL), "eventual");
	ck_assert_str_eq(weir_consistency_name(WEIR_STRICT), "strict");
	ck_assert_str_eq(weir_outcome_name(WEIR_ALLOWED), "allowed");
	ck_assert_str_eq(weir_outcome_name(WEIR_DENIED), "denied");
	ck_assert_str_eq(weir_outcome_name(WEIR_UNAVAILABLE), "unavailable");
	ck_assert_str_eq(weir_version(), WEIR_VERSION);
}
END_TEST

START_TEST(reason_names)
{
	static const char *const expected[] = {
		"limit", "cost", "table-full", "shadow", "no-policy", "key", "clock", "contended",
		"use-acquire", "holds-full", "debt", "closed", "stale", "cap", "lease", "unknown",
	};

	for (unsigned reason = 0; reason < sizeof(expected) / sizeof(expected[0]); reason++)
		ck_assert_str_eq(weir_reason_name((enum weir_reason)reason), expected[reason]);
}
END_TEST

START_TEST(names_of_garbage)
{
	static const unsigned garbage[] = { 4, 15, 1000, 0x7fffffff, 0x80000000, 0xffffffff };
	unsigned value = garbage[_i];

	ck_assert_str_eq(weir_algorithm_name((enum weir_algorithm)value), "unknown");
	ck_assert_str_eq(weir_action_name((enum weir_action)value), "unknown");
	ck_assert_str_eq(weir_fail_mode_name((enum weir_fail_mode)value), "unknown");
	ck_assert_str_eq(weir_consistency_name((enum weir_consistency)value), "unknown");
	ck_assert_str_eq(weir_outcome_name((enum weir_outcome)value), "unknown");
	if (value >= 15)
		ck_assert_str_eq(weir_reason_name((enum weir_reason)value), "unknown");
}
END_TEST

START_TEST(names_are_found_again)
{
	enum weir_algorithm algorithm;
	enum weir_action action;
	enum weir_fail_mode mode;
	enum weir_consistency consistency;

	for (unsigned value = 0; value < 4; value++) {
		const char *name = weir_algorithm_name((enum weir_algorithm)value);

		ck_assert(weir_algorithm_find(name, strlen(name), &algorithm));
		ck_assert_uint_eq(algorithm, value);
		name = weir_consistency_name((enum weir_consistency)value);
		ck_assert(weir_consistency_find(name, strlen(name), &consistency));
		ck_assert_uint_eq(consistency, value);
	}
	for (unsigned value = 0; value < 3; value++) {
		const char *name = weir_fail_mode_name((enum weir_fail_mode)value);

		ck_assert(weir_fail_mode_find(name, strlen(name), &mode));
		ck_assert_uint_eq(mode, value);
	}
	for (unsigned value = 0; value < 2; value++) {
		const char *name = weir_action_name((enum weir_action)value);

		ck_assert(weir_action_find(name, strlen(name), &action));
		ck_assert_uint_eq(action, value);
	}
}
END_TEST

START_TEST(names_that_are_none)
{
	static const char *const wrong[] = {
		"", "Open", "ope", "opens", "unknown", "token_bucket", "flag ", "local,",
	};
	const char *name = wrong[_i];
	enum weir_algorithm algorithm = WEIR_FIXED_WINDOW;
	enum weir_action action = WEIR_ACTION_FLAG;
	enum weir_fail_mode mode = WEIR_FAIL_CLOSED;
	enum weir_consistency consistency = WEIR_STRICT;

	ck_assert(!weir_algorithm_find(name, strlen(name), &algorithm));
	ck_assert(!weir_action_find(name, strlen(name), &action));
	ck_assert(!weir_fail_mode_find(name, strlen(name), &mode));
	ck_assert(!weir_consistency_find(name, strlen(name), &consistency));
	ck_assert_uint_eq(algorithm, WEIR_FIXED_WINDOW);
	ck_assert_uint_eq(action, WEIR_ACTION_FLAG);
	ck_assert_uint_eq(mode, WEIR_FAIL_CLOSED);
	ck_assert_uint_eq(consistency, WEIR_STRICT);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("error");
	TCase *errors = tcase_create("errors");
	TCase *enums = tcase_create("names");

	tcase_add_test(errors, fail_fills_in_status_and_sentence);
	tcase_add_test(errors, fail_without_a_struct);
	tcase_add_test(errors, ok_clears);
	tcase_add_test(errors, fail_cuts_what_does_not_fit);
	tcase_add_test(errors, fail_stays_on_one_line);
	tcase_add_test(errors, fail_may_quote_its_own_struct);
	tcase_add_test(errors, fail_prints_and_keeps_errno);
	tcase_add_loop_test(errors, quote, 0, sizeof(quote_cases) / sizeof(quote_cases[0]));
	suite_add_tcase(suite, errors);

	tcase_add_test(enums, names);
	tcase_add_test(enums, reason_names);
	tcase_add_loop_test(enums, names_of_garbage, 0, 6);
	tcase_add_test(enums, names_are_found_again);
	tcase_add_loop_test(enums, names_that_are_none, 0, 8);
	suite_add_tcase(suite, enums);

	return suite_run(suite);
}
