/* SPDX-License-Identifier: Apache-2.0 */
/* What is answered when the bounded retries are used up: here by policies that
 * change each time that a decision has read them. */
#include <check.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "src/handle.h"
#include "tests/support.h"

static struct segment_header *restless;

/* The library reads the wall clock between the policy and the bucket: a fixed window
 * is where it tells.  Bit 0 of the version is the bank, and stays. */
int clock_gettime(clockid_t id, struct timespec *time)
{
	if (restless && id == CLOCK_REALTIME)
		__atomic_fetch_add(&restless->policy.version, 2, __ATOMIC_SEQ_CST);
	return (int)syscall(SYS_clock_gettime, id, time);
}

START_TEST(retries_used_up)
{
	struct weir_policy policy = support_policy("p", "10/1d fixed-window", NULL);
	struct weir_options options;
	struct weir *weir;
	struct weir_request request = { .key = "k", .key_length = 1, .cost = 1 };
	struct weir_decision decision;
	bool (*const functions[])(struct weir *, const struct weir_request *,
				  struct weir_decision *) = {
		weir_status, weir_refund, weir_reset,
	};

	support_options(&options);
	weir = support_segment(&options);
	request.policy = support_define(weir, &policy);
	ck_assert(weir_decide(weir, &request, NULL));

	restless = weir->segment->header;
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		ck_assert(!functions[i](weir, &request, &decision));
		ck_assert_int_eq(decision.outcome, WEIR_UNAVAILABLE);
		ck_assert_int_eq(decision.reason, WEIR_REASON_CONTENDED);
	}
	ck_assert_uint_eq(support_counter(weir, "contended", NULL), 0);
	ck_assert_uint_eq(support_counter(weir, "fail_open", "p"), 0);
	ck_assert_uint_eq(support_counter(weir, "refunded", "p"), 0);

	ck_assert(weir_decide(weir, &request, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_CONTENDED);
	ck_assert_uint_eq(support_counter(weir, "contended", NULL), 1);
	ck_assert_uint_eq(support_counter(weir, "fail_open", "p"), 1);

	restless = NULL;
	ck_assert(weir_status(weir, &request, &decision));
	ck_assert_uint_eq(decision.remaining, 9);
	ck_assert_uint_eq(support_counter(weir, "allowed", "p"), 1);
	weir_close(weir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("contended");

	support_add(suite, "retries", retries_used_up, 10);
	return support_main(suite);
}
