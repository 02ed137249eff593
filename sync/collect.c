/* SPDX-License-Identifier: Apache-2.0 */
/*
 * collect.c - what this host admitted, as two numbers per bucket.
 *
 * What.  A request of c tokens at time u takes a bucket's time x to max(x, u) + c.
 * Such maps compose to x -> max(x + d, e), so the un-acknowledged charges of a
 * bucket are exactly two numbers: d, their sum, and e, the time that they give a
 * bucket that was empty before them.  d follows from the tokens consumed since
 * what Redis has for certain; e is the bucket's own time if it was idle meanwhile,
 * which shows in the time being beyond base + d, and nothing otherwise.
 *
 * Invariant.  What is in flight is marked as sent, with the tag of its call,
 * before it goes out; and nothing is marked by one who is no longer the leader.
 *
 * References: docs/sync.md.
 */
#include "sync/round.h"

#include "shm/bucket.h"
#include "shm/gcra.h"
#include "shm/policy_table.h"

#define POLICY_ATTEMPTS 16      /* policy changes that one reading follows */
#define REFRESH_INTERVALS 32    /* after these without a charge, a bucket is idle */

int64_t round_charge_ns(const struct limit *limit, uint64_t from, uint64_t to)
{
	uint64_t more = (to - from) & WEIR_COUNT_MAX, fewer = (from - to) & WEIR_COUNT_MAX;
	uint64_t phase = gcra_phase(limit, from), ns;

	if (more <= fewer) {
		ns = gcra_charge_ns(limit, phase, more);
		return ns > INT64_MAX ? INT64_MAX : (int64_t)ns;
	}
	ns = gcra_return_ns(limit, phase, fewer);
	return ns > INT64_MAX ? -INT64_MAX : -(int64_t)ns;
}

static uint64_t tokens_of(uint64_t word, uint64_t generation)
{
	return (word & GENERATION_MASK) == generation ? word >> STATE_USED_SHIFT : 0;
}

/* The resets of this owner that Redis has, where item->resets has those asked. */
static uint64_t resets_known(const struct slot_sync *sync, uint64_t generation)
{
	uint64_t resets = atomic_load_relaxed(&sync->resets);   /* with its generation */

	return (resets & GENERATION_MASK) == generation ? resets & 0xffff0000u : 0;
}

/* The limit of a slot's owner; false if it does not sync (any more). */
static bool owner_limit(const struct segment *segment, const struct slot *slot,
			uint64_t generation, struct limit *limit)
{
	/* Relaxed: complete in itself. */
	uint64_t owner = atomic_load_relaxed(&slot->owner);
	uint32_t index = owner >> 16 & 0xffff, i = owner >> 32 & 0x7f;
	bool found = false;

	if ((owner & GENERATION_MASK) != generation || !(owner & OWNER_SYNCS) ||
	    index >= segment->policies)
		return false;
	for (int attempt = 0; attempt < POLICY_ATTEMPTS; attempt++) {
		uint64_t version = policy_version(segment), serial;
		struct weir_policy policy;

		found = policy_decode(segment, version, index, &policy, &serial) &&
			(serial & 0xffffff) == owner >> 40 && i < policy.limit_count;
		if (found)
			policy_limit(segment, version, index, i, limit);
		if (policy_version(segment) == version)
			break;
	}
	return found;
}

/*
 * The most debt that a window from a stale view may leave, or 0 where that is more
 * than any limit has: who was cut off for an hour must not lock everybody out for
 * another.  Twice the burst, and what the mode lets hosts have on top of it, which
 * is not forgiven.
 */
static int64_t stale_cap_ns(const struct segment *segment, const struct shard_record *shard,
			    const struct limit *limit)
{
	/* Relaxed: numbers that are good by themselves. */
	uint64_t seen = atomic_load_relaxed(&shard->hosts);
	uint64_t expected = atomic_load_relaxed(&segment->header->sync.expected_hosts);
	uint64_t overshoot = atomic_load_relaxed(&segment->header->sync.overshoot);
	gcra_wide tokens = (gcra_wide)limit->burst * (2000 + overshoot) / 1000 +
			   (seen > expected ? seen : expected);
	uint64_t ns = tokens > UINT64_MAX ? UINT64_MAX :
					    gcra_charge_ns(limit, 0, (uint64_t)tokens);

	return ns > GCRA_DEBT_MAX_NS ? 0 : (int64_t)ns;
}

