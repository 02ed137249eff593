/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease.c - credit from Redis, spent here without asking.
 *
 * What.  A bucket of mode strict spends only what Redis has granted to this host:
 * Redis keeps debt + all that is granted and unspent within the limit, so all hosts
 * together never admit more than one bucket would (weir_lease.lua has the rule, and
 * docs/sync.md the argument).  The leader tells what was spent, asks for about twice
 * what a bucket lately used in an interval, and gives back what is not used; but for a
 * reserve, which it keeps for a while: a bucket that is asked for more seldom than that
 * horizon would deny each request, and be given credit for none.
 *
 * Invariant.  A bucket's limit, in tokens, is worth no more than Redis has granted
 * and not got back.  All numbers of a session count up, so calls may be lost, late
 * or doubled: Redis and the leader take the larger.
 *
 * Sessions.  A lease lives in a session, whose number only grows.  A leader that
 * begins, and one whose lease lapsed, takes back all credit of the shard (a walk over
 * all slots), and begins new sessions; the first call of one tells what was left
 * unspent of the one before, and all else of that counts as spent.  So no leader has
 * to know what another one knew, and what a stopped one still sends is of an old
 * session.
 *
 * Tokens and time.  used tokens are F(used) nanoseconds (shm/gcra.h); a session's
 * sum is rounded up and the limit down, so that no host's rounding adds to another's.
 *
 * References: P. O'Neil, "The escrow transactional method", 1986; C. Gray,
 * D. Cheriton, "Leases", 1989.
 */
#include "sync/lease_state.h"

#include <string.h>

#include "shm/bucket.h"
#include "shm/gcra.h"

#define HORIZON_MAX_NS 1000000000ull
#define KEEP_NS 2000000000ull   /* how long a bucket that is not used keeps credit */
#define REFRESH_INTERVALS 32    /* after these without a charge, a bucket is idle */

/* ---- Tokens and time --------------------------------------------------- */

static uint64_t charge_ns(const struct limit *limit, uint64_t from, uint64_t tokens)
{
	uint64_t ns = gcra_charge_ns(limit, gcra_phase(limit, from), tokens);

	return ns > GCRA_DEBT_MAX_NS ? GCRA_DEBT_MAX_NS : ns;
}

/* A burst's time.  Sessions round up what they spend where tokens are not whole
 * nanoseconds, so that one nanosecond more is no token more. */
static uint64_t tau_ns(const struct limit *limit)
{
	return charge_ns(limit, 0, limit->burst) + (limit->token_part != 0);
}

static uint64_t horizon_ns(const struct leases *leases)
{
	uint64_t interval = leases_interval_ns(leases);
	uint64_t trips = 20 * leases->trip_ns;

	trips = trips < HORIZON_MAX_NS ? trips : HORIZON_MAX_NS;
	return trips > interval ? trips : interval;
}

/* Counts of tokens go round. */
static bool is_beyond(uint64_t used, uint64_t other)
{
	return ((used - other) & WEIR_COUNT_MAX) - 1 < WEIR_COUNT_MAX / 2;
}

/* ---- Sessions ---------------------------------------------------------- */

/* The resets of this owner that Redis has. */
static uint64_t resets_known(const struct segment *segment, uint64_t index, uint64_t generation)
{
	/* Relaxed: the leader's own; the leader word hands it on. */
	uint64_t resets = atomic_load_relaxed(&segment->slot_syncs[index].resets);

	return (resets & GENERATION_MASK) == generation ? resets & 0xffff0000u : 0;
}

static void name_slot(const struct segment *segment, uint64_t index, struct lease *lease)
{
	const struct slot *slot = &segment->table.slots[index];
	/* Relaxed: the claimer's words, complete each. */
	uint64_t low = atomic_load_relaxed(&slot->identity.first);
	uint64_t high = (atomic_load_relaxed(&slot->identity.second) & ~GENERATION_MASK) |
			(atomic_load_relaxed(&segment->slot_syncs[index].name_rest) >> 16 & 0xffff);
	unsigned char *at = lease->name;

	at = wire_put32(at, (uint32_t)low);
	at = wire_put32(at, (uint32_t)(low >> 32));
	at = wire_put32(at, (uint32_t)high);
	wire_put32(at, (uint32_t)(high >> 32));
}

