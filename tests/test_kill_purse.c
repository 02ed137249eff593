/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers that take tokens of one hot key ahead are killed with SIGKILL, wherever they
 * are.  Afterwards one process asks until it is denied, and then all that was granted is
 * the burst, of which nothing comes back for days, less
 *   - the request that each killed worker was in, and
 *   - what a worker had ahead that was killed between charging the bucket and filling its
 *     purse, or between emptying purses and giving back.
 * What the others had ahead is found: no time is waited for, and nobody is asked whether
 * they are alive.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/purse.h"
#include "tests/support.h"

#define WORKERS 4
#define LIFE_NS 1000000
#define KEY "everybody's"
#define BURST 20000000ull
#define LIMIT "20000000/365d"

struct lane {
	uint64_t granted;
} __attribute__((aligned(64)));

static struct weir *weir;
static weir_policy_id id;

/* At a random moment of the next LIFE_NS, wherever this process is then. */
static void arrange_to_be_killed(struct random_state *random)
{
	struct sigevent by = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	struct itimerspec when = { .it_value.tv_nsec = 1 + (long)random_below(random, LIFE_NS) };
	timer_t timer;

	must(timer_create(CLOCK_MONOTONIC, &by, &timer) == 0);
	must(timer_settime(timer, 0, &when, NULL) == 0);
}

static pid_t start(struct lane *lane, uint64_t seed, uint64_t number)
{
	struct random_state random = random_start(seed, number);
	pid_t worker = support_fork();

	if (worker != 0)
		return worker;
	arrange_to_be_killed(&random);
	for (;;) {
		must(weir_allow(weir, id, KEY, strlen(KEY), NULL));
		/* Sequentially consistent: a kill finds it in the order of the program. */
		__atomic_store_n(&lane->granted, lane->granted + 1, __ATOMIC_SEQ_CST);
	}
}

START_TEST(tokens_of_the_dead)
{
	struct weir_policy policy = support_policy("hot", LIMIT, NULL);
	uint64_t kills = support_amount(240, 20000), seed = support_seed();
	uint64_t granted = 0, last = 0, returned;
	struct lane *lanes = support_shared(kills * sizeof(*lanes));
	struct weir_options options;

	support_options(&options);
	policy.consistency = WEIR_LOCAL;
	policy.lease = true;
	if (kills > 1000)
		policy.limits[0].limit = policy.limits[0].burst = 100 * BURST;
	weir = support_segment(&options);
	id = support_define(weir, &policy);
	for (uint64_t i = 0; i < kills; i++) {
		int status;

		start(&lanes[i], seed, i);
		if (i + 1 < WORKERS)
			continue;
		ck_assert_int_gt(wait(&status), 0);
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	while (wait(NULL) > 0)
		;
	for (uint64_t i = 0; i < kills; i++)
		granted += lanes[i].granted;
	while (weir_allow(weir, id, KEY, strlen(KEY), NULL))
		last++;
	returned = support_counter(weir, "purse_tokens_returned", NULL);
	printf("%llu granted to %llu workers, %llu at last; %llu came back, %llu lost\n",
	       (unsigned long long)granted, (unsigned long long)kills, (unsigned long long)last,
	       (unsigned long long)returned,
	       (unsigned long long)(policy.limits[0].limit - granted - last));
	ck_assert_uint_le(granted + last, policy.limits[0].limit);
	ck_assert_uint_ge(granted + last + kills * (PURSE_TOKENS_MAX + 1), policy.limits[0].limit);
	ck_assert_uint_gt(returned, 0);
	weir_close(weir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("kill purse");

	support_add(suite, "tokens of the dead", tokens_of_the_dead, 60);
	return support_main(suite);
}
