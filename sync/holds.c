/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holds.c - concurrency limits on their way to Redis and back.
 *
 * What.  What a host holds is a gauge.  It is told as it is: to tell it twice, or a
 * later one first, does no harm that the next call does not undo, so nothing is kept
 * of what was sent, and `agreed` only says what Redis has for certain.  Redis answers
 * with what the other hosts told: the foreign word of the slot, which decisions add to
 * the bucket's own count while the view is fresh.  It forgets what a host told 30 s
 * ago, so whoever holds something tells it again at least every 10 s.
 *
 * Invariant.  `merged`, from which the cap of bounded mode counts, is at most what any
 * call told since the answer that the foreign word is of, also one that is under way.
 * So before less is told than was, `merged` is lowered, and the bucket's epoch moved:
 * a request that was judged by the old `merged` and has not been counted yet fails in
 * its compare-and-swap.  Without this, what was released and taken again while a call
 * is under way would be beyond everybody's view, and within nobody's cap.
 *
 * Redis forgets.  Then the others' units are missing in its answers until they have
 * told them again, which every host with a fresh view has done within max_staleness:
 * for so long, the foreign word never shrinks.
 *
 * Ordering.  E8: the foreign word, then merged with release -> the acquire of merged,
 * then of foreign, by who applies the cap.  Lowered, merged comes before the compare-
 * and-swap of the state (E2): who reads the new state reads that merged, or a later one.
 */
#include "sync/collect.h"

#include "shm/bucket.h"
#include "shm/window.h"

#define RENEW_NS 10000000000ull

/* What OTHERS the word of the slot tells of. */
static int64_t foreign_held(const struct slot *slot, uint64_t generation)
{
	/* Relaxed: the leader's own. */
	return foreign_tokens(foreign_mixed(atomic_load_relaxed(&slot->foreign), generation),
			      HELD_WINDOW);
}

/* ---- Collecting -------------------------------------------------------- */

/* Less is about to be told than was: see above.  Of STATE, ITEM has what is held.
 * False: the bucket has changed, or the term has passed. */
static bool lower(const struct collector *collector, const struct round_item *item,
		  struct word_pair *state)
{
	const struct segment *segment = collector->segment;
	struct slot *slot = &segment->table.slots[item->slot];
	struct word_pair moved = *state;

	if (!round_renew_credit(segment, slot, round_merged_word(item, collector->term),
				collector->term))
		return false;
	moved.second = (state->second & ~STATE_EPOCH_MASK) |
		       ((state->second + STATE_EPOCH_UNIT) & STATE_EPOCH_MASK);
	if (!atomic_cas_pair_full(&slot->state, *state, moved))                 /* E2, E8 */
		return false;
	*state = moved;
	return true;
}

/* Is it to be asked for, though nothing was taken or released?  Renewed while it holds
 * something; and for a while in any case, if other hosts do. */
static bool wants_refresh(const struct collector *collector, const struct round_item *item,
			  const struct slot_sync *sync)
{
	const struct slot *slot = &collector->segment->table.slots[item->slot];

	if (item->used > 0)
		return true;
	return foreign_held(slot, item->generation) > 0 &&
	       collect_wants_refresh(collector, UINT64_MAX, sync);
}

static void plan_refresh(const struct collector *collector, struct slot_sync *sync)
{
	collect_plan_refresh(collector, sync, UINT64_MAX);
	/* Relaxed: the leader's own, but for hold_ask(). */
	if (atomic_load_relaxed(&sync->backoff_ns) > RENEW_NS) {
		atomic_store_relaxed(&sync->backoff_ns, RENEW_NS);
		atomic_store_relaxed(&sync->refresh_ns, collector->now_ns + RENEW_NS);
	}
}

static void pack(const struct collector *collector, struct round *round,
		 const struct round_item *item)
{
	const struct segment *segment = collector->segment;
	unsigned char *at = round->hold_blob + round->hold_count * WIRE_HOLD;

	at = collect_put_name(at, &segment->table.slots[item->slot],
			      &segment->slot_syncs[item->slot]);
	wire_put64(at, item->used);
}

bool collect_hold(struct collector *collector, struct round *round,
		  const struct round_item *begun, struct word_pair state)
{
	const struct segment *segment = collector->segment;
	struct slot *slot = &segment->table.slots[begun->slot];
	struct slot_sync *sync = &segment->slot_syncs[begun->slot];
	struct round_item *item = &round->holds[round->hold_count];
	/* Relaxed: words that are complete in themselves. */
	uint64_t merged = round_tokens(atomic_load_relaxed(&slot->merged), begun->generation);
	uint64_t refresh = atomic_load_relaxed(&sync->refresh_ns);

	*item = *begun;
	item->resets = round_resets_asked(slot, item->generation);
	if (item->used == round_tokens(item->acked, item->generation) && item->used == merged &&
	    refresh != 0 && !atomic_load_relaxed(&segment->shards[round->shard].restore)) {
		if (!wants_refresh(collector, item, sync)) {
			collect_dequeue(segment, item->slot, state);
			return true;
		}
		if (refresh > collector->now_ns)
			return true;
	} else {
		atomic_store_relaxed(&sync->backoff_ns, 0);
	}
	if (!collect_leads(collector))
		return false;
	if (item->used < merged && !lower(collector, item, &state))
		return collect_leave(collector, round->shard);
	plan_refresh(collector, sync);
	pack(collector, round, item);
	round->hold_count++;
	round->send = true;
	return true;
}

/* ---- Merging ----------------------------------------------------------- */

/* Has every other host with a fresh view told what it holds since Redis forgot? */
static bool all_have_told(const struct segment *segment, const struct round *round)
{
	/* Relaxed: leaders' own, and a setting. */
	uint64_t lost = atomic_load_relaxed(&segment->shards[round->shard].lost_ns);
	uint64_t staleness = atomic_load_relaxed(&segment->header->sync.staleness_ns);

	return lost == 0 || round->taken_ns > lost + staleness;
}

static bool merge_hold(const struct segment *segment, const struct round *round,
		       const struct round_item *item, const unsigned char *answer)
{
	struct slot *slot = &segment->table.slots[item->slot];
	struct slot_sync *sync = &segment->slot_syncs[item->slot];
	struct bucket_ref ref = { .slot = slot, .generation = item->generation };
	int64_t others = wire_get64(answer), known = foreign_held(slot, item->generation);
	uint32_t failed = wire_get32(answer + 12);
	uint64_t term = round->term;
	struct word_pair state;

	if (others < 0 || !bucket_read(&ref, &state))
		return false;
	if (others < known && !all_have_told(segment, round))
		others = known;
	/* Also where the script could not keep what was told: it is then told again. */
	if (!round_set_foreign(segment, item, foreign_word(others, HELD_WINDOW), term) || failed)
		return false;
	return round_agree(segment, sync, item->used << STATE_USED_SHIFT | item->generation, 0,
			   term) &&
	       round_renew_credit(segment, slot, round_merged_word(item, term), term);
}

unsigned holds_merge(const struct segment *segment, const struct round *round,
		     const struct round_reply *reply)
{
	unsigned merged = 0;

	for (unsigned i = 0; i < round->hold_count; i++)
		merged += merge_hold(segment, round, &round->holds[i],
				     reply->holds + i * WIRE_HOLD_REPLY);
	return merged;
}