bool lease_begin_session(struct leases *leases, uint64_t index,
			 const struct bucket_ref *ref, const struct limit *limit, uint64_t term)
{
	struct lease *lease = &leases->of_slot[index];
	uint64_t known = lease->generation == ref->generation ? lease->known_used : 0;
	uint64_t backoff_ns = lease->backoff_ns;
	struct credit credit;

	if (!credit_lower(leases->segment, ref, 0, term, &credit))
		return false;
	memset(lease, 0, sizeof(*lease));
	lease->session = term << 32 | (uint32_t)++leases->sessions;
	lease->generation = ref->generation;
	lease->first = true;
	lease->backoff_ns = backoff_ns;
	/* What is beyond the credit, and was not acknowledged, is yet to be told. */
	lease->used = is_beyond(credit.used, credit.before) ? credit.before : credit.used;
	if (is_beyond(known, lease->used) && !is_beyond(known, credit.used))
		lease->used = known;
	lease->known_used = lease->used;
	lease->spent_ns = limit->token_part != 0;
	if (is_beyond(credit.before, credit.used))
		lease->unspent_ns = charge_ns(limit, credit.used,
					      (credit.before - credit.used) & WEIR_COUNT_MAX);
	lease->resets = resets_known(leases->segment, index, ref->generation);
	name_slot(leases->segment, index, lease);
	return true;
}

/* ---- Collecting -------------------------------------------------------- */

/* What a bucket's owner has to do with a lease, as of now. */
struct demand {
	uint64_t used;
	uint64_t left;          /* tokens of credit */
	uint64_t lacking;       /* that a request was denied for want of; 0: none was */
	uint64_t target;        /* tokens that it may want to hold */
	bool news;              /* is there something that Redis does not know? */
};

static uint64_t lacking_of(const struct segment *segment, uint64_t index, uint64_t generation)
{
	/* Relaxed: complete in itself. */
	uint64_t word = atomic_load_relaxed(&segment->slot_syncs[index].backoff_ns);

	return (word & GENERATION_MASK) == generation ? word >> STATE_USED_SHIFT : 0;
}

void lease_clear_lacking(const struct segment *segment, uint64_t index, uint64_t generation,
			 uint64_t lacking)
{
	uint64_t word = lacking << STATE_USED_SHIFT | generation;

	/* Relaxed: complete in itself; fails if a request has asked for more since. */
	atomic_cas_relaxed(&segment->slot_syncs[index].backoff_ns, &word, 0);
}

/* What a request lacks, which counts as used: it comes again.  One that has not got it
 * for long is taken back: who still wants it asks again. */
static uint64_t follow_lacking(const struct leases *leases, struct lease *lease, uint64_t index,
			       const struct limit *limit, uint64_t now_ns)
{
	uint64_t lacking = lacking_of(leases->segment, index, lease->generation);

	if (lacking == 0) {
		lease->lacking_ns = 0;
		return 0;
	}
	if (lease->lacking_ns == 0) {
		lease->lacking_ns = lease->last_ns = now_ns;
		lease->last = lacking > lease->last ? lacking : lease->last;
	} else if (lease->lacking_ns + KEEP_NS <= now_ns) {
		lease_clear_lacking(leases->segment, index, lease->generation, lacking);
		lease->lacking_ns = 0;
		return 0;
	}
	return lacking < limit->burst ? lacking : limit->burst;
}

/* Count what was used since the last look; what was used long ago counts less. */
static void follow_use(struct leases *leases, struct lease *lease, const struct limit *limit,
		       uint64_t used, uint64_t now_ns)
{
	uint64_t horizon = horizon_ns(leases), passed = now_ns - lease->recent_at_ns;
	uint64_t tokens = (used - lease->used) & WEIR_COUNT_MAX;
	uint64_t old = passed < horizon ? (uint64_t)((gcra_wide)lease->recent * passed / horizon) :
					  lease->recent;

	if (tokens > 0 || old > 0)
		lease->recent_at_ns = now_ns;
	lease->recent += tokens - old;
	if (tokens > 0) {
		lease->backoff_ns = 0;
		lease->last = tokens;
		lease->last_ns = now_ns;
	}
	lease->spent_ns += charge_ns(limit, lease->used, tokens);
	lease->used = used;
}

/* What a bucket is given beyond what it needs now, so that the next request after a
 * pause finds credit: a 16th of this host's part of the burst, or what was used last if
 * that is more, but no more than half of that part.  All hosts together tie up half a
 * burst, for KEEP_NS. */
static uint64_t reserve(const struct leases *leases, const struct lease *lease,
			const struct bucket_ref *ref, const struct limit *limit)
{
	/* Relaxed: complete in itself. */
	unsigned shard = slot_shard(atomic_load_relaxed(&ref->slot->identity.first));
	uint64_t part = limit->burst /
			segment_hosts(leases->segment, &leases->segment->shards[shard]);
	uint64_t tokens = part / 16 > lease->last ? part / 16 : lease->last;

	return tokens < part / 2 ? tokens : part / 2;
}

