/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weir.h - rate limits that all processes of a host share, without a lock.
 *
 * CAVEATS
 *
 *  - fork: a child may use its parent's handles at once; it gets descriptors
 *    of its own.  vfork and raw clone() children must exec or exit.  A host with
 *    fork handlers for liburcu-bp: see weir_skip_fork_handlers().
 *  - reboot: a segment kept on a persistent file system is refused after a
 *    reboot (its clock restarted); remove and create it anew.
 *  - suspended process: a process that is stopped anywhere harms no other.
 *  - clock: time is CLOCK_BOOTTIME.  Stepping the wall clock changes nothing,
 *    but a step forward ends the current window of a fixed-window limit.
 *  - full table: a live bucket may be evicted; see weir_decision.reason and
 *    the counters evicted_live and table_full.  Plan two slots for each live
 *    key and limit.
 *  - stray writes: whoever can write the segment can break its limits, but
 *    cannot make a reader crash, loop or touch memory outside of the mapping.
 *    Whoever can truncate the file can make its users die of SIGBUS.
 *  - containers: processes share a segment across pid namespaces, not across
 *    time namespaces (opening it there is an error).
 *
 * ERRORS
 *
 *  Functions that can fail return 0 or a negative enum weir_status, and fill a
 *  struct weir_error (may be NULL) with a sentence that says what was wrong,
 *  with which value, and what to do.  A decision has no error path: it returns
 *  true if the request may proceed, and what could not be decided is answered
 *  by the policy's fail mode (outcome, reason) and counted.
 *
 * UNITS
 *
 *  Times are nanoseconds (suffix _ns), sizes are bytes, costs are tokens.
 *
 * THREADS
 *
 *  Every function may be called from any thread, with two exceptions:
 *  weir_close() must be the last call on its handle, and a struct that the
 *  caller passes must not be changed by another thread meanwhile.  "Decision
 *  path" functions take no lock, allocate nothing and make no system call but
 *  the clock.  Control functions may take a mutex, allocate and wait for an
 *  RCU grace period (milliseconds).  None is async-signal-safe.
 */
#ifndef WEIR_H
#define WEIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library is built with hidden visibility; what stands here is exported. */
#pragma GCC visibility push(default)

#define WEIR_VERSION "0.1.0"

#define WEIR_NAME_MAX 63u           /* bytes in a policy's name */
#define WEIR_BUCKETS_MAX 47u        /* bytes in the name of a policy's buckets */
#define WEIR_LIMITS_MAX 4u          /* limits in one policy */
#define WEIR_KEY_MAX 65536u         /* bytes in a key */
#define WEIR_SECRET_SIZE 16u        /* bytes in the hash secret */
#define WEIR_NEVER UINT64_MAX       /* a retry_after_ns that no wait satisfies */

/* Limits of a limit.  Outside of them weir_limit_check() says which. */
#define WEIR_PERIOD_MIN_NS 1000000ull                   /* 1 ms */
#define WEIR_PERIOD_MAX_NS (365ull * 86400 * 1000000000) /* 365 d */
#define WEIR_RATE_MAX 100000000ull                      /* tokens per second */
#define WEIR_DEBT_MAX_NS (400ull * 86400 * 1000000000)  /* burst x period / limit */
#define WEIR_COUNT_MAX ((1ull << 44) - 1)               /* tokens counted in one bucket */

enum weir_status {
	WEIR_OK = 0,
	WEIR_EINVAL = -1,       /* an argument, a limit or a file is malformed */
	WEIR_ENOENT = -2,       /* no such segment, policy or bucket */
	WEIR_EEXIST = -3,       /* the segment exists already */
	WEIR_ENOSPC = -4,       /* no room: file system, policies, holds */
	WEIR_EACCES = -5,       /* not permitted, or the file's owner is not trusted */
	WEIR_EVERSION = -6,     /* made by another layout, boot, clock or machine */
	WEIR_ECORRUPT = -7,     /* the file is not a sound segment */
	WEIR_EBUSY = -8,        /* another process, or host, was there first */
	WEIR_ENOMEM = -9,       /* malloc failed */
	WEIR_ESYSTEM = -10,     /* another system call failed; errno is in the message */
};

struct weir_error {
	int status;             /* enum weir_status */
	char message[512];      /* a sentence, no newline; empty when status is 0 */
};

/* ---- Segment ----------------------------------------------------------- */

/* A handle on a segment.  Handles on one segment in one process share one
 * mapping. */
struct weir;

