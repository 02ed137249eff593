/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens taken ahead: when they count, who gets them back, and that nothing that happens
 * to them admits too much.  Times are the caller's, so that each step is where the test
 * puts it; only the last tests decide by a real clock.
 */
#include "fixture.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "shm/gcra.h"
#include "shm/policy_table.h"
#include "shm/purse.h"
#include "src/handle.h"
#include "tests/suite.h"

#define KEY "key"
#define BURST 1024ull

struct scene {
	struct weir *weir;
	const struct segment *segment;
	weir_policy_id id;
	struct limit limit;
	struct bucket_ref ref;
	uint64_t version;
};

static struct weir_policy lease_policy(const char *limit)
{
	struct weir_policy policy = fixture_policy("hot", limit);

	policy.consistency = WEIR_LOCAL;
	policy.lease = true;
	return policy;
}

static void set(struct scene *scene, const char *limit)
{
	struct weir_policy policy = lease_policy(limit);
	struct weir_error error;

	ck_assert_msg(weir_policy_set(scene->weir, &policy, 1, &error) == WEIR_OK, "%s",
		      error.message);
	scene->id = weir_policy_find(scene->weir, "hot");
	scene->version = policy_version(scene->segment);
	policy_limit(scene->segment, scene->version, policy_index(scene->id), 0, &scene->limit);
}

static bool ask_cost(const struct scene *scene, uint64_t now_ns, uint64_t cost)
{
	struct weir_request request = { scene->id, KEY, strlen(KEY), cost, now_ns };
	struct weir_decision decision;
	bool pass = weir_decide(scene->weir, &request, &decision);

	must(decision.reason == WEIR_REASON_LIMIT || decision.reason == WEIR_REASON_COST);
	return pass;
}

/* A bucket that has been asked for one token. */
static struct scene open_scene(const char *limit)
{
	struct scene scene = { .weir = fixture_open_slots(64) };
	const struct hash_keys *hash;
	struct fingerprint fingerprint;
	uint32_t first;

	scene.segment = scene.weir->segment;
	hash = &scene.segment->hash;
	set(&scene, limit);
	ck_assert(ask_cost(&scene, EPOCH, 1));
	fingerprint = hash_fingerprint(hash, scene.limit.key[0], scene.limit.key[1], KEY,
				       strlen(KEY));
	ck_assert(table_find(&scene.segment->table, fingerprint, &scene.ref));
	ck_assert(purses_assign(&scene.segment->purses, &first));
	ck_assert_uint_eq(first, 0);
	return scene;
}

static struct bucket_request request_at(const struct scene *scene, uint64_t now_ns, uint64_t cost)
{
	return (struct bucket_request){
		.operation = BUCKET_SPEND,
		.cost = cost,
		.now_ns = now_ns,
		.version = &scene->segment->header->policy.version,
		.version_seen = scene->version,
	};
}

/* Take one token, and TOKENS ahead. */
static bool take(const struct scene *scene, struct purse_own *own, uint32_t index,
		 uint64_t now_ns, uint64_t tokens, uint64_t hold_ns)
{
	struct bucket_request request = request_at(scene, now_ns, 1);
	struct purse_wish wish = { index, tokens, hold_ns };
	struct bucket_state after;

	return purse_take(scene->segment, own, &wish, &scene->ref, &scene->limit, &request, &after);
}

static bool pay(const struct scene *scene, struct purse_own *own, uint64_t now_ns, uint64_t cost)
{
	return purse_pay(&scene->segment->purses, own, now_ns, cost);
}

static uint64_t used(const struct scene *scene)
{
	return state_used(scene->ref.slot->state);
}

/* Tokens, one by one, until one is denied. */
static uint64_t exhaust(const struct scene *scene, uint64_t now_ns)
{
	uint64_t allowed = 0;

	while (ask_cost(scene, now_ns, 1))
		allowed++;
	return allowed;
}

