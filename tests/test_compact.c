/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compact segments: the same answers as of others, in 16 bytes a bucket; and what the
 * claims of dead and sleeping processes leave.
 */
#include <string.h>

#include "shm/compact.h"
#include "src/handle.h"
#include "tests/fixture.h"
#include "tests/suite.h"

#define BURST 1000
#define SLOTS 16        /* every key's window is all of them */

/* With a secret that is always the same: so is where keys go. */
static struct weir *open_segment(uint64_t slots, bool compact)
{
	struct weir_options options;

	weir_options_init(&options);
	options.clock = WEIR_CLOCK_CALLER;
	options.slots = slots;
	options.policies = 16;
	options.secret = "sixteen bytes!!!";
	options.compact = compact;
	return fixture_open(&options);
}

static struct weir *open_compact(uint64_t slots)
{
	return open_segment(slots, true);
}

/* ---- What a segment is, and refuses ------------------------------------- */

START_TEST(test_size)
{
	static const struct {
		uint64_t asked, slots;
	} cases[] = { { 1, 16 }, { 16, 16 }, { 17, 24 }, { 1000, 1000 }, { 1000001, 1000008 } };
	struct weir_info empty, info;
	struct weir *weir = open_compact(cases[0].asked);

	weir_info(weir, &empty);
	weir_close(weir);
	for (size_t i = 0; i < LENGTH(cases); i++) {
		weir = open_compact(cases[i].asked);
		weir_info(weir, &info);
		ck_assert(info.compact);
		ck_assert_uint_eq(info.slots, cases[i].slots);
		ck_assert_uint_eq(info.key_bytes, 0);
		ck_assert_uint_eq(info.holds, 0);
		/* 16 bytes each, in whole pages. */
		ck_assert_uint_le(info.size_bytes - empty.size_bytes, cases[i].slots * 16 + 4096);
		weir_close(weir);
	}
}
END_TEST

START_TEST(test_refusals)
{
	struct weir *weir = open_compact(SLOTS);
	struct weir_policy policies[2] = { fixture_policy("sound", "10/1s, 100/1h") };
	static const char *const refused[] = { "10/1s sliding-window", "10/1s fixed-window",
					       "5 concurrency", "10/1s, 20/1m fixed-window" };
	struct weir_options options;
	struct weir_error error;

	for (size_t i = 0; i < LENGTH(refused); i++) {
		policies[1] = fixture_policy("other", refused[i]);
		ck_assert_int_eq(weir_policy_set(weir, policies, 2, &error), WEIR_EINVAL);
		ck_assert_ptr_nonnull(strstr(error.message, "compact"));
		ck_assert_ptr_nonnull(strstr(error.message, "\"other\""));
	}
	/* All or none. */
	ck_assert_uint_eq(weir_policy_find(weir, "sound"), WEIR_NO_POLICY);
	ck_assert_int_eq(weir_policy_set(weir, policies, 1, &error), WEIR_OK);
	ck_assert_int_eq(weir_sync_start(weir, NULL, &error), WEIR_EINVAL);
	weir_close(weir);

	weir_options_init(&options);
	options.compact = options.sync = true;
	ck_assert_int_eq(weir_create("weir-test-none", &options, &error), WEIR_EINVAL);
	ck_assert_ptr_nonnull(strstr(error.message, "compact"));
}
END_TEST

static bool count_visit(const struct weir_bucket *bucket, void *context)
{
	(void)bucket;
	++*(unsigned *)context;
	return true;
}

/* The fixture takes the name away. */
static void must_be_removed(const char *finding, void *context)
{
	(void)context;
	ck_assert_ptr_nonnull(strstr(finding, "was removed"));
}

