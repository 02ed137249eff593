/* SPDX-License-Identifier: Apache-2.0 */
/*
 * windows.c - fixed and sliding windows on their way to Redis and back.
 *
 * What.  A window is a sum, so what this host admitted in it since Redis last
 * acknowledged is one number, which may be below 0.  Redis keeps the sum of all
 * hosts by the window's end in the cluster's time, and that of the window before.
 * What comes back, less what it has of ours, is what the others have: the foreign
 * word of the slot, which decisions add to the bucket's own count.
 *
 * Which window.  The count of a bucket starts again with every window, so `agreed`
 * says in its second word which one it is of.  When the bucket has gone on, the
 * leader first makes the last call's mark void (sent), then agrees on 0 tokens of
 * the new window, and only then marks anew: whatever `sent` says was sent is of the
 * window that `agreed` names.  That holds because nothing is in doubt here: before
 * anything is collected, a fence has told of all that was sent before.
 *
 * What was admitted at the end of a window and not sent before the next one began
 * is not lost to that window's limit (it was within what the mode allows without a
 * view), only to what the others take for its sum.  A sliding window needs that sum:
 * this host tells it as a fact, of which Redis takes the maximum, and so it is
 * wrong by at most what all hosts had not merged.
 *
 * Ordering.  E8: the foreign word, then merged with release -> the acquire of merged,
 * then of foreign, by who applies the cap.
 */
#include "sync/collect.h"

#include "shm/bucket.h"
#include "shm/window.h"

#define MERGE_ATTEMPTS 256
#define COUNT_NONE -1           /* Redis keeps this window no more */
#define EARLY_MAX_NS (WIRE_SECOND / 2)

static uint64_t merged_word(const struct round_item *item, uint64_t used)
{
	uint64_t index = window_index(&item->limit, item->gone_ns);

	return used << STATE_USED_SHIFT | (index << MERGED_WINDOW_SHIFT & MERGED_WINDOW_MASK) |
	       item->generation;
}

static uint64_t foreign_of(const struct slot *slot, uint64_t generation)
{
	/* Behind the load of merged, where that matters. */
	return foreign_mixed(atomic_load_acquire(&slot->foreign), generation);  /* E8 */
}

uint64_t round_unmerged(const struct segment *segment, const struct slot *slot,
			uint64_t generation, struct word_pair state)
{
	uint64_t merged = atomic_load_acquire(&slot->merged);                   /* E8 */
	struct bucket_state bucket = { .time_ns = state.first, .used = state_used(state) };
	enum weir_consistency consistency;
	struct limit limit;

	if (!round_owner_limit(segment, slot, generation, &limit, &consistency))
		return 0;
	if (limit.algorithm == WEIR_CONCURRENCY)
		return hold_unmerged(generation, bucket.used, merged);
	if (!limit_is_window(&limit))
		return bucket_unmerged(generation, bucket.used, merged);
	return window_unmerged(generation, window_index(&limit, window_gone_ns(&limit, &bucket)),
			       bucket.used, merged, foreign_of(slot, generation));
}

/* ---- Collecting -------------------------------------------------------- */

static bool agreed_is_of(const struct round_item *item)
{
	return (item->acked & GENERATION_MASK) == item->generation &&
	       item->base_ns == item->gone_ns;
}

/* Was a window agreed on of this owner, whichever? */
static bool has_agreed(const struct round_item *item)
{
	return (item->acked & GENERATION_MASK) == item->generation && item->base_ns != 0;
}

static uint64_t window_at(const struct limit *limit, uint64_t now_ns)
{
	uint64_t aligned_ns = now_ns + (uint64_t)limit->aligned_offset_ns;

	return window_gone_of_index(limit, aligned_ns / limit->period_ns);
}

/* Does the window GONE_NS begin after NOW_NS?  By a little, a bucket that has told of
 * its window may be early: the cluster's time is known up to a round trip. */
static bool is_early(const struct round_item *item, uint64_t gone_ns, uint64_t now_ns)
{
	const struct limit *limit = &item->limit;
	uint64_t begin_ns = window_index(limit, gone_ns) * limit->period_ns;
	uint64_t aligned_ns = now_ns + (uint64_t)limit->aligned_offset_ns;

	return begin_ns > aligned_ns + (has_agreed(item) ? EARLY_MAX_NS : 0);
}