/* ---- Taking and paying ------------------------------------------------- */

START_TEST(pays_what_was_taken)
{
	struct scene scene = open_scene("1024/1024s");
	struct purse_own own = { 0 };

	ck_assert(take(&scene, &own, 0, EPOCH, 10, SECOND));
	ck_assert_uint_eq(used(&scene), 12);
	ck_assert(!pay(&scene, &own, EPOCH, 11));
	ck_assert(pay(&scene, &own, EPOCH, 4));
	for (int i = 0; i < 6; i++)
		ck_assert(pay(&scene, &own, EPOCH, 1));
	ck_assert(!pay(&scene, &own, EPOCH, 1));
	ck_assert_uint_eq(used(&scene), 12);
	ck_assert_uint_eq(exhaust(&scene, EPOCH), BURST - 12);
	weir_close(scene.weir);
}
END_TEST

/* The bucket has 1 s of debt, and drains: what is spent later would be too much. */
START_TEST(tokens_end)
{
	struct scene scene = open_scene("1024/1024s");
	struct purse_own own = { 0 }, held = { 0 };

	ck_assert(take(&scene, &own, 0, EPOCH, 10, 0));
	ck_assert(pay(&scene, &own, EPOCH + SECOND - 2, 1));
	ck_assert(!pay(&scene, &own, EPOCH + SECOND - 1, 1));
	/* 12 s of debt until then, and more was asked for: a 64th of the burst. */
	ck_assert(take(&scene, &held, 1, EPOCH, 10, 100 * SECOND));
	ck_assert(pay(&scene, &held, EPOCH + 16 * SECOND - 2, 1));
	ck_assert(!pay(&scene, &held, EPOCH + 16 * SECOND - 1, 1));
	weir_close(scene.weir);
}
END_TEST

/* Not above a 64th of the burst, nor above an 8th of what is left. */
START_TEST(takes_only_of_plenty)
{
	struct scene scene = open_scene("1024/1024s");
	struct purse_own own = { 0 };

	ck_assert(!take(&scene, &own, 0, EPOCH, 17, 0));
	ck_assert(take(&scene, &own, 0, EPOCH, 16, 0));
	ck_assert(ask_cost(&scene, EPOCH, BURST - 18 - 87));
	ck_assert(!take(&scene, &own, 1, EPOCH, 10, 0));
	ck_assert_uint_eq(used(&scene), BURST - 87);
	ck_assert(ask_cost(&scene, EPOCH + 2 * SECOND, 1));
	ck_assert(take(&scene, &own, 1, EPOCH + 2 * SECOND, 10, 0));
	weir_close(scene.weir);
}
END_TEST

START_TEST(refused_by_other_policies)
{
	struct scene scene = open_scene("1024/1024s");
	struct purse_own own = { 0 };

	scene.version ^= 1;
	ck_assert(!take(&scene, &own, 0, EPOCH, 10, 0));
	ck_assert_uint_eq(used(&scene), 1);
	scene.version ^= 1;
	ck_assert(take(&scene, &own, 0, EPOCH, 10, 0));
	weir_close(scene.weir);
}
END_TEST

/* ---- Back -------------------------------------------------------------- */

START_TEST(come_back_before_a_denial)
{
	struct scene scene = open_scene("1024/1024s");
	struct purse_own own[3] = { { 0 } };

	for (uint32_t i = 0; i < 3; i++)
		ck_assert(take(&scene, &own[i], i, EPOCH, 10, 0));
	ck_assert(pay(&scene, &own[1], EPOCH, 3));
	/* 1 + 3 x 11 are charged, and 7 + 2 x 10 of these have not been spent. */
	ck_assert(!ask_cost(&scene, EPOCH, BURST - 1 - 3 - 3 + 1));
	ck_assert_uint_eq(used(&scene), 1 + 3 + 3);
	for (uint32_t i = 0; i < 3; i++)
		ck_assert(!pay(&scene, &own[i], EPOCH, 1));
	ck_assert(ask_cost(&scene, EPOCH, BURST - 1 - 3 - 3));
	ck_assert_uint_eq(fixture_counter(scene.weir, "purse_tokens_returned"), 27);
	ck_assert_uint_eq(fixture_counter(scene.weir, "purses_filled"), 3);
	ck_assert_uint_eq(exhaust(&scene, EPOCH), 0);
	weir_close(scene.weir);
}
END_TEST

