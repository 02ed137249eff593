/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at a segment: its buckets and its counters. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/note.h"
#include "shm/policy_table.h"
#include "src/handle.h"
#include "tests/decide_fixture.h"
#include "tests/suite.h"

static bool spend(weir_policy_id policy, const void *key, size_t length, uint64_t cost)
{
	struct weir_request request = { policy, key, length, cost, EPOCH };

	return weir_decide(weir, &request, NULL);
}

/* ---- Buckets ----------------------------------------------------------- */

struct listing {
	struct weir_bucket buckets[128];
	size_t count, stop_after;
};

static bool collect(const struct weir_bucket *bucket, void *context)
{
	struct listing *listing = context;

	ck_assert_uint_lt(listing->count, LENGTH(listing->buckets));
	listing->buckets[listing->count++] = *bucket;
	return listing->count != listing->stop_after;
}

static struct listing *list_at(const struct weir *at, uint64_t now_ns, size_t stop_after)
{
	static struct listing listing;

	listing.count = 0;
	listing.stop_after = stop_after;
	weir_each_bucket(at, now_ns, collect, &listing);
	return &listing;
}

/* The bucket of POLICY's limit INDEX for KEY. */
static const struct weir_bucket *find(const struct listing *listing, const char *policy,
				      uint32_t index, const char *key)
{
	for (size_t i = 0; i < listing->count; i++) {
		const struct weir_bucket *bucket = &listing->buckets[i];

		if (strcmp(bucket->policy, policy) == 0 && bucket->limit_index == index &&
		    bucket->key_stored == strlen(key) &&
		    memcmp(bucket->key, key, strlen(key)) == 0)
			return bucket;
	}
	ck_abort_msg("no bucket of limit %u of %s for %s", index, policy, key);
	return NULL;
}

START_TEST(each_bucket)
{
	weir_policy_id several = fixture_set(
		weir, "several", "10/10s, 20/20s sliding-window, 30/30s fixed-window");
	weir_policy_id holds = fixture_set(weir, "holds", "7 concurrency");
	struct weir_request request = { holds, "held", 4, 5, EPOCH };
	const struct weir_bucket *bucket;
	struct listing *listing;
	struct weir_hold hold;
	char text[20][8];

	ck_assert_uint_eq(list_at(weir, EPOCH, 0)->count, 0);
	ck_assert(spend(several, "alpha", 5, 3));
	ck_assert(spend(several, "alpha", 5, 1));
	ck_assert(weir_acquire(weir, &request, &hold, NULL));

	listing = list_at(weir, EPOCH, 0);
	ck_assert_uint_eq(listing->count, 4);
	bucket = find(listing, "several", 0, "alpha");
	ck_assert_int_eq(bucket->algorithm, WEIR_TOKEN_BUCKET);
	ck_assert_uint_eq(bucket->key_length, 5);
	ck_assert_uint_eq(bucket->key_stored, 5);
	ck_assert_uint_eq(bucket->consumed, 4);
	ck_assert_int_eq(bucket->status.outcome, WEIR_ALLOWED);
	ck_assert_uint_eq(bucket->status.limit, 10);
	ck_assert_uint_eq(bucket->status.remaining, 6);
	ck_assert_uint_eq(bucket->status.reset_after_ns, 4 * SECOND);
	bucket = find(listing, "several", 1, "alpha");
	ck_assert_int_eq(bucket->algorithm, WEIR_SLIDING_WINDOW);
	ck_assert_uint_eq(bucket->consumed, 4);
	ck_assert_uint_eq(bucket->status.remaining, 16);
	bucket = find(listing, "several", 2, "alpha");
	ck_assert_int_eq(bucket->algorithm, WEIR_FIXED_WINDOW);
	ck_assert_uint_eq(bucket->consumed, 4);
	ck_assert_uint_eq(bucket->status.remaining, 26);
	ck_assert_uint_eq(bucket->status.limit_index, 2);
	bucket = find(listing, "holds", 0, "held");
	ck_assert_int_eq(bucket->algorithm, WEIR_CONCURRENCY);
	ck_assert_uint_eq(bucket->consumed, 5);
	ck_assert_uint_eq(bucket->status.remaining, 2);

	/* The visitor may stop. */
	ck_assert_uint_eq(list_at(weir, EPOCH, 2)->count, 2);
	/* Later they are full again, and still live. */
	bucket = find(list_at(weir, EPOCH + MINUTE, 0), "several", 0, "alpha");
	ck_assert_uint_eq(bucket->status.remaining, 10);
	ck_assert_uint_eq(bucket->consumed, 4);

	for (unsigned i = 0; i < LENGTH(text); i++) {
		snprintf(text[i], sizeof(text[i]), "key%u", i);
		ck_assert(spend(several, text[i], strlen(text[i]), 1 + i % 2));
	}
	listing = list_at(weir, EPOCH, 0);
	ck_assert_uint_eq(listing->count, 4 + 3 * LENGTH(text));
	for (unsigned i = 0; i < LENGTH(text); i++) {
		bucket = find(listing, "several", 1, text[i]);
		ck_assert_uint_eq(bucket->consumed, 1 + i % 2);
	}
}
END_TEST

