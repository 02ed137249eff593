/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact.c - a bucket in 16 bytes: found, claimed, charged.
 *
 * What.  A slot has the name of its key, a few bits of a count, and the time at which
 * the bucket is full again: all that a token bucket is.  One compare-and-swap changes
 * all of it.  A key may live in two groups of 8 slots, which are two lines each; a hit is
 * one line most of the time.  Keys go to their first group until it holds 5, then to the
 * emptier one.  Filled with keys that are all in debt, a table of four million slots
 * evicts the first of them at 66 %.  Larger groups could be filled more, and would cost
 * more lines to whoever has to look at all of a window: a key that is new.
 *
 * Identity.  The name is 48 bits: the upper ones of  m0 x low + m1 x high  modulo 2^64,
 * with secret odd m0 and m1, of the fingerprint (hash.c), which says policy, limit and
 * key.  Two fingerprints that differ by d0 and d1 can have one name only if
 * m0 x d0 + m1 x d1 is less than 2^16 away from 0.  Let d be that of the two differences
 * which ends in fewer zero bits, s of them.  Whatever the other product is, m x d is one
 * of 2^(63-s) numbers 2^(s+1) apart, all equally likely, and at most 2^(16-s) + 1 of them
 * will do: while s <= 16, with a probability of at most 2^-46.  (Fingerprints for which s
 * is larger are too few: with all that follows from them less than 2^-64.)  So a key that
 * is new to its window shares the bucket of one of the 15 others there with a probability
 * of less than 2^-42.  Both are then charged to one bucket: each may be denied what the
 * other one took, and neither is given more than one bucket has; but who resets or refunds
 * one of the two does it to both.
 *
 * Count.  GCRA needs to know where tokens stand between two nanoseconds, and so their
 * number modulo the parts of a token's time (gcra.h): that is what is kept.  Limits with
 * more than 2^16 parts have their token's time rounded up (policy_table.c).
 *
 * Invariant.  At most one slot is a bucket of one name.  A charge lands in the state
 * that was judged: everything that there is to know of the bucket is compared.  So an
 * old reading that is true again by chance is simply true.
 *
 * Protocol.  A slot changes hands in two steps, each one CAS of all 16 bytes:
 *
 *   publish  whatever is worth less -> (name, tentative, number of the claim)
 *   confirm  (name, tentative, number of the claim) -> (name, charged)
 *
 * The rest is table.c's: confirming is the first charge.  Before either of two claimers
 * of one key may confirm, it reads the window behind its publication (E17).  A bucket
 * that is there is used; of tentative slots the first in probe order stays and the others
 * are emptied, whoever published them: the same 16 bytes that confirming changes, so
 * exactly one of the two happens.  No two claims have one number, so that who slept since
 * it looked confirms no later claim of the same name in the same slot.
 *
 * Victims.  A slot without debt, and of these the one that has been so for longest: keys
 * that come again and again find their slot even if each time their debt is gone.  Else
 * another key's tentative one, else the one with the least debt if that is less than the
 * newcomer's.  The same clocks and the same announcement as in table.c (taken_ns).
 *
 * Readers.  compact_find (compact.h): no store.  Crash.  After any store each slot is a
 * bucket, tentative, or empty.
 *
 * Ordering.  E16: every CAS of a slot -> the loads of it: who sees a key gone sees
 * taken_ns.  A denial is judged on two loads of 8 bytes, as in bucket.c.  E17: publish, a
 * full barrier, before window_read_own's loads.
 *
 * References: M. Dietzfelbinger et al., "A reliable randomized algorithm for the
 * closest-pair problem", 1997 (multiply-shift); and those of table.c.
 */
#include "shm/compact.h"

#ifndef CLAIM_ATTEMPTS /* the models lower it */
#define CLAIM_ATTEMPTS 64
#endif
#define CLAIM_PATIENCE (CLAIM_ATTEMPTS / 8)     /* with another key's claimer */
#define CHANGE_ATTEMPTS 4096
#define READ_ATTEMPTS 64

void compact_multipliers(const uint64_t secret[2], uint64_t multiplier[2])
{
	static const char what[] = "names of compact slots";
	struct fingerprint words = hash_strong(secret, what, sizeof(what));

	multiplier[0] = words.low | 1;
	multiplier[1] = words.high | 1;
}

/* ---- A window ----------------------------------------------------------- */

/* The slots of a window that have the key's name. */
struct own_slots {
	struct compact_slot *live;
	struct bucket_ref tentative;    /* the first in probe order */
	bool others;                    /* are there more of these? */
};

