/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.c - the segment of the scenarios, and what stands in for the parts of the
 * library that the kernel or a lock is needed for.
 *
 * Counters and notes are stood in for by books that take no step: nobody decides
 * by them, and they would only multiply the states.
 */
#include "tests/model/world.h"

#include <string.h>
#include <time.h>

#include "shm/error.h"
#include "shm/note.h"
#include "src/plain.h"
#include "src/quick_compact.h"

struct world world;

void world_init(void)
{
	memset(&world, 0, sizeof(world));
	for (unsigned t = 0; t < MODEL_THREADS_MAX; t++) {
		struct segment *segment = &world.segments[t];

		segment->header = &world.header;
		segment->slots = WINDOW_SLOTS;
		segment->table.slots = world.slots;
		table_set_groups(&segment->table, 2);
		segment->table.holds = &segment->holds;
		segment->holds.records = world.records;
		segment->holds.count = WORLD_RECORDS;
		segment->policies = 1;
		segment->banks[0] = &world.banks[0];
		segment->banks[1] = &world.banks[1];
		segment->switches = &world.fail_mode;
		segment->clock = WEIR_CLOCK_BOOTTIME;
		segment->participant_id = t + 1;
		segment->mapped = true;
	}
	world.books.now_ns = WORLD_START_NS;
	model_region("slots", world.slots, sizeof(world.slots));
	model_region("books", &world.books, sizeof(world.books));
}

void world_compact(void)
{
	for (unsigned t = 0; t < MODEL_THREADS_MAX; t++) {
		world.segments[t].compact = (struct compact_table){
			.slots = world.compact,
			.groups = 2,
			.multiplier = { 1, 1 },
			.taken_ns = &world.header.taken.latest_ns,
			.claims = &world.header.taken.claims,
		};
		world.segments[t].table.taken_ns = &world.header.taken.latest_ns;
	}
	model_region("compact slots", world.compact, sizeof(world.compact));
	model_region("taken", &world.header.taken, sizeof(world.header.taken));
}

void world_caller_times(void)
{
	world.books.caller_times = true;
	for (unsigned t = 0; t < MODEL_THREADS_MAX; t++)
		world.segments[t].table.taken_ns = &world.header.taken.latest_ns;
	model_region("taken", &world.header.taken, sizeof(world.header.taken));
}

struct fingerprint world_fingerprint(unsigned key)
{
	return (struct fingerprint){
		.low = (uint64_t)(key + 1) << 8,
		.high = (uint64_t)(key & 1) << 63 | (uint64_t)(key + 1) << 32 | (key & 1),
	};
}

struct limit world_limit(void)
{
	return (struct limit){
		.limit = WORLD_BURST,
		.period_ns = WORLD_BURST * TOKEN_NS,
		.burst = WORLD_BURST,
		.token_ns = TOKEN_NS,
		.parts = 1,
		.tolerance_ns = (WORLD_BURST - 1) * TOKEN_NS,
	};
}

void world_place(unsigned at, unsigned key, uint64_t debt)
{
	struct slot *slot = &world.slots[at];
	struct account *account = &world.books.accounts[key];
	struct fingerprint fingerprint = world_fingerprint(key);

	account->used = debt ? debt : 1;
	account->time_ns = debt ? world.books.now_ns + debt * TOKEN_NS : world.books.now_ns - 1;
	slot->identity.first = fingerprint.low;
	slot->identity.second = (fingerprint.high & ~GENERATION_MASK) | 1;
	slot->state.first = account->time_ns;
	slot->state.second = account->used << STATE_USED_SHIFT | STATE_LIVE | 1;
	slot->owner = 1 | (uint64_t)(key + 1) << 40;
}

void world_place_compact(unsigned at, unsigned key, uint64_t debt)
{
	struct account *account = &world.books.accounts[key];

	account->used = debt ? debt : 1;
	account->time_ns = debt ? world.books.now_ns + debt * TOKEN_NS : world.books.now_ns - key;
	world.compact[at].word.first =
		compact_name(&world.segments[0].compact, world_fingerprint(key)) | account->used;
	world.compact[at].word.second = account->time_ns;
}