enum weir_clock {
	WEIR_CLOCK_BOOTTIME = 0,        /* the library reads CLOCK_BOOTTIME */
	WEIR_CLOCK_CALLER = 1,          /* each request carries its own time, in
	                                 * nanoseconds since 1970 (tests, replays) */
	WEIR_CLOCK_TSC = 2,             /* CLOCK_BOOTTIME by the processor's time stamp
	                                 * counter, which costs half as much: within a
	                                 * microsecond as a rule, and 0.1 ms while the
	                                 * kernel slews its clock.  For up to 0.2 s after
	                                 * a suspension or a migration it may be late.
	                                 * The kernel's own reading where the kernel does
	                                 * not trust the counter, and not on arm64 */
};

struct weir_options {
	uint64_t slots;         /* buckets; rounded up to a multiple of 8, 16 to 2^32.  Plan
	                         * 1.3 for each live key and limit; a power of two of slots
	                         * makes decisions a nanosecond faster */
	uint32_t key_bytes;     /* first bytes of each key kept for listing, 0 to 1024,
	                         * rounded up to a multiple of 8.  A slot has 64 bytes and
	                         * these; where hosts sync, 144 and these */
	uint32_t policies;      /* room for policies, 1 to 4096 */
	uint32_t holds;         /* room for holds of concurrency limits, 0 to 2^24 */
	uint32_t purses;        /* room for what threads take ahead (weir_policy.lease), 0
	                         * to 65536, rounded up to a multiple of 4: each thread that
	                         * does has 4, of 64 bytes */
	mode_t mode;            /* file mode, default 0600 */
	gid_t group;            /* group of the file; (gid_t)-1: the process's own */
	bool huge_pages;        /* take them from a hugetlbfs at /dev/hugepages, if it has
	                         * any left (see weir_info).  In a tmpfs, as /dev/shm is,
	                         * Linux (6.1) gives some without this or any setting */
	bool sync;              /* room to sync with other hosts: 80 bytes a slot more */
	enum weir_clock clock;
	const void *secret;     /* WEIR_SECRET_SIZE bytes that key the fingerprints,
	                         * the same on all hosts of a cluster; NULL: random */
	bool compact;           /* 16 bytes a slot and no keys, for very many of them:
	                         * below */
};

/*
 * A compact segment has 16 bytes a slot, where others have 64 and key_bytes.  Plan five
 * slots for each three live keys and limits.  It cannot have: policies but of token buckets,
 * or that lease (weir_policy_set() refuses them), holds (there is no room for any), sync, key bytes
 * (holds, purses and key_bytes above count as 0), or lists of buckets (weir_each_bucket() and
 * weir_top() find none).  All else is the same, but:
 *
 *  - Its slots know a key by 48 bits of a keyed hash, and by their place.  A key that
 *    comes shares the bucket of another one with a probability of less than 2^-42, over
 *    the secret and whatever the keys are; of a billion keys, any two with one of
 *    1 in 4,000.  The two together are then held to the limit of one, and a refund or
 *    reset of one is the other's, too.
 *  - Limits whose tokens are no whole number of nanoseconds are exact as elsewhere if
 *    the fraction, in lowest terms, has at most 65,536 parts.  Else a token takes up to
 *    2^-16 ns longer than it should.
 *  - Of a request for several limits, of which one denies after others were charged, a
 *    charge stays if more than 32,000 tokens were taken from its bucket meanwhile.
 */

/* Fill in the defaults: 65536 slots, 32 key bytes, 256 policies, 4096 holds, 1024
 * purses, mode 0600, the process's group, no hugetlbfs, CLOCK_BOOTTIME, a random
 * secret, not compact.  Call it before setting fields, so that fields added later have
 * defaults. */
void weir_options_init(struct weir_options *options);

/* Make the segment NAME.  A name without '/' is a file in /dev/shm; any other
 * is a path.  The segment appears whole or not at all, however the creator
 * dies.  Errors: WEIR_EEXIST, WEIR_EINVAL, WEIR_ENOSPC (the file system cannot
 * hold it), WEIR_EACCES, WEIR_ESYSTEM. */
int weir_create(const char *name, const struct weir_options *options, struct weir_error *error);

/* Open the segment NAME for reading and writing.  Nothing in the file is
 * trusted: it must belong to this user or root, or be writable by a group that
 * this process is in, and not be writable by everybody; and every size and offset
 * must agree with its real length.  Errors: WEIR_ENOENT, WEIR_EACCES,
 * WEIR_EVERSION, WEIR_ECORRUPT, WEIR_ENOMEM, WEIR_ESYSTEM. */
