/* SPDX-License-Identifier: Apache-2.0 */
/*
 * merge.c - the cluster's view comes back into a bucket.
 *
 * What.  Redis answers with G, how far the cluster's bucket is in debt now that the
 * charges sent are in it.  On this host's clock that is taken_ns + G, plus what the
 * bucket was charged since.  The bucket takes the later of that and its own time:
 * a maximum of facts, so a reply that comes twice, late or out of order changes
 * nothing wrong.  taken_ns is from before the call: the view is early by the way
 * there, and a thread that is stopped in here cannot make it late.
 *
 * A refund or reset anywhere moves the generation of the view: then it is taken
 * as it is, since the maximum would never let debt shrink.
 *
 * Crash.  What is agreed, then merged, after the bucket itself: a leader that dies in
 * between is followed by one that fences, and finds what was agreed in sent.  One
 * that is stopped in between finds, when it goes on, that its term has passed.
 *
 * Ordering.  E8: the bucket's compare-and-swap, then merged with release -> the
 * acquire of merged by who applies the cap: a credit is renewed only after the
 * view that pays for it is in the bucket.
 */
#include "sync/round.h"

#include "shm/bucket.h"
#include "shm/counter.h"
#include "shm/gcra.h"

#define MERGE_ATTEMPTS 256

enum view_rule round_view_rule(uint32_t ours, uint32_t theirs)
{
	return theirs == ours ? VIEW_MAXIMUM : theirs > ours ? VIEW_ADOPT : VIEW_IGNORE;
}

/* Change the bucket's time to what the view says.  False if it is another owner's
 * by now, or if a reset was asked for since it was collected, which what was owed
 * before must not undo: resets are asked for before the bucket is emptied, so the
 * compare-and-swap of a bucket without one is safe. */
static bool merge_bucket(const struct bucket_ref *ref, const struct round_item *item,
			 uint64_t view_ns, enum view_rule rule)
{
	for (int attempt = 0; attempt < MERGE_ATTEMPTS; attempt++) {
		struct word_pair state, after;
		int64_t since;

		if (!bucket_read(ref, &state) ||
		    round_resets_asked(ref->slot, item->generation) != item->resets)
			return false;
		since = round_charge_ns(&item->limit, item->used, state_used(state));
		after = state;
		/* What is given back may be more than was ever owed. */
		after.first = view_ns + (uint64_t)since;
		if (since < 0 && (uint64_t)-since > view_ns)
			after.first = 0;
		if (rule == VIEW_MAXIMUM && (int64_t)(after.first - state.first) <= 0)
			return true;
		if (atomic_cas_pair_full(&ref->slot->state, state, after))      /* E2, E8 */
			return true;
	}
	return false;
}

void round_remember_view(struct slot *slot, uint64_t generation, uint32_t view)
{
	/* Relaxed: complete in itself.  Resets that are asked meanwhile stay. */
	uint64_t current = atomic_load_relaxed(&slot->view), next;

	for (int attempt = 0; attempt < MERGE_ATTEMPTS; attempt++) {
		next = (uint64_t)view << VIEW_SHIFT | generation;
		if ((current & GENERATION_MASK) == generation)
			next |= current & 0xffff0000u;
		if (atomic_cas_relaxed(&slot->view, &current, next))
			return;
	}
}

void round_merge_view(const struct bucket_ref *ref, const struct round_item *item,
		      uint64_t taken_ns, int64_t debt_ns, uint32_t generation)
{
	enum view_rule rule = round_view_rule(item->view, generation);
	uint64_t view_ns = taken_ns + (uint64_t)debt_ns;

	if ((int64_t)view_ns < 0)
		view_ns = 0;
	if (debt_ns <= (int64_t)GCRA_DEBT_MAX_NS && rule != VIEW_IGNORE &&
	    merge_bucket(ref, item, view_ns, rule) && rule == VIEW_ADOPT)
		round_remember_view(ref->slot, item->generation, generation);
}

bool round_renew_credit(const struct segment *segment, struct slot *slot, uint64_t word,
			uint64_t term)
{
	for (int attempt = 0; attempt < ROUND_ATTEMPTS; attempt++) {
		/* Relaxed: one word; its compare-and-swap releases what came before. */
		uint64_t merged = atomic_load_relaxed(&slot->merged);

		if (!round_term_holds(segment, term))
			return false;
		if (atomic_cas_acq_rel(&slot->merged, &merged, word))           /* E8 */
			return true;
	}
	return false;
}