/* The two words as they stood together; false if they did not. */
static bool slot_read(const struct compact_slot *slot, struct word_pair *word)
{
	uint64_t again = atomic_load_acquire(&slot->word.first);                /* E16 */

	for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
		word->first = again;
		word->second = atomic_load_acquire(&slot->word.second);         /* E16 */
		/* Ordered behind the second word by its acquire. */
		again = atomic_load_acquire(&slot->word.first);                 /* E16 */
		if (again == word->first)
			return true;
	}
	return false;
}

static bool is_tentative(struct word_pair word)
{
	return (word.second & COMPACT_TENTATIVE) != 0;
}

static uint64_t name_of(struct word_pair word)
{
	return word.first & ~COMPACT_COUNT_MASK;
}

/* Enter SLOT into OWN, if it has NAME.  False if it did not stand still. */
static __attribute__((noinline)) bool slot_read_own(struct compact_slot *slot, uint64_t name,
						    struct own_slots *own)
{
	struct word_pair word;

	if (!slot_read(slot, &word))
		return false;
	if (name_of(word) != name)
		return true;
	if (!is_tentative(word)) {
		if (!own->live)
			own->live = slot;
		return true;
	}
	if (own->tentative.compact)
		own->others = true;
	else
		own->tentative = (struct bucket_ref){ .compact = slot,
						      .generation = word.second,
						      .tentative = true };
	return true;
}

static bool window_read_own(const struct compact_window *window, uint64_t name,
			    struct own_slots *own)
{
	*own = (struct own_slots){ .live = NULL };
	/* E17: behind the publication of the slot that the caller may confirm. */
	for (unsigned line = 0; line < COMPACT_WINDOW_LINES; line++) {
#pragma GCC unroll 4
		for (unsigned i = 0; i < COMPACT_LINE_SLOTS; i++) {
			struct compact_slot *slot = &window->lines[line][i];
			uint64_t first = atomic_load_acquire(&slot->word.first);        /* E16 */

			if (__builtin_expect((first ^ name) <= COMPACT_COUNT_MASK, 0) &&
			    !slot_read_own(slot, name, own))
				return false;
		}
	}
	return true;
}

/* ---- Victims ------------------------------------------------------------ */

/* What a group has to offer. */
struct offer {
	struct compact_slot *slot;      /* free for longest; none is free: the least debt */
	uint64_t second;                /* its word, as it was read */
	unsigned taken;                 /* slots that are not free */
	bool tentative;                 /* some are */
};

/* A slot is free if its second word, a time, is not after now; tentative ones have bit 63.
 * Relaxed: whoever chooses by it looks at his slot again. */
static void group_weigh(struct compact_slot *const lines[COMPACT_GROUP_LINES], uint64_t now_ns,
			struct offer *offer)
{
	uint64_t least = UINT64_MAX, all = 0;

	*offer = (struct offer){ .slot = lines[0] };
	for (unsigned line = 0; line < COMPACT_GROUP_LINES; line++) {
#pragma GCC unroll 4
		for (unsigned i = 0; i < COMPACT_LINE_SLOTS; i++) {
			struct compact_slot *slot = &lines[line][i];
			uint64_t second = atomic_load_relaxed(&slot->word.second);

			offer->slot = second < least ? slot : offer->slot;
			least = second < least ? second : least;
			offer->taken += second > now_ns;
			all |= second;
		}
	}
	offer->second = least;
	offer->tentative = (all & COMPACT_TENTATIVE) != 0;
}

/* The slot to take, and the second word that it is chosen for.  NULL: all have as much
 * debt as the newcomer. */
struct choice {
	struct compact_slot *slot;
	uint64_t second;
};

/* Of a window without a free slot: another key's tentative one, whose claimer is at work or
 * dead. */
static struct choice first_tentative(const struct compact_window *window)
{
	struct choice choice = { .slot = NULL };

	for (unsigned i = 0; i < COMPACT_WINDOW_SLOTS && !choice.slot; i++) {
		struct compact_slot *slot =
			&window->lines[i / COMPACT_LINE_SLOTS][i % COMPACT_LINE_SLOTS];

		/* Relaxed: as in group_weigh(). */
		choice.second = atomic_load_relaxed(&slot->word.second);
		if (choice.second & COMPACT_TENTATIVE)
			choice.slot = slot;
	}
	return choice;
}

