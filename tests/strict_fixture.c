/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/strict_fixture.h"

#include <string.h>
#include <time.h>

#include "shm/segment.h"
#include "src/handle.h"

/* What must have happened since a token was had last: then no more are to be had.  A denial
 * asks Redis; its answers tell that this was heard, and that hosts which need less were asked
 * to give it back. */
#define DENIALS 60              /* to each host, on the average */
#define ANSWERS 20              /* of Redis, to each host */

void strict_create(int count, const char *limit, enum weir_fail_mode fail_mode)
{
	struct weir_policy policy = host_policy(limit, WEIR_STRICT, fail_mode);

	hosts_create(count, &policy);
}

void strict_open(int count, const char *url, const char *limit, enum weir_fail_mode fail_mode)
{
	struct weir_error error;

	strict_create(count, limit, fail_mode);
	for (int i = 0; i < count; i++)
		ck_assert_msg(host_start(hosts[i], url, (uint32_t)count, &error) == 0, "%s",
			      error.message);
}

bool strict_is_leased(int host, const char *key)
{
	return look(host, key).reason != WEIR_REASON_STALE;
}

void strict_fill(const char *key)
{
	struct weir_request request = { .policy = ids[0], .key = key,
					.key_length = strlen(key) };
	struct weir_decision decision;

	for (int i = 0; i < host_count; i++)
		wait_until(strict_is_leased(i, key));
	/* Ask, so that it has a bucket: again if the lease has lapsed meanwhile. */
	wait_until(!ask(0, key, 1, &decision) && look(0, key).reset_after_ns > 0);
	weir_reset(hosts[0], &request, &decision);
}

void strict_honour(const struct weir_decision *decision)
{
	uint64_t ns = decision->retry_after_ns < 20 * MS ? decision->retry_after_ns : 20 * MS;
	struct timespec wait = { .tv_nsec = (long)ns };

	nanosleep(&wait, NULL);
}

void strict_take(int host, const char *key, int count)
{
	for (int i = 0; i < count; i++) {
		struct weir_decision decision;

		for (int looks = 0; !ask(host, key, 1, &decision); looks++) {
			ck_assert_msg(looks < PATIENCE && decision.retry_after_ns != WEIR_NEVER,
				      "token %d of host %d never came: reason %s", i, host,
				      weir_reason_name(decision.reason));
			strict_honour(&decision);
		}
	}
}

struct lull {
	int denials;
	unsigned answers[HOSTS_MAX];
	uint64_t until_ns[HOSTS_MAX];   /* of the lease: moved by each answer */
};

static void note_denial(struct lull *lull, int host, const char *key)
{
	const struct shard_record *shard = &handle_control(hosts[host])->shards[shard_of(key)];
	uint64_t until_ns = atomic_load_relaxed(&shard->lease_until_ns);

	lull->denials++;
	lull->answers[host] += until_ns != lull->until_ns[host];
	lull->until_ns[host] = until_ns;
}

static bool is_over(const struct lull *lull, int first)
{
	bool over = lull->denials >= DENIALS * host_count;

	for (int i = first; i < host_count; i++)
		over &= lull->answers[i] >= ANSWERS;
	return over;
}

uint64_t strict_take_all_at(int first, const char *key, uint64_t cost)
{
	uint64_t admitted = 0;
	struct lull lull = { .denials = 0 };

	for (int looks = 0; !is_over(&lull, first); looks++) {
		ck_assert_msg(looks < PATIENCE, "Redis never answers that there is no more");
		for (int i = first; i < host_count; i++) {
			struct weir_decision decision;

			if (ask(i, key, cost, &decision)) {
				admitted += cost;
				lull = (struct lull){ .denials = 0 };
			} else {
				note_denial(&lull, i, key);
				strict_honour(&decision);
			}
		}
	}
	return admitted;
}

uint64_t strict_take_all(int first, const char *key)
{
	return strict_take_all_at(first, key, 1);
}
