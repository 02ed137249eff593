/* SPDX-License-Identifier: Apache-2.0 */
/*
 * credit.c - how far a bucket of mode strict may spend.
 *
 * What.  The word merged of its slot is the limit: the tokens that used may reach.
 * Decisions compare (shm/bucket.c); only leaders change it.
 *
 * Invariant.  Whoever is admitted finds, after its compare-and-swap of the state, that
 * the credit was not lowered since it looked; whoever lowers it reads used after that.
 * Both are full barriers (E15), so of a charge that comes at the same moment either the
 * leader sees the tokens, or the charge sees that the credit was lowered and is no
 * admission.
 *
 * How often it was lowered is in bits 16-19 of the word.  A leader that was stopped
 * compares them too, before it raises the credit: it must not bring back what the next
 * one has taken away.  They are the same again after sixteen times.
 */
#include "sync/lease.h"

#include "shm/bucket.h"

#define CREDIT_ATTEMPTS 256

uint64_t credit_word(const struct bucket_ref *ref)
{
	return atomic_load_acquire(&ref->slot->merged);                         /* E8 */
}

/* The word of a credit up to LIMIT, lowered once more than WORD was. */
static uint64_t lowered_word(uint64_t word, uint64_t limit, uint64_t generation)
{
	return (limit & WEIR_COUNT_MAX) << STATE_USED_SHIFT |
	       ((word + CREDIT_LOWERED_UNIT) & CREDIT_LOWERED_MASK) | generation;
}

/* Move the bucket's epoch: a leader that was stopped, and saw a bucket without credit, must
 * not take it out of the queue while the next one asks for some.  STATE: as it is then. */
static bool move_epoch(const struct bucket_ref *ref, struct word_pair *state)
{
	for (int attempt = 0; attempt < CREDIT_ATTEMPTS; attempt++) {
		struct word_pair moved;

		if (!bucket_read(ref, state))
			return false;
		moved = *state;
		moved.second = (state->second & ~STATE_EPOCH_MASK) |
			       ((state->second + STATE_EPOCH_UNIT) & STATE_EPOCH_MASK);
		if (atomic_cas_pair_full(&ref->slot->state, *state, moved))     /* E2 */
			return true;
	}
	return bucket_read(ref, state);         /* charged all the time: not taken out, either */
}

bool credit_lower(const struct segment *segment, const struct bucket_ref *ref, uint64_t keep,
		  uint64_t term, struct credit *credit)
{
	struct word_pair state;

	for (int attempt = 0; attempt < CREDIT_ATTEMPTS; attempt++) {
		uint64_t word = credit_word(ref), lower, left;

		if (!bucket_read(ref, &state))
			return false;
		left = bucket_credit(ref->generation, state_used(state), word);
		lower = lowered_word(word, state_used(state) + (keep < left ? keep : left),
				     ref->generation);
		if (!round_term_holds(segment, term))
			return false;
		if (!atomic_cas_full(&ref->slot->merged, word, lower))          /* E15 */
			continue;
		if (!move_epoch(ref, &state))
			return false;
		if (!round_term_holds(segment, term)) {
			/* The next leader's by now: what this one knew of used may be old. */
			atomic_cas_full(&ref->slot->merged, lower,              /* E15 */
					lowered_word(lower, state_used(state), ref->generation));
			return false;
		}
		*credit = (struct credit){
			.before = (word & GENERATION_MASK) == ref->generation ?
					  word >> STATE_USED_SHIFT : 0,
			.after = lower >> STATE_USED_SHIFT,
			.used = state_used(state),
		};
		return true;
	}
	return false;
}

bool credit_raise(const struct segment *segment, const struct bucket_ref *ref, uint64_t expected,
		  uint64_t limit, uint64_t term)
{
	uint64_t word = (limit & WEIR_COUNT_MAX) << STATE_USED_SHIFT |
			(expected & CREDIT_LOWERED_MASK) | ref->generation;

	return round_term_holds(segment, term) &&
	       atomic_cas_acq_rel(&ref->slot->merged, &expected, word);         /* E8 */
}