int weir_open(const char *name, struct weir **weir, struct weir_error *error);

/* For a host that uses liburcu-bp itself, and calls urcu_bp_before_fork() and the two
 * that belong to it around each fork (pthread_atfork): the library leaves that to
 * it.  Called by both, fork() never returns; by neither, the child hangs in its first
 * decision.  Call it before the first weir_open(). */
void weir_skip_fork_handlers(void);

/* Close a handle (NULL is ignored).  Waits until decisions under way in this
 * process have finished.  The segment and its buckets stay; what this process
 * holds ends with its last handle, as if it had died. */
void weir_close(struct weir *weir);

/* Remove the segment's name.  Processes that have it open go on together;
 * those that open the name later do not find it.  Errors: WEIR_ENOENT,
 * WEIR_EACCES, WEIR_ESYSTEM. */
int weir_remove(const char *name, struct weir_error *error);

struct weir_info {
	char path[256];         /* of the file when it was opened */
	uint64_t slots;         /* after rounding */
	uint64_t size_bytes;    /* of the mapping */
	uint64_t incarnation;   /* random number drawn when the segment was made */
	uint32_t layout_version;
	uint32_t slot_bytes;    /* that a slot takes, all in all */
	uint32_t key_bytes;
	uint32_t policies;      /* room */
	uint32_t holds;         /* room */
	uint32_t purses;        /* room */
	uint32_t participants;  /* processes that have it open now */
	enum weir_clock clock;
	bool huge_pages;        /* all of the segment is in huge pages, but for what does
	                         * not fill one: less than 2 MiB, in a tmpfs */
	bool compact;
};

/* Describe an open segment. */
void weir_info(const struct weir *weir, struct weir_info *info);

/* The segment's time now, as its decisions read it; 0 with WEIR_CLOCK_CALLER. */
uint64_t weir_now_ns(const struct weir *weir);

/* ---- Policies ---------------------------------------------------------- */

enum weir_algorithm {
	WEIR_TOKEN_BUCKET = 0,          /* GCRA: debt in nanoseconds */
	WEIR_SLIDING_WINDOW = 1,        /* two counters, weighted */
	WEIR_FIXED_WINDOW = 2,          /* one counter, aligned to 1970 */
	WEIR_CONCURRENCY = 3,           /* acquire and release; no period */
};

enum weir_action {
	WEIR_ACTION_DENY = 0,
	WEIR_ACTION_FLAG = 1,           /* sliding-window: mark, do not deny */
};

enum weir_fail_mode {
	WEIR_FAIL_SHARE = 0,            /* the default: this host's share of the limit */
	WEIR_FAIL_OPEN = 1,             /* allow */
	WEIR_FAIL_CLOSED = 2,           /* "rate limiter unavailable" */
};

/* How far hosts together may exceed a limit, once weir_sync_start() was called on
 * the segment; before that every policy is local.  What hosts share of each algorithm,
 * and the bounds, are in docs/sync.md. */
enum weir_consistency {
	WEIR_BOUNDED = 0,               /* the default: by what may be unmerged, a part of
	                                 * the burst, whatever is lost or cut off */
	WEIR_LOCAL = 1,                 /* each host has the whole limit */
	WEIR_EVENTUAL = 2,              /* by what is admitted between two rounds */
	WEIR_STRICT = 3,                /* not at all: a host spends only what Redis has leased
	                                 * to it.  Token buckets only.  A refund gives nothing
	                                 * back.  A request with now_ns of its own answers for
	                                 * having read the clock just before */
};

struct weir_limit {
	uint64_t limit;         /* tokens per period, at least 1 */
	uint64_t period_ns;     /* WEIR_PERIOD_MIN_NS to WEIR_PERIOD_MAX_NS;
	                         * 0 for WEIR_CONCURRENCY */
	uint64_t burst;         /* token-bucket: the capacity in tokens, 0 means
	                         * limit; must be 0 or limit for the others */
	enum weir_algorithm algorithm;
	enum weir_action action;
};