/* A look foretells that they will, and leaves them where they are. */
START_TEST(a_look_counts_them)
{
	struct scene scene = open_scene("1024/1024s");
	struct weir_request request = { scene.id, KEY, strlen(KEY), 7, EPOCH };
	struct weir_decision decision;
	struct purse_own own = { 0 };

	ck_assert(take(&scene, &own, 0, EPOCH, 10, 0));
	ck_assert(pay(&scene, &own, EPOCH, 3));
	ck_assert(ask_cost(&scene, EPOCH, BURST - 12));
	ck_assert(weir_status(scene.weir, &request, &decision));
	ck_assert_uint_eq(decision.remaining, 7);
	ck_assert_uint_eq(decision.retry_after_ns, 0);
	request.cost = 8;
	ck_assert(!weir_status(scene.weir, &request, &decision));
	ck_assert_uint_eq(decision.remaining, 7);
	ck_assert_uint_eq(decision.retry_after_ns, SECOND);
	/* Those that have ended do not come back. */
	request.now_ns = EPOCH + SECOND;
	request.cost = 2;
	ck_assert(!weir_status(scene.weir, &request, &decision));
	ck_assert_uint_eq(decision.remaining, 1);
	ck_assert(pay(&scene, &own, EPOCH, 7));
	request.now_ns = EPOCH;
	ck_assert(!weir_status(scene.weir, &request, &decision));
	ck_assert_uint_eq(decision.remaining, 0);
	weir_close(scene.weir);
}
END_TEST

/* A key of another bucket is left alone. */
START_TEST(only_of_the_bucket)
{
	struct scene scene = open_scene("1024/1024s"), other = scene;
	struct purse_own own = { 0 };
	struct weir_request request = { scene.id, "other", 5, BURST, EPOCH };

	ck_assert(take(&scene, &own, 0, EPOCH, 10, 0));
	ck_assert(weir_decide(other.weir, &request, NULL));
	ck_assert(!weir_decide(other.weir, &request, NULL));
	ck_assert(pay(&scene, &own, EPOCH, 10));
	weir_close(scene.weir);
}
END_TEST

/* What has ended has drained: it would come back to a bucket that has it already. */
START_TEST(ended_tokens_do_not_come_back)
{
	struct scene scene = open_scene("1024/1024s");
	struct purse_own own = { 0 };
	uint64_t later = EPOCH + SECOND;

	ck_assert(take(&scene, &own, 0, EPOCH, 10, 0));
	/* 12 s of debt, of which 1 s has passed. */
	ck_assert_uint_eq(exhaust(&scene, later), BURST - 11);
	ck_assert_uint_eq(fixture_counter(scene.weir, "purse_tokens_returned"), 0);
	weir_close(scene.weir);
}
END_TEST

START_TEST(a_reset_takes_them)
{
	struct scene scene = open_scene("1024/1024s");
	struct weir_request request = { scene.id, KEY, strlen(KEY), 1, EPOCH };
	struct weir_decision decision;
	struct purse_own own = { 0 };

	ck_assert(take(&scene, &own, 0, EPOCH, 10, SECOND));
	ck_assert(weir_reset(scene.weir, &request, &decision));
	ck_assert(!pay(&scene, &own, EPOCH, 1));
	ck_assert_uint_eq(exhaust(&scene, EPOCH), BURST);
	weir_close(scene.weir);
}
END_TEST

