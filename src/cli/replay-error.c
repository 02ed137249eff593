/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-error.h"

#include <stdarg.h>
#include <stdio.h>

int replay_error_set(struct weir_error *error, enum weir_status status, const char *format, ...)
{
	va_list arguments;

	error->status = status;
	va_start(arguments, format);
	vsnprintf(error->message, sizeof(error->message), format, arguments);
	va_end(arguments);
	return status;
}
