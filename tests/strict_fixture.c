/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/strict_fixture.h"

#include <string.h>
#include <time.h>

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

uint64_t strict_take_all(int first, const char *key)
{
	uint64_t admitted = 0;
	int denied = 0;

	while (denied < 60 * host_count) {
		for (int i = first; i < host_count; i++) {
			struct weir_decision decision;

			if (ask(i, key, 1, &decision)) {
				admitted++;
				denied = 0;
			} else {
				denied++;
				strict_honour(&decision);
			}
		}
	}
	return admitted;
}
