/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels.c - what bench.c measures: decisions, beside the limits of the machine (limits.c).
 */
#include "perf/bench.h"

#include <sched.h>

/* Short slices of time, some hundred microseconds: what disturbs the machine longer
 * than that disturbs all kernels of a round alike. */
#define HOT_OPERATIONS 8000u
#define COLD_OPERATIONS 3200u

static volatile uint64_t sink;

/* ---- Decisions ----------------------------------------------------------- */

static void run_hot(struct state *state, unsigned operations)
{
	struct key key = key_of(0);

	for (unsigned i = 0; i < operations; i++)
		sink = weir_allow(state->weir, state->open_policy, &key, sizeof(key), NULL);
}

static void run_hot_decision(struct state *state, unsigned operations)
{
	struct key key = key_of(0);
	struct weir_decision decision;

	for (unsigned i = 0; i < operations; i++) {
		sink = weir_allow(state->weir, state->open_policy, &key, sizeof(key), &decision);
		sink = decision.remaining;
	}
}

/* The caller has read the clock for something else. */
static void run_hot_now(struct state *state, unsigned operations)
{
	struct key key = key_of(0);
	struct weir_request request = {
		.policy = state->open_policy,
		.key = &key,
		.key_length = sizeof(key),
		.cost = 1,
		.now_ns = now_ns(),
	};

	for (unsigned i = 0; i < operations; i++)
		sink = weir_decide(state->weir, &request, NULL);
}

/* In a segment that reads the processor's counter. */
static void run_hot_tsc(struct state *state, unsigned operations)
{
	struct key key = key_of(0);

	for (unsigned i = 0; i < operations; i++)
		sink = weir_allow(state->weir_tsc, state->tsc_policy, &key, sizeof(key), NULL);
}

/* By a policy that leases. */
static void run_hot_leased(struct state *state, unsigned operations)
{
	struct key key = key_of(0);

	for (unsigned i = 0; i < operations; i++)
		sink = weir_allow(state->weir, state->leased_policy, &key, sizeof(key), NULL);
}

/* By each thread a key of its own: nothing is shared but what all decisions share. */
static void run_own_leased(struct state *state, unsigned operations)
{
	struct key key = key_of((uint64_t)sched_getcpu());

	for (unsigned i = 0; i < operations; i++)
		sink = weir_allow(state->weir, state->leased_policy, &key, sizeof(key), NULL);
}

static void run_deny(struct state *state, unsigned operations)
{
	struct key key = key_of(0);

	for (unsigned i = 0; i < operations; i++)
		sink = weir_allow(state->weir, state->closed_policy, &key, sizeof(key), NULL);
}

/* In a compact segment. */
static void run_hot_compact(struct state *state, unsigned operations)
{
	struct key key = key_of(0);

	for (unsigned i = 0; i < operations; i++)
		sink = weir_allow(state->weir_compact, state->compact_policy, &key, sizeof(key), NULL);
}

/* One of many keys; ALONE: each call waits for the one before it. */
static inline __attribute__((always_inline)) void
decide_keys(struct state *state, struct weir *weir, weir_policy_id policy, unsigned operations,
	    bool alone)
{
	for (unsigned i = 0; i < operations; i++) {
		struct key key = key_of(below(&state->random, state->keys));

		sink = weir_allow(weir, policy, &key, sizeof(key), NULL);
		if (alone)
			end_operation();
	}
}

static void run_keys(struct state *state, unsigned operations)
{
	decide_keys(state, state->weir, state->open_policy, operations, false);
}

static void run_keys_alone(struct state *state, unsigned operations)
{
	decide_keys(state, state->weir, state->open_policy, operations, true);
}

static void run_keys_tsc(struct state *state, unsigned operations)
{
	decide_keys(state, state->weir_tsc, state->tsc_policy, operations, false);
}

static void run_keys_tsc_alone(struct state *state, unsigned operations)
{
	decide_keys(state, state->weir_tsc, state->tsc_policy, operations, true);
}

static void run_keys_dense(struct state *state, unsigned operations)
{
	decide_keys(state, state->weir_dense, state->dense_policy, operations, false);
}

