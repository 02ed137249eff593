/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random decisions of 8 processes on one segment and one test clock, against
 * exact rational arithmetic.  Debts here are whole numbers of 1 / limit ns, so
 * that one token's time T is `period` of them, whatever limit and period are.
 *
 * Never above.  For each key and each interval, tokens x T < burst x T +
 * elapsed + 1 ns: within the clock's nanosecond.  All intervals are checked by
 * one sweep: the largest excess of any interval that ends at t is the debt of a
 * bucket that leaks without ever denying.
 *
 * Never short.  In lock-step all decisions between two barriers are made at one
 * time, so their order, which nobody can know, does not matter:
 *   - whatever was denied at t would not pass, by exact arithmetic, at the end of
 *     t either: no schedule keeps out a request that there was room for;
 *   - where every request costs 1, the requests granted so far are, after each
 *     t, never fewer than one bucket in exact arithmetic, given the same requests,
 *     would have granted, and just as many where T is a whole number of ns.  (Where
 *     it is not, the nanosecond above can let a request in that the exact bucket
 *     denies; the debts of the two never differ by more than that token.)
 * With several limits only "never above" holds: a charge that is taken back a
 * moment later may deny another request.  Such denials are counted.
 *
 * Free running.  Workers read a clock that others move on, and may decide late,
 * with a reading that is older than what is in the bucket.  "Never above" holds
 * for the times that they decided with.
 */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "shm/bucket.h"
#include "tests/support.h"

#define WORKERS 8
#define LIMITS 3
#define KEYS 1024
#define HOT_KEYS 16
#define PER_ROUND 64            /* decisions of a worker between two barriers */
#define START_NS 1000000000000000000ull

typedef __int128 wide;

struct scenario {
	const char *limits[LIMITS];
	uint64_t cost_max;
	bool free_running;
};

struct record {
	uint64_t time_ns;
	uint16_t key;
	uint16_t cost;
	bool granted;
};

struct stage {
	const struct scenario *scenario;
	struct weir *weir;
	struct weir_policy policy;
	weir_policy_id id;
	uint64_t seed;
	uint64_t rounds;
	uint64_t now_ns;                        /* free running */
	pthread_barrier_t barrier;
	struct record records[];                /* round, worker, decision */
};

/* ---- Deciding ---------------------------------------------------------- */

static struct record *records_of(struct stage *stage, uint64_t round, uint64_t worker)
{
	return &stage->records[(round * WORKERS + worker) * PER_ROUND];
}

/* The next step of the clock: around the moments at which a token comes back, to
 * the nanosecond, and sometimes none at all. */
static uint64_t step_ns(const struct stage *stage, struct random_state *random)
{
	const struct weir_limit *limit = &stage->policy.limits[random_below(random,
						      stage->policy.limit_count)];
	uint64_t burst = limit->burst ? limit->burst : limit->limit;
	uint64_t tokens = random_below(random, 2 * burst + 1);
	uint64_t step = (uint64_t)((wide)tokens * limit->period_ns / limit->limit);

	switch (random_below(random, 8)) {
	case 0:
		return 0;
	case 1:
		return random_below(random, limit->period_ns);
	default:
		step += random_below(random, 3);
		return step > 0 ? step - 1 : 0;
	}
}

static void decide(struct stage *stage, struct random_state *random, uint64_t now_ns,
		   struct record *record)
{
	uint64_t key = random_below(random, random_next(random) & 1 ? HOT_KEYS : KEYS);
	struct weir_request request = {
		.policy = stage->id,
		.key = &key,
		.key_length = sizeof(key),
		.cost = 1 + random_below(random, stage->scenario->cost_max),
		.now_ns = now_ns,
	};
	struct weir_decision decision;

	record->granted = weir_decide(stage->weir, &request, &decision);
	must(decision.reason == WEIR_REASON_LIMIT);
	must(decision.outcome == (record->granted ? WEIR_ALLOWED : WEIR_DENIED));
	record->time_ns = now_ns;
	record->key = (uint16_t)key;
	record->cost = (uint16_t)request.cost;
}

/* All workers draw the steps of the clock from the same stream. */
static void work_in_lock_step(struct stage *stage, uint64_t worker)
{
	struct random_state random = random_start(stage->seed, 1 + worker);
	struct random_state clock = random_start(stage->seed, 0);
	uint64_t now_ns = START_NS;

	for (uint64_t round = 0; round < stage->rounds; round++) {
		struct record *records = records_of(stage, round, worker);

		pthread_barrier_wait(&stage->barrier);
		now_ns += step_ns(stage, &clock);
		for (uint64_t i = 0; i < PER_ROUND; i++)
			decide(stage, &random, now_ns, &records[i]);
	}
}

