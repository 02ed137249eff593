/* SPDX-License-Identifier: Apache-2.0 */
/* sync/weir_sync.lua, where something is wrong: malformed calls and items, foreign or damaged data
 * in its key, no memory; and random calls of all kinds, compared with the model. */
#include "tests/script_fixture.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

#define MS_NS (SECOND_NS / 1000)
#define WEEK_MS (7 * 86400000LL)

/* ---- Malformed --------------------------------------------------------- */

/* Arguments that are right, but for one. */
struct malformed {
	int argument;                           /* from 1 */
	const char *value;
	size_t size;
};

START_TEST(test_malformed_calls_write_nothing)
{
	static const char item_bytes[65000];
	static const struct malformed cases[] = {
		{ 1, "", 0 }, { 1, "fifteen bytes..", 15 }, { 1, "seventeen bytes..", 17 },
		{ 2, "", 0 }, { 2, "0", 1 }, { 2, "-1", 2 }, { 2, "1.5", 3 }, { 2, "0x10", 4 },
		{ 2, "1e3", 3 }, { 2, " 1", 2 }, { 2, "nan", 3 }, { 2, "inf", 3 },
		{ 2, "9007199254740992", 16 }, { 2, "99999999999999999999999999", 26 },
		{ 2, "1\0", 2 },
		{ 3, "", 0 }, { 3, "-0", 2 }, { 3, "one", 3 }, { 3, "9007199254740992", 16 },
		{ 4, "7 bytes", 7 }, { 4, "9 bytes..", 9 }, { 4, "\0\0\0\0\0\xca\x9a\x3b", 8 },
		{ 5, "", 0 }, { 5, "-1", 2 }, { 5, "9007199254740992", 16 }, { 5, "nan", 3 },
		{ 6, "", 0 }, { 6, "0", 1 }, { 6, "1073741824", 10 }, { 6, "5.5", 3 },
		{ 7, item_bytes, 1 }, { 7, item_bytes, 55 }, { 7, item_bytes, 57 },
		{ 7, item_bytes, 1001 * 56 },
		{ 8, item_bytes, 1 }, { 8, item_bytes, 63 }, { 8, item_bytes, 65 },
		{ 8, item_bytes, 1001 * 64 },
		{ 9, item_bytes, 1 }, { 9, item_bytes, 23 }, { 9, item_bytes, 25 },
		{ 9, item_bytes, 1001 * 24 },
	};
	struct script_client own;

	script_client_start(&own, shard.context, SCRIPT_CLOCK_REDIS);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *arguments[9] = { "sixteen bytes...", "1", "1", "", "1000", "5",
					     "", "", "" };
		size_t sizes[9] = { 16, 1, 1, 0, 4, 1, 0, 0, 0 };
		char argument[32];

		arguments[cases[i].argument - 1] = cases[i].value;
		sizes[cases[i].argument - 1] = cases[i].size;
		snprintf(argument, sizeof(argument), "WEIR argument %d:", cases[i].argument);
		ck_assert_msg(!script_client_evaluate(&own, 9, arguments, sizes, &shard.reply),
			      "case %zu", i);
		ck_assert_msg(strncmp(own.error, argument, strlen(argument)) == 0, "case %zu: %s",
			      i, own.error);
	}

	/* A fence brings no items; and all arguments are there, no more. */
	for (size_t i = 0; i < 3 * 11; i++) {
		static const size_t item_sizes[] = { 56, 64, 24 };
		const char *arguments[10] = { "sixteen bytes...", "1", "0", "", "1000", "5",
					      "", "", "", "1 1" };
		size_t sizes[10] = { 16, 1, 1, 0, 4, 1, 0, 0, 0, 3 };

		arguments[6 + i % 3] = item_bytes;
		sizes[6 + i % 3] = item_sizes[i % 3];
		ck_assert(!script_client_evaluate(&own, i / 3, arguments, sizes, &shard.reply));
	}
	ck_assert_int_eq(shard_command("DBSIZE"), 0);
}
END_TEST