static struct choice choose_victim(const struct compact_window *window, uint64_t now_ns,
				   uint64_t newcomer_debt_ns)
{
	struct choice choice = { .slot = NULL };
	const struct offer *best;
	struct offer first, second;

	group_weigh(window->lines, now_ns, &first);
	group_weigh(window->lines + COMPACT_GROUP_LINES, now_ns, &second);
	best = second.second < first.second ? &second : &first;
	/* Both have a free slot, and in the first it is the older one. */
	if (best == &first && second.second <= now_ns && first.taken >= COMPACT_PREFERRED &&
	    first.taken > second.taken)
		best = &second;
	if (best->second > now_ns && (first.tentative || second.tentative))
		choice = first_tentative(window);
	if (!choice.slot &&
	    (best->second <= now_ns || best->second - now_ns < newcomer_debt_ns))
		choice = (struct choice){ best->slot, best->second };
	return choice;
}

/* The bucket of WORD, if it has no debt at NOW, is about to be taken: say so first, as in
 * table.c.  False if too many others are saying so. */
static bool announce(const struct compact_table *table, struct word_pair word, uint64_t now_ns)
{
	uint64_t latest_ns;

	if (word.second > now_ns || word.second == 0)
		return true;
	/* Relaxed: the publication, a full barrier, comes behind it. */
	latest_ns = atomic_load_relaxed(table->taken_ns);
	for (int attempt = 0; attempt < CLAIM_ATTEMPTS; attempt++) {
		if (latest_ns >= now_ns && latest_ns - now_ns <= TAKEN_AHEAD_MAX_NS)
			return true;
		if (atomic_cas_relaxed(table->taken_ns, &latest_ns, now_ns))
			return true;
	}
	return false;
}

/* ---- Claiming ----------------------------------------------------------- */

/* *CLAIM is then the slot as it was claimed. */
static bool publish(const struct compact_table *table, struct compact_slot *slot,
		    struct word_pair word, uint64_t name, struct bucket_ref *claim)
{
	/* Relaxed: only that no two are equal counts. */
	uint64_t number = atomic_fetch_add_relaxed(table->claims, 1) &
			  ~COMPACT_TENTATIVE;
	struct word_pair tentative = { name, COMPACT_TENTATIVE | number };

	if (!atomic_cas_pair_full(&slot->word, word, tentative))        /* E16, E17 */
		return false;
	*claim = (struct bucket_ref){ .compact = slot, .generation = tentative.second };
	return true;
}

/* Empty the key's tentative slots behind KEPT, in probe order.  False if one of them has
 * come to life, or changes, or another is in front of it by now: else both could go, each
 * for the other one. */
static __attribute__((noinline)) bool empty_others(const struct compact_window *window,
						   uint64_t name, const struct compact_slot *kept)
{
	static const struct word_pair nobody;
	bool behind = false;

	for (unsigned i = 0; i < COMPACT_WINDOW_SLOTS; i++) {
		struct compact_slot *slot =
			&window->lines[i / COMPACT_LINE_SLOTS][i % COMPACT_LINE_SLOTS];
		struct word_pair word;

		if (slot == kept) {
			behind = true;
			continue;
		}
		if (!slot_read(slot, &word))
			return false;
		if (name_of(word) != name)
			continue;
		if (!behind || !is_tentative(word) ||
		    !atomic_cas_pair_full(&slot->word, word, nobody))   /* E16 */
			return false;
	}
	return true;
}

/* Take the chosen slot for NAME.  CLAIM_TENTATIVE: *CANDIDATE is it; CLAIM_CONTENDED:
 * look again. */
static enum table_claim take(const struct compact_table *table,
			     struct choice choice, uint64_t name, uint64_t now_ns, bool patient,
			     struct bucket_ref *candidate, struct claim_report *report)
{
	struct compact_slot *slot = choice.slot;
	struct word_pair word;

	if (!slot)
		return CLAIM_FULL;
	/* By now it may be another's, or the key's. */
	if (!slot_read(slot, &word) || word.second != choice.second || name_of(word) == name)
		return CLAIM_CONTENDED;
	/* Two keys that take the slot from each other get nowhere. */
	if (is_tentative(word) && patient)
		return CLAIM_CONTENDED;
	if (!announce(table, word, now_ns) || !publish(table, slot, word, name, candidate))
		return CLAIM_CONTENDED;
	report->claimed++;
	if (word.second > now_ns && !is_tentative(word))
		report->evicted_live++;
	return CLAIM_TENTATIVE;
}

