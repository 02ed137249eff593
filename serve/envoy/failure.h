/* SPDX-License-Identifier: Apache-2.0 */
/* failure.h - how a function of this folder reports what went wrong: as those of weir.h. */
#ifndef WEIR_SERVE_FAILURE_H
#define WEIR_SERVE_FAILURE_H

#include "weir.h"

/* Fill in ERROR (may be NULL) and return STATUS, which is negative.  What does not fit is
 * cut and ends in "...".  "%m" prints errno, and arguments may point into ERROR. */
int envoy_fail(struct weir_error *error, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4), cold));

/* Clear ERROR (may be NULL) and return WEIR_OK. */
int envoy_ok(struct weir_error *error);

#endif
