/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync_publish.c - policies that one host publishes and others follow, by a real Redis.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/handle.h"
#include "sync/publish.h"
#include "tests/policy_fixture.h"
#include "tests/suite.h"

/* ---- Publishers and followers ------------------------------------------ */

static struct weir_sync_options at_redis(bool follow)
{
	struct weir_sync_options options = host_sync(url, 1);

	options.follow_policies = follow;
	return options;
}

/* COUNT hosts, of which the first FOLLOWING follow. */
static void open_followers(int count, int following)
{
	struct weir_policy policy = host_policy("100/1m", WEIR_BOUNDED, WEIR_FAIL_OPEN);

	hosts_create(count, &policy);
	for (int i = 0; i < count; i++) {
		struct weir_sync_options options = at_redis(i < following);

		ck_assert_int_eq(weir_sync_start(hosts[i], &options, NULL), 0);
	}
	all_are_fresh();
}

static void restart_sync(int host, bool follow)
{
	struct weir_sync_options options = at_redis(follow);

	ck_assert_int_eq(weir_sync_stop(hosts[host], NULL), 0);
	ck_assert_int_eq(weir_sync_start(hosts[host], &options, NULL), 0);
}

static uint64_t publish(int host, const char *name)
{
	struct weir_sync_options options = at_redis(false);
	struct weir_error error;
	uint64_t version = 0;

	ck_assert_msg(weir_sync_publish(hosts[host], &options, name ? &name : NULL, name != NULL,
					&version, &error) == 0, "%s", error.message);
	return version;
}

static uint64_t withdraw(int host, const char *name)
{
	struct weir_sync_options options = at_redis(false);
	struct weir_error error;
	uint64_t version = 0;

	ck_assert_msg(weir_sync_withdraw(hosts[host], &options, &name, 1, &version, &error) == 0,
		      "%s", error.message);
	return version;
}

/* HOST has policy NAME with this limit; NULL: it does not have it. */
static bool has(int host, const char *name, const char *limit)
{
	struct weir_policy policy;
	char text[96];

	if (weir_policy_get(hosts[host], name, &policy, NULL) != 0)
		return limit == NULL;
	weir_limit_format(&policy.limits[0], text, sizeof(text));
	return limit && strcmp(text, limit) == 0;
}

static uint64_t applied(int host)
{
	return status_of(hosts[host]).applied;
}

static bool refuses(int host, const char *why)
{
	return strstr(status_of(hosts[host]).policy_error, why) != NULL;
}

/* ---- Published, withdrawn, followed ------------------------------------ */

/* Two follow, one does not. */
START_TEST(test_publish)
{
	open_followers(3, 2);
	set(2, "api", "7/1s", WEIR_EVENTUAL);
	set(2, "web", "8/1s", WEIR_BOUNDED);
	ck_assert_uint_eq(publish(2, "api"), 1);
	wait_until(has(0, "api", "7/1s") && has(1, "api", "7/1s"));
	ck_assert(has(0, "web", NULL));
	wait_until(applied(0) == 1 && applied(1) == 1);
	wait_until(status_of(hosts[2]).published == 1);
	ck_assert_uint_eq(applied(2), 0);
	ck_assert(!status_of(hosts[2]).follows && status_of(hosts[0]).follows);
	ck_assert_uint_eq(fixture_counter(hosts[0], "sync_publications"), 1);
	for (int i = 0; i < 3; i++)
		wait_until(agrees(i));
	/* A publication has what was published before, too: all of it at once. */
	ck_assert_uint_eq(publish(2, "web"), 2);
	wait_until(applied(0) == 2 && applied(1) == 2);
	ck_assert(has(0, "web", "8/1s") && has(0, "api", "7/1s"));
	/* From a host that follows: it has it at once, and who does not is told. */
	set(0, "api", "9/1s", WEIR_BOUNDED);
	ck_assert_uint_eq(publish(0, NULL), 3);
	ck_assert_uint_eq(applied(0), 3);
	wait_until(has(1, "api", "9/1s"));
	wait_until(is_told(2, "9/1s bounded"));
	ck_assert(has(2, "api", "7/1s"));
	/* It begins to follow. */
	restart_sync(2, true);
	wait_until(has(2, "api", "9/1s"));
	wait_until(agrees(2));
	hosts_close();
}
END_TEST