START_TEST(test_malformed_items_change_nothing)
{
	struct peer a = peer("a");
	struct script_item items[9];

	peer_fence(&a);
	peer_send_item(&a, item("k", 6 * SECOND_NS));
	for (int i = 0; i < 9; i++)
		items[i] = item("k", SECOND_NS);
	items[1].charge.nanoseconds = 1000000000;
	items[2].empty.nanoseconds = UINT32_MAX;
	items[3].view.nanoseconds = 1000000000;
	items[4].cap = (struct script_duration){ 1, 1000000000 };
	items[5].cap = (struct script_duration){ -1, 999999999 };
	items[6].flags = 4;
	items[7].flags = UINT32_MAX;
	peer_send(&a, items, 9);
	for (int i = 0; i < 9; i++) {
		bool valid = i == 0 || i == 8;

		ck_assert_uint_eq(shard.reply.results[i].error,
				  valid ? SCRIPT_ITEM_DONE : SCRIPT_ITEM_MALFORMED);
		ck_assert_int_eq(script_ns(shard.reply.results[i].debt),
				 (i == 8 ? 3 : 2) * SECOND_NS);
	}
}
END_TEST

START_TEST(test_range)
{
	struct peer a = peer("a");
	struct script_item far = item("k", 0);

	peer_fence(&a);
	peer_send_item(&a, item("k", 6 * SECOND_NS));
	for (int i = 0; i < 3; i++) {
		far.charge = i == 0 ? (struct script_duration){ INT32_MAX, 999999999 } :
			     (struct script_duration){ 0, 0 };
		far.empty = i == 1 ? (struct script_duration){ INT32_MAX, 0 } :
			    script_duration(SCRIPT_NEVER_NS);
		far.view = i == 2 ? (struct script_duration){ INT32_MAX, 0 } :
			   script_duration(SCRIPT_NEVER_NS);
		far.generation = i == 2;
		peer_send(&a, &far, 1);
		ck_assert_uint_eq(shard.reply.results[0].error, SCRIPT_ITEM_RANGE);
		ck_assert_uint_eq(shard.reply.results[0].generation, 0);
		ck_assert_int_eq(peer_debt_ns(&a, "k"), SECOND_NS);
	}

	/* The largest of all, and the smallest. */
	far = item("k", (INT64_C(2147483646) - 1) * SECOND_NS);
	ck_assert_int_eq(script_ns(peer_send_item(&a, far).debt), INT64_C(2147483646) * SECOND_NS);
	far.charge = (struct script_duration){ INT32_MIN, 0 };
	ck_assert_int_eq(script_ns(peer_send_item(&a, far).debt), -2 * SECOND_NS);
	far.charge = script_duration(-1);
	ck_assert_int_eq(far.charge.seconds, -1);
	ck_assert_uint_eq(far.charge.nanoseconds, 999999999);
	ck_assert_int_eq(script_ns(peer_send_item(&a, far).debt), -2 * SECOND_NS - 1);
}
END_TEST

/* A Redis that was started at the beginning of 1970. */
START_TEST(test_clock_at_zero)
{
	struct peer a = peer("a");

	shard.true_us = 0;
	peer_fence(&a);
	ck_assert_int_eq(shard.reply.now_ns, 0);
	peer_send_item(&a, item("k", 7));
	ck_assert_int_eq(peer_debt_ns(&a, "k"), 7);
	shard.true_us = 2 * SECOND_US;
	ck_assert_int_eq(peer_debt_ns(&a, "other"), -2 * SECOND_NS);
}
END_TEST

START_TEST(test_any_bytes_are_a_name)
{
	struct script_item items[256];
	struct peer a = peer("a");

	peer_fence(&a);
	for (int i = 0; i < 256; i++) {
		items[i] = item("", 6 * SECOND_NS + i);
		memset(items[i].name, i, sizeof(items[i].name));
	}
	peer_send(&a, items, 256);
	for (int i = 0; i < 256; i++)
		items[i].charge = script_duration(0);
	peer_send(&a, items, 256);
	for (int i = 0; i < 256; i++)
		ck_assert_int_eq(script_ns(shard.reply.results[i].debt), SECOND_NS + i);

	/* And a host: one whose records look like an entry's. */
	for (int i = 0; i < 256; i++) {
		struct peer any = peer("");

		memset(any.id, i, sizeof(any.id));
		peer_fence(&any);
		ck_assert_uint_eq(shard.reply.live, i + 2);
	}
}
END_TEST

START_TEST(test_thousand_items)
{
	static struct script_item items[SCRIPT_MAX_ITEMS];
	struct peer a = peer("a");
	char name[32];

	peer_fence(&a);
	for (int round = 1; round <= 3; round++) {
		for (int i = 0; i < SCRIPT_MAX_ITEMS; i++) {
			snprintf(name, sizeof(name), "item %d", i);
			items[i] = item(name, 2 * SECOND_NS + i);
		}
		peer_send(&a, items, SCRIPT_MAX_ITEMS);
		for (int i = 0; i < SCRIPT_MAX_ITEMS; i++)
			ck_assert_int_eq(script_ns(shard.reply.results[i].debt),
					 round * (2 * SECOND_NS + i) - 5 * SECOND_NS);
	}
}
END_TEST

