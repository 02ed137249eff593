/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold.c - concurrency limits that heal when a holder is killed.
 *
 * What.  A bucket counts the units that are held; a record for each hold tells
 * whose they are, so that a dead process's can be given back.  The two words
 * cannot change together, so each change of a bucket names the record that it
 * was made for: the bucket's first word is the last operation (record and
 * sequence), and it is replaced only after that record was marked (settled).
 * Whether an operation was applied can therefore always be told:
 *
 *   it was applied  iff  the bucket's last operation is it, or its record says so.
 *
 * States of a record, in word.first with a sequence number that each use moves:
 *
 *   FREE       (s)       nobody's
 *   PENDING    (s + 1)   the owner may add its units to the bucket
 *   COUNTED    (s + 1)   they are in the bucket
 *   RELEASING  (s + 2)   they may be taken out of the bucket
 *   FREE       (s + 2)   they were
 *
 * Invariant.  The bucket's count is the sum of the records that are COUNTED,
 * plus that of the last operation if its record is still PENDING, less that of
 * the last operation if its record is still RELEASING.  So it is never less than
 * what living processes hold: a limit is never exceeded, and nothing leaks.
 *
 * Crash.  A dead owner's PENDING record: if the bucket's last operation is not
 * the record's, read first, and the record is PENDING still, read after it, then
 * it was never applied, and the record is freed.  Else it is COUNTED.  A COUNTED
 * one is released on the owner's behalf, a RELEASING one is carried on with;
 * each step is a CAS that only one of several reapers wins.
 *
 * Ordering.  E5: settling a record, a full barrier, before the bucket's CAS ->
 * a reaper's acquire load of the bucket before its load of the record.
 *
 * References: H. Attiya, O. Ben-Baruch, D. Hendler, "Nesting-safe recoverable
 * linearizability", 2018 (a compare-and-swap whose success a crashed process can
 * find out afterwards).
 */
#include "shm/hold.h"

#include "shm/counter.h"
#include "shm/segment.h"

enum record_state {
	RECORD_FREE,
	RECORD_PENDING,
	RECORD_COUNTED,
	RECORD_RELEASING,
};

#define STATE_MASK 0xffull
#define SEQUENCE_SHIFT 8
#define RECORD_MASK 0xffffffull
#define TAG_SEQUENCE_SHIFT 24
#define TAG_SEQUENCE_MASK ((1ull << 39) - 1)

#define FIND_ATTEMPTS 256               /* records looked at before all of them are */
#ifndef ASKED_OWNERS /* the models lower it */
#define ASKED_OWNERS 256u               /* whose answers are remembered at a time */
#endif
#define CHANGE_ATTEMPTS 4096

static struct word_pair record_read(const struct hold_record *record)
{
	struct word_pair word;

	word.first = atomic_load_acquire(&record->word.first);          /* E5 */
	/* Validated by the CAS that follows. */
	word.second = atomic_load_acquire(&record->word.second);        /* E5 */
	return word;
}

static enum record_state state_of(struct word_pair word)
{
	return (enum record_state)(word.first & STATE_MASK);
}

/* How the bucket's first word names the record's present operation. */
static uint64_t tag_of(uint64_t index, struct word_pair word)
{
	return TIME_HELD | (word.first >> SEQUENCE_SHIFT & TAG_SEQUENCE_MASK) << TAG_SEQUENCE_SHIFT |
	       index;
}

static bool record_move(struct hold_record *record, struct word_pair *from, enum record_state state,
			uint64_t steps, uint64_t owner)
{
	struct word_pair to = {
		.first = ((from->first >> SEQUENCE_SHIFT) + steps) << SEQUENCE_SHIFT | state,
		.second = owner,
	};

	if (!atomic_cas_pair_full(&record->word, *from, to))            /* E5 */
		return false;
	*from = to;
	return true;
}

void holds_settle(const struct holds *holds, uint64_t time_ns)
{
	uint64_t index = time_ns & RECORD_MASK;
	struct hold_record *record;
	struct word_pair word;

	if (!(time_ns & TIME_HELD) || !holds || index >= holds->count)
		return;
	record = &holds->records[index];
	word = record_read(record);
	if (tag_of(index, word) != time_ns)
		return;         /* it went on since, so it was settled */
	/* A CAS that fails means that another thread settled it. */
	if (state_of(word) == RECORD_PENDING)
		record_move(record, &word, RECORD_COUNTED, 0, word.second);
	else if (state_of(word) == RECORD_RELEASING)
		record_move(record, &word, RECORD_FREE, 0, 0);
}

/* Take a free record, the first of ATTEMPTS: PENDING, and this process's. */
static struct hold_record *record_take(const struct segment *segment, uint64_t attempts,
				       struct word_pair *word)
{
	const struct holds *holds = &segment->holds;
	uint64_t start = atomic_load_relaxed(&segment->header->hold.next);

