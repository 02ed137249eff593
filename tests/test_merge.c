/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_merge.c - answers that come when their shard has moved on.
 *
 * A leader that looks whether its term holds may be stopped right behind that, and goes on
 * when others have led.  The tests set the shard to what those would have left, with the
 * term as it was.
 */
#include "src/handle.h"
#include "sync/round.h"
#include "tests/fixture.h"
#include "tests/suite.h"

#define LEADER 4096u            /* a participant's id */
#define TERM 3u
#define FOUND_NS 1234567u       /* when Redis was found to have forgotten */

static struct weir *weir;
static struct segment *segment;
static struct shard_record *shard;
static struct round rounds[SYNC_SHARDS];
static struct round_walk round_walk;

static uint64_t tag_of(uint64_t term, uint32_t sequence)
{
	return term << 32 | sequence;
}

static void open_segment(void)
{
	weir = fixture_open_synced(64, 100 * MS);
	segment = handle_control(weir);
	segment->header->leader.word = (struct word_pair){ LEADER, TERM };
	round_walk = (struct round_walk){ 0 };
	shard = &segment->shards[0];
}

static void close_segment(void)
{
	weir_close(weir);
}

static uint64_t clock_ns(void)
{
	return weir_now_ns(weir);
}

/* A walk over a table without a bucket is at its end at once. */
static void collect(void)
{
	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		rounds[i] = (struct round){ .shard = i, .tag = tag_of(TERM, 1) };
	round_collect(segment, rounds, &round_walk, NULL, LEADER, TERM, weir_now_ns(weir), clock_ns);
	ck_assert(rounds[0].whole);
}

static bool merge(void)
{
	struct round_reply reply = { .code = ROUND_DONE, .hosts = 2, .last_tag = rounds[0].tag };

	return round_merge(segment, &rounds[0], &reply);
}

START_TEST(a_walk_restores_what_it_began_with)
{
	shard->restore = FOUND_NS;
	collect();
	ck_assert(merge());
	ck_assert_uint_eq(shard->restore, 0);
	ck_assert_uint_eq(shard->acked_tag, tag_of(TERM, 1));
	ck_assert_uint_eq(shard->hosts, 2);
}
END_TEST

/* Also if another loss had been found before. */
START_TEST(a_walk_does_not_restore_what_was_found_behind_its_back)
{
	shard->restore = _i ? FOUND_NS : 0;
	collect();
	shard->restore = FOUND_NS + 1;
	ck_assert(merge());
	ck_assert_uint_eq(shard->restore, FOUND_NS + 1);
}
END_TEST

START_TEST(an_answer_that_is_overtaken_changes_nothing)
{
	collect();
	shard->acked_tag = tag_of(TERM + 1, 1);
	shard->restore = FOUND_NS;
	ck_assert(!merge());
	ck_assert_uint_eq(shard->acked_tag, tag_of(TERM + 1, 1));
	ck_assert_uint_eq(shard->restore, FOUND_NS);
	ck_assert_uint_eq(shard->hosts, 0);
	ck_assert_uint_eq(shard->fresh_until_ns, 0);
}
END_TEST

START_TEST(an_answer_of_a_past_term_changes_nothing)
{
	collect();
	segment->header->leader.word.second = TERM + 1;
	ck_assert(!merge());
	ck_assert_uint_eq(shard->acked_tag, 0);
	ck_assert_uint_eq(shard->fresh_until_ns, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("merge");
	TCase *cases = tcase_create("merge");

	tcase_add_checked_fixture(cases, open_segment, close_segment);
	tcase_add_test(cases, a_walk_restores_what_it_began_with);
	tcase_add_loop_test(cases, a_walk_does_not_restore_what_was_found_behind_its_back, 0, 2);
	tcase_add_test(cases, an_answer_that_is_overtaken_changes_nothing);
	tcase_add_test(cases, an_answer_of_a_past_term_changes_nothing);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
