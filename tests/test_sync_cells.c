/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sync_cells.c - what a decision answers, in each cell of mode x fail mode x view.
 *
 * Views are merged by real rounds with a real Redis, by three hosts, once for all tests.
 * Then the sync threads are stopped, so that no round comes in between.  A view grows
 * stale without any waiting: requests carry a time of two hours later.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/wait.h>

#include "tests/redis_server.h"
#include "tests/suite.h"
#include "tests/sync_fixture.h"

#define MODES 4
#define FAIL_MODES 3
#define VIEWS 3
#define CELLS (MODES * FAIL_MODES * VIEWS)

#define CLUSTER_HOSTS 3
#define BURST 12u               /* of 12/365d: nothing flows back meanwhile */
#define SHARE 4u                /* of 3 hosts */
#define CAP 3u                  /* 500 permille of 12, for 2 other hosts */
#define ASKED 20u

enum view {
	NEVER_MERGED,
	FRESH,
	STALE,
};

struct cell {
	enum weir_consistency mode;
	enum weir_fail_mode fail_mode;
	enum view view;
};

/* What the first of them is told, and the first one beyond ADMITTED. */
struct answer {
	uint64_t admitted;
	enum weir_reason first;
	enum weir_outcome beyond;
	enum weir_reason last;
	const char *counter;    /* that counts each of them, or (capped) each one beyond */
};

static struct weir *merged, *never_merged;      /* the tests' hosts; STALE is a merged one */

static struct cell cell_of(int i)
{
	return (struct cell){ (enum weir_consistency)(i % MODES),
			      (enum weir_fail_mode)(i / MODES % FAIL_MODES),
			      (enum view)(i / MODES / FAIL_MODES) };
}

/* ---- The table --------------------------------------------------------- */

static struct answer stale_answer(enum weir_fail_mode fail_mode)
{
	switch (fail_mode) {
	case WEIR_FAIL_OPEN:
		return (struct answer){ BURST, WEIR_REASON_STALE, WEIR_DENIED, WEIR_REASON_STALE,
					"stale_open" };
	case WEIR_FAIL_SHARE:
		return (struct answer){ SHARE, WEIR_REASON_STALE, WEIR_DENIED, WEIR_REASON_STALE,
					"stale_share" };
	case WEIR_FAIL_CLOSED:
		break;
	}
	return (struct answer){ 0, WEIR_REASON_STALE, WEIR_UNAVAILABLE, WEIR_REASON_STALE,
				"stale_closed" };
}

static struct answer answer_in(struct cell cell)
{
	static const struct answer own = { BURST, WEIR_REASON_LIMIT, WEIR_DENIED,
					   WEIR_REASON_LIMIT, NULL };
	static const struct answer capped = { CAP, WEIR_REASON_LIMIT, WEIR_DENIED,
					      WEIR_REASON_CAP, "capped" };

	/* It has no view that could be stale. */
	if (cell.mode == WEIR_LOCAL)
		return own;
	/* Strict goes by a lease, and here there is none: test_strict.c has them. */
	if (cell.view != FRESH || cell.mode == WEIR_STRICT)
		return stale_answer(cell.fail_mode);
	return cell.mode == WEIR_BOUNDED ? capped : own;
}

/* ---- Views ------------------------------------------------------------- */

static const char *const algorithms[] = { "12/365d", "12/365d sliding-window",
					  "12/365d fixed-window", "12 concurrency" };

#define IN_SHADOW LENGTH(algorithms)    /* a token bucket in shadow */

static void name_policy(struct cell cell, size_t kind, char name[WEIR_NAME_MAX + 1])
{
	snprintf(name, WEIR_NAME_MAX + 1, "%s/%s/%zu", weir_consistency_name(cell.mode),
		 weir_fail_mode_name(cell.fail_mode), kind);
}

