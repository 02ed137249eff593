/* SPDX-License-Identifier: Apache-2.0 */
/*
 * processes.c - how long the slowest decisions of several processes take.
 *
 * Weir beside what one would write instead: a hash table in shared memory, with the
 * same arithmetic, behind one process-shared mutex or behind 1,024 of them.  Each
 * process is one of its own, pinned to a processor, and times every single call; the
 * systems take turns in short rounds, so that what disturbs the machine disturbs all
 * of them.  A round counts only if the processes ran through it side by side: where
 * the kernel gave a processor to somebody else, there was nobody to contend with.
 * perf/README.md has the method.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "perf/measure.h"
#include "perf/rival.h"

#define PROCESSES_MAX 64u
#define KEYS_MAX 1000u
#define TRIES 40u                       /* rounds for each that is to count */

/* ---- Systems and rounds -------------------------------------------------- */

enum system { SYSTEM_WEIR, SYSTEM_STRIPED, SYSTEM_MUTEX, SYSTEMS };

static const char *const system_names[SYSTEMS] = { "weir", "striped", "mutex" };

struct plan {
	unsigned processes;
	unsigned keys;
	unsigned rounds;                /* that count, for each system */
	unsigned processors;
	uint64_t round_ns;
	char segment[64];
	bool json;
};

struct shared {
	uint64_t arrived;               /* processes, over all meetings */
	uint64_t failed;                /* calls that did not pass */
	uint64_t counted[SYSTEMS];      /* rounds; written by the first process */
	uint64_t tried[SYSTEMS];
	struct {
		uint64_t begin, end;    /* ticks */
		bool preempted;
	} rounds[PROCESSES_MAX];
	double ns_per_tick;
	struct rival *striped, *mutex;
	struct histogram histograms[SYSTEMS][PROCESSES_MAX];
};

/* Wait for all processes.  It yields in the end, since there may be more of them than
 * processors. */
static void meet(struct shared *shared, uint64_t wanted)
{
	__atomic_fetch_add(&shared->arrived, 1, __ATOMIC_ACQ_REL);
	for (unsigned i = 0; __atomic_load_n(&shared->arrived, __ATOMIC_ACQUIRE) < wanted; i++) {
		if (i > 20000)
			sched_yield();
	}
}

/* With more processes than processors they cannot all run; then every round counts. */
static bool side_by_side(const struct shared *shared, const struct plan *plan)
{
	uint64_t first = UINT64_MAX, last = 0, end = UINT64_MAX;

	if (plan->processes > plan->processors)
		return true;
	for (unsigned i = 0; i < plan->processes; i++) {
		if (shared->rounds[i].preempted)
			return false;
		if (shared->rounds[i].begin < first)
			first = shared->rounds[i].begin;
		if (shared->rounds[i].begin > last)
			last = shared->rounds[i].begin;
		if (shared->rounds[i].end < end)
			end = shared->rounds[i].end;
	}
	return last < end && last - first < (end - first) / 10;
}

static long preemptions(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nivcsw;
}

struct caller {
	struct shared *shared;
	struct weir *weir;
	weir_policy_id policy;
};

static inline bool call(const struct caller *caller, enum system system, const struct key *key)
{
	switch (system) {
	case SYSTEM_WEIR:
		return weir_allow(caller->weir, caller->policy, key, sizeof(*key), NULL);
	case SYSTEM_STRIPED:
		return rival_allow(caller->shared->striped, key);
	case SYSTEM_MUTEX:
	case SYSTEMS:
		break;
	}
	return rival_allow(caller->shared->mutex, key);
}

