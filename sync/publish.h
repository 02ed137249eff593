/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.h - change what is published.
 *
 * Open reads what is there; the caller changes publisher->publication; an offer takes
 * it to Redis, unless another publisher was there meanwhile.  Neither may be called
 * while SIGPIPE can be delivered to this thread: see redis.h.
 */
#ifndef WEIR_SYNC_PUBLISH_H
#define WEIR_SYNC_PUBLISH_H

#include "shm/segment.h"
#include "sync/keys.h"
#include "sync/publication.h"
#include "sync/redis_route.h"

struct publisher {
	const struct segment *segment;
	struct redis_route *route;
	char key[SYNC_KEY_SIZE];
	char *there;                            /* the tag that was read, */
	size_t there_length;                    /* 0: there was none */
	struct publication publication;
	unsigned char tag[TAG_SIZE];            /* of what was offered */
};

/* Errors: WEIR_EINVAL (URL, prefix, another cluster's secret, a publication that
 * cannot be read), WEIR_ENOMEM, WEIR_ESYSTEM.  Close it in any case. */
int publisher_open(struct publisher *publisher, const struct segment *segment,
		   const struct weir_sync_options *options, struct weir_error *error);

/* Errors: WEIR_EBUSY (somebody else has published since), WEIR_EINVAL, WEIR_ENOMEM,
 * WEIR_ESYSTEM (then it may have been published, or not). */
int publisher_offer(struct publisher *publisher, struct weir_error *error);

void publisher_close(struct publisher *publisher);

#endif
