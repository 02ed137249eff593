/* SPDX-License-Identifier: Apache-2.0 */
/* Windows in sync/weir_sync.lua, on a real Redis; every answer is compared with the model's. */
#include "tests/script_fixture.h"

#include <string.h>

#include "tests/support.h"

#define LENGTH_NS (60 * SECOND_NS)
#define HOSTS 5
#define NAMES 8

static struct script_time time_of(int64_t ns)
{
	return (struct script_time){ (uint32_t)(ns / SECOND_NS), (uint32_t)(ns % SECOND_NS) };
}

/* The end of the window, in Redis' time, that began AGO windows ago. */
static int64_t end_ns(int ago)
{
	int64_t now_ns = shard.reply.now_ns;

	return now_ns - now_ns % LENGTH_NS + (1 - ago) * LENGTH_NS;
}

static struct script_window window(const char *name, int64_t tokens, int ago)
{
	struct script_window item = {
		.end = time_of(end_ns(ago)),
		.length = time_of(LENGTH_NS),
		.tokens = tokens,
	};

	memcpy(item.name, name, strnlen(name, sizeof(item.name)));
	return item;
}

static enum script_code try_window(struct peer *peer, struct script_window *item)
{
	struct script_call call = peer_call(peer, NULL, 0);

	call.windows = item;
	call.window_count = 1;
	return shard_call(&call);
}

static struct script_window_result peer_send_window(struct peer *peer, struct script_window item)
{
	ck_assert_int_eq(try_window(peer, &item), SCRIPT_DONE);
	ck_assert_uint_eq(shard.reply.window_count, 1);
	peer_done(peer);
	return shard.reply.windows[0];
}

static void expect(struct script_window_result result, int64_t total, int64_t previous)
{
	ck_assert_uint_eq(result.error, SCRIPT_ITEM_DONE);
	ck_assert_int_eq(result.total, total);
	ck_assert_int_eq(result.previous, previous);
}

/* To the middle of the next window. */
static void next_window(struct peer *peer)
{
	int64_t into_ns = shard.reply.now_ns % LENGTH_NS;

	shard.true_us += (LENGTH_NS - into_ns + LENGTH_NS / 2) / 1000;
	peer_send(peer, NULL, 0);
}

START_TEST(test_sums)
{
	struct peer a = peer("a"), b = peer("b");

	peer_fence(&a);
	peer_fence(&b);
	expect(peer_send_window(&a, window("k", 30, 0)), 30, 0);
	expect(peer_send_window(&b, window("k", 40, 0)), 70, 0);
	expect(peer_send_window(&a, window("k", 0, 0)), 70, 0);
	expect(peer_send_window(&a, window("other", 1, 0)), 1, 0);
	/* A refund; there are no tokens below 0. */
	expect(peer_send_window(&b, window("k", -20, 0)), 50, 0);
	expect(peer_send_window(&b, window("k", -60, 0)), 0, 0);
	expect(peer_send_window(&b, window("k", 5, 0)), 5, 0);
	/* The largest sum. */
	expect(peer_send_window(&b, window("k", (INT64_C(1) << 53) - 1, 0)), INT64_C(1) << 52, 0);
}
END_TEST

START_TEST(test_windows_follow)
{
	struct peer a = peer("a"), b = peer("b");

	peer_fence(&a);
	peer_fence(&b);
	expect(peer_send_window(&a, window("k", 30, 0)), 30, 0);
	next_window(&a);
	expect(peer_send_window(&a, window("k", 7, 0)), 7, 30);
	/* What comes late belongs to the window before, or to none that is kept. */
	expect(peer_send_window(&b, window("k", 4, 1)), 34, -1);
	expect(peer_send_window(&b, window("k", 100, 2)), -1, -1);
	expect(peer_send_window(&b, window("k", 1, 0)), 8, 34);
	next_window(&a);
	next_window(&a);
	expect(peer_send_window(&b, window("k", 2, 0)), 2, 0);
	expect(peer_send_window(&a, window("k", 9, 1)), 9, -1);
	expect(peer_send_window(&a, window("k", 0, 0)), 2, 9);
}
END_TEST

/* A host whose clock is ahead, but for a second, is told to ask for the time; its call is not
 * carried out.  And one that is far behind. */
