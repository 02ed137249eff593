/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holders of a concurrency limit are killed with SIGKILL, anywhere in acquiring,
 * holding and releasing.  At no time do living workers hold more than the limit,
 * and when all are dead everything can be had again.
 *
 * Who holds what is kept in one word of shared memory, so that each change of it
 * sees all holders at one moment: four bits of units for each worker.  A worker's
 * units must leave the word before it is dead, for then the others may have them:
 * so a timer's signal interrupts it anywhere, and the handler dooms it, takes its
 * units out, and sends SIGKILL.  Control never returns to where it was.
 */
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"

#define WORKERS 8
#define LIMIT 5
#define RECORDS 16
#define LIFE_US 300
#define UNITS_BITS 4
#define UNITS(place) (15ull << (place) * UNITS_BITS)
#define DOOM(place) (1ull << (WORKERS * UNITS_BITS + (place)))

struct yard {
	uint64_t holders;
	uint64_t turns;                 /* acquired and released */
	uint64_t most;                  /* units held at once */
};

struct run {
	struct weir *weir;
	weir_policy_id id;
	struct yard *yard;
	uint64_t seed;
	uint64_t started;
	pid_t workers[WORKERS];
};

static uint64_t units_held(uint64_t holders)
{
	uint64_t units = 0;

	for (int place = 0; place < WORKERS; place++)
		units += (holders & UNITS(place)) >> place * UNITS_BITS;
	return units;
}

/* PLACE holds UNITS from now on, unless it is doomed. */
static void note_units(struct yard *yard, int place, uint64_t units)
{
	uint64_t now = __atomic_load_n(&yard->holders, __ATOMIC_SEQ_CST), next;

	do {
		if (now & DOOM(place))
			return;
		next = (now & ~UNITS(place)) | units << place * UNITS_BITS;
	} while (!__atomic_compare_exchange_n(&yard->holders, &now, next, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
	must(units_held(next) <= LIMIT);
	if (units_held(next) > __atomic_load_n(&yard->most, __ATOMIC_RELAXED))
		__atomic_store_n(&yard->most, units_held(next), __ATOMIC_RELAXED);
}

static void hold_and_release(const struct run *run, int place, struct random_state *random)
{
	static const uint64_t key = 7;
	struct weir_request request = {
		.policy = run->id,
		.key = &key,
		.key_length = sizeof(key),
		.cost = 1 + random_below(random, 3),
	};
	struct weir_decision decision;
	struct weir_hold hold;

	if (!weir_acquire(run->weir, &request, &hold, &decision))
		return;
	must(decision.reason == WEIR_REASON_LIMIT);
	note_units(run->yard, place, request.cost);
	for (uint64_t i = random_below(random, 100); i > 0; i--)
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	note_units(run->yard, place, 0);
	must(weir_release(run->weir, &hold) == WEIR_OK);
	__atomic_add_fetch(&run->yard->turns, 1, __ATOMIC_RELAXED);
}

/* In the worker, for its signal handler. */
static struct yard *own_yard;
static int own_place;

static void die_here(int signal_number)
{
	(void)signal_number;
	__atomic_fetch_or(&own_yard->holders, DOOM(own_place), __ATOMIC_SEQ_CST);
	__atomic_fetch_and(&own_yard->holders, ~UNITS(own_place), __ATOMIC_SEQ_CST);
	raise(SIGKILL);
}

/* At a random moment of the next LIFE_US. */
static void arrange_to_die(struct random_state *random)
{
	struct itimerval when = { .it_value.tv_usec = 1 + (long)random_below(random, LIFE_US) };

	must(signal(SIGALRM, die_here) != SIG_ERR);
	must(setitimer(ITIMER_REAL, &when, NULL) == 0);
}

static void start_worker(struct run *run, int place)
{
	struct random_state random = random_start(run->seed, run->started++);

	run->workers[place] = support_fork();
	if (run->workers[place] != 0)
		return;
	own_yard = run->yard;
	own_place = place;
	arrange_to_die(&random);
	for (;;)
		hold_and_release(run, place, &random);
}

static int bury_one(struct run *run)
{
	int status, place = 0;
	pid_t dead = waitpid(-1, &status, 0);

	while (place < WORKERS && run->workers[place] != dead)
		place++;
	ck_assert_int_lt(place, WORKERS);
	/* Or it has found an error itself, and said so. */
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	__atomic_fetch_and(&run->yard->holders, ~DOOM(place), __ATOMIC_SEQ_CST);
	return place;
}

static void kill_many(struct run *run, uint64_t kills)
{
	for (uint64_t i = 0; i < kills; i++) {
		int place = bury_one(run);

		if (i + WORKERS < kills)
			start_worker(run, place);
	}
}

/* One request for all of it, and for one unit too many. */
static void must_have_everything(const struct run *run, uint64_t key)
{
	struct weir_request request = { run->id, &key, sizeof(key), LIMIT, 0 };
	struct weir_request one_more = { run->id, &key, sizeof(key), 1, 0 };
	struct weir_decision decision;
	struct weir_hold hold, none;
	struct weir_bucket bucket;

	ck_assert(weir_acquire(run->weir, &request, &hold, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	ck_assert(!weir_acquire(run->weir, &one_more, &none, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	ck_assert(support_bucket(run->weir, "door", 0, &key, sizeof(key), 0, &bucket));
	ck_assert_uint_eq(bucket.consumed, LIMIT);
	ck_assert_int_eq(weir_release(run->weir, &hold), WEIR_OK);
	ck_assert(support_bucket(run->weir, "door", 0, &key, sizeof(key), 0, &bucket));
	ck_assert_uint_eq(bucket.consumed, 0);
}

/* No record stays with the dead: all can be used at once. */
static void must_have_every_record(const struct run *run)
{
	struct weir_hold holds[RECORDS];
	struct weir_decision decision;

	for (uint64_t key = 0; key < RECORDS; key++) {
		struct weir_request request = { run->id, &key, sizeof(key), 1, 0 };

		ck_assert(weir_acquire(run->weir, &request, &holds[key], &decision));
		ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	}
	for (uint64_t key = 0; key < RECORDS; key++)
		ck_assert_int_eq(weir_release(run->weir, &holds[key]), WEIR_OK);
}

START_TEST(test_holders_are_killed)
{
	struct weir_policy policy = support_policy("door", "5 concurrency", NULL);
	struct weir_options options;
	static struct run run;
	uint64_t kills = support_amount(300, 10000);

	/* Without a record a worker must not be let in: it would not be counted. */
	policy.fail_mode = WEIR_FAIL_CLOSED;
	support_options(&options);
	options.holds = RECORDS;
	run.weir = support_segment(&options);
	run.id = support_define(run.weir, &policy);
	run.yard = support_shared(sizeof(*run.yard));
	run.seed = support_seed();

	for (int place = 0; place < WORKERS; place++)
		start_worker(&run, place);
	kill_many(&run, kills);

	ck_assert_uint_eq(run.yard->holders, 0);
	must_have_everything(&run, 7);
	must_have_every_record(&run);
	printf("%llu kills, %llu turns, at most %llu of %d units held at once, %llu holds reaped\n",
	       (unsigned long long)kills, (unsigned long long)run.yard->turns,
	       (unsigned long long)run.yard->most, LIMIT,
	       (unsigned long long)support_counter(run.weir, "holds_reaped", NULL));
	weir_close(run.weir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("kill_holds");

	support_add(suite, "holders are killed", test_holders_are_killed, 60);
	return support_main(suite);
}
