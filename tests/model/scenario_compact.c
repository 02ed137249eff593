/* SPDX-License-Identifier: Apache-2.0 */
/* The compact table: what the other scenarios do to slots of 64 bytes. */
#include "tests/model/scenarios.h"

static void setup(void)
{
	world_init();
	world_compact();
}

/* The second slot is nobody's; the first one will be free, too, and then preferred. */
static void setup_victims(void)
{
	setup();
	world_place_compact(0, 2, 1);
}

/* One slot to fight for; the other one is a bystander's that outweighs everybody. */
static void setup_one(uint64_t debt)
{
	setup();
	world_place_compact(0, 0, debt);
	world_place_compact(1, 5, 40);
}

static void setup_light(void)
{
	setup_one(1);
}

static void setup_expired(void)
{
	setup_one(0);
}

static void setup_late(void)
{
	setup_one(WORLD_BURST);
	world_caller_times();
}

static void ask_too_much(unsigned thread)
{
	(void)thread;
	world_first_request(0, 3);
}

static void check_one(unsigned unfinished)
{
	watch_balance(unfinished);
	if (unfinished != 3 && world.books.accounts[0].charged != 3)
		model_violation("nobody was granted what was there");
}

/* Who read the window before chooses the other slot. */
static void insert(unsigned thread)
{
	if (thread == 1)
		world_reset(0, 2);
	world_first_request(0, 1);
}

static void evict(unsigned thread)
{
	if (thread == 1) {
		world_first_request(2, 3);
		return;
	}
	world_request(0, 1);
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
		return;
	}
	world_wait(WORLD_BURST);
	world_first_request(2, 1);
}

static void charge_crosswise(unsigned thread)
{
	world_request_two(thread, 1 - thread, 3);
}

static void setup_two(void)
{
	setup();
	world_place_compact(0, 0, 1);
	world_place_compact(1, 1, 1);
}

#define COMPACT(identifier, text, line, count, first, run, end, long_form) \
	const struct model_scenario identifier = { \
		.name = text, .about = line, .threads = count, .mortal = (1u << count) - 1, \
		.alone_max = 3 * ALONE_MAX, .setup = first, .body = run, .soak = long_form, \
		.moved = watch_compact, .ended = end, \
	}

COMPACT(scenario_compact_first, "compact-first", "first-one in a compact segment", 2, setup,
	ask_too_much, check_one, false);
COMPACT(scenario_compact_victims, "compact-victims", "victims in a compact segment", 2,
	setup_victims, insert, watch_balance, false);
COMPACT(scenario_compact_claims, "compact-claims", "the same with three, so that one sleeps over "
	"a second claim of the slot", 3, setup_victims, insert, watch_balance, true);
COMPACT(scenario_compact_evict, "compact-evict", "evict in a compact segment", 2, setup_light,
	evict, watch_balance, false);
COMPACT(scenario_compact_take_over, "compact-take-over", "take-over in a compact segment", 2,
	setup_expired, take_over, watch_balance, false);
COMPACT(scenario_compact_late, "compact-late", "late-caller in a compact segment", 2, setup_late,
	spend_late, watch_balance, false);
COMPACT(scenario_compact_limits, "compact-limits", "limits-cross in a compact segment", 2,
	setup_two, charge_crosswise, watch_balance, false);
