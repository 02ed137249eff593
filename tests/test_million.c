/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_million.c - exactly once: a million rounds, cut at random, and no drift.
 *
 * Two hosts charge the same keys.  The leader's own code takes the charges to the
 * script in a real Redis, over a connection that loses calls before they are carried
 * out or their replies afterwards, brings only some of a message, or brings it twice,
 * or late: before the fence that asks for it, or after.  Leaders are taken over, and
 * go on as if they still led.
 *
 * The buckets are in debt all the time.  So the time that Redis has moves by the
 * charges and by nothing else: at the end it has moved by what the hosts consumed, to
 * the nanosecond, for a token that is no whole number of them.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shm/bucket.h"
#include "shm/clock.h"
#include "shm/policy_table.h"
#include "src/handle.h"
#include "sync/leader.h"
#include "tests/fixture.h"
#include "tests/redis_server.h"
#include "tests/script_client.h"
#include "tests/suite.h"

#define MACHINES 2
#define LEADERS 2               /* of each, in turn */
#define KEYS 4
#define ITEMS 8                 /* of a call: more than keys */
#define LATE 16                 /* messages that are still under way */
#define CUTS_PER_MILLE 60

typedef unsigned __int128 wide;

/* A message, as the network has it. */
struct message {
	unsigned machine;
	unsigned count;
	struct {
		unsigned shard;
		struct script_call call;
		struct script_item items[ITEMS];
		uint64_t used[ITEMS];
	} calls[SYNC_SHARDS];
};

struct machine {
	struct weir *weir;
	struct segment *segment;
	weir_policy_id policy;
	struct leader leaders[LEADERS];
	unsigned leading;
	uint64_t ids;
	uint64_t consumed[KEYS];        /* tokens that the test has taken */
	int64_t applied_ns[KEYS];       /* of them, by Redis */
};

static struct redis_server *server;
static struct script_client client;
static struct machine machines[MACHINES];
static uint8_t names[KEYS][SCRIPT_NAME_BYTES];
static unsigned key_shards[KEYS];
static struct message late[LATE];
static unsigned late_count;
static bool cutting;
static uint64_t random_state = 1, cuts, refused;

static const struct weir_limit limit = { .limit = 3, .period_ns = 7000000000, .burst = 3,
					 .algorithm = WEIR_TOKEN_BUCKET };

static uint64_t below(uint64_t bound)
{
	return fixture_random(&random_state, bound);
}

/* The time of TOKENS: floor(TOKENS x 7/3 s). */
static int64_t exact_ns(uint64_t tokens)
{
	return (int64_t)((wide)tokens * limit.period_ns / limit.limit);
}

/* ---- Redis ------------------------------------------------------------- */

static unsigned key_of(const uint8_t *name)
{
	unsigned key = 0;

	while (key < KEYS && memcmp(names[key], name, SCRIPT_NAME_BYTES) != 0)
		key++;
	must(key < KEYS);
	return key;
}

static void call_redis(unsigned shard, const struct script_call *call, struct script_reply *reply)
{
	snprintf(client.shard, sizeof(client.shard), "million:{%u}", shard);
	ck_assert_msg(script_client_call(&client, call, reply), "%s", client.error);
}

/* Each call adds to what Redis has of this machine just what leads to the tokens that
 * had been used: nothing is missing, and nothing is there twice. */
static void count_applied(const struct message *message, unsigned i,
			  const struct script_reply *reply)
{
	struct machine *machine = &machines[message->machine];

	if (reply->code != SCRIPT_DONE) {
		refused++;
		return;
	}
	for (size_t k = 0; k < message->calls[i].call.count; k++) {
		const struct script_item *item = &message->calls[i].items[k];
		unsigned key = key_of(item->name);

		must(reply->results[k].error == SCRIPT_ITEM_DONE);
		machine->applied_ns[key] += script_ns(item->charge);
		must(machine->applied_ns[key] == exact_ns(message->calls[i].used[k]));
	}
}

