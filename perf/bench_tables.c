/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_tables.c - the tables that the kernels of bench.c use, filled before they are timed.
 */
#include "perf/bench.h"

#include <unistd.h>

#define CHURN_SLOTS_MAX (1ull << 20)    /* 64 MiB of slots: more than most caches */

/* ---- Many keys ----------------------------------------------------------- */

void prepare_lines(struct state *state)
{
	state->lines = table_map(2 * state->keys * sizeof(*state->lines));
}

static weir_policy_id charge_keys(struct weir *weir, uint64_t keys)
{
	weir_policy_id policy = policy_define(weir, "open", OPEN_LIMIT, WEIR_FAIL_SHARE);

	for (uint64_t i = 0; i < keys; i++) {
		struct key key = key_of(i);

		weir_allow_n(weir, policy, &key, sizeof(key), OPEN_DEBT, NULL);
	}
	return policy;
}

static weir_policy_id prepare_segment(struct weir **weir, uint64_t keys,
				     const struct weir_options *options)
{
	*weir = segment_open_new(options);
	return charge_keys(*weir, keys);
}

static weir_policy_id lease_define(struct weir *weir, const char *name, const char *limit)
{
	struct weir_policy policy;
	struct weir_error error;

	policy_define(weir, name, limit, WEIR_FAIL_SHARE);
	if (weir_policy_get(weir, name, &policy, &error))
		die(name, error.message);
	policy.consistency = WEIR_LOCAL;
	policy.lease = true;
	if (weir_policy_set(weir, &policy, 1, &error))
		die(name, error.message);
	return weir_policy_find(weir, name);
}

/* Slots in plenty. */
static void roomy_options(struct weir_options *options, uint64_t keys)
{
	weir_options_init(options);
	options->slots = 64;
	while (options->slots < 2 * keys)
		options->slots *= 2;
}

void prepare_weir(struct state *state)
{
	struct weir_options options;
	struct key hot = key_of(0);

	roomy_options(&options, state->keys);
	state->weir = segment_open_new(&options);
	/* Before the many: so hot keys have the first slots of their windows, whoever asks. */
	state->closed_policy = policy_define(state->weir, "closed", CLOSED_LIMIT, WEIR_FAIL_SHARE);
	weir_allow(state->weir, state->closed_policy, &hot, sizeof(hot), NULL);
	state->leased_policy = lease_define(state->weir, "leased", OPEN_LIMIT);
	weir_allow(state->weir, state->leased_policy, &hot, sizeof(hot), NULL);
	state->open_policy = charge_keys(state->weir, state->keys);
}

void prepare_tsc(struct state *state)
{
	struct weir_options options;

	roomy_options(&options, state->keys);
	options.clock = WEIR_CLOCK_TSC;
	state->tsc_policy = prepare_segment(&state->weir_tsc, state->keys, &options);
	/* A calibration takes three readings, two tenths of a second apart (shm/clock.c). */
	for (int reading = 0; reading < 4; reading++) {
		weir_now_ns(state->weir_tsc);
		usleep(250000);
	}
}

/* Five slots for each three keys, as is advised. */
void prepare_compact(struct state *state)
{
	struct weir_options options;

	weir_options_init(&options);
	options.slots = state->keys / 3 * 5 + 64;
	options.compact = true;
	state->compact_policy = prepare_segment(&state->weir_compact, state->keys, &options);
}

/* 1.3 slots for each key, as is advised. */
void prepare_dense(struct state *state)
{
	struct weir_options options;

	weir_options_init(&options);
	options.slots = state->keys * 13 / 10;
	state->dense_policy = prepare_segment(&state->weir_dense, state->keys, &options);
}

/* The least that slots which are not compact can do with: fuller, and nothing of the keys. */
void prepare_lean(struct state *state)
{
	struct weir_options options;

	weir_options_init(&options);
	options.slots = state->keys * 12 / 10;
	options.key_bytes = 0;
	state->lean_policy = prepare_segment(&state->weir_lean, state->keys, &options);
}

struct rival *prepare_rival(const struct state *state, unsigned mutexes)
{
	struct rival *rival = rival_create(mutexes, state->keys);

	for (uint64_t i = 0; i < state->keys; i++) {
		struct key key = key_of(i);

		rival_allow(rival, &key);
	}
	return rival;
}

/* ---- Every key is new ---------------------------------------------------- */

void churn_open(struct churn *churn, uint64_t keys, const char *limit, bool compact)
{
	struct weir_options options;

	weir_options_init(&options);
	churn->slots = 64;
	while (churn->slots < 2 * keys && churn->slots < CHURN_SLOTS_MAX)
		churn->slots *= 2;
	options.slots = churn->slots;
	options.compact = compact;
	churn->weir = segment_open_new(&options);
	churn->policy = policy_define(churn->weir, "churn", limit, WEIR_FAIL_OPEN);
	churn->next = FIRST_NEW_KEY;
}

void churn_fill(struct churn *churn, uint64_t cost)
{
	for (uint64_t i = 0; i < 2 * churn->slots; i++) {
		struct key key = key_of(churn->next++);

		weir_allow_n(churn->weir, churn->policy, &key, sizeof(key), cost, NULL);
	}
}
