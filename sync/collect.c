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
#include "sync/collect.h"

#include "sync/lease.h"

#include "shm/bucket.h"
#include "shm/gcra.h"
#include "shm/policy_table.h"

#define POLICY_ATTEMPTS 16      /* policy changes that one reading follows */
#define REFRESH_INTERVALS 32    /* after these without a charge, a bucket is idle */
#define REFRESH_BUDGET 16       /* early ones, on average, in REFRESH_SPACING_NS */
#define DENIED_INTERVALS 8      /* twice these: until one that denied is asked for again */
#ifndef CLOSED_SLOTS            /* passed by in one go: some milliseconds */
#define CLOSED_SLOTS 16384u
#endif

int64_t round_charge_ns(const struct limit *limit, uint64_t from, uint64_t to)
{
	int64_t tokens = gcra_count(to - from);
	uint64_t phase = gcra_phase(limit, from), ns;

	if (tokens >= 0) {
		ns = gcra_charge_ns(limit, phase, (uint64_t)tokens);
		return ns > INT64_MAX ? INT64_MAX : (int64_t)ns;
	}
	ns = gcra_return_ns(limit, phase, (uint64_t)-tokens);
	return ns > INT64_MAX ? -INT64_MAX : -(int64_t)ns;
}

uint64_t collect_resets_known(const struct slot_sync *sync, uint64_t generation)
{
	uint64_t resets = atomic_load_relaxed(&sync->resets);   /* with its generation */

	return (resets & GENERATION_MASK) == generation ? resets & 0xffff0000u : 0;
}

bool round_owner_limit(const struct segment *segment, const struct slot *slot, uint64_t generation,
		       struct limit *limit, enum weir_consistency *consistency)
{
	/* Relaxed: complete in itself. */
	uint64_t owner = atomic_load_relaxed(&slot->owner);
	uint32_t index = owner >> 16 & 0xffff, i = owner >> 32 & OWNER_LIMIT_MASK;
	const struct shard_record *shard =
		&segment->shards[slot_shard(atomic_load_relaxed(&slot->identity.first))];
	int64_t offset = (int64_t)atomic_load_relaxed(&segment->header->wall.offset_ns);
	bool found = false;