	if (segment->participant_id == 0)
		return NULL;
	for (uint64_t i = 0; i < attempts; i++) {
		uint64_t index = (start + i) % holds->count;
		struct hold_record *record = &holds->records[index];

		*word = record_read(record);
		if (state_of(*word) == RECORD_FREE &&
		    record_move(record, word, RECORD_PENDING, 1, segment->participant_id)) {
			/* Only a hint for the next search. */
			atomic_store_relaxed(&segment->header->hold.next, index + 1);
			return record;
		}
	}
	/* The next search goes on where this one ended. */
	atomic_store_relaxed(&segment->header->hold.next, start + attempts);
	return NULL;
}

static bool counts(uint64_t state_second, uint64_t generation)
{
	return (state_second & (GENERATION_MASK | STATE_LIVE)) == (generation | STATE_LIVE);
}

/* What stays of the state's second word, and of a limit that syncs QUEUED, whose mark
 * comes first: see queue.h. */
static uint64_t kept_bits(const struct queue *queue, uint64_t slot, uint64_t state_second,
			  bool owned)
{
	uint64_t kept = state_second & STATE_EPOCH_MASK;

	if (owned && (state_second & STATE_QUEUED))
		return kept | STATE_QUEUED;
	if (!queue)
		return kept;
	queue_mark(queue, slot);
	return kept | STATE_QUEUED;
}

/* Add the record's units to the bucket. */
static enum hold_result count_up(const struct segment *segment, const struct bucket_ref *ref,
				 const struct limit *limit, const struct bucket_request *request,
				 uint64_t tag, struct verdict *verdict)
{
	for (int attempt = 0; attempt < CHANGE_ATTEMPTS; attempt++) {
		struct word_pair state, after;
		uint64_t used;
		bool owned;

		if (!bucket_read(ref, &state))
			return HOLD_GONE;
		owned = counts(state.second, ref->generation);
		used = owned ? state_used(state) : 0;
		*verdict = bucket_judge_hold(ref, limit, request, state);
		if (!verdict->allowed)
			return HOLD_DENIED;
		if (atomic_load_acquire(request->version) != request->version_seen)     /* E4 */
			return HOLD_POLICY_CHANGED;
		if (owned)
			holds_settle(&segment->holds, state.first);
		after.first = tag;
		after.second = (used + request->cost) << STATE_USED_SHIFT | STATE_LIVE |
			       ref->generation |
			       kept_bits(request->queue, request->slot, state.second, owned);
		if (atomic_cas_pair_full(&ref->slot->state, state, after)) {            /* E2, E5 */
			verdict->remaining -= request->cost;
			verdict->counted += request->cost;
			return HOLD_TAKEN;
		}
	}
	return HOLD_CONTENDED;
}

enum hold_result hold_acquire(const struct segment *segment, const struct bucket_ref *ref,
			      const struct limit *limit, const struct bucket_request *request,
			      struct verdict *verdict, uint64_t *hold)
{
	struct word_pair word;
	uint64_t all = segment->holds.count;
	struct hold_record *record =
		record_take(segment, all < FIND_ATTEMPTS ? all : FIND_ATTEMPTS, &word);
	uint64_t index;
	enum hold_result result;

	if (!record) {
		/* "Full" is said only after all records were looked at. */
		holds_reap(segment, NULL);
		record = record_take(segment, all, &word);
	}
	if (!record)
		return HOLD_NO_RECORD;
	index = (uint64_t)(record - segment->holds.records);
	/* Before the count, and ordered by its CAS: a reaper that finds the units
	 * in the bucket must find these two. */
	atomic_store_relaxed(&record->slot, (uint64_t)(ref->slot - segment->table.slots) << 16 |
						    ref->generation);
	atomic_store_relaxed(&record->count, request->cost);

	result = count_up(segment, ref, limit, request, tag_of(index, word), verdict);
	if (result == HOLD_TAKEN) {
		*hold = tag_of(index, word);
		record_move(record, &word, RECORD_COUNTED, 0, word.second);
	} else {
		record_move(record, &word, RECORD_FREE, 0, 0);
	}
	return result;
}

/* The queue that the slot's leader is told by; NULL if its limit does not sync. */
static const struct queue *queue_of(const struct segment *segment, const struct slot *slot,
				    uint64_t generation)
{
	uint64_t owner;

	if (!segment->queue.marks)
		return NULL;
	/* Relaxed: complete in itself. */
	owner = atomic_load_relaxed(&slot->owner);
	return (owner & GENERATION_MASK) == generation && (owner & OWNER_SYNCS) ? &segment->queue :
										  NULL;
}

/* Take the units of a RELEASING record out of the bucket, and free the record.
 * The owner or any reaper, or several of them. */