void world_retire(unsigned at, uint64_t owners)
{
	world.slots[at].identity.second = owners;
	world.slots[at].state.second = owners;
}

/* ---- Requests ----------------------------------------------------------- */

uint64_t world_now_ns(void)
{
	weir_model_step();
	return world.books.now_ns;
}

void world_wait(uint64_t tokens)
{
	weir_model_step();
	world.books.now_ns += tokens * TOKEN_NS;
}

void world_plan(struct plan *plan, struct weir_request *request, const unsigned *keys,
		uint32_t count, uint64_t cost)
{
	struct actor *actor = &world.books.actors[model_thread()];
	uint64_t now_ns = world_now_ns();

	memset(plan, 0, sizeof(*plan));
	memset(request, 0, sizeof(*request));
	request->key = "key";
	request->key_length = 3;
	request->cost = cost;
	request->now_ns = world.books.caller_times ? now_ns : 0;
	plan->segment = &world.segments[model_thread()];
	plan->request = request;
	plan->now_ns = now_ns;
	plan->cost = cost;
	plan->head.limit_count = count;
	for (uint32_t i = 0; i < count; i++) {
		plan->limits[i].limit = world_limit();
		plan->limits[i].fingerprint = world_fingerprint(keys[i]);
		plan->limits[i].verdict.allowed = true;
		actor->key_mask |= 1u << keys[i];
	}
	plan->head.serial = keys[0] + 1;
	actor->cost = cost;
	actor->now_ns = now_ns;
}

/* As plain_allow() in src/plain.h. */
HASH_TARGET static bool request_plainly(const struct plan *plan, const struct limit_record *record,
					enum plan_result *result)
{
	struct fingerprint fingerprint = plan->limits[0].fingerprint;
	struct slot *slot = table_slot(&plan->segment->table, fingerprint, 0);
	struct plain_policy known = {
		.version = plan->version,
		.token_ns = record->token_ns,
		.tolerance_ns = record->tolerance_ns,
	};
	uint64_t generation, debt_ns;
	enum quick_result plain_result;

	if (plan->request->cost != 1 || record->token_part != 0 ||
	    !plain_is_there(slot, fingerprint.low, fingerprint.high, &generation))
		return false;
	plain_result = plain_attempt(slot, &generation, &plan->segment->header->policy.version,
				     &known, plan->now_ns, &debt_ns);
	*result = plain_result == QUICK_ALLOWED ? PLAN_ALLOWED : PLAN_DENIED;
	return plain_result == QUICK_ALLOWED || plain_result == QUICK_DENIED;
}

/* As allow() in src/weir.c. */
HASH_TARGET static bool request_quickly(const struct plan *plan, enum plan_result *result)
{
	const struct limit *limit = &plan->limits[0].limit;
	const struct limit_record record = {
		.limit = limit->limit,
		.period_ns = limit->period_ns,
		.burst = limit->burst,
		.kind = (uint64_t)limit->algorithm,
		.token_ns = limit->token_ns,
		.token_part = limit->token_part,
		.parts = limit->parts,
		.tolerance_ns = limit->tolerance_ns,
		.tolerance_part = limit->tolerance_part,
	};
	struct fingerprint fingerprint = plan->limits[0].fingerprint;
	struct quick quick = {
		.version = plan->version,
		.limit = &record,
		.fingerprint = fingerprint,
		.slot = table_slot(&plan->segment->table, fingerprint, 0),
	};
	struct compact_quick compact = {
		.version = plan->version,
		.limit = &record,
		.fingerprint = fingerprint,
	};
	enum quick_result quick_result;

	if (plan->segment->compact.groups) {
		compact.name = compact_name(&plan->segment->compact, fingerprint);
		compact.line = compact_first_line(&plan->segment->compact, fingerprint);
		quick_result = compact_quick_spend(&compact, plan->segment, plan->now_ns,
						   plan->request->cost, NULL);
	} else if (request_plainly(plan, &record, result)) {
		return true;
	} else {
		quick_result = quick_spend(&quick, plan->segment, plan->now_ns,
					   plan->request->cost, NULL);
	}
	*result = quick_result == QUICK_ALLOWED ? PLAN_ALLOWED : PLAN_DENIED;
	return quick_result != QUICK_NOT;
}