/* Nothing of the slot is left to merge: out of the queue (queue.h). */
static void dequeue(const struct segment *segment, uint64_t index, struct word_pair state)
{
	struct word_pair clean = state;

	queue_unmark(&segment->queue, index);
	clean.second = (state.second & ~(STATE_QUEUED | STATE_EPOCH_MASK)) |
		       ((state.second + STATE_EPOCH_UNIT) & STATE_EPOCH_MASK);
	if (!atomic_cas_pair_full(&segment->table.slots[index].state, state, clean))    /* E7 */
		queue_mark(&segment->queue, index);
}

/* Has the slot no bucket, and none that is about to be? */
static bool is_dead(const struct slot *slot)
{
	uint64_t identity = atomic_load_acquire(&slot->identity.second);        /* E1 */
	uint64_t state = atomic_load_acquire(&slot->state.second);              /* E2 */

	return !(state & STATE_LIVE) && ((identity ^ state) & GENERATION_MASK) == 0;
}

/* A slot without a bucket leaves the queue.  One that is claimed stays: its mark is
 * there for a first charge that has yet to come, and that will not mark again.  The
 * same holds if it is claimed while its mark is taken away. */
static void dequeue_dead(const struct segment *segment, uint64_t index)
{
	const struct slot *slot = &segment->table.slots[index];

	if (!is_dead(slot))
		return;
	queue_unmark(&segment->queue, index);
	if (!is_dead(slot))                                     /* E7 */
		queue_mark(&segment->queue, index);
}

/* See queue.h: the mark of a charge that has not come yet, or never will. */
static bool enqueue(const struct segment *segment, uint64_t index, struct word_pair *state)
{
	struct word_pair queued = *state;

	if (state->second & STATE_QUEUED)
		return true;
	/* The mark that was seen may be gone: this leader may have been stopped since,
	 * and followed by one that emptied the queue. */
	queue_mark(&segment->queue, index);
	queued.second |= STATE_QUEUED;
	if (!atomic_cas_pair_full(&segment->table.slots[index].state, *state, queued))  /* E7 */
		return false;
	*state = queued;
	return true;
}

struct collector {
	const struct segment *segment;
	struct round *rounds;
	uint64_t leader;
	uint64_t term;
	uint64_t now_ns;
};

static bool is_leader(const struct collector *collector)
{
	const struct word_pair *word = &collector->segment->header->leader.word;

	return atomic_load_acquire(&word->first) == collector->leader &&        /* E10 */
	       atomic_load_acquire(&word->second) == collector->term;           /* E10 */
}

/* E: when the bucket, had it been empty before these charges, would be full.  A
 * reset emptied it: what is there came after. */
static int64_t idle_ns(const struct collector *collector, const struct round_item *item,
		       bool has_base, bool reset, int64_t charge)
{
	if (has_base && !reset && (int64_t)(item->time_ns - item->base_ns) <= charge)
		return WIRE_NONE;
	return (int64_t)(item->time_ns - collector->now_ns);
}

static void pack(const struct collector *collector, struct round *round,
		 const struct round_item *item)
{
	const struct segment *segment = collector->segment;
	const struct slot *slot = &segment->table.slots[item->slot];
	const struct slot_sync *sync = &segment->slot_syncs[item->slot];
	const struct shard_record *shard = &segment->shards[round->shard];
	bool has_base = (item->acked & GENERATION_MASK) == item->generation;
	int64_t charge = round_charge_ns(&item->limit, tokens_of(item->acked, item->generation),
					 item->used);
	/* Relaxed: the claimer's words, complete each. */
	uint64_t low = atomic_load_relaxed(&slot->identity.first);
	uint64_t high = (atomic_load_relaxed(&slot->identity.second) & ~GENERATION_MASK) |
			(atomic_load_relaxed(&sync->name_rest) >> 16 & 0xffff);
	bool stale = atomic_load_relaxed(&shard->fresh_until_ns) < collector->now_ns;
	unsigned char *at = round->blob + round->count * WIRE_ITEM;
	uint32_t flags = atomic_load_relaxed(&shard->restore) ? WIRE_RESTORE : 0;

	if (item->resets != resets_known(sync, item->generation))
		flags |= WIRE_RESET;
	at = wire_put32(at, (uint32_t)low);
	at = wire_put32(at, (uint32_t)(low >> 32));
	at = wire_put32(at, (uint32_t)high);
	at = wire_put32(at, (uint32_t)(high >> 32));
	at = wire_put_ns(at, charge);
	at = wire_put_ns(at, idle_ns(collector, item, has_base, flags & WIRE_RESET, charge));
	at = wire_put_ns(at, has_base ? (int64_t)(item->base_ns - collector->now_ns) : WIRE_NONE);
	at = wire_put_ns(at, stale ? stale_cap_ns(segment, shard, &item->limit) : 0);
	at = wire_put32(at, item->view);
	wire_put32(at, flags);
}

