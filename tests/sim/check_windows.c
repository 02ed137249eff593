/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_windows.c - what must hold of fixed and sliding windows.
 *
 * Which window an admission is of, its host's bucket says: windows have indices in the
 * cluster's time, whatever a host's own clock shows.  What was admitted with a stale
 * view, by the fail mode, is promised no bound and is left out of it.
 *
 *  bound      at each admission, what all hosts admitted in the window is within the
 *             limit and (N - 1) max(Q, n), in mode bounded; in mode eventual, within the
 *             limit and the most that each host had unmerged in it.  A host that crashes
 *             is followed by a new one, so each crash in the window adds another max(Q, n),
 *             and so does each return to it, where Redis lost the time;
 *             each time that Redis forgets adds (N - 1) of them, and a limit where a host
 *             may be cut off, or without a leader, and cannot tell Redis again; or has not
 *             heard of it when Redis forgets once more
 *  estimate   of a sliding window, the same of the estimate that the host judges by, made
 *             of what is true: of the window before N max(Q, n) may be missing
 *  once       what a call adds is what the host counts in the window less what Redis has
 *             of it; and where Redis has forgotten nothing of the window, its sum is that
 *             of all that its hosts told it
 *  present    a host that has heard of Redis counts what it admits in the cluster's present
 *             window, within a round trip; and what it takes back from a window that its
 *             wrong clock had begun was admitted before that one began
 *  agree      without faults and charges, within one window, all hosts see Redis' sum
 */
#include "shm/bucket.h"
#include "shm/policy_table.h"
#include "tests/sim/sim.h"

typedef unsigned __int128 wide;

/* ---- Which window ------------------------------------------------------ */

void windows_set_clock(struct host *host, int64_t error_ns)
{
	int64_t offset_ns = REDIS_BASE_NS + world.now_ns + error_ns - (int64_t)host_now(host);

	host->segment->header->wall_offset_ns = offset_ns;
	host->segment->header->wall.offset_ns = (uint64_t)offset_ns;
	host->segment->wall_offset_ns = offset_ns;
}

static unsigned shard_of(unsigned key)
{
	return slot_shard(world.hosts[0].fingerprints[key].low);
}

/* As the host's decisions have it now. */
static struct limit aligned_limit(const struct host *host, unsigned key)
{
	struct limit limit = world.limit;

	policy_align(host->segment, &host->segment->shards[shard_of(key)],
		     (int64_t)host->segment->header->wall.offset_ns, &limit);
	return limit;
}

static struct window *find_window(unsigned key, uint64_t index)
{
	struct key *all = &world.keys[key];

	for (unsigned i = all->window_count; i > 0; i--) {
		if (all->windows[i - 1].index == index)
			return &all->windows[i - 1];
	}
	return NULL;
}

static struct window *window_at(unsigned key, uint64_t index)
{
	struct key *all = &world.keys[key];
	struct window *window = find_window(key, index);

	if (window)
		return window;
	if (all->window_count == SIM_WINDOWS) {
		sim_fail("key %u: more windows than the simulation has room for", key);
		return &all->windows[0];
	}
	window = &all->windows[all->window_count++];
	*window = (struct window){
		.index = index,
		.crashes = world.crashes,
		.forgotten = world.forgotten,
		.forgotten_again = world.shards[shard_of(key)].forgotten_again,
	};
	return window;
}

static struct own_window *own_of(const struct host *host, unsigned key)
{
	return &world.life[host->life].keys[key].window;
}

static uint64_t bucket_index(const struct limit *limit, struct word_pair state)
{
	struct bucket_state bucket = { .time_ns = state.first, .used = state_used(state) };

	return window_index(limit, window_gone_ns(limit, &bucket));
}

/* How far a host's windows may be from Redis'. */
static uint64_t off_ns(unsigned key)
{
	const struct shard_truth *clock = &world.shards[shard_of(key)];
	int64_t drift = world.scenario.faults >> FAULT_DRIFT & 1 ? world.now_ns / 500 + 1 : 0;

	return (uint64_t)(world.round_trip_max_ns + clock->gained_ns + clock->lost_ns + drift);
}

/* And two hosts' from each other. */
static uint64_t apart_ns(unsigned key)
{
	return off_ns(key) + (uint64_t)world.round_trip_max_ns;
}

/* Windows that the host was in, and that the cluster has not begun: they did not judge what
 * it admitted in them. */
static void leave_later(const struct host *host, unsigned key, uint64_t index)
{
	struct key *all = &world.keys[key];

	for (unsigned i = 0; i < all->window_count; i++) {
		struct window *window = &all->windows[i];

		if (window->index <= index)
			continue;
		window->admitted -= window->of_host[host->number];
		window->of_host[host->number] = 0;
	}
}

