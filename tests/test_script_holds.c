/* SPDX-License-Identifier: Apache-2.0 */
/* Concurrency limits in sync/weir_sync.lua, on a real Redis; every answer is compared with the
 * model's. */
#include "tests/script_fixture.h"

#include <string.h>

#include "tests/support.h"

#define HOSTS 5
#define NAMES 6
#define ALIVE_US (30 * SECOND_US)
#define MAX_HOSTS 4000
#define RECORD_BYTES 28

static struct script_hold hold(const char *name, uint64_t held)
{
	struct script_hold item = { .held = held };

	memcpy(item.name, name, strnlen(name, sizeof(item.name)));
	return item;
}

static struct script_hold_result peer_tell(struct peer *peer, const char *name, uint64_t held)
{
	struct script_hold item = hold(name, held);
	struct script_call call = peer_call(peer, NULL, 0);

	call.holds = &item;
	call.hold_count = 1;
	ck_assert_int_eq(shard_call(&call), SCRIPT_DONE);
	ck_assert_uint_eq(shard.reply.hold_count, 1);
	peer_done(peer);
	return shard.reply.holds[0];
}

static void expect(struct script_hold_result result, uint64_t others, uint32_t count)
{
	ck_assert_uint_eq(result.error, SCRIPT_ITEM_DONE);
	ck_assert_uint_eq(result.others, others);
	ck_assert_uint_eq(result.hosts, count);
}

/* Bytes that Redis has of NAME; 0: it has no such field. */
static long long stored_bytes(const char *name)
{
	char field[1 + SCRIPT_NAME_BYTES] = { 'g' };

	memcpy(field + 1, name, strnlen(name, SCRIPT_NAME_BYTES));
	return shard_command("HSTRLEN %s %b", SCRIPT_SHARD, field, sizeof(field));
}

START_TEST(test_others)
{
	struct peer a = peer("a"), b = peer("b"), c = peer("c");

	peer_fence(&a);
	peer_fence(&b);
	peer_fence(&c);
	expect(peer_tell(&a, "k", 3), 0, 0);
	expect(peer_tell(&b, "k", 4), 3, 1);
	expect(peer_tell(&c, "k", 0), 7, 2);
	expect(peer_tell(&a, "other", 0), 0, 0);
	/* What was told before is void: nothing adds up. */
	expect(peer_tell(&a, "k", 3), 4, 1);
	expect(peer_tell(&a, "k", 1), 4, 1);
	expect(peer_tell(&b, "k", 0), 1, 1);
	expect(peer_tell(&c, "k", 2), 1, 1);
	expect(peer_tell(&a, "k", 0), 2, 1);
	/* Who holds nothing leaves nothing. */
	ck_assert_int_eq(stored_bytes("k"), RECORD_BYTES);
	expect(peer_tell(&c, "k", 0), 0, 0);
	ck_assert_int_eq(stored_bytes("k"), 0);
	ck_assert_int_eq(stored_bytes("other"), 0);
}
END_TEST

/* A host that is gone is forgotten 30 seconds after it told last, to the second. */
START_TEST(test_dead_host)
{
	struct peer a = peer("a"), b = peer("b");

	shard.true_us -= shard.true_us % SECOND_US;
	peer_fence(&a);
	peer_fence(&b);
	expect(peer_tell(&a, "k", 3), 0, 0);
	expect(peer_tell(&b, "k", 5), 3, 1);
	shard.true_us += ALIVE_US - SECOND_US;
	expect(peer_tell(&b, "k", 5), 3, 1);
	shard.true_us += SECOND_US;
	expect(peer_tell(&b, "k", 5), 0, 0);
	ck_assert_int_eq(stored_bytes("k"), RECORD_BYTES);
	/* It comes back, and what it tells counts. */
	expect(peer_tell(&a, "k", 2), 5, 1);
	expect(peer_tell(&b, "k", 5), 2, 1);
	/* Redis' own clock, stepped by an hour, ages nobody. */
	shard.step_us += 3600 * SECOND_US;
	expect(peer_tell(&b, "k", 5), 2, 1);
}
END_TEST

