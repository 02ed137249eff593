/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.c - what must hold at every step, and at the end; of the queue, see check_queue.c.
 *
 *  applied    a charge reaches Redis once: what a call adds is what the host has
 *             consumed less what Redis has of it, in nanoseconds, exactly
 *  credit     what counts as merged, so that as much may be admitted again, is in a view
 *             that an answer brought
 *  own        a bucket is never below the debt of its own host's requests
 *  lemma      Redis' time is at or above the ideal one of all that it applied, and
 *             by no more than a window's charges of each host
 *  bound      what all hosts admit exceeds the limit by no more than promised
 *  restored   what Redis forgot it knows again after two rounds, or a heartbeat
 *  agree      without faults, all hosts that are asked agree with Redis, and all that was
 *             taken, less what was given back, is merged
 *  escrow     in mode strict, debt and credit together are within the limit; credit that
 *             nobody uses comes back; and nothing is admitted beyond the limit at all
 */
#include <stdlib.h>
#include <string.h>

#include "shm/gcra.h"
#include "sync/round.h"
#include "tests/sim/sim.h"

#define ROUNDED_NS 1000         /* up, by sessions that begin */
#define CLOCK_STEP_NS 2000      /* Redis' clock counts microseconds */
#define FAULTS_OF_HOSTS \
	(1u << FAULT_REQUEST_LOST | 1u << FAULT_REPLY_LOST | 1u << FAULT_LATE | 1u << FAULT_CUT | \
	 1u << FAULT_KILL | 1u << FAULT_STOP | 1u << FAULT_CRASH | 1u << FAULT_PARTITION | \
	 1u << FAULT_HOLD | 1u << FAULT_NODE | 1u << FAULT_REFUSED)

/* ---- Numbers ----------------------------------------------------------- */

static int64_t total_ns(uint64_t used)
{
	return round_charge_ns(&world.limit, 0, used);
}

int64_t charge_between(uint64_t from, uint64_t to)
{
	return total_ns(to) - total_ns(from);
}

bool bucket_of(const struct host *host, unsigned key, struct bucket_ref *ref,
	       struct word_pair *state)
{
	return table_find(&host->segment->table, host->fingerprints[key], ref) &&
	       bucket_read(ref, state);
}

static struct truth *truth_of(const struct host *host, unsigned key)
{
	return &world.life[host->life].keys[key];
}

static uint64_t merged_of(const struct bucket_ref *ref)
{
	return (ref->slot->merged & GENERATION_MASK) == ref->generation ?
		       ref->slot->merged >> STATE_USED_SHIFT : 0;
}

/* What clocks that drift may be off by since the beginning. */
static int64_t drift_ns(void)
{
	return world.scenario.faults >> FAULT_DRIFT & 1 ? world.now_ns / 500 + 1 : 0;
}

static bool gives_back(void)
{
	return world.scenario.faults >> FAULT_GIVE_BACK & 1;
}

/* ---- Admitted ---------------------------------------------------------- */

static void remember_charge(unsigned key, int64_t charge_ns, uint64_t used, unsigned life)
{
	size_t at = world.charge_count[key]++;

	if (at == world.charge_room[key]) {
		world.charge_room[key] = at ? 2 * at : 1024;
		world.charges[key] = reallocarray(world.charges[key], world.charge_room[key],
						  sizeof(struct charge));
		if (!world.charges[key])
			abort();
	}
	world.charges[key][at] = (struct charge){ world.now_ns, charge_ns, used, life };
}

/* What one bucket, with all hosts at it, would admit of the same requests. */
void check_offered(unsigned key, uint64_t cost)
{
	struct key *all = &world.keys[key];
	int64_t now = world.now_ns, debt = all->ideal_ns > now ? all->ideal_ns - now : 0;

	if (debt > world.tolerance_ns - (int64_t)cost * world.token_ns)
		return;
	all->ideal_ns = now + debt + (int64_t)cost * world.token_ns;
	all->ideal += cost;
}