/* A denied bucket says so, and until when; a full one tells it as status does. */
START_TEST(status_of_a_bucket)
{
	weir_policy_id id = fixture_set(weir, "p", "2/2s");
	const struct weir_bucket *bucket;

	ck_assert(spend(id, "k", 1, 2));
	ck_assert(!spend(id, "k", 1, 1));
	bucket = find(list_at(weir, EPOCH, 0), "p", 0, "k");
	ck_assert_int_eq(bucket->status.outcome, WEIR_DENIED);
	ck_assert_int_eq(bucket->status.reason, WEIR_REASON_LIMIT);
	ck_assert_uint_eq(bucket->status.retry_after_ns, SECOND);
}
END_TEST

static const uint32_t key_bytes[] = { 0, 1, 8, 9, 32, 1024 };

/* A segment that keeps key_bytes[I / 2] of each key, where notes are in the slots, or not. */
static struct weir *open_keeping(int i)
{
	struct weir_options options;

	weir_options_init(&options);
	options.clock = WEIR_CLOCK_CALLER;
	options.slots = 64;
	options.key_bytes = key_bytes[i / 2];
	options.sync = i % 2;
	return fixture_open(&options);
}

/* As much of the key as the segment stores, any bytes, and its real length. */
START_TEST(stored_keys)
{
	static unsigned char key[WEIR_KEY_MAX];
	static const uint32_t lengths[] = { 1, 7, 8, 9, 32, 33, 1023, 1024, 1025, WEIR_KEY_MAX };
	uint32_t kept = (key_bytes[_i / 2] + 7) / 8 * 8;
	struct weir *own = open_keeping(_i);
	struct weir_info info;
	weir_policy_id id;

	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (unsigned char)(i * 7);        /* the first is a NUL */
	weir_info(own, &info);
	ck_assert_uint_eq(info.key_bytes, kept);
	ck_assert_uint_eq(info.slot_bytes, 64 + kept + (_i % 2 ? 64 + 16 : 0));
	id = fixture_set(own, "p", "1000000/1h");
	for (size_t i = 0; i < LENGTH(lengths); i++) {
		/* consumed tells the buckets apart */
		struct weir_request request = { id, key, lengths[i], 10 + i, EPOCH };

		ck_assert(weir_decide(own, &request, NULL));
	}
	for (size_t i = 0; i < LENGTH(lengths); i++) {
		const struct listing *listing = list_at(own, EPOCH, 0);
		const struct weir_bucket *bucket = NULL;
		uint32_t stored = lengths[i] < kept ? lengths[i] : kept;

		ck_assert_uint_eq(listing->count, LENGTH(lengths));
		for (size_t j = 0; j < listing->count; j++) {
			if (listing->buckets[j].consumed == 10 + i)
				bucket = &listing->buckets[j];
		}
		ck_assert_ptr_nonnull(bucket);
		ck_assert_str_eq(bucket->policy, "p");
		ck_assert_uint_eq(bucket->key_length, lengths[i]);
		ck_assert_uint_eq(bucket->key_stored, stored);
		ck_assert(stored == 0 || memcmp(bucket->key, key, stored) == 0);
		ck_assert_uint_eq(bucket->fingerprint[8] | bucket->fingerprint[9], 0);
	}
	weir_close(own);
}
END_TEST

