/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sync_fixture.h"

#include <string.h>
#include <time.h>

#include "shm/atomic.h"
#include "shm/hash.h"
#include "shm/policy_table.h"
#include "shm/table.h"
#include "src/handle.h"

const char host_secret[WEIR_SECRET_SIZE + 1] = "sixteen bytes...";

struct weir *hosts[HOSTS_MAX];
weir_policy_id ids[HOSTS_MAX];
int host_count;

void nap(void)
{
	struct timespec millisecond = { .tv_nsec = 1000000 };

	nanosleep(&millisecond, NULL);
}

/* ---- Making them ------------------------------------------------------- */

struct weir *host_open(const char *secret)
{
	struct weir_options options;

	weir_options_init(&options);
	options.slots = 1024;
	options.sync = true;
	options.secret = secret;
	return fixture_open(&options);
}

struct weir_policy host_policy(const char *limit, enum weir_consistency consistency,
			       enum weir_fail_mode fail_mode)
{
	struct weir_policy policy = fixture_policy("api", limit);

	policy.consistency = consistency;
	policy.fail_mode = fail_mode;
	return policy;
}

struct weir_sync_options host_sync(const char *url, uint32_t expected_hosts)
{
	struct weir_sync_options options;

	weir_sync_options_init(&options);
	options.url = url;
	options.interval_ns = 20 * MS;
	options.max_staleness_ns = 400 * MS;
	options.expected_hosts = expected_hosts;
	return options;
}

int host_start(struct weir *weir, const char *url, uint32_t expected_hosts,
	       struct weir_error *error)
{
	struct weir_sync_options options = host_sync(url, expected_hosts);

	return weir_sync_start(weir, &options, error);
}

void hosts_create(int count, const struct weir_policy *policy)
{
	ck_assert_int_le(count, HOSTS_MAX);
	host_count = count;
	for (int i = 0; i < count; i++) {
		hosts[i] = host_open(host_secret);
		ck_assert_int_eq(weir_policy_set(hosts[i], policy, 1, NULL), 0);
		ids[i] = weir_policy_find(hosts[i], policy->name);
	}
}

void hosts_open(int count, const char *url, const struct weir_policy *policy)
{
	struct weir_error error;

	hosts_create(count, policy);
	for (int i = 0; i < count; i++)
		ck_assert_msg(host_start(hosts[i], url, (uint32_t)count, &error) == 0, "%s",
			      error.message);
	all_are_fresh();
}

void hosts_close(void)
{
	for (int i = 0; i < host_count; i++) {
		weir_close(hosts[i]);
		hosts[i] = NULL;
	}
	host_count = 0;
}

/* ---- Asking them ------------------------------------------------------- */

struct weir_sync_status status_of(struct weir *weir)
{
	struct weir_sync_status status;
	struct weir_error error;

	ck_assert_msg(weir_sync_status(weir, &status, &error) == 0, "%s", error.message);
	return status;
}

bool is_fresh(struct weir *weir)
{
	return status_of(weir).staleness_ns < 300 * MS;
}

void all_are_fresh(void)
{
	for (int i = 0; i < host_count; i++)
		wait_until(is_fresh(hosts[i]) &&
			   status_of(hosts[i]).hosts == (uint64_t)host_count);
}

unsigned shard_of(const char *key)
{
	const struct segment *segment = handle_control(hosts[0]);
	struct fingerprint name;
	struct limit limit;

	policy_limit(segment, policy_version(segment), policy_index(ids[0]), 0, &limit);
	name = hash_fingerprint(&segment->hash, limit.key[0], limit.key[1], key, strlen(key));
	return slot_shard(name.low);
}

uint64_t shard_goes_on(int host, unsigned shard, int count)
{
	const struct shard_record *record = &handle_control(hosts[host])->shards[shard];

	for (int i = 0; i < count; i++) {
		uint64_t before = atomic_load_relaxed(&record->acked_tag);

		wait_until(atomic_load_relaxed(&record->acked_tag) != before);
	}
	return atomic_load_relaxed(&record->acked_tag) >> 32;
}

void other_shards_go_on(int host, unsigned lost, unsigned count)
{
	const struct shard_record *records = handle_control(hosts[host])->shards;
	uint64_t before[SYNC_SHARDS];

	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		before[i] = atomic_load_relaxed(&records[i].acked_tag);
	/* A tag grows by one with each round, and by more with a fence. */
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		if (i != lost)
			wait_until(atomic_load_relaxed(&records[i].acked_tag) >= before[i] + count);
	}
}

bool ask(int host, const char *key, uint64_t cost, struct weir_decision *decision)
{
	return weir_allow_n(hosts[host], ids[host], key, strlen(key), cost, decision);
}

static struct weir_request request_of(int host, const char *key, uint64_t cost)
{
	return (struct weir_request){ .policy = ids[host], .key = key,
				      .key_length = strlen(key), .cost = cost };
}

struct weir_decision look(int host, const char *key)
{
	struct weir_request request = request_of(host, key, 1);
	struct weir_decision decision;

	weir_status(hosts[host], &request, &decision);
	return decision;
}

void take(int host, const char *key, int count)
{
	for (int i = 0; i < count; i++) {
		struct weir_decision decision;

		wait_until(ask(host, key, 1, &decision) || decision.reason == WEIR_REASON_LIMIT);
		ck_assert_int_eq(decision.outcome, WEIR_ALLOWED);
	}
}

void give_back(int host, const char *key, uint64_t cost)
{
	struct weir_request request = request_of(host, key, cost);

	ck_assert(weir_refund(hosts[host], &request, NULL));
}

void forgive(int host, const char *key)
{
	struct weir_request request = request_of(host, key, 1);

	ck_assert(weir_reset(hosts[host], &request, NULL));
}

void all_agree_on(const char *key, uint64_t remaining)
{
	for (int i = 0; i < host_count; i++)
		wait_until(look(i, key).remaining == remaining);
}

uint64_t remaining_in_redis(const char *url, const struct weir_policy *policy, const char *key)
{
	struct weir *weir = host_open(host_secret);
	struct weir_request request = { .key = key, .key_length = strlen(key), .cost = 1 };
	struct weir_decision decision;

	ck_assert_int_eq(weir_policy_set(weir, policy, 1, NULL), 0);
	request.policy = weir_policy_find(weir, policy->name);
	ck_assert_int_eq(host_start(weir, url, (uint32_t)host_count + 1, NULL), 0);
	wait_until(is_fresh(weir));
	wait_until(weir_allow(weir, request.policy, key, strlen(key), NULL));
	wait_until(status_of(weir).unmerged_tokens == 0);
	weir_status(weir, &request, &decision);
	weir_close(weir);
	return decision.remaining;
}
