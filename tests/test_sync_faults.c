/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync_faults.c - whatever goes wrong with Redis, or on the way to it: while it
 * lasts, the fail mode decides and the status says what is wrong; when it is over,
 * every charge has been applied exactly once.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "tests/proxy.h"
#include "tests/redis_server.h"
#include "tests/suite.h"
#include "tests/sync_fixture.h"

#define HOSTS 3
#define BURST 1000

static struct redis_server *server;
static redisContext *admin, *other;
static uint64_t taken;
static char url[256];

/* ---- Redis ------------------------------------------------------------- */

/* Commands apart from others by ';'. */
static void tell(const char *commands)
{
	char text[1024], *rest = text, *each;

	ck_assert_uint_lt(strlen(commands), sizeof(text));
	strcpy(text, commands);
	while ((each = strsep(&rest, ";")) != NULL) {
		redisReply *reply = redisCommand(admin, each);

		ck_assert_msg(reply && reply->type != REDIS_REPLY_ERROR, "%s: %s", each,
			      reply ? reply->str : admin->errstr);
		freeReplyObject(reply);
	}
}

static void run_script(const char *source)
{
	redisReply *reply = redisCommand(admin, "EVAL %s 0", source);

	ck_assert_msg(reply && reply->type != REDIS_REPLY_ERROR, "%s", source);
	freeReplyObject(reply);
}

/* Send a command that Redis does not come back from soon. */
static void send_off(const char *command, const char *argument)
{
	int done = 0;

	other = redis_server_connect(server);
	ck_assert_int_eq(redisAppendCommand(other, command, argument), REDIS_OK);
	while (!done)
		ck_assert_int_eq(redisBufferWrite(other, &done), REDIS_OK);
}

static void loop_in_lua(void)
{
	send_off("EVAL %s 0", "while true do end");
}

static void load_slowly(void)
{
	run_script("for i = 1, 6000 do redis.call('SET', 'filler' .. i, i) end");
	tell("CONFIG SET loading-process-events-interval-bytes 1024;"
	     "CONFIG SET key-load-delay 2000");
	send_off("DEBUG RELOAD", NULL);
}

static void stop(void)
{
	redis_server_stop(server);
}

static void go_on(void)
{
	redis_server_continue(server);
}

static void take_the_keys(void)
{
	run_script("for i = 0, 7 do redis.call('DEL', 'weir:{' .. i .. '}')"
		   "redis.call('SET', 'weir:{' .. i .. '}', 'of another program') end");
}

static void give_the_keys_back(void)
{
	run_script("for i = 0, 7 do redis.call('DEL', 'weir:{' .. i .. '}') end");
}

/* ---- What goes wrong, and what is said about it ------------------------- */

static const struct fault {
	const char *begin, *end;                /* commands, ... */
	void (*begin_by)(void), (*end_by)(void);        /* ... and more than that */
	const char *said;
} faults[] = {
	{ "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", NULL, NULL,
	  "this is a replica: give its master's address" },
	{ "CONFIG SET replica-serve-stale-data no;REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE",
	  NULL, NULL, "this is a replica: give its master's address" },
	{ "CONFIG SET maxmemory-policy noeviction;CONFIG SET maxmemory 1",
	  "CONFIG SET maxmemory 0", NULL, NULL, "raise Redis' maxmemory" },
	{ "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", NULL, NULL,
	  "too few replicas are in touch: see min-replicas-to-write" },
	{ "CONFIG SET maxclients 1;CLIENT KILL TYPE normal", "CONFIG SET maxclients 100", NULL,
	  NULL, "raise maxclients" },
	{ "CLIENT PAUSE 600000 WRITE", "CLIENT UNPAUSE", NULL, NULL,
	  "check Redis' load and the network, or raise command_ms=200" },
	{ NULL, "SCRIPT KILL", loop_in_lua, NULL, "end it with SCRIPT KILL" },
	{ NULL, "CONFIG SET key-load-delay 0", load_slowly, NULL,
	  "wait until Redis has loaded its data" },
	{ NULL, NULL, stop, go_on, "check Redis' load" },
	{ NULL, NULL, take_the_keys, give_the_keys_back,
	  "another program uses that key: use another prefix, or remove it" },
	{ "ACL SETUSER weir -evalsha", "ACL SETUSER weir +evalsha", NULL, NULL,
	  "allow the user +evalsha" },
	{ "ACL SETUSER weir -hset", "ACL SETUSER weir +hset", NULL, NULL, "allow the user" },
	{ "ACL SETUSER weir off;CLIENT KILL USER weir", "ACL SETUSER weir on", NULL, NULL,
	  "check user and password, and Redis' ACL" },
};

/* ---- Hosts ------------------------------------------------------------- */

