/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis.h - one connection to one Redis, for the sync thread.
 *
 * RULES
 *
 *  - Nothing here is ever called on the decision path.
 *  - A struct redis belongs to one thread.  redis_interrupt() alone may be
 *    called from any thread, and from a signal handler.
 *  - Every call ends by a deadline: connect_ms for redis_connect(), command_ms
 *    for redis_flush_and_read(), of the options.
 *  - That thread must block SIGPIPE, or all signals: hiredis (and OpenSSL) write
 *    without MSG_NOSIGNAL.
 *  - A connection on which anything went wrong but an error reply is dead and
 *    closed before the call returns.  What was in flight on it is in doubt
 *    (redis_error_fate): Redis may execute it even later.  There is no way to
 *    mend a connection, only redis_connect(), which starts from nothing.
 *  - Replies are matched to calls by their order alone.  A reply too many is
 *    found out by the end of the next flush, if not of the same: let the calls
 *    carry a number that the script returns.
 *
 * INTERRUPTING
 *
 *  redis_interrupt() makes a blocked call return REDIS_ERROR_INTERRUPTED at
 *  once, and all later ones, until the owner calls redis_rearm().  It writes to
 *  an eventfd that every wait polls.  shutdown() on the socket would do less:
 *  there is no socket yet while the host is looked up, none that shutdown()
 *  works on while it connects, and its number may already stand for another
 *  file when another thread uses it.
 *
 *  To stop or pause: set a flag, then interrupt.  The owner: rearm, then read
 *  the flag.
 */
#ifndef WEIR_SYNC_REDIS_H
#define WEIR_SYNC_REDIS_H

#include "sync/redis_error.h"
#include "sync/redis_url.h"

#define REDIS_SCRIPTS_MAX 4u            /* scripts of one struct redis */
#define REDIS_CALLS_MAX 256u            /* calls in one flush */
#define REDIS_ARGUMENTS_MAX 64          /* arguments of a call */
#define REDIS_REPLIES_MAX_BYTES (64u << 20)     /* of one flush, unread */
#define REDIS_ELEMENTS_MAX 65536u       /* of an array in a reply */
#define REDIS_DEPTH_MAX 7u              /* of arrays in arrays */

struct redis;
struct redis_reply;

enum redis_type {
	REDIS_TYPE_NONE,                /* no reply at all */
	REDIS_TYPE_STRING,
	REDIS_TYPE_STATUS,              /* "OK" */
	REDIS_TYPE_ERROR,
	REDIS_TYPE_INTEGER,
	REDIS_TYPE_NIL,
	REDIS_TYPE_ARRAY,
	REDIS_TYPE_OTHER,               /* RESP3, which we do not ask for */
};

#define REDIS_COMMAND (~0u)             /* in the place of a script: ARGV is the command */

/* A call to make. */
struct redis_call {
	unsigned script;                /* an index into the scripts, or REDIS_COMMAND */
	const char *key;                /* decides where it goes; the script's only one */
	size_t key_length;
	int argc;                       /* at most REDIS_ARGUMENTS_MAX of a script */
	const char *const *argv;
	const size_t *lengths;          /* NULL: ARGV are strings, of a command */
};

/* What became of one call of a flush. */
struct redis_result {
	enum redis_error error;
	const struct redis_reply *reply;        /* NULL: none arrived; an error reply is
						 * there as well (where MOVED leads to) */
};

/* What the server said about itself when we connected. */
struct redis_identity {
	char run_id[41];                /* another one after a restart; empty if the ACL
					 * forbids INFO */
	char version[16];
	bool cluster;
};

/* Make an object that will connect as OPTIONS say and load the COUNT SCRIPTS
 * (at most REDIS_SCRIPTS_MAX; copied).  Does not connect.  Errors: WEIR_EINVAL
 * (rediss:// in a build without TLS, a certificate), WEIR_ENOMEM,
 * WEIR_ESYSTEM. */
int redis_create(const struct redis_options *options, const char *const *scripts, unsigned count,
		 struct redis **redis, struct weir_error *error);

