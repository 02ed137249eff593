/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leader.c - terms, fences and rounds.
 *
 * What.  One process of a host talks to Redis: the one whose participant id is in
 * the segment's leader word.  The word also has a term, which grows with every new
 * leader and with every call whose outcome is in doubt.  Redis knows the term and
 * the sequence number of this host's last call, for each shard; a fence, a call
 * with a higher term, makes it refuse all earlier ones from then on, also those
 * still under way, and says which of them it has applied.
 *
 * Invariant.  A charge is applied once: it is sent again only after a fence has
 * told that it was not.
 *
 * A leader that is killed and one that is stopped look the same: the heartbeat
 * grows old, and another process takes the word over.  One that wakes up finds
 * another id in the word, and whatever it still had in flight is refused by term.
 *
 * Ordering.  E10: the leader word, a full barrier -> the next leader's load of it:
 * it finds what the last one had stored.
 */
#include "sync/leader.h"

#include <string.h>

#include "shm/counter.h"
#include "shm/hold.h"
#include "shm/policy_table.h"

#define TAKEOVER_MIN_NS 500000000ull
#define HEARTBEAT_MAX_NS 1000000000ull
#define REAP_NS 1000000000ull

void leader_init(struct leader *leader, struct segment *segment)
{
	memset(leader, 0, sizeof(*leader));
	leader->segment = segment;
	leader->id = segment->participant_id;
	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		leader->rounds[i].shard = i;
}

void leader_end(struct leader *leader)
{
	leases_destroy(leader->leases);
	leader->leases = NULL;
}

uint64_t leader_due_ns(const struct leader *leader)
{
	return leases_due_ns(leader->leases);
}

/* ---- The leader word --------------------------------------------------- */

static struct word_pair leader_word(const struct leader *leader)
{
	struct word_pair *word = &leader->segment->header->leader.word;
	struct word_pair seen;

	seen.first = atomic_load_acquire(&word->first);         /* E10 */
	seen.second = atomic_load_acquire(&word->second);       /* E10 */
	return seen;
}

/* A new term: nothing that was sent before will be applied once Redis has heard. */
static bool new_term(struct leader *leader, struct word_pair seen, uint64_t term)
{
	struct word_pair next = { leader->id, term };

	if (!atomic_cas_pair_full(&leader->segment->header->leader.word, seen, next))   /* E10 */
		return false;
	leader->term = (uint32_t)term;
	memset(leader->fenced, 0, sizeof(leader->fenced));
	leader->resolving = false;
	leader->walk.next = 0;
	return true;
}

bool leader_stand(struct leader *leader, uint64_t now_ns)
{
	struct segment_header *header = leader->segment->header;
	/* Relaxed: hints; the compare-and-swap decides. */
	uint64_t heartbeat = atomic_load_relaxed(&header->leader.heartbeat_ns);
	uint64_t patience = 5 * atomic_load_relaxed(&header->sync.interval_ns);
	struct word_pair seen = leader_word(leader);

	if (patience < TAKEOVER_MIN_NS)
		patience = TAKEOVER_MIN_NS;
	if (seen.first != leader->id || (uint32_t)seen.second != leader->term) {
		if (seen.first != 0 && seen.first != leader->id && heartbeat + patience > now_ns)
			return false;
		if (!new_term(leader, seen, (uint32_t)seen.second + 1))
			return false;
		leases_forget(leader->leases);
	}
	atomic_store_relaxed(&header->leader.heartbeat_ns, now_ns);
	return true;
}

void leader_resign(struct leader *leader)
{
	struct word_pair seen = leader_word(leader);
	struct word_pair none = { 0, seen.second };

	if (seen.first == leader->id)
		atomic_cas_pair_full(&leader->segment->header->leader.word, seen, none); /* E10 */
}

/* An outcome is in doubt, or Redis asks for it: fence everything, beyond AT_LEAST. */
static enum leader_result doubt(struct leader *leader, uint32_t at_least)
{
	struct word_pair seen = leader_word(leader);
	uint32_t term = leader->term > at_least ? leader->term : at_least;

	counter_add_global(leader->segment, COUNTER_FENCES, 1);
	if (seen.first != leader->id || (uint32_t)seen.second != leader->term ||
	    !new_term(leader, seen, (uint64_t)term + 1))
		return LEADER_LOST;
	return LEADER_FAILED;
}

