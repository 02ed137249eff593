/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_strict_faults.c - mode strict and what happens to real Redises and leaders: all
 * hosts together never admit more than the limit, whatever it is.
 *
 * All hosts are asked for all keys without an end, before, during and after.  Limits
 * refill in a year, so that what was ever admitted of a key is at most a burst; each
 * reset adds one.  With WEIR_SOAK stops last for long, and all comes more often.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/layout.h"
#include "sync/keys.h"
#include "tests/redis_cluster.h"
#include "tests/sentinel_fixture.h"
#include "tests/strict_fixture.h"
#include "tests/suite.h"

#define HOSTS 3
#define KEYS 12                 /* in most of the shards */
#define BURST 100
#define LIMIT "100/365d"
#define MASTERS 3

static char keys[KEYS][16];
static uint64_t admitted[KEYS], limit[KEYS];

static bool is_soak(void)
{
	return getenv("WEIR_SOAK") != NULL;
}

/* ---- Load -------------------------------------------------------------- */

/* Each host is asked once for each key. */
static void load(void)
{
	struct weir_decision decision;

	for (int k = 0; k < KEYS; k++) {
		for (int i = 0; i < host_count; i++)
			admitted[k] += ask(i, keys[k], 1, &decision);
		ck_assert_msg(admitted[k] <= limit[k], "%s: %llu were admitted, and %llu may be",
			      keys[k], (unsigned long long)admitted[k],
			      (unsigned long long)limit[k]);
	}
	nap();
}

