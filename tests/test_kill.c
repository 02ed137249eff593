/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers are killed with SIGKILL, a thousand times in all, wherever they are: a
 * timer does it, so that it hits them while they run.  A worker notes in shared
 * memory what it is about to ask for, and what it was granted.  Afterwards, for
 * each key and limit:
 *
 *   granted  <=  consumed, says the bucket  <=  granted + what was in doubt
 *
 * where in doubt is the one request that each killed worker was in.
 *
 * Time comes from a shared clock that each decision moves on: what refills does
 * not depend on the speed of the machine.  No time is asserted on; the latency
 * of a worker that survives is printed beside that of a loop without Weir.
 */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/latency.h"
#include "tests/support.h"

#define VICTIMS 4
#define LANES (VICTIMS + 1)     /* the last one is the survivor's */
#define KEYS_MAX 16384
#define START_NS 1000000000000000000ull
#define STEP_NS 1000
#define IN_TURN 4               /* requests for a key before the next one's turn */
#define LIFE_NS 300000
#define YIELD_EVERY 32

struct scenario {
	const char *limits[WEIR_LIMITS_MAX];
	uint64_t slots;
	uint64_t keys;
	uint64_t cost_max;
	bool prepared;          /* every key has its bucket before the first kill */
	bool in_turn;           /* all workers ask for one key, then for the next */
	bool compact;
};

/* What one worker after the other writes in one place; only one at a time. */
struct lane {
	uint64_t request;       /* under way: key << 8 | cost; 0: none */
	uint64_t granted[KEYS_MAX];
} __attribute__((aligned(64)));

struct yard {
	struct lane lanes[LANES];
	uint64_t now_ns __attribute__((aligned(64)));
	uint64_t stop __attribute__((aligned(64)));
	struct latency decisions, nothing;      /* the survivor's */
};

struct run {
	const struct scenario *scenario;
	struct weir *weir;
	struct weir_policy policy;
	weir_policy_id id;
	struct yard *yard;
	uint64_t seed;
	pid_t workers[LANES];
	uint64_t started;               /* workers so far */
	uint64_t doubt[KEYS_MAX];
	uint64_t doubtful_kills;
};

/* ---- Workers ----------------------------------------------------------- */

static uint64_t key_for(const struct scenario *scenario, uint64_t now_ns,
			struct random_state *random)
{
	if (scenario->in_turn)
		return (now_ns - START_NS) / STEP_NS / IN_TURN % scenario->keys;
	return random_below(random, scenario->keys);
}

