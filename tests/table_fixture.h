/* SPDX-License-Identifier: Apache-2.0 */
/* table_fixture.h - a table without a segment, and what a claimer does, step by step. */
#ifndef WEIR_TESTS_TABLE_FIXTURE_H
#define WEIR_TESTS_TABLE_FIXTURE_H

#include "shm/bucket.h"
#include "shm/table.h"
#include "tests/fixture.h"

/* Of what version the policy is: it never changes here. */
extern const uint64_t version;

/* One token a millisecond, so that a debt is easily made. */
extern const struct limit hourly;

/* Its slots are to be freed. */
struct table table_make(uint64_t slots);

/* Key NUMBER of those that have one window of slots, in one probe order. */
struct fingerprint in_window(uint64_t number);

/* Charge the bucket until its debt is DEBT; the first charge makes it live. */
enum bucket_result charge(const struct bucket_ref *ref, uint64_t debt_ns);

enum table_claim claim(const struct table *table, struct fingerprint fingerprint,
		       struct bucket_ref *ref, struct claim_report *report);

/* Claim a slot and make it live with DEBT. */
struct bucket_ref insert(const struct table *table, struct fingerprint fingerprint,
			 uint64_t debt_ns);

/* Where in the probe order of FINGERPRINT its live slot is; -1: nowhere. */
int place_of(const struct table *table, struct fingerprint fingerprint);

enum slot_status status_of(const struct slot *slot);

/* Another process that claimed the slot for FINGERPRINT and stopped there. */
void leave_tentative(struct slot *slot, struct fingerprint fingerprint);

#endif
