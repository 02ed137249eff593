/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_queue.c - the marks, the leader's walk over them, and its bell.
 *
 * The slots of a segment are put by hand into each state that a process which
 * was stopped or killed leaves, since that is where a mark could get lost.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "shm/bucket.h"
#include "shm/policy_table.h"
#include "src/handle.h"
#include "sync/collect.h"
#include "sync/lease.h"
#include "tests/fixture.h"
#include "tests/suite.h"

#define SLOTS 8192u             /* two words of summary */
#define LEADER 4096u            /* a participant's id */
#define TERM 3u

static struct weir *weir;
static struct segment *segment;
static struct round rounds[SYNC_SHARDS];
static struct round_walk round_walk;

static void open_segment(void)
{
	weir = fixture_open_synced(SLOTS, 100 * MS);
	fixture_set(weir, "api", "100/1h");
	segment = handle_control(weir);
	segment->header->leader.word = (struct word_pair){ LEADER, TERM };
	round_walk = (struct round_walk){ 0 };
	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		rounds[i] = (struct round){ .shard = i, .tag = (uint64_t)TERM << 32 | 1 };
}

static void close_segment(void)
{
	weir_close(weir);
}

static bool is_marked(uint64_t slot)
{
	return segment->queue.marks[slot / 64] >> slot % 64 & 1;
}

/* How many buckets the leader takes now. */
static unsigned collect(void)
{
	unsigned count = 0;

	round_collect(segment, rounds, &round_walk, NULL, LEADER, TERM, weir_now_ns(weir),
		      NULL);
	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		count += rounds[i].count;
	return count;
}

/* As a claimer does it: the key is there, the first charge is not. */
static struct slot *claim(uint64_t index, uint64_t generation)
{
	struct slot *slot = &segment->table.slots[index];
	struct bucket_ref ref = { .slot = slot, .generation = generation };
	uint64_t version = policy_version(segment), serial = 0;
	struct weir_policy policy;

	ck_assert(policy_decode(segment, version, 0, &policy, &serial));
	slot->identity = (struct word_pair){ 77 + index, 5ull << 16 | generation };
	slot->state.second = generation - 1;
	table_set_owner(&ref, 0, serial, 0, true);
	return slot;
}

/* The first charge: the compare-and-swap alone, which comes after the mark. */
static void confirm(struct slot *slot)
{
	uint64_t generation = slot->identity.second & GENERATION_MASK;

	slot->state.first = weir_now_ns(weir) + SECOND;
	slot->state.second = 1ull << STATE_USED_SHIFT | STATE_QUEUED | STATE_LIVE | generation;
}

/* The look at every slot after a fence of shard 0. */
static void resolve(uint64_t term)
{
	uint64_t last_tags[SYNC_SHARDS] = { 0 };
	struct round_resolve resolve;

	round_resolve_begin(segment, &resolve, 1, last_tags, weir_now_ns(weir));
	while (!round_resolve(segment, &resolve, term, weir_now_ns(weir)))
		continue;
}

/* ---- Credit of mode strict ---------------------------------------------- */

/* A leader saw a bucket without credit, and was stopped before it took it out of the queue.
 * The next one has taken over, and asks for some. */
START_TEST(a_bucket_with_a_new_session_stays)
{
	struct slot *slot = claim(70, 1);
	struct bucket_ref ref = { .slot = slot, .generation = 1 };
	struct word_pair seen;
	struct credit credit;

	queue_mark(&segment->queue, 70);
	confirm(slot);
	ck_assert(bucket_read(&ref, &seen));
	ck_assert(credit_lower(segment, &ref, 0, TERM, &credit));
	ck_assert(credit_raise(segment, &ref, credit_word(&ref), 3, TERM));
	collect_dequeue(segment, 70, seen);
	ck_assert(slot->state.second & STATE_QUEUED);
	ck_assert(is_marked(70));
	/* Who has read the bucket since then may. */
	ck_assert(bucket_read(&ref, &seen));
	collect_dequeue(segment, 70, seen);
	ck_assert(!(slot->state.second & STATE_QUEUED));
	ck_assert(!is_marked(70));
}
END_TEST

/* ---- Slots that are claimed, dead, live --------------------------------- */

/* The claimer is stopped between its mark and its first charge. */
START_TEST(the_mark_of_a_claimed_slot_stays)
{
	struct slot *slot = claim(70, 1);

	queue_mark(&segment->queue, 70);
	ck_assert_uint_eq(collect(), 0);
	ck_assert(is_marked(70));
	confirm(slot);
	ck_assert_uint_eq(collect(), 1);
}
END_TEST