static void work_freely(struct stage *stage, uint64_t worker)
{
	struct random_state random = random_start(stage->seed, 1 + worker);

	pthread_barrier_wait(&stage->barrier);
	for (uint64_t round = 0; round < stage->rounds; round++) {
		struct record *records = records_of(stage, round, worker);

		for (uint64_t i = 0; i < PER_ROUND; i++) {
			uint64_t now_ns = __atomic_load_n(&stage->now_ns, __ATOMIC_RELAXED);

			if (random_below(&random, WORKERS * PER_ROUND / 2) == 0)
				__atomic_add_fetch(&stage->now_ns, step_ns(stage, &random),
						   __ATOMIC_RELAXED);
			decide(stage, &random, now_ns, &records[i]);
		}
	}
}

/* ---- Comparing --------------------------------------------------------- */

struct account {
	uint64_t time_ns;       /* debts are as of this time */
	wide debt[LIMITS];      /* of what was granted, for each limit; 1 / limit ns */
	wide ideal_debt;        /* of what one exact bucket grants */
	int64_t ahead;          /* requests granted less those of the exact bucket */
	uint64_t denied_cost;   /* the least that was denied at this time; 0: none */
	uint64_t requests;      /* at this time */
};

struct audit {
	const struct stage *stage;
	bool with_ideal;
	struct account accounts[KEYS];
	uint16_t touched[KEYS];         /* keys with requests at this time */
	unsigned touched_count;
	uint64_t above, short_of, off_ideal, granted, denied;
};

/* Free running, every key has its bucket from the start: a slot without debt may
 * be given to a new key, and a late reader would then find its debt forgiven. */
static void give_each_key_a_bucket(struct stage *stage)
{
	for (uint64_t key = 0; key < KEYS; key++) {
		struct weir_request request = { stage->id, &key, sizeof(key), 1, START_NS };

		ck_assert(weir_decide(stage->weir, &request, NULL));
	}
}

static wide capacity(const struct weir_limit *limit)
{
	return (wide)(limit->burst ? limit->burst : limit->limit) * limit->period_ns;
}

static void leak(wide *debt, const struct weir_limit *limit, uint64_t elapsed_ns)
{
	wide leaked = (wide)elapsed_ns * limit->limit;

	*debt = *debt > leaked ? *debt - leaked : 0;
}

/* The same requests in a bucket of exact arithmetic, all costing 1. */
static void follow_ideal(const struct weir_limit *limit, struct account *account)
{
	for (; account->requests > 0; account->requests--) {
		if (account->ideal_debt + limit->period_ns > capacity(limit))
			break;
		account->ideal_debt += limit->period_ns;
		account->ahead--;
	}
}

/* Does the bucket differ from the exact one, where it must not? */
static bool is_off_ideal(const struct weir_limit *limit, const struct account *account)
{
	wide apart = account->debt[0] - account->ideal_debt;

	if (apart < 0)
		apart = -apart;
	return account->ahead < 0 ||
	       (limit->period_ns % limit->limit == 0 && account->ahead > 0) ||
	       apart >= (wide)limit->period_ns + limit->limit;
}

/* All requests at one time are known. */
static void close_account(struct audit *audit, struct account *account)
{
	const struct weir_policy *policy = &audit->stage->policy;
	bool room = account->denied_cost > 0;

	for (uint32_t i = 0; i < policy->limit_count; i++) {
		const struct weir_limit *limit = &policy->limits[i];
		wide asked = (wide)account->denied_cost * limit->period_ns;

		if (account->debt[i] >= capacity(limit) + (wide)limit->limit)
			audit->above++;
		room = room && account->debt[i] + asked <= capacity(limit);
	}
	audit->short_of += room;
	if (audit->with_ideal) {
		follow_ideal(&policy->limits[0], account);
		audit->off_ideal += is_off_ideal(&policy->limits[0], account);
	}
	account->denied_cost = 0;
	account->requests = 0;
}

static void close_time(struct audit *audit)
{
	while (audit->touched_count > 0)
		close_account(audit, &audit->accounts[audit->touched[--audit->touched_count]]);
}