START_TEST(test_clocks)
{
	struct peer a = peer("a");
	struct script_window item;

	peer_fence(&a);
	next_window(&a);
	item = window("k", 1, -1);
	ck_assert_int_eq(try_window(&a, &item), SCRIPT_FENCE_FIRST);
	shard.true_us += (LENGTH_NS / 2 - SECOND_NS) / 1000 - 1;
	ck_assert_int_eq(try_window(&a, &item), SCRIPT_FENCE_FIRST);
	shard.true_us += 1;
	expect(peer_send_window(&a, item), 1, 0);
	item.end = time_of(0);
	expect(peer_send_window(&a, item), -1, -1);
}
END_TEST

/* What Redis forgot comes back: the largest that a host knows, and what each had not
 * sent on top of it. */
START_TEST(test_restore)
{
	struct peer a = peer("a"), b = peer("b");
	struct script_window item;

	peer_fence(&a);
	next_window(&a);
	shard_flush();
	peer_fence(&a);
	peer_fence(&b);
	item = window("k", 2, 0);
	item.total = 60;
	item.previous = 90;
	item.flags = SCRIPT_RESTORE;
	expect(peer_send_window(&a, item), 62, 90);
	item.tokens = 3;
	item.total = 55;
	item.previous = 95;
	expect(peer_send_window(&b, item), 65, 95);
	/* Without a loss, a host's sum is nothing new; a previous one may be. */
	item.flags = 0;
	item.tokens = 0;
	item.total = 1000;
	item.previous = 96;
	expect(peer_send_window(&b, item), 65, 96);
	/* A window that nobody has begun is made by what is known of it. */
	memcpy(item.name, "absent", 6);
	expect(peer_send_window(&b, item), 1000, 96);
	/* A loss is told of while the next window is there already. */
	next_window(&a);
	expect(peer_send_window(&a, window("k", 1, 0)), 1, 65);
	item = window("k", 0, 1);
	item.total = 80;
	item.flags = SCRIPT_RESTORE;
	expect(peer_send_window(&b, item), 80, -1);
}
END_TEST

START_TEST(test_reset)
{
	struct peer a = peer("a"), b = peer("b");
	struct script_window item;
	struct script_window_result result;

	peer_fence(&a);
	peer_fence(&b);
	next_window(&a);
	peer_send_window(&b, window("k", 50, 0));
	next_window(&a);
	peer_send_window(&b, window("k", 50, 0));
	item = window("k", 3, 0);
	item.total = item.previous = 1000;
	item.flags = SCRIPT_RESET;
	result = peer_send_window(&a, item);
	expect(result, 3, 0);
	ck_assert_uint_eq(result.generation, 1);
	/* What b knows is of before the reset. */
	item = window("k", 1, 0);
	item.total = item.previous = 50;
	item.flags = SCRIPT_RESTORE;
	result = peer_send_window(&b, item);
	expect(result, 4, 0);
	ck_assert_uint_eq(result.generation, 1);
	/* Also where Redis has forgotten all, and b comes first. */
	shard_flush();
	peer_fence(&b);
	peer_fence(&a);
	expect(peer_send_window(&b, item), 51, 50);
	item.tokens = 0;
	item.total = 4;
	item.previous = 0;
	item.generation = 1;
	expect(peer_send_window(&a, item), 4, 0);
}
END_TEST

START_TEST(test_malformed)
{
	struct peer a = peer("a");
	struct script_window items[9];
	struct script_call call;

	peer_fence(&a);
	for (int i = 0; i < 9; i++)
		items[i] = window("k", 1, 0);
	items[1].end.nanoseconds = 1000000000;
	items[2].length.nanoseconds = UINT32_MAX;
	items[3].length = time_of(0);
	items[4].flags = 4;
	items[5].tokens = INT64_C(1) << 53;
	items[6].tokens = INT64_MIN;
	items[7].total = UINT64_MAX;
	call = peer_call(&a, NULL, 0);
	call.windows = items;
	call.window_count = 9;
	ck_assert_int_eq(shard_call(&call), SCRIPT_DONE);
	for (int i = 0; i < 9; i++)
		ck_assert_uint_eq(shard.reply.windows[i].error, i % 8 ? SCRIPT_ITEM_MALFORMED : 0);
	ck_assert_int_eq(shard.reply.windows[8].total, 2);
}
END_TEST

/* Whatever stands in the field, the script answers and begins anew. */
START_TEST(test_damaged)
{
	static const char *const values[] = {
		"", "thirty-six bytes, as long as it is..",
		("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
		 "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
	};
	struct peer a = peer("a");

	peer_fence(&a);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char field[1 + SCRIPT_NAME_BYTES] = { 'w', (char)('a' + i) };

		shard_command("HSET %s %b %s", SCRIPT_SHARD, field, sizeof(field), values[i]);
		expect(peer_send_window(&a, window(field + 1, 5, 0)), 5, 0);
		expect(peer_send_window(&a, window(field + 1, 1, 0)), 6, 0);
	}
}
END_TEST

