/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lease_script.c - weir_lease.lua in a real Redis beside its model: the same
 * calls, drawn from seeds, get the same answers; and in both, debt and credit
 * together never exceed a burst.
 */
#include <check.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/script.h"
#include "sync/wire.h"
#include "tests/fixture.h"
#include "tests/lease_model.h"
#include "tests/redis_server.h"
#include "tests/suite.h"

#define HOSTS 4u
#define KEYS 3u
#define ROUNDS 400
#define START_NS INT64_C(1793551237123456000)
#define TAU_NS (700 * (int64_t)MS)

struct peer {
	unsigned char id[16];
	unsigned char epoch[16];
	unsigned char tenure[8];
	bool has_epoch;
	bool has_tenure;
	int64_t virtual_ns;
	int64_t at_ns;
	uint64_t sessions;
	struct {
		uint64_t session;
		bool first;
		int64_t spent_ns;
		int64_t known_ns;
		int64_t granted_ns;
		int64_t returned_ns;
		uint32_t resets;
	} leases[KEYS];
};

static struct redis_server *server;
static redisContext *context;
static char sha[41];
static struct lease_model model;
static struct peer peers[HOSTS];
static int64_t true_ns, step_ns;
static uint64_t calls;
static const char *run_id;

/* ---- The script -------------------------------------------------------- */

static redisReply *command(const char *format, ...)
{
	va_list arguments;
	redisReply *reply;

	va_start(arguments, format);
	reply = redisvCommand(context, format, arguments);
	va_end(arguments);
	ck_assert_msg(reply && reply->type != REDIS_REPLY_ERROR, "%s: %s", format,
		      reply ? reply->str : context->errstr);
	return reply;
}

/* The two lines that ask for the time and the run_id take the test's. */
static void load(void)
{
	static const char lines[] = "local clock = redis.call('TIME')\n"
				    "local run = redis.pcall('INFO', 'server')\n";
	const char *at = strstr(lease_script, lines);
	redisReply *reply;
	char *text;

	ck_assert_ptr_nonnull(at);
	ck_assert_int_gt(asprintf(&text,
				  "%.*slocal run = 'run_id:' .. table.remove(ARGV)\n"
				  "local clock = {string.match(table.remove(ARGV), "
				  "'^(%%d+) (%%d+)$')}\n%s",
				  (int)(at - lease_script), lease_script, at + strlen(lines)), 0);
	reply = command("SCRIPT LOAD %s", text);
	memcpy(sha, reply->str, sizeof(sha));
	freeReplyObject(reply);
	free(text);
}

static void setup(void)
{
	context = redis_server_connect(server);
	load();
	freeReplyObject(command("FLUSHALL"));
	memset(&model, 0, sizeof(model));
	memset(peers, 0, sizeof(peers));
	for (unsigned i = 0; i < HOSTS; i++)
		memset(peers[i].id, (int)('a' + i), sizeof(peers[i].id));
	true_ns = START_NS;
	step_ns = 0;
	run_id = "0123456789012345678901234567890123456789";
}

static void teardown(void)
{
	redisFree(context);
}

static redisReply *evaluate(const struct lease_model_call *call)
{
	char clock[48];
	const char *argv[12] = { "EVALSHA", sha, "1", "leases", (const char *)call->host,
				 (const char *)call->epoch, (const char *)call->tenure,
				 (const char *)call->low, (const char *)call->name,
				 (const char *)call->items, clock, call->run_id };
	size_t lengths[12] = { 7, 40, 1, 6, 16, call->has_epoch ? 16 : 0,
			       call->has_tenure ? 8 : 0, call->has_low ? 16 : 0,
			       16, (size_t)call->count * LEASE_ITEM, 0,
			       strlen(call->run_id) };

	snprintf(clock, sizeof(clock), "%lld %lld", (long long)(call->clock_ns / WIRE_SECOND),
		 (long long)(call->clock_ns % WIRE_SECOND / 1000));
	lengths[10] = strlen(clock);
	return redisCommandArgv(context, 12, argv, lengths);
}