/* The window that the bucket counts.  One that was refunded to nothing, or reset, does
 * not say: then it is the one last agreed on, unless that is early, for a reset that was
 * told of such a one would wait for it; else the present one. */
static uint64_t window_of(const struct collector *collector, const struct round_item *item)
{
	struct bucket_state bucket = { .time_ns = item->time_ns, .used = item->used };

	if (item->time_ns != 0)
		return window_gone_ns(&item->limit, &bucket);
	if (has_agreed(item) && !is_early(item, item->base_ns, collector->now_ns))
		return item->base_ns;
	return window_at(&item->limit, collector->now_ns);
}

/* See above: from now on, what is sent and agreed is of the item's window. */
static bool begin_window(const struct collector *collector, struct round_item *item)
{
	const struct segment *segment = collector->segment;
	struct slot_sync *sync = &segment->slot_syncs[item->slot];

	if (!collect_mark_sent(collector, sync, item->generation, UINT64_MAX) ||
	    !round_agree(segment, sync, item->generation, item->gone_ns, collector->term) ||
	    !round_renew_credit(segment, &segment->table.slots[item->slot], merged_word(item, 0),
				collector->term))
		return false;
	item->acked = item->generation;
	item->base_ns = item->gone_ns;
	return true;
}

/*
 * Has the cluster not begun the item's window?  The host's clock was wrong when it did, or
 * Redis has forgotten the time.  Then the item is of the present one.  The clock is read
 * behind the bucket: a leader that was stopped must not take a later window for an early
 * one.
 */
static bool leave_early(const struct collector *collector, const struct round *round,
			struct round_item *item)
{
	const struct shard_record *shard = &collector->segment->shards[round->shard];
	uint64_t now_ns;

	/* Relaxed: complete in itself. */
	if (item->time_ns == 0 || !is_early(item, item->gone_ns, collector->now_ns) ||
	    atomic_load_relaxed(&shard->window_offset_ns) == 0)
		return false;
	now_ns = collector->clock_ns();
	if (!is_early(item, item->gone_ns, now_ns))
		return false;
	item->gone_ns = window_at(&item->limit, now_ns);
	return true;
}

/*
 * A bucket that is early goes back to the present window, with its tokens, or what it
 * admits would count where others are not until the cluster's clock has caught up.  They
 * are told anew, whatever Redis has of that window: so it is begun before the bucket is
 * moved.  But where Redis has some of the later window, what it has is forgotten only
 * behind the move: a bucket that stays may be in it when it begins.
 * False if the bucket has changed since it was read as STATE.
 */
static bool come_back(const struct segment *segment, struct round_item *item,
		      struct word_pair *state)
{
	struct slot *slot = &segment->table.slots[item->slot];
	struct word_pair after = *state;

	after.first = item->gone_ns;
	if (!atomic_cas_pair_full(&slot->state, *state, after))                 /* E2 */
		return false;
	*state = after;
	item->time_ns = item->gone_ns;
	return true;
}

static void pack(const struct collector *collector, struct round *round,
		 const struct round_item *item, bool reset)
{
	const struct segment *segment = collector->segment;
	const struct slot *slot = &segment->table.slots[item->slot];
	const struct limit *limit = &item->limit;
	struct bucket_state bucket = { .time_ns = item->time_ns, .used = item->used };
	uint64_t index = window_index(limit, item->gone_ns);
	uint64_t acked = round_tokens(item->acked, item->generation);
	uint64_t known = window_sum(acked, foreign_tokens(foreign_of(slot, item->generation), index));
	uint32_t flags = reset ? WIRE_RESET : 0;
	unsigned char *at = round->window_blob + round->window_count * WIRE_WINDOW;

	if (atomic_load_relaxed(&segment->shards[round->shard].restore))
		flags |= WIRE_RESTORE;
	at = collect_put_name(at, slot, &segment->slot_syncs[item->slot]);
	at = wire_put_ns(at, (int64_t)((index + 1) * limit->period_ns));
	at = wire_put_ns(at, (int64_t)limit->period_ns);
	/* What was counted before a reset is gone: all that is used came after it. */
	at = wire_put64(at, reset ? item->used : item->used - acked);
	at = wire_put64(at, known);
	at = wire_put64(at, window_previous(limit, &bucket));
	at = wire_put32(at, item->view);
	wire_put32(at, flags);
}