/* Of each mode, fail mode and kind. */
static void set_policies(struct weir *weir)
{
	for (int i = 0; i < MODES * FAIL_MODES; i++) {
		for (size_t kind = 0; kind <= IN_SHADOW; kind++) {
			struct cell cell = cell_of(i);
			struct weir_policy policy =
				host_policy(algorithms[kind % IN_SHADOW], cell.mode, cell.fail_mode);

			name_policy(cell, kind, policy.name);
			policy.shadow = kind == IN_SHADOW;
			/* Strict is for token buckets. */
			ck_assert_int_eq(weir_policy_set(weir, &policy, 1, NULL),
					 cell.mode == WEIR_STRICT && kind % IN_SHADOW ?
						 WEIR_EINVAL : 0);
		}
	}
}

static bool every_view_is_merged(int host)
{
	struct weir_sync_status status = status_of(hosts[host]);

	return status.staleness_ns != WEIR_NEVER && status.hosts == CLUSTER_HOSTS;
}

/* Has host 0 no lease, or no more? */
static bool is_without_lease(void)
{
	struct weir_request request = { .policy = weir_policy_find(hosts[0], "strict/open/0"),
					.key = "lease", .key_length = 5, .cost = 1 };
	struct weir_decision decision;

	weir_status(hosts[0], &request, &decision);
	return decision.reason == WEIR_REASON_STALE;
}

static void make_views(void)
{
	struct redis_server *server = redis_server_start(NULL);
	struct weir_policy policy = host_policy("1/1s", WEIR_BOUNDED, WEIR_FAIL_OPEN);
	struct weir_sync_options options;
	char url[256];

	snprintf(url, sizeof(url), "unix://%s?command_ms=2000", redis_server_socket(server));
	options = host_sync(url, CLUSTER_HOSTS);
	options.max_staleness_ns = HOUR;
	options.overshoot_permille = 500;
	hosts_create(CLUSTER_HOSTS + 1, &policy);
	ck_assert_int_eq(weir_sync_pause(hosts[CLUSTER_HOSTS], NULL), 0);
	for (int i = 0; i <= CLUSTER_HOSTS; i++) {
		set_policies(hosts[i]);
		ck_assert_int_eq(weir_sync_start(hosts[i], &options, NULL), 0);
	}
	wait_until(every_view_is_merged(0));
	for (int i = 0; i <= CLUSTER_HOSTS; i++)
		ck_assert_int_eq(weir_sync_stop(hosts[i], NULL), 0);
	wait_until(is_without_lease());
	redis_server_end(server);
	merged = hosts[0];
	never_merged = hosts[CLUSTER_HOSTS];
	ck_assert(status_of(never_merged).staleness_ns == WEIR_NEVER);
}

static struct weir *host_of(struct cell cell)
{
	return cell.view == NEVER_MERGED ? never_merged : merged;
}

/* A key of this test alone; as of now, or when the views are stale. */
static struct weir_request request_in(struct cell cell, size_t kind, const char *key)
{
	uint64_t now_ns = weir_now_ns(merged);
	char name[WEIR_NAME_MAX + 1];
	weir_policy_id id;

	name_policy(cell, kind, name);
	id = weir_policy_find(host_of(cell), name);
	ck_assert(id != WEIR_NO_POLICY);
	return (struct weir_request){ .policy = id, .key = key, .key_length = strlen(key),
				      .cost = 1,
				      .now_ns = cell.view == STALE ? now_ns + 2 * HOUR : now_ns };
}

/* ---- What is shared ---------------------------------------------------- */

static const char *const counters[] = { "stale_open", "stale_share", "stale_closed", "capped" };

static void read_counters(struct cell cell, uint64_t counts[LENGTH(counters)])
{
	for (size_t i = 0; i < LENGTH(counters); i++)
		counts[i] = fixture_counter(host_of(cell), counters[i]);
}

/* No reason is counted but the one that was given. */
static void check_counters(struct cell cell, const struct answer *answer,
			   const uint64_t before[LENGTH(counters)])
{
	uint64_t after[LENGTH(counters)];

	read_counters(cell, after);
	for (size_t i = 0; i < LENGTH(counters); i++) {
		bool counted = answer->counter && strcmp(counters[i], answer->counter) == 0;
		bool all = strcmp(counters[i], "capped") != 0;
		uint64_t expected = !counted ? 0 : all ? ASKED : ASKED - answer->admitted;

		ck_assert_msg(after[i] - before[i] == expected, "%s grew by %llu, not %llu",
			      counters[i], (unsigned long long)(after[i] - before[i]),
			      (unsigned long long)expected);
	}
}