/* Make CALL, here and there, and compare. */
static void make_call(const struct lease_model_call *call, struct lease_model_reply *reply)
{
	redisReply *real = evaluate(call);
	int64_t now_ns;

	ck_assert_msg(real && real->type == REDIS_REPLY_ARRAY && real->elements == 6, "%s",
		      real ? real->str : context->errstr);
	lease_model_call(&model, call, reply);
	now_ns = (int64_t)wire_get32((unsigned char *)real->element[4]->str) * WIRE_SECOND +
		 wire_get32((unsigned char *)real->element[4]->str + 4);
	ck_assert_int_eq(real->element[0]->integer, (long long)reply->code);
	ck_assert_mem_eq(real->element[1]->str, call->name, 16);
	ck_assert_mem_eq(real->element[2]->str, reply->epoch, 16);
	ck_assert_uint_eq(real->element[3]->len, reply->has_tenure ? 8 : 0);
	ck_assert_mem_eq(real->element[3]->str, reply->tenure, real->element[3]->len);
	ck_assert_int_eq(now_ns, reply->now_ns);
	ck_assert_uint_eq(real->element[5]->len, reply->count * LEASE_REPLY);
	for (unsigned i = 0; i < reply->count; i++) {
		unsigned char *theirs = (unsigned char *)real->element[5]->str + i * LEASE_REPLY;
		unsigned char *ours = reply->items + i * LEASE_REPLY;

		ck_assert_msg(memcmp(theirs, ours, LEASE_REPLY) == 0,
			      "item %u: granted %lld debt %lld generation %u error %u; "
			      "in the model %lld %lld %u %u", i, (long long)wire_get_ns(theirs),
			      (long long)wire_get_ns(theirs + 8), wire_get32(theirs + 16),
			      wire_get32(theirs + 20), (long long)wire_get_ns(ours),
			      (long long)wire_get_ns(ours + 8), wire_get32(ours + 16),
			      wire_get32(ours + 20));
	}
	freeReplyObject(real);
}

/* ---- Hosts ------------------------------------------------------------- */

static struct lease_model_call call_of(const struct peer *peer, const unsigned char *items,
				       unsigned count)
{
	struct lease_model_call call = { .has_epoch = peer->has_epoch,
					 .has_tenure = peer->has_tenure, .run_id = run_id,
					 .items = items, .count = count,
					 .clock_ns = (true_ns + step_ns) / 1000 * 1000 };

	memcpy(call.host, peer->id, sizeof(call.host));
	memcpy(call.epoch, peer->epoch, sizeof(call.epoch));
	memcpy(call.tenure, peer->tenure, sizeof(call.tenure));
	memcpy(call.name, peer->id, 8);
	calls++;
	memcpy(call.name + 8, &calls, sizeof(calls));
	call.has_low = peer->has_epoch;
	if (call.has_low) {
		wire_put_ns(call.low, peer->virtual_ns + (true_ns - peer->at_ns));
		wire_put_ns(call.low + 8, peer->virtual_ns + (true_ns - peer->at_ns) - 300000);
	}
	return call;
}

static void learn(struct peer *peer, const struct lease_model_reply *reply)
{
	memcpy(peer->epoch, reply->epoch, sizeof(peer->epoch));
	peer->has_epoch = true;
	peer->virtual_ns = reply->now_ns;
	peer->at_ns = true_ns;
	if (reply->code == LEASE_DONE)
		return;
	memcpy(peer->tenure, reply->tenure, sizeof(peer->tenure));
	peer->has_tenure = reply->has_tenure;
	for (unsigned key = 0; key < KEYS; key++)
		peer->leases[key].session = 0;
}

static void name_key(unsigned char *at, unsigned key)
{
	memset(at, (int)('0' + key), 16);
}

