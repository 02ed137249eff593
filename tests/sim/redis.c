/* SPDX-License-Identifier: Apache-2.0 */
/* redis.c - what Redis makes of calls, and what happens to it: both scripts as models, of all
 * nodes at once. */
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

#define SNAPSHOTS 8u
#define SNAPSHOT_NS (250 * MS)
#define MEASURED_LAG_NS SECOND          /* of the replica, for the table of faults, */
#define MEASURED_DOWN_NS (200 * MS)     /* and till it is the master */

/* Redis, at some time. */
struct redis_state {
	struct script_model *shards[SYNC_SHARDS];
	struct lease_model leases[SYNC_SHARDS];
	struct life life[SIM_LIVES];
	unsigned lives;
	int64_t at_ns;
};

static struct redis_state redis;
static struct redis_state snapshots[SNAPSHOTS];
static unsigned snapshot_count;
static int64_t clock_offset_ns, down_until_ns, away_until_ns[SIM_NODES];
static unsigned failovers;

/* ---- Calls ------------------------------------------------------------- */

static int64_t clock_ns(void)
{
	return REDIS_BASE_NS + world.now_ns + clock_offset_ns;
}

bool redis_call(unsigned shard, struct script_call *call, struct script_reply *reply)
{
	call->clock_us = (uint64_t)clock_ns() / 1000;
	return script_model_call(redis.shards[shard], call, reply);
}

void redis_lease_call(unsigned shard, struct lease_model_call *call,
		      struct lease_model_reply *reply)
{
	char run_id[16];

	snprintf(run_id, sizeof(run_id), "run %u", failovers);
	call->run_id = run_id;
	call->clock_ns = clock_ns() / 1000 * 1000;
	lease_model_call(&redis.leases[shard], call, reply);
}

unsigned redis_node(unsigned shard)
{
	return shard % world.scenario.nodes;
}

int64_t redis_away_ns(unsigned node)
{
	return away_until_ns[node] - world.now_ns;
}

bool redis_is_down(void)
{
	return world.now_ns < down_until_ns;
}

/* ---- What happens to it ------------------------------------------------ */

static void state_free(struct redis_state *state)
{
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		script_model_free(state->shards[i]);
		state->shards[i] = NULL;
	}
}

static void state_copy(struct redis_state *to, const struct redis_state *from)
{
	state_free(to);
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		to->shards[i] = script_model_copy(from->shards[i]);
		lease_model_copy(&to->leases[i], &from->leases[i]);
	}
	to->lives = world.lives;
	memcpy(to->life, world.life, world.lives * sizeof(to->life[0]));
	to->at_ns = world.now_ns;
}

void redis_begin(void)
{
	state_free(&redis);
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		redis.shards[i] = script_model_new();
		lease_model_flush(&redis.leases[i]);
	}
	failovers = 0;
	snapshot_count = 0;
	clock_offset_ns = 0;
	down_until_ns = 0;
	memset(away_until_ns, 0, sizeof(away_until_ns));
	if (sim_has(FAULT_FAILOVER))
		events_add(SNAPSHOT_NS, EVENT_SNAPSHOT, 0, 0, NULL);
}

void redis_flush(void)
{
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		script_model_flush(redis.shards[i]);
		lease_model_flush(&redis.leases[i]);
	}
	check_forgotten(NULL, 0);
}

void redis_snapshot(void)
{
	state_copy(&snapshots[snapshot_count++ % SNAPSHOTS], &redis);
	events_add(world.now_ns + SNAPSHOT_NS, EVENT_SNAPSHOT, 0, 0, NULL);
}

/* A replica that had stopped some time ago is the master now. */
void redis_fail_over(void)
{
	unsigned kept = snapshot_count < SNAPSHOTS ? snapshot_count : SNAPSHOTS;
	struct redis_state *old;
	uint64_t back;

	if (kept == 0)
		return;
	back = sim_below(STREAM_FAULTS + FAULT_FAILOVER, kept);
	if (world.scenario.measure)
		back = MEASURED_LAG_NS / SNAPSHOT_NS - 1;
	old = &snapshots[(snapshot_count - 1 - back) % SNAPSHOTS];
	sim_trace("redis: back to %lld ms", (long long)(old->at_ns / MS));
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		script_model_free(redis.shards[i]);
		redis.shards[i] = script_model_copy(old->shards[i]);
		lease_model_copy(&redis.leases[i], &old->leases[i]);
	}
	failovers++;
	check_forgotten(old->life, old->lives);
	down_until_ns = world.now_ns + (world.scenario.measure ?
						MEASURED_DOWN_NS :
						sim_exponential_ns(STREAM_FAULTS + FAULT_FAILOVER,
								   100e6));
}

int64_t redis_up_ns(void)
{
	return down_until_ns > world.now_ns ? down_until_ns + world.scenario.timeout_ns : world.now_ns;
}

void redis_step_clock(int64_t step_ns)
{
	clock_offset_ns += step_ns;
}

void redis_lose_node(void)
{
	unsigned stream = STREAM_FAULTS + FAULT_NODE;
	unsigned node = (unsigned)sim_below(stream, world.scenario.nodes);

	for (unsigned i = 0; i < world.scenario.nodes; i++) {
		if (i != node && world.now_ns < away_until_ns[i])
			return;                 /* one at a time */
	}
	away_until_ns[node] = world.now_ns + sim_exponential_ns(stream, 1e9);
	sim_trace("node %u is away till %lld ms", node, (long long)(away_until_ns[node] / MS));
	for (unsigned i = 0; i < SYNC_SHARDS; i++)
		world.shards[i].was_away |= redis_node(i) == node;
}

/* ---- What it has ------------------------------------------------------- */

static void name_of(unsigned key, uint8_t bytes[SCRIPT_NAME_BYTES])
{
	const struct fingerprint *name = &world.hosts[0].fingerprints[key];

	for (unsigned i = 0; i < 8; i++) {
		bytes[i] = (uint8_t)(name->low >> (8 * i));
		bytes[8 + i] = (uint8_t)(name->high >> (8 * i));
	}
}

void redis_lease(unsigned key, int64_t *debt_ns, int64_t *left_ns)
{
	uint8_t bytes[SCRIPT_NAME_BYTES];

	name_of(key, bytes);
	lease_model_read(&redis.leases[slot_shard(world.hosts[0].fingerprints[key].low)], bytes,
			 debt_ns, left_ns);
}

int64_t redis_virtual_ns(unsigned key)
{
	unsigned shard = slot_shard(world.hosts[0].fingerprints[key].low);

	return REDIS_BASE_NS + world.now_ns + world.shards[shard].slip_ns;
}

int64_t redis_window(unsigned key, uint64_t *index)
{
	unsigned shard = slot_shard(world.hosts[0].fingerprints[key].low);
	uint8_t bytes[SCRIPT_NAME_BYTES];
	int64_t end_ns = 0, tokens;

	name_of(key, bytes);
	tokens = script_model_window(redis.shards[shard], bytes, &end_ns);
	*index = (uint64_t)end_ns / world.limit.period_ns - 1;
	return tokens;
}

int64_t redis_debt_ns(unsigned key)
{
	const struct fingerprint *name = &world.hosts[0].fingerprints[key];
	unsigned shard = slot_shard(name->low);
	uint8_t bytes[SCRIPT_NAME_BYTES];
	int64_t tat_ns, now_ns = redis_virtual_ns(key);

	name_of(key, bytes);
	tat_ns = script_model_tat_ns(redis.shards[shard], bytes);
	return tat_ns > now_ns ? tat_ns - now_ns : 0;
}