START_TEST(a_refund_brings_them)
{
	struct scene scene = open_scene("1024/1024s");
	struct weir_request request = { scene.id, KEY, strlen(KEY), 5, EPOCH };
	struct weir_decision decision;
	struct purse_own own = { 0 };

	ck_assert(ask_cost(&scene, EPOCH, 100));
	ck_assert(take(&scene, &own, 0, EPOCH, 10, 0));
	ck_assert(weir_refund(scene.weir, &request, &decision));
	ck_assert(!pay(&scene, &own, EPOCH, 1));
	ck_assert_uint_eq(used(&scene), 1 + 100 + 1 - 5);
	ck_assert_uint_eq(fixture_counter(scene.weir, "refunded"), 5);
	ck_assert_uint_eq(exhaust(&scene, EPOCH), BURST - (1 + 100 + 1 - 5));
	weir_close(scene.weir);
}
END_TEST

/* Taken at another rate, they drain. */
START_TEST(another_rate_gives_nothing_back)
{
	struct scene scene = open_scene("1024/1024s");
	struct purse_own own = { 0 };

	ck_assert(take(&scene, &own, 0, EPOCH, 10, 0));
	set(&scene, "1024/2048s");
	/* 12 s of debt are 6 tokens now. */
	ck_assert_uint_eq(exhaust(&scene, EPOCH), BURST - 6);
	ck_assert_uint_eq(fixture_counter(scene.weir, "purse_tokens_returned"), 0);
	weir_close(scene.weir);
}
END_TEST

/* What does not lease lowers a bucket without a look at purses: what they have of it is worth
 * nothing afterwards. */
START_TEST(another_policy_meanwhile_ends_them)
{
	struct scene scene = open_scene("1024/1024s");
	struct weir_policy plain = lease_policy("1024/1024s");
	struct weir_request request = { scene.id, KEY, strlen(KEY), 12, EPOCH };
	struct weir_decision decision;
	struct purse_own own = { 0 };
	uint64_t admitted;

	ck_assert(take(&scene, &own, 0, EPOCH, 10, 10 * SECOND));
	plain.lease = false;
	ck_assert(weir_policy_set(scene.weir, &plain, 1, NULL) == WEIR_OK);
	ck_assert((_i ? weir_reset : weir_refund)(scene.weir, &request, &decision));
	if (_i == 2)
		ck_assert(weir_policy_remove(scene.weir, "hot", NULL) == WEIR_OK);
	set(&scene, "1024/1024s");
	admitted = exhaust(&scene, EPOCH);
	ck_assert_uint_le(admitted, BURST);
	/* Of 1 and 10 and 10 s of debt, to make them last, a refund leaves 10. */
	ck_assert_uint_ge(admitted, BURST - 10);
	ck_assert_uint_eq(fixture_counter(scene.weir, "purse_tokens_returned"), 0);
	weir_close(scene.weir);
}
END_TEST

/* All else of a policy may change, and they come back. */
START_TEST(another_burst_leaves_them)
{
	struct scene scene = open_scene("1024/1024s");
	struct purse_own own = { 0 };

	ck_assert(take(&scene, &own, 0, EPOCH, 10, 0));
	set(&scene, "1024/1024s burst 100");
	set(&scene, "1024/1024s burst 200");
	ck_assert_uint_eq(exhaust(&scene, EPOCH), 200 - 2);
	ck_assert_uint_eq(fixture_counter(scene.weir, "purse_tokens_returned"), 10);
	weir_close(scene.weir);
}
END_TEST

