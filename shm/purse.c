/* SPDX-License-Identifier: Apache-2.0 */
/*
 * purse.c - a thread takes tokens ahead, so that a hot key scales.
 *
 * What.  Each decision about a key changes its bucket's line, and a line that two cores
 * change is worth less than one that one core has.  A policy that leases lets a thread
 * charge the bucket with more tokens than its request needs, in the same compare-and-swap,
 * and keep them in a purse: a line of the segment that only this thread touches as a
 * rule.  Its next requests are paid from there.
 *
 * The tokens are charged when they are taken.  So whoever dies, is stopped or forgets
 * them leaves debt that nobody spent, which drains like any debt: nothing that happens to
 * a purse can admit too much.  What has to be shown is that tokens that are spent late
 * admit nothing either, and that those which are not spent come back.
 *
 * Late.  A bucket that has drained is full again, whoever still has tokens of it.  So
 * tokens count until a time that is written when they are taken.  Let TAT be the bucket's
 * time, T the time of a token, and O the tokens in purses that still count.  Taking N at
 * NOW makes TAT' = max(TAT, NOW + HOLD) + N x T, and they count before max(TAT, NOW +
 * HOLD).  So while any count, at time t,
 *
 *   (1)  TAT >= t + O x T:
 *
 * the first of those that count was taken at a TAT >= its end >= t, and it and all later
 * ones have added their tokens since.  Let TAT* be the time of a bucket that is charged
 * for each request when that is admitted.  Then
 *
 *   (2)  TAT* <= TAT - O x T:
 *
 * taking adds as much to both terms; paying adds T to both sides, as max(TAT*, t) is
 * TAT* or, by (1), at most TAT - O x T; what has ended only leaves O.  So TAT, by which
 * requests are judged, is never less than the time of the bucket that knows no purses.
 *
 * Back.  TAT may be lowered (a refund, a reset, tokens that come back) only where (1) has
 * nothing to say: by a compare-and-swap from a state whose purses are all empty.  Then the
 * tokens found in them are given back: (2) is as it was.  All of them: what is left in a
 * purse that was filled on top of those would count for too long.
 *
 *   the thread                          whoever lowers TAT
 *   purse: EMPTY -> OPEN                reads the state S
 *   bucket: S -> S', charged            reads the clock
 *   purse: OPEN -> FULL                 each purse of the bucket: OPEN, FULL -> EMPTY
 *   purse: FULL n -> FULL n - cost ...  bucket: S -> S', lowered
 *
 * If S has the thread's charge, its purse was open before, and is emptied: the thread
 * pays, or its tokens go back, never both, since both change the same word.  If S has it
 * not, the charge makes the second compare-and-swap fail, or comes after it (E18).  The
 * clock is read behind S, since the charges in S went by earlier readings: tokens that
 * have ended by then do not go back, nor do those that were found at an earlier attempt
 * and have ended since.
 *
 * A refund or a reset of others that comes between two attempts of somebody who has emptied
 * purses lowers TAT though (1) has something to say, of what he has found: that is worth
 * nothing then.  So they count up a word of the slot's between their looks at the purses and
 * their compare-and-swap, and he reads it before his looks and again behind the next state
 * that he judges (E18).  If his looks came first, theirs found his tokens gone, and he finds
 * the count moved.  If theirs came first, what he finds was charged behind the state that
 * they judged, and their compare-and-swap fails.
 *
 * Whose.  A purse belongs to nobody for certain: a thread knows the word that it left
 * there, and each change is a compare-and-swap from it.  A purse that has not been touched
 * for long may be taken over, whether its thread sleeps, has ended or was killed; nobody
 * asks the kernel.
 *
 * Crash.  Killed after the charge and before FULL: the tokens stay charged, and drain.
 * Killed with tokens emptied and not yet given back: the same.  At any other instruction:
 * they are in the purse, and whoever would be denied finds them.
 *
 * Eviction of a bucket in debt, and a change of the policies, end what purses have of it:
 * the former empties them before it takes the slot, the latter is seen by the thread, which
 * compares the version before it pays.  What does not lease lowers TAT without a look at
 * purses: so what was taken comes back only while the policy has leased ever since, at one
 * rate (limit_record.lease).
 */
#include "shm/purse.h"

#include "shm/bucket.h"
#include "shm/clock.h"
#include "shm/counter.h"
#include "shm/gcra.h"
#include "shm/policy_table.h"

