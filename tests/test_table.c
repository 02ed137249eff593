/* SPDX-License-Identifier: Apache-2.0 */
/* The slot protocol from inside, one step at a time: which slot a key gets, and
 * what a claimer that stops anywhere leaves behind. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/suite.h"
#include "tests/table_fixture.h"

/* ---- Places ------------------------------------------------------------ */

/* In a table of GROUPS groups, each slot of both groups once, and the groups are two. */
static void check_window(const struct table *table, uint64_t groups,
			 struct fingerprint fingerprint)
{
	uint64_t group[2], seen = 0;

	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		uint64_t index = (uint64_t)(table_slot(table, fingerprint, i) - table->slots);
		unsigned half = i / GROUP_SLOTS;

		if (i % GROUP_SLOTS == 0)
			group[half] = index / GROUP_SLOTS;
		must(index / GROUP_SLOTS == group[half]);
		must(group[half] < groups);
		seen |= 1ull << (index % GROUP_SLOTS + half * GROUP_SLOTS);
	}
	must(seen == (1ull << WINDOW_SLOTS) - 1);
	must(group[0] != group[1]);
}

START_TEST(window_is_two_groups)
{
	static const uint64_t large[] = { 1ull << 28, (1ull << 28) + 1, 1ull << 29,
					  (1ull << 29) - 1 };
	struct table table = { 0 };     /* no slot of it is touched */
	uint64_t random = 1;

	for (uint64_t n = 2; n < 1000 + LENGTH(large); n++) {
		uint64_t groups = n < 1000 ? n : large[n - 1000];

		table_set_groups(&table, groups);
		for (unsigned i = 0; i < 100; i++) {
			struct fingerprint any = { fixture_random(&random, UINT64_MAX),
						   fixture_random(&random, UINT64_MAX) };

			check_window(&table, groups, any);
			any.high |= UINT32_MAX;
			check_window(&table, groups, any);
		}
	}
}
END_TEST

/* Keys are spread evenly, also where their number is no power of two. */
START_TEST(groups_are_even)
{
	enum { GROUPS = 13, KEYS = 13000 };
	struct table table = { 0 };
	unsigned first[GROUPS] = { 0 }, second[GROUPS] = { 0 };
	uint64_t random = 1;

	table_set_groups(&table, GROUPS);
	for (unsigned i = 0; i < KEYS; i++) {
		struct fingerprint key = { fixture_random(&random, UINT64_MAX),
					   fixture_random(&random, UINT64_MAX) };

		first[(table_slot(&table, key, 0) - table.slots) / GROUP_SLOTS]++;
		second[(table_slot(&table, key, GROUP_SLOTS) - table.slots) / GROUP_SLOTS]++;
	}
	for (unsigned i = 0; i < GROUPS; i++) {
		must(first[i] > 850 && first[i] < 1150);
		must(second[i] > 850 && second[i] < 1150);
	}
}
END_TEST

START_TEST(slot_states)
{
	static const struct {
		uint64_t identity, state;
		enum slot_status status;
	} expected[] = {
		{ 0, 0, SLOT_DEAD },
		{ 7, 7 | STATE_LIVE, SLOT_LIVE },
		{ 7, 7, SLOT_DEAD },
		{ 7, 6, SLOT_TENTATIVE },
		{ 7, 6 | STATE_LIVE, SLOT_DAMAGED },
		{ 7, 5, SLOT_DAMAGED },
		{ 7, 8, SLOT_DAMAGED },
		{ 7, 8 | STATE_LIVE, SLOT_DAMAGED },
		{ 0, 0xffff, SLOT_TENTATIVE },
		{ 0, 0xffff | STATE_LIVE, SLOT_DAMAGED },
		{ 0xffff, 0, SLOT_DAMAGED },
		{ 0xffff, 0xfffe, SLOT_TENTATIVE },
		/* fingerprint and count are none of its business */
		{ 0xabcd00000007, 99ull << STATE_USED_SHIFT | 7 | STATE_LIVE, SLOT_LIVE },
	};

	ck_assert_int_eq(slot_status(expected[_i].identity, expected[_i].state),
			 expected[_i].status);
}
END_TEST