/* The first REACH calls of MESSAGE are carried out. */
static void deliver(struct message *message, unsigned reach, struct script_reply *replies)
{
	for (unsigned i = 0; i < reach; i++) {
		message->calls[i].call.items = message->calls[i].items;
		call_redis(message->calls[i].shard, &message->calls[i].call, &replies[i]);
		count_applied(message, i, &replies[i]);
	}
}

static void deliver_late(void)
{
	static struct script_reply replies[SYNC_SHARDS];

	while (late_count > 0 && below(2) == 0) {
		unsigned which = (unsigned)below(late_count);

		deliver(&late[which], late[which].count, replies);
		late[which] = late[--late_count];
	}
}

/* The time that Redis has of KEY, to whoever asks without charging it. */
static int64_t redis_time_ns(unsigned key)
{
	static uint32_t term;
	static struct script_reply reply;
	struct script_item item = { .empty = script_duration(SCRIPT_NEVER_NS),
				    .view = script_duration(SCRIPT_NEVER_NS) };
	struct script_call call = { .term = ++term, .low_ns = -1, .tolerance_ns = SECOND,
				    .keep_seconds = 5, .host = "an observer...." };

	memcpy(item.name, names[key], sizeof(item.name));
	call_redis(key_shards[key], &call, &reply);
	must(reply.code == SCRIPT_DONE);
	call.seq = 1;
	call.items = &item;
	call.count = 1;
	call_redis(key_shards[key], &call, &reply);
	must(reply.code == SCRIPT_DONE && reply.results[0].error == SCRIPT_ITEM_DONE);
	return reply.now_ns + script_ns(reply.results[0].debt);
}

/* ---- The network ------------------------------------------------------- */

static void pack(struct message *message, unsigned machine, const struct leader_call *calls,
		 unsigned count)
{
	*message = (struct message){ .machine = machine, .count = count };
	for (unsigned i = 0; i < count; i++) {
		const struct round *round = calls[i].round;
		struct script_call *call = &message->calls[i].call;

		*call = (struct script_call){ .term = calls[i].term, .seq = calls[i].sequence,
					      .low_ns = -1, .tolerance_ns = SECOND,
					      .keep_seconds = 5 };
		call->host[0] = (uint8_t)(1 + machine);
		message->calls[i].shard = calls[i].shard;
		call->count = round ? round->count : 0;
		must(call->count <= ITEMS);
		for (unsigned k = 0; k < call->count; k++) {
			memcpy(&message->calls[i].items[k], round->blob + k * WIRE_ITEM, WIRE_ITEM);
			message->calls[i].used[k] = round->items[k].used;
		}
	}
}

static void read_replies(const struct script_reply *from, struct round_reply *to, unsigned count)
{
	static struct script_answer answers[SYNC_SHARDS][ITEMS];

	for (unsigned i = 0; i < count; i++) {
		must(from[i].count <= ITEMS);
		for (size_t k = 0; k < from[i].count; k++)
			answers[i][k] = script_answer(from[i].results[k], from[i].now_ns);
		to[i] = (struct round_reply){
			.code = from[i].code,
			.virtual_seconds = (uint64_t)(from[i].now_ns / WIRE_SECOND),
			.virtual_part_ns = (uint64_t)(from[i].now_ns % WIRE_SECOND),
			.hosts = from[i].live,
			.last_tag = from[i].term << 32 | from[i].seq,
			.items = (const unsigned char *)answers[i],
			.count = (unsigned)from[i].count,
		};
	}
}

enum cut {
	CUT_REQUEST,
	CUT_REPLY,
	CUT_HALF,               /* some of the calls arrive */
	CUT_LATE,               /* all of them, when nobody waits any more */
	CUT_TWICE,              /* and once more, later */
	CUT_KINDS,
};