void check_admitted(struct host *host, unsigned key, uint64_t cost, bool stale, uint64_t now_ns,
		    const struct word_pair *before, const struct word_pair *after)
{
	struct key *all = &world.keys[key];
	struct truth *truth = truth_of(host, key);
	int64_t charge = charge_between(state_used(*before), state_used(*after));
	int64_t now = (int64_t)now_ns;

	truth->consumed += (int64_t)cost;
	sim_trace("host %u key %u: %llu%s", host->number, key, (unsigned long long)cost,
		  stale ? " (stale)" : "");
	if (gcra_count(state_used(*after) - state_used(*before)) != (int64_t)cost) {
		sim_fail("host %u key %u: %llu tokens were admitted, and used went from %llu to %llu",
			 host->number, key, (unsigned long long)cost,
			 (unsigned long long)state_used(*before),
			 (unsigned long long)state_used(*after));
		return;
	}
	truth->own_ns = (truth->own_ns > now ? truth->own_ns : now) + charge;
	if (truth->first_unmerged_ns < 0)
		truth->first_unmerged_ns = world.now_ns;
	all->all_ns = (all->all_ns > world.now_ns ? all->all_ns : world.now_ns) + charge;
	if (!world.quiet && all->all_ns - world.now_ns - world.tolerance_ns > all->over_ns)
		all->over_ns = all->all_ns - world.now_ns - world.tolerance_ns;
	all->admitted += cost;
	all->stale_admitted += stale;
	if (cost > world.admitted_costs_max)
		world.admitted_costs_max = cost;
	if (!world.scenario.measure)
		remember_charge(key, charge, state_used(*after), host->life);
}

void check_given_back(struct host *host, unsigned key, uint64_t cost)
{
	truth_of(host, key)->consumed -= (int64_t)cost;
}

/* ---- Hosts ------------------------------------------------------------- */

/* W: from the first admission that is not merged to the merge that has it. */
static void follow_merges(const struct host *host, unsigned key, uint64_t used, uint64_t merged,
			  int64_t since_ns)
{
	struct truth *truth = truth_of(host, key);

	if (truth->first_unmerged_ns >= 0 && merged != truth->merged) {
		if (world.now_ns - truth->first_unmerged_ns > world.unmerged_max_ns)
			world.unmerged_max_ns = world.now_ns - truth->first_unmerged_ns;
		if (used == merged)
			truth->first_unmerged_ns = -1;
		else if (since_ns > truth->first_unmerged_ns)
			truth->first_unmerged_ns = since_ns;
	}
	truth->merged = merged;
}

static void check_bucket(struct host *host, unsigned key, int64_t since_ns)
{
	const struct truth *truth = truth_of(host, key);
	struct bucket_ref ref;
	struct word_pair state;
	uint64_t merged;

	if (!bucket_of(host, key, &ref, &state))
		return;
	merged = merged_of(&ref);
	if (!world.scenario.strict && !world.scenario.windows && !world.scenario.holds)
		follow_merges(host, key, state_used(state), merged, since_ns);
	if (world.scenario.holds)
		return;
	if (world.scenario.windows)
		check_window_host(host, key, state);
	else if (!gives_back() && !world.scenario.strict && merged > truth->answered_used)
		sim_fail("host %u key %u: %llu count as merged, and no answer told of more than %llu",
			 host->number, key, (unsigned long long)merged,
			 (unsigned long long)truth->answered_used);
	else if (!gives_back() && (int64_t)state.first < truth->own_ns)
		sim_fail("host %u key %u: its bucket is %lld ns below its own requests' debt",
			 host->number, key, (long long)(truth->own_ns - (int64_t)state.first));
	check_queued(host, key, &ref, state, merged);
}

void check_host(struct host *host)
{
	int64_t since_ns = world.now_ns;

	for (unsigned i = 0; i < SIM_PROCESSES; i++) {
		const struct process *process = &host->processes[i];

		if (process->alive && process->tick_ns >= 0 && process->tick_ns < since_ns)
			since_ns = process->tick_ns;
	}
	for (unsigned key = 0; key < world.scenario.keys && !world.failed; key++)
		check_bucket(host, key, since_ns);
}

/* ---- Redis ------------------------------------------------------------- */

void check_clock(unsigned shard, int64_t virtual_ns)
{
	struct shard_truth *truth = &world.shards[shard];
	int64_t slip = virtual_ns - world.now_ns / 1000 * 1000;

	if (truth->known && slip > truth->slip_ns)
		truth->gained_ns += slip - truth->slip_ns;
	if (truth->known && slip < truth->slip_ns)
		truth->lost_ns += truth->slip_ns - slip;
	truth->slip_ns = slip;
	truth->known = true;
}