START_TEST(test_no_lists)
{
	struct weir *weir = open_compact(SLOTS);
	weir_policy_id id = fixture_set(weir, "p", "10/1s");
	struct weir_request request = { id, "key", 3, 1, EPOCH };
	struct weir_bucket bucket;
	unsigned visits = 0;

	ck_assert(weir_decide(weir, &request, NULL));
	weir_each_bucket(weir, EPOCH, count_visit, &visits);
	ck_assert_uint_eq(visits, 0);
	ck_assert_uint_eq(weir_top(weir, EPOCH, WEIR_TOP_CONSUMED, &bucket, 1), 0);
	weir_check(weir, must_be_removed, NULL);
	ck_assert_uint_eq(fixture_counter(weir, "allowed"), 1);
	ck_assert_uint_eq(fixture_counter(weir, "claimed"), 1);
	weir_close(weir);
}
END_TEST

/* ---- The same answers --------------------------------------------------- */

static void must_agree(const struct weir_decision *a, const struct weir_decision *b)
{
	must(a->outcome == b->outcome && a->reason == b->reason);
	must(a->limit_index == b->limit_index && a->limit == b->limit);
	must(a->remaining == b->remaining && a->retry_after_ns == b->retry_after_ns);
	must(a->reset_after_ns == b->reset_after_ns);
}

typedef bool operation(struct weir *weir, const struct weir_request *request,
		       struct weir_decision *decision);

static bool batch_of_one(struct weir *weir, const struct weir_request *request,
			 struct weir_decision *decision)
{
	return weir_decide_batch(weir, request, decision, 1) == 1;
}

/* Tokens of 1, 3, 7 and 59,049 parts, and several limits. */
static const struct {
	const char *limits;
	uint64_t step_ns;       /* that time goes on by at most: some requests are denied */
} exact[] = {
	{ "100/1m burst 20", SECOND },
	{ "3/10s burst 20", 4 * SECOND },
	{ "700/1s burst 20", 4 * MS },
	{ "59049/1s burst 100", 20000 },
	{ "10/1s, 100/1m burst 30", SECOND / 8 },
	{ "7/1s, 11/3s, 100/7m", SECOND / 8 },
};

/* Random calls on an ordinary segment and on a compact one, with room for all keys. */
START_TEST(test_same_answers)
{
	static operation *const operations[] = { weir_decide, weir_decide, weir_decide,
						 weir_status, weir_force_take, weir_refund,
						 weir_reset, batch_of_one };
	struct weir *weirs[2] = { open_segment(4096, false), open_segment(4096, true) };
	uint64_t random = (uint64_t)_i, now_ns = EPOCH;
	weir_policy_id ids[2];

	for (int w = 0; w < 2; w++)
		ids[w] = fixture_set(weirs[w], "p", exact[_i].limits);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t key = fixture_random(&random, 8), cost = 1 + fixture_random(&random, 12);
		operation *call = operations[fixture_random(&random, LENGTH(operations))];
		struct weir_decision decisions[2];
		bool passed[2];

		now_ns += fixture_random(&random, 2) ? 0 : fixture_random(&random, exact[_i].step_ns);
		if (call == weir_reset && fixture_random(&random, 8))
			call = weir_decide;
		for (int w = 0; w < 2; w++) {
			struct weir_request request = { ids[w], &key, sizeof(key), cost, now_ns };

			passed[w] = call(weirs[w], &request, &decisions[w]);
		}
		must(passed[0] == passed[1]);
		must_agree(&decisions[0], &decisions[1]);
	}
	ck_assert_uint_gt(fixture_counter(weirs[1], "denied"), 500);
	ck_assert_uint_eq(fixture_counter(weirs[0], "denied"), fixture_counter(weirs[1], "denied"));
	ck_assert_uint_eq(fixture_counter(weirs[0], "tokens"), fixture_counter(weirs[1], "tokens"));
	weir_close(weirs[0]);
	weir_close(weirs[1]);
}
END_TEST