static void run_keys_dense_alone(struct state *state, unsigned operations)
{
	decide_keys(state, state->weir_dense, state->dense_policy, operations, true);
}

static void run_keys_lean(struct state *state, unsigned operations)
{
	decide_keys(state, state->weir_lean, state->lean_policy, operations, false);
}

static void run_keys_lean_alone(struct state *state, unsigned operations)
{
	decide_keys(state, state->weir_lean, state->lean_policy, operations, true);
}

static void run_keys_compact(struct state *state, unsigned operations)
{
	decide_keys(state, state->weir_compact, state->compact_policy, operations, false);
}

static void run_keys_compact_alone(struct state *state, unsigned operations)
{
	decide_keys(state, state->weir_compact, state->compact_policy, operations, true);
}

/* More than what the key's debt leaves of the burst. */
static void run_deny_keys(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		struct key key = key_of(below(&state->random, state->keys));

		sink = weir_allow_n(state->weir, state->open_policy, &key, sizeof(key),
				    2 * OPEN_DEBT - 1, NULL);
	}
}

static void decide_batches(struct state *state, struct weir *weir, weir_policy_id policy,
			   unsigned operations)
{
	struct weir_request requests[BATCH];
	struct weir_decision decisions[BATCH];
	struct key keys[BATCH];

	for (unsigned i = 0; i < operations; i += BATCH) {
		for (unsigned j = 0; j < BATCH; j++) {
			keys[j] = key_of(below(&state->random, state->keys));
			requests[j] = (struct weir_request){
				.policy = policy,
				.key = &keys[j],
				.key_length = sizeof(keys[j]),
				.cost = 1,
			};
		}
		sink = weir_decide_batch(weir, requests, decisions, BATCH);
	}
}

static void run_batch(struct state *state, unsigned operations)
{
	decide_batches(state, state->weir, state->open_policy, operations);
}

static void run_batch_compact(struct state *state, unsigned operations)
{
	decide_batches(state, state->weir_compact, state->compact_policy, operations);
}

/* ---- Every key is new ---------------------------------------------------- */

static void run_churn(struct churn *churn, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		struct key key = key_of(churn->next++);

		sink = weir_allow(churn->weir, churn->policy, &key, sizeof(key), NULL);
	}
}

static void run_churn_alone(struct churn *churn, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		run_churn(churn, 1);
		end_operation();
	}
}

#define INSERT_LIMIT "1/1h burst 100"   /* lives longer than the run */
#define EXPIRE_LIMIT "1000000/1s"       /* free again after a microsecond */

/* Into a table of which less than half is used: a new one when it is. */
static void before_insert(struct state *state, unsigned operations)
{
	struct churn *insert = &state->insert;

	if (insert->next - FIRST_NEW_KEY + operations <= insert->slots / 2)
		return;
	weir_close(insert->weir);
	churn_open(insert, state->keys, INSERT_LIMIT, false);
}

static void run_insert(struct state *state, unsigned operations)
{
	run_churn(&state->insert, operations);
}

static void run_evict_compact(struct state *state, unsigned operations)
{
	run_churn(&state->evict_compact, operations);
}

static void run_full_compact(struct state *state, unsigned operations)
{
	run_churn(&state->full_compact, operations);
}

static void run_expire(struct state *state, unsigned operations)
{
	run_churn(&state->expire, operations);
}

static void run_evict(struct state *state, unsigned operations)
{
	run_churn(&state->evict, operations);
}

static void run_full(struct state *state, unsigned operations)
{
	run_churn(&state->full, operations);
}

static void run_evict_alone(struct state *state, unsigned operations)
{
	run_churn_alone(&state->evict, operations);
}

static void run_full_alone(struct state *state, unsigned operations)
{
	run_churn_alone(&state->full, operations);
}

/* ---- The rivals ---------------------------------------------------------- */

static void run_rival(struct state *state, struct rival *rival, uint64_t keys, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		struct key key = key_of(keys == 1 ? 0 : below(&state->random, keys));

		sink = rival_allow(rival, &key);
	}
}

static void run_striped_hot(struct state *state, unsigned operations)
{
	run_rival(state, state->striped, 1, operations);
}