/* ---- Fence ------------------------------------------------------------- */

/* Go through the table by what Redis has told. */
static enum leader_result resolve(struct leader *leader, uint64_t now_ns)
{
	bool over = round_resolve(leader->segment, &leader->resolve, leader->term, now_ns);

	/* Once the term has passed, nothing more was resolved; and a call now, which
	 * Redis may still take, would be all that it tells the next leader of. */
	if (!round_term_holds(leader->segment, leader->term))
		return LEADER_LOST;
	if (!over)
		return LEADER_MORE;
	leader->resolving = false;
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		if (!(leader->resolve.shards >> i & 1))
			continue;
		leader->fenced[i] = true;
		leader->sequence[i] = 0;
		leader->asked_ns[i] = 0;
	}
	return LEADER_DONE;
}

static enum leader_result fence(struct leader *leader, const struct leader_transport *transport,
				uint64_t now_ns)
{
	struct leader_call calls[SYNC_SHARDS];
	struct round_reply replies[SYNC_SHARDS];
	uint64_t last_tags[SYNC_SHARDS] = { 0 };
	unsigned count = 0, shards = 0;

	if (leader->resolving)
		return resolve(leader, now_ns);
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		if (!leader->fenced[i])
			calls[count++] = (struct leader_call){ .shard = i, .term = leader->term };
	}
	if (count == 0)
		return leader->walk.next ? LEADER_MORE : LEADER_IDLE;
	if (!transport->call(transport->context, calls, replies, count))
		return doubt(leader, 0);
	for (unsigned k = 0; k < count; k++) {
		/* Redis has heard of a later term: go beyond it. */
		if (replies[k].code != ROUND_DONE)
			return doubt(leader, (uint32_t)(replies[k].last_tag >> 32));
		last_tags[calls[k].shard] = replies[k].last_tag;
		shards |= 1u << calls[k].shard;
		/* What is sent from here on is of windows that the cluster has begun. */
		if (round_term_holds(leader->segment, leader->term))
			windows_keep_time(leader->segment, calls[k].shard, now_ns, &replies[k]);
	}
	round_resolve_begin(leader->segment, &leader->resolve, shards, last_tags, now_ns);
	leader->resolving = true;
	return resolve(leader, now_ns);
}

/* ---- Rounds ------------------------------------------------------------ */

/* Without charges, too, Redis is asked now and then: the views stay fresh, this
 * host counts as alive, and a Redis that has forgotten is found out. */
static bool heartbeat_is_due(const struct leader *leader, unsigned shard, uint64_t now_ns)
{
	uint64_t period = atomic_load_relaxed(&leader->segment->header->sync.staleness_ns) / 4;

	if (period > HEARTBEAT_MAX_NS)
		period = HEARTBEAT_MAX_NS;
	return leader->asked_ns[shard] + period <= now_ns;
}

static unsigned prepare(struct leader *leader, const struct leader_transport *transport,
			uint64_t now_ns, struct leader_call calls[SYNC_SHARDS])
{
	unsigned count = 0;

	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		leader->rounds[i].tag = (uint64_t)leader->term << 32 | (leader->sequence[i] + 1);
	if (leader->leases)
		leases_begin(leader->leases);
	round_collect(leader->segment, leader->rounds, &leader->walk, leader->leases, leader->id,
		      leader->term, now_ns, transport->clock_ns);
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		if (!leader->rounds[i].send && !heartbeat_is_due(leader, i, now_ns))
			continue;
		calls[count++] = (struct leader_call){
			.shard = i,
			.term = leader->term,
			.sequence = leader->sequence[i] + 1,
			.round = &leader->rounds[i],
		};
		leader->asked_ns[i] = now_ns;
	}
	return count;
}

/* The overshoot, dealt out among the other hosts, and at least one token. */
static uint64_t cap_of(const struct segment *segment, uint64_t burst, uint64_t hosts)
{
	/* Relaxed: a number that is good by itself. */
	uint64_t overshoot = atomic_load_relaxed(&segment->header->sync.overshoot);
	unsigned __int128 share = (unsigned __int128)burst * overshoot / 1000;

	if (hosts <= 1)
		return UINT64_MAX;
	share /= hosts - 1;
	return share < 1 ? 1 : (uint64_t)share;
}

