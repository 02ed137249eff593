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
 * Terms.  The leader word's says who may store in the segment; a shard's own is of its
 * calls.  A new leader takes new terms for all shards, a doubt only for those whose
 * call it was: the others' calls go on under the terms that they have.  All of them are
 * taken from the leader word, by moving it beyond them, so that the next leader's are
 * higher, and no two shards, nor one twice, have the same: a term and a sequence number
 * name a call.
 *
 * Invariant.  A charge is applied once: it is sent again only after a fence has
 * told that it was not.  Till then its shard is closed: what is marked as sent stays so.
 *
 * A leader that is killed and one that is stopped look the same: the heartbeat
 * grows old, and another process takes the word over.  One that wakes up finds
 * another id in the word, and whatever it still had in flight is refused by term.
 *
 * Ordering.  E10: the leader word, a full barrier -> the next leader's load of it:
 * it finds what the last one had stored.
 */
#include "sync/leader.h"

#include <stddef.h>
#include <string.h>

#include "shm/counter.h"
#include "shm/hold.h"
#include "shm/policy_table.h"

#define TAKEOVER_MIN_NS 500000000ull
#define HEARTBEAT_MAX_NS 1000000000ull
#define REAP_NS 1000000000ull

void leader_init(struct leader *leader, struct segment *segment)
{
	memset(leader, 0, offsetof(struct leader, rounds));
	leader->segment = segment;
	leader->id = segment->participant_id;
	/* Room for half a megabyte, of which most processes never use a page. */
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		memset(&leader->rounds[i], 0, offsetof(struct round, items));
		leader->rounds[i].shard = i;
	}
}

void leader_end(struct leader *leader)
{
	leases_destroy(leader->leases);
	leader->leases = NULL;
}

static bool is_open(const struct leader *leader, unsigned shard)
{
	return leader->open >> shard & 1;
}

unsigned leader_closed(const struct leader *leader)
{
	return ALL_SHARDS & ~leader->open;
}

/* When the first fence is due. */
static uint64_t fences_due_ns(const struct leader *leader)
{
	uint64_t due_ns = UINT64_MAX;

	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		if (!is_open(leader, i) && leader->retry_ns[i] < due_ns)
			due_ns = leader->retry_ns[i];
	}
	return leader->resolving ? 0 : due_ns;
}

/* When buckets near their limit are asked for again, those of some time in one round. */
static uint64_t looks_due_ns(const struct leader *leader)
{
	uint64_t first = leader->walk.begun_ns + REFRESH_SPACING_NS;

	if (leader->open == 0 || leader->walk.begun_ns == 0)
		return UINT64_MAX;
	return leader->walk.refresh_ns > first ? leader->walk.refresh_ns : first;
}

uint64_t leader_due_ns(const struct leader *leader)
{
	uint64_t leases = leases_due_ns(leader->leases), fences = fences_due_ns(leader);
	uint64_t due_ns = leases < fences ? leases : fences, looks = looks_due_ns(leader);

	return looks < due_ns ? looks : due_ns;
}

bool leader_waits(const struct leader *leader, uint64_t now_ns)
{
	return leader->open == 0 && leader_due_ns(leader) > now_ns;
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

/* New terms for SHARDS, a bit each, above TERM: nothing that was sent of them before will
 * be applied once Redis has heard. */
static bool new_terms(struct leader *leader, struct word_pair seen, unsigned shards, uint64_t term)
{
	struct word_pair next = { leader->id, term + (unsigned)__builtin_popcount(shards) };

	if (!atomic_cas_pair_full(&leader->segment->header->leader.word, seen, next))   /* E10 */
		return false;
	leader->term = (uint32_t)next.second;
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		if (shards >> i & 1)
			leader->terms[i] = (uint32_t)++term;
	}
	leader->open &= ~shards;
	leader->walk.left |= shards;
	return true;
}