void check_fresh(const struct host *host, unsigned key)
{
	const struct scenario *scenario = &world.scenario;
	unsigned shard = slot_shard(host->fingerprints[key].low);
	/* A round and a fence that wait for a node, and what the others' then wait for. */
	int64_t gap = 2 * scenario->timeout_ns + scenario_heartbeat_ns(scenario) +
		      2 * scenario->interval_ns + 100 * MS;
	uint32_t others = 1u << FAULT_NODE | 1u << FAULT_GIVE_BACK;

	if (scenario->nodes == 1 || (scenario->faults & ~others) || gap > scenario->staleness_ns ||
	    world.now_ns < SECOND || world.shards[shard].was_away)
		return;
	if (host->segment->shards[shard].fresh_until_ns < host_now(host))
		sim_fail("host %u key %u: its view is stale, and the node of shard %u was never away",
			 host->number, key, shard);
}

static bool is_alternative(const struct truth *truth, int64_t ns)
{
	for (unsigned i = 0; i < truth->alternatives; i++) {
		if (truth->or_applied_ns[i] == ns)
			return true;
	}
	return false;
}

static bool has_applied(const struct truth *truth, int64_t ns)
{
	return truth->applied_ns == ns || is_alternative(truth, ns);
}

static void add_alternative(struct truth *truth, int64_t ns)
{
	if (is_alternative(truth, ns))
		return;
	if (truth->alternatives == SIM_ALTERNATIVES)
		sim_fail("Redis forgets too often for the simulation");
	else
		truth->or_applied_ns[truth->alternatives++] = ns;
}

/* Redis has what it had THEN.  What the host was told of stays agreed: all, or all but
 * the last call. */
static void forget(struct truth *truth, int64_t then_ns)
{
	add_alternative(truth, truth->applied_ns);
	add_alternative(truth, truth->before_ns);
	for (unsigned i = 0; i < truth->stopped; i++)
		add_alternative(truth, truth->stopped_ns[i]);
	truth->applied_ns = truth->before_ns = then_ns;
}

/*
 * A leader may be stopped between its reply and the store of it, while Redis forgets
 * what the reply told.  A later leader's fence cannot learn of it, and the later one
 * sends from what was agreed before.  The stopped one's store succeeds still, till what
 * came of the later one's call is stored, and is right: after one more loss of memory
 * the host adds to it.
 */
static void keep_stopped(struct truth *truth, int64_t base_ns)
{
	if (truth->alternatives > 0) {
		memcpy(truth->stopped_ns, truth->or_applied_ns, sizeof(truth->stopped_ns));
		truth->stopped = truth->alternatives;
	} else if (base_ns != truth->before_ns) {
		truth->stopped = 0;     /* what was agreed has moved on */
	}
}

void check_answered(const struct host *host, unsigned key, uint64_t used)
{
	struct truth *truth = truth_of(host, key);

	if (used > truth->answered_used)
		truth->answered_used = used;
}

void check_escrow(unsigned key)
{
	int64_t debt, left;

	redis_lease(key, &debt, &left);
	/* In the second phase tokens are forced. */
	if (!world.quiet && left > 0 && debt + left > world.tolerance_ns + ROUNDED_NS)
		sim_fail("key %u: a debt of %lld ns and credit of %lld ns are more than a burst's "
			 "%lld ns",
			 key, (long long)debt, (long long)left, (long long)world.tolerance_ns);
}

unsigned check_cut_off(unsigned forgotten, unsigned again)
{
	/* A failover alone cuts off, as well: whose call it swallows waits for the answer. */
	return world.scenario.faults & FAULTS_OF_HOSTS || world.scenario.crowds ? forgotten : again;
}

static void note_forgotten_again(void)
{
	for (unsigned shard = 0; shard < SYNC_SHARDS; shard++) {
		bool all = true;

		for (unsigned i = 0; i < world.scenario.hosts; i++)
			all &= world.hosts[i].heard[shard] == world.forgotten;
		world.shards[shard].forgotten_again += !all;
	}
	world.forgotten++;
}

void check_forgotten(const struct life *then, unsigned lives)
{
	note_forgotten_again();
	for (unsigned life = 0; life < world.lives; life++) {
		for (unsigned key = 0; key < SIM_KEYS; key++)
			forget(&world.life[life].keys[key],
			       life < lives ? then[life].keys[key].applied_ns : 0);
	}
	for (unsigned key = 0; key < SIM_KEYS; key++)
		world.keys[key].inexact = true;
	if (world.scenario.windows)
		check_windows_forgotten();
}

/* What was owed before comes back with the views of the hosts. */
void check_restored(void)
{
	for (unsigned key = 0; key < world.scenario.keys; key++) {
		const struct key *all = &world.keys[key];
		int64_t owed = all->owed_ns - (world.now_ns - all->owed_at_ns);

		if (owed > 0 && redis_debt_ns(key) < owed - world.flight_max_ns)
			sim_fail("key %u: Redis has a debt of %lld ns, and of what it forgot %lld ns "
				 "are still owed",
				 key, (long long)redis_debt_ns(key), (long long)owed);
	}
}

