/* SPDX-License-Identifier: Apache-2.0 */
/* Where keys are in a cluster, by what its nodes say, which may be anything. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "sync/redis_slots.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const struct redis_address asked = { "asked.example", 7000 };

/* ---- Keys -------------------------------------------------------------- */

/* Those of the specification of Redis Cluster, and what Redis says of others. */
static const struct {
	const char *key;
	unsigned slot;
} keys[] = {
	{ "123456789", 0x31c3 },
	{ "", 0 },
	{ "foo", 12182 },
	{ "bar", 5061 },
	{ "foo{bar}zap", 5061 },
	{ "foo{bar}{zap}", 5061 },
	{ "{user1000}.following", 3443 },
	{ "{user1000}.followers", 3443 },
	{ "{bar", 4015 },
	{ "foo{{bar}}zap", 4015 },              /* the tag is "{bar" */
	{ "foo{}{bar}", 8363 },                 /* an empty tag is none */
	{ "foo{", 7673 },
	{ "}foo{bar", 7622 },
};

START_TEST(slots_of_keys)
{
	ck_assert_uint_eq(redis_slot(keys[_i].key, strlen(keys[_i].key)), keys[_i].slot);
}
END_TEST

/* Bytes are bytes. */
START_TEST(slots_of_bytes)
{
	ck_assert_uint_eq(redis_slot("\0{foo}\0", 7), 12182);
	ck_assert_uint_eq(redis_slot("{\xff}", 3), redis_slot("\xff", 1));
}
END_TEST

/* ---- CLUSTER SLOTS ----------------------------------------------------- */

static redisReply *parse(const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	ck_assert_int_eq(redisReaderFeed(reader, text, strlen(text)), REDIS_OK);
	ck_assert_int_eq(redisReaderGetReply(reader, &reply), REDIS_OK);
	ck_assert_ptr_nonnull(reply);
	redisReaderFree(reader);
	return reply;
}

#define NODE(host, port) "*3\r\n" host ":" port "\r\n$2\r\nid\r\n"
#define A "$1\r\na\r\n"
#define B "$1\r\nb\r\n"