/* Change FROM to TO, which is somewhere in the SIZE bytes at AREA once. */
static void overwrite(void *area, size_t size, const char *from, const char *to)
{
	char *at = memmem(area, size, from, strlen(from));

	ck_assert_ptr_nonnull(at);
	memcpy(at, to, strlen(to));
	ck_assert_ptr_null(memmem(area, size, from, strlen(from)));
}

/* A note that is torn, or another owner's, is not shown as the key: whichever of its words
 * is wrong, wherever it is. */
START_TEST(torn_note)
{
	static const struct {
		const char *from, *to;
		bool in_slot;
	} tears[] = { { "some key", "soma key", true }, { " of 32 b", " of 23 b", false },
		      { "ytes len", "ytes Len", false }, { "th.", "th!", false } };
	const struct segment *segment = weir->segment;
	weir_policy_id id = fixture_set(weir, "p", "10/1h");
	const char key[] = "some key of 32 bytes length.";
	const struct weir_bucket *bucket;

	ck_assert(spend(id, key, strlen(key), 3));
	bucket = &list_at(weir, EPOCH, 0)->buckets[0];
	ck_assert_uint_eq(bucket->key_length, strlen(key));
	if (tears[_i].in_slot)
		overwrite(segment->table.slots, segment->slots * sizeof(struct slot),
			  tears[_i].from, tears[_i].to);
	else
		overwrite(segment->notes, segment->slots * segment->note_size, tears[_i].from,
			  tears[_i].to);
	bucket = &list_at(weir, EPOCH, 0)->buckets[0];
	ck_assert_str_eq(bucket->policy, "p");
	ck_assert_uint_eq(bucket->consumed, 3);
	ck_assert_uint_eq(bucket->key_length, 0);
	ck_assert_uint_eq(bucket->key_stored, 0);
}
END_TEST

/* The only one. */
static struct slot *live_slot(const struct segment *segment)
{
	struct slot *slot = NULL;

	for (uint64_t i = 0; i < segment->slots; i++) {
		if (segment->table.slots[i].state.second & STATE_LIVE)
			slot = &segment->table.slots[i];
	}
	ck_assert_ptr_nonnull(slot);
	return slot;
}

/* A claimer that was stopped before it noted its key wakes up when the slot has another
 * owner: neither key is shown as the other's. */
START_TEST(late_note)
{
	struct weir *own = open_keeping(_i);
	const struct segment *segment = own->segment;
	weir_policy_id id = fixture_set(own, "p", "10/1h");
	struct weir_request request = { id, "the owner's own key", 19, 3, EPOCH };
	const struct weir_bucket *bucket;
	struct bucket_ref late = { 0 };

	ck_assert(weir_decide(own, &request, NULL));
	late.slot = live_slot(segment);
	note_key(segment, &late, "a key that was there before", 27);
	bucket = &list_at(own, EPOCH, 0)->buckets[0];
	ck_assert_str_eq(bucket->policy, "p");
	ck_assert_uint_eq(bucket->consumed, 3);
	ck_assert_uint_eq(bucket->key_length, 0);
	weir_close(own);
}
END_TEST

/* The next owner of a slot may have a shorter key: nothing is left of the longer one. */
START_TEST(note_of_a_shorter_key)
{
	struct weir *own = open_keeping(_i);
	const struct segment *segment = own->segment;
	weir_policy_id id = fixture_set(own, "p", "10/1h");
	struct weir_request request = { id, "a key of twenty-six bytes.", 26, 3, EPOCH };
	const struct weir_bucket *bucket;
	struct bucket_ref ref = { 0 };
	static const char *const keys[] = { "shorter", "8 bytes.", "ten bytes." };

	ck_assert(weir_decide(own, &request, NULL));
	ref.slot = live_slot(segment);
	ref.generation = ref.slot->identity.second & GENERATION_MASK;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		size_t length = strlen(keys[i]);

		note_key(segment, &ref, keys[i], length);
		bucket = &list_at(own, EPOCH, 0)->buckets[0];
		ck_assert_uint_eq(bucket->key_length, length);
		ck_assert_uint_le(bucket->key_stored, length);
		ck_assert_mem_eq(bucket->key, keys[i], bucket->key_stored);
	}
	weir_close(own);
}
END_TEST

/* The buckets of a policy that is gone are there, without its name; those of a
 * limit that it no longer has as well. */
