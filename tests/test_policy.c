/* SPDX-License-Identifier: Apache-2.0 */
/* Policies in the segment: define, replace, remove, list; writers and readers in
 * several processes, and writers that die or stop on the way. */
#include <check.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/policy_table.h"
#include "src/handle.h"
#include "fixture.h"
#include "tests/suite.h"

static struct weir *weir;

static void open_weir(void)
{
	weir = fixture_open_slots(1024);
}

static void close_weir(void)
{
	weir_close(weir);
}

static bool same_policy(const struct weir_policy *a, const struct weir_policy *b)
{
	if (strcmp(a->name, b->name) != 0 || a->limit_count != b->limit_count ||
	    a->fail_mode != b->fail_mode || a->consistency != b->consistency ||
	    a->shadow != b->shadow || a->lease != b->lease)
		return false;
	for (uint32_t i = 0; i < a->limit_count; i++) {
		const struct weir_limit *x = &a->limits[i], *y = &b->limits[i];

		if (x->limit != y->limit || x->period_ns != y->period_ns ||
		    (x->burst ? x->burst : x->limit) != (y->burst ? y->burst : y->limit) ||
		    x->algorithm != y->algorithm || x->action != y->action)
			return false;
	}
	return true;
}

/* ---- One process ------------------------------------------------------- */

START_TEST(set_and_get)
{
	struct weir_policy policy = fixture_policy(
		"Api:v1/users_9.a-b",
		"100/1m burst 20, 10/1s sliding-window flag, 7/3s fixed-window, 5 concurrency");
	struct weir_policy got;
	struct weir_error error;

	policy.fail_mode = WEIR_FAIL_CLOSED;
	policy.consistency = WEIR_EVENTUAL;
	policy.shadow = true;
	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, &error), WEIR_OK);
	ck_assert_int_eq(error.status, WEIR_OK);
	memset(&got, 0xff, sizeof(got));
	ck_assert_int_eq(weir_policy_get(weir, policy.name, &got, &error), WEIR_OK);
	ck_assert(same_policy(&policy, &got));
	ck_assert_int_eq(weir_policy_check(&got, &error), WEIR_OK);

	ck_assert_int_eq(weir_policy_get(weir, "Api:v1/users_9.a-", &got, &error), WEIR_ENOENT);
	ck_assert_str_eq(error.message,
			 "no policy \"Api:v1/users_9.a-\" in the segment; define it first");
	ck_assert_int_eq(weir_policy_get(weir, NULL, &got, &error), WEIR_ENOENT);
	ck_assert(weir_policy_find(weir, "api:v1/users_9.a-b") == WEIR_NO_POLICY);
	ck_assert(weir_policy_find(weir, NULL) == WEIR_NO_POLICY);
	ck_assert(weir_policy_find(weir, "") == WEIR_NO_POLICY);
}
END_TEST

/* Names of every length, and one that is only the beginning of another. */
START_TEST(names_of_all_lengths)
{
	char name[WEIR_NAME_MAX + 2];
	struct weir_policy policy = fixture_policy("x", "1/1s");
	struct weir_error error;

	for (size_t length = 1; length <= WEIR_NAME_MAX; length += 31) {
		memset(name, 'n', length);
		name[length] = '\0';
		strcpy(policy.name, name);
		ck_assert_int_eq(weir_policy_set(weir, &policy, 1, &error), WEIR_OK);
		ck_assert(weir_policy_find(weir, name) != WEIR_NO_POLICY);
	}
	ck_assert_uint_eq(weir_policy_list(weir, NULL, 0), 3);
	memset(name, 'n', WEIR_NAME_MAX + 1);
	name[WEIR_NAME_MAX + 1] = '\0';
	ck_assert(weir_policy_find(weir, name) == WEIR_NO_POLICY);
	memset(policy.name, 'n', sizeof(policy.name));
	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, &error), WEIR_EINVAL);
}
END_TEST

