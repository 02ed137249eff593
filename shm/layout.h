/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - every byte of a segment.  For the files of shm/ only; docs/layout.md
 * is the same in prose.  The segment holds offsets and indexes, never pointers.
 *
 *	header | policies | counters | participants | holds | purses | slots | notes | sync
 *
 * Any change here is a new WEIR_LAYOUT_VERSION, which is part of the file's
 * name: processes of two layouts never map the same file.
 */
#ifndef WEIR_SHM_LAYOUT_H
#define WEIR_SHM_LAYOUT_H

#include "weir.h"
#include "shm/atomic.h"

#define WEIR_LAYOUT_VERSION 1u
#define WEIR_MAGIC 0x31524945574d4853ull        /* also tells the byte order */

#define CACHE_LINE 64u
#define PAGE_ALIGN 4096u

/* Start loading the line at ADDRESS, to be written.  gcc takes a function that does no
 * more than __builtin_prefetch() for one without effect, and drops the calls of it: the
 * empty statement is an effect. */
static inline void prefetch_line(const void *address)
{
	__builtin_prefetch(address, 1);
	__asm__ volatile("");
}

/* ---- Slots ------------------------------------------------------------- */

/* A key can live in two groups of slots: a window of 16 lines. */
#ifndef GROUP_SLOTS
#define GROUP_SLOTS 8u
#endif
#define WINDOW_SLOTS (2u * GROUP_SLOTS)

/*
 * identity: which key has the slot.  One CAS publishes it.
 *   first         bits 0-63 of the fingerprint
 *   second 16-63  bits 80-127 of the fingerprint
 *   second 0-15   generation: counts the owners that the slot has had
 * Bits 64-79 are not stored.  They help to choose the group, so the slot's place tells
 * log2(groups) of them where that is a whole number.
 *
 * state: the bucket.  One CAS changes it.
 *   first         time_ns; what it means depends on the algorithm (bucket.c).
 *                 At or before now, there is nothing to remember.
 *   second 20-63  used: tokens consumed by this owner, less those given back;
 *                 modulo 2^44, and below 0 in a token bucket
 *   second 18-19  sync: how often the slot left the queue, modulo 4 (queue.h)
 *   second 17     sync: QUEUED, the slot's mark in the queue is set
 *   second 16     LIVE
 *   second 0-15   generation of the owner whose state this is
 *
 * Which key the slot has and whether it counts follows from both words:
 *
 *   state.generation    LIVE   the slot is
 *   == identity's       1      live: charges go to the identity's key
 *   == identity's       0      dead: anyone may give it to a new owner
 *   == identity's - 1   0      tentative: claimed, but never charged
 *   anything else              damaged: treated as dead, and counted
 *
 * All-zero bytes are a dead slot.
 */
struct slot {
	struct word_pair identity;
	struct word_pair state;
	union {
		uint64_t merged;        /* sync: 0-15 generation, 20-63 what of used is in
		                         * the cluster's view; of another generation:
		                         * nothing.  strict: what used may reach, and in
		                         * 16-19 how often that was lowered, modulo 16.
		                         * 16-19 of windows: last bits of the window's index */
		uint64_t note_about;    /* where nothing syncs: struct note */
	};
	union {
		uint64_t share_ns;      /* sync, token bucket: when the share of a stale
		                         * view is whole again */
		uint64_t purses;        /* of a policy that leases: PURSES_TAG; 0 PURSES_MARK:
		                         * purses may have tokens of it; 1 PURSES_LOOKING:
		                         * somebody is about to see; 2-55 how often it was
		                         * lowered, and not by these */
		uint64_t foreign;       /* sync, else: what other hosts have (window.h); of
		                         * a concurrency limit: of window HELD_WINDOW */
	};
	uint64_t owner;         /* whose: 0-15 generation, 16-31 policy index, 32-37
	                         * limit index, 38 OWNER_JOINED, 39 OWNER_SYNCS, 40-63
	                         * low bits of the policy serial */
	union {
		uint64_t view;          /* sync: 0-15 generation, 16-31 resets asked for,
		                         * 32-63 generation of the cluster's view */
		uint64_t note_first;    /* where nothing syncs: struct note */
	};
} __attribute__((aligned(CACHE_LINE)));
_Static_assert(sizeof(struct slot) == CACHE_LINE, "a decision touches one line");