/* The debt, now, of an ideal bucket with all requests that Redis has applied. */
static int64_t ideal_ns(unsigned key)
{
	int64_t time_ns = 0;

	for (size_t i = 0; i < world.charge_count[key]; i++) {
		const struct charge *charge = &world.charges[key][i];

		if (charge->used > world.life[charge->life].keys[key].applied_used)
			continue;
		if (time_ns < charge->true_ns)
			time_ns = charge->true_ns;
		time_ns += charge->charge_ns;
	}
	return time_ns - world.now_ns;
}

static void check_lemma(unsigned key, unsigned shard, int64_t debt_ns)
{
	const struct shard_truth *clock = &world.shards[shard];
	int64_t ideal = ideal_ns(key);
	int64_t least = ideal - clock->gained_ns - CLOCK_STEP_NS - drift_ns();
	/* Of each other host one window may have begun before the bucket was last
	 * empty, and is added in full. */
	int64_t most = (ideal > 0 ? ideal : 0) + world.lives * world.keys[key].window_max_ns +
		       world.flight_max_ns + clock->lost_ns + CLOCK_STEP_NS + drift_ns();

	if (ideal > 0 && debt_ns < least)
		sim_fail("key %u: Redis has a debt of %lld ns, and what it applied one of %lld ns",
			 key, (long long)debt_ns, (long long)ideal);
	if (debt_ns > most)
		sim_fail("key %u: Redis has a debt of %lld ns, what it applied one of %lld ns, and "
			 "the largest window has %lld ns",
			 key, (long long)debt_ns, (long long)ideal,
			 (long long)world.keys[key].window_max_ns);
}

void check_applied(unsigned life, unsigned key, unsigned shard, const struct script_item *item,
		   const struct script_result *result, uint64_t used, bool late)
{
	struct truth *truth = &world.life[life].keys[key];
	int64_t charge = script_ns(item->charge), base = total_ns(used) - charge;
	int64_t cap = script_ns(item->cap), debt = script_ns(result->debt);

	sim_trace("redis: life %u key %u used %llu charge %lld E %lld flags %u -> debt %lld gen %u err %u",
		  life, key, (unsigned long long)used, (long long)charge,
		  (long long)script_ns(item->empty), item->flags, (long long)debt,
		  result->generation, result->error);
	if (result->error) {
		sim_fail("life %u key %u: Redis refuses the item (%u)", life, key, result->error);
		return;
	}
	/* A Redis that forgot a fence executes what was fenced off.  Its host has long
	 * sent it again, and restores what came of it by a maximum. */
	if (late && truth->alternatives > 0) {
		add_alternative(truth, total_ns(used));
		return;
	}
	if (!(item->flags & SCRIPT_RESET) && !has_applied(truth, base)) {
		sim_fail("life %u key %u: Redis has applied %lld ns, and the host adds %lld ns to "
			 "%lld ns",
			 life, key, (long long)truth->applied_ns, (long long)charge,
			 (long long)base);
		return;
	}
	keep_stopped(truth, base);
	truth->before_ns = base;
	truth->applied_ns = total_ns(used);
	truth->alternatives = 0;
	truth->applied_used = used;
	if (charge > world.keys[key].window_max_ns)
		world.keys[key].window_max_ns = charge;
	if (cap > 0 && debt >= cap)
		world.keys[key].inexact = world.keys[key].forgiven = true;
	if (!world.scenario.measure && !gives_back() && !world.keys[key].inexact)
		check_lemma(key, shard, debt);
}

/* ---- At the end -------------------------------------------------------- */

static uint64_t cap_tokens(void)
{
	uint64_t others = world.scenario.hosts - 1;
	uint64_t cap = world.limit.burst * world.scenario.overshoot / 1000;

	cap = others ? cap / others : 0;
	return cap < 1 ? 1 : cap;
}