	if ((owner & GENERATION_MASK) != generation || !(owner & OWNER_SYNCS) ||
	    index >= segment->policies)
		return false;
	for (int attempt = 0; attempt < POLICY_ATTEMPTS; attempt++) {
		uint64_t version = policy_version(segment), serial;
		struct weir_policy policy;

		found = policy_decode(segment, version, index, &policy, &serial) &&
			(serial & 0xffffff) == owner >> 40 && i < policy.limit_count &&
			policy.consistency != WEIR_LOCAL;
		if (found) {
			policy_limit(segment, version, index, i, limit);
			if (limit_is_window(limit))
				policy_align(segment, shard, offset, limit);
			*consistency = policy.consistency;
		}
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

void collect_dequeue(const struct segment *segment, uint64_t index, struct word_pair state)
{
	struct word_pair clean = state;

	queue_unmark(&segment->queue, index);
	clean.second = (state.second & ~(STATE_QUEUED | STATE_EPOCH_MASK)) |
		       ((state.second + STATE_EPOCH_UNIT) & STATE_EPOCH_MASK);
	if (!atomic_cas_pair_full(&segment->table.slots[index].state, state, clean))    /* E7 */
		queue_mark(&segment->queue, index);
}

bool round_slot_is_dead(const struct slot *slot)
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

	if (!round_slot_is_dead(slot))
		return;
	queue_unmark(&segment->queue, index);
	if (!round_slot_is_dead(slot))                                     /* E7 */
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

bool collect_leads(const struct collector *collector)
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

unsigned char *collect_put_name(unsigned char *at, const struct slot *slot,
				const struct slot_sync *sync)
{
	/* Relaxed: the claimer's words, complete each. */
	uint64_t low = atomic_load_relaxed(&slot->identity.first);
	uint64_t high = (atomic_load_relaxed(&slot->identity.second) & ~GENERATION_MASK) |
			(atomic_load_relaxed(&sync->name_rest) >> 16 & 0xffff);

	return wire_put64(wire_put64(at, low), high);
}

static void pack(const struct collector *collector, struct round *round,
		 const struct round_item *item)
{
	const struct segment *segment = collector->segment;
	const struct slot *slot = &segment->table.slots[item->slot];
	const struct slot_sync *sync = &segment->slot_syncs[item->slot];
	const struct shard_record *shard = &segment->shards[round->shard];
	bool has_base = (item->acked & GENERATION_MASK) == item->generation;
	int64_t charge = round_charge_ns(&item->limit, round_tokens(item->acked, item->generation),
					 item->used);
	bool stale = atomic_load_relaxed(&shard->fresh_until_ns) < collector->now_ns;
	unsigned char *at = round->blob + round->count * WIRE_ITEM;
	uint32_t flags = atomic_load_relaxed(&shard->restore) ? WIRE_RESTORE : 0;

	if (item->resets != collect_resets_known(sync, item->generation))
		flags |= WIRE_RESET;
	at = collect_put_name(at, slot, sync);
	at = wire_put_ns(at, charge);
	at = wire_put_ns(at, idle_ns(collector, item, has_base, flags & WIRE_RESET, charge));
	at = wire_put_ns(at, has_base ? (int64_t)(item->base_ns - collector->now_ns) : WIRE_NONE);
	at = wire_put_ns(at, stale ? stale_cap_ns(segment, shard, &item->limit) : 0);
	at = wire_put32(at, item->view);
	wire_put32(at, flags);
}

/* Nobody's bucket any more, or its host's own: its charges are nobody else's business,
 * those to come neither, and it is not pinned. */
static void forget(const struct segment *segment, uint64_t index, struct word_pair state)
{
	struct slot *slot = &segment->table.slots[index];
	/* Relaxed: the word is complete in itself. */
	uint64_t owner = atomic_load_relaxed(&slot->owner);

	if ((owner & GENERATION_MASK) == (state.second & GENERATION_MASK))
		atomic_cas_relaxed(&slot->owner, &owner, owner & ~(OWNER_SYNCS | OWNER_JOINED));
	atomic_store_release(&slot->merged, state_used(state) << STATE_USED_SHIFT |
						    (state.second & GENERATION_MASK));      /* E8 */
	collect_dequeue(segment, index, state);
}

/*
 * A bucket that was charged before its limit began to sync brings along what it still
 * owes, and not what was paid off long ago.  Its time tells all that the window has of
 * own debt: a base of 0 stands for that.  False: next time.
 */
static bool join(const struct collector *collector, struct round_item *item)
{
	const struct segment *segment = collector->segment;
	struct slot *slot = &segment->table.slots[item->slot];
	struct bucket_state state = { item->time_ns, item->used };
	/* Relaxed: the word is complete in itself. */
	uint64_t owner = atomic_load_relaxed(&slot->owner);
	uint64_t owed = gcra_tokens(&item->limit, gcra_debt_ns(&state, collector->now_ns));
	int64_t told = gcra_count(item->used - round_tokens(item->acked, item->generation));

	if (!(owner & OWNER_JOINED) || (owner & GENERATION_MASK) != item->generation)
		return true;
	if (told > 0 && (uint64_t)told > owed) {
		item->acked = item->generation |
			      ((item->used - owed) & WEIR_COUNT_MAX) << STATE_USED_SHIFT;
		item->base_ns = 0;
		if (!round_agree(segment, &segment->slot_syncs[item->slot], item->acked, 0,
				 collector->term))
			return false;
	}
	return atomic_cas_relaxed(&slot->owner, &owner, owner & ~OWNER_JOINED);
}

bool collect_wants_refresh(const struct collector *collector, uint64_t until_ns,
			   const struct slot_sync *sync)
{
	uint64_t interval = atomic_load_relaxed(&collector->segment->header->sync.interval_ns);

	return until_ns > collector->now_ns &&
	       atomic_load_relaxed(&sync->backoff_ns) < REFRESH_INTERVALS * interval;
}

void collect_plan_refresh(const struct collector *collector, struct slot_sync *sync,
			  uint64_t soonest_ns)
{
	/* Relaxed: the leader's own; the leader word hands them on. */
	uint64_t interval = atomic_load_relaxed(&collector->segment->header->sync.interval_ns);
	uint64_t backoff = 2 * atomic_load_relaxed(&sync->backoff_ns);

	soonest_ns = soonest_ns < interval ? soonest_ns : interval;
	backoff = backoff < soonest_ns ? soonest_ns : backoff;
	atomic_store_relaxed(&sync->backoff_ns, backoff);
	atomic_store_relaxed(&sync->refresh_ns, collector->now_ns + backoff);
}

static uint64_t burst_ns(const struct limit *limit)
{
	return limit->tolerance_ns + limit->token_ns;
}

/* Less than half of its burst is left: the others' charges soon decide about requests. */
static bool is_near_limit(const struct collector *collector, const struct round_item *item)
{
	return (int64_t)(item->time_ns - collector->now_ns) > (int64_t)(burst_ns(&item->limit) / 2);
}

/*
 * Hosts at a limit decide by what they know of each other, and each hears of the others
 * when it has a charge to tell of: the fewer of its requests are admitted, the older its
 * view.  So the first look after a charge comes early, when the limit has given out no
 * more than a 64th of a burst; with many such buckets later, so that their host looks at
 * REFRESH_BUDGET in REFRESH_SPACING_NS.
 */
static uint64_t early_refresh_ns(const struct collector *collector, const struct limit *limit)
{
	uint64_t soonest = REFRESH_SPACING_NS;
	uint64_t budget = collector->walk->near_before * (REFRESH_SPACING_NS / REFRESH_BUDGET);

	soonest = soonest < budget ? budget : soonest;
	return soonest < burst_ns(limit) / 64 ? burst_ns(limit) / 64 : soonest;
}

/* The leader is to look again by then, interval or not. */
static void expect_refresh(struct collector *collector, const struct slot_sync *sync)
{
	struct round_walk *walk = collector->walk;
	/* Relaxed: the leader's own. */
	uint64_t refresh = atomic_load_relaxed(&sync->refresh_ns);

	walk->near++;
	if (refresh < walk->refresh_ns)
		walk->refresh_ns = refresh;
}

/* A mark without a charge: the bucket was idle, and has denied.  What it goes by may be
 * old, if another host gave tokens back: its view is asked for now, and once again. */
static void ask_for_denied(const struct collector *collector, struct slot_sync *sync)
{
	/* Relaxed: the leader's own; the leader word hands them on. */
	uint64_t interval = atomic_load_relaxed(&collector->segment->header->sync.interval_ns);

	atomic_store_relaxed(&sync->backoff_ns, DENIED_INTERVALS * interval);
	atomic_store_relaxed(&sync->refresh_ns, 0);
}

/* Is WORD (acked or merged) of this owner, and up to date? */
static bool knows(uint64_t word, const struct round_item *item)
{
	return (word & GENERATION_MASK) == item->generation &&
	       word >> STATE_USED_SHIFT == item->used;
}

void collect_view(const struct slot *slot, struct round_item *item)
{
	/* Relaxed: complete in itself, with its generation. */
	uint64_t view = atomic_load_relaxed(&slot->view);

	if ((view & GENERATION_MASK) != item->generation)
		return;
	item->view = (uint32_t)(view >> VIEW_SHIFT);
	item->resets = view & 0xffff0000u;
}

bool collect_mark_sent(const struct collector *collector, struct slot_sync *sync, uint64_t word,
		       uint64_t tag)
{
	struct word_pair sent, sending = { word, tag };

	/* Relaxed: torn or old, the compare-and-swap tells. */
	sent.first = atomic_load_relaxed(&sync->sent.first);
	sent.second = atomic_load_relaxed(&sync->sent.second);
	return collect_leads(collector) &&
	       atomic_cas_pair_full(&sync->sent, sent, sending);                /* E10 */
}

bool collect_leave(struct collector *collector, uint64_t shard)
{
	collector->walk->left |= 1u << shard;
	return true;
}

/* What was sent of it is in doubt, and its mark of that must stay as it is.  There may be
 * many: a walk over them has more turns than one. */
static bool leave_closed(struct collector *collector, uint64_t shard)
{
	if (collector->passed == CLOSED_SLOTS)
		return false;
	collector->passed++;
	return collect_leave(collector, shard);
}

static bool collect_slot(uint64_t index, void *context)
{
	struct collector *collector = context;
	const struct segment *segment = collector->segment;
	struct slot *slot = &segment->table.slots[index];
	struct slot_sync *sync = &segment->slot_syncs[index];
	struct word_pair state;
	struct bucket_ref ref = { .slot = slot };
	struct round_item *item;
	struct word_pair agreed;
	enum weir_consistency consistency;
	struct round *round;
	uint64_t merged, shard;
	bool queued, syncs, near;

	if (index >= segment->slots)
		return true;            /* damage */
	ref.generation = atomic_load_acquire(&slot->identity.second) & GENERATION_MASK; /* E1 */
	shard = slot_shard(atomic_load_acquire(&slot->identity.first));                 /* E1 */
	round = &collector->rounds[shard];
	if (collector->leases && lease_ends_orphan(collector->leases, index, ref.generation,
						   collector->term, collector->now_ns))
		return true;
	/* Before the bucket: a leader that was stopped in between, and has lost the
	 * lead, then counts charges twice at worst.  The other way round it would take
	 * what the next leader agreed on for a refund, and a Redis that has forgotten
	 * the terms would believe it. */
	if (!round_read_agreed(sync, &agreed))
		return collect_leave(collector, shard);
	if (!bucket_read(&ref, &state)) {
		dequeue_dead(segment, index);
		return true;
	}
	/* The shards are even: the others are nearly full as well. */
	if (round->count == ROUND_ITEMS || round->window_count == ROUND_ITEMS ||
	    round->hold_count == ROUND_ITEMS)
		return false;
	queued = state.second & STATE_QUEUED;
	if (!enqueue(segment, index, &state))
		return collect_leave(collector, shard);
	if (!queued)
		ask_for_denied(collector, sync);

	item = &round->items[round->count];
	*item = (struct round_item){ .slot = index, .generation = ref.generation,
				     .used = state_used(state), .time_ns = state.first,
				     .acked = agreed.first, .base_ns = agreed.second };
	syncs = round_owner_limit(segment, slot, ref.generation, &item->limit, &consistency);
	/* Leases are never in doubt. */
	if (round->closed &&
	    (!syncs || consistency != WEIR_STRICT || limit_is_window(&item->limit)))
		return leave_closed(collector, shard);
	if (!syncs) {
		forget(segment, index, state);
		return true;
	}
	if (limit_is_window(&item->limit))
		return collect_window(collector, round, item, state);
	if (consistency == WEIR_STRICT) {
		/* The lead behind the bucket: who leads next moves its epoch first. */
		if (collector->leases &&
		    !lease_collect(collector->leases, index, &ref, &item->limit, collector->term,
				   collector->now_ns) &&
		    collect_leads(collector))
			collect_dequeue(segment, index, state);
		return true;
	}
	if (item->limit.algorithm == WEIR_CONCURRENCY)
		return collect_hold(collector, round, item, state);
	if (!join(collector, item))
		return collect_leave(collector, shard);
	collect_view(slot, item);
	near = is_near_limit(collector, item);
	/* Relaxed: complete in itself, with its generation. */
	merged = atomic_load_relaxed(&slot->merged);
	if (knows(item->acked, item) && knows(merged, item) &&
	    item->resets == collect_resets_known(sync, ref.generation) &&
	    !atomic_load_relaxed(&segment->shards[shard].restore)) {
		if (!collect_wants_refresh(collector, item->time_ns, sync)) {
			collect_dequeue(segment, index, state);
			return true;
		}
		if (atomic_load_relaxed(&sync->refresh_ns) > collector->now_ns) {
			if (near)
				expect_refresh(collector, sync);
			return true;
		}
	} else {
		atomic_store_relaxed(&sync->backoff_ns, 0);
	}
	collect_plan_refresh(collector, sync,
			     near ? early_refresh_ns(collector, &item->limit) : UINT64_MAX);
	if (near)
		expect_refresh(collector, sync);
	if (!collect_mark_sent(collector, sync, round_sent(item), round->tag))
		return false;
	pack(collector, round, item);
	round->count++;
	round->send = true;
	return true;
}

static void walk_begin(const struct segment *segment, struct round_walk *walk, uint64_t now_ns)
{
	*walk = (struct round_walk){ .begun_ns = now_ns, .refresh_ns = UINT64_MAX,
				     .near_before = walk->near };
	/* Relaxed: the leader's own. */
	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		walk->restore[i] = atomic_load_relaxed(&segment->shards[i].restore);
}

void round_collect(const struct segment *segment, struct round rounds[SYNC_SHARDS],
		   struct round_walk *walk, struct leases *leases, uint64_t leader, uint64_t term,
		   uint64_t now_ns, uint64_t (*clock_ns)(void))
{
	struct collector collector = { segment, rounds, walk,	leases, leader,
				       term,	now_ns, clock_ns, 0 };

	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		rounds[i].count = 0;
		rounds[i].window_count = 0;
		rounds[i].hold_count = 0;
		rounds[i].send = false;
		rounds[i].taken_ns = now_ns;
		rounds[i].term = term;
	}
	if (walk->next == 0)
		walk_begin(segment, walk, now_ns);
	queue_each(&segment->queue, &walk->next, collect_slot, &collector);
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		walk->closed |= (unsigned)rounds[i].closed << i;
		rounds[i].whole = walk->next == 0 && !((walk->left | walk->closed) >> i & 1);
		rounds[i].restore = walk->restore[i];
	}
}