START_TEST(test_withdraw)
{
	struct weir_sync_options options = at_redis(false);
	const char *nobodys = "nobody's";
	struct weir_error error;

	open_followers(2, 2);
	set(0, "web", "8/1s", WEIR_BOUNDED);
	publish(0, "web");
	wait_until(has(1, "web", "8/1s"));
	ck_assert_uint_eq(withdraw(1, "web"), 2);
	ck_assert(has(1, "web", NULL));
	wait_until(has(0, "web", NULL));
	ck_assert(has(0, "api", "100/1m"));
	/* And it comes back. */
	set(0, "web", "9/1s", WEIR_BOUNDED);
	ck_assert_uint_eq(publish(0, "web"), 3);
	wait_until(has(1, "web", "9/1s"));
	ck_assert_int_eq(weir_sync_withdraw(hosts[0], &options, &nobodys, 1, NULL, &error),
			 WEIR_ENOENT);
	ck_assert_int_eq(weir_sync_publish(hosts[0], &options, &nobodys, 1, NULL, &error),
			 WEIR_ENOENT);
	ck_assert_int_eq(weir_sync_withdraw(hosts[0], &options, NULL, 0, NULL, &error),
			 WEIR_EINVAL);
	hosts_close();
}
END_TEST

/* What is changed on a host that follows stays until a newer publication, also when
 * another of its processes takes the lead. */
START_TEST(test_changed_afterwards)
{
	open_followers(2, 2);
	set(0, "api", "7/1s", WEIR_BOUNDED);
	publish(0, "api");
	wait_until(applied(1) == 1);
	set(1, "api", "8/1s", WEIR_BOUNDED);
	wait_until(is_told(0, "8/1s bounded"));
	restart_sync(1, true);
	wait_until(status_of(hosts[1]).leading && is_fresh(hosts[1]));
	wait_until(is_told(1, "7/1s bounded"));
	ck_assert(has(1, "api", "8/1s"));
	set(0, "web", "1/1s", WEIR_BOUNDED);
	publish(0, "web");
	wait_until(has(1, "api", "7/1s") && has(1, "web", "1/1s"));
	wait_until(agrees(0) && agrees(1));
	hosts_close();
}
END_TEST

/* ---- A Redis that forgets, and strangers ------------------------------- */

/* Redis starts anew, empty: whoever has the publication puts it back, follower or not. */
START_TEST(test_put_back)
{
	open_followers(3, 1);
	set(0, "api", "7/1s", WEIR_BOUNDED);
	ck_assert_uint_eq(publish(0, "api"), 1);
	for (int i = 0; i < 3; i++)
		wait_until(status_of(hosts[i]).published == 1);
	redis_server_kill(server);
	redis_server_restart(server);
	restart_sync(2, true);
	wait_until(has(2, "api", "7/1s"));
	ck_assert_uint_eq(applied(2), 1);
	/* The version goes on. */
	ck_assert_uint_eq(publish(1, "api"), 2);
	wait_until(applied(0) == 2 && applied(2) == 2);
	ck_assert(has(0, "api", "100/1m") && has(2, "api", "100/1m"));
	hosts_close();
}
END_TEST

/* Nobody has it any more, not even in memory. */
START_TEST(test_lost)
{
	open_followers(2, 2);
	publish(0, "api");
	wait_until(applied(1) == 1);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(weir_sync_stop(hosts[i], NULL), 0);
	freeReplyObject(redis("FLUSHALL"));
	for (int i = 0; i < 2; i++) {
		struct weir_sync_options options = at_redis(true);

		ck_assert_int_eq(weir_sync_start(hosts[i], &options, NULL), 0);
	}
	wait_until(refuses(0, "publication 1 is lost") && refuses(1, "publish again"));
	ck_assert(has(0, "api", "100/1m"));
	ck_assert_uint_eq(publish(0, "api"), 2);
	wait_until(applied(1) == 2 && !refuses(1, "lost"));
	hosts_close();
}
END_TEST

/* A failover to a replica that lags, or somebody who gives Redis an old one again: the
 * newest one is put back, and nothing older is applied. */
START_TEST(test_redis_goes_back)
{
	redisReply *old, *new;

	open_followers(2, 2);
	set(0, "api", "1/1s", WEIR_BOUNDED);
	publish(0, "api");
	wait_until(applied(1) == 1);
	old = redis("HMGET weir:policies tag publication");
	set(0, "api", "2/1s", WEIR_BOUNDED);
	publish(0, "api");
	wait_until(has(1, "api", "2/1s") && status_of(hosts[0]).published == 2);
	freeReplyObject(redis("HSET weir:policies tag %b publication %b", old->element[0]->str,
			      old->element[0]->len, old->element[1]->str, old->element[1]->len));
	for (bool back = false; !back; freeReplyObject(new)) {
		new = redis("HGET weir:policies tag");
		back = memcmp(new->str, old->element[0]->str, 16) != 0;
		nap();
	}
	ck_assert(has(0, "api", "2/1s") && has(1, "api", "2/1s"));
	/* With leaders that have not seen the newest, but segments that have applied it. */
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(weir_sync_stop(hosts[i], NULL), 0);
	freeReplyObject(redis("HSET weir:policies tag %b publication %b", old->element[0]->str,
			      old->element[0]->len, old->element[1]->str, old->element[1]->len));
	freeReplyObject(old);
	for (int i = 0; i < 2; i++) {
		struct weir_sync_options options = at_redis(true);

		ck_assert_int_eq(weir_sync_start(hosts[i], &options, NULL), 0);
	}
	wait_until(refuses(0, "gone back to publication 1") && refuses(1, "gone back"));
	ck_assert(has(0, "api", "2/1s") && has(1, "api", "2/1s"));
	ck_assert_uint_eq(publish(1, "api"), 3);
	wait_until(applied(0) == 3);
	hosts_close();
}
END_TEST