/*
 * The bucket counts window INDEX now.  An earlier one than before: its clock was wrong, or
 * Redis lost the time.  The tokens that it takes along must be of before the later window
 * began.  When it moves does not matter, nor when that is seen: it may be the first thing
 * that its leader does after a long stop.
 */
static void follow(const struct host *host, unsigned key, uint64_t index)
{
	struct own_window *own = own_of(host, key);

	if (own->index == index)
		return;
	if (index < own->index) {
		if (own->index * world.limit.period_ns + off_ns(key) < own->charged_ns)
			sim_fail("host %u key %u: goes back to window %llu with tokens of %llu, which "
				 "had begun",
				 host->number, key, (unsigned long long)index,
				 (unsigned long long)own->index);
		leave_later(host, key, index);
		window_at(key, index)->returns++;
		own->back = true;
	}
	own->index = index;
	own->unmerged = 0;
}

void check_window_host(const struct host *host, unsigned key, struct word_pair state)
{
	struct limit limit;

	if (state.first == 0)
		return;                 /* emptied: it does not say */
	limit = aligned_limit(host, key);
	follow(host, key, bucket_index(&limit, state));
}

/* ---- Offered ----------------------------------------------------------- */

/* What one bucket, with all hosts at it, would admit of the same requests: IDEAL_WINDOW
 * and the one before it. */
void check_window_offered(unsigned key, uint64_t cost)
{
	struct key *all = &world.keys[key];
	uint64_t period = world.limit.period_ns, now = (uint64_t)redis_virtual_ns(key);
	uint64_t index = now / period, left = period - now % period;
	wide spent;

	if (index != all->ideal_window) {
		all->ideal_before = index == all->ideal_window + 1 ? all->ideal_now : 0;
		all->ideal_now = 0;
		all->ideal_window = index;
	}
	spent = (wide)(all->ideal_now + cost) * period;
	if (world.limit.algorithm == WEIR_SLIDING_WINDOW)
		spent += (wide)all->ideal_before * left;
	if (spent > (wide)world.limit.limit * period)
		return;
	all->ideal_now += cost;
	all->ideal += cost;
}

/* ---- Admitted ---------------------------------------------------------- */

/* For the table: tokens beyond the limit, and what they may be. */
static void note_over(struct key *all, uint64_t tokens, uint64_t most)
{
	int64_t over = (int64_t)(tokens - world.limit.limit);
	int64_t bound = (int64_t)(most - world.limit.limit);

	all->over_tokens = over > all->over_tokens ? over : all->over_tokens;
	all->bound_tokens = bound > all->bound_tokens ? bound : all->bound_tokens;
}

static uint64_t cap_tokens(void)
{
	uint64_t cap = world.limit.limit * world.scenario.overshoot / 1000;
	uint64_t others = world.scenario.hosts - 1;

	cap = others ? cap / others : 0;
	return cap < 1 ? 1 : cap;
}

/* What may be admitted in it and be missing in the views of OTHERS. */
static uint64_t beyond(unsigned key, const struct window *window, uint64_t others)
{
	uint64_t each = cap_tokens(), tokens;
	unsigned again = world.shards[shard_of(key)].forgotten_again - window->forgotten_again;
	unsigned crashes = world.crashes - window->crashes;
	unsigned forgotten = world.forgotten - window->forgotten;

	if (each < window->cost_max)
		each = window->cost_max;
	if (world.scenario.consistency == WEIR_BOUNDED)
		tokens = each * (others * (1 + forgotten) + crashes + window->returns);
	else
		tokens = window->unmerged + world.limit.limit * others * forgotten;
	return tokens + world.limit.limit * check_cut_off(forgotten, again);
}

static void check_estimate(unsigned key, const struct window *window, uint64_t elapsed_ns)
{
	const struct window *before = find_window(key, window->index - 1);
	uint64_t hosts = world.scenario.hosts;
	uint64_t previous = before ? before->admitted : 0, period = world.limit.period_ns;
	wide spent = (wide)window->admitted * period + (wide)previous * (period - elapsed_ns);
	uint64_t most = world.limit.limit + beyond(key, window, hosts - 1) +
			(before ? beyond(key, before, hosts) : 0);

	note_over(&world.keys[key], (uint64_t)((spent + period - 1) / period), most);
	if (spent <= (wide)most * period + (wide)previous * apart_ns(key))
		return;
	sim_fail("key %u: the estimate of window %llu, of %llu tokens and %llu before, is beyond "
		 "%llu at %llu ms",
		 key, (unsigned long long)window->index, (unsigned long long)window->admitted,
		 (unsigned long long)previous, (unsigned long long)most,
		 (unsigned long long)elapsed_ns / 1000000);
}