/* A token of a million parts: never more than the limit, and hardly less. */
START_TEST(test_rounded_limit)
{
	struct weir *weir = open_compact(SLOTS);
	weir_policy_id id = fixture_set(weir, "p", "1000003/1s burst 10");
	uint64_t granted = 0;

	for (uint64_t now_ns = 0; now_ns < SECOND / 10; now_ns += 500) {
		struct weir_request request = { id, "key", 3, 1, EPOCH + now_ns };

		granted += weir_decide(weir, &request, NULL);
	}
	/* 2^-16 ns of 1000. */
	ck_assert_uint_ge(granted, 1000003 / 10);
	ck_assert_uint_le(granted, 1000003 / 10 + 10);
	weir_close(weir);
}
END_TEST

/* In 999,999,937/10s 10.00000063 ns a token: the time that is rounded up is stored whole. */
START_TEST(test_fastest_limit)
{
	struct weir_policy policy = fixture_policy("p", "999999937/10s burst 1000");
	struct weir *weir = open_compact(SLOTS);
	struct weir_policy back;
	weir_policy_id id;
	uint64_t granted = 0;

	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, NULL), WEIR_OK);
	ck_assert_int_eq(weir_policy_get(weir, "p", &back, NULL), WEIR_OK);
	ck_assert_uint_eq(back.limits[0].limit, 999999937);
	id = weir_policy_find(weir, "p");
	for (uint64_t i = 0; i < 100000; i++) {
		struct weir_request request = { id, "key", 3, 100, EPOCH + i * 1000 };

		granted += weir_decide(weir, &request, NULL) ? 100 : 0;
	}
	ck_assert_uint_le(granted, 100000 * 100 + 1000);
	ck_assert_uint_ge(granted, 100000 * 100 - 100);
	weir_close(weir);
}
END_TEST


/* Whoever can write the segment breaks its limits, and nothing else. */
START_TEST(test_hostile_words)
{
	struct weir *weir = open_compact(SLOTS);
	weir_policy_id ids[2] = { fixture_set(weir, "p", "3/10s"),
				  fixture_set(weir, "q", "10/1s, 7/3s") };
	const struct segment *segment = weir->segment;
	const struct {
		uint64_t *words;
		uint64_t count;
	} places[] = {
		{ (uint64_t *)segment->compact.slots, SLOTS * 2 },
		{ (uint64_t *)segment->banks[0], 2 * sizeof(struct policy_record) / 8 },
		{ (uint64_t *)segment->banks[1], 2 * sizeof(struct policy_record) / 8 },
		{ segment->compact.taken_ns, 2 },
	};
	static operation *const operations[] = { weir_decide, weir_status, weir_force_take,
						 weir_refund, weir_reset, batch_of_one };
	uint64_t random = 7;

	for (unsigned i = 0; i < 50000; i++) {
		size_t place = fixture_random(&random, LENGTH(places));
		uint64_t *word = &places[place].words[fixture_random(&random, places[place].count)];
		uint64_t value = fixture_random(&random, UINT64_MAX);
		uint64_t key = fixture_random(&random, 4);
		struct weir_request request = { ids[i % 2], &key, sizeof(key),
						fixture_random(&random, 3), EPOCH + i };
		struct weir_decision decision;
		struct weir_hold hold;

		*word = fixture_random(&random, 2) ? value : *word ^ 1ull << value % 64;
		operations[fixture_random(&random, LENGTH(operations))](weir, &request, &decision);
		must(decision.outcome <= WEIR_UNAVAILABLE && decision.limit_index < WEIR_LIMITS_MAX);
		if (weir_acquire(weir, &request, &hold, NULL))
			weir_release(weir, &hold);
		/* Sound policies again, or nothing would be decided any more. */
		if (i % 16 == 0) {
			ids[0] = fixture_set(weir, "p", "3/10s");
			ids[1] = fixture_set(weir, "q", "10/1s, 7/3s");
		}
	}
	weir_check(weir, NULL, NULL);
	ck_assert_uint_gt(fixture_counter(weir, "claimed"), 1000);
	weir_close(weir);
}
END_TEST

