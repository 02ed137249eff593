/* SPDX-License-Identifier: Apache-2.0 */
/* A thread stops with an old reading of its key's bucket, and the slot gets other
 * owners meanwhile, at last the same key again. */
#include "tests/model/scenarios.h"

/* One slot to fight for; the others are bystanders' that outweigh everybody. */
static void setup(uint64_t debt)
{
	world_init();
	world_place(0, 0, debt);
	for (unsigned i = 1; i < WINDOW_SLOTS; i++)
		world_place(i, 4 + i, 40);
}

static void setup_light(void)
{
	setup(1);
}

static void setup_expired(void)
{
	setup(0);
}

static void setup_spent(void)
{
	setup(WORLD_BURST);
}

static void setup_spent_caller(void)
{
	setup(WORLD_BURST);
	world_caller_times();
}

static void recycle_twice(unsigned thread)
{
	world_request(0, 1);
	if (thread == 0)
		return;
	world_wait(2);
	world_first_request(2, 1);
	world_wait(1);
	world_first_request(0, 1);
}

static void evict(unsigned thread)
{
	if (thread == 0) {
		world_request(0, 1);
		world_request(0, 1);
	} else {
		world_first_request(2, 3);
	}
}

static void evict_three(unsigned thread)
{
	if (thread == 2)
		world_first_request(2, 3);
	else
		world_request(0, 1);
}

static void take_over(unsigned thread)
{
	if (thread == 0)
		world_request(0, 1);
	else
		world_first_request(2, 1);
}

static void spend_late(unsigned thread)
{
	if (thread == 0) {
		world_request(0, WORLD_BURST);
	} else {
		world_wait(WORLD_BURST);
		world_first_request(2, 1);
	}
}

#define RECYCLE(identifier, text, line, count, first, run, long_form) \
	const struct model_scenario identifier = { \
		.name = text, .about = line, .threads = count, .mortal = (1u << count) - 1, \
		.alone_max = 3 * ALONE_MAX, .setup = first, .body = run, .soak = long_form, \
		.moved = watch_table, .ended = watch_balance, \
	}

RECYCLE(scenario_recycle, "recycle", "an old CAS, the slot recycled twice, the key back in it", 2,
	setup_light, recycle_twice, false);
RECYCLE(scenario_evict, "evict", "a heavier newcomer while the victim's key is charged", 2,
	setup_light, evict, false);
RECYCLE(scenario_evict_three, "evict-three", "as evict, with two threads that charge", 3,
	setup_light, evict_three, true);
RECYCLE(scenario_take_over, "take-over", "an expired bucket is taken while its key charges it", 2,
	setup_expired, take_over, false);
RECYCLE(scenario_late, "late", "a request whose clock reading is older than a take-over", 2,
	setup_spent, spend_late, false);
RECYCLE(scenario_late_caller, "late-caller", "as late, with times that the callers carry", 2,
	setup_spent_caller, spend_late, false);
