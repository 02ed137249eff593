/* SPDX-License-Identifier: Apache-2.0 */
/* Two inserters of one key that choose different victims, since the clock moves
 * between their readings, and a third thread that wants the same slots. */
#include "tests/model/scenarios.h"

/* Before the clock moves the second slot is free, after it the first one, too. */
static void setup(void)
{
	world_init();
	world_place(0, 2, 1);
	world_place(1, 4, 0);
	for (unsigned i = 2; i < WINDOW_SLOTS; i++)
		world_place(i, 4 + i, 40);
}

static void insert(unsigned thread)
{
	if (thread == 2)
		world_wait(1);
	else
		world_first_request(0, 1);
}

/* The newcomer is heavier than both, and begins at the other end. */
static void insert_and_evict(unsigned thread)
{
	if (thread == 2)
		world_wait(1);
	else if (thread == 1)
		world_first_request(1, 3);
	else
		world_first_request(0, 1);
}

static void insert_two_and_evict(unsigned thread)
{
	if (thread == 3)
		world_wait(1);
	else if (thread == 2)
		world_first_request(1, 3);
	else
		world_first_request(0, 1);
}

const struct model_scenario scenario_victims = {
	.name = "victims",
	.about = "two inserters of one key that choose different victims",
	.threads = 3,
	.mortal = 7,
	.alone_max = ALONE_MAX,
	.setup = setup,
	.body = insert,
	.moved = watch_table,
	.ended = watch_balance,
};

const struct model_scenario scenario_victims_evict = {
	.name = "victims-evict",
	.about = "an inserter and a heavier newcomer that want the same slots",
	.threads = 3,
	.mortal = 7,
	.alone_max = ALONE_MAX,
	.setup = setup,
	.body = insert_and_evict,
	.moved = watch_table,
	.ended = watch_balance,
};

const struct model_scenario scenario_victims_all = {
	.name = "victims-all",
	.about = "two inserters of one key, a heavier newcomer, and the clock",
	.threads = 4,
	.mortal = 15,
	.alone_max = ALONE_MAX,
	.soak = true,
	.setup = setup,
	.body = insert_two_and_evict,
	.moved = watch_table,
	.ended = watch_balance,
};