static void check_decisions(struct cell cell, size_t kind)
{
	struct answer answer = answer_in(cell);
	uint64_t before[LENGTH(counters)];

	read_counters(cell, before);
	for (unsigned i = 0; i < ASKED; i++) {
		struct weir_request request =
			request_in(cell, kind, cell.view == STALE ? "stale" : "decide");
		struct weir_decision decision;
		bool passes = i < answer.admitted;

		ck_assert_msg(weir_decide(host_of(cell), &request, &decision) == passes,
			      "%s, %s, view %d: request %u %s", weir_consistency_name(cell.mode),
			      weir_fail_mode_name(cell.fail_mode), (int)cell.view, i,
			      passes ? "denied" : "allowed");
		ck_assert_int_eq(decision.outcome, passes ? WEIR_ALLOWED : answer.beyond);
		ck_assert_int_eq(decision.reason, passes ? answer.first : answer.last);
		ck_assert_int_eq(decision.retry_after_ns > 0, decision.outcome == WEIR_DENIED);
	}
	check_counters(cell, &answer, before);
}

START_TEST(test_token_bucket)
{
	check_decisions(cell_of(_i), 0);
}
END_TEST

/* ---- Numbers ----------------------------------------------------------- */

#define TOKEN_NS (365ull * 24 * HOUR / BURST)

/* A bucket of BURST tokens and a share of SHARE, at a time that stands still. */
struct model {
	uint64_t debt_ns;
	uint64_t share_debt_ns;
};

static bool take_share(struct model *model, uint64_t cost, struct weir_decision *decision)
{
	uint64_t token_ns = CLUSTER_HOSTS * TOKEN_NS;

	decision->retry_after_ns = WEIR_NEVER;
	if (cost > SHARE)
		return false;
	if (model->share_debt_ns > (SHARE - cost) * token_ns) {
		decision->retry_after_ns = model->share_debt_ns - (SHARE - cost) * token_ns;
		return false;
	}
	model->share_debt_ns += cost * token_ns;
	return true;
}

static void take_tokens(struct model *model, uint64_t cost, struct weir_decision *decision)
{
	decision->outcome = WEIR_DENIED;
	decision->retry_after_ns = 0;
	if (cost > BURST) {
		decision->reason = WEIR_REASON_COST;
		decision->retry_after_ns = WEIR_NEVER;
	} else if (model->debt_ns > (BURST - cost) * TOKEN_NS) {
		decision->retry_after_ns = model->debt_ns - (BURST - cost) * TOKEN_NS;
	} else {
		decision->outcome = WEIR_ALLOWED;
		model->debt_ns += cost * TOKEN_NS;
	}
	decision->remaining = BURST - model->debt_ns / TOKEN_NS;
	decision->reset_after_ns = model->debt_ns;
}

/* What a request of COST is told in CELL. */
static struct weir_decision expected(struct cell cell, struct model *model, uint64_t cost)
{
	struct answer answer = answer_in(cell);
	struct weir_decision decision = { .reason = answer.last };

	if (answer.beyond == WEIR_UNAVAILABLE) {
		decision.outcome = WEIR_UNAVAILABLE;
		return decision;
	}
	decision.limit = BURST;
	if (answer.admitted == SHARE && !take_share(model, cost, &decision))
		decision.outcome = WEIR_DENIED;         /* and the bucket is not asked */
	else
		take_tokens(model, cost, &decision);
	return decision;
}

static uint64_t policy_counter(struct cell cell, const char *name)
{
	char policy[WEIR_NAME_MAX + 1];
	const struct weir_counter *counter;

	name_policy(cell, 0, policy);
	for (unsigned i = 0; (counter = weir_counter(i)) != NULL; i++) {
		if (strcmp(counter->name, name) == 0)
			return weir_counter_read(host_of(cell), i, policy);
	}
	ck_abort_msg("no counter \"%s\"", name);
}