#define GENERATION_MASK 0xffffull
#define STATE_LIVE (1ull << 16)
#define STATE_QUEUED (1ull << 17)
#define STATE_EPOCH_UNIT (1ull << 18)
#define STATE_EPOCH_MASK (3ull << 18)
#define STATE_USED_SHIFT 20

/* In merged, of mode strict. */
#define CREDIT_LOWERED_UNIT (1ull << 16)
#define CREDIT_LOWERED_MASK (0xfull << 16)

/* Of buckets that neither lease nor count windows: see round_merged_word(). */
#define MERGED_TERM_SHIFT 16
#define MERGED_TERM_MASK 0xf0000ull

#define MERGED_WINDOW_SHIFT 16
#define MERGED_WINDOW_MASK 0xf0000ull

#define OWNER_LIMIT_MASK 0x3fu
#define OWNER_JOINED (1ull << 38)       /* charged before its limit began to sync */
#define OWNER_SYNCS (1ull << 39)
#define VIEW_RESETS_SHIFT 16
#define VIEW_SHIFT 32

/*
 * What only listing needs.  All of it is in the notes region in a segment that syncs; in
 * another one, whose slots have words to spare, the first two are in the slot.  Denials
 * are counted in a line that decisions do not touch, if there is one.
 */
struct note {
	uint64_t about;         /* 0-15 length of the whole key, less 1; 16-63 keyed
	                         * checksum of generation, length and key: a note that
	                         * was torn or is another owner's is recognised, so it
	                         * needs no ordering */
	uint64_t first;         /* the key's first 8 bytes; if none are kept, the denials */
	uint64_t rest[];        /* if any are: the denials, sampled: 0-15 generation, 16-63
	                         * count; then the key's bytes from 8 to key_bytes, whole
	                         * words of them; what is behind the key's end is left as it was */
};

/* ---- Compact slots ----------------------------------------------------- */

/*
 * In a compact segment, which has token buckets only: all of a bucket.  One CAS
 * changes it.
 *   first 16-63   name of the key's fingerprint, never 0
 *   first 0-15    tokens consumed, modulo at most 2^16: compact_count()
 *   second 63     TENTATIVE: claimed, but never charged
 *   second 0-62   time_ns; at or before now, there is nothing to remember.
 *                 TENTATIVE: number of the claim
 * All-zero bytes are a slot of nobody's.
 */
struct compact_slot {
	struct word_pair word;
};
_Static_assert(sizeof(struct compact_slot) == 16, "");

#define COMPACT_COUNT_MASK 0xffffull
#define COMPACT_TENTATIVE (1ull << 63)

/* A key can live in two groups of lines. */
#ifndef COMPACT_LINE_SLOTS /* the models lower it */
#define COMPACT_LINE_SLOTS 4u
#define COMPACT_GROUP_LINES 2u
#endif
#define COMPACT_GROUP_SLOTS (COMPACT_GROUP_LINES * COMPACT_LINE_SLOTS)
#define COMPACT_PREFERRED (COMPACT_GROUP_SLOTS * 5 / 8) /* fill the first group up to here */
#define COMPACT_WINDOW_LINES (2 * COMPACT_GROUP_LINES)
#define COMPACT_WINDOW_SLOTS (2 * COMPACT_GROUP_SLOTS)

/* ---- Sync -------------------------------------------------------------- */

/* What the leader knows of a slot.  Each word carries the generation that it
 * is of, in bits 0-15; used tokens are in bits 20-63, as in the state. */