bool collect_window(struct collector *collector, struct round *round,
		    const struct round_item *begun, struct word_pair state)
{
	const struct segment *segment = collector->segment;
	struct slot *slot = &segment->table.slots[begun->slot];
	struct slot_sync *sync = &segment->slot_syncs[begun->slot];
	struct round_item *item = &round->windows[round->window_count];
	bool reset, early, told;

	*item = *begun;
	collect_view(slot, item);
	reset = item->resets != collect_resets_known(sync, item->generation);
	item->gone_ns = window_of(collector, item);
	told = agreed_is_of(item);
	early = leave_early(collector, round, item);
	if (early && told && !come_back(segment, item, &state))
		return collect_leave(collector, round->shard);
	if ((early || !agreed_is_of(item)) && !begin_window(collector, item))
		return false;
	if (early && !told && !come_back(segment, item, &state))
		return collect_leave(collector, round->shard);
	if (item->time_ns == 0)
		item->time_ns = item->gone_ns;  /* empty, and nobody's for so long */
	/* Relaxed: complete in itself, with its generation. */
	if (round_tokens(item->acked, item->generation) == item->used && !reset &&
	    atomic_load_relaxed(&slot->merged) == merged_word(item, item->used) &&
	    !atomic_load_relaxed(&segment->shards[round->shard].restore)) {
		if (!collect_wants_refresh(collector, window_clock_ns(&item->limit, item->time_ns),
					   sync)) {
			collect_dequeue(segment, item->slot, state);
			return true;
		}
		if (atomic_load_relaxed(&sync->refresh_ns) > collector->now_ns)
			return true;
	} else {
		atomic_store_relaxed(&sync->backoff_ns, 0);
	}
	collect_plan_refresh(collector, sync, UINT64_MAX);
	if (!collect_mark_sent(collector, sync, round_sent(item), round->tag))
		return false;
	pack(collector, round, item, reset);
	round->window_count++;
	round->send = true;
	return true;
}

/* ---- Merging ----------------------------------------------------------- */

static struct bucket_state bucket_of(struct word_pair state)
{
	return (struct bucket_state){ .time_ns = state.first, .used = state_used(state) };
}

/* Nobody else writes the word, but a claimer and a reset, who clear it. */
bool round_set_foreign(const struct segment *segment, const struct round_item *item, uint64_t word,
		       uint64_t term)
{
	struct slot *slot = &segment->table.slots[item->slot];

	word = foreign_mixed(word, item->generation);
	for (int attempt = 0; attempt < ROUND_ATTEMPTS; attempt++) {
		/* Relaxed: one word; its compare-and-swap releases what came before. */
		uint64_t seen = atomic_load_relaxed(&slot->foreign);

		if (!round_term_holds(segment, term) ||
		    round_resets_asked(slot, item->generation) != item->resets)
			return false;
		if (atomic_cas_acq_rel(&slot->foreign, &seen, word))            /* E8 */
			return true;
	}
	return false;
}

/* What the reply says of the previous counter of a bucket that is in the window
 * GONE_NS: its own view of it, or, if the bucket has gone on, this window's sum. */
static bool previous_of(const struct round_item *item, uint64_t gone_ns, int64_t total,
			int64_t previous, int64_t *value)
{
	*value = gone_ns == item->gone_ns ? previous : total;
	return *value >= 0 && (gone_ns == item->gone_ns ||
			       gone_ns == item->gone_ns + item->limit.period_ns);
}

/* Raise the previous counter of a sliding window to what the cluster has; after a
 * reset elsewhere (ADOPT) it is as Redis says.  False if the bucket is another owner's. */
