/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A compact segment under 128 threads: they charge kept keys, give back, force, and meet
 * at keys that nobody has seen before, while others flood the table and one changes the
 * policies.  Afterwards each kept key's debt is, to the nanosecond, that of the tokens
 * that were granted, and no new key has granted more than it had.
 *
 * All requests but the flood's are of one moment, so that nothing drains.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "tests/support.h"

#define THREADS 128
#define KEYS 8                  /* kept */
#define FRESH 64                /* new ones */
#define FRESH_TOKENS 3
#define START_NS 1000000000000000000ull
#define DAYS_NS (86400ull * 1000000000)

enum policy { KEPT, PAIR, NEW, FLOOD, POLICIES };

static const char *const names[POLICIES] = { "kept", "pair", "new", "flood" };

struct stage {
	uint64_t seed;
	struct weir *weir;
	weir_policy_id ids[POLICIES];
	uint64_t operations;            /* of each thread */
	uint32_t deciding;              /* threads that are not done */
	uint64_t flood;                 /* keys so far */
	uint64_t granted[2][KEYS];      /* of KEPT and PAIR, less refunds */
	uint64_t fresh[FRESH];          /* of NEW */
};

static struct stage stage;

/* Tokens of 7 parts; PAIR's second limit denies when the first would not. */
static struct weir_policy policy_of(enum policy policy, bool other)
{
	switch (policy) {
	case KEPT:
		return support_policy(names[policy], other ? "700000/100d burst 2000000" :
							     "700000/100d burst 2800000", NULL);
	case PAIR:
		return support_policy(names[policy], "1000000/100d", other ? "700000/100d burst 1600" :
									     "700000/100d burst 1700",
				      NULL);
	case NEW:
		return support_policy(names[policy], "3/100d", NULL);
	default:
		return support_policy(names[policy], other ? "100/1s" : "101/1s", NULL);
	}
}

/* Was it a bucket that granted the request, not the fail mode? */
static uint64_t take(enum policy policy, uint64_t key, uint64_t cost)
{
	struct weir_request request = { stage.ids[policy], &key, sizeof(key), cost, START_NS };
	struct weir_decision decision;

	return weir_decide(stage.weir, &request, &decision) &&
		       decision.reason == WEIR_REASON_LIMIT ? cost : 0;
}

static void add(uint64_t *sum, uint64_t value)
{
	__atomic_add_fetch(sum, value, __ATOMIC_RELAXED);
}

static void do_kept(struct random_state *random)
{
	uint64_t key = random_below(random, KEYS);

	add(&stage.granted[KEPT][key], take(KEPT, key, 1 + random_below(random, 9)));
}

static void do_pair(struct random_state *random)
{
	uint64_t key = random_below(random, KEYS);

	add(&stage.granted[PAIR][key], take(PAIR, key, 1 + random_below(random, 3)));
}

static void do_back(struct random_state *random)
{
	uint64_t key = random_below(random, KEYS);
	enum policy policy = random_below(random, 2) ? KEPT : PAIR;
	struct weir_request back = { stage.ids[policy], &key, sizeof(key), 2, START_NS };
	uint64_t taken = take(policy, key, 3);
	struct weir_decision decision;

	if (taken == 0)
		return;
	must(weir_refund(stage.weir, &back, &decision));
	add(&stage.granted[policy][key], taken - back.cost);
}

static void do_force(struct random_state *random)
{
	uint64_t key = random_below(random, KEYS);
	struct weir_request request = { stage.ids[KEPT], &key, sizeof(key), 2, START_NS };
	struct weir_decision decision;

	if (weir_force_take(stage.weir, &request, &decision) &&
	    decision.reason == WEIR_REASON_LIMIT)
		add(&stage.granted[KEPT][key], request.cost);
}

static void do_batch(struct random_state *random)
{
	struct weir_request requests[20];
	struct weir_decision decisions[20];
	uint64_t keys[20];

	for (size_t i = 0; i < 20; i++) {
		keys[i] = random_below(random, KEYS);
		requests[i] = (struct weir_request){ stage.ids[KEPT], &keys[i], sizeof(keys[i]), 1,
						     START_NS };
	}
	weir_decide_batch(stage.weir, requests, decisions, 20);
	for (size_t i = 0; i < 20; i++) {
		if (decisions[i].outcome == WEIR_ALLOWED &&
		    decisions[i].reason == WEIR_REASON_LIMIT)
			add(&stage.granted[KEPT][keys[i]], 1);
	}
}

static void do_flood(struct random_state *random)
{
	(void)random;
	for (int i = 0; i < 8; i++) {
		uint64_t key = __atomic_add_fetch(&stage.flood, 1, __ATOMIC_RELAXED);
		struct weir_request request = { stage.ids[FLOOD], &key, sizeof(key), 1,
						START_NS + key * 1000 };

		must(weir_decide(stage.weir, &request, NULL));
	}
}

