/* SPDX-License-Identifier: Apache-2.0 */
/* trouble.h - what is wrong between this host and Redis: for the process that has the sync
 * thread, and, as the leader's word, in the segment for all that are asked. */
#ifndef WEIR_SYNC_TROUBLE_H
#define WEIR_SYNC_TROUBLE_H

#include <pthread.h>
#include <stdint.h>

#include "shm/report.h"
#include "sync/redis_error.h"

struct trouble {
	struct segment *segment;
	pthread_mutex_t mutex;          /* of text */
	char text[REPORT_TEXT_SIZE];    /* what was said last; "" if nothing is wrong */
	enum redis_error kind;
};

void trouble_init(struct trouble *trouble, struct segment *segment);
void trouble_end(struct trouble *trouble);

/* KIND has happened, in words TEXT.  Counts it. */
void trouble_is(struct trouble *trouble, enum redis_error kind, const char *text);

/* By the leader, after each of its turns: the calls of SHARDS, a bit each, fail.  None:
 * what was said is over. */
void trouble_tell(struct trouble *trouble, unsigned shards, uint64_t now_ns);

/* What was said last.  Any thread. */
void trouble_copy(struct trouble *trouble, char *text, size_t size);

#endif