static bool merge_previous(const struct bucket_ref *ref, const struct round_item *item,
			   int64_t total, int64_t previous, bool adopt)
{
	for (int attempt = 0; attempt < MERGE_ATTEMPTS; attempt++) {
		struct word_pair state, after;
		struct bucket_state bucket;
		uint64_t gone_ns;
		int64_t value;

		if (!bucket_read(ref, &state) ||
		    round_resets_asked(ref->slot, item->generation) != item->resets)
			return false;
		bucket = bucket_of(state);
		gone_ns = window_gone_ns(&item->limit, &bucket);
		if (item->limit.algorithm == WEIR_FIXED_WINDOW || bucket.time_ns == 0 ||
		    !previous_of(item, gone_ns, total, previous, &value))
			return true;
		if ((uint64_t)value >= item->limit.period_ns)
			value = (int64_t)item->limit.period_ns - 1;
		if ((uint64_t)value == bucket.time_ns - gone_ns ||
		    ((uint64_t)value < bucket.time_ns - gone_ns && !adopt))
			return true;
		after = state;
		after.first = gone_ns + (uint64_t)value;
		if (atomic_cas_pair_full(&ref->slot->state, state, after))      /* E2, E8 */
			return true;
	}
	return false;
}

static bool merge_window(const struct segment *segment, const struct round *round,
			 const struct round_item *item, const unsigned char *answer)
{
	struct slot *slot = &segment->table.slots[item->slot];
	struct slot_sync *sync = &segment->slot_syncs[item->slot];
	struct bucket_ref ref = { .slot = slot, .generation = item->generation };
	int64_t total = wire_get64(answer), previous = wire_get64(answer + 8);
	uint32_t view = wire_get32(answer + 16), failed = wire_get32(answer + 20);
	enum view_rule rule = round_view_rule(item->view, view);
	uint64_t sent = round_sent(item), term = round->term;
	uint64_t foreign = foreign_word(total - (int64_t)item->used,
					window_index(&item->limit, item->gone_ns));

	if (failed)
		return false;           /* and nothing of it was applied */
	if (total <= COUNT_NONE || rule == VIEW_IGNORE ||
	    !merge_previous(&ref, item, total, previous, rule == VIEW_ADOPT) ||
	    !round_set_foreign(segment, item, foreign, term)) {
		round_acknowledge(segment, item->slot, &item->limit, sent, term);
		return false;
	}
	if (rule == VIEW_ADOPT)
		round_remember_view(slot, item->generation, view);
	if (!round_agree(segment, sync, sent, item->gone_ns, term))
		return false;
	/* Relaxed: the leader's own. */
	atomic_store_relaxed(&sync->resets, item->resets | item->generation);
	return round_renew_credit(segment, slot, merged_word(item, item->used), term);
}

unsigned windows_merge(const struct segment *segment, const struct round *round,
		       const struct round_reply *reply)
{
	unsigned merged = 0;

	for (unsigned i = 0; i < round->window_count; i++)
		merged += merge_window(segment, round, &round->windows[i],
				       reply->windows + i * WIRE_WINDOW_REPLY);
	return merged;
}

/* ---- Time -------------------------------------------------------------- */

/*
 * The offset lies in an interval: Redis read its clock after the call was begun, and
 * before the reply came.  It stays as it is while it is in there, and moves to the
 * nearer end otherwise: so the clocks' drift is followed, and a slow reply moves
 * nothing.  Hosts differ by the time of a round trip at most.
 */
void windows_keep_time(const struct segment *segment, unsigned index, uint64_t taken_ns,
		       const struct round_reply *reply)
{
	struct shard_record *shard = &segment->shards[index];
	uint64_t virtual_ns = reply->virtual_seconds * (uint64_t)WIRE_SECOND +
			      reply->virtual_part_ns;
	uint64_t received_ns = reply->received_ns > taken_ns ? reply->received_ns : taken_ns;
	uint64_t most = virtual_ns - taken_ns, least = virtual_ns - received_ns;
	/* Relaxed: leaders' own, and complete in itself for decisions. */
	uint64_t offset = atomic_load_relaxed(&shard->window_offset_ns);

	/* Before this host was started, by Redis' clock: stored times would be negative. */
	if (virtual_ns >= TIME_MAX_NS || virtual_ns < received_ns ||
	    (int64_t)(virtual_ns - (uint64_t)segment->wall_offset_ns) <= 0)
		return;
	if (offset == 0)
		offset = least + (most - least) / 2;
	offset = offset < least ? least : offset > most ? most : offset;
	atomic_store_relaxed(&shard->window_offset_ns, offset);
}