/* Of what this process knew when it led last, nothing holds. */
static bool take_over(struct leader *leader, struct word_pair seen)
{
	if (!new_terms(leader, seen, ALL_SHARDS, (uint32_t)seen.second))
		return false;
	memset(leader->retry_ns, 0, sizeof(leader->retry_ns));
	leader->resolving = false;
	leader->walk.next = 0;
	leases_forget(leader->leases);
	return true;
}

uint64_t leader_patience_ns(const struct segment_header *header)
{
	/* Relaxed: a number. */
	uint64_t patience = 5 * atomic_load_relaxed(&header->sync.interval_ns);

	return patience < TAKEOVER_MIN_NS ? TAKEOVER_MIN_NS : patience;
}

bool leader_stand(struct leader *leader, uint64_t now_ns)
{
	struct segment_header *header = leader->segment->header;
	/* Relaxed: hints; the compare-and-swap decides. */
	uint64_t heartbeat = atomic_load_relaxed(&header->leader.heartbeat_ns);
	uint64_t patience = leader_patience_ns(header);
	struct word_pair seen = leader_word(leader);

	if (seen.first != leader->id || (uint32_t)seen.second != leader->term) {
		if (seen.first != 0 && seen.first != leader->id && heartbeat + patience > now_ns)
			return false;
		if (!take_over(leader, seen))
			return false;
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

/* What of some calls is in doubt. */
struct doubt {
	unsigned shards;        /* a bit each */
	uint32_t at_least;      /* a term that Redis has heard of */
};

static void add_doubt(struct doubt *doubt, const struct leader_call *call,
		      const struct round_reply *reply)
{
	uint32_t heard = (uint32_t)(reply->last_tag >> 32);

	doubt->shards |= 1u << call->shard;
	if (reply->code == ROUND_STALE_TERM && heard > doubt->at_least)
		doubt->at_least = heard;
}

/* Their shards are closed till a fence has told.  False if another process leads. */
static bool close_doubtful(struct leader *leader, const struct leader_transport *transport,
			   const struct doubt *doubt)
{
	struct word_pair seen = leader_word(leader);
	uint32_t term = leader->term > doubt->at_least ? leader->term : doubt->at_least;

	if (doubt->shards == 0)
		return true;
	counter_add_global(leader->segment, COUNTER_FENCES, 1);
	if (seen.first != leader->id || (uint32_t)seen.second != leader->term ||
	    !new_terms(leader, seen, doubt->shards, term))
		return false;
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		if (doubt->shards >> i & 1)
			leader->retry_ns[i] = transport->clock_ns() +
					      transport->pause_ns(transport->context, i,
								  leader->failures[i]++);
	}
	return true;
}

/* ---- Fence ------------------------------------------------------------- */

/* Go through the table by what Redis has told.  LEADER_MORE: it is not over. */
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
	leader->open |= leader->resolve.shards;
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		if (!(leader->resolve.shards >> i & 1))
			continue;
		leader->sequence[i] = 0;
		leader->asked_ns[i] = 0;
	}
	return LEADER_DONE;
}

static unsigned prepare_fences(const struct leader *leader, uint64_t now_ns,
			       struct leader_call calls[SYNC_SHARDS])
{
	unsigned count = 0;

	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		if (!is_open(leader, i) && leader->retry_ns[i] <= now_ns)
			calls[count++] = (struct leader_call){ .shard = i,
							       .term = leader->terms[i] };
	}
	return count;
}

