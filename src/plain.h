/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plain.h - the shortest decision: one token of a bucket that no other host shares.
 *
 * What.  What quick.h does, for a policy whose limit has its plain_id (one token
 * bucket, not in shadow, a token of which takes a whole number of nanoseconds) and
 * that does not sync.  A hot key costs little more than the processor needs to read
 * its clock and to change the bucket's line, so every instruction counts, and so does
 * how long the slot's address takes: the kernel's clock waits for it.  So nothing in
 * here lives in memory; what is to be known of the policy each thread has at hand as
 * of the version that it decided by last; and nothing but the kernel's clock is
 * called.  What is rare is in plain.c, and whatever else comes up is left to quick.h,
 * before anything was stored.
 *
 * Stores to the stack cost more than they seem to: a load of the same place in another
 * page waits for them, and where the stack is differs from run to run.
 *
 * Signals.  What the thread has at hand is read and written only inside of a section
 * that rcu_enter_light() began, and a handler in between finds that it cannot begin one.
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
};

/* Decide in another way, and leave the section: in weir.c. */
bool plain_otherwise(const struct segment *segment, const struct plain_call *call);

/* Decide about a token of a policy that leases, and leave the section.  In weir.c. */
bool plain_leased(const struct segment *segment, weir_policy_id policy, const void *key,
		  size_t key_length, struct weir_decision *decision);

/* The table has no room for the key: what the fail mode says, and leave the section.  In
 * weir.c. */
bool plain_full(const struct segment *segment, const struct plain_call *call);

/* Note the denial of a bucket that is to be sampled, and leave the section.  False. */
bool plain_noted(const struct segment *segment, const struct slot *slot, uint64_t generation);

/* May this process decide so?  Known before it has a handle. */
extern WEIR_HIDDEN bool weir_plain_possible;

/* What a thread has at hand of a policy, all of it as of one version: a line. */
struct plain_policy {
	uint64_t mapping;               /* the segment's; its complement: all is known, but
	                                 * set aside; 0: nothing is known */
	uint64_t version;
	weir_policy_id id;
	uint64_t token_ns;
	uint64_t tolerance_ns;
	uint64_t *counters;             /* its own, in the first shard */
	hash_block key;                 /* of its fingerprints, prepared for 16 bytes */
} __attribute__((aligned(CACHE_LINE)));
_Static_assert(sizeof(struct plain_policy) == CACHE_LINE, "");

/* Those that it decided by last. */
#define PLAIN_POLICIES 4u

/* Was the thread's last key a new one?  Then the next one may be, too: see plain.c. */
enum plain_absent {
	PLAIN_NOT_ABSENT,
	PLAIN_NO_ROOM,
	PLAIN_CLAIMED,
};

struct plain_thread {
	struct plain_policy policies[PLAIN_POLICIES];
	uint32_t unsampled;             /* denials until the next that is noted */
	bool samples;                   /* they are counted */
	unsigned char absent;           /* enum plain_absent */
};
extern WEIR_HIDDEN _Thread_local struct plain_thread weir_plain;

/* Where a policy is, if it is at hand. */
static inline struct plain_policy *plain_place(weir_policy_id id)
{
	return &weir_plain.policies[id % PLAIN_POLICIES];
}