enum purse_state {
	PURSE_EMPTY,
	PURSE_OPEN,                     /* tokens are about to be charged for it */
	PURSE_FULL,                     /* they were */
};

#define CHANGE_ATTEMPTS 4096
#define TAKE_ATTEMPTS 8
#define FORGOTTEN_NS 20000000ull        /* untouched for so long, anybody may have it */
#define CARRY_NS 1000000ull             /* and found tokens are carried for so long */
#define ROOM_PART 8                     /* of what a bucket has left, for one thread */

#define TERMS_SEQUENCE_MASK 0xffffffull
#define TERMS_LEASE_SHIFT 24

static enum purse_state state_of(uint64_t word)
{
	return (enum purse_state)(word >> PURSE_STATE_SHIFT & PURSE_STATE_MASK);
}

static uint64_t make_word(uint64_t index, uint64_t sequence, enum purse_state state,
			  uint64_t tokens)
{
	return index << PURSE_INDEX_SHIFT |
	       (sequence & PURSE_SEQUENCE_MASK) << PURSE_SEQUENCE_SHIFT |
	       (uint64_t)state << PURSE_STATE_SHIFT | tokens;
}

static uint64_t sequence_of(uint64_t word)
{
	return word >> PURSE_SEQUENCE_SHIFT & PURSE_SEQUENCE_MASK;
}

static struct word_pair word_read(const struct purse *purse)
{
	struct word_pair word;

	word.first = atomic_load_acquire(&purse->word.first);           /* E18 */
	/* Validated by the CAS that follows. */
	word.second = atomic_load_acquire(&purse->word.second);         /* E18 */
	return word;
}

/* ---- Emptying ---------------------------------------------------------- */

/* Tokens that were found in purses, on their way into their bucket. */
struct found {
	uint64_t tokens;
	uint64_t ends_ns;               /* when the first of them does */
	uint64_t since_ns;              /* when they began to be looked for, */
	uint64_t lowered;               /* and purses_lowered() then */
};

/* Of a purse whose word was read as FULL: its terms change no more while that stands. */
static bool is_of_lease(const struct purse *purse, uint64_t word, const struct limit *limit)
{
	/* Relaxed: as in is_returnable(). */
	uint64_t about = atomic_load_relaxed(&purse->terms.second);

	return limit && ((about ^ sequence_of(word)) & TERMS_SEQUENCE_MASK) == 0 &&
	       about >> TERMS_LEASE_SHIFT == limit->lease;
}

/* Would its tokens, which end at *UNTIL, go back? */
static bool is_returnable(const struct purse *purse, uint64_t word, const struct limit *limit,
			  uint64_t now_ns, uint64_t *until_ns)
{
	/* Relaxed: behind the acquire of the word, and validated by the CAS of it. */
	*until_ns = atomic_load_relaxed(&purse->terms.first);
	return state_of(word) == PURSE_FULL && *until_ns > now_ns &&
	       is_of_lease(purse, word, limit);
}

static void add_found(uint64_t tokens, uint64_t until_ns, struct found *found)
{
	if (found->tokens == 0 || until_ns < found->ends_ns)
		found->ends_ns = until_ns;
	found->tokens += tokens;
}

static bool empty_one(struct purse *purse, uint64_t place, const struct limit *limit,
		      uint64_t now_ns, struct found *found)
{
	for (int attempt = 0; attempt < CHANGE_ATTEMPTS; attempt++) {
		struct word_pair word = word_read(purse), empty;
		enum purse_state state = state_of(word.first);
		uint64_t until_ns;
		bool returnable;

		if (word.second != place || state == PURSE_EMPTY ||
		    (state == PURSE_FULL && purse_tokens(word.first) == 0))
			return true;
		returnable = is_returnable(purse, word.first, limit, now_ns, &until_ns);
		empty.first = make_word(word.first >> PURSE_INDEX_SHIFT, sequence_of(word.first),
					PURSE_EMPTY, 0);
		empty.second = 0;
		if (!atomic_cas_pair_full(&purse->word, word, empty))   /* E18 */
			continue;
		if (returnable)
			add_found(purse_tokens(word.first), until_ns, found);
		return true;
	}
	return false;
}