/* Whom slot 100 belongs to. */
static const struct {
	const char *reply;
	const char *host;               /* NULL: nobody */
	unsigned port;
} replies[] = {
	{ "*1\r\n*3\r\n:0\r\n:16383\r\n" NODE(A, "1"), "a", 1 },
	{ "*1\r\n*4\r\n:100\r\n:100\r\n" NODE(A, "65535") NODE(B, "2"), "a", 65535 },
	{ "*2\r\n*3\r\n:0\r\n:99\r\n" NODE(A, "1") "*3\r\n:100\r\n:200\r\n" NODE(B, "2"), "b", 2 },
	/* Redis 7: with what else is known of a node */
	{ "*1\r\n*3\r\n:0\r\n:200\r\n*4\r\n" A ":1\r\n$2\r\nid\r\n*2\r\n$2\r\nip\r\n$1\r\nx\r\n",
	  "a", 1 },
	/* The one that was asked */
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" NODE("$0\r\n\r\n", "1"), "asked.example", 1 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" NODE("$-1\r\n", "1"), "asked.example", 1 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" NODE("$3\r\n::1\r\n", "1"), "::1", 1 },
	/* Ranges that overlap */
	{ "*2\r\n*3\r\n:0\r\n:200\r\n" NODE(A, "1") "*3\r\n:100\r\n:100\r\n" NODE(B, "2"), "b", 2 },
	{ "*2\r\n*3\r\n:0\r\n:200\r\n" NODE(A, "1") "*3\r\n:100\r\n:100\r\n" NODE(B, "0"), "a", 1 },

	/* Nobody */
	{ "*0\r\n", NULL, 0 },
	{ "*1\r\n*0\r\n", NULL, 0 },
	{ ":1\r\n", NULL, 0 },
	{ "$-1\r\n", NULL, 0 },
	{ "-ERR no\r\n", NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:99\r\n" NODE(A, "1"), NULL, 0 },
	{ "*1\r\n*3\r\n:200\r\n:0\r\n" NODE(A, "1"), NULL, 0 },
	{ "*1\r\n*3\r\n:-5\r\n:-1\r\n" NODE(A, "1"), NULL, 0 },
	{ "*1\r\n*2\r\n:0\r\n:200\r\n", NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n*0\r\n", NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n*1\r\n" A, NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" A, NULL, 0 },
	{ "*1\r\n*3\r\n$1\r\n0\r\n:200\r\n" NODE(A, "1"), NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" NODE(A, "0"), NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" NODE(A, "-7000"), NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" NODE(A, "65536"), NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" NODE(A, "4294967297"), NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n*2\r\n" A "$1\r\n1\r\n", NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" NODE("$1\r\n?\r\n", "1"), NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" NODE("$3\r\na b\r\n", "1"), NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" NODE("-a\r\n", "1"), NULL, 0 },
	{ "*1\r\n*3\r\n:0\r\n:200\r\n" NODE("*1\r\n" A, "1"), NULL, 0 },
};

START_TEST(owners)
{
	redisReply *reply = parse(replies[_i].reply);
	struct redis_address owner = { "nobody", 9 };
	bool found = redis_slots_owner((struct redis_reply *)reply, 100, &asked, &owner);

	ck_assert_int_eq(found, replies[_i].host != NULL);
	ck_assert_str_eq(owner.host, found ? replies[_i].host : "nobody");
	ck_assert_uint_eq(owner.port, found ? replies[_i].port : 9);
	freeReplyObject(reply);
}
END_TEST

START_TEST(owner_by_a_long_name)
{
	char text[512], name[257];

	for (int length = 255; length <= 256; length++) {
		struct redis_address owner;
		redisReply *reply;

		memset(name, 'n', sizeof(name));
		name[length] = '\0';
		snprintf(text, sizeof(text), "*1\r\n*3\r\n:0\r\n:200\r\n*2\r\n$%d\r\n%s\r\n:1\r\n",
			 length, name);
		reply = parse(text);
		ck_assert_int_eq(redis_slots_owner((struct redis_reply *)reply, 100, &asked, &owner),
				 length == 255);
		freeReplyObject(reply);
	}
}
END_TEST

static bool add_port(void *context, const struct redis_address *address)
{
	unsigned *sum = context;

	*sum += address->port;
	return address->port != 4;
}

START_TEST(all_nodes)
{
	redisReply *reply = parse("*3\r\n*4\r\n:0\r\n:1\r\n" NODE(A, "1") NODE(B, "2")
				  "*3\r\n:2\r\n:3\r\n" NODE(A, "0")
				  "*4\r\n:4\r\n:5\r\n" NODE(A, "4") NODE(B, "8"));
	unsigned sum = 0;

	redis_slots_each((struct redis_reply *)reply, &asked, add_port, &sum);
	ck_assert_uint_eq(sum, 1 + 2 + 4);
	redis_slots_each(NULL, &asked, add_port, &sum);
	ck_assert_uint_eq(sum, 1 + 2 + 4);
	freeReplyObject(reply);
}
END_TEST

/* ---- Redirections ------------------------------------------------------ */

static const struct {
	const char *text;
	const char *host;
	unsigned port;
} redirections[] = {
	{ "MOVED 3999 127.0.0.1:6381", "127.0.0.1", 6381 },
	{ "ASK 16383 host.example:1", "host.example", 1 },
	{ "MOVED 0 ::1:6381", "::1", 6381 },
	{ "MOVED 3999 :6381", "asked.example", 6381 },

	{ "", NULL, 0 },
	{ "MOVED", NULL, 0 },
	{ "MOVED ", NULL, 0 },
	{ "MOVED 3999", NULL, 0 },
	{ "MOVED 3999 ", NULL, 0 },
	{ "MOVED 3999 127.0.0.1", NULL, 0 },
	{ "MOVED 3999 127.0.0.1:", NULL, 0 },
	{ "MOVED 3999 127.0.0.1:0", NULL, 0 },
	{ "MOVED 3999 127.0.0.1:-1", NULL, 0 },
	{ "MOVED 3999 127.0.0.1:65536", NULL, 0 },
	{ "MOVED 3999 127.0.0.1:6381 ", NULL, 0 },
	{ "MOVED -1 127.0.0.1:6381", NULL, 0 },
	{ "MOVED 3999 ?:6381", NULL, 0 },
	{ "MOVED 3999 a b:6381", NULL, 0 },
	{ "TRYAGAIN 3999 127.0.0.1:6381", NULL, 0 },
	{ "ERR MOVED 3999 127.0.0.1:6381", NULL, 0 },
	/* After its first write, maybe: the call was carried out in part. */
	{ "ERR Error running script (call to f_1): @user_script:1: -MOVED 1 127.0.0.1:1", NULL, 0 },
};

START_TEST(redirections_lead)
{
	const char *text = redirections[_i].text;
	struct redis_address to;
	bool leads = redis_slots_redirect(text, strlen(text), &asked, &to);

	ck_assert_int_eq(leads, redirections[_i].host != NULL);
	if (leads) {
		ck_assert_str_eq(to.host, redirections[_i].host);
		ck_assert_uint_eq(to.port, redirections[_i].port);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("redis_slots");
	TCase *tests = tcase_create("slots");

	tcase_add_loop_test(tests, slots_of_keys, 0, LENGTH(keys));
	tcase_add_test(tests, slots_of_bytes);
	tcase_add_loop_test(tests, owners, 0, LENGTH(replies));
	tcase_add_test(tests, owner_by_a_long_name);
	tcase_add_test(tests, all_nodes);
	tcase_add_loop_test(tests, redirections_lead, 0, LENGTH(redirections));
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