/* What a host may say of a key: spends of its credit, gives back, asks. */
static void draw_item(struct peer *peer, unsigned key, uint64_t *random, unsigned char *item)
{
	unsigned char *at = item + 16;
	int64_t left, target = (int64_t)fixture_random(random, TAU_NS), back;
	bool ends = fixture_random(random, 4) == 0;

	if (peer->leases[key].session == 0) {
		memset(&peer->leases[key], 0, sizeof(peer->leases[key]));
		peer->leases[key].session = ++peer->sessions;
		peer->leases[key].first = true;
	}
	left = peer->leases[key].granted_ns - peer->leases[key].returned_ns -
	       peer->leases[key].spent_ns;
	if (left > 0)
		peer->leases[key].spent_ns += (int64_t)fixture_random(random, (uint64_t)left + 1);
	if (fixture_random(random, 30) == 0)    /* without credit: fail mode open */
		peer->leases[key].spent_ns += (int64_t)fixture_random(random, TAU_NS);
	left = peer->leases[key].granted_ns - peer->leases[key].returned_ns -
	       peer->leases[key].spent_ns;
	if (left > 0 && (ends || fixture_random(random, 3) == 0))
		peer->leases[key].returned_ns +=
			ends ? left : (int64_t)fixture_random(random, (uint64_t)left);
	if (fixture_random(random, 40) == 0)
		peer->leases[key].resets++;
	back = peer->leases[key].first ? (int64_t)fixture_random(random, TAU_NS) :
					 peer->leases[key].returned_ns;
	name_key(item, key);
	at = wire_put32(at, (uint32_t)(peer->leases[key].session >> 32));
	at = wire_put32(at, (uint32_t)peer->leases[key].session);
	at = wire_put_ns(at, peer->leases[key].spent_ns);
	at = wire_put_ns(at, peer->leases[key].known_ns);
	at = wire_put_ns(at, back);
	at = wire_put_ns(at, ends ? 0 : target);
	at = wire_put_ns(at, ends ? 0 : target / 4);
	at = wire_put_ns(at, TAU_NS);
	wire_put32(at, peer->leases[key].resets |
			       (peer->leases[key].first ? LEASE_FIRST : 0));
}

static void take_answer(struct peer *peer, const unsigned char *item, const unsigned char *answer)
{
	unsigned key = item[0] - '0';

	peer->leases[key].first = false;
	peer->leases[key].known_ns = wire_get_ns(item + 24);
	if (wire_get_ns(answer) > peer->leases[key].granted_ns)
		peer->leases[key].granted_ns = wire_get_ns(answer);
	if (wire_get_ns(item + 48) == 0)
		peer->leases[key].session = 0;
}

/* Debt and credit together, as they grow, are within a burst. */
static void check_escrow(const int64_t before[KEYS])
{
	for (unsigned key = 0; key < KEYS; key++) {
		unsigned char name[16];
		int64_t debt, left;

		name_key(name, key);
		lease_model_read(&model, name, &debt, &left);
		ck_assert_msg(left <= before[key] || debt + left <= TAU_NS,
			      "key %u: a debt of %lld and %lld out", key, (long long)debt,
			      (long long)left);
	}
}

static void run_calls(uint64_t seed)
{
	static struct lease_model_reply reply;
	unsigned granted = 0;

	for (int round = 0; round < ROUNDS; round++) {
		struct peer *peer = &peers[fixture_random(&seed, HOSTS)];
		unsigned char items[KEYS * LEASE_ITEM];
		unsigned count = (unsigned)fixture_random(&seed, KEYS + 1);
		struct lease_model_call call;
		int64_t before[KEYS];

		true_ns += (int64_t)fixture_random(&seed, 80 * MS);
		if (fixture_random(&seed, 60) == 0)
			true_ns += (int64_t)fixture_random(&seed, 4 * SECOND);
		if (fixture_random(&seed, 60) == 0)
			step_ns += (int64_t)fixture_random(&seed, 10 * SECOND) -
				   (int64_t)(5 * SECOND);
		if (fixture_random(&seed, 150) == 0) {
			freeReplyObject(command("FLUSHALL"));
			memset(&model, 0, sizeof(model));
		}
		if (fixture_random(&seed, 150) == 0)
			run_id = fixture_random(&seed, 2) ? "01" : "0a";
		for (unsigned key = 0; key < KEYS; key++) {
			unsigned char name[16];
			int64_t debt;

			name_key(name, key);
			lease_model_read(&model, name, &debt, &before[key]);
		}
		for (unsigned i = 0; i < count; i++)
			draw_item(peer, (unsigned)fixture_random(&seed, KEYS), &seed,
				  items + i * LEASE_ITEM);
		call = call_of(peer, items, count);
		make_call(&call, &reply);
		check_escrow(before);
		if (fixture_random(&seed, 8) == 0)
			make_call(&call, &reply);       /* twice */
		if (fixture_random(&seed, 8) == 0)
			continue;                       /* its answer is lost */
		for (unsigned i = 0; reply.code == LEASE_DONE && i < count; i++) {
			granted += wire_get_ns(reply.items + i * LEASE_REPLY) > 0;
			take_answer(peer, items + i * LEASE_ITEM, reply.items + i * LEASE_REPLY);
		}
		learn(peer, &reply);
	}
	ck_assert_uint_gt(granted, 0);
}

