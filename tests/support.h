/* SPDX-License-Identifier: Apache-2.0 */
/* support.h - what the tests on whole segments share. */
#ifndef WEIR_TESTS_SUPPORT_H
#define WEIR_TESTS_SUPPORT_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include "tests/must.h"
#include "weir.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_THREAD_SANITIZER 1
#endif
#endif
#ifndef UNDER_THREAD_SANITIZER
#define UNDER_THREAD_SANITIZER 0
#endif

/* ---- Running ----------------------------------------------------------- */

/* Run SUITE with a directory for its segments, which is removed afterwards,
 * however its tests end.  Returns main()'s result. */
int support_main(Suite *suite);

/* Add TEST, which may take SECONDS before it counts as hung. */
void support_add(Suite *suite, const char *name, const TTest *test, double seconds);

/* SHORT_FORM, or LONG_FORM in the suite soak. */
uint64_t support_amount(uint64_t short_form, uint64_t long_form);

/* ---- Random numbers ---------------------------------------------------- */

struct random_state {
	uint64_t state;
};

/* WEIR_TEST_SEED, or a new one, which is printed: a failure can be repeated as
 * far as it does not depend on the scheduler. */
uint64_t support_seed(void);

/* Streams of one seed differ by their STREAM. */
struct random_state random_start(uint64_t seed, uint64_t stream);
uint64_t random_next(struct random_state *random);
uint64_t random_below(struct random_state *random, uint64_t bound);

/* ---- Segments ---------------------------------------------------------- */

/* Small: 1024 slots, 16 policies, 256 holds. */
void support_options(struct weir_options *options);

/* Make a segment and open it.  Its name is gone when this returns, so that
 * nothing is left behind; forked workers have it all the same. */
struct weir *support_segment(const struct weir_options *options);

/* As support_segment(), but it keeps its name: WORD in the suite's directory. */
struct weir *support_named(const struct weir_options *options, const char *word, char *name,
			   size_t size);

/* A policy of the limits that follow, up to a NULL. */
struct weir_policy support_policy(const char *name, ...) __attribute__((sentinel));

/* Define it.  Returns its id. */
weir_policy_id support_define(struct weir *weir, const struct weir_policy *policy);

/* Counter NAME, of POLICY or (NULL) of all. */
uint64_t support_counter(const struct weir *weir, const char *name, const char *policy);

/* The bucket of limit LIMIT_INDEX of POLICY for KEY; false if there is none. */
bool support_bucket(const struct weir *weir, const char *policy, uint32_t limit_index,
		    const void *key, size_t key_length, uint64_t now_ns,
		    struct weir_bucket *bucket);

/* ---- Processes --------------------------------------------------------- */

/* Memory that forked workers share, all zero. */
void *support_shared(size_t size_bytes);

/* Fork a worker that dies with its parent.  It leaves by _exit(). */
pid_t support_fork(void);

/* Wait for the worker, which must end well. */
void support_join(pid_t worker);

#endif