/* ---- What lies in the key ---------------------------------------------- */

START_TEST(test_key_always_expires)
{
	struct peer a = peer("a");
	struct script_item charge = item("k", 9 * SECOND_NS);
	struct script_call call;

	for (int i = 0; i < 4; i++) {
		long long left_ms;

		if (i == 0) {
			peer_fence(&a);
		} else if (i == 1) {
			peer_send_item(&a, charge);
		} else if (i == 2) {
			peer_send(&a, NULL, 0);
		} else {                        /* a refused call does not take it away */
			shard_command("PEXPIRE %s %lld", SCRIPT_SHARD, WEEK_MS);
			call = peer_call(&a, &charge, 1);
			call.seq += 5;
			ck_assert_int_eq(shard_call(&call), SCRIPT_FENCE_FIRST);
		}
		left_ms = shard_command("PTTL %s", SCRIPT_SHARD);
		ck_assert_int_le(left_ms, WEEK_MS);
		ck_assert_int_gt(left_ms, WEEK_MS - 60000);
		shard_command("PERSIST %s", SCRIPT_SHARD);
	}
	ck_assert_int_eq(shard_command("OBJECT ENCODING %s", SCRIPT_SHARD), strlen("hashtable"));
}
END_TEST

START_TEST(test_foreign_key_is_left_alone)
{
	struct peer a = peer("a");
	struct script_item charge = item("k", 9 * SECOND_NS);

	shard_command("SET %s precious", SCRIPT_SHARD);
	for (int i = 0; i < 2; i++) {
		struct script_call call = peer_call(&a, i ? &charge : NULL, i);

		call.term = 1;
		call.seq = (uint64_t)i;
		ck_assert(!script_client_call(&shard.client, &call, &shard.reply));
		ck_assert_msg(strncmp(shard.client.error, "WRONGTYPE ", 10) == 0, "%s",
			      shard.client.error);
	}
	ck_assert_int_eq(shard_command("GET %s", SCRIPT_SHARD), strlen("precious"));
	ck_assert_int_eq(shard_command("PTTL %s", SCRIPT_SHARD), -1);
}
END_TEST

/* Whatever stands in the fields, the script answers and begins anew. */
START_TEST(test_damaged_fields)
{
	static const char *const values[] = {
		"", "x", "-1", "twelve bytes", "eight by", "99999999999999999999999",
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		("\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff\xff"
		 "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
		"thirty-six bytes, as long as a host.",
	};
	static const char *const fields[] = { "s", "c", "L", "v", "host", "entry" };
	struct script_item charge = item("k", 6 * SECOND_NS);
	char record[1 + SCRIPT_HOST_BYTES] = { 'h' };

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		for (size_t j = 0; j < sizeof(fields) / sizeof(fields[0]); j++) {
			struct script_reply *reply = &shard.reply;
			struct peer a = peer("a");
			struct script_call call;

			shard_flush();
			peer_fence(&a);
			memcpy(record + 1, a.id, sizeof(a.id));
			if (j < 4)
				shard_command("HSET %s %s %s", SCRIPT_SHARD, fields[j], values[i]);
			else if (j == 4)
				shard_command("HSET %s %b %s", SCRIPT_SHARD, record, sizeof(record),
					      values[i]);
			else
				shard_command("HSET %s %b %s", SCRIPT_SHARD, charge.name,
					      sizeof(charge.name), values[i]);
			call = peer_call(&a, &charge, 1);
			ck_assert_msg(script_client_call(&shard.client, &call, reply),
				      "%s = %s: %s", fields[j], values[i], shard.client.error);
			if (j == 4) {           /* its record is void or says another term */
				ck_assert_int_ne(reply->code, SCRIPT_DONE);
				continue;
			}
			ck_assert_int_eq(reply->code, SCRIPT_DONE);
			ck_assert_uint_eq(reply->live, 1);
			ck_assert_uint_eq(reply->results[0].error, SCRIPT_ITEM_DONE);
			ck_assert_int_eq(script_ns(reply->results[0].debt), SECOND_NS);
		}
	}
}
END_TEST

