/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cluster.c - hosts and a real Redis Cluster, whose slots move and whose nodes die.
 */
#include <stdio.h>
#include <string.h>

#include "tests/redis_cluster.h"
#include "tests/suite.h"
#include "tests/sync_fixture.h"

#define HOSTS 2
#define SHARDS 8
#define MASTERS 3
#define KEYS 40
#define TOKENS 1000000

static char keys[KEYS][16];
static uint64_t consumed[KEYS];

/* COMMAND_MS is what a node that is stopped takes from the others. */
static void open_hosts_with(const char *query, const struct weir_policy *policy)
{
	hosts_open(HOSTS, cluster_url("redis-cluster", query), policy);
}

static void open_hosts(const char *limit, enum weir_consistency consistency,
		       enum weir_fail_mode fail_mode)
{
	struct weir_policy policy = host_policy(limit, consistency, fail_mode);

	open_hosts_with("?command_ms=1000", &policy);
}

/* Each host takes a token of each key. */
static void load(void)
{
	for (int i = 0; i < HOSTS; i++) {
		for (int k = 0; k < KEYS; k++) {
			struct weir_decision decision;

			snprintf(keys[k], sizeof(keys[k]), "customer-%d", k);
			ck_assert_msg(ask(i, keys[k], 1, &decision), "%s", keys[k]);
			consumed[k]++;
		}
	}
}

static void all_agree(void)
{
	for (int k = 0; k < KEYS; k++)
		all_agree_on(keys[k], TOKENS - consumed[k]);
	for (int i = 0; i < HOSTS; i++)
		wait_until(status_of(hosts[i]).unmerged_tokens == 0);
}

/* ---- Moving slots ------------------------------------------------------ */

/* Wait until each host has made COUNT more rounds: its leader has met what there is. */
static void rounds_pass(uint64_t count)
{
	for (int i = 0; i < HOSTS; i++) {
		uint64_t before = status_of(hosts[i]).rounds;

		wait_until(status_of(hosts[i]).rounds >= before + count);
	}
}

static void shard_key(char *key, size_t size, int shard)
{
	snprintf(key, size, "weir:{%d}", shard);
}

/* As redis-cli moves a slot, with load between all steps. */
static void move_shard(int shard, bool wait)
{
	char key[32];
	int slot, from, to;

	shard_key(key, sizeof(key), shard);
	slot = cluster_slot(key);
	from = cluster_owner(0, slot);
	to = (from + 1) % MASTERS;
	load();
	cluster_do(to, "CLUSTER SETSLOT %d IMPORTING %s", slot, cluster_nodes[from].id);
	cluster_do(from, "CLUSTER SETSLOT %d MIGRATING %s", slot, cluster_nodes[to].id);
	load();
	cluster_do(from, "MIGRATE 127.0.0.1 %d %s 0 5000", cluster_nodes[to].port, key);
	load();
	if (wait)
		rounds_pass(SHARDS);    /* the leader is told to ask the other node */
	cluster_do(to, "CLUSTER SETSLOT %d NODE %s", slot, cluster_nodes[to].id);
	cluster_do(from, "CLUSTER SETSLOT %d NODE %s", slot, cluster_nodes[to].id);
	for (int i = 0; i < MASTERS; i++)
		if (i != to && i != from)
			cluster_do(i, "CLUSTER SETSLOT %d NODE %s", slot, cluster_nodes[to].id);
	load();
}

/* ---- Tests ------------------------------------------------------------- */

/* 3 x 30 of 100 tokens is 2 x 45 here. */
START_TEST(test_agree)
{
	struct weir_error error;
	struct weir *alone;

	cluster_start(MASTERS, 0);
	open_hosts("100/365d", WEIR_BOUNDED, WEIR_FAIL_CLOSED);
	take(0, "customer", 45);
	take(1, "customer", 45);
	all_agree_on("customer", 10);

	/* One who takes the cluster for a single server is told. */
	alone = host_open(host_secret);
	ck_assert_int_eq(host_start(alone, cluster_url("redis", "?command_ms=1000"), 1, &error), 0);
	wait_until(strstr(status_of(alone).last_error, "(moved)") != NULL);
	ck_assert_ptr_nonnull(strstr(status_of(alone).last_error,
				     "this is a Redis Cluster: write redis-cluster://"));
	weir_close(alone);
	hosts_close();
	cluster_end();
}
END_TEST

START_TEST(test_reshard)
{
	cluster_start(MASTERS, 0);
	open_hosts("1000000/365d", WEIR_EVENTUAL, WEIR_FAIL_OPEN);
	for (int round = 0; round < 6; round++)
		for (int shard = 0; shard < SHARDS; shard++)
			move_shard(shard, round < 2);
	all_agree();
	hosts_close();
	cluster_end();
}
END_TEST

