/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_windows_early.c - a bucket whose window the cluster has not begun.
 *
 * Redis has some of its tokens when its clock falls back.  The leader takes it back to the
 * present window, and a charge may come between its look at the bucket and the move.
 */
#include <string.h>

#include "shm/window.h"
#include "src/handle.h"
#include "sync/collect.h"
#include "tests/fixture.h"
#include "tests/suite.h"

#define LEADER 4096u            /* a participant's id */
#define TERM 3u
#define PERIOD_NS HOUR

static struct weir *weir;
static struct segment *segment;
static weir_policy_id policy;
static struct round rounds[SYNC_SHARDS];
static struct round_walk round_walk;
static uint64_t begin_ns;       /* of the window, aligned */
static bool charge_meanwhile;

static void open_segment(void)
{
	weir = fixture_open_synced(64, 100 * MS);
	policy = fixture_set(weir, "api", "100/1h fixed-window");
	segment = handle_control(weir);
	segment->header->leader.word = (struct word_pair){ LEADER, TERM };
	round_walk = (struct round_walk){ 0 };
	begin_ns = weir_now_ns(weir) + (uint64_t)segment->wall_offset_ns;
	begin_ns += PERIOD_NS - begin_ns % PERIOD_NS;
}

static void close_segment(void)
{
	weir_close(weir);
}

/* The cluster's time is that much after the window begins. */
static void set_clock(int64_t after_ns)
{
	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		segment->shards[i].window_offset_ns = begin_ns + (uint64_t)after_ns -
						      weir_now_ns(weir);
}

static void charge(uint64_t cost)
{
	struct weir_request request = { .policy = policy, .key = "k", .key_length = 1,
					.cost = cost, .now_ns = weir_now_ns(weir) };
	struct weir_decision decision;

	ck_assert(weir_force_take(weir, &request, &decision));
}

/* The leader reads it behind the bucket. */
static uint64_t clock_ns(void)
{
	if (charge_meanwhile)
		charge(1);
	return weir_now_ns(weir);
}

/* The round that has the bucket, if one has. */
static struct round *collect(uint32_t sequence)
{
	struct round *found = NULL;

	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		rounds[i] = (struct round){ .shard = i, .tag = (uint64_t)TERM << 32 | sequence };
	round_collect(segment, rounds, &round_walk, NULL, LEADER, TERM, weir_now_ns(weir), clock_ns);
	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		found = rounds[i].window_count > 0 ? &rounds[i] : found;
	return found;
}

/* What it tells of a window that ends at END_NS. */
static int64_t told(const struct round *round, uint64_t end_ns)
{
	ck_assert_ptr_nonnull(round);
	ck_assert_uint_eq(round->window_count, 1);
	ck_assert_int_eq(wire_get_ns(round->window_blob + 16), (int64_t)end_ns);
	return wire_get64(round->window_blob + 32);
}

static void answer(const struct round *round, int64_t total)
{
	uint64_t now_ns = weir_now_ns(weir);
	uint64_t virtual_ns = now_ns + segment->shards[round->shard].window_offset_ns;
	unsigned char window[WIRE_WINDOW_REPLY];
	struct round_reply reply = {
		.code = ROUND_DONE,
		.virtual_seconds = virtual_ns / SECOND,
		.virtual_part_ns = virtual_ns % SECOND,
		.hosts = 1,
		.last_tag = round->tag,
		.windows = window,
		.window_count = 1,
		.received_ns = now_ns,
	};

	wire_put32(wire_put32(wire_put64(wire_put64(window, (uint64_t)total), (uint64_t)-1), 0), 0);
	ck_assert(round_merge(segment, round, &reply));
}

/* Redis has three tokens of the window, which its clock then has not begun. */
static void be_early(void)
{
	struct round *round;

	charge_meanwhile = false;
	set_clock(10 * MINUTE);
	charge(3);
	round = collect(1);
	ck_assert_int_eq(told(round, begin_ns + PERIOD_NS), 3);
	answer(round, 3);
	set_clock(-10 * MINUTE);
}

START_TEST(it_comes_back_with_its_tokens)
{
	be_early();
	ck_assert_int_eq(told(collect(2), begin_ns), 3);
}
END_TEST

/* It stays where it is: when its window begins, Redis has three of its tokens still. */
START_TEST(one_that_is_charged_meanwhile_keeps_what_redis_has)
{
	be_early();
	charge_meanwhile = true;
	ck_assert_ptr_null(collect(2));
	set_clock(10 * MINUTE);
	ck_assert_int_eq(told(collect(2), begin_ns + PERIOD_NS), 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("windows_early");
	TCase *cases = tcase_create("windows_early");

	tcase_add_checked_fixture(cases, open_segment, close_segment);
	tcase_add_test(cases, it_comes_back_with_its_tokens);
	tcase_add_test(cases, one_that_is_charged_meanwhile_keeps_what_redis_has);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