static void note_unmerged(const struct host *host, unsigned key, struct window *window,
			  struct word_pair state)
{
	struct own_window *own = own_of(host, key);
	struct bucket_ref ref;
	uint64_t unmerged;

	if (!bucket_of(host, key, &ref, &state))
		return;
	unmerged = window_unmerged(ref.generation, window->index, state_used(state),
				   ref.slot->merged,
				   foreign_mixed(ref.slot->foreign, ref.generation));
	if (unmerged > own->unmerged) {
		window->unmerged += unmerged - own->unmerged;
		own->unmerged = unmerged;
	}
}

/* A host that has heard of Redis counts what it admits in the present window, unless its
 * bucket is in a later one yet. */
static void check_present(const struct host *host, unsigned key, uint64_t index)
{
	uint64_t now = (uint64_t)redis_virtual_ns(key), period = world.limit.period_ns;

	if (host->segment->shards[shard_of(key)].window_offset_ns == 0 || world.quiet)
		return;
	if ((index + 1) * period + off_ns(key) < now)
		sim_fail("host %u key %u: window %llu is over, and it counts tokens in it",
			 host->number, key, (unsigned long long)index);
	else if (index > own_of(host, key)->index && index * period > now + off_ns(key))
		sim_fail("host %u key %u: begins window %llu too early", host->number, key,
			 (unsigned long long)index);
}

void check_window_admitted(struct host *host, unsigned key, uint64_t cost, bool stale,
			   uint64_t now_ns, const struct word_pair *after)
{
	struct limit limit = aligned_limit(host, key);
	struct bucket_state bucket = { .time_ns = after->first, .used = state_used(*after) };
	struct window *window = window_at(key, bucket_index(&limit, *after));
	uint64_t most;

	check_present(host, key, window->index);
	follow(host, key, window->index);
	/* Before the first call the cluster has no time, and has begun no window. */
	own_of(host, key)->charged_ns =
		world.shards[shard_of(key)].known ? (uint64_t)redis_virtual_ns(key) : 0;
	note_unmerged(host, key, window, *after);
	sim_trace("host %u key %u: %llu of window %llu%s", host->number, key,
		  (unsigned long long)cost, (unsigned long long)window->index,
		  stale ? " (stale)" : "");
	/* What is forced, or given back, is beyond what the limit judges. */
	if (stale || world.quiet)
		return;
	window->admitted += cost;
	window->of_host[host->number] += (uint32_t)cost;
	world.keys[key].admitted += cost;
	if (cost > window->cost_max)
		window->cost_max = cost;
	if (world.scenario.faults >> FAULT_GIVE_BACK & 1)
		return;
	most = world.limit.limit + beyond(key, window, world.scenario.hosts - 1);
	if (limit.algorithm == WEIR_FIXED_WINDOW)
		note_over(&world.keys[key], window->admitted, most);
	if (window->admitted > most)
		sim_fail("key %u: %llu tokens were admitted in window %llu, and %llu is the most",
			 key, (unsigned long long)window->admitted,
			 (unsigned long long)window->index,
			 (unsigned long long)most);
	else if (limit.algorithm == WEIR_SLIDING_WINDOW)
		check_estimate(key, window, sliding_window_at(&limit, &bucket, now_ns).elapsed_ns);
}

/* ---- Redis ------------------------------------------------------------- */

static void is_inexact(unsigned key, uint64_t index)
{
	if (index > world.keys[key].inexact_to)
		world.keys[key].inexact_to = index;
}

/* Of the windows so far, and of one that somebody may have begun early. */
void check_windows_forgotten(void)
{
	for (unsigned key = 0; key < world.scenario.keys; key++) {
		is_inexact(key, (uint64_t)redis_virtual_ns(key) / world.limit.period_ns + 1);
		for (unsigned life = 0; life < world.lives; life++)
			is_inexact(key, world.life[life].keys[key].window.applied_index);
	}
}

/* All that Redis was told of the window. */
static uint64_t applied_sum(unsigned key, uint64_t index)
{
	uint64_t sum = 0;

	for (unsigned life = 0; life < world.lives; life++) {
		const struct own_window *own = &world.life[life].keys[key].window;

		if (own->applied_index == index)
			sum += own->applied + own->earlier;
	}
	return sum;
}