static void *decide(void *argument)
{
	static void (*const operations[])(struct random_state *) = {
		do_kept, do_pair, do_back, do_force, do_batch, do_flood, do_flood,
	};
	struct random_state random = random_start(stage.seed, (uintptr_t)argument);

	for (uint64_t i = 0; i < stage.operations; i++) {
		uint64_t key = i * FRESH / stage.operations;

		/* All threads ask for the same new keys at about the same time. */
		add(&stage.fresh[key], take(NEW, key, 1));
		operations[random_below(&random, sizeof(operations) / sizeof(operations[0]))](
			&random);
		if (i % 8 == 0)
			sched_yield();
	}
	__atomic_sub_fetch(&stage.deciding, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void *control(void *argument)
{
	struct random_state random = random_start(stage.seed, THREADS);

	(void)argument;
	do {
		struct weir_policy policy = policy_of((enum policy)random_below(&random, POLICIES),
						      random_below(&random, 2));

		must(weir_policy_set(stage.weir, &policy, 1, NULL) == WEIR_OK);
		must(weir_check(stage.weir, NULL, NULL) == 1);  /* its name is gone */
		sched_yield();
	} while (__atomic_load_n(&stage.deciding, __ATOMIC_RELAXED) > 0);
	return NULL;
}

/* The debt of KEY in limit LIMIT_INDEX, of which a token is PERIOD / TOKENS. */
static void must_owe(enum policy policy, uint32_t limit_index, uint64_t key, uint64_t tokens,
		     uint64_t period_ns, uint64_t limit)
{
	struct weir_request request = { stage.ids[policy], &key, sizeof(key), 0, START_NS };
	struct weir_decision decision;

	weir_status(stage.weir, &request, &decision);
	ck_assert_uint_eq(decision.limit_index, limit_index);
	ck_assert_uint_eq(decision.reset_after_ns,
			  (uint64_t)((unsigned __int128)tokens * period_ns / limit));
}

static void compare(void)
{
	struct weir_policy first = support_policy("pair", "1000000/100d", NULL);
	struct weir_policy second = support_policy("pair", "1000000/100d", "700000/100d burst 1", NULL);

	for (uint64_t key = 0; key < KEYS; key++) {
		must_owe(KEPT, 0, key, stage.granted[KEPT][key], 100 * DAYS_NS, 700000);
		support_define(stage.weir, &first);
		must_owe(PAIR, 0, key, stage.granted[PAIR][key], 100 * DAYS_NS, 1000000);
		support_define(stage.weir, &second);
		must_owe(PAIR, 1, key, stage.granted[PAIR][key], 100 * DAYS_NS, 700000);
	}
	/* One may wait: a bucket that was claimed behind a later one of the flood begins at
	 * that one's time. */
	for (uint64_t key = 0; key < FRESH; key++) {
		ck_assert_uint_ge(stage.fresh[key], FRESH_TOKENS - 1);
		ck_assert_uint_le(stage.fresh[key], FRESH_TOKENS);
	}
	ck_assert_uint_gt(support_counter(stage.weir, "evicted_live", NULL), 0);
	ck_assert_uint_gt(support_counter(stage.weir, "denied", "pair"), 0);
}

START_TEST(test_everything_at_once)
{
	struct weir_options options;
	pthread_t threads[THREADS + 1];

	support_options(&options);
	stage.seed = support_seed();
	options.slots = 512;
	options.clock = WEIR_CLOCK_CALLER;
	options.compact = true;
	stage.weir = support_segment(&options);
	stage.operations = support_amount(FRESH * 8, FRESH * 400);
	stage.deciding = THREADS;
	for (int i = 0; i < POLICIES; i++) {
		struct weir_policy policy = policy_of((enum policy)i, false);

		stage.ids[i] = support_define(stage.weir, &policy);
	}
	/* Debts that no flood outweighs. */
	for (uint64_t key = 0; key < KEYS; key++) {
		stage.granted[KEPT][key] = take(KEPT, key, 1000);
		stage.granted[PAIR][key] = take(PAIR, key, 1000);
		ck_assert_uint_eq(stage.granted[KEPT][key] + stage.granted[PAIR][key], 2000);
	}
	for (uintptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, decide, (void *)i), 0);
	ck_assert_int_eq(pthread_create(&threads[THREADS], NULL, control, NULL), 0);
	for (size_t i = 0; i <= THREADS; i++)
		pthread_join(threads[i], NULL);
	compare();
	weir_close(stage.weir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("compact threads");

	support_add(suite, "everything at once", test_everything_at_once, 60);
	return support_main(suite);
}
