/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process is killed, or stopped, before each instruction of acquiring and of
 * releasing a hold of a concurrency limit.  Never is more held than the limit
 * allows, counting what the stopped process holds; and all of it is to be had
 * again once that process is dead, the hold records too.
 */
#include <stdio.h>
#include <string.h>

#include "world.h"

#define KEY	      "key"
#define POLICY	      "few"
#define LIMIT	      2u

static const char *const policies[][2] = {
	{ POLICY, "2 concurrency" },
	{ "many", "100 concurrency" },
	{ "light", "5/1s" },
};

/* Each is told its name, and whether KEY's bucket is there before. */
enum operation {
	ACQUIRE_NEW,
	ACQUIRE,
	RELEASE,
	OPERATIONS,
};

static const char *const names[] = { "acquire, new key", "acquire", "release" };

struct holder {
	struct weir_hold holds[WORLD_HOLDS + 1];
	unsigned count;
};

struct test {
	struct world world;
	enum operation operation;
	bool kill;
	struct weir_hold hold; /* the child's own copy */
};

/* ---- Acquiring and releasing ------------------------------------------- */

static bool acquire(struct test *test, const char *policy, struct weir_hold *hold,
		    struct weir_decision *decision)
{
	struct weir_request request = {
		.policy = weir_policy_find(test->world.weir, policy),
		.key = KEY,
		.key_length = strlen(KEY),
		.cost = 1,
		.now_ns = BEGIN_NS,
	};

	return weir_acquire(test->world.weir, &request, hold, decision);
}

/* As many holds as there are; nothing but the limit (or, for policy many, the
 * number of records) may be in the way. */
static unsigned acquire_all(struct test *test, const char *policy, struct holder *holder)
{
	struct weir_decision decision;
	unsigned before = holder->count;

	while (acquire(test, policy, &holder->holds[holder->count], &decision)) {
		if (decision.reason == WEIR_REASON_HOLDS_FULL)
			return holder->count - before;
		must(decision.reason == WEIR_REASON_LIMIT);
		must(++holder->count <= WORLD_HOLDS);
	}
	must(decision.outcome == WEIR_DENIED);
	must(decision.reason == WEIR_REASON_LIMIT);
	return holder->count - before;
}

static void release_all(struct test *test, struct holder *holder)
{
	while (holder->count > 0)
		must(weir_release(test->world.weir, &holder->holds[--holder->count]) == 0);
}

static uint64_t held(const struct test *test)
{
	return world_used(&test->world, POLICY, 0, KEY);
}

/* ---- The child --------------------------------------------------------- */

static void arrive(void *context)
{
	struct test *test = context;
	struct weir_decision decision;

	if (test->operation == RELEASE)
		acquire(test, POLICY, &test->hold, &decision);
}

static void operate(void *context)
{
	struct test *test = context;
	struct weir_decision decision;

	if (test->operation == RELEASE) {
		test->world.told->passed = weir_release(test->world.weir, &test->hold) == 0;
		return;
	}
	test->world.told->passed = acquire(test, POLICY, &test->hold, &decision);
	test->world.told->decision.reason = decision.reason;
}

/* ---- The others -------------------------------------------------------- */

/* All is there again: the limit, the records, and the slot for another key. */
static void check_all_is_back(struct test *test, bool records_first)
{
	struct holder holder = { .count = 0 };
	struct weir_decision decision;

	if (!records_first) {
		must(acquire_all(test, POLICY, &holder) == LIMIT);
		must(held(test) == LIMIT);
		release_all(test, &holder);
	}
	must(acquire_all(test, "many", &holder) == WORLD_HOLDS);
	release_all(test, &holder);
	must(acquire_all(test, POLICY, &holder) == LIMIT);
	must(held(test) == LIMIT);
	release_all(test, &holder);
	must(held(test) == 0);
	world_check(&test->world, false);

	must(world_ask(&test->world, "light", "heir", 1, BEGIN_NS, &decision));
	must(decision.reason == WEIR_REASON_LIMIT);
	must(!world_slot(&test->world, POLICY, 0, KEY) ||
	     !world_slot(&test->world, "many", 0, KEY));
	world_check(&test->world, false);
}

