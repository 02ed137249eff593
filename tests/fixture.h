/* SPDX-License-Identifier: Apache-2.0 */
/* fixture.h - what the unit tests share: segments and policies to test on. */
#ifndef WEIR_TESTS_FIXTURE_H
#define WEIR_TESTS_FIXTURE_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir.h"
#include "shm/limit.h"

struct segment;

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define MS 1000000ull
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

/* ck_assert() for loops of millions: it costs nothing unless it fails. */
#define must(expression) \
	((expression) ? (void)0 : ck_abort_msg("Assertion '%s' failed", #expression))

/* A time as a caller's clock would tell it: some day in 2024. */
#define EPOCH (1720000000 * SECOND)

/* A segment of the test's own.  Its name goes as soon as it is open, so that
 * nothing stays behind however the test ends; forked children have the handle.
 * OPTIONS may be NULL: the defaults, with the caller's clock. */
struct weir *fixture_open(const struct weir_options *options);

/* The same with SLOTS slots. */
struct weir *fixture_open_slots(uint64_t slots);

/* The same, by the system's clock, with fixture_sync(); but there is no sync thread: the test
 * collects and merges. */
struct weir *fixture_open_synced(uint64_t slots, uint64_t interval_ns);

/* As if hosts shared SEGMENT by rounds that are INTERVAL_NS apart. */
void fixture_sync(struct segment *segment, uint64_t interval_ns);

/* A policy NAME with LIMITS, which are separated by ", ". */
struct weir_policy fixture_policy(const char *name, const char *limits);

/* Set it and find its id. */
weir_policy_id fixture_set(struct weir *weir, const char *name, const char *limits);

/* LIMIT (with its BURST) as a segment compiles it. */
struct limit fixture_compile(const struct weir_limit *limit);

/* The counter NAME of all policies. */
uint64_t fixture_counter(const struct weir *weir, const char *name);

/* A number below BOUND, from a generator that starts anew with each *STATE. */
uint64_t fixture_random(uint64_t *state, uint64_t bound);

/* True in the suite soak: run the long form. */
bool fixture_soak(void);

#endif