struct slot_sync {
	struct word_pair sent;          /* first: used when sent; second: the tag,
	                                 * term << 32 | sequence */
	struct word_pair agreed;        /* first: used that Redis has for certain; second:
	                                 * time_ns as of then, as the view said; of windows,
	                                 * which one: window_gone_ns() */
	uint64_t name_rest;             /* bits 64-79 of the fingerprint << 16 */
	uint64_t resets;                /* 16-31: resets that Redis has for certain */
	uint64_t refresh_ns;            /* when to ask again though nothing was charged; 0:
	                                 * of a concurrency limit, at once */
	uint64_t backoff_ns;            /* how long that was put off; strict: 0-15 generation,
	                                 * 20-63 tokens that a request was denied for want of */
};
_Static_assert(sizeof(struct slot_sync) == CACHE_LINE, "");

/* A shard is one hash in Redis: 1/SYNC_SHARDS of the fingerprints. */
#define SYNC_SHARDS 8u

static inline unsigned slot_shard(uint64_t identity_first)
{
	return (unsigned)(identity_first >> 61);
}

struct shard_record {
	/* For decisions. */
	uint64_t fresh_until_ns;        /* the view is stale after this; 0: never merged */
	uint64_t hosts;                 /* alive at the last round; 0: not known */
	uint64_t window_offset_ns;      /* the shard's clock - ours; 0: not known */
	uint64_t lease_until_ns;        /* strict: credit counts until here */
	uint64_t for_decisions[4];
	/* For the next leader. */
	uint64_t acked_tag;             /* of the last call that Redis acknowledged */
	uint64_t restore;               /* when Redis was found to have forgotten, which is
	                                 * then told what was agreed; else 0 */
	uint64_t virtual_seconds;       /* the shard's clock at the last reply, */
	uint64_t virtual_part_ns;
	uint64_t virtual_at_ns;         /* and ours when it was asked */
	uint64_t lost_ns;               /* ours when Redis was found to have forgotten */
	uint64_t lease_since_ns;        /* strict: when this host's tenure began; 0: in
					 * quarantine, or not known */
	uint64_t lease_epoch;           /* strict: a digest of the epoch; 0: not known */
};
_Static_assert(sizeof(struct shard_record) == 2 * CACHE_LINE, "");

/* What the leader tells people about policies and about Redis, for any process to read:
 * report.c. */
struct report_record {
	uint64_t stamp;                 /* keyed checksum of what follows: one that is half
	                                 * written is recognised, so it needs no ordering */
	uint64_t host;                  /* incarnation of the other host's segment */
	uint64_t hosts;                 /* that say the same; 0: nothing is told here */
	uint64_t policy[8];             /* name, NUL-padded */
	uint64_t text[53];              /* NUL-padded */
};
_Static_assert(sizeof(struct report_record) == 8 * CACHE_LINE, "");

#define REPORTS 16u

/* ---- Policies ---------------------------------------------------------- */

/* A limit as the decision path wants it: 16 words, copied word by word.  What a plain
 * decision needs (src/plain.h) is in the first line. */
struct limit_record {
	uint64_t plain_id;              /* the policy's id, if it is POLICY_SIMPLE and a token
	                                 * takes a whole number of nanoseconds; else 0 */
	uint64_t burst;
	/* period / limit = token_ns + token_part / parts, in lowest terms */
	uint64_t token_ns;
	/* (burst - 1) x period / limit = tolerance_ns + tolerance_part / parts */
	uint64_t tolerance_ns;
	uint64_t key[2];                /* key of this limit's fingerprints: hash.c */
	uint64_t token_part;
	uint64_t parts;
	uint64_t tolerance_part;
	uint64_t limit;
	uint64_t period_ns;
	uint64_t kind;                  /* 0-7 algorithm, 8-15 action */
	uint64_t lease;                 /* the change of the policies since which the policy
	                                 * leases at this rate; 0: it does not */
	uint64_t reserved[3];
};
_Static_assert(sizeof(struct limit_record) == 2 * CACHE_LINE, "");

struct policy_record {
	uint64_t serial;                /* 0: none here.  Never used twice */
	uint64_t flags;                 /* 0-7 limits, 8-15 fail mode, 16-23
	                                 * consistency, 24 shadow, 25 POLICY_SIMPLE,
	                                 * 26 POLICY_LEASE, 27 POLICY_COMPACT */
	uint64_t name[8];               /* NUL-padded */
	uint64_t buckets[6];            /* NUL-padded; 0: by the policy's name */
	struct limit_record limits[WEIR_LIMITS_MAX];
};
_Static_assert(sizeof(struct policy_record) == 10 * CACHE_LINE, "");

