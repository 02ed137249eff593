/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 128 threads on one mapping, every function of the header at once, on a few hot
 * keys and on many that push each other out; meanwhile others open and close
 * handles, change policies and fork.  Under ThreadSanitizer this must be silent,
 * and under all three tokens must be conserved:
 *
 *   consumed, says the bucket  ==  granted, less refunds, say the threads
 *
 * for keys that are only charged and refunded, whatever happens to their policy.
 * The number of operations bounds it, not time.  Threads yield now and then: on
 * two cores, spinning readers would make a grace period last seconds.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "tests/support.h"

#define DECIDERS 118
#define CLOSERS 4               /* + 4 that open and close, 4 of control, 1 forks: 127, and main */
#define CONTROLLERS 4
#define YIELD_EVERY 200

#define KEYS 16                 /* conserved ones; the first is everybody's favourite */
#define MANY 4096               /* keys for 1024 slots */
#define DOORS 3
#define DOOR_WIDTH 4

enum policy { KEPT, PAIR, WINDOWS, CHURN, DOOR, POLICIES };

static const char *const names[POLICIES] = { "kept", "pair", "windows", "churn", "door" };

struct stage {
	struct weir *weir;
	char name[128];
	char other[128];                        /* a segment that is opened and closed */
	weir_policy_id ids[POLICIES];
	uint64_t seed;
	uint64_t operations;                    /* of each decider */
	uint32_t deciding;                      /* deciders that are not done */
	uint64_t granted[2][KEYS];              /* of KEPT and PAIR, less refunds */
	uint32_t inside[DOORS];                 /* units held now */
};

static struct stage stage;

struct decider {
	pthread_t thread;
	uint64_t index;
	struct random_state random;
	uint64_t granted[2][KEYS];
};

/* ---- Deciders ---------------------------------------------------------- */

static uint64_t kept_key(struct random_state *random)
{
	return random_next(random) & 1 ? 0 : random_below(random, KEYS);
}

static struct weir_request request_for(enum policy policy, const uint64_t *key, uint64_t cost)
{
	return (struct weir_request){
		.policy = stage.ids[policy],
		.key = key,
		.key_length = sizeof(*key),
		.cost = cost,
	};
}

/* Was it a bucket that granted the request, not the fail mode? */
static bool counted(bool pass, const struct weir_decision *decision)
{
	return pass && decision->reason == WEIR_REASON_LIMIT;
}

static void do_allow(struct decider *decider)
{
	uint64_t key = kept_key(&decider->random);
	enum policy policy = random_next(&decider->random) & 1 ? KEPT : PAIR;
	struct weir_decision decision;

	if (counted(weir_allow(stage.weir, stage.ids[policy], &key, sizeof(key), &decision),
		    &decision))
		decider->granted[policy][key] += 1;
}

/* What is given back was taken by this thread, so the bucket has it. */
static void do_allow_and_refund(struct decider *decider)
{
	uint64_t key = kept_key(&decider->random);
	uint64_t cost = 1 + random_below(&decider->random, 9);
	enum policy policy = random_next(&decider->random) & 1 ? KEPT : PAIR;
	struct weir_request back = request_for(policy, &key, random_below(&decider->random, cost));
	struct weir_decision decision;

	if (!counted(weir_allow_n(stage.weir, stage.ids[policy], &key, sizeof(key), cost,
				  &decision), &decision))
		return;
	decider->granted[policy][key] += cost;
	must(weir_refund(stage.weir, &back, &decision));
	must(decision.reason == WEIR_REASON_LIMIT);
	decider->granted[policy][key] -= back.cost;
}

static void do_force(struct decider *decider)
{
	uint64_t key = kept_key(&decider->random);
	struct weir_request request = request_for(KEPT, &key, 3);
	struct weir_decision decision;

	if (counted(weir_force_take(stage.weir, &request, &decision), &decision))
		decider->granted[KEPT][key] += 3;
}

