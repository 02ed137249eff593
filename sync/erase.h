/* SPDX-License-Identifier: Apache-2.0 */
/* erase.h - what hosts keep in Redis is deleted. */
#ifndef WEIR_SYNC_ERASE_H
#define WEIR_SYNC_ERASE_H

#include "weir.h"

/* Delete every key of keys.h under the prefix.  Not while SIGPIPE can be delivered
 * to this thread: see redis.h. */
int sync_erase(const struct weir_sync_options *options, struct weir_error *error);

/* Will the prefix do? */
int sync_prefix_check(const char *prefix, struct weir_error *error);

#endif
