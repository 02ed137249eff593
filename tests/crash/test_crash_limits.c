/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process is killed, or stopped, before each instruction of a request that two
 * limits must pass.  Death between the two leaves at most this request's charge,
 * and never admits too many.  A stopped process wakes up to find that
 *   - the second limit is spent, so that it must give back what it took;
 *   - the policy was replaced, twice, so that its copy was overwritten.
 */
#include <stdio.h>

#include "world.h"

#define KEY	      "key"
#define POLICY	      "double"
#define FIRST	      5u /* tokens of the first limit ... */
#define SECOND	      3u /* and of the second */

static const char *const policies[][2] = {
	{ POLICY, "5/1h" },
	{ NULL, "3/1d" },
	{ "single", "5/1s" },
};

struct test {
	struct world world;
	bool kill;
	bool known;    /* KEY has its buckets before */
	unsigned late; /* stops that were charged by a policy replaced meanwhile */
	const char *policy;
};

static void operate(void *context)
{
	struct test *test = context;
	struct weir_decision decision;

	test->world.told->passed =
		world_ask(&test->world, test->policy, KEY, 1, BEGIN_NS, &decision);
	test->world.told->decision.reason = decision.reason;
}

static uint64_t used(struct test *test, uint32_t limit_index)
{
	return world_used(&test->world, POLICY, limit_index, KEY);
}

/* ---- Two limits -------------------------------------------------------- */

/* What is charged when the child is halted: nothing, the first limit, or both. */
static unsigned charged(struct test *test)
{
	unsigned before = test->known ? 1 : 0;
	uint64_t first = used(test, 0), second = used(test, 1);

	must(first == before || first == before + 1);
	must(second == before || second == before + 1);
	must(second <= first);
	return (unsigned)(first + second - 2 * before);
}

static void two_limits(struct world *world, pid_t child, uint32_t variant, void *context)
{
	struct test *test = context;
	unsigned before = test->known ? 1 : 0, done, allowed;

	if (test->kill)
		trace_kill(child);
	done = charged(test);
	world_check(world, false);
	allowed = world_exhaust(world, POLICY, KEY, BEGIN_NS);
	must(allowed == SECOND - before - (done == 2));
	world_check(world, false);
	if (test->kill) {
		must(used(test, 0) == SECOND + (done == 1));
		must(used(test, 1) == SECOND);
		return;
	}

	trace_finish(child);
	must_say(world->told->passed == (done == 2),
		 "%u limits were charged when it was stopped, and it was answered %d (reason %s)",
		 done, world->told->passed, weir_reason_name(world->told->decision.reason));
	must(used(test, 0) == SECOND);
	must(used(test, 1) == SECOND);
	must(world_exhaust(world, POLICY, KEY, BEGIN_NS) == 0);
	world_check(world, false);
	(void)variant;
}

static void run_two_limits(bool kill, bool known)
{
	struct test test = { .kill = kill, .known = known, .policy = POLICY };
	struct traced traced = { .operate = operate, .context = &test };
	struct weir_decision decision;
	char name[64];

	world_make(&test.world, policies, LENGTH(policies));
	if (known)
		must(world_ask(&test.world, POLICY, KEY, 1, BEGIN_NS, &decision));
	world_fill(&test.world, WORLD_SLOTS - 2);
	world_save(&test.world);
	operate(&test);
	for (uint32_t i = 0; i < 2; i++)
		traced.lines[i] = world_slot(&test.world, POLICY, i, KEY);
	snprintf(name, sizeof(name), "two limits, %s key, %s", known ? "known" : "new",
		 kill ? "kill" : "stop");
	world_each_instruction(&test.world, name, &traced, 1, 200, two_limits, &test);
	world_remove(&test.world);
}

START_TEST(killed_between_two_limits)
{
	run_two_limits(true, _i);
}
END_TEST

START_TEST(stopped_between_two_limits)
{
	run_two_limits(false, _i);
}
END_TEST

/* ---- A policy that changes meanwhile ----------------------------------- */

static void replace(struct world *world, const char *limit)
{
	struct weir_policy policy = { .name = "single", .limit_count = 1 };
	struct weir_error error;

	must(weir_limit_parse(limit, &policy.limits[0], &error) == 0);
	must_say(weir_policy_set(world->weir, &policy, 1, &error) == 0, "%s", error.message);
}

/* The token is charged at the old rate or at the new one, whole. */
static void policy_changes(struct world *world, pid_t child, uint32_t variant, void *context)
{
	struct test *test = context;
	uint64_t before = test->known ? 1 : 0;
	uint64_t spent_ns = BEGIN_NS + before * SECOND_NS / 5;
	uint64_t old_ns = spent_ns + SECOND_NS / 5, new_ns = spent_ns + 600 * SECOND_NS;
	bool done = world_used(world, "single", 0, KEY) == before + 1;
	const struct slot *slot;

	replace(world, "9/1m");
	replace(world, "6/1h");
	trace_finish(child);
	must(world->told->passed);
	must(world->told->decision.reason == WEIR_REASON_LIMIT);
	slot = world_slot(world, "single", 0, KEY);
	must(slot && state_used(slot->state) == before + 1);
	must(slot->state.first == old_ns || (!done && slot->state.first == new_ns));
	/* Stopped between the last look at the version and the charge. */
	if (!done && slot->state.first == old_ns)
		test->late++;
	world_check(world, false);
	(void)variant;
}

START_TEST(stopped_while_the_policy_changes)
{
	struct test test = { .policy = "single", .known = _i };
	struct traced traced = { .operate = operate, .context = &test };
	char name[64];

	world_make(&test.world, policies, LENGTH(policies));
	if (test.known)
		operate(&test);
	world_save(&test.world);
	operate(&test);
	traced.lines[0] = world_slot(&test.world, "single", 0, KEY);
	snprintf(name, sizeof(name), "policy changes, %s key, stop", test.known ? "known" : "new");
	world_each_instruction(&test.world, name, &traced, 1, 200, policy_changes, &test);
	/* Its version is looked at right before the charge, not long before. */
	must_say(test.late <= 40, "%u stops charged by a policy that was replaced", test.late);
	world_remove(&test.world);
}
END_TEST

/* ---- Main -------------------------------------------------------------- */

static void add(TCase *tests)
{
	tcase_add_loop_test(tests, killed_between_two_limits, 0, 2);
	tcase_add_loop_test(tests, stopped_between_two_limits, 0, 2);
	tcase_add_loop_test(tests, stopped_while_the_policy_changes, 0, 2);
}

int main(void)
{
	return world_main("crash between limits", add);
}