/* Written by a stranger, or with mistakes by who has the secret: nothing is changed. */
START_TEST(test_hostile_publication)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "", "begins with" },
		{ "weir publication 2 5 0123456789abcdef\n", "another version of weir" },
		{ "weir publication 1 05 0123456789abcdef\n", "begins with" },
		{ "weir publication 1 0 0123456789abcdef\n", "begins with" },
		{ "weir publication 1 99999999999999999999 0123456789abcdef\n", "begins with" },
		{ "weir publication 1 5 0123456789abcdeg\n", "begins with" },
		{ "weir publication 1 5 0123456789abcdef", "begins with" },
		{ "weir publication 1 5 0123456789abcdef\nremove a b\n", "removes \"a b\"" },
		{ "weir publication 1 5 0123456789abcdef\nremove a\nremove a\n", "twice" },
		{ "weir publication 1 5 0123456789abcdef\nremove a", "removes" },
		{ "weir publication 1 5 0123456789abcdef\nnonsense", "publication:1:" },
		{ "weir publication 1 5 0123456789abcdef\npolicies: [{name: api, limits: [0/1s]}]",
		  "limit" },
		{ "weir publication 1 5 0123456789abcdef\nremove a\n"
		  "policies: [{name: a, limits: [1/1s]}]", "both has and removes" },
	};
	unsigned char tag[TAG_SIZE];
	struct weir_sync_options options = at_redis(false);
	struct weir_error error;
	const char *name = "api";

	open_followers(1, 1);
	publish(0, "api");
	for (size_t i = 0; i < LENGTH(cases); i++) {
		size_t length = strlen(cases[i].text);

		publication_tag((const uint64_t *)(const void *)host_secret, cases[i].text, length,
				tag);
		freeReplyObject(redis("HSET weir:policies tag %b publication %b", tag, sizeof(tag),
				      cases[i].text, length));
		wait_until(refuses(0, cases[i].why));
		ck_assert(has(0, "api", "100/1m"));
		ck_assert_uint_eq(applied(0), 1);
		ck_assert_int_eq(weir_sync_publish(hosts[0], &options, &name, 1, NULL, &error),
				 WEIR_EINVAL);
		ck_assert_ptr_nonnull(strstr(error.message, "weir:policies"));
	}
	/* Of nobody who has the secret. */
	freeReplyObject(redis("HSET weir:policies tag 0123456789abcdef publication %s",
			      "weir publication 1 9 0123456789abcdef\n"
			      "policies: [{name: api, limits: [1/1s]}]\n"));
	wait_until(refuses(0, "not written by a host of this cluster"));
	freeReplyObject(redis("HSET weir:policies tag short publication text"));
	wait_until(refuses(0, "has no tag"));
	freeReplyObject(redis("HDEL weir:policies publication"));
	freeReplyObject(redis("HSET weir:policies tag 0123456789abcdeX"));
	wait_until(refuses(0, "not written by"));
	freeReplyObject(redis("EVAL %s 0", "redis.call('HSET', 'weir:policies', 'publication', "
			      "string.rep('x', 4 * 1048576 + 1))"));
	wait_until(refuses(0, "too long"));
	ck_assert(has(0, "api", "100/1m"));
	/* What nobody believes is overwritten. */
	ck_assert_uint_eq(publish(0, "api"), 2);
	wait_until(status_of(hosts[0]).policy_error[0] == '\0');
	hosts_close();
}
END_TEST

/* More policies than there is room for: none of them, and it is told. */
START_TEST(test_no_room)
{
	struct weir_options options;
	struct weir_sync_options sync = at_redis(true);
	struct weir *small;
	char name[16];

	open_followers(1, 1);
	weir_options_init(&options);
	options.slots = 64;
	options.policies = 4;
	options.sync = true;
	options.secret = host_secret;
	small = fixture_open(&options);
	ck_assert_int_eq(weir_sync_start(small, &sync, NULL), 0);
	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "p%d", i);
		set(0, name, "1/1s", WEIR_BOUNDED);
	}
	publish(0, NULL);
	wait_until(strstr(status_of(small).policy_error, "publication 1 is not applied: no room"));
	ck_assert_uint_eq(weir_policy_list(small, NULL, 0), 0);
	ck_assert_uint_eq(status_of(small).applied, 0);
	weir_close(small);
	hosts_close();
}
END_TEST