static struct demand demand_of(struct leases *leases, uint64_t index, const struct bucket_ref *ref,
			       const struct limit *limit, uint64_t used, uint64_t now_ns)
{
	struct lease *lease = &leases->of_slot[index];
	struct demand demand = { .used = used };
	uint64_t spare;

	follow_use(leases, lease, limit, used, now_ns);
	demand.left = bucket_credit(ref->generation, used, credit_word(ref));
	demand.lacking = follow_lacking(leases, lease, index, limit, now_ns);
	spare = demand.lacking > 0 || lease->last_ns + KEEP_NS > now_ns ?
			reserve(leases, lease, ref, limit) : 0;
	demand.target = 2 * lease->recent;
	if (demand.target < demand.lacking + spare)
		demand.target = demand.lacking + spare;
	if (demand.target > limit->burst)
		demand.target = limit->burst;
	demand.news = lease->spent_ns != lease->known_ns ||
		      round_resets_asked(ref->slot, ref->generation) !=
			      resets_known(leases->segment, index, ref->generation);
	return demand;
}

static void pack(struct lease_shard *shard, const struct lease_item *item,
		 const struct lease *lease, const struct demand *demand)
{
	const struct limit *limit = &item->bucket.limit;
	unsigned char *at = shard->blob + shard->count * LEASE_ITEM;
	uint64_t need = demand->left + 1, more, room = lease_left_ns(lease), target = 0, least = 0;
	uint32_t resets = (uint32_t)((item->bucket.resets - lease->resets) >> VIEW_RESETS_SHIFT) &
			  0xffff;

	if (demand->target > 0) {
		need = demand->lacking > need ? demand->lacking : need;
		more = charge_ns(limit, demand->used, need);
		least = more > room ? more - room : 1;
		target = charge_ns(limit, demand->used, demand->target);
	}
	shard->items[shard->count] = *item;
	shard->items[shard->count++].surplus_ns = (int64_t)least - (int64_t)tau_ns(limit);
	memcpy(at, lease->name, LEASE_NAME);
	at = wire_put32(at + LEASE_NAME, (uint32_t)(lease->session >> 32));
	at = wire_put32(at, (uint32_t)lease->session);
	at = wire_put_ns(at, (int64_t)lease->spent_ns);
	at = wire_put_ns(at, (int64_t)lease->known_ns);
	at = wire_put_ns(at, (int64_t)(lease->first ? lease->unspent_ns : lease->returned_ns));
	at = wire_put_ns(at, (int64_t)target);
	at = wire_put_ns(at, (int64_t)least);
	at = wire_put_ns(at, (int64_t)tau_ns(limit));
	wire_put32(at, resets | (lease->first ? LEASE_FIRST : 0));
}

/* Leave KEEP tokens, and count the rest as given back. */
static bool give_back(struct leases *leases, struct lease *lease, const struct bucket_ref *ref,
		      const struct limit *limit, uint64_t keep, uint64_t term, uint64_t now_ns)
{
	struct credit credit;
	uint64_t kept = 0;

	if (!credit_lower(leases->segment, ref, keep, term, &credit) ||
	    is_beyond(lease->used, credit.used))
		return false;
	follow_use(leases, lease, limit, credit.used, now_ns);
	if (is_beyond(credit.after, credit.used))
		kept = charge_ns(limit, credit.used, (credit.after - credit.used) & WEIR_COUNT_MAX);
	if (lease_left_ns(lease) > kept)
		lease->returned_ns += lease_left_ns(lease) - kept;
	return true;
}

static bool wants_call(const struct leases *leases, const struct lease *lease,
		       const struct demand *demand, uint64_t now_ns, uint64_t *due_ns)
{
	bool short_of = demand->lacking > demand->left ||
			(demand->target > 0 && 2 * demand->left < demand->target);
	uint64_t regular = lease->asked_ns + leases_interval_ns(leases);

	*due_ns = UINT64_MAX;
	if (short_of && !lease->ending) {
		*due_ns = lease->not_before_ns;
		return lease->not_before_ns <= now_ns;
	}
	/* All else is regular: news, what is not needed any more, and an end that was not
	 * acknowledged yet. */
	if (!lease->ending && !demand->news && demand->target > 0 &&
	    demand->left <= 2 * demand->target)
		return false;
	*due_ns = regular;
	return regular <= now_ns;
}

/* A bucket without a session is asked for a few times more, ever later, while it is in
 * debt: other hosts may go on, and who looks at it here should see that.  *KEEP: it
 * stays in the queue till then. */