START_TEST(eviction_takes_them)
{
	struct scene scene = open_scene("1024/1024s");
	struct weir_policy heavy = fixture_policy("heavy", "100/100d");
	struct purse_own own = { 0 };
	struct weir_error error;
	weir_policy_id id;

	ck_assert(take(&scene, &own, 0, EPOCH, 10, 0));
	ck_assert(weir_policy_set(scene.weir, &heavy, 1, &error) == WEIR_OK);
	id = weir_policy_find(scene.weir, "heavy");
	for (uint64_t key = 0; key < 2000; key++) {
		struct weir_request request = { id, &key, sizeof(key), 1 + key / 1000, EPOCH };

		weir_decide(scene.weir, &request, NULL);
	}
	ck_assert_uint_gt(fixture_counter(scene.weir, "evicted_live"), 0);
	ck_assert((scene.ref.slot->identity.second & GENERATION_MASK) != scene.ref.generation);
	ck_assert(!pay(&scene, &own, EPOCH, 1));
	weir_close(scene.weir);
}
END_TEST

/* A purse that nobody has touched for long, whether its thread sleeps or is dead. */
START_TEST(forgotten_purses_are_found)
{
	struct scene scene = open_scene("1024/1024s");
	struct purse_own sleeper = { 0 }, newcomer = { 0 };
	uint64_t later = EPOCH + SECOND / 10;

	ck_assert(take(&scene, &sleeper, 0, EPOCH, 10, 0));
	ck_assert(!take(&scene, &newcomer, 0, EPOCH + MS, 10, 0));
	ck_assert_uint_eq(used(&scene), 12);
	ck_assert(take(&scene, &newcomer, 0, later, 10, 0));
	ck_assert_uint_eq(used(&scene), 12 - 10 + 11);
	ck_assert(!pay(&scene, &sleeper, later, 1));
	ck_assert(pay(&scene, &newcomer, later, 10));
	weir_close(scene.weir);
}
END_TEST

START_TEST(purses_are_given_in_turn)
{
	struct weir_options options;
	struct weir *weir;
	uint32_t first;

	weir_options_init(&options);
	options.purses = 7;
	weir = fixture_open(&options);
	ck_assert_uint_eq(weir->segment->purses.count, 8);
	for (uint32_t i = 0; i < 5; i++) {
		ck_assert(purses_assign(&weir->segment->purses, &first));
		ck_assert_uint_eq(first, i % 2 * PURSES_OF_THREAD);
	}
	weir_close(weir);
	options.purses = 0;
	weir = fixture_open(&options);
	ck_assert(!purses_assign(&weir->segment->purses, &first));
	weir_close(weir);
}
END_TEST

/* ---- Anything, in any order -------------------------------------------- */

#define PURSES 4
#define STEPS 20000

struct walk {
	struct scene scene;
	struct purse_own own[PURSES];
	struct bucket_state exact;      /* of a bucket that knows no purses */
	uint64_t now_ns;
	uint64_t random;
	uint64_t pace;                  /* tokens of time that a step of the clock may have */
	uint64_t denied, paid;
};

/* The exact bucket admits what was admitted, or is above its burst by rounding alone. */
static void admit(struct walk *walk, uint64_t cost)
{
	const struct limit *limit = &walk->scene.limit;
	struct bucket_state after;

	gcra_spend(limit, &walk->exact, walk->now_ns, cost, true, &after);
	must(after.time_ns - walk->now_ns <= limit->tolerance_ns + limit->token_ns + 2);
	walk->exact = after;
}

/* Denied although the exact bucket has room: at most by what all purses may have. */
static void deny(struct walk *walk, uint64_t cost)
{
	const struct limit *limit = &walk->scene.limit;
	uint64_t whole_ns = limit->tolerance_ns + limit->token_ns;
	uint64_t debt_ns = gcra_debt_ns(&walk->exact, walk->now_ns);

	must(debt_ns + cost * (limit->token_ns + 1) + PURSES * (whole_ns / 32) + 2 > whole_ns);
	walk->denied++;
}