static void decide_once(const struct run *run, struct lane *lane, struct random_state *random)
{
	uint64_t now_ns = __atomic_add_fetch(&run->yard->now_ns, STEP_NS, __ATOMIC_RELAXED);
	uint64_t key = key_for(run->scenario, now_ns, random);
	uint64_t cost = 1 + random_below(random, run->scenario->cost_max);
	struct weir_request request = { run->id, &key, sizeof(key), cost, now_ns };
	struct weir_decision decision;

	/* Sequentially consistent: a kill finds these in the order of the program. */
	__atomic_store_n(&lane->request, key << 8 | cost, __ATOMIC_SEQ_CST);
	if (weir_decide(run->weir, &request, &decision)) {
		must(decision.reason == WEIR_REASON_LIMIT);
		__atomic_store_n(&lane->granted[key], lane->granted[key] + cost, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&lane->request, 0, __ATOMIC_SEQ_CST);
}

/* At a random moment of the next LIFE_NS, wherever this process is then. */
static void arrange_to_be_killed(struct random_state *random)
{
	struct sigevent by = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	struct itimerspec when = { .it_value.tv_nsec = 1 + (long)random_below(random, LIFE_NS) };
	timer_t timer;

	must(timer_create(CLOCK_MONOTONIC, &by, &timer) == 0);
	must(timer_settime(timer, 0, &when, NULL) == 0);
}

static void be_a_victim(const struct run *run, struct lane *lane)
{
	struct random_state random = random_start(run->seed, run->started);

	decide_once(run, lane, &random);
	arrange_to_be_killed(&random);
	for (;;)
		decide_once(run, lane, &random);
}

static void survive(const struct run *run, struct lane *lane)
{
	struct random_state random = random_start(run->seed, run->started);
	uint64_t private_word = 0, before = latency_clock_ns();

	while (!__atomic_load_n(&run->yard->stop, __ATOMIC_RELAXED)) {
		uint64_t between, after;

		decide_once(run, lane, &random);
		between = latency_clock_ns();
		__sync_bool_compare_and_swap(&private_word, private_word, before);
		after = latency_clock_ns();
		latency_add(&run->yard->decisions, between - before);
		latency_add(&run->yard->nothing, after - between);
		before = after;
		/* Two cores are few: let the victims have them. */
		if (run->yard->nothing.count % YIELD_EVERY == 0) {
			sched_yield();
			before = latency_clock_ns();
		}
	}
}

static void start_worker(struct run *run, int place)
{
	struct lane *lane = &run->yard->lanes[place];

	run->started++;
	run->workers[place] = support_fork();
	if (run->workers[place] != 0)
		return;
	if (place == VICTIMS)
		survive(run, lane);
	else
		be_a_victim(run, lane);
	_exit(EXIT_SUCCESS);
}

/* ---- The undertaker ---------------------------------------------------- */

/* Wait for a victim's end.  Returns its place. */
static int bury_one(struct run *run)
{
	int status, place = 0;
	pid_t dead = waitpid(-1, &status, 0);
	struct lane *lane;

	while (place < VICTIMS && run->workers[place] != dead)
		place++;
	ck_assert_int_lt(place, VICTIMS);
	/* Or it has found an error itself, and said so. */
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	lane = &run->yard->lanes[place];
	if (lane->request) {
		run->doubt[lane->request >> 8] += lane->request & 0xff;
		run->doubtful_kills++;
		lane->request = 0;
	}
	return place;
}

static void kill_many(struct run *run, uint64_t kills)
{
	for (uint64_t i = 0; i < kills; i++) {
		int place = bury_one(run);

		if (i + VICTIMS < kills)
			start_worker(run, place);
	}
}

static void start(struct run *run, const struct scenario *scenario)
{
	struct weir_options options;
	char name[128];

	memset(run, 0, sizeof(*run));
	support_options(&options);
	options.clock = WEIR_CLOCK_CALLER;
	options.slots = scenario->slots;
	options.compact = scenario->compact;
	run->scenario = scenario;
	run->weir = support_named(&options, "kill", name, sizeof(name));
	run->policy = support_policy("kill", scenario->limits[0], scenario->limits[1], NULL);
	run->id = support_define(run->weir, &run->policy);
	run->yard = support_shared(sizeof(*run->yard));
	run->yard->now_ns = START_NS;
	run->seed = support_seed();
	for (uint64_t key = 0; scenario->prepared && key < scenario->keys; key++) {
		struct weir_request request = { run->id, &key, sizeof(key), 1, START_NS };

		ck_assert(weir_decide(run->weir, &request, NULL));
		run->yard->lanes[VICTIMS].granted[key] = 1;
	}
}

/* ---- Afterwards -------------------------------------------------------- */

static uint64_t granted(const struct run *run, uint64_t key)
{
	uint64_t sum = 0;

	for (int i = 0; i < LANES; i++)
		sum += run->yard->lanes[i].granted[key];
	return sum;
}

struct consumption {
	const struct run *run;
	uint64_t tokens[WEIR_LIMITS_MAX][KEYS_MAX];
};

static bool add_up(const struct weir_bucket *bucket, void *context)
{
	struct consumption *consumption = context;
	uint64_t key;

	ck_assert_str_eq(bucket->policy, "kill");
	ck_assert_uint_eq(bucket->key_length, sizeof(key));
	memcpy(&key, bucket->key, sizeof(key));
	ck_assert_uint_lt(key, consumption->run->scenario->keys);
	ck_assert_uint_eq(consumption->tokens[bucket->limit_index][key], 0);    /* one bucket */
	consumption->tokens[bucket->limit_index][key] = bucket->consumed;
	return true;
}

/* A compact segment tells of one bucket at a time: of the first limit's, when it is the
 * policy's only one, the debt.  None of its tokens is back before the end. */
static void ask_for_each(struct run *run, struct consumption *consumption)
{
	const struct weir_limit *limit = &run->policy.limits[0];

	run->policy.limit_count = 1;
	run->id = support_define(run->weir, &run->policy);
	for (uint64_t key = 0; key < run->scenario->keys; key++) {
		struct weir_request request = { run->id, &key, sizeof(key), 0, START_NS };
		struct weir_decision decision;

		weir_status(run->weir, &request, &decision);
		ck_assert_int_ne(decision.outcome, WEIR_UNAVAILABLE);
		consumption->tokens[0][key] =
			decision.reset_after_ns / (limit->period_ns / limit->limit);
	}
}

/* burst + rate x elapsed, in whole tokens. */
static uint64_t capacity(const struct run *run, const struct weir_limit *limit)
{
	unsigned __int128 elapsed_ns = run->yard->now_ns - START_NS;

	return (limit->burst ? limit->burst : limit->limit) +
	       (uint64_t)(elapsed_ns * limit->limit / limit->period_ns);
}

static void compare(struct run *run)
{
	static struct consumption consumption;

	consumption = (struct consumption){ .run = run };
	if (run->scenario->compact)
		ask_for_each(run, &consumption);
	else
		weir_each_bucket(run->weir, run->yard->now_ns, add_up, &consumption);
	for (uint64_t key = 0; key < run->scenario->keys; key++) {
		for (uint32_t i = 0; i < run->policy.limit_count; i++) {
			uint64_t consumed = consumption.tokens[i][key];

			ck_assert_uint_ge(consumed, granted(run, key));
			ck_assert_uint_le(consumed, granted(run, key) + run->doubt[key]);
			ck_assert_uint_le(granted(run, key), capacity(run, &run->policy.limits[i]));
		}
	}
}

static void must_not_be_found(const char *finding, void *context)
{
	(void)context;
	ck_abort_msg("weir_check: %s", finding);
}

static void kill_under_load(const struct scenario *scenario)
{
	static struct run run;
	uint64_t kills = support_amount(350, 20000);

	start(&run, scenario);
	for (int place = 0; place < LANES; place++)
		start_worker(&run, place);
	kill_many(&run, kills);
	__atomic_store_n(&run.yard->stop, 1, __ATOMIC_RELAXED);
	support_join(run.workers[VICTIMS]);

	compare(&run);
	ck_assert_uint_eq(weir_check(run.weir, must_not_be_found, NULL), 0);
	ck_assert_uint_eq(support_counter(run.weir, "evicted_live", NULL), 0);
	ck_assert_uint_eq(support_counter(run.weir, "repaired", NULL), 0);
	printf("%llu kills, %llu of them inside of a decision; %llu allowed, %llu denied\n",
	       (unsigned long long)kills, (unsigned long long)run.doubtful_kills,
	       (unsigned long long)support_counter(run.weir, "allowed", NULL),
	       (unsigned long long)support_counter(run.weir, "denied", NULL));
	latency_print("survivor's decisions", &run.yard->decisions);
	latency_print("loop without Weir   ", &run.yard->nothing);
	weir_close(run.weir);
}

/* ---- The tests --------------------------------------------------------- */

static const struct scenario scenarios[] = {
	/* Hot keys. */
	{ .limits = { "100000000/100d" },
	  .slots = 1024,
	  .keys = 4,
	  .cost_max = 3,
	  .prepared = true },
	/* Nearly every decision claims a slot, and all at once the same one. */
	{ .limits = { "1000/100d burst 4" },
	  .slots = 32768,
	  .keys = KEYS_MAX,
	  .cost_max = 2,
	  .in_turn = true },
	/* The second limit denies half of what the first one allows, so that charges of
	 * the first are taken back. */
	{ .limits = { "100000000/100d", "2500/10ms burst 8" },
	  .slots = 1024,
	  .keys = 2,
	  .cost_max = 1,
	  .prepared = true },
};

START_TEST(test_kill)
{
	kill_under_load(&scenarios[_i]);
}
END_TEST

START_TEST(test_kill_compact)
{
	struct scenario scenario = scenarios[_i];

	scenario.compact = true;
	kill_under_load(&scenario);
}
END_TEST

int main(void)
{
	int count = sizeof(scenarios) / sizeof(scenarios[0]);
	Suite *suite = suite_create("kill");
	TCase *kill = tcase_create("kill"), *compact = tcase_create("compact");

	tcase_set_timeout(kill, 60);
	tcase_set_timeout(compact, 60);
	tcase_add_loop_test(kill, test_kill, 0, count);
	tcase_add_loop_test(compact, test_kill_compact, 0, count);
	suite_add_tcase(suite, kill);
	suite_add_tcase(suite, compact);
	return support_main(suite);
}