static void count_down(const struct segment *segment, uint64_t index, struct word_pair word)
{
	struct hold_record *record = &segment->holds.records[index];
	/* Not later than the record below, which says whether they are still its. */
	uint64_t place = atomic_load_acquire(&record->slot);            /* E5 */
	uint64_t count = atomic_load_acquire(&record->count);           /* E5 */
	uint64_t tag = tag_of(index, word), generation = place & GENERATION_MASK;
	struct slot *slot;
	int attempt;

	for (attempt = 0; place >> 16 < segment->slots && attempt < CHANGE_ATTEMPTS; attempt++) {
		struct word_pair state, after, again;
		uint64_t used;

		slot = &segment->table.slots[place >> 16];
		state.first = atomic_load_acquire(&slot->state.first);          /* E5 */
		state.second = atomic_load_acquire(&slot->state.second);        /* E2 */
		again = record_read(record);
		if (again.first != word.first)
			return;                 /* another process has finished it */
		if (state.first == tag || !counts(state.second, generation))
			break;                  /* applied; or damage: nothing to take out of */
		holds_settle(&segment->holds, state.first);
		used = state_used(state);
		after.first = tag;
		after.second = (used > count ? used - count : 0) << STATE_USED_SHIFT | STATE_LIVE |
			       generation |
			       kept_bits(queue_of(segment, slot, generation), place >> 16,
					 state.second, true);
		if (atomic_cas_pair_full(&slot->state, state, after))           /* E2, E5 */
			break;
	}
	/* Not taken out: it stays RELEASING, and holds_reap() goes on with it. */
	if (attempt < CHANGE_ATTEMPTS)
		record_move(record, &word, RECORD_FREE, 0, 0);
}

bool hold_release(const struct segment *segment, uint64_t hold)
{
	uint64_t index = hold & RECORD_MASK;
	struct hold_record *record;
	struct word_pair word;

	if (!(hold & TIME_HELD) || index >= segment->holds.count || segment->participant_id == 0)
		return false;
	record = &segment->holds.records[index];
	word = record_read(record);
	if (tag_of(index, word) != hold || state_of(word) != RECORD_COUNTED ||
	    word.second != segment->participant_id)
		return false;
	if (!record_move(record, &word, RECORD_RELEASING, 1, word.second))
		return false;           /* another thread is releasing it */
	count_down(segment, index, word);
	return true;
}

void hold_ask(const struct segment *segment, const struct slot *slot)
{
	uint64_t index = (uint64_t)(slot - segment->table.slots);
	uint64_t *refresh = &segment->slot_syncs[index].refresh_ns;

	/* Relaxed: the leader looks again and again.  Who is denied all the time does
	 * not write all the time. */
	if (atomic_load_relaxed(refresh) != 0)
		atomic_store_relaxed(refresh, 0);
	queue_mark(&segment->queue, index);
}

/* Bring a dead owner's PENDING or COUNTED record to FREE; true if it was this
 * caller that began to. */
static bool reap(const struct segment *segment, uint64_t index, struct word_pair word)
{
	struct hold_record *record = &segment->holds.records[index];
	uint64_t place = atomic_load_relaxed(&record->slot);

	if (state_of(word) == RECORD_PENDING) {
		bool applied = place >> 16 < segment->slots &&
			       atomic_load_acquire(&segment->table.slots[place >> 16].state.first) ==
				       tag_of(index, word);             /* E5 */

		/* Read after the bucket: if it is PENDING still, nobody has
		 * settled it, and the CAS makes sure. */
		if (!record_move(record, &word, applied ? RECORD_COUNTED : RECORD_FREE, 0,
				 applied ? word.second : 0))
			return false;
		if (!applied)
			return true;
	}
	if (!record_move(record, &word, RECORD_RELEASING, 1, word.second))
		return false;
	count_down(segment, index, word);
	return true;
}

/* What the kernel said of an owner.  The dead stay dead: ids are not used again.
 * The living may have died since; the next reaper will know. */
struct answer {
	uint64_t owner;
	bool alive;
};

static bool owner_alive(const struct segment *segment, struct answer answers[ASKED_OWNERS],
			uint64_t owner)
{
	struct answer *answer = &answers[owner % ASKED_OWNERS];

	if (answer->owner != owner)
		*answer = (struct answer){ owner, participant_alive(segment, owner) };
	return answer->alive;
}

unsigned holds_reap(const struct segment *segment, const struct slot *slot)
{
	uint64_t only = slot ? (uint64_t)(slot - segment->table.slots) : 0;
	struct answer answers[ASKED_OWNERS] = { { 0, false } };
	unsigned reaped = 0, finished = 0;

	for (uint64_t index = 0; index < segment->holds.count; index++) {
		struct hold_record *record = &segment->holds.records[index];
		struct word_pair word = record_read(record);

		if (state_of(word) == RECORD_FREE)
			continue;
		if (slot && atomic_load_relaxed(&record->slot) >> 16 != only)
			continue;
		if (state_of(word) == RECORD_RELEASING) {
			/* Whoever's: begun by its owner, or counted by a reaper. */
			count_down(segment, index, word);
			finished++;
		} else if (!owner_alive(segment, answers, word.second) &&
			   reap(segment, index, word)) {
			reaped++;
		}
	}
	if (reaped)
		counter_add_global(segment, COUNTER_HOLDS_REAPED, reaped);
	return reaped + finished;
}