/* Up to 5 in the first group, then the emptier of the two. */
START_TEST(placement)
{
	static const int places[WINDOW_SLOTS] = { 0, 1, 2, 3, 4, 8, 9, 10, 11, 12,
						  5, 13, 6, 14, 7, 15 };
	struct table table = table_make(16);

	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		insert(&table, in_window(i), 10 * MINUTE);
		ck_assert_int_eq(place_of(&table, in_window(i)), places[i]);
	}
	for (unsigned i = 0; i < WINDOW_SLOTS; i++)
		ck_assert_int_eq(place_of(&table, in_window(i)), places[i]);
	free(table.slots);
}
END_TEST

/* A key is seen only once it was charged; then whoever claims finds it. */
START_TEST(claim_then_charge)
{
	struct table table = table_make(16);
	struct fingerprint fingerprint = in_window(0), other = in_window(1);
	struct claim_report report;
	struct bucket_ref ref, again;

	ck_assert_int_eq(claim(&table, fingerprint, &ref, &report), CLAIM_TENTATIVE);
	ck_assert_uint_eq(report.claimed, 1);
	ck_assert_uint_eq(report.evicted_live + report.repaired, 0);
	ck_assert(ref.tentative);
	ck_assert_int_eq(status_of(ref.slot), SLOT_TENTATIVE);
	ck_assert(!table_find(&table, fingerprint, &again));

	ck_assert_int_eq(charge(&ref, MINUTE), BUCKET_DONE);
	ck_assert_int_eq(status_of(ref.slot), SLOT_LIVE);
	ck_assert(table_find(&table, fingerprint, &again));
	ck_assert_ptr_eq(again.slot, ref.slot);
	ck_assert(!again.tentative);
	ck_assert_int_eq(claim(&table, fingerprint, &again, &report), CLAIM_FOUND);
	ck_assert_uint_eq(report.claimed, 0);
	/* A second claimer that had adopted the slot meanwhile charges the same. */
	ck_assert_int_eq(charge(&ref, MINUTE), BUCKET_DONE);
	ck_assert_uint_eq(ref.slot->state.first, EPOCH + 2 * MINUTE);

	/* Half a fingerprint is not the key. */
	other.low = fingerprint.low;
	ck_assert(!table_find(&table, other, &again));
	other = fingerprint;
	other.low ^= 1ull << 40;
	ck_assert(!table_find(&table, other, &again));
	free(table.slots);
}
END_TEST

/* ---- What stopped claimers leave --------------------------------------- */

/* Nobody waits for a claimer that was stopped: whoever wants the key goes on
 * with its slot, and wakes up to the same one. */
START_TEST(tentative_is_adopted)
{
	struct table table = table_make(16);
	struct fingerprint fingerprint = in_window(0);
	struct slot *slot = table_slot(&table, fingerprint, 9);
	struct claim_report report;
	struct bucket_ref ref;

	leave_tentative(slot, fingerprint);
	ck_assert_int_eq(claim(&table, fingerprint, &ref, &report), CLAIM_TENTATIVE);
	ck_assert_ptr_eq(ref.slot, slot);
	ck_assert_uint_eq(report.claimed, 0);
	ck_assert_int_eq(charge(&ref, MINUTE), BUCKET_DONE);
	ck_assert_int_eq(place_of(&table, fingerprint), 9);
	free(table.slots);
}
END_TEST