static void run_round(const struct caller *caller, enum system system, const struct plan *plan,
		      unsigned process, uint64_t *random, struct histogram *histogram)
{
	double scale = caller->shared->ns_per_tick;
	uint64_t round_ticks = (uint64_t)((double)plan->round_ns / scale);
	long preempted = preemptions();
	uint64_t begin = ticks(), before = begin, failed = 0;

	while (before - begin < round_ticks) {
		struct key key;
		uint64_t after;

		*random = *random * 6364136223846793005u + 1442695040888963407u;
		key = key_of((*random >> 33) % plan->keys);
		before = ticks();
		failed += !call(caller, system, &key);
		after = ticks();
		histogram_count(histogram, (uint64_t)((double)(after - before) * scale));
	}
	caller->shared->rounds[process].begin = begin;
	caller->shared->rounds[process].end = before;
	caller->shared->rounds[process].preempted = preemptions() != preempted;
	if (failed)
		__atomic_fetch_add(&caller->shared->failed, failed, __ATOMIC_RELAXED);
}

/* Rounds of all systems in turn, until enough of each count, or too many did not.
 * All processes come to the same conclusions from the same words. */
static void take_turns(const struct caller *caller, const struct plan *plan, unsigned process)
{
	static struct histogram round;
	struct shared *shared = caller->shared;
	uint64_t random = process + 1, meetings = 0, counted[SYSTEMS] = { 0 };

	for (unsigned try = 0; try < plan->rounds * TRIES; try++) {
		enum system system = (enum system)(try % SYSTEMS);

		if (counted[system] == plan->rounds)
			continue;
		memset(&round, 0, sizeof(round));
		meet(shared, ++meetings * plan->processes);
		run_round(caller, system, plan, process, &random, &round);
		meet(shared, ++meetings * plan->processes);
		if (side_by_side(shared, plan)) {
			histogram_add(&shared->histograms[system][process], &round);
			counted[system]++;
		}
		if (process == 0) {
			shared->tried[system]++;
			shared->counted[system] = counted[system];
		}
	}
}

static void run_process(struct shared *shared, const struct plan *plan, unsigned process)
{
	struct caller caller = { .shared = shared };
	struct weir_error error;

	pin(process % plan->processors);
	if (weir_open(plan->segment, &caller.weir, &error))
		die(plan->segment, error.message);
	caller.policy = weir_policy_find(caller.weir, "open");
	take_turns(&caller, plan, process);
	weir_close(caller.weir);
}

/* ---- Setting up ---------------------------------------------------------- */

static void create_segment(struct plan *plan)
{
	struct weir_options options;
	struct weir_error error;
	struct weir *weir;

	weir_options_init(&options);
	options.slots = 8192;
	snprintf(plan->segment, sizeof(plan->segment), "weir-processes-%ld", (long)getpid());
	if (weir_create(plan->segment, &options, &error) ||
	    weir_open(plan->segment, &weir, &error))
		die(plan->segment, error.message);
	policy_define(weir, "open", OPEN_LIMIT, WEIR_FAIL_SHARE);
	weir_close(weir);
}