static void run_striped_keys(struct state *state, unsigned operations)
{
	run_rival(state, state->striped, state->keys, operations);
}

static void run_mutex_keys(struct state *state, unsigned operations)
{
	run_rival(state, state->mutex, state->keys, operations);
}

/* ---- The table ----------------------------------------------------------- */

#define HOT .operations = HOT_OPERATIONS
#define COLD .operations = COLD_OPERATIONS
#define TWICE .twice = true

struct kernel kernels[] = {
	{ "clock", NULL, "read CLOCK_BOOTTIME", run_clock, HOT },
	{ "bare", NULL, "the limit, in cache: clock, load, compare-and-swap", run_bare, HOT },
	{ "bare_tsc", NULL, "the same with the processor's counter", run_bare_tsc, HOT },
	{ "hot", "bare", "allow one key", run_hot, HOT },
	{ "hot_decision", "bare", "the same, with remaining and times", run_hot_decision, HOT },
	{ "hot_now", "bare", "allow one key at the caller's time", run_hot_now, HOT },
	{ "hot_tsc", "bare_tsc", "allow one key, clock TSC", run_hot_tsc, HOT },
	{ "hot_leased", "hot", "allow one key by a policy that leases", run_hot_leased, HOT },
	{ "deny", "clock", "deny one key", run_deny, HOT },
	{ "miss", NULL, "the limit, out of cache: one miss, clock, compare-and-swap", run_miss,
	  COLD },
	{ "keys", "miss", "allow one of many keys", run_keys, COLD },
	{ "miss_tsc", "miss", "the same with the processor's counter", run_miss_tsc, COLD },
	{ "miss_batch", "miss", "the limit in batches of 16", run_miss_batch, COLD },
	{ "miss_window", "miss", "the limit of a new key: two groups of eight lines",
	  run_miss_window, COLD },
	{ "miss_alone", NULL, "as miss, each waiting for the one before it", run_miss_alone, COLD },
	{ "keys_alone", "miss_alone", "as keys, each waiting for the one before it",
	  run_keys_alone, COLD },
	{ "keys_tsc", "miss", "allow one of many keys, clock TSC", run_keys_tsc, COLD },
	{ "keys_tsc_alone", "miss_alone", "each waiting for the one before it", run_keys_tsc_alone,
	  COLD },
	{ "deny_keys", "keys", "deny one of many keys", run_deny_keys, COLD },
	{ "batch", "keys", "allow, in batches of 16", run_batch, COLD },
	{ "keys_dense", "keys", "allow one of many keys, 1.3 slots for each", run_keys_dense, COLD },
	{ "keys_dense_alone", "keys_alone", "each waiting for the one before it",
	  run_keys_dense_alone, COLD },
	{ "keys_lean", "keys", "the same, no key kept and 1.2 slots for each", run_keys_lean, COLD },
	{ "keys_lean_alone", "keys_alone", "each waiting for the one before it",
	  run_keys_lean_alone, COLD },
	{ "hot_compact", "bare", "allow one key, compact segment", run_hot_compact, HOT },
	{ "keys_compact", "miss", "allow one of many keys, compact segment", run_keys_compact, COLD },
	{ "keys_compact_alone", "miss_alone", "each waiting for the one before it",
	  run_keys_compact_alone, COLD },
	{ "batch_compact", "keys_compact", "in batches of 16, compact segment", run_batch_compact,
	  COLD },
	{ "insert", "keys", "a new key, in a table at most half full", run_insert, COLD,
	  .before = before_insert },
	{ "expire", "keys", "a new key, in place of an expired one", run_expire, COLD },
	{ "evict", "keys", "a new key, in place of a live one: a flood", run_evict, COLD },
	{ "full", "keys", "a new key, all slots are heavier: the fail mode", run_full, COLD },
	{ "evict_alone", "keys_alone", "as evict, each waiting for the one before it",
	  run_evict_alone, COLD },
	{ "full_alone", "keys_alone", "as full, each waiting for the one before it",
	  run_full_alone, COLD },
	{ "evict_compact", "keys_compact", "a flood, compact segment", run_evict_compact, COLD },
	{ "full_compact", "keys_compact", "a full table, compact segment", run_full_compact, COLD },
	{ "striped_hot", "hot", "1,024 process-shared locks, one key", run_striped_hot, HOT },
	{ "striped_keys", "keys", "1,024 process-shared locks, many keys", run_striped_keys, COLD },
	{ "mutex_keys", "keys", "one process-shared lock, many keys", run_mutex_keys, COLD },
	{ "two_clock", "clock", "two threads, each reads the clock", run_clock, HOT, TWICE },
	{ "two_bare", "bare", "two threads, the limit on one line", run_bare, HOT, TWICE },
	{ "two_hot", "hot", "two threads allow one key; a call of one", run_hot, HOT, TWICE },
	{ "two_hot_leased", "hot", "the same by a policy that leases; a call of one", run_hot_leased,
	  HOT, TWICE },
	{ "two_own_leased", "hot", "the same, each its own key", run_own_leased, HOT, TWICE },
	{ "two_deny", "deny", "two threads deny one key", run_deny, HOT, TWICE },
	{ "two_miss", "miss", "two threads, the limit out of cache", run_miss, COLD, TWICE },
	{ "two_miss_tsc", "miss_tsc", "the same with the processor's counter", run_miss_tsc, COLD,
	  TWICE },
	{ "two_keys", "keys", "two threads, many keys", run_keys, COLD, TWICE },
	{ "two_hot_tsc", "hot_tsc", "two threads allow one key, clock TSC", run_hot_tsc, HOT, TWICE },
	{ "two_keys_tsc", "keys_tsc", "two threads, many keys, clock TSC", run_keys_tsc, COLD,
	  TWICE },
	{ "two_striped", "two_keys", "the same with 1,024 locks", run_striped_keys, COLD, TWICE },
	{ "two_mutex", "two_keys", "the same with one lock", run_mutex_keys, COLD, TWICE },
};

