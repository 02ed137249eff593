/* SPDX-License-Identifier: Apache-2.0 */
/* redis_private.h - what redis.c and redis_log_in.c share. */
#ifndef WEIR_SYNC_REDIS_PRIVATE_H
#define WEIR_SYNC_REDIS_PRIVATE_H

#include "sync/redis_link.h"
#include "sync/redis_lookup.h"
#include "sync/redis_sentinel.h"
#include "sync/redis_tls.h"

#define SHA_LENGTH 40

struct script {
	char *source;
	size_t length;
	char sha[SHA_LENGTH + 1];       /* as of the last SCRIPT LOAD */
};

struct redis {
	struct redis_options options;
	struct redis_options node;      /* the server that they lead to */
	int interrupt_fd;               /* eventfd */
	struct redis_link *link;
	struct redis_sentinel *sentinel;        /* NULL unless they are to be asked */
	struct redis_tls *tls;
	bool beside;                    /* tls and interrupt_fd are another's */
	struct redis_lookup *lookup;    /* one that outlasted its deadline */
	struct redis_identity identity;

	struct script scripts[REDIS_SCRIPTS_MAX];
	unsigned script_count;

	unsigned queued;                /* calls appended since the last flush */
};

/* ---- redis_log_in.c ---------------------------------------------------- */

/* AUTH, ROLE, SELECT, SCRIPT LOAD and INFO, on a link that has just been opened. */
enum redis_error redis_log_in(struct redis *redis, uint64_t deadline_ns,
			      struct weir_error *error);

/* Queue a command of at most three words. */
enum redis_error redis_append_words(struct redis *redis, int argc, const char *const *argv);
enum redis_error redis_append_load(struct redis *redis, const struct script *script);

/* Keep the name under which Redis knows the script, or false. */
bool redis_keep_sha(struct script *script, const struct redis_reply *reply);

/* NONE if it is not an error. */
enum redis_error redis_reply_error(const struct redis_reply *reply);

#endif