struct weir_policy {
	char name[WEIR_NAME_MAX + 1];   /* letters, digits and "._:/-" */
	uint32_t limit_count;           /* 1 to WEIR_LIMITS_MAX; all must pass */
	struct weir_limit limits[WEIR_LIMITS_MAX];
	enum weir_fail_mode fail_mode;
	enum weir_consistency consistency;
	bool shadow;                    /* decide and count, but allow */
	bool lease;                     /* a thread that asks for a key again and again takes
	                                 * tokens ahead and spends them without touching what
	                                 * others touch: for keys hotter than a cache line
	                                 * can be.  Never more than the limit is admitted.  At
	                                 * most a 32nd of the burst is with each thread, and
	                                 * comes back before anybody is denied for want of it.
	                                 * One token bucket, consistency local, no shadow */
	char buckets[WEIR_BUCKETS_MAX + 1]; /* policies of one segment that give the same name
	                                 * here (or have it) share their buckets, limit by
	                                 * limit, where the algorithm (and a window's period)
	                                 * is the same: plans of one customer, say.  Not for
	                                 * token buckets.  "": the policy's own */
};

/* Handle of a policy in one segment, valid until the policy is removed. */
typedef uint64_t weir_policy_id;
#define WEIR_NO_POLICY ((weir_policy_id)0)

/* Read a limit such as "100/1m", "100/1m burst 20", "10/1s sliding-window",
 * "10/1s sliding-window flag", "5 concurrency".  Units of the period: ns, us,
 * ms, s, m, h, d; the number before the unit may be left out ("100/m").
 * Errors: WEIR_EINVAL. */
int weir_limit_parse(const char *text, struct weir_limit *limit, struct weir_error *error);

/* Write LIMIT as weir_limit_parse() reads it.  Returns the length of the text,
 * as snprintf does; 96 bytes hold any limit. */
int weir_limit_format(const struct weir_limit *limit, char *text, size_t size);

/* Is LIMIT (POLICY) one that a segment accepts?  Errors: WEIR_EINVAL. */
int weir_limit_check(const struct weir_limit *limit, struct weir_error *error);
int weir_policy_check(const struct weir_policy *policy, struct weir_error *error);

/* Define or replace COUNT policies, all or none: every process decides by the
 * old ones or by the new ones.  A process killed in here changes nothing.  A
 * replaced policy keeps its buckets: a token bucket's debt is a time and stays
 * as it is; a window whose period changed starts anew.  Errors: WEIR_EINVAL,
 * WEIR_ENOSPC, WEIR_EBUSY (another process has been in here for 5 s). */
int weir_policy_set(struct weir *weir, const struct weir_policy *policies, size_t count,
		    struct weir_error *error);

/* Remove a policy.  Decisions by its id then answer unavailable with
 * WEIR_REASON_NO_POLICY.  Its keys keep their debt: a policy of the same name that is
 * defined later goes on with it.  Errors: WEIR_ENOENT, WEIR_EBUSY. */
int weir_policy_remove(struct weir *weir, const char *name, struct weir_error *error);

/* Copy the policy NAME.  Errors: WEIR_ENOENT. */
int weir_policy_get(const struct weir *weir, const char *name, struct weir_policy *policy,
		    struct weir_error *error);

/* Copy up to CAPACITY policies, in the order of their names.  Returns how many
 * there are. */
size_t weir_policy_list(const struct weir *weir, struct weir_policy *policies, size_t capacity);

/* Read policies from YAML text (docs: weir(7), POLICY FILES).  SOURCE names
 * the text in messages.  On success *policies is an array that the caller
 * frees with free().  Errors: WEIR_EINVAL with line and column, WEIR_ENOMEM. */
int weir_policy_parse(const char *text, size_t length, const char *source,
		      struct weir_policy **policies, size_t *count, struct weir_error *error);

/* As weir_policy_parse(), from a file.  Errors also: WEIR_ENOENT, WEIR_ESYSTEM. */
int weir_policy_parse_file(const char *path, struct weir_policy **policies, size_t *count,
			   struct weir_error *error);

/* The id of the policy NAME, or WEIR_NO_POLICY.  Keep it: looking a name up
 * costs as much as several decisions. */
weir_policy_id weir_policy_find(const struct weir *weir, const char *name);

/* Set a policy's fail mode now, for all processes, until the policy is removed
 * or weir_fail_mode_clear() gives it back to the policy's own.  Errors:
 * WEIR_ENOENT, WEIR_EINVAL. */
int weir_fail_mode_set(struct weir *weir, const char *name, enum weir_fail_mode mode,
		       struct weir_error *error);
int weir_fail_mode_clear(struct weir *weir, const char *name, struct weir_error *error);

/* The fail mode in force.  Errors: WEIR_ENOENT. */
int weir_fail_mode_get(const struct weir *weir, const char *name, enum weir_fail_mode *mode,
		       struct weir_error *error);

/* ---- Decisions --------------------------------------------------------- */

enum weir_outcome {
	WEIR_ALLOWED = 0,
	WEIR_DENIED = 1,
	WEIR_UNAVAILABLE = 2,           /* "rate limiter unavailable" */
};