/* Nobody's bucket any more: its charges are no one's business. */
static void forget(const struct segment *segment, uint64_t index, struct word_pair state)
{
	struct slot *slot = &segment->table.slots[index];

	atomic_store_release(&slot->merged, state_used(state) << STATE_USED_SHIFT |
						    (state.second & GENERATION_MASK));      /* E8 */
	dequeue(segment, index, state);
}

/*
 * A bucket without new charges is asked for a few times more, ever later, while it
 * is in debt: other hosts may go on, and who looks at it here should see that.
 */
static bool wants_refresh(const struct collector *collector, const struct round_item *item,
			  const struct slot_sync *sync)
{
	uint64_t interval = atomic_load_relaxed(&collector->segment->header->sync.interval_ns);

	return item->time_ns > collector->now_ns &&
	       atomic_load_relaxed(&sync->backoff_ns) < REFRESH_INTERVALS * interval;
}

static void plan_refresh(const struct collector *collector, struct slot_sync *sync)
{
	/* Relaxed: the leader's own; the leader word hands them on. */
	uint64_t interval = atomic_load_relaxed(&collector->segment->header->sync.interval_ns);
	uint64_t backoff = 2 * atomic_load_relaxed(&sync->backoff_ns);

	backoff = backoff < interval ? interval : backoff;
	atomic_store_relaxed(&sync->backoff_ns, backoff);
	atomic_store_relaxed(&sync->refresh_ns, collector->now_ns + backoff);
}

/* Is WORD (acked or merged) of this owner, and up to date? */
static bool knows(uint64_t word, const struct round_item *item)
{
	return (word & GENERATION_MASK) == item->generation &&
	       word >> STATE_USED_SHIFT == item->used;
}

/* Both words of one agreement; false if leaders are changing them just now. */
static bool read_agreed(const struct slot_sync *sync, struct word_pair *agreed)
{
	agreed->first = atomic_load_acquire(&sync->agreed.first);               /* E10 */
	agreed->second = atomic_load_acquire(&sync->agreed.second);             /* E10 */
	return atomic_load_acquire(&sync->agreed.first) == agreed->first;       /* E10 */
}

static bool collect_slot(uint64_t index, void *context)
{
	struct collector *collector = context;
	const struct segment *segment = collector->segment;
	struct slot *slot = &segment->table.slots[index];
	struct slot_sync *sync = &segment->slot_syncs[index];
	struct word_pair state, sent, sending;
	struct bucket_ref ref = { .slot = slot };
	struct round_item *item;
	struct word_pair agreed;
	struct round *round;
	uint64_t view, merged, shard;

	if (index >= segment->slots)
		return false;           /* damage */
	ref.generation = atomic_load_acquire(&slot->identity.second) & GENERATION_MASK; /* E1 */
	shard = slot_shard(atomic_load_acquire(&slot->identity.first));                 /* E1 */
	round = &collector->rounds[shard];
	/* Before the bucket: a leader that was stopped in between, and has lost the
	 * lead, then counts charges twice at worst.  The other way round it would take
	 * what the next leader agreed on for a refund, and a Redis that has forgotten
	 * the terms would believe it. */
	if (!read_agreed(sync, &agreed)) {
		round->whole = false;
		return true;            /* next time */
	}
	if (!bucket_read(&ref, &state)) {
		dequeue_dead(segment, index);
		return true;
	}
	if (round->count == ROUND_ITEMS || !enqueue(segment, index, &state)) {
		round->whole = false;
		return true;            /* next time */
	}

	item = &round->items[round->count];
	*item = (struct round_item){ .slot = index, .generation = ref.generation,
				     .used = state_used(state), .time_ns = state.first,
				     .acked = agreed.first, .base_ns = agreed.second };
	if (!owner_limit(segment, slot, ref.generation, &item->limit)) {
		forget(segment, index, state);
		return true;
	}
	/* Relaxed: words that are complete in themselves, each with its generation. */
	view = atomic_load_relaxed(&slot->view);
	if ((view & GENERATION_MASK) == ref.generation) {
		item->view = (uint32_t)(view >> VIEW_SHIFT);
		item->resets = view & 0xffff0000u;
	}
	merged = atomic_load_relaxed(&slot->merged);
	if (knows(item->acked, item) && knows(merged, item) &&
	    item->resets == resets_known(sync, ref.generation) &&
	    !atomic_load_relaxed(&segment->shards[shard].restore)) {
		if (!wants_refresh(collector, item, sync)) {
			dequeue(segment, index, state);
			return true;
		}
		if (atomic_load_relaxed(&sync->refresh_ns) > collector->now_ns)
			return true;
	} else {
		atomic_store_relaxed(&sync->backoff_ns, 0);
	}
	plan_refresh(collector, sync);
	sent.first = atomic_load_relaxed(&sync->sent.first);
	sent.second = atomic_load_relaxed(&sync->sent.second);
	sending.first = round_sent(item);
	sending.second = round->tag;
	if (!is_leader(collector) ||
	    !atomic_cas_pair_full(&sync->sent, sent, sending))                  /* E10 */
		return false;
	pack(collector, round, item);
	round->count++;
	round->send = true;
	return true;
}