static void do_batch(struct decider *decider)
{
	struct weir_request requests[20];
	struct weir_decision decisions[20];
	uint64_t keys[20];

	for (size_t i = 0; i < 20; i++) {
		keys[i] = i & 1 ? random_below(&decider->random, MANY) : kept_key(&decider->random);
		requests[i] = request_for(i & 1 ? CHURN : KEPT, &keys[i], 1);
	}
	weir_decide_batch(stage.weir, requests, decisions, 20);
	for (size_t i = 0; i < 20; i += 2) {
		if (counted(decisions[i].outcome == WEIR_ALLOWED, &decisions[i]))
			decider->granted[KEPT][keys[i]] += 1;
	}
}

static void do_churn(struct decider *decider)
{
	for (int i = 0; i < 8; i++) {
		uint64_t key = random_below(&decider->random, MANY);

		weir_allow(stage.weir, stage.ids[CHURN], &key, sizeof(key), NULL);
	}
}

static void do_windows(struct decider *decider)
{
	uint64_t key = random_below(&decider->random, 4);
	struct weir_request request = request_for(WINDOWS, &key, 1 + (key & 1));
	struct weir_decision decision;

	weir_decide(stage.weir, &request, &decision);
	weir_status(stage.weir, &request, &decision);
	if (random_below(&decider->random, 4) == 0)
		weir_refund(stage.weir, &request, &decision);
	if (random_below(&decider->random, 8) == 0)
		weir_reset(stage.weir, &request, &decision);
}

static void do_status(struct decider *decider)
{
	uint64_t key = kept_key(&decider->random);
	struct weir_request request = request_for(PAIR, &key, 5);
	struct weir_decision decision;

	weir_status(stage.weir, &request, &decision);
	must(decision.reason != WEIR_REASON_NO_POLICY);
	must(weir_now_ns(stage.weir) > 0);
}

static void do_hold(struct decider *decider)
{
	uint64_t key = random_below(&decider->random, DOORS);
	struct weir_request request = request_for(DOOR, &key, 1 + random_below(&decider->random, 2));
	struct weir_decision decision;
	struct weir_hold hold;

	if (!counted(weir_acquire(stage.weir, &request, &hold, &decision), &decision))
		return;
	must(__atomic_add_fetch(&stage.inside[key], (uint32_t)request.cost, __ATOMIC_RELAXED) <=
	     DOOR_WIDTH);
	if (random_below(&decider->random, 4) == 0)
		sched_yield();
	__atomic_sub_fetch(&stage.inside[key], (uint32_t)request.cost, __ATOMIC_RELAXED);
	must(weir_release(stage.weir, &hold) == WEIR_OK);
	must(weir_release(stage.weir, &hold) == WEIR_EINVAL);
}