static enum plan_result request(const unsigned *keys, uint32_t count, uint64_t cost, bool quick)
{
	struct actor *actor = &world.books.actors[model_thread()];
	struct weir_request weir_request;
	struct plan plan;
	enum plan_result result;

	world_plan(&plan, &weir_request, keys, count, cost);
	if (!quick || !request_quickly(&plan, &result))
		result = plan_spend(&plan, BUCKET_SPEND);
	for (uint32_t i = 0; result == PLAN_ALLOWED && i < count; i++)
		actor->granted[keys[i]] += cost;
	actor->denied += result == PLAN_DENIED;
	actor->failed += result != PLAN_ALLOWED && result != PLAN_DENIED;
	actor->key_mask = 0;
	return result;
}

enum plan_result world_request(unsigned key, uint64_t cost)
{
	return request(&key, 1, cost, true);
}

enum plan_result world_first_request(unsigned key, uint64_t cost)
{
	return request(&key, 1, cost, false);
}

enum plan_result world_request_two(unsigned key, unsigned other_key, uint64_t cost)
{
	const unsigned keys[2] = { key, other_key };

	return request(keys, 2, cost, false);
}

void world_reset(unsigned at, unsigned key)
{
	struct actor *actor = &world.books.actors[model_thread()];

	actor->key_mask = 1u << key;
	actor->cost = 0;
	weir_model_step();
	if ((world.compact[at].word.first & ~COMPACT_COUNT_MASK) ==
	    compact_name(&world.segments[0].compact, world_fingerprint(key)))
		world.compact[at].word.second = 0;
	actor->key_mask = 0;
}

/* ---- Stand-ins ---------------------------------------------------------- */

void counter_add_global(const struct segment *segment, enum counter_global counter, uint64_t value)
{
	(void)segment;
	world.books.counters[counter] += value;
}

void counter_add(const struct segment *segment, uint32_t policy_index, enum counter_policy counter,
		 uint64_t value)
{
	(void)segment, (void)policy_index, (void)counter, (void)value;
}

void counter_add_locked(const struct segment *segment, uint64_t *first, uint64_t value)
{
	(void)segment, (void)first, (void)value;
}

void counter_clear_policy(const struct segment *segment, uint32_t policy_index)
{
	(void)segment, (void)policy_index;
}

void note_key(const struct segment *segment, const struct bucket_ref *ref, const void *key,
	      size_t length)
{
	(void)segment, (void)ref, (void)key, (void)length;
}

_Thread_local uint64_t weir_note_random;
_Thread_local struct clock_cache weir_clock_cache;

void note_sampled_denial(const struct segment *segment, const struct slot *slot,
			 uint64_t generation)
{
	(void)segment, (void)slot, (void)generation;
}

uint64_t clock_refresh_ns(const struct segment *segment)
{
	(void)segment;
	return world_now_ns();
}

/* The kernel's answer is of the moment at which it is asked. */
bool participant_alive(const struct segment *segment, uint64_t id)
{
	(void)segment;
	weir_model_step();
	return id >= 1 && id <= MODEL_THREADS_MAX && !model_killed((unsigned)id - 1);
}

/* The library's clocks are the world's.  It decides by what it read last. */
int clock_gettime(clockid_t id, struct timespec *time)
{
	uint64_t now_ns = world_now_ns();

	(void)id;
	world.books.actors[model_thread()].now_ns = now_ns;
	time->tv_sec = 0;
	time->tv_nsec = (long)now_ns;
	return 0;
}

int weir_policy_check(const struct weir_policy *policy, struct weir_error *error)
{
	(void)policy;
	return weir_ok(error);
}
