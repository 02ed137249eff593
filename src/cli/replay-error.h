/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_CLI_REPLAY_ERROR_H
#define WEIR_CLI_REPLAY_ERROR_H

#include "weir.h"

/* Fill ERROR with a sentence.  It may hold bytes of a log as they are: who
 * prints it escapes them.  Returns STATUS. */
int replay_error_set(struct weir_error *error, enum weir_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
