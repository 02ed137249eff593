/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_sentinel.h - asking sentinels where the master is.  For redis.c only; the
 * rules of redis.h hold.
 *
 * A search asks one sentinel after the other, the one that led to the master last
 * time first, until what one of them names turns out to be it: they may disagree for a
 * while, name a master that is gone, or be gone themselves.  It never waits for
 * them to agree; whoever searches tries again later.
 */
#ifndef WEIR_SYNC_REDIS_SENTINEL_H
#define WEIR_SYNC_REDIS_SENTINEL_H

#include "sync/redis_error.h"
#include "sync/redis_tls.h"
#include "sync/redis_url.h"

struct redis_sentinel;

/* For the seeds and the master of OPTIONS, which live as long as it does, as do TLS
 * (may be NULL) and INTERRUPT_FD.  NULL without memory. */
struct redis_sentinel *redis_sentinel_create(const struct redis_options *options,
					     const struct redis_tls *tls, int interrupt_fd);
void redis_sentinel_destroy(struct redis_sentinel *sentinel);

/* Begin a search, which has until DEADLINE_NS. */
void redis_sentinel_begin(struct redis_sentinel *sentinel, uint64_t deadline_ns);

/* Find the next address that a sentinel says is the MASTER's and that this search
 * has not found yet, and until when to try it.  NONE, INTERRUPTED, or what went
 * wrong when all were asked; ERROR says what each of them said. */
enum redis_error redis_sentinel_next(struct redis_sentinel *sentinel,
				     struct redis_address *master, uint64_t *try_until_ns,
				     struct weir_error *error);

/* The last address found was not the master's, because of KIND and ERROR. */
void redis_sentinel_reject(struct redis_sentinel *sentinel, enum redis_error kind,
			   const struct weir_error *error);

/* It was. */
void redis_sentinel_accept(struct redis_sentinel *sentinel);

#endif
