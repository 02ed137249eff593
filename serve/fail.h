/* SPDX-License-Identifier: Apache-2.0 */
/* fail.h - how what the service starts with reports what went wrong: as weir.h's
 * functions do. */
#ifndef WEIR_SERVE_FAIL_H
#define WEIR_SERVE_FAIL_H

#include <stdarg.h>
#include <stdio.h>

#include "weir.h"

/* Fill in ERROR and return STATUS, which is negative.  "%m" prints errno. */
__attribute__((format(printf, 3, 4), cold)) static inline int
fail(struct weir_error *error, int status, const char *format, ...)
{
	va_list arguments;

	error->status = status;
	va_start(arguments, format);
	vsnprintf(error->message, sizeof(error->message), format, arguments);
	va_end(arguments);
	return status;
}

#endif