/* ---- Several publishers ------------------------------------------------ */

/* Both have read what is there: the first to offer is published, the other is told. */
START_TEST(test_two_publishers)
{
	struct weir_policy policy = fixture_policy("api", "1/1s");
	struct weir_sync_options options = at_redis(false);
	struct publisher one, other;
	struct weir_error error;

	open_followers(2, 2);
	ck_assert_int_eq(publisher_open(&one, hosts[0]->segment, &options, &error), 0);
	ck_assert_int_eq(publisher_open(&other, hosts[1]->segment, &options, &error), 0);
	ck_assert_int_eq(publication_put(&other.publication, &policy, &error), 0);
	ck_assert_int_eq(publisher_offer(&other, &error), 0);
	policy = fixture_policy("api", "2/1s");
	ck_assert_int_eq(publication_put(&one.publication, &policy, &error), 0);
	ck_assert_int_eq(publisher_offer(&one, &error), WEIR_EBUSY);
	ck_assert_ptr_nonnull(strstr(error.message, "another host has published meanwhile"));
	publisher_close(&one);
	publisher_close(&other);
	wait_until(has(0, "api", "1/1s") && has(1, "api", "1/1s"));
	hosts_close();
}
END_TEST

static void *publish_often(void *context)
{
	int host = *(int *)context;
	struct weir_sync_options options = at_redis(false);
	const char *name = host == 0 ? "zero" : "one";
	uint64_t *won = calloc(1, sizeof(*won));

	for (int i = 0; i < 30; i++) {
		struct weir_error error;
		int status = weir_sync_publish(hosts[host], &options, &name, 1, NULL, &error);

		if (status == 0)
			++*won;
		else if (status != WEIR_EBUSY)
			abort();
	}
	return won;
}

/* As many versions as were published, and nobody's policy is lost. */
START_TEST(test_racing_publishers)
{
	int numbers[2] = { 0, 1 };
	pthread_t threads[2];
	uint64_t sum = 0;
	void *won;

	open_followers(3, 3);
	set(0, "zero", "1/1s", WEIR_BOUNDED);
	set(1, "one", "1/1s", WEIR_BOUNDED);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, publish_often, &numbers[i]), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &won), 0);
		ck_assert_uint_ge(*(uint64_t *)won, 1);
		sum += *(uint64_t *)won;
		free(won);
	}
	for (int i = 0; i < 3; i++) {
		wait_until(applied(i) == sum);
		ck_assert(has(i, "zero", "1/1s") && has(i, "one", "1/1s"));
	}
	hosts_close();
}
END_TEST

START_TEST(test_cannot_publish)
{
	struct weir_sync_options options = at_redis(false);
	struct weir *stranger = host_open("another secret.."), *plain = fixture_open(NULL);
	struct weir_policy policy = fixture_policy("api", "1/1s");
	const char *name = "api";
	struct weir_error error;

	open_followers(1, 1);
	ck_assert_int_eq(weir_policy_set(stranger, &policy, 1, NULL), 0);
	ck_assert_int_eq(weir_sync_publish(stranger, &options, &name, 1, NULL, &error),
			 WEIR_EINVAL);
	ck_assert_ptr_nonnull(strstr(error.message, "another hash secret"));
	ck_assert_int_eq(weir_sync_publish(plain, &options, NULL, 0, NULL, &error), WEIR_EINVAL);
	options.url = "http://nowhere";
	ck_assert_int_eq(weir_sync_publish(hosts[0], &options, &name, 1, NULL, &error),
			 WEIR_EINVAL);
	options.url = "unix:///nowhere";
	ck_assert_int_eq(weir_sync_publish(hosts[0], &options, &name, 1, NULL, &error),
			 WEIR_ESYSTEM);
	ck_assert_ptr_nonnull(strstr(error.message, "unix:///nowhere"));
	options.prefix = NULL;
	ck_assert_int_eq(weir_sync_publish(hosts[0], &options, &name, 1, NULL, &error),
			 WEIR_EINVAL);
	weir_close(stranger);
	weir_close(plain);
	hosts_close();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_publish");
	TCase *tests = tcase_create("sync_publish");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, server_begin_patient, server_end);
	tcase_add_test(tests, test_publish);
	tcase_add_test(tests, test_withdraw);
	tcase_add_test(tests, test_changed_afterwards);
	tcase_add_test(tests, test_put_back);
	tcase_add_test(tests, test_lost);
	tcase_add_test(tests, test_redis_goes_back);
	tcase_add_test(tests, test_hostile_publication);
	tcase_add_test(tests, test_no_room);
	tcase_add_test(tests, test_two_publishers);
	tcase_add_test(tests, test_racing_publishers);
	tcase_add_test(tests, test_cannot_publish);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
