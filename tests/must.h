/* SPDX-License-Identifier: Apache-2.0 */
/* must.h - what must hold in threads, forked workers and fuzzers, where Check's assertions
 * cannot be used; and in every kind of build, unlike with assert(). */
#ifndef WEIR_TESTS_MUST_H
#define WEIR_TESTS_MUST_H

#include <stdio.h>
#include <stdlib.h>

#define must(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: must hold: %s (%m)\n", __FILE__, __LINE__, \
				#condition); \
			abort(); \
		} \
	} while (0)

#endif