/* ---- The table ---------------------------------------------------------- */

static struct weir *weir;
static const struct compact_table *table;

static void setup(void)
{
	weir = open_compact(SLOTS);
	table = &weir->segment->compact;
}

static void teardown(void)
{
	weir_close(weir);
}

/* Of 16 slots every key has all in its window. */
static struct fingerprint key_of(uint64_t i)
{
	return (struct fingerprint){ (i + 1) * 0x9e3779b97f4a7c15ull, i * 0xd1342543de82ef95ull };
}

static enum table_claim claim(uint64_t key, uint64_t now_ns, uint64_t debt_ns,
			      struct bucket_ref *ref)
{
	struct claim_report report = { 0 };

	return compact_claim(table, key_of(key), now_ns, debt_ns, ref, &report);
}

static enum bucket_result charge(uint64_t key, const struct bucket_ref *ref, uint64_t now_ns,
				 uint64_t cost, struct verdict *verdict)
{
	static const uint64_t version;
	const struct weir_limit limit = { .limit = BURST, .period_ns = BURST * SECOND };
	struct limit compiled = fixture_compile(&limit);
	struct bucket_request request = { .operation = BUCKET_SPEND, .cost = cost,
					  .now_ns = now_ns, .detail = true, .version = &version };

	return compact_apply(table, key_of(key), ref, &compiled, &request, verdict);
}

/* A bucket with a debt of COST tokens. */
static struct bucket_ref place(uint64_t key, uint64_t now_ns, uint64_t cost)
{
	struct verdict verdict;
	struct bucket_ref ref;

	ck_assert_int_eq(claim(key, now_ns, cost * SECOND, &ref), CLAIM_TENTATIVE);
	ck_assert_int_eq(charge(key, &ref, now_ns, cost, &verdict), BUCKET_DONE);
	ck_assert(verdict.allowed);
	return ref;
}

START_TEST(test_claim_and_find)
{
	struct bucket_ref ref, found;

	ck_assert(!compact_find(table, key_of(1), &found));
	ref = place(1, EPOCH, 10);
	ck_assert(compact_find(table, key_of(1), &found));
	ck_assert_ptr_eq(found.compact, ref.compact);
	ck_assert_int_eq(claim(1, EPOCH, SECOND, &found), CLAIM_FOUND);
	ck_assert_ptr_eq(found.compact, ref.compact);
	/* Also when its debt is gone. */
	ck_assert_int_eq(claim(1, EPOCH + 100 * SECOND, SECOND, &found), CLAIM_FOUND);
}
END_TEST

/* A claimer was stopped before its first charge: another one of the key goes on. */
START_TEST(test_adopt)
{
	struct bucket_ref stopped, ref;
	struct verdict verdict;

	ck_assert_int_eq(claim(1, EPOCH, SECOND, &stopped), CLAIM_TENTATIVE);
	ck_assert(!compact_find(table, key_of(1), &ref));
	ck_assert_int_eq(claim(1, EPOCH, SECOND, &ref), CLAIM_TENTATIVE);
	ck_assert_ptr_eq(ref.compact, stopped.compact);
	ck_assert_uint_eq(ref.generation, stopped.generation);
	ck_assert_int_eq(charge(1, &ref, EPOCH, 999, &verdict), BUCKET_DONE);
	/* It wakes up, and is one of two. */
	ck_assert_int_eq(charge(1, &stopped, EPOCH, 1, &verdict), BUCKET_DONE);
	ck_assert(verdict.allowed);
	ck_assert_uint_eq(verdict.remaining, 0);
	ck_assert_int_eq(charge(1, &stopped, EPOCH, 1, &verdict), BUCKET_DONE);
	ck_assert(!verdict.allowed);
}
END_TEST

/* A claimer slept while its slot was another's and the same key's again: it confirms no
 * claim but its own. */