/* Two claimers chose two slots: the first in probe order stays. */
START_TEST(one_of_two_tentative_stays)
{
	struct table table = table_make(16);
	struct fingerprint fingerprint = in_window(0);
	struct slot *first = table_slot(&table, fingerprint, 3);
	struct slot *second = table_slot(&table, fingerprint, 11);
	struct bucket_ref ref, late = { .slot = second, .generation = 1, .tentative = true };
	struct claim_report report;

	leave_tentative(second, fingerprint);
	leave_tentative(first, fingerprint);
	ck_assert_int_eq(claim(&table, fingerprint, &ref, &report), CLAIM_TENTATIVE);
	ck_assert_ptr_eq(ref.slot, first);
	ck_assert_int_eq(status_of(second), SLOT_DEAD);
	/* The claimer of the other slot wakes up: its charge cannot land there. */
	ck_assert_int_eq(charge(&late, MINUTE), BUCKET_GONE);
	ck_assert_int_eq(charge(&ref, MINUTE), BUCKET_DONE);
	ck_assert_int_eq(place_of(&table, fingerprint), 3);
	free(table.slots);
}
END_TEST

/* A live slot goes before a tentative one, wherever the two are. */
START_TEST(live_goes_before_tentative)
{
	struct table table = table_make(16);
	struct fingerprint fingerprint = in_window(0);
	struct slot *slot = table_slot(&table, fingerprint, 9);
	struct bucket_ref ref, confirmed;
	struct claim_report report;

	leave_tentative(slot, fingerprint);
	confirmed = (struct bucket_ref){ .slot = slot, .generation = 1, .tentative = true };
	ck_assert_int_eq(charge(&confirmed, MINUTE), BUCKET_DONE);
	leave_tentative(table_slot(&table, fingerprint, 0), fingerprint);
	ck_assert_int_eq(claim(&table, fingerprint, &ref, &report), CLAIM_FOUND);
	ck_assert_ptr_eq(ref.slot, slot);
	free(table.slots);
}
END_TEST

/* A slot of the key's own that was sealed holds nothing: it is claimed anew. */
START_TEST(own_dead_slot)
{
	struct table table = table_make(16);
	struct fingerprint fingerprint = in_window(0);
	struct bucket_ref ref = insert(&table, fingerprint, MINUTE), again;
	struct claim_report report;

	ref.slot->state.second &= ~STATE_LIVE;
	ck_assert_int_eq(status_of(ref.slot), SLOT_DEAD);
	ck_assert(!table_find(&table, fingerprint, &again));
	ck_assert_int_eq(claim(&table, fingerprint, &again, &report), CLAIM_TENTATIVE);
	ck_assert_uint_eq(report.claimed, 1);
	ck_assert_uint_eq(report.evicted_live, 0);
	ck_assert_uint_eq(again.generation, ref.generation + 1);
	/* Nothing of the old state comes back, and no old reference counts. */
	ck_assert_int_eq(charge(&ref, MINUTE), BUCKET_GONE);
	ck_assert_int_eq(charge(&again, MINUTE), BUCKET_DONE);
	ck_assert_uint_eq(again.slot->state.first, EPOCH + MINUTE);
	free(table.slots);
}
END_TEST

/* Slots whose two generations fit no state of the protocol are emptied when they
 * are needed, and counted. */
START_TEST(damaged_slots_are_repaired)
{
	static const uint64_t states[] = { 77, 77 | STATE_LIVE, STATE_LIVE, 3, 5ull << 40 | 9 };
	struct table table = table_make(16);
	struct fingerprint fingerprint = in_window(0);
	struct claim_report report;
	struct bucket_ref ref;

	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		table.slots[i].identity = (struct word_pair){ ~0ull, ~0xffffull | 1 };
		table.slots[i].state = (struct word_pair){ ~0ull >> 1, states[_i] };
		ck_assert_int_eq(status_of(&table.slots[i]), SLOT_DAMAGED);
	}
	ck_assert_int_eq(claim(&table, fingerprint, &ref, &report), CLAIM_TENTATIVE);
	ck_assert_uint_eq(report.repaired, 1);
	ck_assert_uint_eq(report.claimed, 1);
	ck_assert_uint_eq(report.evicted_live, 0);
	ck_assert_int_eq(charge(&ref, MINUTE), BUCKET_DONE);
	ck_assert_uint_eq(ref.slot->state.first, EPOCH + MINUTE);
	ck_assert_uint_eq(state_used(ref.slot->state), MINUTE / hourly.token_ns);
	ck_assert_int_eq(place_of(&table, fingerprint), 0);
	free(table.slots);
}
END_TEST