/* Make one that connects to ADDRESS instead, and is else like OWNER, which outlives
 * it: one interruption, and one look at the certificates, for both.  Errors:
 * WEIR_ENOMEM. */
int redis_create_beside(const struct redis *owner, const struct redis_address *address,
			struct redis **redis, struct weir_error *error);

/* Close and free (NULL is ignored).  Does not wait. */
void redis_destroy(struct redis *redis);

/* Where it connects to, as a URL without the password. */
const char *redis_place(const struct redis *redis);

/* Connect anew, whatever was before: look the host up, connect, TLS, log in,
 * select the database, load the scripts, ask for the server's run_id.  NONE, or
 * the first thing that went wrong; ERROR says it in words. */
enum redis_error redis_connect(struct redis *redis, struct weir_error *error);

/* Close the connection.  Calls that are queued are forgotten. */
void redis_disconnect(struct redis *redis);

bool redis_connected(const struct redis *redis);
const struct redis_identity *redis_identity(const struct redis *redis);

/* Queue a command of ARGC words.  Nothing is sent yet.  NONE, NOT_CONNECTED, or
 * NO_ROOM: more than REDIS_CALLS_MAX (the queue is as it was), or no memory (the
 * connection is closed). */
enum redis_error redis_append(struct redis *redis, int argc, const char *const *argv,
			      const size_t *lengths);

/* Queue a call of script SCRIPT (an index into the scripts) with one KEY and
 * ARGC further arguments, at most REDIS_ARGUMENTS_MAX. */
enum redis_error redis_append_eval(struct redis *redis, unsigned script, const char *key,
				   size_t key_length, int argc, const char *const *argv,
				   const size_t *lengths);

/* Queue CALL by one of these two. */
enum redis_error redis_append_call(struct redis *redis, const struct redis_call *call);

/* Send what is queued and read one reply for each call, in order, into RESULTS,
 * which has room for COUNT, at least as many as are queued.  Replies live until
 * the next flush, connect or disconnect.
 *
 * NONE: every call has a reply, but some may be error replies: look at each.
 * If one was NOSCRIPT, the scripts are loaded again before this returns.
 * Otherwise the connection is dead; calls whose reply had arrived have it, and
 * the others have the error that is returned.  After PROTOCOL no reply is
 * believed: nobody knows which belongs to which call. */
enum redis_error redis_flush_and_read(struct redis *redis, struct redis_result *results,
				      unsigned count, struct weir_error *error);

/* A connection's part of a flush of several that are beside each other. */
struct redis_flush {
	struct redis *redis;
	struct redis_result *results;   /* room for COUNT, as many as are queued */
	unsigned count;
	enum redis_error outcome;       /* as redis_flush_and_read() returns it */
	struct weir_error error;
};

/* As redis_flush_and_read() with each, but all is sent before any reply is waited
 * for, until DEADLINE_NS (redis_now_ns()); and replies of earlier flushes live on,
 * until redis_forget_replies(). */
#define REDIS_FLUSHES_MAX 32u
void redis_flush_all(struct redis_flush *flushes, unsigned count, uint64_t deadline_ns);
void redis_forget_replies(struct redis *redis);

/* From any thread.  See above. */
void redis_interrupt(struct redis *redis);

/* By the owner: undo all interruptions so far. */
void redis_rearm(struct redis *redis);

/* By the owner: wait NS, or less if interrupted (then false): between attempts
 * to connect. */
bool redis_sleep_ns(struct redis *redis, uint64_t ns);

/* ---- Replies (NULL is REDIS_TYPE_NONE) ----------------------------------- */

enum redis_type redis_reply_type(const struct redis_reply *reply);

/* 0 unless it is an integer. */
int64_t redis_reply_integer(const struct redis_reply *reply);

/* The bytes of a string, status or error, with a zero byte behind them; NULL
 * unless it is one. */
const char *redis_reply_text(const struct redis_reply *reply, size_t *length);

/* 0 unless it is an array. */
size_t redis_reply_count(const struct redis_reply *reply);

/* NULL beyond the end. */
const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t index);

#endif