/* Sums stay exact: the largest counts, and what is beyond. */
START_TEST(test_bounds)
{
	const uint64_t most = (UINT64_C(1) << 44) - 1;
	struct peer a = peer("a"), b = peer("b"), c = peer("c");

	peer_fence(&a);
	peer_fence(&b);
	peer_fence(&c);
	expect(peer_tell(&a, "k", most), 0, 0);
	expect(peer_tell(&b, "k", most - 1), most, 1);
	expect(peer_tell(&c, "k", 1), 2 * most - 1, 2);
	/* Malformed, and changes nothing. */
	ck_assert_uint_eq(peer_tell(&c, "k", most + 1).error, SCRIPT_ITEM_MALFORMED);
	ck_assert_uint_eq(peer_tell(&c, "k", UINT64_MAX).error, SCRIPT_ITEM_MALFORMED);
	ck_assert_uint_eq(peer_tell(&c, "k", UINT64_C(1) << 63).error, SCRIPT_ITEM_MALFORMED);
	expect(peer_tell(&a, "k", 0), most, 2);
}
END_TEST

/* One name twice in a call: the later counts. */
START_TEST(test_twice)
{
	struct peer a = peer("a"), b = peer("b");
	struct script_hold items[] = { hold("k", 3), hold("x", 1), hold("k", 0), hold("x", 0),
				       hold("x", 7) };
	struct script_call call;

	peer_fence(&a);
	peer_fence(&b);
	expect(peer_tell(&a, "k", 9), 0, 0);
	call = peer_call(&a, NULL, 0);
	call.holds = items;
	call.hold_count = 5;
	ck_assert_int_eq(shard_call(&call), SCRIPT_DONE);
	peer_done(&a);
	expect(peer_tell(&b, "k", 0), 0, 0);
	expect(peer_tell(&b, "x", 0), 7, 1);
	ck_assert_int_eq(stored_bytes("k"), 0);
}
END_TEST

static void store(const char *name, const void *value, size_t length)
{
	char field[1 + SCRIPT_NAME_BYTES] = { 'g' };

	memcpy(field + 1, name, strnlen(name, SCRIPT_NAME_BYTES));
	shard_command("HSET %s %b %b", SCRIPT_SHARD, field, sizeof(field), value, length);
}

static void put_record(char record[RECORD_BYTES], uint32_t number, uint64_t held, int64_t told)
{
	uint32_t seconds = (uint32_t)told;

	memset(record, 'x', 12);
	memcpy(record + 12, &number, 4);
	memcpy(record + 16, &held, 8);
	memcpy(record + 24, &seconds, 4);
}

/* Whatever stands in the field, the script answers, and takes for absent what it is not. */
START_TEST(test_damaged)
{
	struct peer a = peer("a");
	char records[5][RECORD_BYTES];
	int64_t now;

	peer_fence(&a);
	store("short", "x", 1);
	store("long", "twenty-eight bytes and one more", 29);
	memset(records, 0xff, sizeof(records));
	store("ones", records, sizeof(records));
	now = shard.reply.now_ns / SECOND_NS;
	put_record(records[0], 0, 0, now);                      /* holds nothing */
	put_record(records[1], 1, UINT64_C(1) << 44, now);      /* too much */
	put_record(records[2], 2, UINT64_MAX, now);
	put_record(records[3], 3, 5, now + 1);                  /* in the future */
	put_record(records[4], 4, 6, now);
	store("mixed", records, sizeof(records));
	expect(peer_tell(&a, "short", 1), 0, 0);
	expect(peer_tell(&a, "long", 2), 0, 0);
	expect(peer_tell(&a, "ones", 3), 0, 0);
	ck_assert_int_eq(stored_bytes("long"), RECORD_BYTES);
	{
		struct script_hold item = hold("mixed", 1);
		struct script_call call = peer_call(&a, NULL, 0);

		call.holds = &item;
		call.hold_count = 1;
		ck_assert(script_client_call(&shard.client, &call, &shard.reply));
		expect(shard.reply.holds[0], 6, 1);
	}
	ck_assert_int_eq(stored_bytes("mixed"), 2 * RECORD_BYTES);
}
END_TEST

/* As many hosts as are counted alive, and one more. */
START_TEST(test_crowded)
{
	static char records[MAX_HOSTS + 1][RECORD_BYTES];
	struct script_hold item = hold("k", 1);
	struct script_call call;
	struct peer a = peer("a");

	peer_fence(&a);
	for (uint32_t i = 0; i <= MAX_HOSTS; i++)
		put_record(records[i], i, 2, shard.reply.now_ns / SECOND_NS);
	store("k", records, MAX_HOSTS * RECORD_BYTES);
	store("too long", records, sizeof(records));
	call = peer_call(&a, NULL, 0);
	call.holds = &item;
	call.hold_count = 1;
	ck_assert(script_client_call(&shard.client, &call, &shard.reply));
	ck_assert_uint_eq(shard.reply.holds[0].error, SCRIPT_ITEM_CROWDED);
	ck_assert_uint_eq(shard.reply.holds[0].others, 2 * MAX_HOSTS);
	ck_assert_uint_eq(shard.reply.holds[0].hosts, MAX_HOSTS);
	ck_assert_int_eq(stored_bytes("k"), MAX_HOSTS * RECORD_BYTES);
	call.seq++;
	item = hold("too long", 1);
	ck_assert(script_client_call(&shard.client, &call, &shard.reply));
	expect(shard.reply.holds[0], 0, 0);
	ck_assert_int_eq(stored_bytes("too long"), RECORD_BYTES);
}
END_TEST