/* ---- Tests ------------------------------------------------------------- */

START_TEST(test_same_as_the_model)
{
	run_calls((uint64_t)_i + 1);
}
END_TEST

/* Begin an epoch and a tenure: two seconds of nothing, then a new tenure. */
static void begin(struct peer *peer)
{
	static struct lease_model_reply reply;
	struct lease_model_call call = call_of(peer, NULL, 0);

	make_call(&call, &reply);
	ck_assert_uint_eq(reply.code, LEASE_QUARANTINE);
	learn(peer, &reply);
	true_ns += 2 * (int64_t)SECOND - 1000;
	call = call_of(peer, NULL, 0);
	make_call(&call, &reply);
	ck_assert_uint_eq(reply.code, LEASE_QUARANTINE);
	learn(peer, &reply);
	true_ns += 1000;
	call = call_of(peer, NULL, 0);
	make_call(&call, &reply);
	ck_assert_uint_eq(reply.code, LEASE_VOID);
	learn(peer, &reply);
}

/* What PEER is granted of key 0, if it asks for all. */
static int64_t ask_all(struct peer *peer)
{
	static struct lease_model_reply reply;
	unsigned char item[LEASE_ITEM], *at;
	struct lease_model_call call;

	name_key(item, 0);
	at = wire_put32(item + 16, 0);
	at = wire_put32(at, (uint32_t)++peer->sessions);
	for (unsigned i = 0; i < 3; i++)
		at = wire_put_ns(at, 0);
	at = wire_put_ns(at, TAU_NS);
	at = wire_put_ns(at, 1);
	at = wire_put_ns(at, TAU_NS);
	wire_put32(at, LEASE_FIRST);
	call = call_of(peer, item, 1);
	make_call(&call, &reply);
	ck_assert_uint_eq(reply.code, LEASE_DONE);
	learn(peer, &reply);
	return wire_get_ns(reply.items);
}

/* After an epoch has begun, a key counts as if a burst had just been spent. */
START_TEST(test_epoch)
{
	begin(&peers[0]);
	ck_assert_int_eq(ask_all(&peers[0]), 0);
	true_ns += TAU_NS / 7;
	ck_assert_int_eq(ask_all(&peers[0]), TAU_NS / 7);
	/* That session is void now, and what was granted counts as spent. */
	ck_assert_int_eq(ask_all(&peers[0]), 0);
	/* Another Redis, or none of this in it. */
	true_ns += 5 * (int64_t)SECOND;
	run_id = "0a";
	begin(&peers[0]);
	ck_assert_int_eq(ask_all(&peers[0]), 0);
	freeReplyObject(command("FLUSHALL"));
	memset(&model, 0, sizeof(model));
	begin(&peers[0]);
	ck_assert_int_eq(ask_all(&peers[0]), 0);
}
END_TEST