/* The leader died after it had taken the mark of a slot that was just claimed. */
START_TEST(a_lost_mark_of_a_claimed_slot_comes_back_with_the_fence)
{
	claim(70, 1);
	resolve(1);
	ck_assert(is_marked(70));
	ck_assert(!is_marked(71));
}
END_TEST

/* The leader died after it had cleared a summary bit, and before it took what is marked
 * there into the states: whoever marked, and charges now, does not mark again. */
START_TEST(marks_without_their_summary_come_back_with_the_fence)
{
	struct slot *slot = claim(70, 1);

	confirm(slot);
	slot->state.second &= ~STATE_QUEUED;
	slot->merged = 1ull << STATE_USED_SHIFT | 1;
	queue_mark(&segment->queue, 70);
	segment->queue.summary[0] = 0;
	resolve(TERM);
	slot->state.second += 1ull << STATE_USED_SHIFT | STATE_QUEUED;
	ck_assert_uint_eq(collect(), 1);
}
END_TEST

START_TEST(a_dead_slot_leaves_the_queue)
{
	struct slot *slot = claim(70, 9);

	slot->state.second = 9;         /* sealed */
	queue_mark(&segment->queue, 70);
	ck_assert_uint_eq(collect(), 0);
	ck_assert(!is_marked(70));
}
END_TEST

/* The charge has not come yet, or never will: from now on it has to mark anew. */
START_TEST(a_mark_without_a_charge_is_taken_into_the_state)
{
	struct slot *slot = claim(70, 1);

	confirm(slot);
	slot->state.second &= ~STATE_QUEUED;
	queue_mark(&segment->queue, 70);
	ck_assert_uint_eq(collect(), 1);
	ck_assert_uint_ne(slot->state.second & STATE_QUEUED, 0);
}
END_TEST

/* Nothing left to merge, nothing owed: QUEUED goes, and the epoch with it. */
START_TEST(what_is_merged_leaves_the_queue)
{
	struct slot *slot = claim(70, 1);
	uint64_t word = 1ull << STATE_USED_SHIFT | 1;

	confirm(slot);
	slot->state.first = 1;
	slot->merged = word;
	segment->slot_syncs[70].agreed.first = word;
	segment->slot_syncs[70].resets = 1;
	for (uint64_t turn = 1; turn <= 5; turn++) {
		queue_mark(&segment->queue, 70);
		slot->state.second |= STATE_QUEUED;
		ck_assert_uint_eq(collect(), 0);
		ck_assert(!is_marked(70));
		ck_assert_uint_eq(slot->state.second & STATE_QUEUED, 0);
		ck_assert_uint_eq(slot->state.second & STATE_EPOCH_MASK,
				  turn % 4 * STATE_EPOCH_UNIT);
		ck_assert_uint_eq(slot->state.second >> STATE_USED_SHIFT, 1);
	}
}
END_TEST

START_TEST(nothing_is_taken_by_one_who_leads_no_more)
{
	struct slot *slot = claim(70, 1);

	confirm(slot);
	queue_mark(&segment->queue, 70);
	segment->header->leader.word.second++;
	ck_assert_uint_eq(collect(), 0);
	ck_assert_uint_eq(segment->slot_syncs[70].sent.first, 0);
	segment->header->leader.word.second--;
	ck_assert_uint_eq(collect(), 1);
	ck_assert_uint_eq(segment->slot_syncs[70].sent.second, rounds[0].tag);
}
END_TEST

/* ---- The scrub ---------------------------------------------------------- */

static struct round_scrub scrub;

static void scrub_begin(void)
{
	scrub = (struct round_scrub){ 0 };
	round_scrub(segment, &scrub, 1);
}

/* A charge that nobody marked: its process was stopped behind its mark while the slot
 * left the queue four times, or a leader died in the middle of dequeue(). */
START_TEST(the_scrub_finds_what_has_no_mark)
{
	struct slot *slot = claim(70, 1);

	confirm(slot);
	if (_i == 1)
		queue_set_bit(segment->queue.marks, 70);        /* its summary is lost */
	ck_assert_uint_eq(collect(), 0);
	scrub_begin();
	for (uint64_t now_ns = 100 * MS; now_ns <= MINUTE; now_ns += 100 * MS)
		round_scrub(segment, &scrub, now_ns);
	ck_assert_uint_eq(collect(), 1);
}
END_TEST

/* QUEUED without a mark, and merged: the next charge would rely on the mark. */
START_TEST(the_scrub_finds_what_is_queued)
{
	struct slot *slot = claim(70, 1);

	confirm(slot);
	slot->merged = 1ull << STATE_USED_SHIFT | 1;
	scrub_begin();
	round_scrub(segment, &scrub, MINUTE);
	ck_assert(is_marked(70));
}
END_TEST