const unsigned kernel_count = sizeof(kernels) / sizeof(kernels[0]);

/* ---- Setting up ---------------------------------------------------------- */

static bool chosen(void (*run)(struct state *state, unsigned operations))
{
	for (unsigned k = 0; k < kernel_count; k++) {
		if (kernels[k].run == run && kernels[k].chosen)
			return true;
	}
	return false;
}

void kernels_prepare(struct state *state)
{
	prepare_lines(state);
	prepare_weir(state);
	if (chosen(run_hot_tsc) || chosen(run_keys_tsc) || chosen(run_keys_tsc_alone))
		prepare_tsc(state);
	if (chosen(run_striped_hot) || chosen(run_striped_keys))
		state->striped = prepare_rival(state, STRIPES);
	if (chosen(run_mutex_keys))
		state->mutex = prepare_rival(state, 1);
	if (chosen(run_hot_compact) || chosen(run_keys_compact) || chosen(run_keys_compact_alone) ||
	    chosen(run_batch_compact))
		prepare_compact(state);
	if (chosen(run_keys_dense) || chosen(run_keys_dense_alone))
		prepare_dense(state);
	if (chosen(run_keys_lean) || chosen(run_keys_lean_alone))
		prepare_lean(state);
	if (chosen(run_insert))
		churn_open(&state->insert, state->keys, INSERT_LIMIT, false);
	if (chosen(run_expire)) {
		churn_open(&state->expire, state->keys, EXPIRE_LIMIT, false);
		churn_fill(&state->expire, 1);
	}
	if (chosen(run_evict) || chosen(run_evict_alone)) {
		churn_open(&state->evict, state->keys, INSERT_LIMIT, false);
		churn_fill(&state->evict, 1);
	}
	if (chosen(run_full) || chosen(run_full_alone)) {
		churn_open(&state->full, state->keys, INSERT_LIMIT, false);
		churn_fill(&state->full, 50);
	}
	if (chosen(run_evict_compact)) {
		churn_open(&state->evict_compact, state->keys, INSERT_LIMIT, true);
		churn_fill(&state->evict_compact, 1);
	}
	if (chosen(run_full_compact)) {
		churn_open(&state->full_compact, state->keys, INSERT_LIMIT, true);
		churn_fill(&state->full_compact, 50);
	}
}