START_TEST(list_is_sorted)
{
	static const char *const names[] = { "m", "z", "a", "k/2", "k/1" };
	static const char *const sorted[] = { "a", "k/1", "k/2", "m", "z" };
	struct weir_policy policies[8];

	ck_assert_uint_eq(weir_policy_list(weir, policies, LENGTH(policies)), 0);
	for (size_t i = 0; i < LENGTH(names); i++)
		fixture_set(weir, names[i], "1/1s");
	ck_assert_uint_eq(weir_policy_list(weir, policies, LENGTH(policies)), LENGTH(sorted));
	for (size_t i = 0; i < LENGTH(sorted); i++)
		ck_assert_str_eq(policies[i].name, sorted[i]);
	/* Too small an array is filled, and the answer tells how many there are. */
	memset(policies, 0, sizeof(policies));
	ck_assert_uint_eq(weir_policy_list(weir, policies, 2), LENGTH(sorted));
	ck_assert_str_ne(policies[1].name, "");
	ck_assert_str_eq(policies[2].name, "");
}
END_TEST

/* One policy of a set is bad: none is defined, none is replaced. */
START_TEST(a_set_is_all_or_none)
{
	struct weir_policy set[3], before, got;
	struct weir_error error;
	int bad = _i;

	fixture_set(weir, "one", "1/1s");
	ck_assert_int_eq(weir_policy_get(weir, "one", &before, NULL), WEIR_OK);
	set[0] = fixture_policy("one", "2/1s");
	set[1] = fixture_policy("two", "2/1s");
	set[2] = fixture_policy("three", "2/1s");
	set[bad].limits[0].period_ns = 1;
	ck_assert_int_eq(weir_policy_set(weir, set, 3, &error), WEIR_EINVAL);
	ck_assert_str_ne(error.message, "");
	ck_assert_uint_eq(weir_policy_list(weir, NULL, 0), 1);
	ck_assert_int_eq(weir_policy_get(weir, "one", &got, NULL), WEIR_OK);
	ck_assert(same_policy(&before, &got));

	set[bad].limits[0].period_ns = SECOND;
	ck_assert_int_eq(weir_policy_set(weir, set, 3, &error), WEIR_OK);
	ck_assert_uint_eq(weir_policy_list(weir, NULL, 0), 3);
	ck_assert_int_eq(weir_policy_set(weir, NULL, 0, &error), WEIR_OK);
	ck_assert_uint_eq(weir_policy_list(weir, NULL, 0), 3);
}
END_TEST

/* The segment holds 16 policies: the 17th is refused, and so is all of its set;
 * replacing needs no room; a removed one makes some. */
START_TEST(segment_full_of_policies)
{
	struct weir_policy set[2] = { fixture_policy("p3", "9/1s"), fixture_policy("new", "9/1s") };
	struct weir_policy got;
	struct weir_error error;
	char name[8];

	for (int i = 0; i < 16; i++) {
		snprintf(name, sizeof(name), "p%d", i);
		fixture_set(weir, name, "1/1s");
	}
	ck_assert_int_eq(weir_policy_set(weir, set, 2, &error), WEIR_ENOSPC);
	ck_assert_str_eq(error.message,
			 "no room for policy \"new\": the segment holds 16 policies; "
			 "remove one, or create the segment with more");
	ck_assert_int_eq(weir_policy_get(weir, "p3", &got, NULL), WEIR_OK);
	ck_assert_uint_eq(got.limits[0].limit, 1);
	ck_assert_int_eq(weir_policy_set(weir, set, 1, &error), WEIR_OK);
	ck_assert_int_eq(weir_policy_remove(weir, "p7", &error), WEIR_OK);
	ck_assert_int_eq(weir_policy_set(weir, set, 2, &error), WEIR_OK);
	ck_assert_uint_eq(weir_policy_list(weir, NULL, 0), 16);
}
END_TEST

/* An id is one policy's for ever: it is kept by replacing, ended by removing,
 * and not revived by a new policy of the same name in the same place. */
