/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/decide_fixture.h"

#include <string.h>

struct weir *weir;

void open_weir(void)
{
	weir = fixture_open_slots(1024);
}

void close_weir(void)
{
	weir_close(weir);
}

struct weir_request request_for(weir_policy_id policy, const char *key, uint64_t cost,
				uint64_t now_ns)
{
	return (struct weir_request){
		.policy = policy,
		.key = key,
		.key_length = strlen(key),
		.cost = cost,
		.now_ns = now_ns,
	};
}

bool decide(weir_policy_id policy, const char *key, uint64_t cost, uint64_t now_ns,
	    struct weir_decision *decision)
{
	struct weir_request request = request_for(policy, key, cost, now_ns);
	bool passed = weir_decide(weir, &request, decision);

	ck_assert(passed == (decision->outcome == WEIR_ALLOWED));
	return passed;
}

struct weir_decision status(weir_policy_id policy, const char *key, uint64_t cost,
			    uint64_t now_ns)
{
	struct weir_request request = request_for(policy, key, cost, now_ns);
	struct weir_decision decision;
	bool passes = weir_status(weir, &request, &decision);

	ck_assert(passes == (decision.outcome == WEIR_ALLOWED));
	return decision;
}

uint64_t remaining(weir_policy_id policy, const char *key, uint64_t now_ns)
{
	return status(policy, key, 0, now_ns).remaining;
}