static void begin(void)
{
	static const char *const options[] = { "--lua-time-limit", "1", "--enable-debug-command",
					       "yes", NULL };

	server = redis_server_start(options);
	admin = redis_server_connect(server);
	other = NULL;
	taken = 0;
	/* What docs/sync.md says that the user needs, and nothing else. */
	tell("ACL SETUSER weir on >secret ~weir:* +evalsha +script|load +select +info +role +set "
	     "+get +time +hget +hmget +hset +hdel +hscan +pexpire");
	snprintf(url, sizeof(url), "unix://weir:secret@%s?command_ms=200",
		 redis_server_socket(server));
}

static void end(void)
{
	hosts_close();
	if (other)
		redisFree(other);
	redisFree(admin);
	redis_server_end(server);
}

static void take_each(int count)
{
	for (int i = 0; i < HOSTS; i++)
		take(i, "key", count);
	taken += (uint64_t)(HOSTS * count);
}

static void set_fail_mode(enum weir_fail_mode mode)
{
	for (int i = 0; i < HOSTS; i++)
		ck_assert_int_eq(weir_fail_mode_set(hosts[i], "api", mode, NULL), 0);
}

static void wait_until_told(struct weir *weir, const char *text)
{
	for (int looks = 0; !strstr(status_of(weir).last_error, text); looks++) {
		ck_assert_msg(looks < PATIENCE, "told \"%s\" instead of \"%s\"",
			      status_of(weir).last_error, text);
		nap();
	}
}

static uint64_t count_errors(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < HOSTS; i++)
		sum += fixture_counter(hosts[i], "sync_errors");
	return sum;
}

/* All that was taken is in Redis, once. */
static void must_balance(const struct weir_policy *policy)
{
	/* Who is fresh may have been cut off just now, and come back when the others ask
	 * for the key no more. */
	for (int i = 0; i < HOSTS; i++)
		wait_until(status_of(hosts[i]).unmerged_tokens == 0);
	all_are_fresh();
	take_each(1);
	all_agree_on("key", BURST - taken);
	for (int i = 0; i < HOSTS; i++)
		wait_until(status_of(hosts[i]).unmerged_tokens == 0);
	ck_assert_str_eq(status_of(hosts[0]).last_error, "");
	ck_assert_uint_eq(remaining_in_redis(url, policy, "key"), BURST - taken - 1);
}

START_TEST(test_fault)
{
	struct weir_policy policy = host_policy("1000/365d", WEIR_EVENTUAL, WEIR_FAIL_CLOSED);
	const struct fault *fault = &faults[_i];

	hosts_open(HOSTS, url, &policy);
	take_each(5);
	all_agree_on("key", BURST - taken);

	if (fault->begin)
		tell(fault->begin);
	if (fault->begin_by)
		fault->begin_by();
	for (int i = 0; i < HOSTS; i++) {
		struct weir_decision decision = { .outcome = WEIR_ALLOWED };

		/* Admitted while the view is fresh, then not at all. */
		wait_until((taken += ask(i, "key", 1, &decision), decision.outcome !=
			    WEIR_ALLOWED));
		ck_assert_int_eq(decision.outcome, WEIR_UNAVAILABLE);
		ck_assert_int_eq(decision.reason, WEIR_REASON_STALE);
		wait_until_told(hosts[i], fault->said);
		ck_assert(!strstr(status_of(hosts[i]).last_error, "secret"));
	}
	set_fail_mode(WEIR_FAIL_OPEN);
	take_each(7);
	set_fail_mode(WEIR_FAIL_CLOSED);
	if (fault->end)
		tell(fault->end);
	if (fault->end_by)
		fault->end_by();
	must_balance(&policy);
}
END_TEST

/* The key of one shard is of another program: the others do not mind. */
START_TEST(test_one_key)
{
	struct weir_policy policy = host_policy("1000/365d", WEIR_EVENTUAL, WEIR_FAIL_OPEN);
	char commands[128];
	unsigned lost;

	hosts_open(HOSTS, url, &policy);
	take_each(5);
	all_agree_on("key", BURST - taken);
	lost = shard_of("key") ^ 1;
	snprintf(commands, sizeof(commands), "DEL weir:{%u};SET weir:{%u} another's", lost, lost);
	tell(commands);
	for (int i = 0; i < HOSTS; i++) {
		wait_until_told(hosts[i], "another program uses that key");
		wait_until(status_of(hosts[i]).staleness_ns > 1000 * MS);
		/* Not one by one: the leaders ask for the lost one the later the longer it is
		 * lost, as for all that takes a person to mend. */
		other_shards_go_on(i, lost, 5);
	}
	take_each(5);
	all_agree_on("key", BURST - taken);
	snprintf(commands, sizeof(commands), "DEL weir:{%u}", lost);
	tell(commands);
	must_balance(&policy);
}
END_TEST

