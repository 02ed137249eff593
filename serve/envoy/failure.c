/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int envoy_fail(struct weir_error *error, int status, const char *format, ...)
{
	char message[sizeof(error->message)];
	va_list arguments;
	int length;

	if (!error)
		return status;
	va_start(arguments, format);
	length = vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	if (length >= (int)sizeof(message))
		memcpy(message + sizeof(message) - 4, "...", 4);
	memcpy(error->message, message, sizeof(message));
	error->status = status;
	return status;
}

int envoy_ok(struct weir_error *error)
{
	if (error) {
		error->status = WEIR_OK;
		error->message[0] = '\0';
	}
	return WEIR_OK;
}