static void send_message(void *context, const struct leader_call *calls,
			 struct round_reply *replies, unsigned count)
{
	static struct script_reply results[SYNC_SHARDS];
	static struct message message;
	struct machine *machine = context;
	bool cut = cutting && below(1000) < CUTS_PER_MILLE;
	unsigned reach = count;

	pack(&message, (unsigned)(machine - machines), calls, count);
	deliver_late();
	if (cut) {
		enum cut kind = (enum cut)below(CUT_KINDS);

		cuts++;
		if ((kind == CUT_LATE || kind == CUT_TWICE) && late_count < LATE)
			late[late_count++] = message;
		if (kind == CUT_REQUEST || kind == CUT_LATE)
			reach = 0;
		else if (kind == CUT_HALF)
			reach = (unsigned)below(count);
		cut = kind != CUT_TWICE;
	}
	deliver(&message, reach, results);
	/* Of what has arrived, some replies have come back. */
	if (cut)
		reach = (unsigned)below(reach + 1);
	for (unsigned i = 0; i < count; i++)
		replies[i] = (struct round_reply){ .code = ROUND_UNANSWERED };
	read_replies(results, replies, reach);
}

static uint64_t no_pause_ns(void *context, unsigned shard, unsigned failures)
{
	(void)context;
	(void)shard;
	(void)failures;
	return 0;
}

/* ---- Machines ---------------------------------------------------------- */

static void key_text(unsigned key, char text[8])
{
	snprintf(text, 8, "key-%u", key);
}

static void take(struct machine *machine, unsigned key, uint64_t cost)
{
	char text[8];
	struct weir_request request = { .policy = machine->policy, .key = text, .key_length = 5,
					.cost = cost };
	struct weir_decision decision;

	key_text(key, text);
	must(weir_force_take(machine->weir, &request, &decision));
	machine->consumed[key] += cost;
}

static void lead_anew(struct machine *machine)
{
	struct leader *leader = &machine->leaders[machine->leading];

	leader_init(leader, machine->segment);
	leader->id = ++machine->ids << 12;
}

static void open_machine(struct machine *machine)
{
	struct weir_options options;
	struct weir_policy policy = { .name = "api", .limit_count = 1, .limits = { limit },
				      .consistency = WEIR_EVENTUAL };

	weir_options_init(&options);
	options.slots = 1024;
	options.sync = true;
	options.secret = "sixteen bytes...";
	machine->weir = fixture_open(&options);
	machine->segment = handle_control(machine->weir);
	machine->segment->header->sync.enabled = 1;
	machine->segment->header->sync.interval_ns = 100 * MS;
	machine->segment->header->sync.staleness_ns = HOUR;
	machine->segment->header->sync.expected_hosts = MACHINES;
	ck_assert_int_eq(weir_policy_set(machine->weir, &policy, 1, NULL), 0);
	machine->policy = weir_policy_find(machine->weir, "api");
	lead_anew(machine);
}

static void name_keys(void)
{
	const struct segment *segment = machines[0].segment;
	struct limit compiled;

	policy_limit(segment, policy_version(segment), 0, 0, &compiled);
	for (unsigned key = 0; key < KEYS; key++) {
		struct fingerprint name;
		char text[8];

		key_text(key, text);
		name = hash_fingerprint(&segment->hash, compiled.key[0], compiled.key[1], text, 5);
		key_shards[key] = slot_shard(name.low);
		for (unsigned i = 0; i < 8; i++) {
			names[key][i] = (uint8_t)(name.low >> 8 * i);
			names[key][8 + i] = (uint8_t)(name.high >> 8 * i);
		}
	}
}

static uint64_t boot_time_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

