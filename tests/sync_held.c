/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sync_held.h"

#include <string.h>

#define MORE 64         /* than any test takes on one host */

unsigned held_count[HOSTS_MAX];
static struct weir_hold held[HOSTS_MAX][MORE];

bool acquire_n(int host, uint64_t cost, struct weir_decision *decision)
{
	struct weir_request request = { .policy = ids[host], .key = HELD_KEY,
					.key_length = strlen(HELD_KEY), .cost = cost };

	ck_assert_uint_lt(held_count[host], MORE);
	if (!weir_acquire(hosts[host], &request, &held[host][held_count[host]], decision))
		return false;
	held_count[host]++;
	return true;
}

bool acquire(int host, struct weir_decision *decision)
{
	return acquire_n(host, 1, decision);
}

void release(int host, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		ck_assert_uint_gt(held_count[host], 0);
		ck_assert_int_eq(weir_release(hosts[host], &held[host][--held_count[host]]), 0);
	}
}

unsigned held_by_all(void)
{
	unsigned sum = 0;

	for (int i = 0; i < host_count; i++)
		sum += held_count[i];
	return sum;
}

void held_forget(void)
{
	memset(held_count, 0, sizeof(held_count));
}