static void enter(struct audit *audit, const struct record *record)
{
	const struct weir_policy *policy = &audit->stage->policy;
	struct account *account = &audit->accounts[record->key];

	if (account->requests++ == 0) {
		uint64_t elapsed_ns = record->time_ns - account->time_ns;

		audit->touched[audit->touched_count++] = record->key;
		for (uint32_t i = 0; i < policy->limit_count; i++)
			leak(&account->debt[i], &policy->limits[i], elapsed_ns);
		leak(&account->ideal_debt, &policy->limits[0], elapsed_ns);
		account->time_ns = record->time_ns;
	}
	if (record->granted) {
		for (uint32_t i = 0; i < policy->limit_count; i++)
			account->debt[i] += (wide)record->cost * policy->limits[i].period_ns;
		account->ahead += record->cost;
		audit->granted++;
	} else {
		if (account->denied_cost == 0 || record->cost < account->denied_cost)
			account->denied_cost = record->cost;
		audit->denied++;
	}
}

static int by_time(const void *a, const void *b)
{
	uint64_t first = ((const struct record *)a)->time_ns;
	uint64_t second = ((const struct record *)b)->time_ns;

	return first < second ? -1 : first > second;
}

static void run_audit(struct audit *audit, struct stage *stage)
{
	uint64_t count = stage->rounds * WORKERS * PER_ROUND;

	memset(audit, 0, sizeof(*audit));
	audit->stage = stage;
	audit->with_ideal = stage->policy.limit_count == 1 && stage->scenario->cost_max == 1 &&
			    !stage->scenario->free_running;
	for (size_t key = 0; key < KEYS; key++) {
		struct account *account = &audit->accounts[key];

		account->time_ns = START_NS;
		for (uint32_t i = 0; stage->scenario->free_running && i < LIMITS; i++)
			account->debt[i] = stage->policy.limits[i].period_ns;
	}
	if (stage->scenario->free_running)
		qsort(stage->records, count, sizeof(stage->records[0]), by_time);
	for (uint64_t i = 0; i < count; i++) {
		if (i > 0 && stage->records[i].time_ns != stage->records[i - 1].time_ns)
			close_time(audit);
		enter(audit, &stage->records[i]);
	}
	close_time(audit);
}

/* ---- The tests --------------------------------------------------------- */

static struct stage *set_the_stage(const struct scenario *scenario, uint64_t decisions,
				   size_t *size)
{
	uint64_t rounds = decisions / (WORKERS * PER_ROUND);
	pthread_barrierattr_t shared;
	struct weir_options options;
	struct stage *stage;

	*size = sizeof(*stage) + rounds * WORKERS * PER_ROUND * sizeof(stage->records[0]);
	stage = support_shared(*size);
	support_options(&options);
	options.clock = WEIR_CLOCK_CALLER;
	options.slots = 8 * KEYS;
	stage->scenario = scenario;
	stage->rounds = rounds;
	stage->seed = support_seed();
	stage->now_ns = START_NS;
	stage->weir = support_segment(&options);
	stage->policy = support_policy("exact", scenario->limits[0], scenario->limits[1],
				       scenario->limits[2], NULL);
	stage->id = support_define(stage->weir, &stage->policy);
	pthread_barrierattr_init(&shared);
	pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	ck_assert_int_eq(pthread_barrier_init(&stage->barrier, &shared, WORKERS), 0);
	return stage;
}

static void play(struct stage *stage)
{
	pid_t workers[WORKERS];

	for (uint64_t i = 0; i < WORKERS; i++) {
		workers[i] = support_fork();
		if (workers[i] == 0) {
			if (stage->scenario->free_running)
				work_freely(stage, i);
			else
				work_in_lock_step(stage, i);
			_exit(EXIT_SUCCESS);
		}
	}
	for (uint64_t i = 0; i < WORKERS; i++)
		support_join(workers[i]);
}

static const struct scenario scenarios[] = {
	/* T is a whole number of nanoseconds, or not. */
	{ { "1/1s" }, 1, false },
	{ { "100/1m burst 20" }, 1, false },
	{ { "3/10s" }, 1, false },
	{ { "7/3s burst 5" }, 1, false },
	{ { "30000000/1s burst 40" }, 1, false },
	{ { "100000000/1s burst 10" }, 1, false },
	{ { "3/7s burst 5" }, 5, false },
	{ { "97/1h burst 30" }, 20, false },
	{ { "30000000/1s burst 100" }, 30, false },
	/* Several limits. */
	{ { "7/3s burst 5", "100/1m burst 20" }, 2, false },
	{ { "30000000/1s burst 40", "7000000/300ms", "100000000/1s burst 10" }, 3, false },
	/* Free running. */
	{ { "7/3s burst 5" }, 2, true },
	{ { "30000000/1s burst 40" }, 1, true },
	{ { "3/7s burst 5", "100000000/1s burst 10" }, 1, true },
};

