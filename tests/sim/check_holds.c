/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_holds.c - clients of a concurrency limit, and what must hold of it.
 *
 *  bound      at each acquisition what all hosts hold is within the limit and, in mode
 *             bounded, (N - 1) max(Q, n); in mode eventual, N limits
 *  counted    a bucket counts what is held, at the end
 *  free       without faults, who is denied a unit that is free has one after three
 *             intervals and a few round trips
 *  closed     with a stale view nothing is acquired; and no view counts as stale before it
 *             is, by the rounds that were answered
 *
 * No host crashes and Redis forgets nothing here: what was told of a host that is gone
 * counts for 30 s, which is longer than a run.
 */
#include <stdlib.h>

#include "shm/window.h"
#include "tests/sim/sim.h"

struct held {
	struct weir_hold hold;
	struct host *host;
	unsigned key;
	unsigned life;
	uint64_t units;
	struct held *next;              /* in the list of free ones */
};

/* And one that is not to be had. */
static struct held all_held[SIM_HOSTS * SIM_HOLDS + 1];
static struct held *free_held;
static unsigned begun_held;             /* those beyond were never held in this run */
static uint64_t units[SIM_KEYS][SIM_HOSTS];

void holds_begin(void)
{
	free_held = NULL;
	begun_held = 0;
	for (unsigned key = 0; key < SIM_KEYS; key++) {
		for (unsigned host = 0; host < SIM_HOSTS; host++)
			units[key][host] = 0;
	}
}

static uint64_t units_of(unsigned key)
{
	uint64_t sum = 0;

	for (unsigned host = 0; host < world.scenario.hosts; host++)
		sum += units[key][host];
	return sum;
}

static uint64_t units_max(void)
{
	uint64_t others = world.scenario.hosts - 1, limit = world.limit.limit;
	uint64_t each = limit * world.scenario.overshoot / 1000 / others;

	if (world.scenario.consistency == WEIR_EVENTUAL)
		return limit * world.scenario.hosts;
	each = each > world.admitted_costs_max ? each : world.admitted_costs_max;
	return limit + others * (each > 1 ? each : 1);
}

/* How old the view is that HOST has of KEY: its own word is not asked for. */
static void check_closed(const struct host *host, unsigned key, bool stale)
{
	int64_t age_ns = world.now_ns - host->told_ns[slot_shard(host->fingerprints[key].low)];
	int64_t staleness_ns = world.scenario.staleness_ns, drift_ns = staleness_ns / 1000 + 1;

	if (!stale && age_ns > staleness_ns + drift_ns)
		sim_fail("host %u key %u: a view of %lld ms ago decides, and is stale after %lld ms",
			 host->number, key, (long long)(age_ns / MS),
			 (long long)(staleness_ns / MS));
	/* Before, a leader may be held up between an answer and what it makes of it. */
	if (world.quiet && stale && age_ns < staleness_ns - drift_ns)
		sim_fail("host %u key %u: a view of %lld ms ago counts as stale, and is so after "
			 "%lld ms",
			 host->number, key, (long long)(age_ns / MS),
			 (long long)(staleness_ns / MS));
}

enum weir_reason hold_acquire_one(struct host *host, unsigned key, uint64_t cost)
{
	struct held *held = free_held ? free_held : &all_held[begun_held];
	struct weir_request request = request_of(host, key, cost);
	struct weir_decision decision;
	bool acquired = weir_acquire(host->weir, &request, &held->hold, &decision);

	check_closed(host, key, decision.reason == WEIR_REASON_STALE);
	if (acquired) {
		if (held == free_held)
			free_held = held->next;
		else
			begun_held++;
		held->host = host;
		held->key = key;
		held->life = host->life;
		held->units = cost;
		units[key][host->number] += cost;
		world.admitted_costs_max = cost > world.admitted_costs_max ?
						   cost : world.admitted_costs_max;
		sim_trace("host %u key %u: takes %llu units, %llu are held", host->number, key,
			  (unsigned long long)cost, (unsigned long long)units_of(key));
		if (units_of(key) > units_max())
			sim_fail("key %u: %llu units are held, and %llu is the most", key,
				 (unsigned long long)units_of(key),
				 (unsigned long long)units_max());
		events_add(world.now_ns + 1 + sim_exponential_ns(STREAM_REQUESTS, (double)HELD_NS),
			   EVENT_RELEASE, 0, 0, held);
	} else {
		sim_trace("host %u key %u: denied, reason %s, %llu are held", host->number, key,
			  weir_reason_name(decision.reason), (unsigned long long)units_of(key));
	}
	check_host(host);
	host_bell(host);
	return decision.reason;
}

void hold_release_one(void *subject)
{
	struct held *held = subject;

	if (weir_release(held->host->weir, &held->hold) != WEIR_OK)
		sim_fail("host %u key %u: a hold cannot be released", held->host->number,
			 held->key);
	units[held->key][held->host->number] -= held->units;
	held->next = free_held;
	free_held = held;
	host_bell(held->host);
}

/* A host that is denied asks: then it is told, and has what is free; so where it MUST.
 * False: its view is stale, so that it may not have any, and asks nobody. */
static bool ask_for_unit(struct host *host, unsigned key, bool must)
{
	uint64_t before = units_of(key);

	if (before >= world.limit.limit)
		return true;
	if (hold_acquire_one(host, key, 1) == WEIR_REASON_STALE)
		return false;
	if (must && units_of(key) == before)
		sim_fail("host %u key %u: %llu units are held, %llu is the limit, and it gets none",
			 host->number, key, (unsigned long long)before,
			 (unsigned long long)world.limit.limit);
	return true;
}

/* Where calls are slow and max_staleness is short, a view is stale now and then, till the
 * answer to the next call. */
static void ask_with_next_view(struct host *host, unsigned key, bool must)
{
	int64_t until_ns = world.now_ns + SECOND;

	while (!world.failed && !ask_for_unit(host, key, must)) {
		if (world.now_ns >= until_ns)
			sim_fail("host %u key %u: its view stays stale", host->number, key);
		sim_run_until(world.now_ns + MS);
	}
}

void check_holds_free(unsigned turn)
{
	bool stale[SIM_KEYS][SIM_HOSTS] = { 0 };

	/* Nobody has more time because another's view is stale. */
	for (unsigned key = 0; key < world.scenario.keys; key++) {
		for (unsigned i = 0; i < world.scenario.hosts && !world.failed; i++)
			stale[key][i] = !ask_for_unit(&world.hosts[i], key, turn > 0);
	}
	for (unsigned key = 0; key < world.scenario.keys; key++) {
		for (unsigned i = 0; i < world.scenario.hosts && !world.failed; i++) {
			if (stale[key][i])
				ask_with_next_view(&world.hosts[i], key, turn > 0);
		}
	}
}

void check_holds_counted(void)
{
	for (unsigned key = 0; key < world.scenario.keys; key++) {
		for (unsigned i = 0; i < world.scenario.hosts && !world.failed; i++) {
			struct bucket_ref ref;
			struct word_pair state;
			uint64_t here = bucket_of(&world.hosts[i], key, &ref, &state) ?
						state_used(state) : 0;

			if (here != units[key][i])
				sim_fail("host %u key %u: %llu units are held, and it counts %llu", i,
					 key, (unsigned long long)units[key][i],
					 (unsigned long long)here);
		}
	}
}
