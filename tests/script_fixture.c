/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/script_fixture.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

/* An ordinary day, at a second that ends in no zeroes. */
#define START_US INT64_C(1793551237123456)

struct redis_server *server;
struct shard shard;

int script_main(Suite *suite)
{
	int result;

	redis_server_require();
	server = redis_server_start(NULL);
	result = support_main(suite);
	redis_server_end(server);
	return result;
}

static void shard_setup(void)
{
	memset(&shard, 0, sizeof(shard));
	shard.context = redis_server_connect(server);
	shard.model = script_model_new();
	ck_assert_ptr_nonnull(shard.model);
	shard.true_us = START_US;
	shard.tolerance_ns = SECOND_NS;
	shard.keep_seconds = 5;
	script_client_start(&shard.client, shard.context, SCRIPT_CLOCK_CALL);
	shard_flush();
}

static void shard_teardown(void)
{
	script_model_free(shard.model);
	redisFree(shard.context);
}

void script_add(Suite *suite, const char *name, const TTest *test, double seconds)
{
	TCase *test_case = tcase_create(name);

	tcase_set_timeout(test_case, seconds);
	tcase_add_checked_fixture(test_case, shard_setup, shard_teardown);
	tcase_add_test(test_case, test);
	suite_add_tcase(suite, test_case);
}

/* ---- Calls ------------------------------------------------------------- */

struct peer peer(const char *name)
{
	struct peer peer = { .now_ns = -1 };

	memcpy(peer.id, name, strnlen(name, sizeof(peer.id)));
	return peer;
}

struct script_call peer_call(const struct peer *peer, const struct script_item *items, size_t count)
{
	struct script_call call = {
		.term = peer->term,
		.seq = peer->seq + 1,
		.low_ns = -1,
		.tolerance_ns = shard.tolerance_ns,
		.keep_seconds = shard.keep_seconds,
		.clock_us = (uint64_t)(shard.true_us + shard.step_us),
		.items = items,
		.count = count,
	};

	memcpy(call.host, peer->id, sizeof(call.host));
	if (peer->now_ns >= 0)
		call.low_ns = peer->now_ns + (shard.true_us - peer->at_us) * 1000;
	return call;
}

enum script_code shard_call(const struct script_call *call)
{
	static struct script_reply other;
	struct script_reply *reply = &shard.reply;

	if (!script_client_call(&shard.client, call, reply))
		ck_abort_msg("%s", shard.client.error);
	ck_assert(script_model_call(shard.model, call, &other));
	ck_assert_int_eq(reply->code, other.code);
	ck_assert_int_eq(reply->now_ns, other.now_ns);
	ck_assert_uint_eq(reply->live, other.live);
	ck_assert_uint_eq(reply->term, other.term);
	ck_assert_uint_eq(reply->seq, other.seq);
	ck_assert_uint_eq(reply->count, other.count);
	for (size_t i = 0; i < reply->count; i++) {
		const struct script_result *real = &reply->results[i], *model = &other.results[i];

		ck_assert_msg(memcmp(real, model, sizeof(*real)) == 0,
			      "item %zu: debt %lld, generation %u, error %u; "
			      "in the model %lld, %u, %u", i, (long long)script_ns(real->debt),
			      real->generation, real->error, (long long)script_ns(model->debt),
			      model->generation, model->error);
	}
	ck_assert_uint_eq(reply->window_count, other.window_count);
	for (size_t i = 0; i < reply->window_count; i++) {
		const struct script_window_result *real = &reply->windows[i];
		const struct script_window_result *model = &other.windows[i];

		ck_assert_msg(memcmp(real, model, sizeof(*real)) == 0,
			      "window %zu: %lld, before %lld, generation %u, error %u; "
			      "in the model %lld, %lld, %u, %u", i, (long long)real->total,
			      (long long)real->previous, real->generation, real->error,
			      (long long)model->total, (long long)model->previous,
			      model->generation, model->error);
	}
	ck_assert_uint_eq(reply->hold_count, other.hold_count);
	for (size_t i = 0; i < reply->hold_count; i++) {
		const struct script_hold_result *real = &reply->holds[i];
		const struct script_hold_result *model = &other.holds[i];

		ck_assert_msg(memcmp(real, model, sizeof(*real)) == 0,
			      "holds %zu: others %llu, %u hosts, error %u; "
			      "in the model %llu, %u, %u", i, (unsigned long long)real->others,
			      real->hosts, real->error, (unsigned long long)model->others,
			      model->hosts, model->error);
	}
	return reply->code;
}

static void learn_time(struct peer *peer)
{
	peer->now_ns = shard.reply.now_ns;
	peer->at_us = shard.true_us;
}

void peer_done(struct peer *peer)
{
	peer->seq++;
	learn_time(peer);
}

void peer_fence(struct peer *peer)
{
	struct script_call call;

	peer->term++;
	peer->seq = 0;
	call = peer_call(peer, NULL, 0);
	call.seq = 0;
	ck_assert_int_eq(shard_call(&call), SCRIPT_DONE);
	learn_time(peer);
}

void peers_fence(struct peer *peers, int count)
{
	for (int i = 0; i < count; i++) {
		peers[i] = peer("");
		peers[i].id[0] = (uint8_t)('a' + i);
		peer_fence(&peers[i]);
	}
}

void peer_send(struct peer *peer, const struct script_item *items, size_t count)
{
	struct script_call call = peer_call(peer, items, count);

	ck_assert_int_eq(shard_call(&call), SCRIPT_DONE);
	ck_assert_uint_eq(shard.reply.count, count);
	peer_done(peer);
}

struct script_item item(const char *name, int64_t charge_ns)
{
	struct script_item item = {
		.charge = script_duration(charge_ns),
		.empty = script_duration(SCRIPT_NEVER_NS),
		.view = script_duration(SCRIPT_NEVER_NS),
	};

	memcpy(item.name, name, strnlen(name, sizeof(item.name)));
	return item;
}

struct script_result peer_send_item(struct peer *peer, struct script_item item)
{
	peer_send(peer, &item, 1);
	ck_assert_uint_eq(shard.reply.results[0].error, SCRIPT_ITEM_DONE);
	return shard.reply.results[0];
}

int64_t peer_debt_ns(struct peer *peer, const char *name)
{
	return script_ns(peer_send_item(peer, item(name, 0)).debt);
}

/* ---- Commands ---------------------------------------------------------- */

long long shard_command(const char *format, ...)
{
	va_list arguments;
	redisReply *reply;
	long long value;

	va_start(arguments, format);
	reply = redisvCommand(shard.context, format, arguments);
	va_end(arguments);
	ck_assert_msg(reply && reply->type != REDIS_REPLY_ERROR, "%s: %s", format,
		      reply ? reply->str : shard.context->errstr);
	value = reply->type == REDIS_REPLY_INTEGER ? reply->integer :
		reply->type == REDIS_REPLY_ARRAY ? (long long)reply->elements :
		reply->type == REDIS_REPLY_NIL ? 0 : (long long)reply->len;
	freeReplyObject(reply);
	return value;
}

long long shard_fields(void)
{
	return shard_command("HLEN %s", SCRIPT_SHARD);
}

void shard_collects(struct peer *peer, long long fields, int rounds)
{
	while (shard_fields() > fields && rounds-- > 0)
		peer_send(peer, NULL, 0);
	ck_assert_int_le(shard_fields(), fields);
}

void shard_flush(void)
{
	shard_command("FLUSHALL");
	script_model_flush(shard.model);
}
