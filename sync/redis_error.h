/* SPDX-License-Identifier: Apache-2.0 */
/* redis_error.h - what can go wrong with a call to Redis, and what follows from
 * it.  Pure functions, for any thread. */
#ifndef WEIR_SYNC_REDIS_ERROR_H
#define WEIR_SYNC_REDIS_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum redis_error {
	REDIS_ERROR_NONE,

	/* Redis refused the call for now. */
	REDIS_ERROR_NOSCRIPT,           /* the scripts are loaded again: call again */
	REDIS_ERROR_READONLY,           /* a replica: the master is elsewhere */
	REDIS_ERROR_MOVED,              /* Cluster: the reply says where to */
	REDIS_ERROR_ASK,                /* Cluster: as MOVED, for this call only */
	REDIS_ERROR_TRYAGAIN,
	REDIS_ERROR_CLUSTERDOWN,
	REDIS_ERROR_LOADING,
	REDIS_ERROR_BUSY,               /* another script runs for too long */
	REDIS_ERROR_MASTERDOWN,
	REDIS_ERROR_OOM,
	REDIS_ERROR_NOREPLICAS,
	REDIS_ERROR_MISCONF,            /* Redis cannot save, and takes no writes */
	REDIS_ERROR_MAXCLIENTS,

	/* Redis refuses it until a person changes something. */
	REDIS_ERROR_NOAUTH,
	REDIS_ERROR_WRONGPASS,
	REDIS_ERROR_NOPERM,
	REDIS_ERROR_DATABASE,           /* there is none of that number */
	REDIS_ERROR_WRONGTYPE,
	REDIS_ERROR_DENIED,             /* protected mode */
	REDIS_ERROR_OTHER,              /* any other error reply */
	REDIS_ERROR_NO_MASTER,          /* the sentinels know none of that name */

	/* There is no connection, or no more. */
	REDIS_ERROR_NOT_CONNECTED,      /* nothing of these calls was sent */
	REDIS_ERROR_RESOLVE,            /* the host's name has no address */
	REDIS_ERROR_CONNECT,
	REDIS_ERROR_TLS,
	REDIS_ERROR_TIMEOUT,
	REDIS_ERROR_CUT,                /* the other end closed, or the network did */
	REDIS_ERROR_PROTOCOL,           /* what came is not what Redis sends */
	REDIS_ERROR_INTERRUPTED,        /* by redis_interrupt() */
	REDIS_ERROR_NO_ROOM,            /* out of memory, or too many calls at once */

	REDIS_ERROR_COUNT
};

/* What became of a call. */
enum redis_fate {
	REDIS_EXECUTED,
	REDIS_NOT_EXECUTED,
	REDIS_DOUBTFUL,                 /* executed or not, now or later: fence */
};

/* "noscript", "timeout", ... */
const char *redis_error_name(enum redis_error error);

enum redis_fate redis_error_fate(enum redis_error error);

/* What a person can do about an error reply: "raise Redis' maxmemory", ... */
const char *redis_error_advice(enum redis_error error);

/* Does it take a person to mend it?  Then retry slowly. */
bool redis_error_permanent(enum redis_error error);

/* Does the connection not outlive it? */
bool redis_error_fatal(enum redis_error error);

/* Which error is the error reply of LENGTH bytes at TEXT (without its '-')?
 * Redis 6 wraps an error that a script ran into in one of its own: what is
 * inside counts. */
enum redis_error redis_error_classify(const char *text, size_t length);

/* How long to wait before attempt ATTEMPT (from 0) to connect again: a random
 * time ("full jitter", so that hosts that lost Redis together do not come back
 * together) below a ceiling that doubles with each attempt, 1 ms to 1 s, or 1 s
 * to 60 s if the error is PERMANENT.  RANDOM is any 64 random bits. */
uint64_t redis_backoff_ns(unsigned attempt, uint64_t random, bool permanent);

#endif