enum weir_reason {
	WEIR_REASON_LIMIT = 0,          /* the limits decided */
	WEIR_REASON_COST = 1,           /* denied: cost above what the limit can ever allow */
	WEIR_REASON_TABLE_FULL = 2,     /* no slot: the fail mode decided */
	WEIR_REASON_SHADOW = 3,         /* allowed, but only because the policy is in shadow */
	WEIR_REASON_NO_POLICY = 4,      /* unavailable: no policy has this id */
	WEIR_REASON_KEY = 5,            /* unavailable: key empty or above WEIR_KEY_MAX */
	WEIR_REASON_CLOCK = 6,          /* unavailable: the segment's time comes from the
	                                 * caller and the request has none, or its time
	                                 * is 2^62 ns or later */
	WEIR_REASON_CONTENDED = 7,      /* bounded retries used up: the fail mode decided;
	                                 * a status, refund or reset is unavailable, and
	                                 * what was given back to some limits stays */
	WEIR_REASON_USE_ACQUIRE = 8,    /* unavailable: the policy has a concurrency limit */
	WEIR_REASON_HOLDS_FULL = 9,     /* no hold record left: the fail mode decided */
	WEIR_REASON_DEBT = 10,          /* denied: force-take beyond the largest debt or
	                                 * count */
	WEIR_REASON_CLOSED = 11,        /* unavailable: the handle is closed */
	WEIR_REASON_STALE = 12,         /* the cluster's view is too old: the fail mode
	                                 * decided, or the bucket or share it left to */
	WEIR_REASON_CAP = 13,           /* denied: as much as the mode's bound admits
	                                 * between two merges was admitted */
	WEIR_REASON_LEASE = 14,         /* denied: strict, and this host has no credit for it
	                                 * yet; it has asked for some */
};

struct weir_request {
	weir_policy_id policy;
	const void *key;                /* any bytes */
	size_t key_length;              /* 1 to WEIR_KEY_MAX */
	uint64_t cost;                  /* tokens; 0 is a peek.  Above the limit (the burst
	                                 * of a token bucket) it is denied with
	                                 * WEIR_REASON_COST; but forced, or with action
	                                 * flag, a window counts up to WEIR_COUNT_MAX */
	uint64_t now_ns;                /* 0: read the clock.  Otherwise the caller's
	                                 * reading of CLOCK_BOOTTIME, or of its own
	                                 * clock with WEIR_CLOCK_CALLER */
};

struct weir_decision {
	enum weir_outcome outcome;
	enum weir_reason reason;
	uint32_t limit_index;           /* the limit that decided: the one that denied,
	                                 * else the one with the least remaining */
	bool flagged;                   /* a limit with action flag was exceeded */
	uint64_t limit;                 /* tokens: the burst of a token bucket, else the limit */
	uint64_t remaining;             /* tokens that would pass now */
	uint64_t retry_after_ns;        /* 0 if allowed; WEIR_NEVER if no wait helps */
	uint64_t reset_after_ns;        /* until the bucket is full again */
	uint64_t counted;               /* windows: tokens in the current period, of all hosts
	                                 * as far as is known, what was charged now included;
	                                 * may be above limit.  Concurrency: held, likewise.
	                                 * Token buckets: 0 */
};

/* Ask for one token (weir_allow), or COST tokens (weir_allow_n), of POLICY for
 * KEY.  Returns true if the request may proceed.  DECISION may be NULL.  All
 * limits pass and are charged, or none is.  A process killed in here leaves at
 * most this one request's charge.  Decision path. */
bool weir_allow(struct weir *weir, weir_policy_id policy, const void *key, size_t key_length,
		struct weir_decision *decision);
bool weir_allow_n(struct weir *weir, weir_policy_id policy, const void *key, size_t key_length,
		  uint64_t cost, struct weir_decision *decision);

/* As weir_allow_n(), with the caller's time.  Decision path. */
bool weir_decide(struct weir *weir, const struct weir_request *request,
		 struct weir_decision *decision);

/* Decide COUNT requests in order, with one clock reading for all of those that
 * carry no time (and one more for each key that is new), and their cache misses
 * overlapped.  Returns how many may
 * proceed.  Decision path. */
size_t weir_decide_batch(struct weir *weir, const struct weir_request *requests,
			 struct weir_decision *decisions, size_t count);

/* What would weir_decide() answer?  Spends nothing and stores nothing.
 * Decision path. */