START_TEST(buckets_without_a_policy)
{
	weir_policy_id id = fixture_set(weir, "p", "10/1h, 20/1d");
	const struct listing *listing;

	ck_assert(spend(id, "k", 1, 4));
	fixture_set(weir, "p", "10/1h");
	listing = list_at(weir, EPOCH, 0);
	ck_assert_uint_eq(listing->count, 2);
	ck_assert_str_eq(find(listing, "p", 0, "k")->policy, "p");
	ck_assert_str_eq(find(listing, "", 0, "k")->policy, "");
	ck_assert_int_eq(weir_policy_remove(weir, "p", NULL), WEIR_OK);
	listing = list_at(weir, EPOCH, 0);
	ck_assert_uint_eq(listing->count, 2);
	for (size_t i = 0; i < 2; i++) {
		ck_assert_str_eq(listing->buckets[i].policy, "");
		ck_assert_uint_eq(listing->buckets[i].consumed, 4);
		ck_assert_uint_eq(listing->buckets[i].key_length, 1);
	}
}
END_TEST

/* A policy that was removed and defined again, in another place, has its keys' debts;
 * a limit that counts something else has not. */
START_TEST(buckets_of_a_policy_that_came_back)
{
	const char *long_key = "a key of more bytes than the segment keeps of each";
	weir_policy_id id = fixture_set(weir, "p", "10/1h, 20/1d, 30/1s fixed-window");
	const struct weir_bucket *bucket;
	const struct listing *listing;

	ck_assert(spend(id, "k", 1, 4));
	ck_assert(spend(id, long_key, strlen(long_key), 2));
	ck_assert_int_eq(weir_policy_remove(weir, "p", NULL), WEIR_OK);
	fixture_set(weir, "another", "10/1h, 20/1d, 30/1s fixed-window");
	id = fixture_set(weir, "p", "10/1h, 50/1d, 30/2s fixed-window");

	listing = list_at(weir, EPOCH, 0);
	ck_assert_uint_eq(listing->count, 6);
	for (uint32_t limit = 0; limit < 2; limit++) {
		bucket = find(listing, "p", limit, "k");
		ck_assert_uint_eq(bucket->consumed, 4);
		ck_assert_uint_eq(bucket->status.limit, limit ? 50 : 10);
		ck_assert_uint_eq(bucket->status.limit_index, limit);
		ck_assert_int_eq(bucket->status.outcome, WEIR_ALLOWED);
	}
	ck_assert_uint_eq(find(listing, "p", 0, "k")->status.remaining, 6);
	ck_assert_str_eq(find(listing, "", 0, "k")->policy, "");
	ck_assert(spend(id, "k", 1, 6));
	ck_assert(!spend(id, "k", 1, 1));
}
END_TEST

/* A bucket of a limit that was replaced by one that counts something else is not
 * shown as that one's. */
START_TEST(buckets_of_a_replaced_limit)
{
	weir_policy_id id = fixture_set(weir, "p", "10/1h sliding-window");
	const struct listing *listing;

	ck_assert(spend(id, "k", 1, 4));
	fixture_set(weir, "p", "10/2h sliding-window");
	ck_assert(spend(id, "k", 1, 3));
	listing = list_at(weir, EPOCH, 0);
	ck_assert_uint_eq(listing->count, 2);
	ck_assert_uint_eq(find(listing, "p", 0, "k")->consumed, 3);
	ck_assert_uint_eq(find(listing, "", 0, "k")->consumed, 4);
}
END_TEST

/* Denials are counted by samples, one of 32 on average: within 10 sigma. */
START_TEST(sampled_denials)
{
	struct weir *own = open_keeping(_i);
	struct weir_request request = { fixture_set(own, "p", "1/1h"), "k", 1, 1, EPOCH };
	uint64_t denials = 64 * 1024, sampled;
	const struct weir_bucket *bucket;

	ck_assert(weir_decide(own, &request, NULL));
	for (uint64_t i = 0; i < denials; i++)
		must(!weir_decide(own, &request, NULL));
	bucket = &list_at(own, EPOCH, 0)->buckets[0];
	sampled = bucket->denied_sampled;
	ck_assert_uint_eq(sampled % 32, 0);
	ck_assert_uint_ge(sampled, denials - denials / 4);
	ck_assert_uint_le(sampled, denials + denials / 4);
	/* They are not in the key's place. */
	ck_assert_uint_eq(bucket->key_length, 1);
	weir_close(own);
}
END_TEST