static bool run(struct shared *shared, const struct plan *plan)
{
	pid_t children[PROCESSES_MAX];
	bool sound = true;

	for (unsigned i = 0; i < plan->processes; i++) {
		children[i] = fork();
		if (children[i] < 0)
			die("fork", strerror(errno));
		if (children[i] == 0) {
			run_process(shared, plan, i);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < plan->processes; i++) {
		int status = 0;

		waitpid(children[i], &status, 0);
		sound = sound && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	}
	return sound;
}

/* ---- Reporting ----------------------------------------------------------- */

static const struct {
	const char *name;
	uint64_t parts;
} quantiles[] = { { "p50", 2 }, { "p99", 100 }, { "p99.9", 1000 }, { "p99.99", 10000 } };

#define QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

static void sum_up(const struct shared *shared, const struct plan *plan,
		   struct histogram sums[SYSTEMS])
{
	memset(sums, 0, SYSTEMS * sizeof(*sums));
	for (int system = 0; system < SYSTEMS; system++) {
		for (unsigned i = 0; i < plan->processes; i++)
			histogram_add(&sums[system], &shared->histograms[system][i]);
	}
}

static void print_text(const struct shared *shared, const struct plan *plan,
		       const struct histogram sums[SYSTEMS])
{
	printf("%u processes, %u %s, rounds of %.1f ms; ns of a call, its timing included\n\n",
	       plan->processes, plan->keys, plan->keys == 1 ? "key" : "keys",
	       (double)plan->round_ns / 1e6);
	printf("%-15s %8s %10s", "SYSTEM", "ROUNDS", "CALLS");
	for (unsigned q = 0; q < QUANTILES; q++)
		printf(" %9s", quantiles[q].name);
	putchar('\n');
	for (int system = 0; system < SYSTEMS; system++) {
		printf("%-15s %8" PRIu64 " %10" PRIu64, system_names[system],
		       shared->counted[system], histogram_total(&sums[system]));
		for (unsigned q = 0; q < QUANTILES; q++)
			printf(" %9" PRIu64, histogram_quantile(&sums[system], quantiles[q].parts));
		putchar('\n');
	}
	for (int system = 1; system < SYSTEMS; system++) {
		printf("%-8s/ weir  %8s %10s", system_names[system], "", "");
		for (unsigned q = 0; q < QUANTILES; q++)
			printf(" %9.2f", (double)histogram_quantile(&sums[system], quantiles[q].parts) /
						 (double)histogram_quantile(&sums[0], quantiles[q].parts));
		putchar('\n');
	}
}

static void print_json(const struct shared *shared, const struct plan *plan,
		       const struct histogram sums[SYSTEMS])
{
	printf("{\"processes\": %u, \"keys\": %u, \"round_ns\": %" PRIu64 ", \"systems\": {",
	       plan->processes, plan->keys, plan->round_ns);
	for (int system = 0; system < SYSTEMS; system++) {
		printf("%s\n  \"%s\": {\"rounds\": %" PRIu64 ", \"tried\": %" PRIu64
		       ", \"calls\": %" PRIu64, system ? "," : "", system_names[system],
		       shared->counted[system], shared->tried[system], histogram_total(&sums[system]));
		for (unsigned q = 0; q < QUANTILES; q++)
			printf(", \"%s_ns\": %" PRIu64 ", \"%s_ratio\": %.3f", quantiles[q].name,
			       histogram_quantile(&sums[system], quantiles[q].parts), quantiles[q].name,
			       (double)histogram_quantile(&sums[system], quantiles[q].parts) /
				       (double)histogram_quantile(&sums[0], quantiles[q].parts));
		printf(", \"histogram\": ");
		histogram_print_json(&sums[system]);
		printf("}");
	}
	printf("\n}}\n");
}

static void read_arguments(int argc, char **argv, struct plan *plan)
{
	static const struct option options[] = {
		{ "processes", required_argument, NULL, 'p' },
		{ "keys", required_argument, NULL, 'k' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'p':
			plan->processes = (unsigned)number(optarg, 1, PROCESSES_MAX);
			break;
		case 'k':
			plan->keys = (unsigned)number(optarg, 1, KEYS_MAX);
			break;
		case 'r':
			plan->rounds = (unsigned)number(optarg, 1, 100000);
			break;
		case 'j':
			plan->json = true;
			break;
		default:
			fprintf(stderr, "usage: processes [--processes N] [--keys N] [--rounds N] "
					"[--json]\n");
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	static struct histogram sums[SYSTEMS];
	struct plan plan = { .processes = 2, .keys = 1, .rounds = 300, .round_ns = 1000000 };
	struct shared *shared;
	bool sound;

	read_arguments(argc, argv, &plan);
	plan.processors = processors();
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		die("mmap", strerror(errno));
	shared->ns_per_tick = ns_per_tick();
	shared->striped = rival_create(STRIPES, KEYS_MAX);
	shared->mutex = rival_create(1, KEYS_MAX);
	create_segment(&plan);
	sound = run(shared, &plan);
	weir_remove(plan.segment, NULL);
	if (!sound || shared->failed)
		die("run", sound ? "a call did not pass" : "a process failed");
	for (int system = 0; system < SYSTEMS; system++) {
		if (shared->counted[system] == 0)
			die(system_names[system], "the processes never ran side by side; "
						  "try again when the machine is less busy");
	}
	sum_up(shared, &plan, sums);
	(plan.json ? print_json : print_text)(shared, &plan, sums);
	return 0;
}
