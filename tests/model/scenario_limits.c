/* SPDX-License-Identifier: Apache-2.0 */
/* Requests with two limits: all or nothing, and never beyond either. */
#include "tests/model/scenarios.h"

/* The first limit has room for one of the two requests, the second for both. */
static void setup(void)
{
	world_init();
	world_place(0, 0, 2);
	world_place(WINDOW_SLOTS / 2, 1, 1);
}

static void setup_absent(void)
{
	world_init();
	world_place(0, 0, 2);
}

/* What the first limit refuses, the second must not keep, and the reverse. */
static void same_order(unsigned thread)
{
	(void)thread;
	world_request_two(0, 1, 2);
}

static void other_order(unsigned thread)
{
	world_request_two(thread, !thread, 2);
}

/* Both would fit alone; together they may deny each other, but not beyond. */
static void check(unsigned unfinished)
{
	const struct books *books = &world.books;

	watch_balance(unfinished);
	if (unfinished == 0 && books->accounts[0].charged != books->accounts[1].charged)
		model_violation("%llu tokens of one limit and %llu of the other are gone",
				(unsigned long long)books->accounts[0].charged,
				(unsigned long long)books->accounts[1].charged);
}

#define LIMITS(identifier, text, line, first, run) \
	const struct model_scenario identifier = { \
		.name = text, .about = line, .threads = 2, .mortal = 3, \
		.alone_max = 2 * ALONE_MAX, .setup = first, .body = run, \
		.moved = watch_table, .ended = check, \
	}

LIMITS(scenario_limits_same, "limits", "two limits, of which one has room for one request", setup,
       same_order);
LIMITS(scenario_limits_other, "limits-cross", "two limits, charged in opposite orders", setup,
       other_order);
LIMITS(scenario_limits_absent, "limits-absent", "two limits, the second bucket to be claimed",
       setup_absent, same_order);