static void give_back(struct walk *walk, bool reset, uint64_t cost)
{
	struct weir_request request = { walk->scene.id, KEY, strlen(KEY), cost, walk->now_ns };
	struct weir_decision decision;
	struct bucket_state after;

	if (reset) {
		must(weir_reset(walk->scene.weir, &request, &decision));
		walk->exact.time_ns = 0;
	} else {
		must(weir_refund(walk->scene.weir, &request, &decision));
		gcra_refund(&walk->scene.limit, &walk->exact, walk->now_ns, cost, &after);
		walk->exact = after;
	}
}

static void step(struct walk *walk)
{
	struct scene *scene = &walk->scene;
	uint32_t i = (uint32_t)fixture_random(&walk->random, PURSES);
	uint64_t cost = 1 + fixture_random(&walk->random, 40);
	uint64_t token_ns = scene->limit.token_ns;

	switch (fixture_random(&walk->random, 16)) {
	case 0:
	case 1:
		walk->now_ns += fixture_random(&walk->random, walk->pace * token_ns);
		break;
	case 2:
		if (fixture_random(&walk->random, 20) == 0)
			give_back(walk, fixture_random(&walk->random, 4) == 0, cost);
		break;
	case 3:
	case 4:
	case 5:
		if (ask_cost(scene, walk->now_ns, cost))
			admit(walk, cost);
		else
			deny(walk, cost);
		break;
	case 6:
	case 7:
		if (take(scene, &walk->own[i], i, walk->now_ns,
			 1 + fixture_random(&walk->random, 16),
			 fixture_random(&walk->random, 20 * token_ns)))
			admit(walk, 1);
		break;
	default:
		cost = 1 + fixture_random(&walk->random, 3);
		if (pay(scene, &walk->own[i], walk->now_ns, cost)) {
			admit(walk, cost);
			walk->paid += cost;
		}
	}
}

static const char *const rates[] = { "1024/1024s", "3000/7s burst 1024", "70000/1ms burst 1500" };

START_TEST(never_more_than_the_bucket)
{
	struct walk walk = { .random = (uint64_t)_i, .now_ns = EPOCH };

	walk.scene = open_scene(rates[_i % LENGTH(rates)]);
	admit(&walk, 1);
	for (uint64_t i = 0; i < (fixture_soak() ? 100 : 1) * STEPS; i++) {
		/* Now the bucket is empty most of the time, now full, now between. */
		if (i % 64 == 0)
			walk.pace = 1ull << fixture_random(&walk.random, 10);
		step(&walk);
	}
	ck_assert_uint_gt(walk.paid, STEPS / 100);
	ck_assert_uint_gt(walk.denied, STEPS / 400);
	ck_assert_uint_gt(fixture_counter(walk.scene.weir, "purse_tokens_returned"), 0);
	weir_close(walk.scene.weir);
}
END_TEST

/* ---- Threads, by the clock --------------------------------------------- */

#define THREADS 120
#define CROWD_BURST 400000ull           /* and 100 days for it: nothing comes back */

struct crowd {
	struct scene scene;
	bool always;                    /* take ahead, hot or not */
	pthread_barrier_t barrier;
};

struct member {
	struct crowd *crowd;
	uint32_t index;
	uint64_t admitted;
};

/* By hand, so that purses are used however slow this build is. */
static bool spend_by_hand(struct member *member, struct purse_own *own)
{
	const struct scene *scene = &member->crowd->scene;
	uint64_t now_ns = weir_now_ns(scene->weir);

	return pay(scene, own, now_ns, 1) || take(scene, own, member->index, now_ns, 16, MS) ||
	       weir_allow(scene->weir, scene->id, KEY, strlen(KEY), NULL);
}

static void *spend_all(void *context)
{
	struct member *member = context;
	const struct scene *scene = &member->crowd->scene;
	struct purse_own own = { 0 };

	pthread_barrier_wait(&member->crowd->barrier);
	while (member->crowd->always ?
		       spend_by_hand(member, &own) :
		       weir_allow(scene->weir, scene->id, KEY, strlen(KEY), NULL)) {
		if (++member->admitted % 512 == 0)
			sched_yield();
	}
	return NULL;
}

