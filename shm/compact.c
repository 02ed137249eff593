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
 * full barrier, before window_read's loads.
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

enum status {
	FREE,                   /* nobody's, or without debt */
	OWING,
	TENTATIVE,
};

struct seen_slot {
	struct compact_slot *slot;
	struct word_pair word;
	enum status status;
	bool mine;
	uint64_t debt_ns;       /* that is lost if the slot is taken */
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

static bool look_at(struct compact_slot *slot, uint64_t name, uint64_t now_ns,
		    struct seen_slot *seen)
{
	struct bucket_state state = { 0 };

	seen->slot = slot;
	if (!slot_read(slot, &seen->word))
		return false;
	state.time_ns = seen->word.second;
	seen->mine = name_of(seen->word) == name;
	seen->debt_ns = is_tentative(seen->word) ? 0 : gcra_debt_ns(&state, now_ns);
	seen->status = is_tentative(seen->word) ? TENTATIVE : seen->debt_ns ? OWING : FREE;
	return true;
}

static bool window_read(const struct compact_table *table, struct fingerprint fingerprint,
			uint64_t now_ns, struct seen_slot window[COMPACT_WINDOW_SLOTS])
{
	uint64_t name = compact_name(table, fingerprint);

	for (unsigned line = 1; line < COMPACT_WINDOW_LINES; line++)
		prefetch_line(compact_line(table, fingerprint, line));
	/* E17: behind the publication of the slot that the caller may confirm. */
	for (unsigned i = 0; i < COMPACT_WINDOW_SLOTS; i++) {
		struct compact_slot *line = compact_line(table, fingerprint,
							 i / COMPACT_LINE_SLOTS);

		if (!look_at(&line[i % COMPACT_LINE_SLOTS], name, now_ns, &window[i]))
			return false;
	}
	return true;
}

/* The first of the key's slots that is, or is not, tentative. */
static const struct seen_slot *window_first(const struct seen_slot window[COMPACT_WINDOW_SLOTS],
					    bool tentative)
{
	for (unsigned i = 0; i < COMPACT_WINDOW_SLOTS; i++) {
		if (window[i].mine && (window[i].status == TENTATIVE) == tentative)
			return &window[i];
	}
	return NULL;
}

/* ---- Victims ------------------------------------------------------------ */

/* Has A been free for longer than B? */
static bool is_older(const struct seen_slot *a, const struct seen_slot *b)
{
	return !b || a->word.second < b->word.second;
}

static const struct seen_slot *oldest_free(const struct seen_slot *group, unsigned *others)
{
	const struct seen_slot *oldest = NULL;

	*others = 0;
	for (unsigned i = 0; i < COMPACT_GROUP_SLOTS; i++) {
		if (group[i].status != FREE)
			++*others;
		else if (is_older(&group[i], oldest))
			oldest = &group[i];
	}
	return oldest;
}

static const struct seen_slot *choose_victim(const struct seen_slot window[COMPACT_WINDOW_SLOTS],
					     uint64_t newcomer_debt_ns)
{
	const struct seen_slot *least = NULL, *first, *second;
	unsigned in_first, in_second;

	first = oldest_free(window, &in_first);
	second = oldest_free(window + COMPACT_GROUP_SLOTS, &in_second);
	if (first && (!second || (!is_older(second, first) &&
				  (in_first < COMPACT_PREFERRED || in_first <= in_second))))
		return first;
	if (second)
		return second;

	for (unsigned i = 0; i < COMPACT_WINDOW_SLOTS; i++) {
		if (!least || window[i].debt_ns < least->debt_ns)
			least = &window[i];
	}
	return least->status == TENTATIVE || least->debt_ns < newcomer_debt_ns ? least : NULL;
}

/* A bucket without debt at NOW is about to be taken: say so first, as in table.c. */
static bool announce(const struct compact_table *table, const struct seen_slot *seen,
		     uint64_t now_ns)
{
	uint64_t latest_ns;

	if (seen->status != FREE || seen->word.second == 0)
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
static bool publish(const struct compact_table *table, const struct seen_slot *seen, uint64_t name,
		    struct bucket_ref *claim, struct claim_report *report)
{
	/* Relaxed: only that no two are equal counts. */
	uint64_t number = atomic_fetch_add_relaxed(table->claims, 1) &
			  ~COMPACT_TENTATIVE;
	struct word_pair tentative = { name, COMPACT_TENTATIVE | number };

	if (!atomic_cas_pair_full(&seen->slot->word, seen->word, tentative)) /* E16, E17 */
		return false;
	report->claimed++;
	if (seen->status == OWING)
		report->evicted_live++;
	*claim = (struct bucket_ref){ .compact = seen->slot, .generation = tentative.second };
	return true;
}

/* Empty the key's tentative slots in WINDOW but KEPT, which comes first in probe order.
 * False if one of them has changed since it was read. */
static bool empty_others(const struct seen_slot window[COMPACT_WINDOW_SLOTS],
			 const struct seen_slot *kept)
{
	static const struct word_pair nobody;

	for (unsigned i = 0; i < COMPACT_WINDOW_SLOTS; i++) {
		const struct seen_slot *other = &window[i];

		if (other != kept && other->mine && other->status == TENTATIVE &&
		    !atomic_cas_pair_full(&other->slot->word, other->word, nobody))     /* E16 */
			return false;
	}
	return true;
}

enum table_claim compact_claim(const struct compact_table *table, struct fingerprint fingerprint,
			       uint64_t now_ns, uint64_t newcomer_debt_ns, struct bucket_ref *ref,
			       struct claim_report *report)
{
	struct seen_slot window[COMPACT_WINDOW_SLOTS];
	uint64_t name = compact_name(table, fingerprint);
	struct bucket_ref candidate = { .compact = NULL };

	for (int attempt = 0; attempt < CLAIM_ATTEMPTS; attempt++) {
		const struct seen_slot *seen;

		if (!window_read(table, fingerprint, now_ns, window))
			continue;
		seen = window_first(window, false);
		if (seen) {
			*ref = (struct bucket_ref){ .compact = seen->slot };
			return CLAIM_FOUND;
		}
		seen = window_first(window, true);
		if (!seen) {
			seen = choose_victim(window, newcomer_debt_ns);
			/* It may have come meanwhile, to a slot that was read before. */
			if (!seen)
				return compact_find(table, fingerprint, ref) ? CLAIM_FOUND :
									       CLAIM_FULL;
			/* Two keys that take the slot from each other get nowhere. */
			if (seen->status == TENTATIVE && attempt < CLAIM_PATIENCE)
				continue;
			if (announce(table, seen, now_ns))
				publish(table, seen, name, &candidate, report);
			continue;
		}
		/* This reading counts only if all of it came after the slot was known to
		 * be tentative: behind our own publication, or at the second sight of
		 * another one's. */
		*ref = (struct bucket_ref){ .compact = seen->slot,
					    .generation = seen->word.second,
					    .tentative = true };
		if (candidate.compact == ref->compact && candidate.generation == ref->generation) {
			if (empty_others(window, seen))
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