/* The node that the URL names, and that has shards, dies; its replica takes over. */
START_TEST(test_promotion)
{
	cluster_start(MASTERS, 1);
	open_hosts("1000000/365d", WEIR_EVENTUAL, WEIR_FAIL_OPEN);
	load();
	all_agree();
	redis_server_kill(cluster_nodes[0].server);
	load();
	wait_until(look(0, keys[0]).reason == WEIR_REASON_STALE);
	cluster_do(MASTERS, "CLUSTER FAILOVER TAKEOVER");
	load();
	all_are_fresh();
	load();
	all_agree();
	hosts_close();
	cluster_end();
}
END_TEST

/* ---- One node of several ----------------------------------------------- */

static int owner_of(unsigned shard)
{
	char key[32];

	shard_key(key, sizeof(key), (int)shard);
	return cluster_owner(0, cluster_slot(key));
}

/* The shards of node LOST: a bit each. */
static unsigned shards_of(int lost)
{
	unsigned shards = 0;

	for (unsigned i = 0; i < SHARDS; i++)
		shards |= (unsigned)(owner_of(i) == lost) << i;
	return shards;
}

/* While calls to the shards that are LOST fail a few times, are the others merged, and none of
 * them fenced? */
static bool no_other_is_fenced(int host, unsigned lost)
{
	uint64_t errors = fixture_counter(hosts[host], "sync_errors"), terms[SHARDS] = { 0 };
	bool same = true;

	for (unsigned shard = 0; shard < SHARDS; shard++)
		if (!(lost >> shard & 1))
			terms[shard] = shard_goes_on(host, shard, 1);
	wait_until(fixture_counter(hosts[host], "sync_errors") >= errors + 3);
	for (unsigned shard = 0; shard < SHARDS; shard++)
		if (!(lost >> shard & 1))
			same &= shard_goes_on(host, shard, 2) == terms[shard];
	return same;
}

/* Their views are stale at all hosts, and the other shards are merged all the same. */
static void others_go_on(unsigned lost)
{
	for (int i = 0; i < HOSTS; i++) {
		for (int k = 0; k < KEYS; k++)
			if (lost >> shard_of(keys[k]) & 1)
				wait_until(look(i, keys[k]).reason == WEIR_REASON_STALE);
		/* A machine that is busy may have been late with another call. */
		for (int tries = 0; !no_other_is_fenced(i, lost); tries++)
			ck_assert_int_lt(tries, 20);
	}
	load();
	for (int k = 0; k < KEYS; k++)
		if (!(lost >> shard_of(keys[k]) & 1))
			all_agree_on(keys[k], TOKENS - consumed[k]);
}

/* A node is stopped, then goes on; or dies, and comes back empty. */
START_TEST(test_one_node)
{
	struct weir_policy policy = host_policy("1000000/365d", WEIR_EVENTUAL, WEIR_FAIL_OPEN);
	int lost = MASTERS - 1;
	unsigned shards;

	cluster_start(MASTERS, 0);
	for (int i = 0; i < MASTERS; i++)
		cluster_do(i, "CONFIG SET cluster-require-full-coverage no");
	open_hosts_with("?command_ms=100", &policy);
	load();
	all_agree();
	shards = shards_of(lost);
	ck_assert_uint_ne(shards, 0);
	if (_i == 0)
		redis_server_stop(cluster_nodes[lost].server);
	else
		redis_server_kill(cluster_nodes[lost].server);
	others_go_on(shards);
	ck_assert_str_ne(status_of(hosts[0]).last_error, "");
	if (_i == 0)
		redis_server_continue(cluster_nodes[lost].server);
	else
		redis_server_restart(cluster_nodes[lost].server);
	all_are_fresh();
	load();
	all_agree();
	wait_until(status_of(hosts[0]).last_error[0] == '\0');
	hosts_close();
	cluster_end();
}
END_TEST

/* A slot that nobody has brings its node down, until it is somebody's again. */
START_TEST(test_down)
{
	unsigned shards;
	char key[32];
	int slot, owner;

	cluster_start(MASTERS, 0);
	open_hosts("1000000/365d", WEIR_EVENTUAL, WEIR_FAIL_OPEN);
	load();
	shard_key(key, sizeof(key), 0);
	slot = cluster_slot(key);
	owner = cluster_owner(0, slot);
	shards = shards_of(owner);
	cluster_do(owner, "CLUSTER DELSLOTS %d", slot);
	for (int i = 0; i < HOSTS; i++)
		wait_until(strstr(status_of(hosts[i]).last_error, "clusterdown") != NULL);
	others_go_on(shards);
	cluster_do(owner, "CLUSTER ADDSLOTS %d", slot);
	all_are_fresh();
	load();
	all_agree();
	hosts_close();
	cluster_end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cluster");
	TCase *tests = tcase_create("cluster");

	redis_server_require();
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, test_agree);
	tcase_add_test(tests, test_reshard);
	tcase_add_test(tests, test_promotion);
	tcase_add_loop_test(tests, test_one_node, 0, 2);
	tcase_add_test(tests, test_down);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