START_TEST(test_collection)
{
	enum { BATCHES = 20 };
	static struct script_item items[SCRIPT_MAX_ITEMS];
	struct peer a = peer("a");
	char name[32];
	struct script_item refund = item("refunded", -1);
	long long fields;
	int rounds = 0;

	peer_fence(&a);
	peer_send(&a, NULL, 0);
	fields = shard_fields();
	for (int batch = 0; batch < BATCHES; batch++) {
		for (int i = 0; i < SCRIPT_MAX_ITEMS; i++) {
			snprintf(name, sizeof(name), "%d:%d", batch, i);
			items[i] = item(name, 6 * SECOND_NS);
		}
		peer_send(&a, items, SCRIPT_MAX_ITEMS);
	}
	peer_send_item(&a, refund);
	peer_send_item(&a, item("busy", 600 * SECOND_NS));
	ck_assert_int_eq(shard_fields(), fields + 20002);

	/* Ordinary calls remove them, each a few. */
	shard.true_us += 7 * SECOND_US;
	for (int i = 0; i < 10; i++)
		items[i] = item("busy", 0);
	while (shard_fields() > fields + 2 && rounds++ < 10000)
		peer_send(&a, items, 10);
	ck_assert_int_lt(rounds, 10000);
	ck_assert_int_gt(rounds, 100);
	ck_assert_int_eq(peer_debt_ns(&a, "busy"), 588 * SECOND_NS);

	/* A generation is remembered for ten minutes. */
	ck_assert_uint_eq(peer_send_item(&a, item("refunded", 0)).generation, 1);
	shard.true_us += 602 * SECOND_US;
	ck_assert_uint_eq(peer_send_item(&a, item("refunded", 0)).generation, 0);
}
END_TEST

/* Without memory a call is refused as a whole. */
START_TEST(test_out_of_memory)
{
	struct peer a = peer("a");
	struct script_item charge = item("k", 9 * SECOND_NS);
	struct script_call call;

	peer_fence(&a);
	peer_send_item(&a, charge);
	shard.true_us += 40 * SECOND_US;        /* time to count hosts and to collect */
	call = peer_call(&a, &charge, 1);
	shard_command("CONFIG SET maxmemory 1");
	bool done = script_client_call(&shard.client, &call, &shard.reply);
	shard_command("CONFIG SET maxmemory 0");
	ck_assert(!done);
	ck_assert_msg(strncmp(shard.client.error, "OOM ", 4) == 0, "%s", shard.client.error);
	ck_assert_int_eq(shard_call(&call), SCRIPT_DONE);
	ck_assert_int_eq(script_ns(shard.reply.results[0].debt), 4 * SECOND_NS);
}
END_TEST

/* ---- Random calls ------------------------------------------------------ */

#define HOSTS 6
#define NAMES 12

static int64_t random_duration_ns(struct random_state *random)
{
	int64_t ns = (int64_t)random_below(random, UINT64_C(1) << (1 + random_below(random, 36)));

	return random_below(random, 4) ? ns : -ns;
}

static struct script_item random_item(struct random_state *random)
{
	struct script_item item = { .flags = (uint32_t)random_below(random, 40) };
	uint64_t what = random_below(random, 200);

	item.name[0] = (uint8_t)random_below(random, NAMES);
	item.charge = script_duration(random_below(random, 5) ? random_duration_ns(random) : 0);
	item.empty = script_duration(random_below(random, 3) ? SCRIPT_NEVER_NS :
				     random_duration_ns(random));
	item.view = script_duration(random_below(random, 3) ? random_duration_ns(random) :
				    SCRIPT_NEVER_NS);
	if (random_below(random, 3) == 0)
		item.cap = script_duration((int64_t)random_below(random, 60) * SECOND_NS + 1);
	item.generation = (uint32_t)random_below(random, random_below(random, 10) ? 3 : 60);
	if (item.flags > 5)
		item.flags = 0;
	if (what == 0)
		item.charge = (struct script_duration){ (int32_t)random_next(random),
							(uint32_t)random_next(random) >> 2 };
	else if (what == 1)
		item.view.seconds = INT32_MAX - (int32_t)random_below(random, 3);
	else if (what == 2)
		item.cap.seconds = (int32_t)random_next(random);
	else if (what == 3)
		item.generation = UINT32_MAX - (uint32_t)random_below(random, 2);
	else if (what == 4)
		item.empty.nanoseconds = (uint32_t)random_next(random);
	return item;
}