/* ---- Counters ---------------------------------------------------------- */

/* Described once, for machines and for people. */
START_TEST(counter_descriptions)
{
	const struct weir_counter *counter;
	unsigned count = 0;

	for (; (counter = weir_counter(count)) != NULL; count++) {
		size_t help = strlen(counter->help);

		ck_assert_uint_gt(strlen(counter->name), 0);
		ck_assert_uint_eq(strspn(counter->name, "abcdefghijklmnopqrstuvwxyz_"),
				  strlen(counter->name));
		ck_assert_uint_eq(strspn(counter->unit, "abcdefghijklmnopqrstuvwxyz"),
				  strlen(counter->unit));
		ck_assert_uint_gt(strlen(counter->unit), 0);
		ck_assert_uint_gt(help, 10);
		ck_assert_int_eq(counter->help[help - 1], '.');
		ck_assert(counter->help[0] >= 'A' && counter->help[0] <= 'Z');
		for (unsigned i = 0; i < count; i++)
			ck_assert_str_ne(weir_counter(i)->name, counter->name);
	}
	ck_assert_uint_ge(count, 17);
	ck_assert_ptr_null(weir_counter(count));
	ck_assert_ptr_null(weir_counter(count + 1));
	ck_assert_ptr_null(weir_counter(UINT32_MAX));
	ck_assert_uint_eq(weir_counter_read(weir, count, NULL), 0);
	ck_assert_uint_eq(weir_counter_read(weir, UINT32_MAX, NULL), 0);
}
END_TEST

/* Of one policy, or of all; what is not a policy's does not go by its name. */
START_TEST(counter_sums)
{
	weir_policy_id a = fixture_set(weir, "a", "5/1h"), b = fixture_set(weir, "b", "5/1h");
	const struct weir_counter *counter;

	ck_assert(spend(a, "k", 1, 3));
	ck_assert(!spend(a, "k", 1, 3));
	ck_assert(spend(b, "k", 1, 1));
	ck_assert(spend(b, "k", 1, 1));
	for (unsigned i = 0; (counter = weir_counter(i)) != NULL; i++) {
		uint64_t sum = weir_counter_read(weir, i, NULL);
		uint64_t of_a = weir_counter_read(weir, i, "a");
		uint64_t of_b = weir_counter_read(weir, i, "b");

		ck_assert_uint_eq(weir_counter_read(weir, i, "none"),
				  counter->per_policy ? 0 : sum);
		if (!counter->per_policy)
			continue;
		ck_assert_uint_eq(of_a + of_b, sum);
		if (strcmp(counter->name, "allowed") == 0)
			ck_assert(of_a == 1 && of_b == 2);
		if (strcmp(counter->name, "tokens") == 0)
			ck_assert(of_a == 3 && of_b == 2);
		if (strcmp(counter->name, "denied") == 0)
			ck_assert(of_a == 1 && of_b == 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("read");
	TCase *reading = tcase_create("reading");

	tcase_add_checked_fixture(reading, open_weir, close_weir);
	tcase_add_test(reading, each_bucket);
	tcase_add_test(reading, status_of_a_bucket);
	tcase_add_loop_test(reading, stored_keys, 0, 2 * (int)LENGTH(key_bytes));
	tcase_add_loop_test(reading, torn_note, 0, 4);
	tcase_add_loop_test(reading, late_note, 0, 2 * (int)LENGTH(key_bytes));
	tcase_add_loop_test(reading, note_of_a_shorter_key, 0, 2 * (int)LENGTH(key_bytes));
	tcase_add_test(reading, buckets_without_a_policy);
	tcase_add_test(reading, buckets_of_a_policy_that_came_back);
	tcase_add_test(reading, buckets_of_a_replaced_limit);
	tcase_add_loop_test(reading, sampled_denials, 0, 2 * (int)LENGTH(key_bytes));
	tcase_add_test(reading, counter_descriptions);
	tcase_add_test(reading, counter_sums);
	suite_add_tcase(suite, reading);
	return suite_run(suite);
}