START_TEST(ids)
{
	weir_policy_id id = fixture_set(weir, "p", "1/1h"), again;
	struct weir_request request = { id, "k", 1, 1, EPOCH };
	struct weir_decision decision;
	struct weir_error error;

	ck_assert_uint_eq(fixture_set(weir, "p", "2/1h"), id);
	ck_assert(weir_decide(weir, &request, &decision));
	ck_assert_int_eq(weir_policy_remove(weir, "p", &error), WEIR_OK);
	ck_assert(weir_policy_find(weir, "p") == WEIR_NO_POLICY);
	ck_assert(!weir_decide(weir, &request, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_NO_POLICY);
	ck_assert_int_eq(weir_policy_remove(weir, "p", &error), WEIR_ENOENT);
	ck_assert_str_eq(error.message, "no policy \"p\" in the segment; define it first");

	again = fixture_set(weir, "p", "2/1h");
	ck_assert_uint_ne(again, id);
	ck_assert(!weir_decide(weir, &request, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_NO_POLICY);
	request.policy = again;
	ck_assert(weir_decide(weir, &request, &decision));
	ck_assert_int_eq(decision.reason, WEIR_REASON_LIMIT);
	ck_assert_uint_gt(fixture_counter(weir, "unknown_policy"), 0);
}
END_TEST

/* The counters of a policy are its own: the next one in its place starts at 0. */
START_TEST(counters_start_anew)
{
	weir_policy_id id = fixture_set(weir, "p", "1/1h");
	struct weir_request request = { id, "k", 1, 1, EPOCH };

	ck_assert(weir_decide(weir, &request, NULL));
	ck_assert_uint_eq(fixture_counter(weir, "allowed"), 1);
	ck_assert_int_eq(weir_policy_remove(weir, "p", NULL), WEIR_OK);
	fixture_set(weir, "q", "1/1h");
	ck_assert_uint_eq(fixture_counter(weir, "allowed"), 0);
}
END_TEST

/* ---- Several processes ------------------------------------------------- */

/* How far a worker is. */
struct shared {
	uint64_t rounds;
};

static struct shared *shared_make(void)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(shared, MAP_FAILED);
	return shared;
}

/* Fork a process that dies with this one, does WORK until it is killed, and
 * tells through SHARED how far it is. */
static pid_t fork_worker(void (*work)(struct shared *shared), struct shared *shared)
{
	pid_t parent = getpid(), child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == parent) {
			work(shared);
			__atomic_add_fetch(&shared->rounds, 1, __ATOMIC_RELAXED);
		}
		_exit(0);
	}
	return child;
}

/* On one processor with its writer a reader is interrupted anywhere, for as long
 * as many changes take. */
static void share_one_processor(void)
{
	cpu_set_t allowed, one;
	int first = 0;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	while (!CPU_ISSET(first, &allowed))
		first++;
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
}

static uint64_t rounds_of(const struct shared *shared)
{
	return __atomic_load_n(&shared->rounds, __ATOMIC_RELAXED);
}

static void end_worker(pid_t child)
{
	int result;

	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, &result, 0), child);
	ck_assert(WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL);
}

/* Two versions of two policies.  The bursts and the times of a token differ by
 * the factor in which no mixture of them looks like either. */
static const char *const versions[2] = { "1000/1s burst 1000000",
					      "10/10s burst 1000" };

/* Both versions of p and q, made before the workers fork: Check's assertions are
 * for the test's own process. */
static struct weir_policy version_sets[2][2];

static void make_versions(void)
{
	for (int i = 0; i < 2; i++) {
		version_sets[i][0] = fixture_policy("p", versions[i]);
		version_sets[i][1] = fixture_policy("q", versions[i]);
	}
	ck_assert_int_eq(weir_policy_set(weir, version_sets[0], 2, NULL), WEIR_OK);
}

static void flip_versions(struct shared *shared)
{
	/* Not in step with the two banks, which take turns. */
	if (weir_policy_set(weir, version_sets[rounds_of(shared) >> 1 & 1], 2, NULL) != WEIR_OK)
		_exit(1);
}