#define POLICY_SIMPLE (1ull << 25)      /* one token bucket, not in shadow: quick.h */
#define POLICY_LEASE (1ull << 26)       /* the same, and threads take tokens ahead */
#define POLICY_COMPACT (1ull << 27)     /* SIMPLE, in a compact segment: quick_compact.h */
_Static_assert(sizeof(((struct policy_record *)0)->name) == WEIR_NAME_MAX + 1, "");
_Static_assert(sizeof(((struct policy_record *)0)->buckets) == WEIR_BUCKETS_MAX + 1, "");

/* What changes at run time, outside of the two banks. */
struct policy_switch {
	uint64_t fail_mode;             /* serial << 8 | 0x80 | mode; anything else: the
	                                 * policy's own */
	uint64_t cap[WEIR_LIMITS_MAX];  /* sync: tokens that may be unmerged in a bucket of
	                                 * the limit; 0: not known yet */
	uint64_t reserved[3];
};
_Static_assert(sizeof(struct policy_switch) == CACHE_LINE, "");

/* ---- Participants and holds -------------------------------------------- */

/* A process that has the segment open.  It is alive while the kernel holds its
 * byte-range lock on byte LOCK_PARTICIPANTS + index of the file. */
struct participant {
	uint64_t id;                    /* random, but for its index in bits 0-11;
	                                 * 0: free */
	uint64_t pid;                   /* for show only: namespaces make it lie */
};

#define PARTICIPANTS_MAX 4096u

/* Byte-range locks, far beyond any file's end. */
#define LOCK_BASE (1ll << 60)
#define LOCK_CONTROL (LOCK_BASE + 0)
#define LOCK_PARTICIPANTS (LOCK_BASE + 16)

/* One hold of a concurrency limit; hold.c says who may do what. */
struct hold_record {
	struct word_pair word;          /* first: sequence << 8 | state; second: the
	                                 * owner's participant id */
	uint64_t slot;                  /* index << 16 | generation */
	uint64_t count;                 /* units */
};
_Static_assert(sizeof(struct hold_record) == 32, "");

/* A concurrency limit's bucket has bit 63 of time_ns set: the rest names the
 * last operation, as sequence << 24 | record. */
#define TIME_HELD (1ull << 63)

/* ---- Purses ------------------------------------------------------------ */

/* What a thread has taken of one bucket ahead of its requests, in a line that only it
 * writes as a rule; purse.c says who may do what. */
struct purse {
	struct word_pair word;          /* first: 0-15 tokens left, 16-17 state, 18-47
	                                 * sequence, 48-63 index of the purse; second: the
	                                 * slot's index << 16 | generation */
	struct word_pair terms;         /* first: until when they count; second: 0-23 of the
	                                 * sequence, 24-63 of the lease that they were taken by */
	uint64_t opened_ns;             /* when the word was last given to a thread: a hint */
	uint64_t reserved[3];
} __attribute__((aligned(CACHE_LINE)));
_Static_assert(sizeof(struct purse) == CACHE_LINE, "a line of the thread's own");

#define PURSES_MAX 65536u               /* an index has 16 bits */

/* In bits 56-63 of a slot's word purses: no time, and nothing that other hosts have. */
#define PURSES_TAG (0x80ull << 56)
#define PURSES_TAG_MASK (0xffull << 56)
#define PURSES_MARK 1ull
#define PURSES_LOOKING 2ull
#define PURSES_LOWERED_UNIT 4ull

/* ---- Counters ---------------------------------------------------------- */

#define COUNTERS_PER_LINE 8u
#define COUNTER_LINES_GLOBAL 4u         /* per shard */

/* ---- Header ------------------------------------------------------------ */

