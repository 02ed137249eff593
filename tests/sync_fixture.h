/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync_fixture.h - hosts of a cluster: each segment is a host of its own, and all of
 * them are in this process.
 *
 * Nothing here waits for time to pass: tests wait for conditions, and for the rounds
 * that bring them about.
 */
#ifndef WEIR_TESTS_SYNC_FIXTURE_H
#define WEIR_TESTS_SYNC_FIXTURE_H

#include "tests/fixture.h"

#define HOSTS_MAX 8
#define PATIENCE 20000          /* looks, a millisecond apart */

void nap(void);                 /* a millisecond */

#define wait_until(condition) \
	do { \
		int looks = 0; \
		while (!(condition) && looks++ < PATIENCE) \
			nap(); \
		ck_assert_msg(looks <= PATIENCE, "never came: %s", #condition); \
	} while (0)

/* The hash secret of all hosts that hosts_open() makes. */
extern const char host_secret[WEIR_SECRET_SIZE + 1];

extern struct weir *hosts[HOSTS_MAX];
extern weir_policy_id ids[HOSTS_MAX];   /* of its policy "api" */
extern int host_count;

/* A segment that can sync, without policies and without a sync thread. */
struct weir *host_open(const char *secret);

/* A policy "api" with LIMIT, for both hosts_open() and hosts that a test makes itself. */
struct weir_policy host_policy(const char *limit, enum weir_consistency consistency,
			       enum weir_fail_mode fail_mode);

/* Rounds every 20 ms, and views that are stale after 400 ms. */
struct weir_sync_options host_sync(const char *url, uint32_t expected_hosts);

/* Start WEIR's sync thread with them. */
int host_start(struct weir *weir, const char *url, uint32_t expected_hosts,
	       struct weir_error *error);

/* COUNT hosts with POLICY and no sync thread yet. */
void hosts_create(int count, const struct weir_policy *policy);

/* The same, with a sync thread each, and views that are merged once. */
void hosts_open(int count, const char *url, const struct weir_policy *policy);

void hosts_close(void);

struct weir_sync_status status_of(struct weir *weir);

/* Is the oldest view of WEIR younger than 300 ms? */
bool is_fresh(struct weir *weir);

/* Wait until each host has fresh views, and knows of all others. */
void all_are_fresh(void);

/* The shard of KEY in policy "api". */
unsigned shard_of(const char *key);

/* Wait until HOST has merged COUNT more rounds of SHARD.  The term of the last one: another
 * one after each fence. */
uint64_t shard_goes_on(int host, unsigned shard, int count);

/* The same of all shards at once but LOST, which does not take as long. */
void other_shards_go_on(int host, unsigned lost, unsigned count);

bool ask(int host, const char *key, uint64_t cost, struct weir_decision *decision);
struct weir_decision look(int host, const char *key);

/* Take COUNT tokens, one by one, as a caller that honours retry_after does. */
void take(int host, const char *key, int count);

/* Refund COST tokens; reset KEY.  Both must be done. */
void give_back(int host, const char *key, uint64_t cost);
void forgive(int host, const char *key);

/* Wait until each host sees REMAINING of KEY.  A host that was never asked for a key has
 * no view of it: ask each. */
void all_agree_on(const char *key, uint64_t remaining);

/* What Redis has left of KEY after one token more, as a host sees it that knows
 * nothing of it: it comes, takes that token, and goes. */
uint64_t remaining_in_redis(const char *url, const struct weir_policy *policy, const char *key);

#endif
