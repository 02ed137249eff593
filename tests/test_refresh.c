/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_refresh.c - when a leader asks again for buckets that nobody charges.
 *
 * Time is the test's own: ticks come when the leader says that one is due.  Redis
 * answers that it knows what it was told, and nothing else.
 */
#include <stdio.h>
#include <string.h>

#include "src/handle.h"
#include "sync/leader.h"
#include "tests/fixture.h"
#include "tests/suite.h"

#define INTERVAL SECOND
#define DRAINED (SECOND / 64)           /* a 64th of the burst, at the limit's rate */
#define SPACING (10 * MS)
#define MANY 64u

static struct weir *weir;
static struct segment *segment;
static struct leader leader;
static weir_policy_id policy;
static uint64_t now;
static unsigned items;                  /* of token buckets, in the rounds of the last tick */
static unsigned char answers[SYNC_SHARDS][ROUND_ITEMS * WIRE_REPLY];

static uint64_t clock_ns(void)
{
	return now;
}

static uint64_t pause_ns(void *context, unsigned shard, unsigned failures)
{
	(void)context, (void)shard, (void)failures;
	return 0;
}

static void answer(const struct round *round, struct round_reply *reply)
{
	unsigned char *at = answers[round->shard];

	for (unsigned i = 0; i < round->count; i++) {
		const struct round_item *item = &round->items[i];

		at = wire_put_ns(at, (int64_t)item->time_ns);
		at = wire_put32(at, item->view);
	}
	/* Its clock is this host's. */
	reply->virtual_seconds = round->taken_ns / SECOND;
	reply->virtual_part_ns = round->taken_ns % SECOND;
	reply->items = answers[round->shard];
	reply->count = round->count;
	reply->last_tag = round->tag;
	items += round->count;
}

static void call(void *context, const struct leader_call *calls, struct round_reply *replies,
		 unsigned count)
{
	(void)context;
	for (unsigned i = 0; i < count; i++) {
		replies[i] = (struct round_reply){ .code = ROUND_DONE, .hosts = 2 };
		if (calls[i].round)
			answer(calls[i].round, &replies[i]);
	}
}

/* Returns how many buckets were asked for. */
static unsigned tick(void)
{
	static const struct leader_transport transport = { call, pause_ns, NULL, NULL, clock_ns };
	enum leader_result result;

	items = 0;
	ck_assert(leader_stand(&leader, now));
	do
		result = leader_tick(&leader, &transport, now);
	while (result == LEADER_FENCED || result == LEADER_MORE);
	ck_assert(result == LEADER_DONE || result == LEADER_IDLE);
	return items;
}

/* How long the leader may sleep, if it is not woken. */
static uint64_t rest(void)
{
	uint64_t due = leader_due_ns(&leader);

	return due < now + INTERVAL ? due - now : INTERVAL;
}

static void take_of(const char *key, uint64_t cost)
{
	struct weir_request request = { .policy = policy, .key = key, .key_length = strlen(key),
					.cost = cost, .now_ns = now };

	ck_assert(weir_force_take(weir, &request, NULL));
}

static void begin(void)
{
	weir = fixture_open_synced(1024, INTERVAL);
	segment = handle_control(weir);
	policy = fixture_set(weir, "api", "1000/1s");
	leader_init(&leader, segment);
	now = weir_now_ns(weir);
	ck_assert_uint_eq(tick(), 0);
}

static void end(void)
{
	leader_end(&leader);
	weir_close(weir);
}

/* Others may go on with what is left: this host hears of it long before its interval ends. */
START_TEST(a_bucket_near_its_limit_is_asked_for_early)
{
	take_of("k", 900);
	ck_assert_uint_eq(tick(), 1);
	ck_assert_uint_eq(rest(), DRAINED);
	now += DRAINED - 1;
	ck_assert_uint_eq(tick(), 0);
	now += 1;
	ck_assert_uint_eq(tick(), 1);
}
END_TEST

/* Ever later, so that one that nobody asks for any more costs little, and then nothing. */
START_TEST(it_is_asked_for_ever_later)
{
	uint64_t wait = DRAINED;
	unsigned asked = 0;

	take_of("k", 5000);
	tick();
	while (rest() < INTERVAL) {
		ck_assert_uint_eq(rest(), wait);
		now += rest();
		ck_assert_uint_eq(tick(), 1);
		wait *= 2;
		ck_assert_uint_le(++asked, 6);
	}
	ck_assert_uint_eq(asked, 6);
	now += 10 * SECOND;
	tick();
	ck_assert_uint_eq(rest(), INTERVAL);
}
END_TEST

/* A charge begins anew. */
START_TEST(a_charge_has_it_asked_for_early_again)
{
	take_of("k", 900);
	tick();
	for (int i = 0; i < 3; i++) {
		now += rest();
		tick();
	}
	ck_assert_uint_eq(rest(), 8 * DRAINED);
	take_of("k", 1);
	ck_assert_uint_eq(tick(), 1);
	ck_assert_uint_eq(rest(), DRAINED);
}
END_TEST

/* Nor does one that has much left, or was never asked for. */
START_TEST(others_wait_for_the_interval)
{
	ck_assert_uint_eq(rest(), INTERVAL);
	take_of("k", 400);
	ck_assert_uint_eq(tick(), 1);
	ck_assert_uint_eq(rest(), INTERVAL);
	now += INTERVAL - 1;
	ck_assert_uint_eq(tick(), 0);
}
END_TEST

/* Buckets that were charged one by one are not asked for in a round each, and 64 of them not
 * 64 times as often as one. */
START_TEST(many_buckets_share_a_budget)
{
	uint64_t until;
	unsigned asked = 0, rounds = 0;
	char key[8];

	for (unsigned turn = 0; turn < 2; turn++) {
		for (unsigned i = 0; i < MANY; i++) {
			snprintf(key, sizeof(key), "k%u", i);
			take_of(key, turn ? 1 : 900);
			now += turn ? MS / 10 : 0;
			if (turn)
				tick();
		}
		tick();
	}
	until = now + 100 * MS;
	while (now < until) {
		ck_assert_uint_ge(rest(), SPACING);
		now += rest();
		asked += tick();
		rounds++;
	}
	ck_assert_uint_le(rounds, 11);
	ck_assert_uint_ge(asked, MANY);
	ck_assert_uint_le(asked, 16 * 11);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("refresh");
	TCase *cases = tcase_create("refresh");

	tcase_add_checked_fixture(cases, begin, end);
	tcase_add_test(cases, a_bucket_near_its_limit_is_asked_for_early);
	tcase_add_test(cases, it_is_asked_for_ever_later);
	tcase_add_test(cases, a_charge_has_it_asked_for_early_again);
	tcase_add_test(cases, others_wait_for_the_interval);
	tcase_add_test(cases, many_buckets_share_a_budget);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
