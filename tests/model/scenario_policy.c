/* SPDX-License-Identifier: Apache-2.0 */
/* Policies switch while a reader copies them: whoever decides does so by one of
 * them.  Both policies let the same debts pass, which no mixture of them does. */
#include "tests/model/scenarios.h"

#define NAME "p"
#define DEBT_NS 50u     /* both allow two tokens more; burst 4 at 10 ns would not */

/* 10 tokens at 10 ns each, or 4 at 40: two more pass with a debt of up to 80 ns. */
static void define(unsigned thread, uint64_t burst, uint64_t token_ns)
{
	struct weir_policy policy = {
		.name = NAME,
		.limit_count = 1,
		.limits = { { .limit = burst, .period_ns = burst * token_ns } },
	};

	policy_table_set(&world.segments[thread], &policy, 1, NULL);
}

static weir_policy_id in_force(void)
{
	return policy_lookup(&world.segments[0], policy_version(&world.segments[0]), NAME);
}

static void ask(unsigned thread, uint64_t cost)
{
	struct weir weir = { .segment = &world.segments[thread] };
	struct weir_request request = { .policy = policy_id(1, 0), .key = "k", .key_length = 1,
					.cost = cost, .now_ns = WORLD_START_NS };
	struct weir_decision decision;

	weir_decide(&weir, &request, &decision);
	world.books.own[thread] = (uint64_t)decision.outcome << 8 | decision.reason | 1ull << 32;
}

/* By the general way alone, which the quick one hides for a live token bucket. */
static void ask_generally(unsigned thread, uint64_t cost)
{
	struct weir_request request = { .policy = policy_id(1, 0), .key = "k", .key_length = 1,
					.cost = cost, .now_ns = WORLD_START_NS };
	enum plan_result result = PLAN_AGAIN;
	enum weir_reason reason;
	struct plan plan;

	plan.detail = false;
	while (result == PLAN_AGAIN && plan_prepare(&plan, &world.segments[thread], &request, &reason))
		result = plan_spend(&plan, BUCKET_SPEND);
	world.books.own[thread] =
		(uint64_t)(result == PLAN_ALLOWED ? WEIR_ALLOWED : WEIR_DENIED) << 8 | 1ull << 32;
}

static void setup(void)
{
	world_init();
	model_region("policies", world.banks, sizeof(world.banks));
	model_region("version", &world.header.policy, sizeof(world.header.policy));
	world.header.policy.next_serial = 1;
	define(0, 10, 10);
	ask(0, DEBT_NS / 10);
	world.books.own[0] = 0;
}

/* 100 ns: both deny two tokens more, but burst 10 at 40 ns would not. */
static void setup_full(void)
{
	setup();
	ask(0, DEBT_NS / 10);
	world.books.own[0] = 0;
}

static void switch_twice_generally(unsigned thread)
{
	if (thread == 1) {
		ask_generally(1, 2);
	} else {
		define(0, 4, 40);
		define(0, 10, 10);
	}
}

static void check_denied(unsigned unfinished)
{
	if (!(unfinished & 2) && (world.books.own[1] >> 8 & 0xff) != WEIR_DENIED)
		model_violation("allowed by a mixture of two policies that both deny");
}

static void switch_twice(unsigned thread)
{
	if (thread == 1) {
		ask(1, 2);
	} else {
		define(0, 4, 40);
		define(0, 10, 10);
	}
}

static void check_allowed(unsigned unfinished)
{
	uint64_t answer = world.books.own[1];
	uint64_t time_ns = 0;

	if (unfinished & 2)
		return;
	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		if (world.slots[i].state.first > time_ns)
			time_ns = world.slots[i].state.first;
	}
	time_ns -= WORLD_START_NS + DEBT_NS;
	if ((answer >> 8 & 0xff) != WEIR_ALLOWED)
		model_violation("denied by a mixture of two policies that both allow");
	else if (time_ns != 2 * 10 && time_ns != 2 * 40)
		model_violation("charged %llu ns, which neither policy does",
				(unsigned long long)time_ns);
}

/* The writer dies; the kernel gives its lock to the next one. */
static void die_and_repeat(unsigned thread)
{
	if (thread == 0) {
		define(0, 4, 40);
	} else {
		weir_model_step();
		if (model_killed(0))
			define(1, 4, 40);
	}
}

static void check_whole(unsigned unfinished)
{
	const struct segment *segment = &world.segments[0];
	struct weir_policy policy;
	uint64_t serial;

	(void)unfinished;
	if (!policy_decode(segment, policy_version(segment), 0, &policy, &serial) || serial != 1 ||
	    policy.limits[0].limit * policy.limits[0].period_ns !=
		    (policy.limits[0].limit == 4 ? 4u * 160 : 10u * 100))
		model_violation("the policy in force is half of one");
}

/* Switch, and then begin to remove: until that is done the policy is in force. */
static void switch_and_remove(unsigned thread)
{
	if (thread == 1) {
		ask(1, 2);
		if (world.books.own[1] >> 8 & 0xff && in_force() != WEIR_NO_POLICY)
			model_violation("no policy found while it was in force");
	} else {
		define(0, 4, 40);
		policy_table_remove(&world.segments[0], NAME, NULL);
	}
}

#define POLICY(identifier, text, line, first, run, check, dies) \
	const struct model_scenario identifier = { \
		.name = text, .about = line, .threads = 2, .mortal = 1, .killable = dies, \
		.alone_max = 800, .setup = first, .body = run, .ended = check, \
	}

POLICY(scenario_policy_allow, "policy-allow", "two switches while a reader copies, quickly", setup,
       switch_twice, check_allowed, 0);
POLICY(scenario_policy_general, "policy-general", "the same, the general way", setup,
       switch_twice_generally, check_allowed, 0);
POLICY(scenario_policy_deny, "policy-deny", "the same, where both policies deny", setup_full,
       switch_twice_generally, check_denied, 0);
POLICY(scenario_policy_death, "policy-death", "a writer dies anywhere, the next one goes on",
       setup, die_and_repeat, check_whole, 1);
POLICY(scenario_policy_remove, "policy-remove", "a removal that may stop anywhere, and a reader",
       setup, switch_and_remove, NULL, 0);
