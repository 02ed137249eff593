/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process is killed, or stopped, before each instruction of taking tokens ahead, of
 * paying with them, and of giving back what purses have.  Then others ask for single
 * tokens until they are denied; a stopped process wakes up after that.
 *
 * All together never get more than the burst.  They get all of it, but for what was taken
 * ahead by the process, if that was halted between charging the bucket and filling its
 * purse, or between emptying it and giving back; and for the request that it was in.
 *
 * Or the others refund, once or more often, what was spent, while a stopped process gives
 * back: then all get the burst once more, and no token more than that.
 */
#include <stdio.h>

#include "shm/policy_table.h"
#include "shm/purse.h"
#include "world.h"

#define KEY   "key"
#define BURST 640u
#define SPENT 1u
#define AHEAD 10u

static const char *const policies[][2] = { { "hot", "640/1h" } };

enum operation {
	TAKE,
	PAY,
	GIVE_BACK,
	OPERATIONS,
};

static const char *const names[OPERATIONS] = { "take", "pay", "give back" };

struct test {
	struct world world;
	enum operation operation;
	bool kill;
	struct purse_own own;		/* the child gets a copy */
	struct bucket_ref ref;
	struct limit limit;
	struct bucket_request request;
	unsigned before;		/* tokens that were granted before */
	unsigned ahead;			/* and taken ahead, at most */
	unsigned short_of[2];		/* how often all of the burst was had, or not */
};

/* ---- The child --------------------------------------------------------- */

static bool take_into(struct test *test, uint32_t index, struct purse_own *own)
{
	struct purse_wish wish = { .index = index, .tokens = AHEAD };
	struct bucket_state after;

	return purse_take(test->world.segment, own, &wish, &test->ref, &test->limit,
			  &test->request, &after);
}

static bool take(struct test *test)
{
	return take_into(test, 0, &test->own);
}

static void pay(struct test *test)
{
	while (purse_pay(&test->world.segment->purses, &test->own, BEGIN_NS, 1))
		test->world.told->status++;
}

static void operate(void *context)
{
	struct test *test = context;
	struct bucket_request back = test->request;
	uint64_t returned;

	switch (test->operation) {
	case TAKE:
		if (take(test))
			test->world.told->status++;
		pay(test);
		break;
	case PAY:
		pay(test);
		break;
	case GIVE_BACK:
		back.operation = BUCKET_REFUND;
		back.cost = 0;
		purses_give_back(test->world.segment, &test->ref, &test->limit, &back, &returned);
		break;
	case OPERATIONS:
		break;
	}
}

/* ---- The others -------------------------------------------------------- */

/* What purses have. */
static uint64_t count_ahead(const struct world *world)
{
	const struct purses *purses = &world->segment->purses;
	uint64_t tokens = 0;

	for (uint32_t i = 0; i < purses->count; i++)
		tokens += purse_tokens(purses->all[i].word.first);
	return tokens;
}

static void at_instruction(struct world *world, pid_t child, uint32_t variant, void *context)
{
	struct test *test = context;
	unsigned granted;

	(void)variant;
	if (test->kill)
		trace_kill(child);
	granted = world_exhaust(world, "hot", KEY, BEGIN_NS);
	/* Who was denied has found all that was there, wherever the process is. */
	must(test->operation != GIVE_BACK || count_ahead(world) == 0);
	world_check(world, false);
	if (!test->kill) {
		trace_finish(child);
		world_check(world, false);
		granted += world_exhaust(world, "hot", KEY, BEGIN_NS);
	}
	granted += SPENT + test->before + (unsigned)world->told->status;
	must_say(granted <= BURST, "%u tokens of %u", granted, BURST);
	must_say(granted + test->ahead + 1 >= BURST, "%u tokens of %u", granted, BURST);
	test->short_of[granted + 1 < BURST]++;
}

/* The bucket is full when they go on, and not only less in debt: what the process has in
 * hand has to be worth nothing. */