bool weir_status(struct weir *weir, const struct weir_request *request,
		 struct weir_decision *decision);

/* Spend COST tokens whether or not they are there: settle what was only known
 * afterwards.  A token bucket may go into debt, up to twice WEIR_DEBT_MAX_NS, and a
 * window counts up to WEIR_COUNT_MAX; more is denied with WEIR_REASON_DEBT and spends
 * nothing.  Decision path. */
bool weir_force_take(struct weir *weir, const struct weir_request *request,
		     struct weir_decision *decision);

/* Give COST tokens back to each limit of the policy; a bucket never holds more
 * than its burst.  A key without a bucket is full already.  DECISION tells the
 * state afterwards.  Returns false if the outcome is unavailable.  Decision
 * path. */
bool weir_refund(struct weir *weir, const struct weir_request *request,
		 struct weir_decision *decision);

/* Fill the key's buckets, as if it had never been seen.  Holds of a
 * concurrency limit stay.  Decision path. */
bool weir_reset(struct weir *weir, const struct weir_request *request,
		struct weir_decision *decision);

/* A hold: COST units of a concurrency limit, from acquire to release. */
struct weir_hold {
	uint64_t record[WEIR_LIMITS_MAX];       /* private */
	uint32_t count;                         /* private */
};

/* As weir_decide(), for policies with a concurrency limit (others work too).
 * If it returns true, release the hold exactly once; if this process dies, or closes
 * its last handle on the segment, the others find out and release it.  Decision path,
 * but for the calls that ask the kernel who is alive when the limit is reached. */
bool weir_acquire(struct weir *weir, const struct weir_request *request, struct weir_hold *hold,
		  struct weir_decision *decision);

/* Release a hold.  A hold that is released twice, or belongs to another
 * process, is left alone: WEIR_EINVAL.  Decision path. */
int weir_release(struct weir *weir, struct weir_hold *hold);

/* ---- Sync ---------------------------------------------------------------- */

struct weir_sync_options {
	const char *url;                /* redis://[user:password@]host[:port][/db],
	                                 * rediss://..., unix:///path[?db=N],
	                                 * redis-sentinel://host,host/master[/db],
	                                 * redis-cluster://host,host */
	const char *prefix;             /* of the keys in Redis */
	uint64_t interval_ns;           /* between rounds, 1 ms to 60 s */
	uint64_t max_staleness_ns;      /* a view is stale this long after its round */
	uint32_t expected_hosts;        /* until the number of hosts is known, 1 to 10^6 */
	uint32_t overshoot_permille;    /* WEIR_BOUNDED: how far the other hosts together
	                                 * may go beyond a burst, 0 to 1000 */
	bool follow_policies;           /* apply policies that other hosts publish */
};

/* Fill in the defaults: redis://127.0.0.1:6379, prefix "weir", 100 ms, 2 s, one
 * host, 50 permille. */
void weir_sync_options_init(struct weir_sync_options *options);

/* Start this process's sync thread for the segment, which must have been created
 * with options.sync.  Returns at once: Redis need not be there.  One process of
 * the host leads, the others stand by and take over when it dies or stops.  From
 * the first call on, policies that are not WEIR_LOCAL are the cluster's: with no
 * view merged yet, or none since max_staleness, their fail mode decides.  The
 * thread blocks all signals; a forked child has none and may start its own.
 * Errors: WEIR_EINVAL, WEIR_EEXIST (this process has one), WEIR_ENOMEM,
 * WEIR_ESYSTEM. */
int weir_sync_start(struct weir *weir, const struct weir_sync_options *options,
		    struct weir_error *error);

/* Stop it, and wait for it; what was not merged stays in the segment for the next
 * leader.  weir_close() of the last handle does it, too.  Errors: WEIR_ENOENT. */
int weir_sync_stop(struct weir *weir, struct weir_error *error);

/* Keep all sync threads of this host from talking to Redis, or let them again: a
 * partition, for drills and tests.  Errors: WEIR_EINVAL (not a segment that
 * syncs). */
int weir_sync_pause(struct weir *weir, struct weir_error *error);
int weir_sync_resume(struct weir *weir, struct weir_error *error);

/* Delete what hosts keep in Redis under options->prefix, at options->url: when a cluster
 * is given up.  Hosts that still sync find it gone, as after FLUSHALL, and put back what
 * they know.  Waits for Redis, at most connect_ms and command_ms of the URL.  Errors:
 * WEIR_EINVAL, WEIR_ENOMEM, WEIR_ESYSTEM (Redis cannot be reached, or refuses). */