/* Redis falls asleep again and again, and wakes by itself. */
START_TEST(test_sleep)
{
	struct weir_policy policy = host_policy("1000/365d", WEIR_EVENTUAL, WEIR_FAIL_OPEN);

	hosts_open(HOSTS, url, &policy);
	for (int round = 0; round < 3; round++) {
		send_off("DEBUG SLEEP 0.3", NULL);
		take_each(7);
		all_are_fresh();
		redisFree(other);
		other = NULL;
	}
	must_balance(&policy);
}
END_TEST

/* The script is forgotten again and again. */
START_TEST(test_script_flush)
{
	struct weir_policy policy = host_policy("1000/365d", WEIR_BOUNDED, WEIR_FAIL_CLOSED);

	hosts_open(HOSTS, url, &policy);
	for (int round = 0; round < 20; round++) {
		tell("SCRIPT FLUSH");
		take_each(1);
		for (int i = 0; i < HOSTS; i++)
			wait_until(status_of(hosts[i]).unmerged_tokens == 0);
	}
	ck_assert_uint_gt(count_errors(), 0);
	must_balance(&policy);
}
END_TEST

/* Where the secret could not be compared, nobody goes on without. */
START_TEST(test_secret_is_compared_later)
{
	struct weir_policy policy = host_policy("1000/365d", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	struct weir *stranger = host_open("another secret..");

	hosts_open(HOSTS, url, &policy);
	tell("CONFIG SET maxmemory-policy noeviction;CONFIG SET maxmemory 1");
	ck_assert_int_eq(host_start(stranger, url, 1, NULL), 0);
	wait_until_told(stranger, "raise Redis' maxmemory");
	tell("CONFIG SET maxmemory 0");
	wait_until(strstr(status_of(stranger).last_error, "another hash secret") ||
		   is_fresh(stranger));
	ck_assert(!is_fresh(stranger));
	weir_close(stranger);
}
END_TEST

/* ---- The way there ------------------------------------------------------ */

/* Where a connection is cut, from its first byte on: the log-in, which loads the
 * scripts, is some 20,000 bytes of requests and 300 of replies. */
static const struct {
	enum proxy_direction direction;
	uint64_t span;
	struct proxy_faults faults;
} ways[] = {
	{ PROXY_REQUESTS, 30000, { .cut_at = 0 } },
	{ PROXY_REPLIES, 4000, { .cut_at = 0 } },
	{ PROXY_REQUESTS, 0, { .cut_at = PROXY_NEVER, .drop = true } },
	{ PROXY_REPLIES, 0, { .cut_at = PROXY_NEVER, .drop = true } },
	{ PROXY_REQUESTS, 0, { .cut_at = PROXY_NEVER, .hold = true } },
	{ PROXY_REPLIES, 0, { .cut_at = PROXY_NEVER, .hold = true } },
	{ PROXY_REQUESTS, 0, { .cut_at = PROXY_NEVER, .duplicate = true } },
	{ PROXY_REPLIES, 0, { .cut_at = PROXY_NEVER, .duplicate = true } },
};

/* Hosts go on charging while what passes between them and Redis is cut anywhere, lost,
 * late or there twice. */
START_TEST(test_way)
{
	struct weir_policy policy = host_policy("1000/365d", WEIR_EVENTUAL, WEIR_FAIL_OPEN);
	uint64_t seed = 1 + (uint64_t)_i;
	char path[160], through[256];
	struct proxy *proxy;
	int rounds = ways[_i].span ? 25 : 4;

	snprintf(path, sizeof(path), "%s/proxy.sock", redis_server_directory(server));
	proxy = proxy_start(path, redis_server_socket(server));
	snprintf(through, sizeof(through), "unix://weir:secret@%s?command_ms=100&connect_ms=300",
		 path);
	hosts_open(HOSTS, through, &policy);
	for (int round = 0; round < rounds; round++) {
		struct proxy_faults now = ways[_i].faults;
		uint64_t fences = fixture_counter(hosts[0], "sync_fences");

		if (ways[_i].span)
			now.cut_at = fixture_random(&seed, ways[_i].span);
		take_each(2);
		proxy_set(proxy, ways[_i].direction, now);
		take_each(1);
		wait_until(fixture_counter(hosts[0], "sync_fences") > fences ||
			   !status_of(hosts[0]).connected);
		proxy_set(proxy, ways[_i].direction, proxy_no_faults());
		if (round % 5 == 0)
			wait_until(is_fresh(hosts[0]));
	}
	must_balance(&policy);
	hosts_close();
	proxy_end(proxy);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_faults");
	TCase *tests = tcase_create("faults");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, begin, end);
	tcase_add_loop_test(tests, test_fault, 0, LENGTH(faults));
	tcase_add_test(tests, test_one_key);
	tcase_add_test(tests, test_sleep);
	tcase_add_test(tests, test_script_flush);
	tcase_add_test(tests, test_secret_is_compared_later);
	tcase_add_loop_test(tests, test_way, 0, LENGTH(ways));
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