/* One tick of one of the machine's leaders; the one that leads, mostly. */
static void tick(struct machine *machine)
{
	struct leader_transport transport = { send_message, no_pause_ns, NULL, machine,
					      boot_time_ns };
	uint64_t now_ns = weir_now_ns(machine->weir);
	unsigned which = machine->leading;

	if (cutting && below(200) == 0) {
		/* Its heartbeat seems to be old: the other one takes over. */
		machine->leading = which = !which;
		lead_anew(machine);
		machine->segment->header->leader.heartbeat_ns = 0;
	} else if (cutting && below(50) == 0) {
		which = !which;         /* has not heard of it yet */
		if (machine->leaders[which].term > 0)
			leader_tick(&machine->leaders[which], &transport, now_ns);
		return;
	}
	if (leader_stand(&machine->leaders[which], now_ns))
		leader_tick(&machine->leaders[which], &transport, now_ns);
}

static bool is_merged(const struct machine *machine)
{
	struct weir_sync_status status;

	ck_assert_int_eq(weir_sync_status(machine->weir, &status, NULL), 0);
	return status.unmerged_tokens == 0;
}

/* Without cuts, till Redis has everything. */
static void settle(void)
{
	cutting = false;
	for (unsigned i = 0; i < MACHINES; i++) {
		for (int ticks = 0; !is_merged(&machines[i]); ticks++) {
			ck_assert_int_lt(ticks, 100);
			tick(&machines[i]);
		}
	}
}

static double seconds_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

START_TEST(a_million_rounds)
{
	uint64_t rounds = fixture_soak() ? 1000000 : 10000, tokens = 0;
	int64_t begin_ns[KEYS], before_ns[KEYS] = { 0 }, moved_ns = 0;
	double begin = seconds_now();

	for (unsigned i = 0; i < MACHINES; i++)
		open_machine(&machines[i]);
	name_keys();
	/* In debt from here on: a thousand tokens are 39 minutes. */
	for (unsigned i = 0; i < MACHINES * KEYS; i++)
		take(&machines[i % MACHINES], i / MACHINES, 1000);
	settle();
	for (unsigned key = 0; key < KEYS; key++) {
		begin_ns[key] = redis_time_ns(key);
		for (unsigned i = 0; i < MACHINES; i++)
			before_ns[key] += exact_ns(machines[i].consumed[key]);
	}

	cutting = true;
	for (uint64_t round = 0; round < rounds; round++) {
		struct machine *machine = &machines[below(MACHINES)];

		take(machine, (unsigned)below(KEYS), 1 + below(3));
		tick(machine);
	}
	settle();

	for (unsigned key = 0; key < KEYS; key++) {
		int64_t consumed_ns = 0;

		for (unsigned i = 0; i < MACHINES; i++) {
			int64_t own_ns = exact_ns(machines[i].consumed[key]);

			ck_assert_int_eq(machines[i].applied_ns[key], own_ns);
			consumed_ns += own_ns;
			tokens += machines[i].consumed[key];
		}
		ck_assert_int_eq(redis_time_ns(key) - begin_ns[key], consumed_ns - before_ns[key]);
		moved_ns += consumed_ns - before_ns[key];
	}
	ck_assert_uint_gt(cuts, rounds / 50);
	ck_assert_uint_gt(refused, rounds / 1000);
	printf("%llu rounds, %llu messages cut, %llu calls refused, %llu tokens, %.6f days of charges "
	       "applied and consumed: no nanosecond between them; %.1f s\n",
	       (unsigned long long)rounds, (unsigned long long)cuts, (unsigned long long)refused,
	       (unsigned long long)tokens, (double)moved_ns / (double)DAY,
	       seconds_now() - begin);
	for (unsigned i = 0; i < MACHINES; i++)
		weir_close(machines[i].weir);
}
END_TEST

static void begin(void)
{
	server = redis_server_start(NULL);
	script_client_start(&client, redis_server_connect(server), SCRIPT_CLOCK_REDIS);
}

static void end(void)
{
	redis_server_end(server);
}

int main(void)
{
	Suite *suite = suite_create("million");
	TCase *tests = tcase_create("million");

	redis_server_require();
	tcase_set_timeout(tests, fixture_soak() ? 3600 : 60);
	tcase_add_checked_fixture(tests, begin, end);
	tcase_add_test(tests, a_million_rounds);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