void round_collect(const struct segment *segment, struct round rounds[SYNC_SHARDS],
		   uint64_t leader, uint64_t term, uint64_t now_ns)
{
	struct collector collector = { segment, rounds, leader, term, now_ns };

	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		rounds[i].count = 0;
		rounds[i].send = false;
		rounds[i].whole = true;
		rounds[i].taken_ns = now_ns;
	}
	queue_each(&segment->queue, collect_slot, &collector);
}

/* ---- After a fence ----------------------------------------------------- */

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
	uint64_t acked = atomic_load_relaxed(&sync->agreed.first);
	uint64_t asked = round_resets_asked(&segment->table.slots[index], generation), known;

	if ((acked & GENERATION_MASK) == generation)
		base_ns = atomic_load_relaxed(&sync->agreed.second) +
			  (uint64_t)round_charge_ns(limit, acked >> STATE_USED_SHIFT,
						    sent >> STATE_USED_SHIFT);
	/* The resets that were sent: the latest number asked for that ends so. */
	known = asked - ((asked - (sent & SENT_RESETS_MASK)) & SENT_RESETS_MASK);
	if (round_agree(segment, sync, sent, base_ns, term))
		atomic_store_relaxed(&sync->resets, (known & 0xffff0000u) | generation);
}

static void resolve_slot(const struct segment *segment, uint64_t index, uint64_t last_tag,
			 uint64_t term, uint64_t now_ns)
{
	struct slot *slot = &segment->table.slots[index];
	struct slot_sync *sync = &segment->slot_syncs[index];
	struct bucket_ref ref = { .slot = slot };
	struct word_pair state;
	uint64_t acked, sent;
	struct limit limit;
	bool applied, restore, unmerged;

	ref.generation = atomic_load_acquire(&slot->identity.second) & GENERATION_MASK; /* E1 */
	if (!bucket_read(&ref, &state)) {
		/* The last leader may have taken the mark that a claimer needs. */
		if (!is_dead(slot))
			queue_mark(&segment->queue, index);
		return;
	}
	/* The tokens before the tag: with a tag from before, the tokens of a later call
	 * would pass for applied.  Relaxed: leaders' own; the leader word ordered them. */
	sent = atomic_load_acquire(&sync->sent.first);                          /* E10 */
	acked = atomic_load_relaxed(&sync->agreed.first);
	applied = atomic_load_relaxed(&sync->sent.second) == last_tag &&
		  (sent & GENERATION_MASK) == ref.generation;
	if (applied && acked != sent && owner_limit(segment, slot, ref.generation, &limit))
		round_acknowledge(segment, index, &limit, sent, term);
	restore = atomic_load_relaxed(&segment->shards[slot_shard(slot->identity.first)].restore) &&
		  (atomic_load_relaxed(&sync->agreed.first) & GENERATION_MASK) == ref.generation &&
		  atomic_load_relaxed(&sync->agreed.second) > now_ns;
	unmerged = state_used(state) !=
		   tokens_of(atomic_load_relaxed(&slot->merged), ref.generation);
	/* Also what is queued, or marked, and clean: the last leader may have died, or
	 * be stopped, with its mark or the summary of it, and who charges next does not
	 * mark again. */
	if (restore || unmerged || (state.second & STATE_QUEUED) ||
	    queue_is_marked(&segment->queue, index))
		queue_mark(&segment->queue, index);
}

void round_resolve(const struct segment *segment, unsigned shards,
		   const uint64_t last_tags[SYNC_SHARDS], uint64_t term, uint64_t now_ns)
{
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		struct shard_record *shard = &segment->shards[i];

		/* Redis knows less than it once acknowledged: it has forgotten. */
		if ((shards >> i & 1) && last_tags[i] < atomic_load_relaxed(&shard->acked_tag))
			atomic_store_relaxed(&shard->restore, 1);
	}
	for (uint64_t index = 0; index < segment->slots; index++) {
		/* Relaxed: which shard a slot is of matters only if it is live. */
		uint64_t identity = atomic_load_relaxed(&segment->table.slots[index].identity.first);
		unsigned shard = slot_shard(identity);

		if (shards >> shard & 1)
			resolve_slot(segment, index, last_tags[shard], term, now_ns);
	}
}