/* A field goes when no host in it is alive, without anybody asking for its name. */
START_TEST(test_collection)
{
	struct peer a = peer("a");
	long long fields;

	peer_fence(&a);
	peer_send(&a, NULL, 0);
	fields = shard_fields();
	for (int i = 0; i < 300; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		expect(peer_tell(&a, name, 1), 0, 0);
	}
	store("damage", "x", 1);
	for (int i = 0; i < 200; i++)
		peer_send(&a, NULL, 0);
	ck_assert_int_eq(shard_fields(), fields + 300);
	shard.true_us += ALIVE_US;
	shard_collects(&a, fields, 1000);
}
END_TEST

/* ---- Random calls ------------------------------------------------------ */

static struct script_hold random_hold(struct random_state *random)
{
	struct script_hold item = hold("", random_below(random, 3) ? random_below(random, 9) : 0);

	item.name[0] = (uint8_t)(1 + random_below(random, NAMES));
	if (random_below(random, 50) == 0)
		item.held = random_next(random) >> random_below(random, 40);
	return item;
}

/* What Redis has of the name, as its bytes say. */
static uint64_t stored_sum(uint8_t name, int64_t now)
{
	uint8_t field[1 + SCRIPT_NAME_BYTES] = { 'g', name };
	redisReply *reply = redisCommand(shard.context, "HGET %s %b", SCRIPT_SHARD, field,
					 sizeof(field));
	uint64_t sum = 0;

	ck_assert_ptr_nonnull(reply);
	for (size_t at = 0; reply->type == REDIS_REPLY_STRING && at < reply->len;
	     at += RECORD_BYTES) {
		uint32_t told;
		uint64_t held;

		memcpy(&held, reply->str + at + 16, sizeof(held));
		memcpy(&told, reply->str + at + 24, sizeof(told));
		if (now - told < 30)
			sum += held;
	}
	freeReplyObject(reply);
	return sum;
}

START_TEST(test_equals_its_model)
{
	struct random_state random = random_start(support_seed(), 4);
	uint64_t calls = support_amount(5000, 500000), units = 0, alone = 0;
	struct peer hosts[HOSTS];

	peers_fence(hosts, HOSTS);
	for (uint64_t i = 0; i < calls; i++) {
		/* Now and then one host is heard of alone, for long enough. */
		struct peer *one = &hosts[i % 500 < 100 ? 0 : random_below(&random, HOSTS)];
		struct script_hold items[8];
		struct script_call call = peer_call(one, NULL, 0);

		call.hold_count = random_below(&random, 8);
		call.holds = items;
		for (size_t k = 0; k < call.hold_count; k++)
			items[k] = random_hold(&random);
		if (random_below(&random, 500) == 0)
			shard_flush();
		shard.true_us += (int64_t)random_below(&random, 2 * SECOND_US);
		if (shard_call(&call) != SCRIPT_DONE) {
			peer_fence(one);
			continue;
		}
		peer_done(one);
		for (size_t k = 0; k < call.hold_count; k++) {
			units += shard.reply.holds[k].others > 0;
			alone += shard.reply.holds[k].others == 0;
		}
	}
	ck_assert_uint_gt(units, calls);
	ck_assert_uint_gt(alone, calls / 10);
	for (uint8_t i = 1; i <= NAMES; i++) {
		uint8_t name[SCRIPT_NAME_BYTES] = { i };

		ck_assert_uint_eq(stored_sum(i, shard.reply.now_ns / SECOND_NS),
				  script_model_held(shard.model, name));
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("script_holds");

	script_add(suite, "others", test_others, 10);
	script_add(suite, "dead host", test_dead_host, 10);
	script_add(suite, "bounds", test_bounds, 10);
	script_add(suite, "twice", test_twice, 10);
	script_add(suite, "damaged", test_damaged, 10);
	script_add(suite, "crowded", test_crowded, 10);
	script_add(suite, "collection", test_collection, 10);
	script_add(suite, "model", test_equals_its_model, 60);
	return script_main(suite);
}