static uint64_t count_hosts(const struct segment *segment)
{
	/* Relaxed: numbers that are good by themselves. */
	uint64_t hosts = atomic_load_relaxed(&segment->header->sync.expected_hosts);

	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		uint64_t seen = atomic_load_relaxed(&segment->shards[i].hosts);

		hosts = seen > hosts ? seen : hosts;
	}
	return hosts;
}

uint64_t leader_cap(const struct segment *segment, uint64_t burst)
{
	return cap_of(segment, burst, count_hosts(segment));
}

/* Also tells whether any policy is strict. */
static bool set_caps(const struct segment *segment)
{
	uint64_t hosts = count_hosts(segment), version = policy_version(segment);
	bool strict = false;

	for (uint32_t index = 0; index < segment->policies; index++) {
		const struct policy_record *record = policy_record_at(segment, version, index);

		if (policy_word(&record->serial) == 0)
			continue;
		strict |= (policy_word(&record->flags) >> 16 & 0xff) == WEIR_STRICT;
		for (unsigned i = 0; i < WEIR_LIMITS_MAX; i++) {
			uint64_t cap = cap_of(segment, policy_word(&record->limits[i].burst), hosts);

			/* Relaxed: as above. */
			atomic_store_relaxed(&segment->switches[index].cap[i], cap);
		}
	}
	return strict;
}

/* ---- Ticks ------------------------------------------------------------- */

/* What dead processes hold is given back when somebody of their host is denied; but
 * those who wait for it may be on other hosts. */
static void reap(struct leader *leader, uint64_t now_ns)
{
	const struct segment *segment = leader->segment;

	/* Relaxed: a hint, and 0 only if nothing was ever held. */
	if (atomic_load_relaxed(&segment->header->hold.next) == 0 ||
	    leader->reaped_ns + REAP_NS > now_ns)
		return;
	leader->reaped_ns = now_ns;
	holds_reap(segment, NULL);
}

static enum leader_result rounds(struct leader *leader, const struct leader_transport *transport,
				 uint64_t now_ns)
{
	struct leader_call calls[SYNC_SHARDS];
	struct round_reply replies[SYNC_SHARDS];
	unsigned count = prepare(leader, transport, now_ns, calls);

	if (count == 0)
		return leader->walk.next ? LEADER_MORE : LEADER_IDLE;
	if (!transport->call(transport->context, calls, replies, count))
		return doubt(leader, 0);
	for (unsigned k = 0; k < count; k++) {
		if (!round_merge(leader->segment, calls[k].round, &replies[k]))
			return doubt(leader, replies[k].code == ROUND_STALE_TERM ?
						     (uint32_t)(replies[k].last_tag >> 32) : 0);
		leader->sequence[calls[k].shard]++;
	}
	return leader->walk.next ? LEADER_MORE : LEADER_DONE;
}

/* What fails here is asked again: nothing of it can be counted twice. */
static void leases(struct leader *leader, const struct leader_transport *transport,
		   uint64_t now_ns)
{
	struct lease_call calls[SYNC_SHARDS];
	struct lease_reply replies[SYNC_SHARDS];
	unsigned count = leases_calls(leader->leases, calls, leader->term, now_ns);

	if (count == 0)
		return;
	if (!transport->lease(transport->context, calls, replies, count)) {
		leases_failed(leader->leases, now_ns);
		return;
	}
	for (unsigned k = 0; k < count; k++) {
		if (!leases_merge(leader->leases, &calls[k], &replies[k], now_ns))
			leases_failed(leader->leases, now_ns);
	}
}

enum leader_result leader_tick(struct leader *leader, const struct leader_transport *transport,
			       uint64_t now_ns)
{
	bool strict = set_caps(leader->segment);
	enum leader_result result;

	queue_listen(leader->segment->header);
	result = fence(leader, transport, now_ns);
	if (result != LEADER_DONE && result != LEADER_IDLE)
		return result;
	if (strict && !leader->leases)
		leader->leases = leases_create(leader->segment);
	round_scrub(leader->segment, &leader->scrub, now_ns);
	reap(leader, now_ns);
	result = rounds(leader, transport, now_ns);
	if (strict && leader->leases && result != LEADER_LOST && result != LEADER_FAILED)
		leases(leader, transport, now_ns);
	return result;
}
