/* SPDX-License-Identifier: Apache-2.0 */
/* sync_held.h - what hosts hold of one key of a concurrency limit, as the test took it. */
#ifndef WEIR_TESTS_SYNC_HELD_H
#define WEIR_TESTS_SYNC_HELD_H

#include "tests/sync_fixture.h"

#define HELD_KEY "key"

extern unsigned held_count[HOSTS_MAX];

/* Take COST units; false if they cannot be had.  DECISION may be NULL. */
bool acquire_n(int host, uint64_t cost, struct weir_decision *decision);
bool acquire(int host, struct weir_decision *decision);

/* Give back the last COUNT that HOST took. */
void release(int host, unsigned count);

unsigned held_by_all(void);

/* Of a checked fixture: nobody holds anything. */
void held_forget(void);

#endif
