/* SPDX-License-Identifier: Apache-2.0 */
/* Holds of a concurrency limit, whose owners die, and who reaps them. */
#include "tests/model/scenarios.h"

/* books.own[thread]: units that a thread was told it holds. */
#define LIMIT world.books.own[7]
static enum plan_result acquire(unsigned thread, uint64_t *hold)
{
	const unsigned key = 0;
	struct weir_request request;
	struct plan plan;
	enum plan_result result;

	world_plan(&plan, &request, &key, 1, 1);
	plan.limits[0].limit.limit = LIMIT;
	plan.limits[0].limit.algorithm = WEIR_CONCURRENCY;
	result = plan_acquire(&plan);
	if (result == PLAN_ALLOWED && plan.limits[0].hold == 0)
		model_violation("thread %u was allowed without a hold", thread);
	if (result == PLAN_ALLOWED)
		world.books.own[thread]++;
	*hold = plan.limits[0].hold;
	return result;
}

static void release(unsigned thread, uint64_t hold)
{
	/* What it holds is used for a while. */
	weir_model_step();
	world.books.own[thread]--;
	if (!hold_release(&world.segments[thread], hold))
		model_violation("thread %u could not release its hold", thread);
}

static void setup(void)
{
	world_init();
	LIMIT = 1;
	model_region("records", world.records, sizeof(world.records));
	model_region("next", &world.header.hold, sizeof(world.header.hold));
	world_place(0, 0, 0);
	world.slots[0].state = (struct word_pair){ 0, STATE_LIVE | 1 };
}

static void setup_room(void)
{
	setup();
	LIMIT = 2;
}

static void hold_once(unsigned thread)
{
	uint64_t hold;

	if (acquire(thread, &hold) == PLAN_ALLOWED)
		release(thread, hold);
}

static void hold_and_reap(unsigned thread)
{
	if (thread == 0)
		hold_once(0);
	else
		holds_reap(&world.segments[thread], NULL);
}

static void hold_two_and_reap(unsigned thread)
{
	uint64_t hold;

	if (thread == 0)
		hold_once(0);
	else if (thread == 1)
		acquire(1, &hold);      /* and keep it */
	else
		holds_reap(&world.segments[thread], NULL);
}

static uint64_t counted(void)
{
	return world.slots[0].state.second >> STATE_USED_SHIFT;
}

static uint64_t held_alive(void)
{
	uint64_t held = 0;

	for (unsigned t = 0; t < MODEL_THREADS_MAX; t++)
		held += model_killed(t) ? 0 : world.books.own[t];
	return held;
}

/* What living threads hold is counted, and never more than the limit. */
static void check_count(unsigned thread)
{
	uint64_t held = held_alive();

	(void)thread;
	if (held > counted())
		model_violation("%llu units are held, %llu are counted", (unsigned long long)held,
				(unsigned long long)counted());
	if (counted() > LIMIT)
		model_violation("%llu units are counted, the limit is %llu",
				(unsigned long long)counted(), (unsigned long long)LIMIT);
}

/* After a reaper got through, nothing of the dead is left; once is enough. */
static void check_reaped(unsigned unfinished)
{
	const struct segment *reaper = &world.segments[MODEL_THREADS_MAX - 1];
	bool all_gone = true;
	unsigned taken = 0;

	for (unsigned t = 0; t < MODEL_THREADS_MAX; t++) {
		if ((unfinished >> t & 1) && !model_killed(t))
			all_gone = false;       /* stopped, and may yet go on */
	}
	holds_reap(reaper, NULL);
	check_count(0);
	if (holds_reap(reaper, NULL) != 0)
		model_violation("a second reaping found something left");
	for (unsigned i = 0; i < WORLD_RECORDS; i++)
		taken += (world.records[i].word.first & 0xff) != 0;
	if (all_gone && (counted() != held_alive() || taken != held_alive()))
		model_violation("%llu units and %u records are taken, %llu are held",
				(unsigned long long)counted(), taken,
				(unsigned long long)held_alive());
}

#define HOLDS(identifier, text, line, count, dies, first, run) \
	const struct model_scenario identifier = { \
		.name = text, .about = line, .threads = count, .mortal = (1u << count) - 1, \
		.killable = dies, .alone_max = 3 * ALONE_MAX, .setup = first, .body = run, \
		.moved = check_count, .ended = check_reaped, \
	}

HOLDS(scenario_holds_two, "holds-two", "two that want the one unit; either may die", 2, 3, setup,
      hold_once);
HOLDS(scenario_holds_reap, "holds-reap", "an owner dies anywhere, two reapers", 3, 1, setup,
      hold_and_reap);
HOLDS(scenario_holds_room, "holds-room", "two owners with room for both, one dies; a reaper", 3, 1,
      setup_room, hold_two_and_reap);