int weir_sync_erase(const struct weir_sync_options *options, struct weir_error *error);

struct weir_sync_status {
	bool enabled;                   /* was a sync thread ever started here? */
	bool running;                   /* does this process have one? */
	bool leading;                   /* and does it lead? */
	bool paused;
	bool connected;                 /* is the leader connected to Redis? */
	uint64_t leader_pid;            /* for show; 0: nobody leads */
	uint64_t term;
	uint64_t rounds;                /* acknowledged, by all leaders of this segment */
	uint64_t round_ns;              /* how long the last tick took */
	uint64_t longest_round_ns;      /* how long the longest one took */
	uint64_t longest_unmerged_ns;   /* no charge has waited longer for its merge since the
					 * first round, nor waits longer now */
	uint64_t staleness_ns;          /* age of the oldest view; WEIR_NEVER: none yet */
	uint64_t unmerged_tokens;       /* consumed here and not in a view yet */
	uint64_t hosts;                 /* alive at the last round; 0: not known */
	uint64_t largest_cap;           /* tokens; WEIR_NEVER where no cap is in force */
	uint64_t strict_policies;       /* hosts together exceed their limits by 0 tokens */
	uint64_t leased_shards;         /* of the 8: this host's lease there runs */
	uint64_t quarantined_shards;    /* of the 8: Redis is new, or has forgotten, and grants
					 * nothing for 2 s, as of its last answer */
	uint64_t lease_left_ns;         /* until the first lease lapses if Redis is silent */
	uint64_t tenure_ns;             /* for how long the youngest has run without a gap */
	uint64_t epoch;                 /* a digest: hosts that know the same Redis have the
					 * same; 0: some shards' is not known */
	uint64_t credit_tokens;         /* of strict policies, that this host may spend now */
	uint64_t leases;                /* buckets that have them */
	uint64_t unleased;              /* requests denied here for want of credit */
	char last_error[256];           /* of this process's thread; "" if none */
	uint64_t leader_silent_ns;      /* since the leader was seen, if that is so long ago that
					 * another would take over; 0: it is there */
	uint64_t trouble_ns;            /* for how long something has been wrong between the
					 * leader and Redis; 0: nothing is */
	uint64_t trouble_shards;        /* of the 8, a bit each: those whose calls fail */
	char trouble_kind[16];          /* in a word: "noauth", "timeout", ...; "" if nothing is */
	char trouble[424];              /* in a sentence: where, what, and what to do */
	uint64_t disagreeing;           /* policies that another host has otherwise */
	bool follows;                   /* are policies that are published applied here? */
	uint64_t published;             /* version of what is published; 0: nothing was seen */
	uint64_t applied;               /* the last version that was applied here; 0: none */
	char policy_error[424];         /* why policies could not be compared, or what is
					 * published not be applied; "" if they were */
};

/* Describe the state of sync.  Looks at every slot.  Errors: WEIR_EINVAL (not a
 * segment that syncs). */
int weir_sync_status(const struct weir *weir, struct weir_sync_status *status,
		     struct weir_error *error);

/* A policy that hosts of the cluster have otherwise: other limits, or another
 * consistency.  Fail mode and shadow are each host's own. */
struct weir_disagreement {
	char policy[WEIR_NAME_MAX + 1];
	uint64_t host;                  /* one of them: its weir_info.incarnation */
	uint64_t hosts;                 /* how many of them have it like that */
	char ours[424];                 /* as weir_limit_format() writes limits, then the */
	char theirs[424];               /* consistency: "100/1m, 5000/1d bounded" */
};

/* Fill LIST with up to CAPACITY disagreements, as of the leader's last look (once a
 * second, and when a policy was changed here); of many, 14 are kept.  Returns how many
 * there are.  While hosts disagree, each applies its own limit to what all of them
 * charge. */
size_t weir_sync_disagreements(const struct weir *weir, struct weir_disagreement *list,
			       size_t capacity);

/* What this host may spend of a policy of mode strict. */
struct weir_lease {
	char policy[WEIR_NAME_MAX + 1];
	uint64_t tokens;                /* of credit, in all buckets of the policy */
	uint64_t buckets;               /* that have some */
};

/* Fill LIST with up to CAPACITY policies of mode strict, in no order.  Returns how
 * many there are.  Looks at every slot, once for each of them. */
size_t weir_sync_leases(const struct weir *weir, struct weir_lease *list, size_t capacity);