/* A part of the table each tick, and what is in order stays as it is. */
START_TEST(the_scrub_looks_at_a_part)
{
	struct slot *clean = claim(70, 1);

	confirm(claim(SLOTS / 2 - 1, 1));
	confirm(claim(SLOTS / 2, 1));
	confirm(clean);
	clean->state.second &= ~STATE_QUEUED;
	clean->merged = 1ull << STATE_USED_SHIFT | 1;
	scrub_begin();
	round_scrub(segment, &scrub, 1 + MINUTE / 2);
	ck_assert(is_marked(SLOTS / 2 - 1));
	ck_assert(!is_marked(SLOTS / 2));
	ck_assert(!is_marked(70));
	/* However long it slept, and however large the table. */
	round_scrub(segment, &scrub, HOUR);
	ck_assert(is_marked(SLOTS / 2));
	ck_assert_uint_le(scrub.next, SLOTS);
}
END_TEST

/* ---- The walk ----------------------------------------------------------- */

struct walk {
	unsigned seen;
	unsigned most;
	uint64_t last;
};

static bool visit(uint64_t slot, void *context)
{
	struct walk *walk = context;

	ck_assert(walk->seen == 0 || slot > walk->last);
	walk->last = slot;
	return ++walk->seen < walk->most;
}

START_TEST(what_a_walk_does_not_see_stays_marked)
{
	static const uint64_t slots[] = { 0, 1, 63, 64, 4095, 4096, SLOTS - 1 };
	struct walk walk = { .most = 3 };
	uint64_t next = 0;

	for (unsigned i = 0; i < LENGTH(slots); i++)
		queue_mark(&segment->queue, slots[i]);
	queue_each(&segment->queue, &next, visit, &walk);
	ck_assert_uint_eq(walk.seen, 3);
	ck_assert_uint_eq(next, 63);            /* where it had enough */
	for (unsigned turn = 0; turn < 2; turn++) {
		walk = (struct walk){ .most = SLOTS };
		next = 0;
		queue_each(&segment->queue, &next, visit, &walk);
		ck_assert_uint_eq(walk.seen, LENGTH(slots));
		ck_assert_uint_eq(next, 0);
	}
	/* From each slot on, and nothing before it. */
	for (unsigned i = 0; i < LENGTH(slots); i++) {
		walk = (struct walk){ .most = SLOTS };
		next = slots[i];
		queue_each(&segment->queue, &next, visit, &walk);
		ck_assert_uint_eq(walk.seen, LENGTH(slots) - i);
		ck_assert_uint_eq(next, 0);
	}
	for (unsigned i = 0; i < LENGTH(slots); i++)
		queue_unmark(&segment->queue, slots[i]);
	walk = (struct walk){ .most = SLOTS };
	next = 0;
	queue_each(&segment->queue, &next, visit, &walk);
	ck_assert_uint_eq(walk.seen, 0);
	ck_assert_uint_eq(segment->queue.summary[0] | segment->queue.summary[1], 0);
}
END_TEST

/* More buckets than a round has room for, all of them charged all the time: each is
 * taken again before any is taken three times. */
START_TEST(busy_buckets_take_turns)
{
	static unsigned taken[SLOTS];
	unsigned turns = 0, walks = 0;

	for (uint64_t i = 0; i < SLOTS; i++) {
		struct slot *slot = claim(i, 1);

		/* Evenly over the shards, as fingerprints are. */
		slot->identity.first = i << 61 | i;
		queue_mark(&segment->queue, i);
		confirm(slot);
	}
	while (walks < 2) {
		collect();
		walks += round_walk.next == 0;
		for (unsigned i = 0; i < SYNC_SHARDS; i++) {
			ck_assert_int_eq(rounds[i].whole, round_walk.next == 0);
			for (unsigned k = 0; k < rounds[i].count; k++) {
				uint64_t index = rounds[i].items[k].slot;

				taken[index]++;
				segment->table.slots[index].state.second += 1ull << STATE_USED_SHIFT;
			}
		}
		ck_assert_uint_le(++turns, 2 * SLOTS / (SYNC_SHARDS * (ROUND_ITEMS - 1)) + 2);
	}
	for (uint64_t i = 0; i < SLOTS; i++)
		ck_assert_uint_eq(taken[i], 2);
}
END_TEST

/* ---- The bell ----------------------------------------------------------- */

START_TEST(a_bell_that_nobody_hears_is_not_rung)
{
	queue_ring(segment->header);
	ck_assert_uint_eq(segment->header->wake.bell, 0);
	segment->header->wake.asleep = WAKE_ASLEEP;
	queue_ring(segment->header);
	queue_ring(segment->header);
	ck_assert_uint_eq(segment->header->wake.bell, 1);
}
END_TEST

