/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_link.h - bytes to Redis and replies from it, by a deadline: what is
 * below the calls of redis.h.  For redis.c only; the rules of redis.h hold.
 */
#ifndef WEIR_SYNC_REDIS_LINK_H
#define WEIR_SYNC_REDIS_LINK_H

#include "sync/redis.h"
#include "sync/redis_tls.h"

/* Kept at a time: of a few flushes, and of loading the scripts after them. */
#define REDIS_LINK_REPLIES_MAX (4 * REDIS_CALLS_MAX)

struct redis_link;

/* Make one whose waits end at once when INTERRUPT_FD, an eventfd that stays its
 * owner's, is readable.  OPTIONS live as long as it does.  NULL without memory. */
struct redis_link *redis_link_create(const struct redis_options *options, int interrupt_fd);
void redis_link_destroy(struct redis_link *link);

/* What messages begin with: the URL of OPTIONS as they were when it was created,
 * unless it is called something else. */
const char *redis_link_place(const struct redis_link *link);
void redis_link_set_place(struct redis_link *link, const char *place);

/* Take over the connected socket FD, also on failure; with TLS (may be NULL)
 * shake hands first. */
enum redis_error redis_link_open(struct redis_link *link, int fd, const struct redis_tls *tls,
				 uint64_t deadline_ns, struct weir_error *error);

/* Close it; replies stay. */
void redis_link_close(struct redis_link *link);
bool redis_link_is_open(const struct redis_link *link);

/* Close it because of KIND, say why, and return KIND. */
enum redis_error redis_link_fail(struct redis_link *link, enum redis_error kind,
				 struct weir_error *error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Queue a command.  NONE, or NO_ROOM, and the link is closed. */
enum redis_error redis_link_append(struct redis_link *link, int argc, const char *const *argv,
				   const size_t *lengths);

/* Before anything is sent: has Redis closed the connection (NOT_CONNECTED), or
 * said something that nobody waits for (PROTOCOL)? */
enum redis_error redis_link_check(struct redis_link *link, struct weir_error *error);

/* One link's part of an exchange of several. */
struct redis_exchange {
	struct redis_link *link;        /* open */
	unsigned count;                 /* replies to read */
	enum redis_error result;
	struct weir_error *error;       /* may be NULL */

	unsigned end;                   /* redis_link.c's own: replies there are then */
	bool sent;
	bool over;
};

#define REDIS_EXCHANGES_MAX 32u

/* Send what is queued on each link and read as many more replies as it waits for.
 * A link that fails is closed, and the replies that had arrived are there; the
 * others go on.  All links have one interrupt_fd. */
void redis_link_exchange_all(struct redis_exchange *exchanges, unsigned count,
			     uint64_t deadline_ns);

/* The same with one link. */
enum redis_error redis_link_exchange(struct redis_link *link, unsigned count,
				     uint64_t deadline_ns, struct weir_error *error);

unsigned redis_link_reply_count(const struct redis_link *link);
const struct redis_reply *redis_link_reply(const struct redis_link *link, unsigned index);
void redis_link_free_replies(struct redis_link *link);

#endif