static void take_applied(struct own_window *own, uint64_t index, uint64_t used, uint64_t base)
{
	if (own->applied_index != index)
		own->earlier = 0;
	/* Back in a window that it had counted: what it counts there begins anew. */
	else if (own->back && base == 0)
		own->earlier += own->applied;
	own->back = false;
	own->applied_index = index;
	own->applied = used;
}

void check_window_applied(unsigned life, unsigned key, const struct script_window *item,
			  const struct script_window_result *result, uint64_t used, bool late)
{
	struct own_window *own = &world.life[life].keys[key].window;
	uint64_t end_ns = item->end.seconds * (uint64_t)SECOND + item->end.nanoseconds;
	uint64_t index = end_ns / world.limit.period_ns - 1, base = used - (uint64_t)item->tokens;
	uint64_t known = own->applied_index == index ? own->applied : 0, kept;

	own->back |= index < own->index;
	sim_trace("redis: life %u key %u window %llu used %llu n %lld T %llu P %llu flags %u -> %lld, "
		  "%lld before, gen %u err %u",
		  life, key, (unsigned long long)index, (unsigned long long)used,
		  (long long)item->tokens, (unsigned long long)item->total,
		  (unsigned long long)item->previous, item->flags, (long long)result->total,
		  (long long)result->previous, result->generation, result->error);
	if (result->error) {
		sim_fail("life %u key %u: Redis refuses the window (%u)", life, key, result->error);
		return;
	}
	redis_window(key, &kept);
	/* A Redis that forgot a fence executes what was fenced off. */
	if (late && world.forgotten)
		is_inexact(key, index);
	/* Back from one that it was in early, and will begin again. */
	if (index < own->applied_index)
		is_inexact(key, own->applied_index);
	/* Over for a period, by a clock that may have been stepped: Redis may have dropped it. */
	if (end_ns + world.limit.period_ns < (uint64_t)redis_virtual_ns(key))
		is_inexact(key, index);
	/* A reset that Redis had forgotten: what hosts that did not know of it told since then
	 * is void (docs/sync.md, known limits). */
	if ((item->flags & SCRIPT_RESTORE) && item->generation > 0 &&
	    item->generation == result->generation)
		is_inexact(key, index);
	if (item->flags & SCRIPT_RESET)
		is_inexact(key, kept > index ? kept : index);
	if (index <= world.keys[key].inexact_to) {
		if (index >= own->applied_index)
			take_applied(own, index, used, base);
		return;
	}
	if (base != known && !(own->back && base == 0)) {
		sim_fail("life %u key %u: Redis has %llu tokens of it in window %llu, and the host "
			 "adds %lld to %llu",
			 life, key, (unsigned long long)known, (unsigned long long)index,
			 (long long)item->tokens, (unsigned long long)base);
		return;
	}
	take_applied(own, index, used, base);
	/* Of the window before, a sliding one is told more than was counted. */
	if (result->previous >= 0 && (uint64_t)result->total != applied_sum(key, index))
		sim_fail("key %u: Redis counts %lld tokens in window %llu, and was told of %llu", key,
			 (long long)result->total, (unsigned long long)index,
			 (unsigned long long)applied_sum(key, index));
}

/* ---- At the end -------------------------------------------------------- */

bool window_lasts(unsigned key, int64_t long_ns)
{
	int64_t period = (int64_t)world.limit.period_ns, margin = period / 32;
	int64_t elapsed = redis_virtual_ns(key) % period;

	return elapsed >= margin && elapsed + long_ns <= period - margin;
}

static void check_agree(const struct host *host, unsigned key)
{
	struct limit limit = aligned_limit(host, key);
	uint64_t index, here, there, at;
	struct bucket_ref ref;
	struct word_pair state;
	int64_t others;

	if (!bucket_of(host, key, &ref, &state)) {
		sim_fail("host %u key %u: no bucket", host->number, key);
		return;
	}
	there = (uint64_t)redis_window(key, &at);
	index = bucket_index(&limit, state);
	others = foreign_tokens(foreign_mixed(ref.slot->foreign, ref.generation), index);
	here = window_sum(state_used(state), others);
	if (index != at || here != there)
		sim_fail("host %u key %u: at the end it counts %llu tokens in window %llu, and Redis "
			 "%lld in %llu",
			 host->number, key, (unsigned long long)here, (unsigned long long)index,
			 (long long)there, (unsigned long long)at);
}

void check_windows_agree(unsigned key)
{
	for (unsigned i = 0; i < world.scenario.hosts && !world.failed; i++) {
		check_host(&world.hosts[i]);
		check_agree(&world.hosts[i], key);
	}
}