/* A window goes when the one behind it is over, too. */
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
		expect(peer_send_window(&a, window(name, 1, 0)), 1, 0);
	}
	next_window(&a);
	for (int i = 0; i < 200; i++)
		peer_send(&a, NULL, 0);
	ck_assert_int_eq(shard_fields(), fields + 300);
	next_window(&a);
	shard_collects(&a, fields, 1000);
}
END_TEST

/* ---- Random calls ------------------------------------------------------ */

static struct script_window random_window(struct random_state *random)
{
	uint64_t what = random_below(random, 100);
	int ago = random_below(random, 40) ? (int)random_below(random, 3) : -1;
	struct script_window item = window("", (int64_t)random_below(random, 50) - 10, ago);

	item.name[0] = (uint8_t)(1 + random_below(random, NAMES));
	item.total = random_below(random, 3) ? 0 : random_below(random, 100);
	item.previous = random_below(random, 3) ? 0 : random_below(random, 100);
	item.generation = (uint32_t)random_below(random, random_below(random, 9) ? 2 : 5);
	item.flags = (uint32_t)(random_below(random, 10) ? 0 : random_below(random, 5));
	if (what == 0)
		item.tokens = (int64_t)random_next(random) >> random_below(random, 12);
	else if (what == 1)
		item.total = random_next(random) >> 10;
	else if (what == 2)
		item.generation = UINT32_MAX - (uint32_t)random_below(random, 2);
	else if (what == 3)
		item.end = time_of(shard.reply.now_ns + (int64_t)random_below(random, 1100000000) +
				   LENGTH_NS);
	return item;
}

START_TEST(test_equals_its_model)
{
	struct random_state random = random_start(support_seed(), 3);
	uint64_t calls = support_amount(5000, 500000), tokens = 0;
	struct peer hosts[HOSTS];

	peers_fence(hosts, HOSTS);
	for (uint64_t i = 0; i < calls; i++) {
		struct peer *one = &hosts[random_below(&random, HOSTS)];
		struct script_window items[8];
		struct script_call call = peer_call(one, NULL, 0);

		call.window_count = random_below(&random, 8);
		call.windows = items;
		for (size_t k = 0; k < call.window_count; k++)
			items[k] = random_window(&random);
		if (random_below(&random, 500) == 0)
			shard_flush();
		shard.true_us += (int64_t)random_below(&random, LENGTH_NS / 20000);
		if (shard_call(&call) != SCRIPT_DONE) {
			peer_fence(one);
			continue;
		}
		peer_done(one);
		for (size_t k = 0; k < call.window_count; k++)
			tokens += shard.reply.windows[k].total > 0;
	}
	ck_assert_uint_gt(tokens, calls);
	for (int i = 1; i <= NAMES; i++) {
		uint8_t field[1 + SCRIPT_NAME_BYTES] = { 'w', (uint8_t)i };
		redisReply *reply = redisCommand(shard.context, "HGET %s %b", SCRIPT_SHARD, field,
						 sizeof(field));
		int64_t end, total = script_model_window(shard.model, field + 1, &end);
		uint32_t stored_end[2];
		int64_t stored_total;

		ck_assert_ptr_nonnull(reply);
		if (reply->type == REDIS_REPLY_STRING) {
			ck_assert_uint_eq(reply->len, 36);
			memcpy(stored_end, reply->str, sizeof(stored_end));
			memcpy(&stored_total, reply->str + 16, sizeof(stored_total));
			ck_assert_int_eq(stored_end[0] * SECOND_NS + stored_end[1], end);
			ck_assert_int_eq(stored_total, total);
		}
		freeReplyObject(reply);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("script_windows");

	script_add(suite, "sums", test_sums, 10);
	script_add(suite, "following", test_windows_follow, 10);
	script_add(suite, "clocks", test_clocks, 10);
	script_add(suite, "restore", test_restore, 10);
	script_add(suite, "reset", test_reset, 10);
	script_add(suite, "malformed", test_malformed, 10);
	script_add(suite, "damaged", test_damaged, 10);
	script_add(suite, "collection", test_collection, 10);
	script_add(suite, "model", test_equals_its_model, 60);
	return script_main(suite);
}
