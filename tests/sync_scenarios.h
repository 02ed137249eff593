/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync_scenarios.h - what three hosts do with one Redis, and what must come of it whatever
 * the algorithm of their LIMIT.
 *
 * It is one of 365 days, so that nothing flows back meanwhile and no window ends, and of
 * 100 tokens where nothing else is said.
 */
#ifndef WEIR_TESTS_SYNC_SCENARIOS_H
#define WEIR_TESTS_SYNC_SCENARIOS_H

#include "tests/sync_redis.h"

#define HOSTS 3

/* The contract: 3 instances x 30 of 100 tokens, and all agree on 90. */
void thirty_each(const char *limit, enum weir_consistency consistency);

/* Three hosts that hammer one key admit the limit, which is 60, and the bound beyond it. */
void hammer_one_key(const char *limit);

/* Cut off by a pause: what was admitted meanwhile is merged after the heal. */
void cut_one_off(const char *limit);

/* Redis killed and back, empty: what was agreed is told to it again, and the tokens that
 * one host took MEANWHILE. */
void lose_redis(const char *limit, enum weir_fail_mode fail_mode, int meanwhile);

/* Redis stopped for longer than a call may take, and continued: what was in doubt is
 * neither lost nor charged twice.  The limit is 1000. */
void stop_redis(const char *limit);

/* A refund and a reset on one host reach the others, whose views are older. */
void refund_and_reset(const char *limit);

#endif