/* Is KNOWN the policy ID of SEGMENT, as of VERSION? */
static inline bool plain_knows(const struct plain_policy *known, const struct segment *segment,
			       uint64_t version, weir_policy_id id)
{
	return known->mapping == segment->mapping && known->version == version && known->id == id;
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

/* Judge by what is known of the policy, and spend if that is allowed.  *DEBT_NS is the
 * debt before.  *GENERATION, the owner's, is the same afterwards: but a register less is
 * needed, as the bucket's word has it, too. */
QUICK_INLINE enum quick_result plain_attempt(struct slot *slot, uint64_t *generation,
					     const uint64_t *version,
					     const struct plain_policy *known, uint64_t now_ns,
					     uint64_t *debt_ns)
{
	uint64_t second = atomic_load_acquire(&slot->state.second);     /* E2 */
	uint64_t first = atomic_load_acquire(&slot->state.first);       /* E2 */
	struct word_pair seen = { first, second }, after;
	/* A conditional move, since no branch could be predicted: whether a bucket is
	 * full is up to the callers. */
	uint64_t from = first > now_ns ? first : now_ns;

	*debt_ns = from - now_ns;
	if (((second ^ *generation) & (GENERATION_MASK | STATE_LIVE)) != STATE_LIVE)
		return QUICK_NOT;
	*generation = second & GENERATION_MASK;
	if (from > now_ns + known->tolerance_ns) {
		/* What gcra_debt_ns() takes for no debt is rare.  And was it the limit that
		 * is in force? */
		if (first - now_ns > GCRA_DEBT_ABSURD_NS ||
		    atomic_load_acquire(version) != known->version)     /* E4 */
			return QUICK_NOT;
		/* Did the two words stand there together?  See bucket.c. */
		return atomic_load_acquire(&slot->state.second) == second ? /* E2 */
			       QUICK_DENIED : QUICK_AGAIN;
	}
	if (atomic_load_acquire(version) != known->version)             /* E4 */
		return QUICK_NOT;
	after.first = from + known->token_ns;
	after.second = second + (1ull << STATE_USED_SHIFT);
	return atomic_cas_pair_full(&slot->state, seen, after) ?        /* E2 */
		       QUICK_ALLOWED : QUICK_AGAIN;
}

enum plain_clock {
	PLAIN_TICKS,            /* the processor's, by this thread's calibration */
	PLAIN_KERNEL,
	PLAIN_CALLER,           /* the time is given */
};

/* For the answer's numbers: what is not at hand, read before the bucket is judged, */
static inline uint64_t plain_burst(const struct segment *segment, const struct plain_policy *known)
{
	return policy_word(&policy_record_at(segment, known->version, policy_index(known->id))
				    ->limits[0].burst);
}

/* and all but that, by the debt that was there before. */
void plain_describe(struct weir_decision *decision, uint64_t token_ns, uint64_t tolerance_ns,
		    bool allowed, uint64_t debt_ns);

/* What the functions below leave to others: all of it, or a look at the rest of the key's
 * window at NOW_NS.  GIVEN_NS is the time that the caller gave, or 0. */
bool plain_leave(const struct segment *segment, weir_policy_id policy, const void *key,
		 size_t key_length, struct weir_decision *decision, uint64_t given_ns);
bool plain_elsewhere(const struct segment *segment, uint64_t low, uint64_t high, uint64_t now_ns,
		     weir_policy_id policy, const void *key, size_t key_length,
		     struct weir_decision *decision, uint64_t given_ns);

/* The same of a key of PLAIN_KEY bytes, without a decision, at no time of the caller's: so
 * few arguments are in registers. */
#define PLAIN_KEY 16u
bool plain_short_elsewhere(const struct segment *segment, uint64_t low, uint64_t high,
			   uint64_t now_ns, weir_policy_id policy, const void *key);

/* Or to learn what is to be known of the policy, and decide. */
bool plain_learning(const struct segment *segment, weir_policy_id policy, const void *key,
		    size_t key_length, struct weir_decision *decision, uint64_t given_ns);

/* Or to count what was decided, where that takes long. */
bool plain_allowed(const struct segment *segment, const struct plain_policy *known);
bool plain_denied(const struct segment *segment, const struct plain_policy *known,
		  const struct slot *slot, uint64_t generation);

/* Decide by the bucket in SLOT, count that, and leave the section. */
QUICK_INLINE bool plain_decide(const struct segment *segment, struct urcu_bp_reader *reader,
			       const struct plain_policy *known, struct slot *slot,
			       uint64_t generation, uint64_t now_ns, weir_policy_id policy,
			       const void *key, size_t key_length, struct weir_decision *decision,
			       uint64_t given_ns)
{
	enum quick_result result;
	uint64_t debt_ns;

	if (decision)
		decision->limit = plain_burst(segment, known);
	result = plain_attempt(slot, &generation, &segment->header->policy.version, known, now_ns,
			       &debt_ns);
	if (result != QUICK_ALLOWED && result != QUICK_DENIED)
		return plain_leave(segment, policy, key, key_length, decision, given_ns);
	if (decision)
		plain_describe(decision, known->token_ns, known->tolerance_ns,
			       result == QUICK_ALLOWED, debt_ns);
	if (result == QUICK_ALLOWED) {
		if (!counter_try_add(segment, known->counters + COUNTER_ALLOWED, 1))
			return plain_allowed(segment, known);
		rcu_leave_light(reader);
		return true;
	}
	if (!counter_try_add(segment, known->counters + COUNTER_DENIED, 1))
		return plain_denied(segment, known, slot, generation);
	if (__builtin_expect(weir_plain.unsampled == 0, 0))
		return plain_noted(segment, slot, generation);
	weir_plain.unsampled--;
	rcu_leave_light(reader);
	return false;
}

/* Decide inside of a section that rcu_enter_light() began, and leave it.  LONG_CALL: it is
 * not one that plain_short_elsewhere() takes. */
QUICK_INLINE bool plain_allow(const struct segment *segment, struct urcu_bp_reader *reader,
			      weir_policy_id policy, const void *key, size_t key_length,
			      struct weir_decision *decision, uint64_t given_ns,
			      enum plain_clock clock, bool long_call)
{
	const struct segment_header *header = segment->header;
	uint64_t version = atomic_load_acquire(&header->policy.version);        /* E4 */
	const struct plain_policy *known = plain_place(policy);
	uint64_t now_ns = given_ns, generation;
	struct fingerprint fingerprint;
	struct slot *slot;

	/* One register, rather than a sum again and again. */
	__asm__("" : "+r"(known));
	if (!key || (long_call && key_length - 1 >= WEIR_KEY_MAX) ||
	    !plain_knows(known, segment, version, policy))
		return plain_learning(segment, policy, key, key_length, decision, given_ns);
	fingerprint = hash_prepared_fingerprint(&segment->hash, known->key, key, key_length);
	slot = table_slot(&segment->table, fingerprint, 0);
	/* Before the clock is read: see quick.h. */
	prefetch_line(slot);
	if (clock == PLAIN_KERNEL) {
		/* And its neighbour, where an eighth of the keys are: the kernel's clock hides
		 * what that takes. */
		prefetch_line((const void *)((uintptr_t)slot ^ CACHE_LINE));
		now_ns = clock_ns(CLOCK_BOOTTIME);
	}
	if (clock == PLAIN_TICKS && !clock_cached_ns(header, &now_ns))
		return plain_leave(segment, policy, key, key_length, decision, given_ns);
	if (__builtin_expect(!plain_is_there(slot, fingerprint.low, fingerprint.high,
					     &generation), 0))
		return long_call ? plain_elsewhere(segment, fingerprint.low, fingerprint.high,
						   now_ns, policy, key, key_length, decision,
						   given_ns) :
				   plain_short_elsewhere(segment, fingerprint.low,
							 fingerprint.high, now_ns, policy, key);
	return plain_decide(segment, reader, known, slot, generation, now_ns, policy, key,
			    key_length, decision, given_ns);
}

#endif