START_TEST(test_old_claim)
{
	struct bucket_ref slept, again;
	struct compact_slot *slot;
	struct verdict verdict;

	ck_assert_int_eq(claim(1, EPOCH, SECOND, &slept), CLAIM_TENTATIVE);
	slot = slept.compact;
	slot->word = (struct word_pair){ 0, 0 };
	ck_assert_int_eq(charge(1, &slept, EPOCH, 1, &verdict), BUCKET_GONE);
	ck_assert_int_eq(claim(1, EPOCH, SECOND, &again), CLAIM_TENTATIVE);
	ck_assert_ptr_eq(again.compact, slot);
	ck_assert_uint_ne(again.generation, slept.generation);
	ck_assert_int_eq(charge(1, &slept, EPOCH, 1, &verdict), BUCKET_GONE);
	ck_assert_int_eq(charge(1, &again, EPOCH, 1, &verdict), BUCKET_DONE);
}
END_TEST

/* Two claimers of one key in two slots: the first in probe order stays. */
START_TEST(test_two_tentative)
{
	struct bucket_ref first, second, ref;
	struct verdict verdict;
	struct compact_slot *slot;

	ck_assert_int_eq(claim(1, EPOCH, SECOND, &first), CLAIM_TENTATIVE);
	slot = compact_window(table, key_of(1)).lines[COMPACT_WINDOW_LINES - 1];
	slot->word = (struct word_pair){ first.compact->word.first, COMPACT_TENTATIVE | 12345 };
	second = (struct bucket_ref){ .compact = slot, .generation = slot->word.second,
				      .tentative = true };
	ck_assert_int_eq(claim(1, EPOCH, SECOND, &ref), CLAIM_TENTATIVE);
	ck_assert_ptr_eq(ref.compact, first.compact);
	ck_assert_int_eq(charge(1, &second, EPOCH, 1, &verdict), BUCKET_GONE);
	ck_assert_int_eq(charge(1, &ref, EPOCH, 1, &verdict), BUCKET_DONE);
}
END_TEST

/* With all slots in debt, the slot of a claimer that died is taken before a bucket. */
START_TEST(test_tentative_is_taken)
{
	struct bucket_ref dead, ref;
	struct verdict verdict;

	ck_assert_int_eq(claim(99, EPOCH, SECOND, &dead), CLAIM_TENTATIVE);
	for (uint64_t key = 0; key < SLOTS - 1; key++)
		place(key, EPOCH, 10);
	ck_assert_int_eq(claim(100, EPOCH, SECOND, &ref), CLAIM_TENTATIVE);
	ck_assert_ptr_eq(ref.compact, dead.compact);
	ck_assert_int_eq(charge(99, &dead, EPOCH, 1, &verdict), BUCKET_GONE);
	ck_assert_int_eq(charge(100, &ref, EPOCH, 1, &verdict), BUCKET_DONE);
	ck_assert_int_eq(claim(101, EPOCH, SECOND, &ref), CLAIM_FULL);
	ck_assert_int_eq(claim(101, EPOCH, 2 * SECOND, &ref), CLAIM_TENTATIVE);
}
END_TEST

/* Of slots without debt the one that has been so for longest: who comes often stays. */
START_TEST(test_oldest_is_taken)
{
	struct bucket_ref refs[SLOTS], ref;

	for (uint64_t key = 0; key < SLOTS; key++)
		refs[key] = place(key, EPOCH, key == 7 ? 1 : 10 + key);
	ck_assert_int_eq(claim(100, EPOCH + 500 * SECOND, SECOND, &ref), CLAIM_TENTATIVE);
	ck_assert_ptr_eq(ref.compact, refs[7].compact);
	/* And its time is known, to who goes by an earlier clock. */
	ck_assert_uint_eq(*table->taken_ns, EPOCH + 500 * SECOND);
	ck_assert_uint_eq(table_time_ns(table->taken_ns, EPOCH), EPOCH + 500 * SECOND);
}
END_TEST

