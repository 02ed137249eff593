/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/table_fixture.h"

#include <stdlib.h>
#include <string.h>

const uint64_t version;

const struct limit hourly = {
	.limit = HOUR / MS, .period_ns = HOUR, .burst = HOUR / MS, .algorithm = WEIR_TOKEN_BUCKET,
	.token_ns = MS, .parts = 1, .tolerance_ns = HOUR - MS,
};

struct table table_make(uint64_t slots)
{
	struct table table = { 0 };

	table_set_groups(&table, slots / GROUP_SLOTS);
	table.slots = aligned_alloc(CACHE_LINE, slots * sizeof(struct slot));
	ck_assert_ptr_nonnull(table.slots);
	memset(table.slots, 0, slots * sizeof(struct slot));
	return table;
}

struct fingerprint in_window(uint64_t number)
{
	return (struct fingerprint){ .low = (number + 1) << 32 | 5, .high = (number + 1) << 48 };
}

enum bucket_result charge(const struct bucket_ref *ref, uint64_t debt_ns)
{
	struct bucket_request request = {
		.operation = BUCKET_SPEND,
		.cost = debt_ns / hourly.token_ns,
		.now_ns = EPOCH,
		.version = &version,
	};
	struct verdict verdict;
	enum bucket_result result = bucket_apply(ref, &hourly, &request, &verdict);

	must(result != BUCKET_DONE || verdict.allowed);
	return result;
}

enum table_claim claim(const struct table *table, struct fingerprint fingerprint,
		       struct bucket_ref *ref, struct claim_report *report)
{
	memset(report, 0, sizeof(*report));
	return table_claim(table, fingerprint, EPOCH, hourly.token_ns, ref, report);
}

struct bucket_ref insert(const struct table *table, struct fingerprint fingerprint,
			 uint64_t debt_ns)
{
	struct claim_report report;
	struct bucket_ref ref;

	ck_assert_int_eq(claim(table, fingerprint, &ref, &report), CLAIM_TENTATIVE);
	ck_assert_int_eq(charge(&ref, debt_ns), BUCKET_DONE);
	return ref;
}

int place_of(const struct table *table, struct fingerprint fingerprint)
{
	struct bucket_ref ref;

	if (!table_find(table, fingerprint, &ref))
		return -1;
	for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
		if (table_slot(table, fingerprint, i) == ref.slot)
			return (int)i;
	}
	return -2;
}

enum slot_status status_of(const struct slot *slot)
{
	return slot_status(slot->identity.second, slot->state.second);
}

void leave_tentative(struct slot *slot, struct fingerprint fingerprint)
{
	uint64_t generation = (slot->identity.second + 1) & GENERATION_MASK;

	ck_assert_int_eq(status_of(slot), SLOT_DEAD);
	slot->identity.first = fingerprint.low;
	slot->identity.second = (fingerprint.high & ~GENERATION_MASK) | generation;
}