/* Whoever reads gets all policies of one version. */
START_TEST(readers_never_see_a_mixture)
{
	struct shared *shared = shared_make();
	unsigned seen[2] = { 0, 0 };
	pid_t writers[2];

	make_versions();
	writers[0] = fork_worker(flip_versions, shared);
	writers[1] = fork_worker(flip_versions, shared);
	for (unsigned i = 0; i < 20000 || rounds_of(shared) < 100; i++) {
		struct weir_policy got[2];
		int version;

		must(weir_policy_get(weir, "p", &got[0], NULL) == WEIR_OK);
		version = same_policy(&got[0], &version_sets[1][0]);
		seen[version]++;
		must(same_policy(&got[0], &version_sets[version][0]));
		must(weir_policy_list(weir, got, 2) == 2);
		strcpy(got[1].name, got[0].name);
		must(same_policy(&got[0], &got[1]));
	}
	end_worker(writers[0]);
	end_worker(writers[1]);
	ck_assert_uint_gt(seen[0] + seen[1], 0);
}
END_TEST

/*
 * Whoever decides goes by one version as well, also when it denies.  The bucket
 * is so deep in debt that each version denies, with a wait that is its own; the
 * waits that a mixture would tell are others.
 */
START_TEST(decisions_never_see_a_mixture)
{
	static const uint64_t token_ns[2] = { MS, SECOND }, burst[2] = { 1000000, 1000 };
	struct weir_request request = { WEIR_NO_POLICY, "key", 3, 2000000, EPOCH };
	struct shared *shared = shared_make();
	struct weir_decision decision, batch[1];
	uint64_t enough = fixture_soak() ? 1000000 : 10000;
	pid_t writer;

	make_versions();
	request.policy = weir_policy_find(weir, "p");
	ck_assert(weir_force_take(weir, &request, NULL));
	share_one_processor();
	writer = fork_worker(flip_versions, shared);
	for (unsigned i = 0; i < 100000 || rounds_of(shared) < enough; i++) {
		bool matches = false;

		request.cost = 2 + i % 2;
		if (i % 4 == 0) {
			must(weir_decide_batch(weir, &request, batch, 1) == 0);
			decision = batch[0];
		} else if (i % 4 == 1) {
			must(!weir_status(weir, &request, &decision));
		} else {
			must(!weir_decide(weir, &request, &decision));
		}
		must(decision.outcome == WEIR_DENIED && decision.reason == WEIR_REASON_LIMIT);
		for (int v = 0; v < 2; v++)
			matches |= decision.limit == burst[v] &&
				   decision.retry_after_ns ==
					   2000 * SECOND - (burst[v] - request.cost) * token_ns[v];
		if (!matches)
			ck_abort_msg("limit %llu, retry after %llu",
				     (unsigned long long)decision.limit,
				     (unsigned long long)decision.retry_after_ns);
	}
	end_worker(writer);
}
END_TEST

/* A refund that meets a change of the policies on its way is made once. */
START_TEST(refund_is_made_once)
{
	weir_policy_id id = fixture_set(weir, "refunded", "1000/1s burst 1000000");
	struct weir_request request = { id, "key", 3, 1000000, EPOCH };
	struct shared *shared = shared_make();
	uint64_t enough = fixture_soak() ? 1000000 : 10000;
	struct weir_decision decision;
	pid_t writer;

	ck_assert(weir_force_take(weir, &request, &decision));
	make_versions();
	/* Other policies are replaced: this one's numbers stay the same. */
	share_one_processor();
	writer = fork_worker(flip_versions, shared);
	request.cost = 1;
	for (unsigned i = 0; i < 30000 || rounds_of(shared) < enough; i++) {
		must(weir_refund(weir, &request, &decision));
		must(decision.retry_after_ns == 0);
		must(weir_force_take(weir, &request, &decision));
		must(decision.reset_after_ns == 1000 * SECOND);
	}
	end_worker(writer);
}
END_TEST