struct segment_header {
	/* Never changes; covered by the checksum. */
	uint64_t magic;
	uint32_t layout_version;
	uint32_t header_size;
	uint64_t total_size;
	uint64_t incarnation;
	uint8_t boot_id[16];
	uint64_t time_namespace;        /* inode of /proc/self/ns/time */
	uint64_t secret[2];
	uint64_t slots;
	uint32_t key_bytes;
	uint32_t note_size;
	uint32_t policies;
	uint32_t holds;
	uint32_t shards;                /* of the counters; a power of two */
	uint32_t participants;
	uint8_t clock;
	uint8_t huge_pages;             /* 1: it is in such, but for what does not fill one */
	uint16_t compact;               /* 1: its slots are compact_slots */
	uint32_t page_size;
	uint32_t sync_shards;           /* SYNC_SHARDS, or 0: this segment does not sync */
	uint32_t purses;
	int64_t wall_offset_ns;         /* wall clock - CLOCK_BOOTTIME at creation */
	uint64_t policies_offset;       /* two banks, then the switches */
	uint64_t counters_offset;
	uint64_t participants_offset;
	uint64_t holds_offset;
	uint64_t slots_offset;          /* behind the holds and the purses */
	uint64_t notes_offset;
	uint64_t sync_offset;           /* shards, queue, summary, slot_sync, reports */
	uint64_t checksum;

	/* Changes; one line each, since different processes write them. */
	struct {
		uint64_t version;       /* bit 0: which bank; the rest counts up */
		uint64_t next_serial;
	} policy __attribute__((aligned(CACHE_LINE)));
	struct {
		uint64_t offset_ns;     /* only grows: see bucket.c, fixed window */
	} wall __attribute__((aligned(CACHE_LINE)));
	struct {
		uint64_t next;          /* where to look for a free record */
	} hold __attribute__((aligned(CACHE_LINE)));
	struct {
		uint64_t control_pid;   /* who holds LOCK_CONTROL; for messages */
	} control __attribute__((aligned(CACHE_LINE)));
	struct {
		uint64_t enabled;       /* a sync thread has been started */
		uint64_t paused;
		uint64_t interval_ns;
		uint64_t staleness_ns;
		uint64_t expected_hosts;
		uint64_t overshoot;     /* thousandths of a burst */
		uint64_t follow;        /* apply policies that are published */
	} sync __attribute__((aligned(CACHE_LINE)));
	struct {
		struct word_pair word;  /* first: the leader's participant id; second: the
		                         * term, which only grows */
		uint64_t heartbeat_ns;
		uint64_t round_ns;      /* how long the last tick took */
		uint64_t connected;     /* to Redis; for people */
		uint64_t looked_ns;     /* at all charges, the last time that none was left */
		uint64_t round_max_ns;  /* the longest tick so far */
		uint64_t unmerged_max_ns;       /* the longest that a charge may have waited */
	} leader __attribute__((aligned(CACHE_LINE)));
	struct {
		uint64_t bell;          /* low half: a futex that decisions ring */
		uint64_t asleep;        /* is the leader listening?  enum wake_state */
	} wake __attribute__((aligned(CACHE_LINE)));
	uint64_t successor[8] __attribute__((aligned(CACHE_LINE)));
	struct {
		uint64_t latest_ns;     /* at which a bucket was taken as expired: table.c */
		uint64_t claims;        /* of compact slots, so far */
	} taken __attribute__((aligned(CACHE_LINE)));
	struct {
		uint64_t disagreeing;   /* policies that another host has otherwise */
		uint64_t published;     /* version of the publication in Redis */
		uint64_t applied;       /* version of the one that was applied last, */
		uint64_t applied_rank;  /* and which of that version */
	} others __attribute__((aligned(CACHE_LINE)));
	struct {
		struct word_pair calibration;   /* of the time stamp counter: clock.h */
	} ticks __attribute__((aligned(CACHE_LINE)));
	struct {
		uint64_t next;          /* purses that were given to threads so far */
	} purse __attribute__((aligned(CACHE_LINE)));
};
_Static_assert(sizeof(struct segment_header) <= PAGE_ALIGN, "the header is one page");

#endif