/* Theorems 1 and 2, and what is lost with a host and with Redis' memory. */
static int64_t bound_ns(const struct key *all, unsigned shard)
{
	int64_t others = world.scenario.hosts - 1, each, lost = 0;
	uint64_t cap = cap_tokens();

	if (world.scenario.strict)
		return drift_ns();
	if (world.scenario.consistency == WEIR_BOUNDED)
		each = (int64_t)(cap > world.admitted_costs_max ? cap : world.admitted_costs_max) *
		       world.token_ns;
	else
		each = world.tolerance_ns + world.unmerged_max_ns;
	/* Who is cut off, without a leader or asked for nothing when Redis forgets what it
	 * was told tells it later: till then it may be admitted once more. */
	if (check_cut_off(world.forgotten, world.shards[shard].forgotten_again) > 0)
		lost = all->missing_ns;
	return each * (others * (1 + world.forgotten) + world.crashes) + lost + world.delay_max_ns +
	       world.shards[shard].gained_ns + drift_ns() + CLOCK_STEP_NS +
	       (int64_t)world.lives;
}

/* What is not merged will not be for some time yet, or never. */
void check_unmerged(const struct host *host)
{
	for (unsigned key = 0; key < world.scenario.keys; key++) {
		int64_t first = truth_of(host, key)->first_unmerged_ns;

		if (first >= 0 && world.now_ns - first > world.unmerged_max_ns)
			world.unmerged_max_ns = world.now_ns - first;
	}
}

void check_busy_end(void)
{
	for (unsigned i = 0; i < world.scenario.hosts; i++)
		check_unmerged(&world.hosts[i]);
	for (unsigned key = 0; key < world.scenario.keys; key++) {
		unsigned shard = slot_shard(world.hosts[0].fingerprints[key].low);
		struct key *all = &world.keys[key];

		all->bound_ns = bound_ns(all, shard);
		if (gives_back() || all->stale_admitted > 0 || all->over_ns <= all->bound_ns)
			continue;
		/* What was admitted behind a partition is not repaid in full. */
		if (all->forgiven && world.scenario.consistency == WEIR_EVENTUAL)
			continue;
		sim_fail("key %u: over-admission of %lld ns (%.2f tokens) is beyond the bound of "
			 "%lld ns (%.2f tokens)",
			 key, (long long)all->over_ns,
			 (double)all->over_ns / (double)world.token_ns,
			 (long long)all->bound_ns,
			 (double)all->bound_ns / (double)world.token_ns);
	}
}

static void check_agreement(const struct host *host, unsigned key)
{
	const struct truth *truth = truth_of(host, key);
	struct bucket_ref ref;
	struct word_pair state;
	const struct shard_truth *clock = &world.shards[slot_shard(host->fingerprints[key].low)];
	int64_t here, there, apart;
	uint64_t now = host_now(host);

	if (!bucket_of(host, key, &ref, &state)) {
		sim_fail("host %u key %u: no bucket", host->number, key);
		return;
	}
	here = state.first > now ? (int64_t)(state.first - now) : 0;
	there = redis_debt_ns(key);
	/* A clock of Redis' that ran ahead has forgiven there what is still owed here. */
	apart = here > there ? here - there - clock->gained_ns : there - here;
	if (world.scenario.strict) {
		redis_lease(key, &here, &there);
		if (there > 0)
			sim_fail("key %u: at the end credit of %lld ns is out", key,
				 (long long)there);
		return;
	}
	/* For a bucket that has run full meanwhile nobody asks: its host hears of what others
	 * charged with its own next charge. */
	if (here == 0)
		apart = 0;
	/* So has a window that was capped: its own host owes it still. */
	if (world.keys[key].forgiven && here > there)
		apart = 0;
	if (gcra_count(state_used(state)) != truth->consumed)
		sim_fail("host %u key %u: %lld tokens were taken, less those given back, and used is "
			 "%lld",
			 host->number, key, (long long)truth->consumed,
			 (long long)gcra_count(state_used(state)));
	else if (state_used(state) != merged_of(&ref))
		sim_fail("host %u key %u: at the end %llu are used and %llu merged", host->number,
			 key, (unsigned long long)state_used(state),
			 (unsigned long long)merged_of(&ref));
	else if (!has_applied(truth, total_ns(state_used(state))))
		sim_fail("host %u key %u: %lld ns are consumed, and Redis has applied %lld ns",
			 host->number, key, (long long)total_ns(state_used(state)),
			 (long long)truth->applied_ns);
	/* A view is as old as its call took to Redis. */
	else if (apart > world.delay_max_ns + MS + drift_ns())
		sim_fail("host %u key %u: at the end the debt is %lld ns here and %lld ns at Redis",
			 host->number, key, (long long)here, (long long)there);
}

void check_quiet_end(void)
{
	for (unsigned i = 0; i < world.scenario.hosts; i++) {
		check_host(&world.hosts[i]);
		for (unsigned key = 0; key < world.scenario.keys && !world.failed; key++)
			check_agreement(&world.hosts[i], key);
	}
}