static void killed(struct world *world, pid_t child, uint32_t variant, void *context)
{
	struct test *test = context;

	trace_kill(child);
	must(held(test) <= 1);
	world_check(world, true);
	check_all_is_back(test, variant == 1);
}

/* The others take all that the stopped one leaves. */
static void stopped_among_holders(struct test *test, pid_t child)
{
	struct holder holder = { .count = 0 };
	uint64_t before = held(test), taken;

	must(before <= 1);
	taken = acquire_all(test, POLICY, &holder);
	/* They finish a release that was begun. */
	must(taken == LIMIT - before || (test->operation == RELEASE && taken == LIMIT));
	must(held(test) == LIMIT);
	world_check(&test->world, false);

	trace_finish(child);
	if (test->operation == RELEASE) {
		must(test->world.told->passed);
		must(acquire_all(test, POLICY, &holder) == LIMIT - taken);
	} else {
		must(test->world.told->passed == (before == 1));
		/* It has exited with its hold, if any. */
		must(acquire_all(test, POLICY, &holder) == before);
	}
	must(held(test) == LIMIT);
	world_check(&test->world, false);
	release_all(test, &holder);
}

/* The others are done before it wakes up, and another key has its slot. */
static void stopped_without_a_slot(struct test *test, pid_t child)
{
	struct holder holder = { .count = 0 };
	struct weir_decision decision;
	const struct slot *heir;
	struct slot copy;

	if (held(test) == 0) {
		acquire_all(test, POLICY, &holder);
		release_all(test, &holder);
	}
	must(world_ask(&test->world, "light", "heir", 1, BEGIN_NS, &decision));
	must(decision.reason == WEIR_REASON_LIMIT);
	heir = world_slot(&test->world, "light", 0, "heir");
	must(heir);
	copy = *heir;
	trace_finish(child);
	must(test->world.told->passed);
	must(heir->identity.first == copy.identity.first);
	must(heir->identity.second == copy.identity.second);
	must(heir->state.first == copy.state.first && heir->state.second == copy.state.second);
	world_check(&test->world, true);
	/* The slot is needed for what follows. */
	must(world_ask(&test->world, "light", "heir", 4, BEGIN_NS, &decision));
	must(acquire_all(test, POLICY, &holder) == LIMIT);
	release_all(test, &holder);
	world_check(&test->world, true);
}

static void stopped(struct world *world, pid_t child, uint32_t variant, void *context)
{
	struct test *test = context;

	world_check(world, false);
	if (variant == 0) {
		stopped_among_holders(test, child);
		check_all_is_back(test, true);
	} else {
		stopped_without_a_slot(test, child);
	}
}

/* ---- Setting out ------------------------------------------------------- */

static void halt_everywhere(enum operation operation, bool kill)
{
	struct test test = { .operation = operation, .kill = kill };
	struct traced traced = { .arrive = arrive, .operate = operate, .context = &test };
	struct weir_decision decision;
	char name[64];

	world_make(&test.world, policies, LENGTH(policies));
	/* Two slots are left. */
	world_fill(&test.world, WORLD_SLOTS - 2);
	if (operation != ACQUIRE_NEW) {
		must(acquire(&test, POLICY, &test.hold, &decision));
		must(weir_release(test.world.weir, &test.hold) == 0);
	}
	world_save(&test.world);
	arrive(&test);
	operate(&test);
	must(test.world.told->passed);
	traced.lines[0] = world_slot(&test.world, POLICY, 0, KEY);
	snprintf(name, sizeof(name), "%s, %s", names[operation], kill ? "kill" : "stop");
	world_each_instruction(&test.world, name, &traced, 2, 150, kill ? killed : stopped, &test);
	world_remove(&test.world);
}

START_TEST(killed_at_each_instruction)
{
	halt_everywhere((enum operation)_i, true);
}
END_TEST

START_TEST(stopped_at_each_instruction)
{
	halt_everywhere((enum operation)_i, false);
}
END_TEST

static void add(TCase *tests)
{
	tcase_add_loop_test(tests, killed_at_each_instruction, 0, OPERATIONS);
	tcase_add_loop_test(tests, stopped_at_each_instruction, 0, OPERATIONS);
}

int main(void)
{
	return world_main("crash of a holder", add);
}