static void *decide(void *argument)
{
	static void (*const operations[])(struct decider *) = {
		do_allow, do_allow_and_refund, do_force, do_batch,
		do_churn, do_windows,          do_status, do_hold,
	};
	struct decider *decider = argument;

	for (uint64_t i = 0; i < stage.operations; i++) {
		operations[random_below(&decider->random, 8)](decider);
		if (i % YIELD_EVERY == decider->index % YIELD_EVERY)
			sched_yield();
	}
	for (size_t key = 0; key < KEYS; key++) {
		__atomic_add_fetch(&stage.granted[KEPT][key], decider->granted[KEPT][key],
				   __ATOMIC_RELAXED);
		__atomic_add_fetch(&stage.granted[PAIR][key], decider->granted[PAIR][key],
				   __ATOMIC_RELAXED);
	}
	__atomic_sub_fetch(&stage.deciding, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* ---- Control ----------------------------------------------------------- */

static bool deciders_are_at_work(void)
{
	sched_yield();
	return __atomic_load_n(&stage.deciding, __ATOMIC_RELAXED) > 0;
}

static struct weir_policy policy_of(enum policy policy, bool other)
{
	switch (policy) {
	case KEPT:      /* a token's debt lasts for hours: no bucket of it is ever free */
		return support_policy(names[policy], other ? "1000000/100d burst 2000000" :
							     "1000000/100d burst 3000000", NULL);
	case PAIR:
		return support_policy(names[policy], "1000000/100d", other ? "700000/90d" :
									     "700001/90d", NULL);
	case WINDOWS:
		return support_policy(names[policy], other ? "100/10ms sliding-window" :
							     "90/10ms sliding-window",
				      "50/5ms fixed-window", NULL);
	case CHURN:
		return support_policy(names[policy], other ? "100/1s" : "101/1s", NULL);
	default:
		return support_policy(names[policy], "4 concurrency", "1000000/1s", NULL);
	}
}

/* A visitor sees whole strings and bounded numbers. */
static bool look_at(const struct weir_bucket *bucket, void *context)
{
	uint64_t *seen = context;

	must(strnlen(bucket->policy, sizeof(bucket->policy)) < sizeof(bucket->policy));
	must(bucket->key_stored <= sizeof(bucket->key) && bucket->limit_index < WEIR_LIMITS_MAX);
	return ++*seen < 100000;
}

static void must_not_be_found(const char *finding, void *context)
{
	(void)context;
	fprintf(stderr, "weir_check: %s\n", finding);
	abort();
}

static void look_around(void)
{
	struct weir_policy policies[POLICIES];
	struct weir_info info;
	uint64_t seen = 0;

	must(weir_policy_list(stage.weir, policies, POLICIES) == POLICIES);
	must(strcmp(policies[0].name, "churn") == 0);
	weir_each_bucket(stage.weir, 0, look_at, &seen);
	must(seen > 0);
	for (unsigned i = 0; weir_counter(i); i++)
		weir_counter_read(stage.weir, i, i & 1 ? names[KEPT] : NULL);
	weir_check(stage.weir, must_not_be_found, NULL);
	weir_info(stage.weir, &info);
	must(info.slots == 1024 && info.participants >= 1);
}

static void *control(void *argument)
{
	struct random_state random = random_start(stage.seed, (uintptr_t)argument);
	struct weir_policy policy;
	enum weir_fail_mode mode;

	do {
		enum policy which = (enum policy)random_below(&random, POLICIES);
		const char *name = names[which];

		policy = policy_of(which, random_next(&random) & 1);
		must(weir_policy_set(stage.weir, &policy, 1, NULL) == WEIR_OK);
		must(weir_policy_get(stage.weir, name, &policy, NULL) == WEIR_OK);
		must(weir_policy_find(stage.weir, name) == stage.ids[which]);
		mode = (enum weir_fail_mode)random_below(&random, 3);
		must(weir_fail_mode_set(stage.weir, name, mode, NULL) == WEIR_OK);
		must(weir_fail_mode_get(stage.weir, name, &mode, NULL) == WEIR_OK);
		must(weir_fail_mode_clear(stage.weir, name, NULL) == WEIR_OK);
		if (random_below(&random, 8) == 0)
			look_around();
	} while (deciders_are_at_work());
	return NULL;
}

/* Half the time on the mapping that all have, half on one that goes away with its
 * last handle, at any moment. */
static void *open_and_close(void *argument)
{
	struct random_state random = random_start(stage.seed, (uintptr_t)argument);

	do {
		bool shared = random_next(&random) & 1;
		uint64_t key = random_next(&random);    /* a new one: it has all its tokens */
		struct weir *weir;

		must(weir_open(shared ? stage.name : stage.other, &weir, NULL) == WEIR_OK);
		must(weir_allow(weir, weir_policy_find(weir, "churn"), &key, sizeof(key), NULL) ||
		     shared);
		weir_close(weir);
	} while (deciders_are_at_work());
	return NULL;
}

/* ThreadSanitizer makes 16-byte atomics with a lock that a thread of the parent
 * may hold at the fork: the child under it only looks. */
static void child_of_many(void)
{
	uint64_t key = 0, seen = 0;
	struct weir_request request = request_for(KEPT, &key, 1);
	struct weir_decision decision;

	must(weir_status(stage.weir, &request, &decision));
	weir_each_bucket(stage.weir, 0, look_at, &seen);
	must(seen > 0);
	if (!UNDER_THREAD_SANITIZER)
		must(weir_allow(stage.weir, stage.ids[KEPT], &key, sizeof(key), &decision) &&
		     decision.reason == WEIR_REASON_LIMIT);
}

static void *fork_now_and_then(void *argument)
{
	(void)argument;
	for (int i = 0; i < 8; i++) {
		pid_t child = support_fork();

		if (child == 0) {
			child_of_many();
			_exit(EXIT_SUCCESS);
		}
		support_join(child);
		if (!UNDER_THREAD_SANITIZER)
			__atomic_add_fetch(&stage.granted[KEPT][0], 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* ---- The test ---------------------------------------------------------- */

static void set_the_stage(void)
{
	struct weir_options options;
	struct weir_policy churn = policy_of(CHURN, false);

	support_options(&options);
	stage.seed = support_seed();
	stage.weir = support_named(&options, "shared", stage.name, sizeof(stage.name));
	for (int i = 0; i < POLICIES; i++) {
		struct weir_policy policy = policy_of((enum policy)i, false);

		stage.ids[i] = support_define(stage.weir, &policy);
	}
	/* Debts that no churning key outweighs. */
	for (uint64_t key = 0; key < KEYS; key++) {
		for (int i = KEPT; i <= PAIR; i++) {
			struct weir_request request = request_for((enum policy)i, &key, 1000);

			ck_assert(weir_decide(stage.weir, &request, NULL));
			stage.granted[i][key] = request.cost;
		}
	}

	struct weir *other = support_named(&options, "other", stage.other, sizeof(stage.other));

	support_define(other, &churn);
	weir_close(other);
}

static void compare(enum policy policy, uint32_t limit_index)
{
	for (uint64_t key = 0; key < KEYS; key++) {
		struct weir_bucket bucket;

		ck_assert(support_bucket(stage.weir, names[policy], limit_index, &key, sizeof(key), 0,
					 &bucket));
		ck_assert_uint_eq(bucket.consumed, stage.granted[policy][key]);
	}
}

/* What no bucket decided, the fail mode did, and both are counted. */
static void compare_counters(void)
{
	uint64_t causes = support_counter(stage.weir, "table_full", NULL) +
			  support_counter(stage.weir, "contended", NULL) +
			  support_counter(stage.weir, "holds_full", NULL);

	ck_assert_uint_eq(support_counter(stage.weir, "fail_open", NULL) +
			  support_counter(stage.weir, "unavailable", NULL), causes);
	ck_assert_uint_eq(support_counter(stage.weir, "unknown_policy", NULL), 0);
	ck_assert_uint_eq(support_counter(stage.weir, "bad_request", NULL), 0);
	ck_assert_uint_eq(support_counter(stage.weir, "repaired", NULL), 0);
}

START_TEST(test_everything_at_once)
{
	static struct decider deciders[DECIDERS];
	pthread_t others[CLOSERS + CONTROLLERS + 1];
	size_t other_count = 0;

	set_the_stage();
	stage.operations = support_amount(400, 20000);
	stage.deciding = DECIDERS;
	for (uint64_t i = 0; i < DECIDERS; i++) {
		deciders[i].index = i;
		deciders[i].random = random_start(stage.seed, 1000 + i);
		ck_assert_int_eq(pthread_create(&deciders[i].thread, NULL, decide, &deciders[i]), 0);
	}
	for (uintptr_t i = 0; i < CLOSERS; i++)
		pthread_create(&others[other_count++], NULL, open_and_close, (void *)i);
	for (uintptr_t i = 0; i < CONTROLLERS; i++)
		pthread_create(&others[other_count++], NULL, control, (void *)(100 + i));
	pthread_create(&others[other_count++], NULL, fork_now_and_then, NULL);

	for (size_t i = 0; i < DECIDERS; i++)
		pthread_join(deciders[i].thread, NULL);
	for (size_t i = 0; i < other_count; i++)
		pthread_join(others[i], NULL);

	compare(KEPT, 0);
	compare(PAIR, 0);
	compare(PAIR, 1);
	for (size_t i = 0; i < DOORS; i++)
		ck_assert_uint_eq(stage.inside[i], 0);
	compare_counters();
	weir_close(stage.weir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("threads");

	support_add(suite, "everything at once", test_everything_at_once, 60);
	return support_main(suite);
}
