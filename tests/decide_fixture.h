/* SPDX-License-Identifier: Apache-2.0 */
/* decide_fixture.h - decisions on a segment of the test's own, on the caller's clock. */
#ifndef WEIR_TESTS_DECIDE_FIXTURE_H
#define WEIR_TESTS_DECIDE_FIXTURE_H

#include "tests/fixture.h"

/* Of a checked fixture. */
extern struct weir *weir;
void open_weir(void);
void close_weir(void);

struct weir_request request_for(weir_policy_id policy, const char *key, uint64_t cost,
				uint64_t now_ns);

/* The answer is the decision's outcome: that is asserted. */
bool decide(weir_policy_id policy, const char *key, uint64_t cost, uint64_t now_ns,
	    struct weir_decision *decision);
struct weir_decision status(weir_policy_id policy, const char *key, uint64_t cost,
			    uint64_t now_ns);

uint64_t remaining(weir_policy_id policy, const char *key, uint64_t now_ns);

#endif
