/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process is killed, or stopped, before each instruction of a request on one
 * bucket: of a new key, of a known one, of one that takes a slot over or evicts
 * another bucket, of a refund and of a reset.
 *
 * Then others go on.  Each variant is what they do:
 *   - they spend the same key's bucket to its end;
 *   - another key takes the slot, a while later;
 *   - first the one, then the other;
 *   - the key that had the slot before comes back.
 * A stopped process wakes up after that.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/plain.h"
#include "world.h"

#define KEY	  "key"
#define OTHER_KEY "other"
#define LATER_NS  (BEGIN_NS + 10 * SECOND_NS) /* a light bucket is full again */

static const char *const policies[][2] = {
	{ "light", "5/1s" },
	{ "middle", "10/1h" },
	{ "giant", "1/1d" },
};

struct scenario {
	const char *name;
	enum world_operation operation;
	const char *policy; /* of the request for KEY ... */
	uint64_t cost;
	uint64_t now_ns;
	const char *heir;   /* and of OTHER_KEY, for whom the slot is free later, and whose
			     * bucket is then no lighter than KEY's would be */
	const char *former; /* has the slot before, with policy light; or NULL */
	unsigned spent;	    /* tokens of KEY before */
	unsigned burst;
	unsigned late_gain; /* tokens that the operation makes on a spent bucket */
};

static const struct scenario scenarios[] = {
	{ "insert", WORLD_SPEND, "light", 1, BEGIN_NS, "light", NULL, 0, 5, 0 },
	{ "insert, 3 tokens", WORLD_SPEND, "light", 3, BEGIN_NS, "middle", NULL, 0, 5, 0 },
	{ "charge", WORLD_SPEND, "light", 1, BEGIN_NS, "light", NULL, 1, 5, 0 },
	{ "take", WORLD_SPEND, "light", 1, LATER_NS, "light", "former", 0, 5, 0 },
	{ "evict", WORLD_SPEND, "middle", 1, BEGIN_NS, "giant", "former", 0, 10, 0 },
	{ "refund", WORLD_REFUND, "light", 2, BEGIN_NS, "light", NULL, 3, 5, 2 },
	{ "reset", WORLD_RESET, "light", 1, BEGIN_NS, "light", NULL, 3, 5, 5 },
};

#define SCENARIOS ((int)LENGTH(scenarios))

enum variant {
	SAME_KEY,
	OTHER_TAKES_IT,
	SAME_THEN_OTHER,
	FORMER_COMES_BACK,
	VARIANTS,
};

struct test {
	struct world world;
	const struct scenario *scenario;
	bool kill;
	const struct slot *slot;	/* where KEY's bucket comes to be */
	struct word_pair before, after; /* KEY's state without and with the operation */
	bool done;			/* it was done when the child was halted */
	struct plain_thread thread;	/* what the operation leaves to its thread */
};

/* ---- The child --------------------------------------------------------- */

static void operate(void *context)
{
	struct test *test = context;
	const struct scenario *scenario = test->scenario;

	world_operate(&test->world, scenario->operation, scenario->policy, KEY, scenario->cost,
		      scenario->now_ns);
}

/* ---- The others -------------------------------------------------------- */

static struct word_pair state_of(struct test *test, const char *policy, const char *key)
{
	const struct slot *slot = world_slot(&test->world, policy, 0, key);

	return slot ? slot->state : (struct word_pair){ 0, 0 };
}

/* Equal but for the generation. */
static bool is_state(struct word_pair state, struct word_pair wanted)
{
	return state.first == wanted.first && state_used(state) == state_used(wanted);
}

/* The old state or the new one, never a mixture. */
static void check_halted(struct test *test)
{
	struct word_pair state = state_of(test, test->scenario->policy, KEY);

	test->done = is_state(state, test->after);
	must_say(test->done || is_state(state, test->before), "a third state: %llu, %llu",
		 (unsigned long long)state.first, (unsigned long long)state_used(state));
	world_check(&test->world, false);
}

static void spend_to_the_end(struct test *test)
{
	const struct scenario *scenario = test->scenario;
	bool spend = scenario->operation == WORLD_SPEND;
	unsigned allowed = world_exhaust(&test->world, scenario->policy, KEY, scenario->now_ns);
	unsigned left = scenario->burst - scenario->spent;

	if (test->done && spend)
		left -= (unsigned)scenario->cost;
	else if (test->done && scenario->operation == WORLD_REFUND)
		left += (unsigned)scenario->cost;
	else if (test->done)
		left = scenario->burst;
	must(allowed == left);
}

/* Once more than the bucket holds: the stopped process may have given back. */
static void spend_what_was_made(struct test *test)
{
	const struct scenario *scenario = test->scenario;
	unsigned allowed = world_exhaust(&test->world, scenario->policy, KEY, scenario->now_ns);

	must(allowed == (test->done ? 0 : scenario->late_gain));
}

static void other_takes_it(struct test *test)
{
	struct weir_decision decision;

	must(world_ask(&test->world, test->scenario->heir, OTHER_KEY, 1, LATER_NS + DAY_NS / 2,
		       &decision));
	must(decision.reason == WEIR_REASON_LIMIT);
	must(world_used(&test->world, test->scenario->heir, 0, OTHER_KEY) == 1);
	must(!world_slot(&test->world, test->scenario->policy, 0, KEY));
}

/* It is served if its slot is still its own, or nobody's; a heavier or equal
 * bucket keeps the slot. */