/* Who rings while the leader is in a round may be too late for that one: it makes
 * another before it sleeps.  This sleeps for an hour otherwise. */
START_TEST(a_leader_that_is_awake_is_rung_too)
{
	queue_ring(segment->header);
	queue_sleep(segment->header, HOUR);
	ck_assert_uint_eq(segment->header->wake.asleep, WAKE_AWAKE);
	/* What was rung before the walk is seen by it. */
	queue_ring(segment->header);
	queue_listen(segment->header);
	ck_assert_uint_eq(segment->header->wake.asleep, WAKE_AWAKE);
	queue_sleep(segment->header, 1);
	ck_assert_uint_eq(segment->header->wake.bell, 0);
}
END_TEST

/* A fifth of a cap rings it: of a cap of one token, the first charge, or the next request
 * would be denied for a whole interval.  Without a cap, a 64th of a host's part of a
 * burst. */
START_TEST(much_unmerged_rings_the_bell)
{
	static const struct {
		enum weir_consistency consistency;
		uint64_t cap, hosts, charges;
	} cases[] = {
		{ WEIR_BOUNDED, 1, 3, 1 }, { WEIR_BOUNDED, 5, 3, 2 }, { WEIR_BOUNDED, 12, 3, 3 },
		{ WEIR_EVENTUAL, 10, 5, 4 }, { WEIR_EVENTUAL, 1, 1000, 1 },
	};
	struct weir_policy policy = fixture_policy("api", "1000/1h");
	weir_policy_id id = weir_policy_find(weir, "api");

	policy.consistency = cases[_i].consistency;
	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, NULL), 0);
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		segment->shards[i].fresh_until_ns = UINT64_MAX;
		segment->shards[i].hosts = cases[_i].hosts;
	}
	segment->switches[0].cap[0] = cases[_i].cap;
	segment->header->wake.asleep = WAKE_ASLEEP;
	for (uint64_t charge = 1; charge <= cases[_i].charges; charge++) {
		struct weir_request request = { .policy = id, .key = "key", .key_length = 3,
						.cost = 1, .now_ns = weir_now_ns(weir) };

		ck_assert_uint_eq(segment->header->wake.bell, 0);
		ck_assert(weir_decide(weir, &request, NULL));
	}
	ck_assert_uint_eq(segment->header->wake.bell, 1);
}
END_TEST

static void *sleep_long(void *woken)
{
	queue_sleep(segment->header, HOUR);
	*(bool *)woken = true;
	return NULL;
}

START_TEST(the_bell_wakes_who_sleeps)
{
	pthread_t sleeper;
	bool woken = false;

	ck_assert_int_eq(pthread_create(&sleeper, NULL, sleep_long, &woken), 0);
	while (atomic_load_relaxed(&segment->header->wake.asleep) != WAKE_ASLEEP)
		sched_yield();
	queue_ring(segment->header);
	ck_assert_int_eq(pthread_join(sleeper, NULL), 0);
	ck_assert(woken);
	ck_assert_uint_eq(segment->header->wake.bell, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("queue");
	TCase *cases = tcase_create("queue");

	tcase_add_checked_fixture(cases, open_segment, close_segment);
	tcase_add_test(cases, a_bucket_with_a_new_session_stays);
	tcase_add_test(cases, the_mark_of_a_claimed_slot_stays);
	tcase_add_test(cases, a_lost_mark_of_a_claimed_slot_comes_back_with_the_fence);
	tcase_add_test(cases, marks_without_their_summary_come_back_with_the_fence);
	tcase_add_test(cases, a_dead_slot_leaves_the_queue);
	tcase_add_test(cases, a_mark_without_a_charge_is_taken_into_the_state);
	tcase_add_test(cases, what_is_merged_leaves_the_queue);
	tcase_add_test(cases, nothing_is_taken_by_one_who_leads_no_more);
	tcase_add_loop_test(cases, the_scrub_finds_what_has_no_mark, 0, 2);
	tcase_add_test(cases, the_scrub_finds_what_is_queued);
	tcase_add_test(cases, the_scrub_looks_at_a_part);
	tcase_add_test(cases, what_a_walk_does_not_see_stays_marked);
	tcase_add_test(cases, busy_buckets_take_turns);
	tcase_add_test(cases, a_bell_that_nobody_hears_is_not_rung);
	tcase_add_test(cases, a_leader_that_is_awake_is_rung_too);
	tcase_add_loop_test(cases, much_unmerged_rings_the_bell, 0, 5);
	tcase_add_test(cases, the_bell_wakes_who_sleeps);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