/* Until everybody was denied: all of the burst is admitted, and no token more. */
START_TEST(a_crowd)
{
	static struct member members[THREADS];
	static pthread_t threads[THREADS];
	struct weir_options options;
	struct crowd crowd = { .always = _i == 0 };
	struct scene *scene = &crowd.scene;
	uint64_t admitted = 0, rest = 0;

	weir_options_init(&options);
	scene->weir = fixture_open(&options);
	scene->segment = scene->weir->segment;
	set(scene, "400000/100d");
	ck_assert(weir_allow(scene->weir, scene->id, KEY, strlen(KEY), NULL));
	ck_assert(table_find(&scene->segment->table,
			     hash_fingerprint(&scene->segment->hash, scene->limit.key[0],
					      scene->limit.key[1], KEY, strlen(KEY)),
			     &scene->ref));
	pthread_barrier_init(&crowd.barrier, NULL, THREADS);
	/* All purses are looked at, though these threads help themselves. */
	*scene->segment->purses.next = crowd.always ? THREADS : 0;
	for (uint32_t i = 0; i < THREADS; i++) {
		members[i] = (struct member){ &crowd, i, 0 };
		ck_assert(pthread_create(&threads[i], NULL, spend_all, &members[i]) == 0);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		admitted += members[i].admitted;
	}
	/* What somebody took while another was denied. */
	while (weir_allow(scene->weir, scene->id, KEY, strlen(KEY), NULL))
		rest++;
	printf("%llu admitted, %llu at last, of %llu; %llu purses filled, %llu tokens back\n",
	       (unsigned long long)admitted, (unsigned long long)rest, CROWD_BURST,
	       (unsigned long long)fixture_counter(scene->weir, "purses_filled"),
	       (unsigned long long)fixture_counter(scene->weir, "purse_tokens_returned"));
	ck_assert_uint_le(1 + admitted + rest, CROWD_BURST);
	/* Charged for a purse that was emptied before it was filled: they drain. */
	ck_assert_uint_ge(1 + admitted + rest, CROWD_BURST - CROWD_BURST / 100);
	ck_assert_uint_eq(used(scene), CROWD_BURST);
	if (crowd.always)
		ck_assert_uint_gt(fixture_counter(scene->weir, "purses_filled"), THREADS);
	pthread_barrier_destroy(&crowd.barrier);
	weir_close(scene->weir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("purse");
	TCase *cases = tcase_create("purse"), *crowds = tcase_create("crowd");

	tcase_add_test(cases, pays_what_was_taken);
	tcase_add_test(cases, tokens_end);
	tcase_add_test(cases, takes_only_of_plenty);
	tcase_add_test(cases, refused_by_other_policies);
	tcase_add_test(cases, come_back_before_a_denial);
	tcase_add_test(cases, a_look_counts_them);
	tcase_add_test(cases, only_of_the_bucket);
	tcase_add_test(cases, ended_tokens_do_not_come_back);
	tcase_add_test(cases, a_reset_takes_them);
	tcase_add_test(cases, a_refund_brings_them);
	tcase_add_test(cases, another_rate_gives_nothing_back);
	tcase_add_loop_test(cases, another_policy_meanwhile_ends_them, 0, 3);
	tcase_add_test(cases, another_burst_leaves_them);
	tcase_add_test(cases, eviction_takes_them);
	tcase_add_test(cases, forgotten_purses_are_found);
	tcase_add_test(cases, purses_are_given_in_turn);
	tcase_add_loop_test(cases, never_more_than_the_bucket, 0, 12);
	suite_add_tcase(suite, cases);
	tcase_set_timeout(crowds, 30);
	tcase_add_loop_test(crowds, a_crowd, 0, 2);
	suite_add_tcase(suite, crowds);
	return suite_run(suite);
}
