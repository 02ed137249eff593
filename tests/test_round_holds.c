/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_round_holds.c - what rounds tell of concurrency limits, and what a host makes of the
 * answers: call by call, without Redis.  The test leads by hand.
 */
#include "src/handle.h"
#include "sync/round.h"
#include "tests/suite.h"
#include "tests/sync_held.h"

#define LEADER 4096u            /* a participant's id */
#define TERM 3u

static struct round rounds[SYNC_SHARDS];
static struct round_walk walk;
static struct segment *segment;

/* A host that this test leads, with a cap of one. */
static void begin(void)
{
	struct weir_policy policy = host_policy("10 concurrency", WEIR_BOUNDED, WEIR_FAIL_CLOSED);

	held_forget();
	hosts_create(1, &policy);
	segment = handle_control(hosts[0]);
	fixture_sync(segment, 100 * MS);
	segment->header->leader.word = (struct word_pair){ LEADER, TERM };
	walk = (struct round_walk){ 0 };
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		segment->shards[i].fresh_until_ns = WEIR_NEVER;
		rounds[i] = (struct round){ .shard = i, .tag = (uint64_t)TERM << 32 };
	}
}

/* The round that takes the bucket, at LATER_NS from now; NULL if none does. */
static struct round *collect(uint64_t later_ns)
{
	struct round *found = NULL;

	/* Each call has a tag of its own. */
	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		rounds[i].tag++;
	round_collect(segment, rounds, &walk, NULL, LEADER, TERM,
		      weir_now_ns(hosts[0]) + later_ns, NULL);
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		ck_assert_uint_le(rounds[i].hold_count, found ? 0 : 1);
		if (rounds[i].hold_count)
			found = &rounds[i];
	}
	return found;
}

/* What ROUND tells. */
static uint64_t told(const struct round *round)
{
	return (uint64_t)wire_get64(round->hold_blob + 16);
}

/* Redis answers that the others hold OTHERS. */
static void answer(const struct round *round, uint64_t others, uint32_t error)
{
	unsigned char item[WIRE_HOLD_REPLY];
	struct round_reply reply = { .code = ROUND_DONE, .hosts = 2, .last_tag = round->tag,
				     .holds = item, .hold_count = 1 };

	wire_put32(wire_put32(wire_put64(item, others), 1), error);
	ck_assert(round_merge(segment, round, &reply));
	segment->shards[round->shard].fresh_until_ns = WEIR_NEVER;
}

/* Units that were released and taken again while a call is under way are in nobody's
 * view: they count against the cap. */
START_TEST(test_cap_after_release)
{
	struct weir_decision decision;
	struct round *round;

	for (int i = 0; i < 8; i++) {
		ck_assert(acquire(0, &decision));
		/* The cap is one. */
		ck_assert(!acquire(0, &decision));
		ck_assert_int_eq(decision.reason, WEIR_REASON_CAP);
		ck_assert_uint_eq(decision.retry_after_ns, 100 * MS);
		round = collect(0);
		ck_assert_uint_eq(told(round), (uint64_t)i + 1);
		answer(round, 1, 0);
	}
	release(0, 8);
	round = collect(0);
	ck_assert_uint_eq(told(round), 0);
	ck_assert(acquire(0, &decision));
	ck_assert(!acquire(0, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_CAP);
	answer(round, 9, 0);
	ck_assert(!acquire(0, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
}
END_TEST

/* A request that was judged before merged was lowered, and is counted behind it, fails. */
START_TEST(test_epoch_moves)
{
	struct word_pair seen, state;
	struct slot *slot;
	struct round *round;

	acquire(0, NULL);
	round = collect(0);
	slot = &segment->table.slots[round->holds[0].slot];
	answer(round, 0, 0);
	acquire(0, NULL);
	answer(collect(0), 0, 0);
	release(0, 1);
	seen = slot->state;
	ck_assert_uint_eq(told(collect(0)), 1);
	state = slot->state;
	ck_assert_uint_eq(slot->merged >> STATE_USED_SHIFT, 1);
	ck_assert_uint_ne(seen.second, state.second);
	ck_assert_uint_eq((seen.second ^ state.second) & ~STATE_EPOCH_MASK, 0);
	/* To tell more, or the same, moves nothing. */
	answer(collect(0), 0, 0);
	seen = slot->state;
	ck_assert_ptr_nonnull(collect(SECOND));
	state = slot->state;
	ck_assert_uint_eq(seen.second, state.second);
}
END_TEST

/* Renewed for as long as it is held, every 10 s at least; told once that it is not; and
 * asked for anew when somebody is denied. */
START_TEST(test_renewed)
{
	struct weir_decision decision;
	uint64_t later_ns = 0, last_ns = 0;
	unsigned calls = 0;

	acquire(0, &decision);
	for (; later_ns < 120 * SECOND; later_ns += 100 * MS) {
		struct round *round = collect(later_ns);

		if (!round)
			continue;
		ck_assert_uint_eq(told(round), 1);
		ck_assert_uint_le(later_ns - last_ns, 10 * SECOND + 100 * MS);
		last_ns = later_ns;
		answer(round, 10, 0);
		calls++;
	}
	ck_assert_uint_lt(calls, 25);
	/* A call that Redis could not keep is made again. */
	release(0, 1);
	answer(collect(later_ns), 10, 3);
	answer(collect(later_ns), 10, 0);
	for (calls = 0; later_ns < 240 * SECOND; later_ns += 100 * MS) {
		struct round *round = collect(later_ns);

		if (round)
			answer(round, 10, 0);
		calls += round != NULL;
	}
	ck_assert_uint_lt(calls, 10);
	ck_assert_ptr_null(collect(later_ns));
	ck_assert(!acquire(0, &decision));
	ck_assert_ptr_nonnull(collect(later_ns));
}
END_TEST

/* Redis has forgotten, and answers as if nobody held anything: for max_staleness what
 * was known stands. */
START_TEST(test_floor_after_loss)
{
	struct weir_decision decision;
	struct round *round;

	acquire(0, &decision);
	round = collect(0);
	answer(round, 9, 0);
	segment->shards[round->shard].lost_ns = weir_now_ns(hosts[0]);
	answer(collect(SECOND), 0, 0);
	ck_assert(!acquire(0, &decision));
	answer(collect(SECOND), 8, 0);
	ck_assert(!acquire(0, &decision));
	answer(collect(3 * SECOND), 8, 0);
	ck_assert(acquire(0, &decision));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("round_holds");
	TCase *tests = tcase_create("round_holds");

	tcase_add_checked_fixture(tests, begin, hosts_close);
	tcase_add_test(tests, test_cap_after_release);
	tcase_add_test(tests, test_epoch_moves);
	tcase_add_test(tests, test_renewed);
	tcase_add_test(tests, test_floor_after_loss);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
