/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resolve.c - what is looked at slot by slot: after a fence, and now and then.
 *
 * What.  A fence has told what Redis applied last.  The table is gone through once to
 * find out what of it was not known yet, and marks all that is unmerged, and what has
 * to be restored.  A scrub goes round the table all the time, a few slots a tick, and
 * marks what is unmerged but not marked: what the rare cases lose that queue.h names.
 *
 * Bound.  Both take a bounded number of slots each time: a table of millions must
 * keep its leader neither from its heartbeat nor from being stopped.
 */
#include "sync/round.h"

#include "shm/bucket.h"
#include "shm/policy_table.h"

bool round_agree(const struct segment *segment, struct slot_sync *sync, uint64_t sent,
		 uint64_t base_ns, uint64_t term)
{
	struct word_pair agreed = { sent, base_ns }, current;

	for (int attempt = 0; attempt < ROUND_ATTEMPTS; attempt++) {
		/* Relaxed: torn or old, the compare-and-swap tells. */
		current.first = atomic_load_relaxed(&sync->agreed.first);
		current.second = atomic_load_relaxed(&sync->agreed.second);
		/* After the loads: what a later leader stores from here on makes the
		 * compare-and-swap fail. */
		if (!round_term_holds(segment, term))
			return false;
		if (atomic_cas_pair_full(&sync->agreed, current, agreed))       /* E10 */
			return true;
	}
	return false;
}

void round_acknowledge(const struct segment *segment, uint64_t index,
		       const struct limit *limit, uint64_t sent, uint64_t term)
{
	struct slot_sync *sync = &segment->slot_syncs[index];
	uint64_t generation = sent & GENERATION_MASK, base_ns = 0;
	uint64_t asked = round_resets_asked(&segment->table.slots[index], generation), known;
	struct word_pair agreed;

	/* Torn, it is being changed by a leader whose term has passed, or by the next
	 * one, and then this one stores nothing.  A base of 0 is on the safe side: the
	 * bucket passes for one that was idle. */
	if (round_read_agreed(sync, &agreed) && (agreed.first & GENERATION_MASK) == generation)
		base_ns = agreed.second;
	/* Of a window, it is the one that was sent: see windows.c. */
	if (base_ns != 0 && !limit_is_window(limit))
		base_ns += (uint64_t)round_charge_ns(limit, agreed.first >> STATE_USED_SHIFT,
						     sent >> STATE_USED_SHIFT);
	/* The resets that were sent: the latest number asked for that ends so. */
	known = asked - ((asked - (sent & SENT_RESETS_MASK)) & SENT_RESETS_MASK);
	if (round_agree(segment, sync, sent, base_ns, term))
		atomic_store_relaxed(&sync->resets, (known & 0xffff0000u) | generation);
}

static bool is_unmerged(const struct slot *slot, struct word_pair state)
{
	return state_used(state) != round_tokens(atomic_load_relaxed(&slot->merged),
						 state.second & GENERATION_MASK);
}

/* Has what was agreed on not been paid off, or its window not passed?  Then Redis has to
 * know it. */
static bool is_owed(const struct segment *segment, const struct slot *slot, uint64_t generation,
		    uint64_t now_ns)
{
	const struct slot_sync *sync = &segment->slot_syncs[slot - segment->table.slots];
	/* Relaxed: leaders' own; the leader word ordered them. */
	uint64_t until_ns = atomic_load_relaxed(&sync->agreed.second);
	enum weir_consistency consistency;
	struct limit limit;

	if ((atomic_load_relaxed(&sync->agreed.first) & GENERATION_MASK) != generation)
		return false;
	if (round_owner_limit(segment, slot, generation, &limit, &consistency) &&
	    limit_is_window(&limit) && until_ns != 0)
		until_ns = window_clock_ns(&limit, until_ns);
	return until_ns > now_ns;
}