#define SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

START_TEST(test_against_exact_arithmetic)
{
	static struct audit audit;
	const struct scenario *scenario = &scenarios[_i];
	size_t size;
	struct stage *stage = set_the_stage(scenario, support_amount(800000, 10000000), &size);

	if (scenario->free_running)
		give_each_key_a_bucket(stage);
	play(stage);
	run_audit(&audit, stage);
	printf("%s%s%s: %llu granted, %llu denied, %llu denials with room\n", scenario->limits[0],
	       scenario->limits[1] ? " and others" : "",
	       scenario->free_running ? ", free running" : "", (unsigned long long)audit.granted,
	       (unsigned long long)audit.denied, (unsigned long long)audit.short_of);

	ck_assert_uint_eq(audit.above, 0);
	ck_assert_uint_eq(audit.off_ideal, 0);
	if (!scenario->limits[1] && !scenario->free_running)
		ck_assert_uint_eq(audit.short_of, 0);
	/* The test is one of denials and of grants, and nothing was evicted. */
	ck_assert_uint_gt(audit.granted, 1000);
	ck_assert_uint_gt(audit.denied, 1000);
	ck_assert_uint_eq(support_counter(stage->weir, "evicted_live", NULL), 0);
	ck_assert_uint_eq(support_counter(stage->weir, "table_full", NULL), 0);
	if (scenario->free_running) {
		ck_assert_uint_eq(support_counter(stage->weir, "claimed", NULL),
				  KEYS * stage->policy.limit_count);
		audit.granted += KEYS;
	}
	ck_assert_uint_eq(support_counter(stage->weir, "allowed", "exact"), audit.granted);
	ck_assert_uint_eq(support_counter(stage->weir, "denied", "exact"), audit.denied);
	weir_close(stage->weir);
}
END_TEST

/* A request that a second limit denies takes its charge of the first one back,
 * perhaps much later.  What has drained by then must not come back: others have
 * been admitted in its place. */
START_TEST(test_late_undo)
{
	/* 7 per 3 s, burst 2: T = 428571428 + 4 / 7 ns */
	static const struct limit limit = {
		.limit = 7,
		.period_ns = 3000000000,
		.burst = 2,
		.token_ns = 428571428,
		.token_part = 4,
		.parts = 7,
		.tolerance_ns = 428571428,
		.tolerance_part = 4,
	};
	static const uint64_t version;
	struct slot slot = { .state.second = STATE_LIVE };
	struct bucket_ref ref = { .slot = &slot };
	struct bucket_request spend = {
		.operation = BUCKET_SPEND, .cost = 1, .now_ns = START_NS, .version = &version,
	};
	struct bucket_request undo = spend;
	struct verdict verdict;

	undo.operation = BUCKET_UNDO;
	ck_assert_int_eq(bucket_apply(&ref, &limit, &spend, &verdict), BUCKET_DONE);
	undo.charged = verdict.after;

	/* At once, behind another charge: as if it had never been. */
	bucket_apply(&ref, &limit, &spend, &verdict);
	ck_assert(verdict.allowed);
	bucket_apply(&ref, &limit, &undo, &verdict);
	ck_assert_uint_eq(slot.state.first, START_NS + limit.token_ns);
	ck_assert_uint_eq(state_used(slot.state), 1);

	/* When it has drained, and others have had the bucket to themselves. */
	bucket_apply(&ref, &limit, &spend, &verdict);
	undo.charged = verdict.after;
	spend.now_ns += 1000000000;
	bucket_apply(&ref, &limit, &spend, &verdict);
	bucket_apply(&ref, &limit, &spend, &verdict);
	ck_assert(verdict.allowed);
	bucket_apply(&ref, &limit, &undo, &verdict);
	bucket_apply(&ref, &limit, &spend, &verdict);
	ck_assert(!verdict.allowed);
	ck_assert_uint_eq(state_used(slot.state), 3);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("exact");
	TCase *all = tcase_create("against exact arithmetic");

	tcase_set_timeout(all, 60);
	tcase_add_loop_test(all, test_against_exact_arithmetic, 0, (int)SCENARIOS);
	suite_add_tcase(suite, all);
	support_add(suite, "late undo", test_late_undo, 4);
	return support_main(suite);
}