static void random_time(struct random_state *random)
{
	static const int64_t steps[] = { 1, -1, 5, -5, 60, -60, 3600, -3600, 86400, -86400 };
	uint64_t what = random_below(random, 400);

	if (what < 10)
		shard.step_us += steps[what] * SECOND_US;
	else if (what < 20)
		shard.true_us += (int64_t)random_below(random, 700) * SECOND_US;
	else if (what == 20)
		shard.true_us += (int64_t)random_below(random, 100000) * SECOND_US;
	else
		shard.true_us += (int64_t)random_below(random, 300000);
}

static void random_call(struct random_state *random, struct peer *peer)
{
	struct script_item items[20];
	uint64_t what = random_below(random, 100);
	size_t count = random_below(random, random_below(random, 3) ? 4 : 20);
	struct script_call call;

	for (size_t i = 0; i < count; i++)
		items[i] = random_item(random);
	call = peer_call(peer, items, count);
	if (what < 4)
		call.seq = random_below(random, 4) + (peer->seq > 1 ? peer->seq - 1 : 0);
	else if (what < 8)
		call.term = 1 + random_below(random, peer->term + 2);
	else if (what < 12)
		call.low_ns = what == 8 ? 0 : what == 9 ? INT64_C(4294967295999999999) : -1;
	if (call.term == 0 || what >= 94) {
		call.term = peer->term + random_below(random, 3);
		call.term += call.term == 0;
		call.seq = 0;
	}
	call.count = call.seq ? count : 0;

	if (shard_call(&call) == SCRIPT_DONE) {
		peer->now_ns = shard.reply.now_ns;
		peer->at_us = shard.true_us;
		peer->term = call.term;
		peer->seq = call.seq;
	} else if (random_below(random, 2)) {
		peer->term = shard.reply.term > peer->term ? shard.reply.term : peer->term;
		peer->term++;
		call = peer_call(peer, NULL, 0);
		call.seq = 0;
		if (shard_call(&call) == SCRIPT_DONE)
			peer->seq = 0;
	}
}

START_TEST(test_equals_its_model)
{
	uint64_t seed = support_seed(), calls = support_amount(10000, 2000000);
	struct random_state random = random_start(seed, 2);
	struct peer hosts[HOSTS];
	uint64_t done = 0;

	for (int i = 0; i < HOSTS; i++) {
		char name[] = { (char)('a' + i), 0 };

		hosts[i] = peer(name);
	}
	for (uint64_t i = 0; i < calls; i++) {
		if (random_below(&random, 3000) == 0)
			shard_flush();
		random_time(&random);
		random_call(&random, &hosts[random_below(&random, HOSTS)]);
		done += shard.reply.code == SCRIPT_DONE;
	}
	ck_assert_uint_gt(done, calls / 2);

	/* What is stored is equal as well. */
	for (int i = 0; i < NAMES; i++) {
		uint8_t field[SCRIPT_NAME_BYTES] = { (uint8_t)i };
		redisReply *reply = redisCommand(shard.context, "HGET %s %b", SCRIPT_SHARD, field,
						 sizeof(field));
		int64_t tat_ns = script_model_tat_ns(shard.model, field);
		uint32_t value[3];

		ck_assert_ptr_nonnull(reply);
		if (reply->type == REDIS_REPLY_STRING) {
			ck_assert_uint_eq(reply->len, sizeof(value));
			memcpy(value, reply->str, sizeof(value));
			ck_assert_int_eq(value[0] * SECOND_NS + value[1], tat_ns);
		}
		freeReplyObject(reply);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("script_hostile");

	script_add(suite, "malformed calls", test_malformed_calls_write_nothing, 10);
	script_add(suite, "malformed items", test_malformed_items_change_nothing, 10);
	script_add(suite, "range", test_range, 10);
	script_add(suite, "clock at zero", test_clock_at_zero, 10);
	script_add(suite, "any bytes", test_any_bytes_are_a_name, 10);
	script_add(suite, "thousand items", test_thousand_items, 10);
	script_add(suite, "expiry", test_key_always_expires, 10);
	script_add(suite, "foreign key", test_foreign_key_is_left_alone, 10);
	script_add(suite, "damaged fields", test_damaged_fields, 10);
	script_add(suite, "collection", test_collection, 30);
	script_add(suite, "out of memory", test_out_of_memory, 10);
	script_add(suite, "model", test_equals_its_model, 60);
	return script_main(suite);
}