static void at_refund(struct world *world, pid_t child, uint32_t variant, void *context)
{
	struct test *test = context;
	struct weir_decision decision;
	unsigned granted;

	must(world_ask(world, "hot", KEY, 1, BEGIN_NS, &decision));
	for (uint32_t i = 0; i <= variant / 2; i++)
		world_operate(world, variant % 2 ? WORLD_RESET : WORLD_REFUND, "hot", KEY, 5,
			      BEGIN_NS);
	granted = world_exhaust(world, "hot", KEY, BEGIN_NS);
	trace_finish(child);
	world_check(world, false);
	granted += world_exhaust(world, "hot", KEY, BEGIN_NS);
	must_say(granted <= BURST, "%u tokens of %u", granted, BURST);
	must_say(granted + test->ahead >= BURST, "%u tokens of %u", granted, BURST);
}

/* ---- Setting out ------------------------------------------------------- */

static void lease(struct world *world)
{
	struct weir_policy policy;
	struct weir_error error;

	must(weir_policy_get(world->weir, "hot", &policy, &error) == 0);
	policy.consistency = WEIR_LOCAL;
	policy.lease = true;
	must_say(weir_policy_set(world->weir, &policy, 1, &error) == 0, "%s", error.message);
}

static void prepare(struct test *test)
{
	struct world *world = &test->world;
	struct weir_decision decision;
	uint32_t first;

	world_make(world, policies, 1);
	lease(world);
	must(world_ask(world, "hot", KEY, SPENT, BEGIN_NS, &decision));
	test->ref.slot = world_slot(world, "hot", 0, KEY);
	test->ref.generation = test->ref.slot->identity.second & GENERATION_MASK;
	test->request = (struct bucket_request){
		.operation = BUCKET_SPEND,
		.cost = 1,
		.now_ns = BEGIN_NS,
		.version = &world->segment->header->policy.version,
		.version_seen = policy_version(world->segment),
	};
	policy_limit(world->segment, test->request.version_seen,
		     policy_index(weir_policy_find(world->weir, "hot")), 0, &test->limit);
	must(purses_assign(&world->segment->purses, &first) && first == 0);
	if (test->operation != TAKE)
		must(take(test));
	test->before = test->operation != TAKE;
	test->ahead = AHEAD;
	if (test->operation == GIVE_BACK) {
		struct purse_own others = { 0 };

		must(take_into(test, 1, &others));
		test->before++;
		test->ahead += AHEAD;
	}
	world_save(world);
}

typedef void at_function(struct world *world, pid_t child, uint32_t variant, void *context);

static void halt(struct test *test, const char *name, uint32_t variants, at_function *at)
{
	struct traced traced = { .operate = operate, .context = test };
	struct purse_own own;

	prepare(test);
	own = test->own;
	/* What happens at the first call only has happened: see trace.h. */
	operate(test);
	test->own = own;
	world_exhaust(&test->world, "hot", KEY, BEGIN_NS);
	world_restore(&test->world);
	traced.lines[0] = test->ref.slot;
	traced.lines[1] = &test->world.segment->purses.all[0];
	world_each_instruction(&test->world, name, &traced, variants, 100, at, test);
}

static void halt_everywhere(int index, bool stopped)
{
	struct test test = { .operation = (enum operation)index, .kill = !stopped };
	char name[64];

	snprintf(name, sizeof(name), "%s, %s", names[index], stopped ? "stop" : "kill");
	halt(&test, name, 1, at_instruction);
	printf("%s: all of the burst %u times, less %u times\n", name, test.short_of[0],
	       test.short_of[1]);
	ck_assert_uint_gt(test.short_of[0], test.short_of[1] / 2);
	/* Only who dies with the tokens in hand loses them. */
	ck_assert(test.operation != PAY || test.short_of[1] == 0);
	ck_assert(test.operation != GIVE_BACK || test.kill || test.short_of[1] == 0);
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

START_TEST(stopped_while_others_refund)
{
	struct test test = { .operation = GIVE_BACK };

	halt(&test, "give back, others refund", 8, at_refund);
	world_remove(&test.world);
}
END_TEST

static void add(TCase *tests)
{
	tcase_add_loop_test(tests, killed_at_each_instruction, 0, OPERATIONS);
	tcase_add_loop_test(tests, stopped_at_each_instruction, 0, OPERATIONS);
	tcase_add_test(tests, stopped_while_others_refund);
}

int main(void)
{
	return world_main("crash with a purse", add);
}