static void check_decision(const struct weir_decision *decision,
			   const struct weir_decision *expected)
{
	ck_assert_int_eq(decision->outcome, expected->outcome);
	ck_assert_int_eq(decision->reason, expected->reason);
	ck_assert_uint_eq(decision->limit_index, 0);
	ck_assert(!decision->flagged);
	ck_assert_uint_eq(decision->limit, expected->limit);
	ck_assert_uint_eq(decision->remaining, expected->remaining);
	ck_assert_uint_eq(decision->counted, 0);
	ck_assert_uint_eq(decision->retry_after_ns, expected->retry_after_ns);
	ck_assert_uint_eq(decision->reset_after_ns, expected->reset_after_ns);
}

/* All numbers of each answer, and what is counted of it: the same of the first request, which
 * makes the bucket, and of those which find it; one by one, and in a batch. */
START_TEST(test_numbers)
{
	static const uint64_t costs[] = { 1, 13, 2, 5, 1, 1, 4, 3, 20, 6, 2, 1, 1 };
	static const char *const names[] = { "allowed", "denied", "unavailable", "tokens" };
	struct cell cell = cell_of(_i);
	struct weir_request request =
		request_in(cell, 0, cell.view == STALE ? "stale numbers" : "numbers");
	uint64_t before[LENGTH(names)], grown[LENGTH(names)] = { 0 };
	struct model model = { 0, 0 };

	if (answer_in(cell).last == WEIR_REASON_CAP)
		return;         /* what is merged is not known here */
	for (size_t i = 0; i < LENGTH(names); i++)
		before[i] = policy_counter(cell, names[i]);
	for (size_t i = 0; i < LENGTH(costs); i++) {
		struct weir_decision decision, other = expected(cell, &model, costs[i]);

		memset(&decision, 0xff, sizeof(decision));
		request.cost = costs[i];
		if (i % 2 == 0)
			weir_decide(host_of(cell), &request, &decision);
		else
			weir_decide_batch(host_of(cell), &request, &decision, 1);
		check_decision(&decision, &other);
		grown[0] += decision.outcome == WEIR_ALLOWED;
		grown[1] += decision.outcome == WEIR_DENIED;
		grown[2] += decision.outcome == WEIR_UNAVAILABLE;
		grown[3] += decision.outcome == WEIR_ALLOWED ? costs[i] : 0;
	}
	for (size_t i = 0; i < LENGTH(names); i++)
		ck_assert_uint_eq(policy_counter(cell, names[i]) - before[i], grown[i]);
}
END_TEST

START_TEST(test_windows)
{
	struct cell cell = cell_of(_i / 2);

	if (cell.mode != WEIR_STRICT)
		check_decisions(cell, 1 + (size_t)_i % 2);
}
END_TEST

/* A status is answered in the same way; refunds, resets and force-takes need no view. */
START_TEST(test_other_operations)
{
	struct cell cell = cell_of(_i);
	struct answer answer = answer_in(cell);
	struct weir *weir = host_of(cell);
	struct weir_request one = request_in(cell, 0, cell.view == STALE ? "other, stale" : "other");
	struct weir_request all = one;
	struct weir_decision decision;

	all.cost = BURST;
	ck_assert_int_eq(weir_status(weir, &one, &decision), answer.admitted > 0);
	ck_assert_int_eq(decision.reason, answer.first);
	ck_assert_int_eq(decision.outcome, answer.admitted > 0 ? WEIR_ALLOWED : answer.beyond);
	ck_assert(weir_force_take(weir, &all, &decision));
	ck_assert_int_eq(decision.outcome, WEIR_ALLOWED);
	ck_assert(!weir_status(weir, &one, &decision));
	ck_assert_int_eq(decision.outcome, answer.beyond);
	ck_assert(weir_refund(weir, &one, &decision));
	ck_assert(weir_reset(weir, &one, &decision));
	ck_assert_uint_eq(decision.remaining, BURST);
}
END_TEST