/* LEADER_IDLE if there was nothing to fence. */
static enum leader_result fence(struct leader *leader, const struct leader_transport *transport,
				uint64_t now_ns)
{
	struct leader_call calls[SYNC_SHARDS];
	struct round_reply replies[SYNC_SHARDS];
	uint64_t last_tags[SYNC_SHARDS] = { 0 };
	unsigned count, shards = 0;
	struct doubt doubt = { 0, 0 };

	if (leader->resolving)
		return resolve(leader, now_ns);
	count = prepare_fences(leader, now_ns, calls);
	/* One that takes long to fail must not keep the other shards waiting. */
	leader->has_fenced = count > 0 && !(leader->has_fenced && leader->open);
	if (!leader->has_fenced)
		return LEADER_IDLE;
	transport->call(transport->context, calls, replies, count);
	for (unsigned k = 0; k < count; k++) {
		if (replies[k].code != ROUND_DONE) {
			add_doubt(&doubt, &calls[k], &replies[k]);
			continue;
		}
		last_tags[calls[k].shard] = replies[k].last_tag;
		shards |= 1u << calls[k].shard;
		/* What is sent from here on is of windows that the cluster has begun. */
		if (round_term_holds(leader->segment, leader->term))
			windows_keep_time(leader->segment, calls[k].shard, now_ns, &replies[k]);
	}
	if (!close_doubtful(leader, transport, &doubt))
		return LEADER_LOST;
	if (shards == 0)
		return LEADER_FENCED;
	round_resolve_begin(leader->segment, &leader->resolve, shards, last_tags, now_ns);
	leader->resolving = true;
	return resolve(leader, now_ns) == LEADER_LOST ? LEADER_LOST : LEADER_FENCED;
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

	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		leader->rounds[i].closed = !is_open(leader, i);
		leader->rounds[i].tag = (uint64_t)leader->terms[i] << 32 | (leader->sequence[i] + 1);
	}
	if (leader->leases)
		leases_begin(leader->leases);
	round_collect(leader->segment, leader->rounds, &leader->walk, leader->leases, leader->id,
		      leader->term, now_ns, transport->clock_ns);
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		if (!is_open(leader, i) ||
		    (!leader->rounds[i].send && !heartbeat_is_due(leader, i, now_ns)))
			continue;
		calls[count++] = (struct leader_call){
			.shard = i,
			.term = leader->terms[i],
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
	unsigned count, merged = 0;
	struct doubt doubt = { 0, 0 };

	if (leader->open == 0 && !leader->leases)
		return LEADER_IDLE;
	count = prepare(leader, transport, now_ns, calls);
	if (count == 0)
		return leader->walk.next ? LEADER_MORE : LEADER_IDLE;
	transport->call(transport->context, calls, replies, count);
	for (unsigned k = 0; k < count; k++) {
		unsigned shard = calls[k].shard;

		if (!round_merge(leader->segment, calls[k].round, &replies[k])) {
			add_doubt(&doubt, &calls[k], &replies[k]);
			continue;
		}
		leader->sequence[shard]++;
		leader->failures[shard] = 0;
		merged++;
	}
	/* At the end: what was merged was taken under the term that the word had. */
	if (!close_doubtful(leader, transport, &doubt))
		return LEADER_LOST;
	return leader->walk.next ? LEADER_MORE : merged ? LEADER_DONE : LEADER_FAILED;
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
	transport->lease(transport->context, calls, replies, count);
	for (unsigned k = 0; k < count; k++) {
		if (!leases_merge(leader->leases, &calls[k], &replies[k], now_ns))
			leases_failed(leader->leases, calls[k].shard, now_ns);
	}
}

enum leader_result leader_tick(struct leader *leader, const struct leader_transport *transport,
			       uint64_t now_ns)
{
	bool strict = set_caps(leader->segment);
	enum leader_result fenced, result;

	queue_listen(leader->segment->header);
	fenced = fence(leader, transport, now_ns);
	/* A fence takes time, and what is taken into a round must be of now. */
	if (fenced == LEADER_LOST || fenced == LEADER_FENCED)
		return fenced;
	if (strict && !leader->leases)
		leader->leases = leases_create(leader->segment);
	round_scrub(leader->segment, &leader->scrub, now_ns);
	reap(leader, now_ns);
	result = rounds(leader, transport, now_ns);
	if (strict && leader->leases && result != LEADER_LOST)
		leases(leader, transport, now_ns);
	return fenced == LEADER_MORE && result != LEADER_LOST ? LEADER_MORE : result;
}