/* Publish policies NAMES of the segment, COUNT of them, or (NULL) all, as they are here:
 * hosts that follow apply them within a second.  A publication has all that was ever
 * published, and a version that only grows (*version, may be NULL).  A host that follows
 * applies each newer one once, all of it or nothing, and keeps what is changed there
 * afterwards.  On a segment that follows it is applied before this returns.  Of OPTIONS
 * (NULL: the defaults) only url and prefix count.  Waits for Redis, at most connect_ms
 * and three times command_ms of the URL.  Errors: WEIR_ENOENT (no such policy),
 * WEIR_EBUSY (another host published meanwhile: nothing was), WEIR_EINVAL (URL, prefix,
 * or the cluster has another secret), WEIR_ENOSPC, WEIR_ENOMEM, WEIR_ESYSTEM (Redis
 * cannot be reached, or refuses; if the answer was lost it may be published). */
int weir_sync_publish(struct weir *weir, const struct weir_sync_options *options,
		      const char *const *names, size_t count, uint64_t *version,
		      struct weir_error *error);

/* Publish that policies NAMES are gone: hosts that follow remove them.  Errors: as
 * above; WEIR_ENOENT: neither published nor here. */
int weir_sync_withdraw(struct weir *weir, const struct weir_sync_options *options,
		       const char *const *names, size_t count, uint64_t *version,
		       struct weir_error *error);

/* ---- Reading ----------------------------------------------------------- */

struct weir_bucket {
	char policy[WEIR_NAME_MAX + 1]; /* "" if the policy is gone */
	uint32_t limit_index;
	enum weir_algorithm algorithm;
	uint8_t fingerprint[16];        /* bytes 8 and 9 are 0: slots do not keep them */
	uint32_t key_length;            /* of the whole key; 0 if it is not known */
	uint32_t key_stored;            /* its first bytes, in key: at most key_bytes */
	uint8_t key[1024];
	uint64_t consumed;              /* tokens since the bucket was made; of the
	                                 * current window for windows; held now for
	                                 * concurrency */
	uint64_t denied_sampled;        /* denials, estimated from samples */
	struct weir_decision status;    /* as weir_status() would tell for cost 1 */
};

/* Call VISIT for each live bucket, in no order, until it returns false.  A bucket is
 * live from its first charge until its slot is given to another key, also while it is
 * full.  Its status is as of NOW_NS (0: now, and with WEIR_CLOCK_CALLER the beginning
 * of time, so that it must be given).  Buckets that come or go meanwhile may be
 * missed.  Takes no lock.  A compact segment has none to visit. */
void weir_each_bucket(const struct weir *weir, uint64_t now_ns,
		      bool (*visit)(const struct weir_bucket *bucket, void *context), void *context);

enum weir_top_order {
	WEIR_TOP_CONSUMED = 0,          /* by tokens consumed */
	WEIR_TOP_DENIED = 1,            /* by denials, as far as they were sampled */
};

/* Fill BUCKETS with the up to CAPACITY live ones that have the most of what ORDER
 * says at NOW_NS (0: now), largest first; those that have none are left out.
 * Returns how many.  Looks at every bucket, takes no lock. */
size_t weir_top(const struct weir *weir, uint64_t now_ns, enum weir_top_order order,
		struct weir_bucket *buckets, size_t capacity);

/* What a counter means, once, for the command line, metrics and manual. */
struct weir_counter {
	const char *name;
	const char *unit;
	const char *help;       /* a sentence */
	bool per_policy;
};

/* Counter INDEX, or NULL when there are no more. */
const struct weir_counter *weir_counter(unsigned index);

/* The sum of counter INDEX over all processes since the segment was made: of
 * policy NAME, or of all policies if NAME is NULL.  The counts of a policy that was
 * removed go when its place is given to another, so that such a sum can fall. */
uint64_t weir_counter_read(const struct weir *weir, unsigned index, const char *name);

/* Is the segment sound?  Calls REPORT with a sentence for each finding (what is
 * wrong, where, what to do) and returns how many there were. */
size_t weir_check(const struct weir *weir, void (*report)(const char *finding, void *context),
		  void *context);

/* Names of enum values, as the command line prints them ("token-bucket",
 * "share", "denied", ...).  Never NULL. */
const char *weir_algorithm_name(enum weir_algorithm algorithm);
const char *weir_fail_mode_name(enum weir_fail_mode mode);
const char *weir_consistency_name(enum weir_consistency consistency);
const char *weir_outcome_name(enum weir_outcome outcome);
const char *weir_reason_name(enum weir_reason reason);

/* The version of the library, "MAJOR.MINOR.PATCH". */
const char *weir_version(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