static void resolve_slot(const struct segment *segment, uint64_t index, uint64_t last_tag,
			 uint64_t term, uint64_t now_ns)
{
	struct slot *slot = &segment->table.slots[index];
	struct slot_sync *sync = &segment->slot_syncs[index];
	struct bucket_ref ref = { .slot = slot };
	struct word_pair state;
	uint64_t acked, sent;
	enum weir_consistency consistency;
	struct limit limit;
	bool applied, restore;

	ref.generation = atomic_load_acquire(&slot->identity.second) & GENERATION_MASK; /* E1 */
	if (!bucket_read(&ref, &state)) {
		/* The last leader may have taken the mark that a claimer needs. */
		if (!round_slot_is_dead(slot))
			queue_mark(&segment->queue, index);
		return;
	}
	/* The tokens before the tag: with a tag from before, the tokens of a later call
	 * would pass for applied.  Relaxed: leaders' own; the leader word ordered them. */
	sent = atomic_load_acquire(&sync->sent.first);                          /* E10 */
	acked = atomic_load_relaxed(&sync->agreed.first);
	applied = atomic_load_relaxed(&sync->sent.second) == last_tag &&
		  (sent & GENERATION_MASK) == ref.generation;
	if (applied && acked != sent &&
	    round_owner_limit(segment, slot, ref.generation, &limit, &consistency))
		round_acknowledge(segment, index, &limit, sent, term);
	restore = atomic_load_relaxed(&segment->shards[slot_shard(slot->identity.first)].restore) &&
		  is_owed(segment, slot, ref.generation, now_ns);
	/* Also what is queued, or marked, and clean: the last leader may have died, or
	 * be stopped, with its mark or the summary of it, and who charges next does not
	 * mark again. */
	if (restore || is_unmerged(slot, state) || (state.second & STATE_QUEUED) ||
	    queue_is_marked(&segment->queue, index))
		queue_mark(&segment->queue, index);
}

void round_resolve_begin(const struct segment *segment, struct round_resolve *resolve,
			 unsigned shards, const uint64_t last_tags[SYNC_SHARDS], uint64_t now_ns)
{
	*resolve = (struct round_resolve){ .shards = shards };
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		struct shard_record *shard = &segment->shards[i];

		resolve->last_tags[i] = last_tags[i];
		/* Redis knows less than it once acknowledged: it has forgotten. */
		if ((shards >> i & 1) && last_tags[i] < atomic_load_relaxed(&shard->acked_tag)) {
			/* Another word than any before: see round_merge(). */
			atomic_store_relaxed(&shard->restore, now_ns);
			atomic_store_relaxed(&shard->lost_ns, now_ns);
		}
	}
}

bool round_resolve(const struct segment *segment, struct round_resolve *resolve, uint64_t term,
		   uint64_t now_ns)
{
	for (unsigned i = 0; i < RESOLVE_SLOTS && resolve->next < segment->slots; i++) {
		uint64_t index = resolve->next++;
		/* Relaxed: which shard a slot is of matters only if it is live. */
		uint64_t identity = atomic_load_relaxed(&segment->table.slots[index].identity.first);
		unsigned shard = slot_shard(identity);

		if (resolve->shards >> shard & 1)
			resolve_slot(segment, index, resolve->last_tags[shard], term, now_ns);
	}
	return resolve->next == segment->slots;
}

/* ---- The scrub --------------------------------------------------------- */

/* What the leader has to look at, and would not. */
static bool is_lost(const struct segment *segment, uint64_t index)
{
	struct slot *slot = &segment->table.slots[index];
	struct bucket_ref ref = { .slot = slot };
	struct word_pair state;
	uint64_t owner;

	ref.generation = atomic_load_acquire(&slot->identity.second) & GENERATION_MASK; /* E1 */
	if (!bucket_read(&ref, &state))
		return false;
	owner = atomic_load_relaxed(&slot->owner);      /* complete in itself */
	return ((state.second & STATE_QUEUED) ||
		((owner & OWNER_SYNCS) && is_unmerged(slot, state))) &&
	       !queue_is_reachable(&segment->queue, index);
}

void round_scrub(const struct segment *segment, struct round_scrub *scrub, uint64_t now_ns)
{
	uint64_t elapsed = now_ns - scrub->last_ns, due;

	if (scrub->last_ns == 0 || elapsed > SCRUB_PERIOD_NS)
		elapsed = scrub->last_ns == 0 ? 0 : SCRUB_PERIOD_NS;
	due = (uint64_t)((unsigned __int128)segment->slots * elapsed / SCRUB_PERIOD_NS);
	if (due == 0 && scrub->last_ns != 0)
		return;                 /* a small table: the time adds up */
	scrub->last_ns = now_ns;
	for (due = due < SCRUB_SLOTS ? due : SCRUB_SLOTS; due > 0; due--) {
		uint64_t index = scrub->next;

		scrub->next = index + 1 < segment->slots ? index + 1 : 0;
		if (is_lost(segment, index))
			queue_mark(&segment->queue, index);
	}
}
