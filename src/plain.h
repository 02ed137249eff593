/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plain.h - the shortest decision: one token of a bucket that no other host shares.
 *
 * What.  What quick.h does, for a policy whose limit has its plain_id (one token
 * bucket, not in shadow, a token of which takes a whole number of nanoseconds) and
 * that does not sync.  A hot key costs little more than the processor needs to read
 * its clock and to change the bucket's line, so every instruction counts: nothing in
 * here lives in memory, and nothing but the kernel's clock is called.  What is rare is
 * in plain.c, and whatever else comes up is left to quick.h, before anything was stored.
 *
 * An id that is no policy's (0, and whatever a caller makes up) gets as far as a
 * record of zeros, for which no bucket was ever made.
 *
 * Ordering.  As in quick.h: E1, E2, E4, E6, E13.
 */
#ifndef WEIR_PLAIN_H
#define WEIR_PLAIN_H

#include "src/handle.h"
#include "src/quick.h"

/* A call, as the ways that are rarer go on with it. */
struct plain_call {
	weir_policy_id policy;
	const void *key;
	size_t key_length;
	struct weir_decision *decision;
	uint64_t cost;
	uint64_t now_ns;                /* 0: the clock is to be read */
	uint64_t version;               /* of the policies, for plain_elsewhere() */
};

/* Decide in another way, and leave the section: in weir.c. */
bool plain_otherwise(const struct segment *segment, const struct plain_call *call);

/* The same for a bucket that may be elsewhere in its window than in its first slot. */
bool plain_elsewhere(const struct segment *segment, struct urcu_bp_reader *reader,
		     struct fingerprint fingerprint, uint64_t now_ns,
		     const struct plain_call *call);

/* The table has no room for the key: what the fail mode says, and leave the section.  In
 * weir.c. */
bool plain_full(const struct segment *segment, const struct plain_call *call);

/* Note the denial of a bucket, and leave the section.  False. */
bool plain_noted(const struct segment *segment, const struct slot *slot, uint64_t generation);

/* May this process decide so?  Known before it has a handle. */
extern WEIR_HIDDEN bool weir_plain_possible;

/* The limit of POLICY as of VERSION, if it is plain. */
QUICK_INLINE const struct limit_record *plain_limit(const struct segment *segment,
						    uint64_t version, weir_policy_id policy)
{
	const struct policy_record *record;
	uint32_t index = policy_index(policy);

	if (index >= segment->plain_policies)
		return NULL;
	record = (version & 1 ? segment->banks[1] : segment->banks[0]) + index;
	if (policy_word(&record->limits[0].plain_id) != policy)
		return NULL;
	if (__builtin_expect(segment->shards != NULL, 0) &&
	    policy_flags_sync(segment, policy_word(&record->flags)))
		return NULL;
	return &record->limits[0];
}

/* The key of its fingerprints. */
QUICK_INLINE hash_block plain_limit_key(const struct limit_record *limit)
{
#if defined(__x86_64__) && !defined(WEIR_THREAD_SANITIZER)
	/* As one block, which is whole if the version is the same afterwards: E6. */
	return *(const volatile hash_block *)limit->key;
#else
	return (hash_block){ policy_word(&limit->key[0]), policy_word(&limit->key[1]) };
#endif
}

/* Is SLOT the key's?  *GENERATION is the owner's. */
QUICK_INLINE bool plain_is_there(const struct slot *slot, uint64_t low, uint64_t high,
				 uint64_t *generation)
{
	uint64_t first = atomic_load_acquire(&slot->identity.first);    /* E1 */
	uint64_t second = atomic_load_acquire(&slot->identity.second);  /* E1 */

	*generation = second & GENERATION_MASK;
	return first == low && (second ^ high) <= GENERATION_MASK;
}

/* Was this thread's last key a new one?  Then the next one may be, too: it is looked for
 * in the whole window, and all of that may be loaded at once. */
enum plain_absent {
	PLAIN_NOT_ABSENT,
	PLAIN_NO_ROOM,
	PLAIN_CLAIMED,
};
extern WEIR_HIDDEN _Thread_local unsigned char weir_plain_absent;

void plain_prefetch_rest(const struct segment *segment, struct fingerprint fingerprint);