static bool empty_all(const struct purses *purses, struct slot *slot, uint64_t place,
		      const struct limit *limit, uint64_t now_ns, struct found *found)
{
	/* Relaxed: whoever sees a charge sees that its purse had been given out. */
	uint64_t given = atomic_load_relaxed(purses->next), looking = 0;

	/* Before the purses: who opens one behind that marks the slot again. */
	if (purses_are_marked(slot))
		looking = purses_unmark(slot);
	for (uint64_t i = 0; i < given && i < purses->count; i++) {
		if (!empty_one(&purses->all[i], place, limit, now_ns, found))
			return false;
	}
	purses_end_look(slot, looking);
	return true;
}

bool purses_void(const struct purses *purses, struct slot *slot, uint64_t place)
{
	struct found found = { 0 };

	return empty_all(purses, slot, place, NULL, 0, &found);
}

/* ---- Giving back ------------------------------------------------------- */

static uint64_t later_of(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void judge(const struct limit *limit, const struct bucket_state *before,
		  const struct bucket_request *request, uint64_t now_ns, uint64_t tokens,
		  struct bucket_state *after)
{
	uint64_t cost;

	if (request->operation == BUCKET_RESET) {
		*after = *before;
		after->time_ns = 0;
		return;
	}
	if (__builtin_add_overflow(request->cost, tokens, &cost))
		cost = UINT64_MAX;
	gcra_refund(limit, before, now_ns, cost, after);
}

/* Behind the reading of a state, whose charges went by earlier ones. */
static uint64_t latest_ns(const struct segment *segment, uint64_t now_ns)
{
	if (segment->clock == WEIR_CLOCK_CALLER)
		return now_ns;
	return later_of(now_ns, later_of(clock_now_ns(segment), clock_ns(CLOCK_BOOTTIME)));
}

enum bucket_result purses_give_back(const struct segment *segment, const struct bucket_ref *ref,
				    const struct limit *limit, const struct bucket_request *request,
				    uint64_t *returned)
{
	uint64_t place = (uint64_t)(ref->slot - segment->table.slots) << 16 | ref->generation;
	bool reset = request->operation == BUCKET_RESET;
	struct found found = { 0 };

	*returned = 0;
	for (int attempt = 0; attempt < CHANGE_ATTEMPTS; attempt++) {
		uint64_t now_ns, lowered;
		struct bucket_state before, after;
		struct word_pair state, changed;

		if (!bucket_read(ref, &state))
			return BUCKET_GONE;
		now_ns = latest_ns(segment, request->now_ns);
		lowered = purses_lowered(ref->slot);
		/* Found at an earlier attempt, they are as if still in their purses. */
		if (found.tokens == 0 || lowered != found.lowered || found.ends_ns <= now_ns ||
		    now_ns - found.since_ns > CARRY_NS)
			found = (struct found){ .lowered = lowered, .since_ns = now_ns };
		if (!empty_all(&segment->purses, ref->slot, place, limit, now_ns, &found))
			return BUCKET_CONTENDED;
		if (!reset && request->cost == 0 && found.tokens == 0)
			return BUCKET_DONE;
		before = (struct bucket_state){ state.first, state_used(state), 0 };
		judge(limit, &before, request, now_ns, found.tokens, &after);
		if (atomic_load_acquire(request->version) != request->version_seen)     /* E4 */
			return BUCKET_POLICY_CHANGED;
		if (reset || request->cost > 0)
			purses_count_lowering(ref->slot);
		changed.first = after.time_ns;
		changed.second = after.used << STATE_USED_SHIFT |
				 (state.second & ((1ull << STATE_USED_SHIFT) - 1));
		if (!atomic_cas_pair_full(&ref->slot->state, state, changed))   /* E2, E18 */
			continue;
		if (!reset)
			*returned = found.tokens;
		if (*returned)
			counter_add_global(segment, COUNTER_PURSE_TOKENS_RETURNED, *returned);
		return BUCKET_DONE;
	}
	return BUCKET_CONTENDED;
}

void purses_look(const struct segment *segment, const struct bucket_ref *ref,
		 const struct limit *limit, const struct bucket_request *request,
		 struct verdict *verdict)
{
	uint64_t place = (uint64_t)(ref->slot - segment->table.slots) << 16 | ref->generation;
	/* Relaxed: as in empty_all(). */
	uint64_t given = atomic_load_relaxed(segment->purses.next), now_ns, until_ns, tokens = 0;
	struct bucket_state before, after, unchanged;
	struct word_pair state;

	if (!bucket_read(ref, &state))
		return;
	now_ns = latest_ns(segment, request->now_ns);
	for (uint64_t i = 0; i < given && i < segment->purses.count; i++) {
		const struct purse *purse = &segment->purses.all[i];
		struct word_pair word = word_read(purse);

		if (word.second == place && is_returnable(purse, word.first, limit, now_ns, &until_ns))
			tokens += purse_tokens(word.first);
	}
	before = (struct bucket_state){ state.first, state_used(state), 0 };
	gcra_refund(limit, &before, now_ns, tokens, &after);
	*verdict = bucket_judge(limit, &after, request, &unchanged);
	bucket_add_remaining(limit, &after, request, verdict);
}

/* Give back what purses have of the bucket at PLACE, whosever it is. */
static void settle(const struct segment *segment, uint64_t place, uint64_t now_ns)
{
	struct bucket_request request = { .operation = BUCKET_REFUND, .now_ns = now_ns };
	struct bucket_ref ref = { .generation = place & GENERATION_MASK };
	uint64_t owner, serial, returned;
	struct policy_head head;
	uint32_t index;
	struct limit limit;

	if (place >> 16 >= segment->slots)
		return;
	ref.slot = &segment->table.slots[place >> 16];
	/* Relaxed: complete in itself, with its generation. */
	owner = atomic_load_relaxed(&ref.slot->owner);
	request.version = &segment->header->policy.version;
	request.version_seen = policy_version(segment);
	index = owner >> 16 & 0xffff;
	if ((owner & GENERATION_MASK) != ref.generation || index >= segment->policies)
		return;
	serial = policy_word(&policy_record_at(segment, request.version_seen, index)->serial);
	if ((serial ^ owner >> 40) & 0xffffff ||
	    !policy_head(segment, request.version_seen, policy_id(serial, index), &head) ||
	    !head.lease)
		return;
	policy_limit(segment, request.version_seen, head.index, 0, &limit);
	purses_give_back(segment, &ref, &limit, &request, &returned);
}

/* ---- Taking ------------------------------------------------------------ */

bool purses_assign(const struct purses *purses, uint32_t *first)
{
	/* Relaxed: a number that is good by itself. */
	uint64_t next = atomic_load_relaxed(purses->next);

	if (purses->count < PURSES_OF_THREAD)
		return false;
	while (!atomic_cas_relaxed(purses->next, &next, next + PURSES_OF_THREAD))
		;
	*first = (uint32_t)(next % purses->count) & ~(PURSES_OF_THREAD - 1);
	return true;
}

/* Has it nothing that its bucket would miss? */
static bool is_vacant(const struct purse *purse, uint64_t word, uint64_t now_ns)
{
	/* Relaxed: as in is_returnable(). */
	uint64_t about = atomic_load_relaxed(&purse->terms.second);

	if (state_of(word) != PURSE_FULL)
		return state_of(word) == PURSE_EMPTY;
	return purse_tokens(word) == 0 ||
	       (((about ^ sequence_of(word)) & TERMS_SEQUENCE_MASK) == 0 &&
		atomic_load_relaxed(&purse->terms.first) <= now_ns);
}

/* Get hold of the purse before its tokens are charged. */
static bool open_purse(const struct segment *segment, struct purse_own *own,
		       const struct purse_wish *wish, uint64_t place, uint64_t now_ns)
{
	struct purse *purse = &segment->purses.all[wish->index];
	struct word_pair word = word_read(purse), opened;

	if (!is_vacant(purse, word.first, now_ns)) {
		/* Relaxed: a hint.  One from the future is as old as any. */
		uint64_t opened_ns = atomic_load_relaxed(&purse->opened_ns);

		if (word.first != own->word && opened_ns <= now_ns &&
		    now_ns - opened_ns < FORGOTTEN_NS)
			return false;
		settle(segment, word.second, now_ns);
		word = word_read(purse);
	}
	opened.first = make_word(wish->index, sequence_of(word.first) + 1, PURSE_OPEN,
				 wish->tokens);
	opened.second = place;
	own->word = 0;
	if (!atomic_cas_pair_full(&purse->word, word, opened))          /* E18 */
		return false;
	own->word = opened.first;
	/* Relaxed: a hint. */
	atomic_store_relaxed(&purse->opened_ns, now_ns);
	return true;
}

/* The tokens were charged: they may be spent before UNTIL. */
static void fill_purse(const struct purses *purses, struct purse_own *own,
		       const struct limit *limit, uint64_t until_ns)
{
	uint64_t word = own->word, sequence = sequence_of(word);
	uint64_t full = make_word(word >> PURSE_INDEX_SHIFT, sequence, PURSE_FULL,
				  purse_tokens(word));
	struct purse *purse = &purses->all[word >> PURSE_INDEX_SHIFT];
	struct word_pair agreed = {
		.first = until_ns,
		.second = limit->lease << TERMS_LEASE_SHIFT | (sequence & TERMS_SEQUENCE_MASK),
	};
	struct word_pair terms;

	own->word = 0;
	/* Relaxed here: the compare-and-swap is what counts. */
	terms.first = atomic_load_relaxed(&purse->terms.first);
	terms.second = atomic_load_relaxed(&purse->terms.second);
	/* They were read while the purse was this thread's, or it is so no more. */
	if (atomic_load_acquire(&purse->word.first) != word ||          /* E18 */
	    !atomic_cas_pair_full(&purse->terms, terms, agreed) ||      /* E18 */
	    !atomic_cas_full(&purse->word.first, word, full))           /* E18 */
		return;
	own->word = full;
	own->until_ns = until_ns;
}

/* They were not. */
static void drop_purse(const struct purses *purses, struct purse_own *own)
{
	uint64_t word = own->word, index = word >> PURSE_INDEX_SHIFT;
	uint64_t empty = make_word(index, sequence_of(word), PURSE_EMPTY, 0);

	own->word = 0;
	atomic_cas_full(&purses->all[index].word.first, word, empty);   /* E18 */
}

/* Charge what is asked for and what is taken ahead.  False if the bucket has not plenty. */
static bool charge(const struct limit *limit, const struct bucket_state *before,
		   const struct bucket_request *request, const struct purse_wish *wish,
		   struct bucket_state *after, uint64_t *until_ns)
{
	uint64_t capacity_ns = limit->tolerance_ns + limit->token_ns;
	uint64_t debt_ns = gcra_debt_ns(before, request->now_ns);
	uint64_t hold_ns = wish->hold_ns < capacity_ns / PURSE_PART ? wish->hold_ns :
								      capacity_ns / PURSE_PART;
	uint64_t charge_ns, tokens;

	if (request->cost > limit->burst || wish->tokens > limit->burst / PURSE_PART)
		return false;
	tokens = request->cost + wish->tokens;
	charge_ns = gcra_charge_ns(limit, gcra_phase(limit, before->used), tokens);
	if (debt_ns < hold_ns)
		debt_ns = hold_ns;
	if (debt_ns > capacity_ns || charge_ns > (capacity_ns - debt_ns) / ROOM_PART)
		return false;
	/* One nanosecond less, for charges are rounded. */
	*until_ns = request->now_ns + debt_ns - 1;
	after->time_ns = request->now_ns + debt_ns + charge_ns;
	after->used = (before->used + tokens) & WEIR_COUNT_MAX;
	return true;
}

bool purse_take(const struct segment *segment, struct purse_own *own,
		const struct purse_wish *wish, const struct bucket_ref *ref,
		const struct limit *limit, const struct bucket_request *request,
		struct bucket_state *after)
{
	uint64_t place = (uint64_t)(ref->slot - segment->table.slots) << 16 | ref->generation;

	if (!open_purse(segment, own, wish, place, request->now_ns))
		return false;
	purses_mark(ref->slot);
	for (int attempt = 0; attempt < TAKE_ATTEMPTS; attempt++) {
		struct word_pair state, charged;
		struct bucket_state before;
		uint64_t until_ns;

		if (!bucket_read(ref, &state))
			break;
		before = (struct bucket_state){ state.first, state_used(state), 0 };
		if (!charge(limit, &before, request, wish, after, &until_ns))
			break;
		if (atomic_load_acquire(request->version) != request->version_seen)     /* E4 */
			break;
		charged.first = after->time_ns;
		charged.second = after->used << STATE_USED_SHIFT |
				 (state.second & ((1ull << STATE_USED_SHIFT) - 1));
		if (atomic_cas_pair_full(&ref->slot->state, state, charged)) {  /* E2, E18 */
			fill_purse(&segment->purses, own, limit, until_ns);
			counter_add_global(segment, COUNTER_PURSES_FILLED, 1);
			return true;
		}
	}
	drop_purse(&segment->purses, own);
	return false;
}
