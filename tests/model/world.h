/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.h - a small segment in static memory, its clock, and the books that tell
 * whether the code kept its word.
 *
 * A window is all there is: WINDOW_SLOTS slots, which every key shares.  Keys are
 * small numbers; an even key begins at the first group, an odd one at the second.
 * All limits of a request are a token bucket of WORLD_BURST tokens that gets one
 * every TOKEN_NS.
 */
#ifndef WEIR_TESTS_MODEL_WORLD_H
#define WEIR_TESTS_MODEL_WORLD_H

#include "shm/counter.h"
#include "src/plan.h"
#include "tests/model/model.h"

#define WORLD_KEYS 8u
#define WORLD_RECORDS 2u
#define WORLD_START_NS 1000u
#define WORLD_BURST 4u
#define TOKEN_NS 10u

/* What a thread is doing, and what it was told. */
struct actor {
	uint64_t key_mask;              /* keys that it may charge now; 0: at rest */
	uint64_t cost;
	uint64_t now_ns;                /* as it read the clock */
	uint64_t granted[WORLD_KEYS];   /* tokens */
	uint64_t denied;
	uint64_t failed;                /* full, contended */
};

/* What is true of a key, whatever the table says: from the changes as they
 * happened, one by one. */
struct account {
	uint64_t time_ns;
	uint64_t used;                  /* since its bucket was made */
	uint64_t charged;               /* in all, less what was refunded */
	uint64_t evicted;               /* how often its bucket was taken in debt */
};

struct books {
	uint64_t now_ns;                /* the world's clock */
	bool caller_times;              /* requests carry their reading of it */
	struct actor actors[MODEL_THREADS_MAX];
	struct account accounts[WORLD_KEYS];
	uint64_t counters[COUNTER_GLOBAL_COUNT];
	uint64_t own[8];                /* the scenario's */
};

struct world {
	struct segment segments[MODEL_THREADS_MAX];     /* each thread is a process */
	struct segment_header header;
	struct slot slots[WINDOW_SLOTS];
	struct compact_slot compact[COMPACT_WINDOW_SLOTS];
	struct hold_record records[WORLD_RECORDS];
	struct policy_record banks[2];
	struct policy_switch fail_mode;
	struct books books;
};

extern struct world world;

/* An empty segment; for setup(). */
void world_init(void);

/* The segment is compact; for setup(), behind world_init(). */
void world_compact(void);

/* Requests carry their times; for setup(), behind world_init(). */
void world_caller_times(void);

struct fingerprint world_fingerprint(unsigned key);
struct limit world_limit(void);

/* Give KEY a bucket in SLOT (as in the probe order of an even key) with a debt of
 * DEBT tokens; 0: expired.  A debt above the burst is a bystander's. */
void world_place(unsigned slot, unsigned key, uint64_t debt);

/* The same in a compact segment, where a bucket of 0 tokens has been free for KEY ns. */
void world_place_compact(unsigned slot, unsigned key, uint64_t debt);

/* A slot of nobody that had OWNERS before. */
void world_retire(unsigned slot, uint64_t owners);

/* Read the clock and ask for COST tokens of KEY, as src/weir.c does: the quick way,
 * then the general one.  world_first_request() leaves the quick way out, as is done
 * for a key that has no bucket; world_request_two() is for a policy of two limits. */
enum plan_result world_request(unsigned key, uint64_t cost);
enum plan_result world_first_request(unsigned key, uint64_t cost);
enum plan_result world_request_two(unsigned key, unsigned other_key, uint64_t cost);

/* Fill KEY's bucket in compact slot AT, in one step. */
void world_reset(unsigned at, unsigned key);

/* A plan of COUNT limits for the running thread, at NOW.  REQUEST must outlive it. */
void world_plan(struct plan *plan, struct weir_request *request, const unsigned *keys,
		uint32_t count, uint64_t cost);

/* The clock: reading it is an access of its own, and so is moving it. */
uint64_t world_now_ns(void);
void world_wait(uint64_t tokens);

/* ---- watch.c ------------------------------------------------------------ */

/* moved(): what THREAD just did to the table is one of the steps that table.c and
 * bucket.c promise, done to its own key, and no charge was lost or made twice. */
void watch_table(unsigned thread);

/* The same of the compact table. */
void watch_compact(unsigned thread);

/* ended(): what was granted is what was charged. */
void watch_balance(unsigned unfinished);

#endif