static bool merge_item(const struct segment *segment, const struct round *round, unsigned i,
		       const struct round_reply *reply)
{
	const struct round_item *item = &round->items[i];
	const unsigned char *answer = reply->items + i * WIRE_REPLY;
	uint32_t part_ns = wire_get32(answer + 4), view = wire_get32(answer + 8);
	uint32_t failed = part_ns >> WIRE_ERROR_SHIFT;
	struct slot *slot = &segment->table.slots[item->slot];
	struct slot_sync *sync = &segment->slot_syncs[item->slot];
	struct bucket_ref ref = { .slot = slot, .generation = item->generation };
	int64_t debt = ((int64_t)wire_get32(answer) - (int64_t)reply->virtual_seconds) *
			       WIRE_SECOND +
		       (int64_t)part_ns - (int64_t)reply->virtual_part_ns;
	enum view_rule rule = round_view_rule(item->view, view);
	uint64_t view_ns, sent = round_sent(item), term = round->term;

	if (failed)
		return false;           /* and nothing of it was applied */
	view_ns = round->taken_ns + (uint64_t)debt;
	if ((int64_t)view_ns < 0)
		view_ns = 0;
	/* More than any limit can owe is damage, not a view. */
	if (debt > (int64_t)GCRA_DEBT_MAX_NS || rule == VIEW_IGNORE ||
	    !merge_bucket(&ref, item, view_ns, rule)) {
		round_acknowledge(segment, item->slot, &item->limit, sent, term);
		return false;
	}
	if (rule == VIEW_ADOPT)
		round_remember_view(slot, item->generation, view);
	if (rule == VIEW_MAXIMUM && (int64_t)(item->time_ns - view_ns) > 0)
		view_ns = item->time_ns;
	if (!round_agree(segment, sync, sent, view_ns, term))
		return false;
	/* Relaxed: the leader's own. */
	atomic_store_relaxed(&sync->resets, item->resets | item->generation);
	return round_renew_credit(segment, slot, round_merged_word(item, term), term);
}

/* Redis has the call of TAG: terms grow, and so do tags.  False if it had a later one. */
static bool acknowledge(struct shard_record *shard, uint64_t tag)
{
	/* Relaxed: the leaders' own; the leader word hands it on. */
	uint64_t last = atomic_load_relaxed(&shard->acked_tag);

	while (last < tag) {
		if (atomic_cas_relaxed(&shard->acked_tag, &last, tag))
			return true;
	}
	return false;
}

bool round_merge(const struct segment *segment, const struct round *round,
		 const struct round_reply *reply)
{
	struct shard_record *shard = &segment->shards[round->shard];
	uint64_t staleness = atomic_load_relaxed(&segment->header->sync.staleness_ns);
	uint64_t restore = round->restore;
	unsigned merged = 0;

	/* It names the call that it answers: another one's reply never passes for it. */
	if (reply->code != ROUND_DONE || reply->last_tag != round->tag ||
	    reply->count != round->count || reply->window_count != round->window_count ||
	    reply->hold_count != round->hold_count)
		return false;
	for (unsigned i = 0; i < round->count; i++)
		merged += merge_item(segment, round, i, reply);
	merged += windows_merge(segment, round, reply);
	merged += holds_merge(segment, round, reply);

	/* Of a term that has passed: the next leader knows better. */
	if (!round_term_holds(segment, round->term))
		return false;
	/* One that is stopped here, and goes on when others have led, makes the view look older
	 * than it is till the next round, and no more. */
	if (!acknowledge(shard, round->tag))
		return false;
	windows_keep_time(segment, round->shard, round->taken_ns, reply);
	atomic_store_relaxed(&shard->hosts, reply->hosts);
	atomic_store_relaxed(&shard->virtual_seconds, reply->virtual_seconds);
	atomic_store_relaxed(&shard->virtual_part_ns, reply->virtual_part_ns);
	atomic_store_relaxed(&shard->virtual_at_ns, round->taken_ns);
	/* What was to be restored when the walk began, and not what a later leader found. */
	if (round->whole && restore != 0)
		atomic_cas_relaxed(&shard->restore, &restore, 0);
	/* From when the question was asked, not from when the answer came. */
	atomic_store_release(&shard->fresh_until_ns, round->taken_ns + staleness);      /* E9 */
	counter_add_global(segment, COUNTER_ROUNDS, 1);
	counter_add_global(segment, COUNTER_MERGED, merged);
	return true;
}