#define load_until(condition) \
	do { \
		int rounds = 0; \
		while (!(condition) && rounds++ < PATIENCE) \
			load(); \
		ck_assert_msg(rounds <= PATIENCE, "never came: %s", #condition); \
	} while (0)

static void load_for(uint64_t ns)
{
	uint64_t end = weir_now_ns(hosts[0]) + ns;

	while (weir_now_ns(hosts[0]) < end)
		load();
}

/* Is the host without a lease of some key? */
static bool lacks_a_lease(int host)
{
	for (int k = 0; k < KEYS; k++) {
		if (!strict_is_leased(host, keys[k]))
			return true;
	}
	return false;
}

static bool some_lack_a_lease(void)
{
	for (int i = 0; i < host_count; i++) {
		if (lacks_a_lease(i))
			return true;
	}
	return false;
}

static bool all_lack_a_lease(void)
{
	for (int i = 0; i < host_count; i++) {
		if (!lacks_a_lease(i))
			return false;
	}
	return true;
}

/* Give each key, which has nothing left, a burst more.  When host 0 has credit of it, it
 * has the answer to its reset as well: one whose answer was lost with the session that it
 * was sent in is made again, and forgets what was spent meanwhile. */
static void fill_all(void)
{
	for (int k = 0; k < KEYS; k++) {
		limit[k] += BURST;
		strict_fill(keys[k]);
	}
	for (int k = 0; k < KEYS; k++) {
		strict_take(0, keys[k], 1);
		admitted[k]++;
	}
}

/* As long as anything is admitted; of what was filled last most must be. */
static void drain(void)
{
	uint64_t before[KEYS];

	memcpy(before, admitted, sizeof(before));
	for (int k = 0; k < KEYS; k++)
		load_until(admitted[k] >= before[k] + BURST * 3 / 4);
}

static void name_keys(void)
{
	for (int k = 0; k < KEYS; k++)
		snprintf(keys[k], sizeof(keys[k]), "customer-%d", k);
}

static void begin(const char *url)
{
	name_keys();
	strict_open(HOSTS, url, LIMIT, WEIR_FAIL_CLOSED);
	fill_all();
	load_until(admitted[0] >= BURST / 4);
}

/* After the fault: leases again, no token more, and a burst that is filled is there. */
static void end(void)
{
	load_until(!some_lack_a_lease());
	load_for(500 * MS);
	fill_all();
	drain();
	hosts_close();
}

/* ---- Another Redis ----------------------------------------------------- */

/* The replica that takes over has not heard of what was granted and spent last. */
START_TEST(test_sentinel_failover)
{
	sentinel_start();
	begin(sentinel_url("?command_ms=500"));
	sentinel_cut_replication();
	load_for(100 * MS);
	redis_server_kill(sentinel_master);
	load_until(all_lack_a_lease());
	load_until(!some_lack_a_lease());
	ck_assert(sentinel_has_promoted());
	end();
	sentinel_end();
}
END_TEST

/* The first node, of which the fourth is the replica, is killed. */
START_TEST(test_cluster_promotion)
{
	cluster_start(MASTERS, 1);
	begin(cluster_url("redis-cluster", "?command_ms=1000"));
	load_for(100 * MS);
	redis_server_kill(cluster_nodes[0].server);
	load_until(all_lack_a_lease());
	cluster_do(MASTERS, "CLUSTER FAILOVER TAKEOVER");
	end();
	cluster_end();
}
END_TEST

static void move(int from, int to, const char *key)
{
	cluster_do(from, "MIGRATE 127.0.0.1 %d %s 0 5000", cluster_nodes[to].port, key);
	load();
}

/* As redis-cli moves a slot. */
static void move_shard(unsigned shard)
{
	char view[SYNC_KEY_SIZE], leases[SYNC_KEY_SIZE];
	int slot, from, to;

	sync_shard_key(view, "weir", shard);
	sync_lease_key(leases, "weir", shard);
	slot = cluster_slot(leases);
	from = cluster_owner(0, slot);
	to = (from + 1) % MASTERS;
	cluster_do(to, "CLUSTER SETSLOT %d IMPORTING %s", slot, cluster_nodes[from].id);
	cluster_do(from, "CLUSTER SETSLOT %d MIGRATING %s", slot, cluster_nodes[to].id);
	load();
	move(from, to, view);
	move(from, to, leases);
	for (int i = 0; i < MASTERS; i++)
		cluster_do((to + i) % MASTERS, "CLUSTER SETSLOT %d NODE %s", slot,
			   cluster_nodes[to].id);
	load();
}

/* All shards move, one after the other: each begins an epoch where it comes to. */
START_TEST(test_cluster_resharding)
{
	int turns = is_soak() ? 10 : 1;

	cluster_start(MASTERS, 0);
	begin(cluster_url("redis-cluster", "?command_ms=1000"));
	for (int turn = 0; turn < turns; turn++) {
		for (unsigned shard = 0; shard < SYNC_SHARDS; shard++)
			move_shard(shard);
		load_for(2500 * MS);
		load_until(!some_lack_a_lease());
		fill_all();
	}
	end();
	cluster_end();
}
END_TEST

/* ---- Stopped ----------------------------------------------------------- */

static const char *url_of(const struct redis_server *server)
{
	static char url[256];

	snprintf(url, sizeof(url), "unix://%s?command_ms=500", redis_server_socket(server));
	return url;
}

/* Redis is stopped for longer than leases last, and goes on. */
START_TEST(test_stopped_redis)
{
	struct redis_server *server = redis_server_start(NULL);

	begin(url_of(server));
	redis_server_stop(server);
	load_until(all_lack_a_lease());
	load_for(is_soak() ? 20000 * MS : 500 * MS);
	redis_server_continue(server);
	end();
	redis_server_end(server);
}
END_TEST

/* A process that leads host 0, and does nothing else. */
static pid_t spawn_leader(const char *url)
{
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (host_start(hosts[0], url, HOSTS, NULL) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	return child;
}

/* The process that leads host 0 is stopped for longer than its lease lasts, and then goes
 * on with what it had in hand; in the second form another one stands by, leads meanwhile,
 * and is not to be disturbed. */
START_TEST(test_stopped_leader)
{
	struct redis_server *server = redis_server_start(NULL);
	const char *url = url_of(server);
	bool has_standby = _i % 2 == 1;
	pid_t leader;

	name_keys();
	strict_create(HOSTS, LIMIT, WEIR_FAIL_CLOSED);
	leader = spawn_leader(url);
	wait_until(status_of(hosts[0]).leader_pid == (uint64_t)leader);
	for (int i = has_standby ? 0 : 1; i < HOSTS; i++)
		ck_assert_int_eq(host_start(hosts[i], url, HOSTS, NULL), 0);
	fill_all();
	load_until(admitted[0] >= BURST / 4);
	kill(leader, SIGSTOP);
	if (has_standby)
		load_until(status_of(hosts[0]).leading);
	else
		load_until(lacks_a_lease(0));
	load_for(is_soak() ? 20000 * MS : 2500 * MS);
	kill(leader, SIGCONT);
	end();
	kill(leader, SIGKILL);
	waitpid(leader, NULL, 0);
	redis_server_end(server);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("strict_faults");
	TCase *tests = tcase_create("redis"), *leader = tcase_create("leader");

	redis_server_require();
	tcase_set_timeout(tests, is_soak() ? 600 : 60);
	tcase_set_timeout(leader, is_soak() ? 600 : 60);
	tcase_add_test(tests, test_sentinel_failover);
	tcase_add_test(tests, test_cluster_promotion);
	tcase_add_test(tests, test_cluster_resharding);
	tcase_add_loop_test(tests, test_stopped_redis, 0, is_soak() ? 6 : 1);
	tcase_add_loop_test(leader, test_stopped_leader, 0, is_soak() ? 12 : 2);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, leader);
	return suite_run(suite);
}
