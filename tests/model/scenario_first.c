/* SPDX-License-Identifier: Apache-2.0 */
/* The first requests for one key: several claimers, one bucket. */
#include "tests/model/scenarios.h"

static void setup(void)
{
	world_init();
}

/* Together they ask for more than the burst. */
static void ask_too_much(unsigned thread)
{
	(void)thread;
	world_first_request(0, 3);
}

static void ask_for_all(unsigned thread)
{
	world_first_request(0, thread == 0 ? 1 : 3);
}

/* A claimer that stopped costs nobody the grant. */
static void check_one(unsigned unfinished)
{
	watch_balance(unfinished);
	if (unfinished != 3 && world.books.accounts[0].charged != 3)
		model_violation("nobody was granted what was there");
}

static void check_all(unsigned unfinished)
{
	watch_balance(unfinished);
	for (unsigned t = 0; t < 2; t++) {
		if (!(unfinished >> t & 1) && world.books.actors[t].granted[0] == 0)
			model_violation("thread %u was denied what was there", t);
	}
}

/* Another key of the same window is claimed for the first time, too. */
static void ask_for_two_keys(unsigned thread)
{
	world_first_request(thread, 2);
}

const struct model_scenario scenario_first_one = {
	.name = "first-one",
	.about = "two first requests for one key, of which the burst allows one",
	.threads = 2,
	.mortal = 3,
	.alone_max = ALONE_MAX,
	.setup = setup,
	.body = ask_too_much,
	.moved = watch_table,
	.ended = check_one,
};

const struct model_scenario scenario_first_both = {
	.name = "first-both",
	.about = "two first requests for one key, of which the burst allows both",
	.threads = 2,
	.mortal = 3,
	.alone_max = ALONE_MAX,
	.setup = setup,
	.body = ask_for_all,
	.moved = watch_table,
	.ended = check_all,
};

const struct model_scenario scenario_first_keys = {
	.name = "first-keys",
	.about = "first requests for two keys of one window",
	.threads = 2,
	.mortal = 3,
	.alone_max = ALONE_MAX,
	.setup = setup,
	.body = ask_for_two_keys,
	.moved = watch_table,
	.ended = watch_balance,
};
