/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In a compact segment, a process is killed, or stopped, before each instruction of a
 * request on one bucket: of a new key, of a known one, of one that takes a slot over or
 * evicts another bucket, of a refund and of a reset.
 *
 * Then others go on: they spend the same key's bucket to its end, or another key, with
 * more debt, takes the only slot that there is.  A stopped process wakes up after that.
 */
#include <stdio.h>

#include "world.h"

#define KEY	  "key"
#define OTHER_KEY "other"
#define BURST	  5u
#define LATER_NS  (BEGIN_NS + 10 * SECOND_NS) /* a light bucket is full again */

static const char *const policies[][2] = {
	{ "light", "5/1s" },
	{ "middle", "5/1h" },
	{ "giant", "1/1d" },
};

static const struct scenario {
	const char *name;
	enum world_operation operation;
	const char *policy;
	uint64_t cost;
	uint64_t now_ns;
	bool former;	/* another key has the slot before, with policy light */
	unsigned spent; /* tokens of KEY before */
} scenarios[] = {
	{ "insert", WORLD_SPEND, "light", 1, BEGIN_NS, false, 0 },
	{ "insert, 3 tokens", WORLD_SPEND, "middle", 3, BEGIN_NS, false, 0 },
	{ "charge", WORLD_SPEND, "light", 1, BEGIN_NS, false, 1 },
	{ "take", WORLD_SPEND, "light", 1, LATER_NS, true, 0 },
	{ "evict", WORLD_SPEND, "middle", 1, BEGIN_NS, true, 0 },
	{ "refund", WORLD_REFUND, "light", 2, BEGIN_NS, false, 3 },
	{ "reset", WORLD_RESET, "light", 1, BEGIN_NS, false, 3 },
};

enum variant {
	SAME_KEY,
	OTHER_TAKES_IT,
	VARIANTS,
};

struct test {
	struct world world;
	const struct scenario *scenario;
	bool kill;
	unsigned left; /* of KEY's tokens before */
	unsigned then; /* and behind the operation */
};

static void operate(void *context)
{
	struct test *test = context;
	const struct scenario *scenario = test->scenario;

	world_operate(&test->world, scenario->operation, scenario->policy, KEY, scenario->cost,
		      scenario->now_ns);
}

static unsigned remaining(struct test *test)
{
	struct weir_decision decision;

	world_ask(&test->world, test->scenario->policy, KEY, 0, test->scenario->now_ns, &decision);
	return (unsigned)decision.remaining;
}

/* The others spend what is left: what the halted process did, it did as a whole. */
static void spend_same(struct test *test, pid_t child)
{
	const struct scenario *scenario = test->scenario;
	unsigned left = remaining(test);
	bool done = left == test->then;

	must(left == test->left || left == test->then);
	must(world_exhaust(&test->world, scenario->policy, KEY, scenario->now_ns) == left);
	world_check(&test->world, false);
	if (test->kill)
		return;
	trace_finish(child);
	/* Nothing is left that a charge could have; what is given back is there again. */
	must_say(test->world.told->passed == (scenario->operation != WORLD_SPEND || done),
		 "the bucket had %u tokens when it was stopped, and it was answered %d (reason %s)",
		 left, test->world.told->passed,
		 weir_reason_name(test->world.told->decision.reason));
	left = scenario->operation == WORLD_SPEND || done ? 0 :
	       scenario->operation == WORLD_RESET	  ? BURST :
							    (unsigned)scenario->cost;
	must(world_exhaust(&test->world, scenario->policy, KEY, scenario->now_ns) == left);
	world_check(&test->world, false);
}

/* Another key has the slot; the stopped process must not touch its bucket. */
static void other_takes_it(struct test *test, pid_t child)
{
	const struct scenario *scenario = test->scenario;
	struct weir_decision decision;

	must(world_ask(&test->world, "giant", OTHER_KEY, 1, scenario->now_ns, &decision));
	must(decision.reason == WEIR_REASON_LIMIT);
	world_check(&test->world, false);
	if (!test->kill) {
		trace_finish(child);
		/* With no slot left the fail mode allows, and counts it. */
		must(test->world.told->passed);
	}
	must(world_exhaust(&test->world, "giant", OTHER_KEY, scenario->now_ns) == 0);
	world_check(&test->world, false);
}

static void others_go_on(struct world *world, pid_t child, uint32_t variant, void *context)
{
	struct test *test = context;

	(void)world;
	if (test->kill)
		trace_kill(child);
	if (variant == SAME_KEY)
		spend_same(test, child);
	else
		other_takes_it(test, child);
}

static void run(const struct scenario *scenario, bool kill)
{
	struct test test = { .scenario = scenario, .kill = kill };
	struct traced traced = { .operate = operate, .context = &test };
	struct weir_decision decision;
	char name[64];

	world_make_compact(&test.world, policies, LENGTH(policies));
	world_fill(&test.world, WORLD_SLOTS - 1);
	if (scenario->former)
		must(world_ask(&test.world, "light", "former", 1, BEGIN_NS, &decision));
	if (scenario->spent)
		must(world_ask(&test.world, scenario->policy, KEY, scenario->spent, BEGIN_NS,
			       &decision));
	world_save(&test.world);
	test.left = remaining(&test);
	operate(&test);
	test.then = remaining(&test);
	must(test.left != test.then);
	snprintf(name, sizeof(name), "%s, %s", scenario->name, kill ? "kill" : "stop");
	world_each_instruction(&test.world, name, &traced, VARIANTS, 60, others_go_on, &test);
	world_remove(&test.world);
}

START_TEST(killed)
{
	run(&scenarios[_i], true);
}
END_TEST

START_TEST(stopped)
{
	run(&scenarios[_i], false);
}
END_TEST

static void add(TCase *tests)
{
	tcase_set_timeout(tests, 170);
	tcase_add_loop_test(tests, killed, 0, LENGTH(scenarios));
	tcase_add_loop_test(tests, stopped, 0, LENGTH(scenarios));
}

int main(void)
{
	return world_main("crash: compact", add);
}