/* An absurd time counts as no debt, and is found. */
START_TEST(test_absurd)
{
	struct bucket_ref ref = place(1, EPOCH, 10);
	struct verdict verdict;

	ref.compact->word.second = COMPACT_TENTATIVE - 1;
	ck_assert_int_eq(charge(1, &ref, EPOCH, BURST, &verdict), BUCKET_DONE);
	ck_assert(verdict.allowed);
}
END_TEST

START_TEST(test_count)
{
	/* Modulo a multiple of the parts, with the sign that counts have. */
	ck_assert_uint_eq(compact_count(1, 65535), 65535);
	ck_assert_uint_eq(compact_count(1, 65536), 0);
	ck_assert_uint_eq(compact_count(3, 65534), 65534);
	ck_assert_uint_eq(compact_count(3, 65535), 0);
	ck_assert_uint_eq(compact_count(3, (uint64_t)-1 & WEIR_COUNT_MAX), 65534);
	ck_assert_uint_eq(compact_count(65536, 65536 + 5), 5);
	/* Whatever is written into a limit. */
	ck_assert_uint_eq(compact_count(0, 7), 7);
	ck_assert_uint_eq(compact_count(UINT64_MAX, 65536 + 7), 7);
}
END_TEST

/* Keys and slots of all sizes: every place is in the table, lines are whole, and the two
 * groups differ. */
START_TEST(test_places)
{
	uint64_t random = 1;

	for (uint64_t groups = 2; groups < 1000; groups++) {
		struct compact_table other = { .slots = table->slots, .groups = groups };

		for (unsigned i = 0; i < 100; i++) {
			struct fingerprint fingerprint = { fixture_random(&random, UINT64_MAX),
							   fixture_random(&random, UINT64_MAX) };
			const struct compact_window window = compact_window(&other, fingerprint);
			bool seen[COMPACT_WINDOW_LINES] = { false };
			uint64_t first[2];

			must(window.lines[0] == compact_first_line(&other, fingerprint));

			for (unsigned line = 0; line < COMPACT_WINDOW_LINES; line++) {
				uint64_t at = (uint64_t)(window.lines[line] - other.slots);
				uint64_t group = at / COMPACT_GROUP_SLOTS;
				unsigned half = line / COMPACT_GROUP_LINES;

				must(at % COMPACT_LINE_SLOTS == 0 && group < groups);
				if (line % COMPACT_GROUP_LINES == 0)
					first[half] = group;
				must(group == first[half]);
				at = half * COMPACT_GROUP_LINES +
				     at % COMPACT_GROUP_SLOTS / COMPACT_LINE_SLOTS;
				must(!seen[at]);
				seen[at] = true;
			}
			must(first[0] != first[1]);
		}
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("compact");
	TCase *segments = tcase_create("segments"), *slots = tcase_create("slots");

	tcase_add_test(segments, test_size);
	tcase_add_test(segments, test_refusals);
	tcase_add_test(segments, test_no_lists);
	tcase_add_loop_test(segments, test_same_answers, 0, (int)LENGTH(exact));
	tcase_add_test(segments, test_rounded_limit);
	tcase_add_test(segments, test_fastest_limit);
	tcase_add_test(segments, test_hostile_words);
	suite_add_tcase(suite, segments);
	tcase_add_checked_fixture(slots, setup, teardown);
	tcase_add_test(slots, test_claim_and_find);
	tcase_add_test(slots, test_adopt);
	tcase_add_test(slots, test_old_claim);
	tcase_add_test(slots, test_two_tentative);
	tcase_add_test(slots, test_tentative_is_taken);
	tcase_add_test(slots, test_oldest_is_taken);
	tcase_add_test(slots, test_absurd);
	tcase_add_test(slots, test_count);
	tcase_add_test(slots, test_places);
	suite_add_tcase(suite, slots);
	return suite_run(suite);
}