static void take_lock(struct shared *shared)
{
	if (segment_lock(weir->segment, NULL) != WEIR_OK)
		_exit(1);
	__atomic_add_fetch(&shared->rounds, 1, __ATOMIC_RELAXED);
	for (;;)
		pause();
}

/* The kernel drops the lock of a writer that dies: the next one goes on. */
START_TEST(writer_is_killed)
{
	struct shared *shared = shared_make();
	pid_t writer;

	fixture_set(weir, "p", "1/1s");
	writer = fork_worker(take_lock, shared);
	while (rounds_of(shared) == 0)
		sched_yield();
	/* Readers do not wait for a writer. */
	ck_assert(weir_policy_find(weir, "p") != WEIR_NO_POLICY);
	end_worker(writer);
	fixture_set(weir, "p", "2/1s");
}
END_TEST

/* Killed anywhere while it replaces policies, a writer leaves those of before or
 * those of after. */
START_TEST(writer_is_killed_anywhere)
{
	unsigned kills = fixture_soak() ? 5000 : 60;
	uint64_t random = 1;

	make_versions();
	for (unsigned i = 0; i < kills; i++) {
		struct shared *shared = shared_make();
		struct weir_policy got[2];
		pid_t writer = fork_worker(flip_versions, shared);
		uint64_t until = 1 + fixture_random(&random, 20);

		while (rounds_of(shared) < until)
			sched_yield();
		end_worker(writer);
		ck_assert_uint_eq(weir_policy_list(weir, got, 2), 2);
		ck_assert(same_policy(&got[0], &version_sets[0][0]) ||
			  same_policy(&got[0], &version_sets[1][0]));
		strcpy(got[1].name, "p");
		ck_assert(same_policy(&got[0], &got[1]));
		munmap(shared, sizeof(*shared));
		ck_assert_int_eq(weir_policy_set(weir, version_sets[i & 1], 2, NULL), WEIR_OK);
	}
	ck_assert_uint_eq(weir_check(weir, NULL, NULL), 1);     /* its name is gone */
}
END_TEST

/* A writer that is stopped, not dead, keeps the lock: others give up after 5 s
 * and say who it is.  Long form only. */
START_TEST(writer_is_stopped)
{
	struct shared *shared = shared_make();
	struct weir_policy policy = fixture_policy("p", "1/1s");
	struct weir_error error;
	char expected[128];
	pid_t writer;

	if (!fixture_soak())
		return;
	writer = fork_worker(take_lock, shared);
	while (rounds_of(shared) == 0)
		sched_yield();
	ck_assert_int_eq(kill(writer, SIGSTOP), 0);
	snprintf(expected, sizeof(expected),
		 "process %d has been changing policies for 5 s; if it is stopped, let it go on "
		 "or kill it", (int)writer);
	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, &error), WEIR_EBUSY);
	ck_assert_str_eq(error.message, expected);
	end_worker(writer);
	ck_assert_int_eq(weir_policy_set(weir, &policy, 1, &error), WEIR_OK);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("policy");
	TCase *cases = tcase_create("policy");

	tcase_add_checked_fixture(cases, open_weir, close_weir);
	tcase_add_test(cases, set_and_get);
	tcase_add_test(cases, names_of_all_lengths);
	tcase_add_test(cases, list_is_sorted);
	tcase_add_loop_test(cases, a_set_is_all_or_none, 0, 3);
	tcase_add_test(cases, segment_full_of_policies);
	tcase_add_test(cases, ids);
	tcase_add_test(cases, counters_start_anew);
	tcase_add_test(cases, readers_never_see_a_mixture);
	tcase_add_test(cases, decisions_never_see_a_mixture);
	tcase_add_test(cases, refund_is_made_once);
	tcase_add_test(cases, writer_is_killed);
	tcase_add_test(cases, writer_is_killed_anywhere);
	tcase_add_test(cases, writer_is_stopped);
	tcase_set_timeout(cases, 30);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