/* Judge, and spend if that is allowed.  *DEBT_NS is the debt before. */
QUICK_INLINE enum quick_result plain_attempt(struct slot *slot, uint64_t generation,
					     const uint64_t *version, uint64_t version_seen,
					     const struct limit_record *limit, uint64_t now_ns,
					     uint64_t *debt_ns)
{
	uint64_t second = atomic_load_acquire(&slot->state.second);     /* E2 */
	uint64_t first = atomic_load_acquire(&slot->state.first);       /* E2 */
	struct word_pair seen = { first, second }, after;
	/* As gcra_debt_ns(): a time before now wraps.  By a mask, since no branch could be
	 * predicted: whether a bucket is full is up to the callers. */
	uint64_t debt = first - now_ns;

	debt &= -(uint64_t)(debt <= GCRA_DEBT_ABSURD_NS);
	*debt_ns = debt;
	if (((second ^ STATE_LIVE ^ generation) & (GENERATION_MASK | STATE_LIVE)) != 0)
		return QUICK_NOT;
	if (debt > policy_word(&limit->tolerance_ns)) {
		/* Was it the limit that is in force? */
		if (atomic_load_acquire(version) != version_seen)       /* E4 */
			return QUICK_NOT;
		/* Did the two words stand there together?  See bucket.c. */
		return atomic_load_acquire(&slot->state.second) == second ? /* E2 */
			       QUICK_DENIED : QUICK_AGAIN;
	}
	after.first = now_ns + debt + policy_word(&limit->token_ns);
	after.second = second + (1ull << STATE_USED_SHIFT);
	if (atomic_load_acquire(version) != version_seen)               /* E4 */
		return QUICK_NOT;
	return atomic_cas_pair_full(&slot->state, seen, after) ?        /* E2 */
		       QUICK_ALLOWED : QUICK_AGAIN;
}

/* For the answer's numbers: read LIMIT before the bucket is judged by it, and then tell,
 * by the debt that was there before. */
void plain_read(const struct limit_record *limit, struct weir_decision *decision);
void plain_describe(struct weir_decision *decision, bool allowed, uint64_t debt_ns);

enum plain_clock {
	PLAIN_TICKS,            /* the processor's, by this thread's calibration */
	PLAIN_KERNEL,
	PLAIN_CALLER,           /* NOW_NS is the time */
};

/* Decide by the bucket in SLOT, count that, and leave the section. */
QUICK_INLINE bool plain_spend(const struct segment *segment, struct urcu_bp_reader *reader,
			      struct slot *slot, uint64_t generation, uint64_t version,
			      const struct limit_record *limit, uint64_t now_ns,
			      const struct plain_call *call)
{
	enum quick_result result;
	uint64_t debt_ns;

	if (__builtin_expect(call->decision != NULL, 0))
		plain_read(limit, call->decision);
	result = plain_attempt(slot, generation, &segment->header->policy.version, version, limit,
			       now_ns, &debt_ns);
	if (__builtin_expect(result == QUICK_ALLOWED, 1)) {
		counter_add(segment, policy_index(call->policy), COUNTER_ALLOWED, 1);
		if (__builtin_expect(call->decision != NULL, 0))
			plain_describe(call->decision, true, debt_ns);
		rcu_leave_light(reader);
		return true;
	}
	if (result == QUICK_DENIED) {
		counter_add(segment, policy_index(call->policy), COUNTER_DENIED, 1);
		if (__builtin_expect(call->decision != NULL, 0))
			plain_describe(call->decision, false, debt_ns);
		if (__builtin_expect(note_is_sample(), 0))
			return plain_noted(segment, slot, generation);
		rcu_leave_light(reader);
		return false;
	}
	return plain_otherwise(segment, call);
}

/* Decide, inside of a section that rcu_enter_light() began, and leave it. */
QUICK_INLINE bool plain_allow(const struct segment *segment, struct urcu_bp_reader *reader,
			      weir_policy_id policy, const void *key, size_t key_length,
			      uint64_t now_ns, struct weir_decision *decision,
			      enum plain_clock clock)
{
	struct plain_call call = { policy, key, key_length, decision, 1, now_ns, 0 };
	const struct limit_record *limit;
	struct fingerprint fingerprint;
	uint64_t version, generation;
	struct slot *slot;

	/* What only rarer ways need waits in memory from here on: registers are short. */
	__asm__("" : "+m"(call));
	version = policy_version(segment);
	if (!key || key_length - 1 >= WEIR_KEY_MAX)
		return plain_otherwise(segment, &call);
	limit = plain_limit(segment, version, policy);
	if (!limit)
		return plain_otherwise(segment, &call);
	fingerprint = hash_fingerprint_hardware(&segment->hash, plain_limit_key(limit), key,
						key_length);
	slot = table_slot(&segment->table, fingerprint, 0);
	/* Before the clock is read: see quick.h. */
	__builtin_prefetch(slot, 1);
	if (__builtin_expect(weir_plain_absent, 0))
		plain_prefetch_rest(segment, fingerprint);
	if (clock == PLAIN_TICKS && !clock_cached_ns(segment->header, &now_ns))
		return plain_otherwise(segment, &call);
	if (clock == PLAIN_KERNEL)
		now_ns = clock_ns(CLOCK_BOOTTIME);
	if (__builtin_expect(!plain_is_there(slot, fingerprint.low, fingerprint.high,
					     &generation), 0)) {
		call.version = version;
		return plain_elsewhere(segment, reader, fingerprint, now_ns, &call);
	}
	return plain_spend(segment, reader, slot, generation, version, limit, now_ns, &call);
}

#endif