/* In shadow all of it is allowed, closed or not, and what is beyond is told. */
START_TEST(test_shadow)
{
	struct cell cell = cell_of(_i);
	struct answer answer = answer_in(cell);

	if (answer.beyond == WEIR_UNAVAILABLE)
		answer.admitted = BURST;
	for (unsigned i = 0; i < ASKED; i++) {
		struct weir_request request =
			request_in(cell, IN_SHADOW, cell.view == STALE ? "stale" : "shadow");
		struct weir_decision decision;

		ck_assert(weir_decide(host_of(cell), &request, &decision));
		ck_assert_int_eq(decision.reason,
				 i < answer.admitted ? answer.first : WEIR_REASON_SHADOW);
	}
}
END_TEST

static void in_another_process(struct weir *weir, const char *name, int mode)
{
	int status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(mode < 0 ? weir_fail_mode_clear(weir, name, NULL) :
				 weir_fail_mode_set(weir, name, (enum weir_fail_mode)mode, NULL));
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}

/* Another process switches the fail mode: the next decision goes by it, and by the
 * policy's own when it is given back. */
START_TEST(test_switched_at_run_time)
{
	struct cell cell = cell_of(_i);
	char name[WEIR_NAME_MAX + 1];

	name_policy(cell, 0, name);
	for (int mode = FAIL_MODES - 1; mode >= -1; mode--) {
		char key[] = { 's', (char)('a' + mode + 1), (char)('a' + cell.view), '\0' };
		struct weir_request request = request_in(cell, 0, key);
		struct weir_decision decision;
		struct cell now = cell;
		struct answer answer;

		if (mode >= 0)
			now.fail_mode = (enum weir_fail_mode)mode;
		answer = answer_in(now);
		in_another_process(host_of(cell), name, mode);
		ck_assert_int_eq(weir_decide(host_of(cell), &request, &decision),
				 answer.admitted > 0);
		ck_assert_int_eq(decision.reason, answer.first);
		ck_assert_int_eq(decision.outcome,
				 answer.admitted > 0 ? WEIR_ALLOWED : answer.beyond);
	}
}
END_TEST

/* ---- Concurrency ------------------------------------------------------- */

/* As of a bucket; but when one who is denied may have units is not known. */
START_TEST(test_holds)
{
	struct cell cell = cell_of(_i);
	struct answer answer = answer_in(cell);
	uint64_t before[LENGTH(counters)];

	if (cell.mode == WEIR_STRICT)
		return;         /* it is for token buckets */
	read_counters(cell, before);
	for (unsigned i = 0; i < ASKED; i++) {
		struct weir_request request =
			request_in(cell, 3, cell.view == STALE ? "stale" : "held");
		struct weir_decision decision;
		bool passes = i < answer.admitted;
		struct weir_hold hold;

		ck_assert_int_eq(weir_acquire(host_of(cell), &request, &hold, &decision), passes);
		ck_assert_int_eq(decision.outcome, passes ? WEIR_ALLOWED : answer.beyond);
		ck_assert_int_eq(decision.reason, passes ? answer.first : answer.last);
		ck_assert_int_eq(decision.retry_after_ns > 0,
				 decision.outcome == WEIR_DENIED &&
					 decision.reason == WEIR_REASON_CAP);
	}
	check_counters(cell, &answer, before);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_cells");
	TCase *tests = tcase_create("sync_cells");

	redis_server_require();
	tcase_set_timeout(tests, 60);
	tcase_add_unchecked_fixture(tests, make_views, hosts_close);
	tcase_add_loop_test(tests, test_token_bucket, 0, CELLS);
	tcase_add_loop_test(tests, test_numbers, 0, CELLS);
	tcase_add_loop_test(tests, test_other_operations, 0, CELLS);
	tcase_add_loop_test(tests, test_shadow, 0, CELLS);
	tcase_add_loop_test(tests, test_switched_at_run_time, 0, CELLS);
	tcase_add_loop_test(tests, test_windows, 0, 2 * CELLS);
	tcase_add_loop_test(tests, test_holds, 0, CELLS);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}
