/* SPDX-License-Identifier: Apache-2.0 */
/* thread.h - a process's sync thread for one segment. */
#ifndef WEIR_SYNC_THREAD_H
#define WEIR_SYNC_THREAD_H

#include "shm/segment.h"

int sync_start(struct segment *segment, const struct weir_sync_options *options,
	       struct weir_error *error);

/* Stop the segment's thread and wait for it; nothing if it has none. */
void sync_stop(struct segment *segment);

/* In a forked child: there is no such thread here. */
void sync_after_fork(struct segment *segment);

/* What went wrong last in this process's thread, if it has one. */
void sync_last_error(const struct segment *segment, char *text, size_t size);

#endif