/* What is left of a lease is another's when two seconds have passed, not before. */
START_TEST(test_lapse)
{
	static struct lease_model_reply reply;
	struct lease_model_call call;

	begin(&peers[0]);
	true_ns += TAU_NS;
	call = call_of(&peers[0], NULL, 0);
	make_call(&call, &reply);
	learn(&peers[0], &reply);
	call = call_of(&peers[1], NULL, 0);
	make_call(&call, &reply);
	ck_assert_uint_eq(reply.code, LEASE_VOID);
	learn(&peers[1], &reply);
	ck_assert_int_eq(ask_all(&peers[0]), TAU_NS);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(ask_all(&peers[1]), 0);
		true_ns += 499 * (int64_t)MS;
	}
	/* It was spent when it lapsed, whenever that is noticed. */
	true_ns += 204 * (int64_t)MS;
	ck_assert_int_eq(ask_all(&peers[1]), 200 * (int64_t)MS);
	true_ns += TAU_NS / 2;
	ck_assert_int_eq(ask_all(&peers[1]), TAU_NS / 2);
	/* The other one comes back to nothing. */
	call = call_of(&peers[0], NULL, 0);
	make_call(&call, &reply);
	ck_assert_uint_eq(reply.code, LEASE_VOID);
}
END_TEST

/* The shard's clock loses what nobody vouches for.  Another host, who saw it pass, does not
 * bring it back when Redis' clock is stepped: what was spent meanwhile would be forgiven. */
START_TEST(test_lost_time)
{
	static struct lease_model_reply reply;
	struct lease_model_call call;

	begin(&peers[0]);
	true_ns += TAU_NS;
	call = call_of(&peers[0], NULL, 0);
	make_call(&call, &reply);
	learn(&peers[0], &reply);
	true_ns += 200 * (int64_t)MS;
	call = call_of(&peers[1], NULL, 0);
	make_call(&call, &reply);
	learn(&peers[1], &reply);
	true_ns += (int64_t)MS;
	ck_assert_int_eq(ask_all(&peers[1]), TAU_NS);
	ck_assert_int_eq(ask_all(&peers[1]), 0);
	step_ns += 5 * (int64_t)SECOND;
	true_ns += 10 * (int64_t)MS;
	ck_assert_int_le(ask_all(&peers[0]), 10 * (int64_t)MS);
}
END_TEST

/* Memory is out: nothing was changed, and nothing is granted. */
START_TEST(test_out_of_memory)
{
	struct lease_model_call call;
	redisReply *reply;

	begin(&peers[0]);
	freeReplyObject(command("CONFIG SET maxmemory 1"));
	call = call_of(&peers[0], NULL, 0);
	reply = evaluate(&call);
	ck_assert_int_eq(reply->type, REDIS_REPLY_ERROR);
	ck_assert_msg(strstr(reply->str, "OOM"), "%s", reply->str);
	freeReplyObject(reply);
	freeReplyObject(command("CONFIG SET maxmemory 0"));
	ck_assert_int_eq(ask_all(&peers[0]), 0);
}
END_TEST

/* Nothing of it stays when nobody uses it. */
START_TEST(test_collected)
{
	static struct lease_model_reply reply;
	redisReply *length;
	long long fields = 99;

	begin(&peers[0]);
	true_ns += TAU_NS;
	for (int i = 0; i < 2; i++) {
		struct lease_model_call call = call_of(&peers[0], NULL, 0);

		make_call(&call, &reply);
		learn(&peers[0], &reply);
		if (i == 0)
			ck_assert_int_gt(ask_all(&peers[0]), 0);
		true_ns += 100 * (int64_t)SECOND;       /* lapses, and is long gone */
	}
	for (int i = 0; i < 60 && fields > 4; i++) {
		struct lease_model_call call = call_of(&peers[0], NULL, 0);

		make_call(&call, &reply);
		learn(&peers[0], &reply);
		true_ns += 1500 * (int64_t)MS;
		length = command("HLEN leases");
		fields = length->integer;
		freeReplyObject(length);
	}
	ck_assert_int_le(fields, 4);    /* s, v, c and this host: not the key */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lease_script");
	TCase *tests = tcase_create("script");
	int result;

	redis_server_require();
	server = redis_server_start(NULL);
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_loop_test(tests, test_same_as_the_model, 0, fixture_soak() ? 2000 : 12);
	tcase_add_test(tests, test_epoch);
	tcase_add_test(tests, test_lapse);
	tcase_add_test(tests, test_lost_time);
	tcase_add_test(tests, test_out_of_memory);
	tcase_add_test(tests, test_collected);
	suite_add_tcase(suite, tests);
	result = suite_run(suite);
	redis_server_end(server);
	return result;
}