static bool wants_refresh(struct leases *leases, struct lease *lease, uint64_t time_ns,
			  uint64_t now_ns, bool *keep)
{
	uint64_t interval = leases_interval_ns(leases);

	*keep = time_ns > now_ns && lease->backoff_ns < REFRESH_INTERVALS * interval;
	if (!*keep || lease->refresh_ns > now_ns)
		return false;
	lease->backoff_ns = lease->backoff_ns < interval ? interval : 2 * lease->backoff_ns;
	lease->refresh_ns = now_ns + lease->backoff_ns;
	return true;
}

bool lease_collect(struct leases *leases, uint64_t index, const struct bucket_ref *ref,
		   const struct limit *limit, uint64_t term, uint64_t now_ns)
{
	struct slot *slot = ref->slot;
	struct lease_shard *shard =
		&leases->shards[slot_shard(atomic_load_relaxed(&slot->identity.first))];
	struct lease *lease = &leases->of_slot[index];
	struct word_pair state;
	struct lease_item item = { .bucket = { .slot = index, .generation = ref->generation,
					       .limit = *limit } };
	struct demand demand;
	uint64_t view, due_ns;
	bool keep;

	if (!shard->has_tenure || shard->count == LEASE_ITEMS || !bucket_read(ref, &state))
		return true;
	if (lease->session != 0 && is_beyond(lease->used, state_used(state)))
		lease_break(lease);     /* refunds, while the policy was of another mode */
	if (lease->session == 0 && !lease->again) {
		uint64_t word = credit_word(ref);

		if (lacking_of(leases->segment, index, ref->generation) == 0 &&
		    round_resets_asked(slot, ref->generation) ==
			    resets_known(leases->segment, index, ref->generation) &&
		    (word & GENERATION_MASK) == ref->generation &&
		    word >> STATE_USED_SHIFT == state_used(state) &&
		    !wants_refresh(leases, lease, state.first, now_ns, &keep))
			return keep;
	}
	if (lease->session == 0 &&
	    (!lease_begin_session(leases, index, ref, limit, term) || !bucket_read(ref, &state)))
		return true;
	demand = demand_of(leases, index, ref, limit, state_used(state), now_ns);
	if (!wants_call(leases, lease, &demand, now_ns, &due_ns)) {
		leases_are_due(leases, due_ns);
		return true;
	}
	if (demand.left > 2 * demand.target || (demand.target == 0 && !lease->ending)) {
		if (!give_back(leases, lease, ref, limit, demand.target, term, now_ns))
			return true;
		lease->ending = demand.target == 0;
		demand.used = lease->used;
	}
	if (lease->ending)
		demand.target = 0;
	/* Relaxed: complete in itself, with its generation. */
	view = atomic_load_relaxed(&slot->view);
	if ((view & GENERATION_MASK) == ref->generation) {
		item.bucket.view = (uint32_t)(view >> VIEW_SHIFT);
		item.bucket.resets = view & 0xffff0000u;
	}
	item.bucket.time_ns = state.first;
	item.bucket.used = lease->used;
	item.credit = credit_word(ref);
	item.spent_ns = lease->spent_ns;
	item.target = demand.target;
	item.lacking = demand.target > 0 ? demand.lacking : 0;
	lease->asked_ns = now_ns;
	pack(shard, &item, lease, &demand);
	return true;
}

bool lease_ends_orphan(struct leases *leases, uint64_t index, uint64_t generation,
		       uint64_t term, uint64_t now_ns)
{
	struct lease *lease = &leases->of_slot[index];
	struct lease_shard *shard = &leases->shards[wire_get32(lease->name + 4) >> 29];
	struct lease_item item = { .bucket = { .slot = index }, .orphan = true };
	struct demand nothing = { 0 };

	/* A generation beyond any: that is being done. */
	if (lease->session == 0 || lease->generation == generation)
		return false;
	if (!shard->has_tenure) {
		lease->session = 0;     /* and at Redis it lapses */
		return false;
	}
	if (!lease->ending) {
		unsigned char name[LEASE_NAME];

		/* What is left of it counts as spent. */
		memcpy(name, lease->name, sizeof(name));
		memset(lease, 0, sizeof(*lease));
		memcpy(lease->name, name, sizeof(name));
		lease->session = term << 32 | (uint32_t)++leases->sessions;
		lease->generation = UINT64_MAX;
		lease->first = lease->ending = true;
	}
	if (shard->count < LEASE_ITEMS && lease->asked_ns + leases_interval_ns(leases) <= now_ns) {
		item.bucket.limit.parts = 1;
		lease->asked_ns = now_ns;
		pack(shard, &item, lease, &nothing);
	}
	return true;
}

void leases_begin(struct leases *leases)
{
	leases->due_ns = UINT64_MAX;
	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		leases->shards[i].count = 0;
}
