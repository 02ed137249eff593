/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.h - how a function of the library reports what went wrong.
 *
 * A function that fails ends in
 *
 *	return weir_fail(error, WEIR_EINVAL, "what is wrong (value); what to do", ...);
 *
 * and one that succeeds in `return weir_ok(error);`, so that a caller who
 * reuses a struct weir_error never reads the sentence of an earlier failure.
 */
#ifndef WEIR_ERROR_H
#define WEIR_ERROR_H

#include "weir.h"

/* Fill in ERROR (may be NULL) and return STATUS, which is negative.  A sentence
 * that does not fit is cut and ends in "...".  errno is left as it is, and "%m"
 * prints it.  Arguments may point into ERROR itself, to put more words around
 * an earlier message. */
int weir_fail(struct weir_error *error, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4), cold));

/* Clear ERROR (may be NULL) and return WEIR_OK. */
int weir_ok(struct weir_error *error);

/* Write LENGTH bytes of TEXT into QUOTED so that they can stand in a message:
 * bytes that are not printable ASCII become \xNN, and what does not fit is cut
 * and ends in "...".  SIZE is at least 8.  Returns QUOTED. */
const char *weir_quote(const char *text, size_t length, char *quoted, size_t size);

#endif