static void former_comes_back(struct test *test)
{
	struct weir_decision decision;

	if (!test->scenario->former)
		return;
	must(world_ask(&test->world, "light", test->scenario->former, 1, test->scenario->now_ns,
		       &decision));
	must(decision.reason == (test->done ? WEIR_REASON_TABLE_FULL : WEIR_REASON_LIMIT));
}

static void others_go_on(struct test *test, enum variant variant)
{
	if (variant == SAME_KEY || variant == SAME_THEN_OTHER)
		spend_to_the_end(test);
	if (variant == OTHER_TAKES_IT || variant == SAME_THEN_OTHER)
		other_takes_it(test);
	if (variant == FORMER_COMES_BACK)
		former_comes_back(test);
	world_check(&test->world, false);
}

/* ---- The stopped one wakes up ------------------------------------------ */

static void check_answer(struct test *test, enum variant variant)
{
	volatile struct told *told = test->world.told;
	bool spend = test->scenario->operation == WORLD_SPEND;
	bool full = told->decision.reason == WEIR_REASON_TABLE_FULL;

	if (variant == SAME_KEY && spend && !test->done) {
		must(told->decision.outcome == WEIR_DENIED);
		return;
	}
	must(told->passed);
	if (variant == OTHER_TAKES_IT || variant == SAME_THEN_OTHER)
		must(full == (spend && !test->done));
	else if (variant == SAME_KEY)
		must(!full);
}

static void wake_up(struct test *test, pid_t child, enum variant variant)
{
	const struct scenario *scenario = test->scenario;
	const char *former = scenario->former ? scenario->former : KEY;
	struct word_pair heir = state_of(test, scenario->heir, OTHER_KEY);
	struct word_pair owner = state_of(test, "light", former), owner_after;

	trace_finish(child);
	check_answer(test, variant);
	world_check(&test->world, false);
	switch (variant) {
	case SAME_KEY:
		spend_what_was_made(test);
		break;
	case OTHER_TAKES_IT:
	case SAME_THEN_OTHER:
		must(is_state(state_of(test, scenario->heir, OTHER_KEY), heir));
		must(!world_slot(&test->world, scenario->policy, 0, KEY));
		break;
	case FORMER_COMES_BACK:
	case VARIANTS:
		/* It was evicted meanwhile, or left alone. */
		owner_after = state_of(test, "light", former);
		if (scenario->former)
			must(owner_after.second == 0 || is_state(owner_after, owner));
		if (test->world.told->decision.reason == WEIR_REASON_TABLE_FULL)
			must(!world_slot(&test->world, scenario->policy, 0, KEY));
		else
			must(is_state(state_of(test, scenario->policy, KEY), test->after));
		break;
	}
	world_check(&test->world, false);
}

static void at_instruction(struct world *world, pid_t child, uint32_t variant, void *context)
{
	struct test *test = context;

	(void)world;
	if (test->kill)
		trace_kill(child);
	check_halted(test);
	others_go_on(test, (enum variant)variant);
	if (!test->kill)
		wake_up(test, child, (enum variant)variant);
}

/* ---- Setting out ------------------------------------------------------- */

/* One slot is left for KEY: free, or the former's, or KEY's own. */
static void prepare(struct test *test)
{
	const struct scenario *scenario = test->scenario;
	struct weir_decision decision;

	world_make(&test->world, policies, LENGTH(policies));
	if (scenario->former)
		must(world_ask(&test->world, "light", scenario->former, 1, BEGIN_NS, &decision));
	if (scenario->spent)
		must(world_ask(&test->world, scenario->policy, KEY, scenario->spent,
			       scenario->now_ns, &decision));
	world_fill(&test->world, WORLD_SLOTS - 1);
	world_save(&test->world);
}

/* The operation, undisturbed: what KEY's bucket is before and after. */
static void try_out(struct test *test)
{
	memset(&test->after, 0, sizeof(test->after));
	test->before = state_of(test, test->scenario->policy, KEY);
	operate(test);
	test->thread = weir_plain;
	test->thread.absent = PLAIN_NOT_ABSENT;
	must(test->world.told->passed);
	must(test->world.told->decision.reason == WEIR_REASON_LIMIT);
	test->after = state_of(test, test->scenario->policy, KEY);
	must(!is_state(test->before, test->after));
	test->slot = world_slot(&test->world, test->scenario->policy, 0, KEY);
	world_restore(&test->world);
}

/* What the thread knows of policies and of its last key, which chooses the path, is not the
 * same at each fork: let it be what the operation left. */
static void forget(void *context)
{
	const struct test *test = context;

	weir_plain = test->thread;
}

static void halt_everywhere(int index, bool stopped)
{
	struct test test = { .scenario = &scenarios[index], .kill = !stopped };
	struct traced traced = { .arrive = forget, .operate = operate, .context = &test };
	char name[64];

	prepare(&test);
	try_out(&test);
	traced.lines[0] = test.slot;
	snprintf(name, sizeof(name), "%s, %s", test.scenario->name, stopped ? "stop" : "kill");
	world_each_instruction(&test.world, name, &traced, VARIANTS, 100, at_instruction, &test);
	world_remove(&test.world);
}

START_TEST(killed_at_each_instruction)
{
	halt_everywhere(_i, false);
}
END_TEST

START_TEST(stopped_at_each_instruction)
{
	halt_everywhere(_i, true);
}
END_TEST

static void add(TCase *tests)
{
	tcase_add_loop_test(tests, killed_at_each_instruction, 0, SCENARIOS);
	tcase_add_loop_test(tests, stopped_at_each_instruction, 0, SCENARIOS);
}

int main(void)
{
	return world_main("crash in a bucket", add);
}
