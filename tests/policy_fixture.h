/* SPDX-License-Identifier: Apache-2.0 */
/* policy_fixture.h - policies of several hosts, and what Redis has of them. */
#ifndef WEIR_TESTS_POLICY_FIXTURE_H
#define WEIR_TESTS_POLICY_FIXTURE_H

#include <hiredis/hiredis.h>

#include "tests/sync_redis.h"

/* Policy NAME of HOST. */
void set(int host, const char *name, const char *limits, enum weir_consistency consistency);

/* A command beside the hosts' own, in hiredis' format.  An error fails the test. */
redisReply *redis(const char *format, ...);

/* The only one that HOST has, once it has one. */
struct weir_disagreement disagreement(int host);

/* Is it that another host has the limits THEIRS? */
bool is_told(int host, const char *theirs);

/* HOST knows of no disagreement. */
bool agrees(int host);

#endif
