/* SPDX-License-Identifier: Apache-2.0 */
/* strict_fixture.h - hosts of mode strict, on top of sync_fixture.h. */
#ifndef WEIR_TESTS_STRICT_FIXTURE_H
#define WEIR_TESTS_STRICT_FIXTURE_H

#include "tests/sync_fixture.h"

/* COUNT hosts with LIMIT, and no sync thread yet; or with one each. */
void strict_create(int count, const char *limit, enum weir_fail_mode fail_mode);
void strict_open(int count, const char *url, const char *limit, enum weir_fail_mode fail_mode);

/* Has the host a lease, so that the cluster's view decides? */
bool strict_is_leased(int host, const char *key);

/* An epoch begins with an empty bucket for every key: make KEY's a full one. */
void strict_fill(const char *key);

/* Sleep as a caller that honours retry_after, within reason. */
void strict_honour(const struct weir_decision *decision);

/* Take COUNT tokens of KEY, one by one. */
void strict_take(int host, const char *key, int count);

/* All that can be had now of KEY by the hosts from FIRST on. */
uint64_t strict_take_all(int first, const char *key);
/* The same by requests of COST. */
uint64_t strict_take_all_at(int first, const char *key, uint64_t cost);

#endif