enum table_claim compact_claim(const struct compact_table *table, struct fingerprint fingerprint,
			       uint64_t now_ns, uint64_t newcomer_debt_ns, struct bucket_ref *ref,
			       struct claim_report *report)
{
	const struct compact_window window = compact_window(table, fingerprint);
	uint64_t name = compact_name(table, fingerprint);
	struct bucket_ref candidate = { .compact = NULL };

	for (int attempt = 0; attempt < CLAIM_ATTEMPTS; attempt++) {
		struct own_slots own;
		struct choice choice;

		/* Before the look for the key's own: then what another claimer of it
		 * publishes meanwhile is seen there, or by take(). */
		if (!candidate.compact)
			choice = choose_victim(&window, now_ns, newcomer_debt_ns);
		if (!window_read_own(&window, name, &own))
			continue;
		if (own.live) {
			*ref = (struct bucket_ref){ .compact = own.live };
			return CLAIM_FOUND;
		}
		if (!own.tentative.compact && candidate.compact) {
			/* It is gone: look for another. */
			candidate.compact = NULL;
			continue;
		}
		if (!own.tentative.compact) {
			/* It may have come meanwhile, to a slot that was read before. */
			if (take(table, choice, name, now_ns, attempt < CLAIM_PATIENCE,
				 &candidate, report) == CLAIM_FULL)
				return compact_find(table, fingerprint, ref) ? CLAIM_FOUND :
									       CLAIM_FULL;
			continue;
		}
		/* This reading counts only if all of it came after the slot was known to
		 * be tentative: behind our own publication, or at the second sight of
		 * another one's. */
		*ref = own.tentative;
		if (candidate.compact == ref->compact && candidate.generation == ref->generation) {
			if (!own.others || empty_others(&window, name, ref->compact))
				return CLAIM_TENTATIVE;
		}
		candidate = *ref;
	}
	return CLAIM_CONTENDED;
}

/* ---- Changing ----------------------------------------------------------- */

/* What REF's bucket has; false if the slot is another's now. */
static bool decode(const struct bucket_ref *ref, uint64_t name, struct word_pair word,
		   struct bucket_state *state)
{
	*state = (struct bucket_state){ 0 };
	if (name_of(word) != name)
		return false;
	if (is_tentative(word))
		return ref->tentative && word.second == ref->generation;
	state->time_ns = word.second;
	state->used = word.first & COMPACT_COUNT_MASK;
	return true;
}

/* The count that USED, as a slot keeps it, is of all that it may be of: the one nearest to
 * what a charge left there. */
static uint64_t count_near(const struct limit *limit, uint64_t used, uint64_t charged)
{
	int64_t room = compact_room(limit->parts);
	int64_t ahead = (int64_t)compact_count(limit->parts, used - charged);

	return charged + (uint64_t)(ahead > room / 2 ? ahead - room : ahead);
}

enum bucket_result compact_apply(const struct compact_table *table, struct fingerprint fingerprint,
				 const struct bucket_ref *ref, const struct limit *limit,
				 const struct bucket_request *request, struct verdict *verdict)
{
	uint64_t name = compact_name(table, fingerprint);
	bool asks = request->operation == BUCKET_SPEND;

	for (int attempt = 0; attempt < CHANGE_ATTEMPTS; attempt++) {
		struct bucket_state before, after;
		struct word_pair word, changed;

		if (!slot_read(ref->compact, &word))
			continue;
		if (!decode(ref, name, word, &before))
			return BUCKET_GONE;
		if (request->operation == BUCKET_UNDO)
			before.used = count_near(limit, before.used, request->charged.used);
		*verdict = bucket_judge(limit, &before, request, &after);
		if (request->operation == BUCKET_PEEK || (asks && !verdict->allowed) ||
		    (after.time_ns == before.time_ns && after.used == before.used)) {
			bucket_add_remaining(limit, &before, request, verdict);
			return BUCKET_DONE;
		}
		if (atomic_load_acquire(request->version) != request->version_seen)     /* E4 */
			return BUCKET_POLICY_CHANGED;
		after.used = compact_count(limit->parts, after.used);
		changed = (struct word_pair){ name | after.used, after.time_ns };
		if (atomic_cas_pair_full(&ref->compact->word, word, changed)) {         /* E16 */
			verdict->after = after;
			bucket_add_remaining(limit, &after, request, verdict);
			return BUCKET_DONE;
		}
	}
	return BUCKET_CONTENDED;
}