/* ---- Generations ------------------------------------------------------- */

/* 2^16 owners later the generation begins anew, and everything still holds. */
START_TEST(generation_wraps)
{
	struct table table = table_make(16);
	struct slot *slot = table_slot(&table, in_window(0), 0);
	struct bucket_ref old, ref;

	for (unsigned i = 1; i < WINDOW_SLOTS; i++)
		insert(&table, in_window(i), MINUTE);
	/* The last slot goes from owner to owner. */
	for (uint64_t owner = 0; owner < (1 << 16) + 3; owner++) {
		struct claim_report report = { 0, 0, 0 };
		struct fingerprint fingerprint = in_window(100 + owner);

		must(table_claim(&table, fingerprint, EPOCH, MINUTE, &ref, &report) ==
		     CLAIM_TENTATIVE);
		must(report.claimed == 1 && report.repaired == 0);
		slot = owner ? slot : ref.slot;
		must(ref.slot == slot && ref.generation == ((owner + 1) & GENERATION_MASK));
		must(owner == 0 || charge(&old, SECOND) == BUCKET_GONE);
		must(charge(&ref, SECOND) == BUCKET_DONE);
		must(slot->state.first == EPOCH + SECOND);
		must(report.evicted_live == (owner > 0));
		old = ref;
	}
	free(table.slots);
}
END_TEST

/* A claimer that was stopped for long must not sign for a slot that went on. */
START_TEST(owner_moves_forward)
{
	static const struct {
		uint64_t current, generation;
		bool signs;
	} cases[] = {
		{ 0, 1, true },         /* nobody yet */
		{ 0, 0xffff, true },
		{ 1, 2, true },
		{ 2, 1, false },
		{ 2, 2, true },         /* the policy came back, or began to sync */
		{ 1, 0x7fff, true },
		{ 0xffff, 0, true },    /* the generation wraps */
		{ 0xfffe, 3, true },
		{ 3, 0xfffe, false },
	};
	uint64_t someone = 9ull << 16 | 1ull << 32 | 77ull << 40;
	struct slot slot = { .owner = cases[_i].current ? cases[_i].current | someone : 0 };
	uint64_t before = slot.owner;
	struct bucket_ref ref = { .slot = &slot, .generation = cases[_i].generation };

	for (int syncs = 0; syncs < 2; syncs++) {
		/* Of one owner, charged before it began to sync. */
		bool joins = syncs && cases[_i].current == cases[_i].generation;

		slot.owner = before;
		table_set_owner(&ref, 4095, 0xabcdef, 3, syncs);
		if (cases[_i].signs)
			ck_assert_uint_eq(slot.owner, cases[_i].generation | 4095ull << 16 |
							      3ull << 32 | 0xabcdefull << 40 |
							      (syncs ? OWNER_SYNCS : 0) |
							      (joins ? OWNER_JOINED : 0));
		else
			ck_assert_uint_eq(slot.owner, before);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("table");
	TCase *cases = tcase_create("table");

	tcase_add_test(cases, window_is_two_groups);
	tcase_add_test(cases, groups_are_even);
	tcase_add_loop_test(cases, slot_states, 0, 13);
	tcase_add_test(cases, placement);
	tcase_add_test(cases, claim_then_charge);
	tcase_add_test(cases, tentative_is_adopted);
	tcase_add_test(cases, one_of_two_tentative_stays);
	tcase_add_test(cases, live_goes_before_tentative);
	tcase_add_test(cases, own_dead_slot);
	tcase_add_loop_test(cases, damaged_slots_are_repaired, 0, 5);
	tcase_add_test(cases, generation_wraps);
	tcase_add_loop_test(cases, owner_moves_forward, 0, 9);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
