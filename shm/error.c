/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char ellipsis[] = "...";

int weir_fail(struct weir_error *error, int status, const char *format, ...)
{
	char message[sizeof(error->message)];
	int saved_errno = errno;
	va_list arguments;
	int length;

	if (!error)
		return status;

	va_start(arguments, format);
	length = vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	if (length < 0)
		strcpy(message, "the error message could not be formatted");
	else if ((size_t)length >= sizeof(message))
		memcpy(message + sizeof(message) - sizeof(ellipsis), ellipsis, sizeof(ellipsis));

	/* Messages promise to be one line; names from outside may hold anything. */
	for (char *c = message; *c; c++)
		if (*c == '\n' || *c == '\r')
			*c = ' ';

	error->status = status;
	memcpy(error->message, message, sizeof(message));
	errno = saved_errno;
	return status;
}

int weir_ok(struct weir_error *error)
{
	if (error) {
		error->status = WEIR_OK;
		error->message[0] = '\0';
	}
	return WEIR_OK;
}

const char *weir_quote(const char *text, size_t length, char *quoted, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	size_t used = 0;
	size_t cut = 0;         /* where dots can still go; never inside an escape */

	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)text[i];
		bool plain = byte >= 0x20 && byte < 0x7f && byte != '\\';

		if (used + sizeof(ellipsis) <= size)
			cut = used;
		if (used + (plain ? 1 : 4) >= size) {
			memcpy(quoted + cut, ellipsis, sizeof(ellipsis));
			return quoted;
		}
		if (plain) {
			quoted[used++] = (char)byte;
		} else {
			quoted[used++] = '\\';
			quoted[used++] = 'x';
			quoted[used++] = digits[byte >> 4];
			quoted[used++] = digits[byte & 15];
		}
	}
	quoted[used] = '\0';
	return quoted;
}
