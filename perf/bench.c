/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.c - what a decision costs, beside what the machine makes it cost.
 *
 * All kernels run in turn in one process, pinned to one processor, for many
 * rounds.  The machine may be shared and its clock may wander: the ratio of two
 * kernels, taken round by round and then the median, is what travels; single
 * nanoseconds do not.  Time is the thread's own, without what the processor did for
 * others meanwhile.  perf/README.md has the method.
 */
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "weir.h"

#define ROUNDS_MAX 10001
/* Short slices of time, some hundred microseconds: what disturbs the machine longer
 * than that disturbs all kernels of a round alike. */
#define HOT_OPERATIONS 8000u
#define COLD_OPERATIONS 3200u
#define BATCH 16u

struct state {
	struct weir *weir;
	weir_policy_id open_policy;     /* never denies */
	weir_policy_id closed_policy;   /* always denies */
	uint64_t keys;
	uint64_t random;
	struct line {
		uint64_t words[8];
	} *lines;                       /* the limit's table: two lines a key */
};

struct kernel {
	const char *name;
	const char *reference;          /* the kernel that it is a ratio to; or NULL */
	const char *help;
	void (*run)(struct state *state, unsigned operations);
	unsigned operations;
	double ns[ROUNDS_MAX];
};

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t own_time_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t next_random(struct state *state)
{
	uint64_t x = state->random += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* A number below N. */
static uint64_t below(struct state *state, uint64_t n)
{
	return (uint64_t)((unsigned __int128)next_random(state) * n >> 64);
}

struct key {
	uint64_t words[2];              /* 16 bytes */
};

static struct key key_of(uint64_t number)
{
	return (struct key){ { number, 0x79656b2d72696577ull } };
}

/* ---- Kernels ----------------------------------------------------------- */

static volatile uint64_t sink;

static void run_clock(struct state *state, unsigned operations)
{
	(void)state;
	for (unsigned i = 0; i < operations; i++)
		sink = now_ns();
}

/* The least that a shared limiter can do: read the clock, read the bucket,
 * compute, compare-and-swap. */
static inline void touch(struct line *line, uint64_t now)
{
	uint64_t time = __atomic_load_n(&line->words[0], __ATOMIC_ACQUIRE);
	uint64_t after = (time > now ? time : now) + 1;

	while (!__atomic_compare_exchange_n(&line->words[0], &time, after, false, __ATOMIC_ACQ_REL,
					    __ATOMIC_ACQUIRE))
		after = (time > now ? time : now) + 1;
}

static void run_bare(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++)
		touch(&state->lines[0], now_ns());
}

/* The same where the bucket is not in the cache: one miss, begun before the
 * clock is read. */
static void run_miss(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		struct line *line = &state->lines[below(state, 2 * state->keys)];

		__builtin_prefetch(line, 1);
		touch(line, now_ns());
	}
}

/* Nothing of the next operation begins before this one has ended: so it is for a
 * caller that does more than ask. */
static inline void end_operation(void)
{
#ifdef __x86_64__
	__asm__ volatile("lfence" ::: "memory");
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

static void run_miss_alone(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		struct line *line = &state->lines[below(state, 2 * state->keys)];

		__builtin_prefetch(line, 1);
		touch(line, now_ns());
		end_operation();
	}
}

static void run_hot(struct state *state, unsigned operations)
{
	struct key key = key_of(0);

	for (unsigned i = 0; i < operations; i++)
		sink = weir_allow(state->weir, state->open_policy, &key, sizeof(key), NULL);
}

static void run_hot_decision(struct state *state, unsigned operations)
{
	struct key key = key_of(0);
	struct weir_decision decision;

	for (unsigned i = 0; i < operations; i++) {
		sink = weir_allow(state->weir, state->open_policy, &key, sizeof(key), &decision);
		sink = decision.remaining;
	}
}

static void run_deny(struct state *state, unsigned operations)
{
	struct key key = key_of(0);

	for (unsigned i = 0; i < operations; i++)
		sink = weir_allow(state->weir, state->closed_policy, &key, sizeof(key), NULL);
}

static void run_cold(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		struct key key = key_of(below(state, state->keys));

		sink = weir_allow(state->weir, state->open_policy, &key, sizeof(key), NULL);
	}
}

static void run_cold_alone(struct state *state, unsigned operations)
{
	for (unsigned i = 0; i < operations; i++) {
		struct key key = key_of(below(state, state->keys));

		sink = weir_allow(state->weir, state->open_policy, &key, sizeof(key), NULL);
		end_operation();
	}
}

static void run_batch(struct state *state, unsigned operations)
{
	struct weir_request requests[BATCH];
	struct weir_decision decisions[BATCH];
	struct key keys[BATCH];

	for (unsigned i = 0; i < operations; i += BATCH) {
		for (unsigned j = 0; j < BATCH; j++) {
			keys[j] = key_of(below(state, state->keys));
			requests[j] = (struct weir_request){
				.policy = state->open_policy,
				.key = &keys[j],
				.key_length = sizeof(keys[j]),
				.cost = 1,
			};
		}
		sink = weir_decide_batch(state->weir, requests, decisions, BATCH);
	}
}

static struct kernel kernels[] = {
	{ "clock", NULL, "read CLOCK_BOOTTIME", run_clock, HOT_OPERATIONS },
	{ "bare", NULL, "the limit, in cache: clock, load, compare-and-swap", run_bare,
	  HOT_OPERATIONS },
	{ "hot", "bare", "allow one key", run_hot, HOT_OPERATIONS },
	{ "hot_decision", "bare", "the same, with remaining and times", run_hot_decision,
	  HOT_OPERATIONS },
	{ "deny", "clock", "deny one key", run_deny, HOT_OPERATIONS },
	{ "miss", NULL, "the limit, out of cache: one miss, clock, compare-and-swap", run_miss,
	  COLD_OPERATIONS },
	{ "keys", "miss", "allow one of many keys", run_cold, COLD_OPERATIONS },
	{ "miss_alone", NULL, "as miss, each waiting for the one before it", run_miss_alone,
	  COLD_OPERATIONS },
	{ "keys_alone", "miss_alone", "as keys, each waiting for the one before it",
	  run_cold_alone, COLD_OPERATIONS },
	{ "batch", "keys", "the same in batches of 16", run_batch, COLD_OPERATIONS },
};

#define KERNELS (sizeof(kernels) / sizeof(kernels[0]))

/* ---- Setting up -------------------------------------------------------- */

static void die(const char *what, const char *message)
{
	fprintf(stderr, "bench: %s: %s\n", what, message);
	exit(2);
}

static void define(struct state *state, const char *name, const char *text, weir_policy_id *id)
{
	struct weir_policy policy = { .limit_count = 1 };
	struct weir_error error;

	snprintf(policy.name, sizeof(policy.name), "%s", name);
	if (weir_limit_parse(text, &policy.limits[0], &error) ||
	    weir_policy_set(state->weir, &policy, 1, &error))
		die(text, error.message);
	*id = weir_policy_find(state->weir, name);
}

static void open_segment(struct state *state, bool huge_pages)
{
	struct weir_options options;
	struct weir_error error;
	char name[64];

	weir_options_init(&options);
	options.slots = 2 * state->keys + 64;
	options.huge_pages = huge_pages;
	snprintf(name, sizeof(name), "weir-bench-%ld", (long)getpid());
	if (weir_create(name, &options, &error) || weir_open(name, &state->weir, &error))
		die(name, error.message);
	weir_remove(name, NULL);
}

static void prepare(struct state *state, bool huge_pages)
{
	struct key hot = key_of(0);
	size_t size = 2 * state->keys * sizeof(*state->lines);

	open_segment(state, huge_pages);
	define(state, "open", "100000000/1s burst 1000000000000", &state->open_policy);
	define(state, "closed", "1/365d", &state->closed_policy);
	state->lines = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (state->lines == MAP_FAILED)
		die("mmap", "no memory for the table of the limit");
	memset(state->lines, 0, size);
	for (uint64_t i = 0; i < state->keys; i++) {
		struct key key = key_of(i);

		/* A debt that outlasts the run, so that every key keeps its slot. */
		weir_allow_n(state->weir, state->open_policy, &key, sizeof(key), 500000000000ull, NULL);
	}
	weir_allow(state->weir, state->closed_policy, &hot, sizeof(hot), NULL);
}

static void pin(int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* ---- Measuring --------------------------------------------------------- */

static void measure(struct state *state, unsigned rounds)
{
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned k = 0; k < KERNELS; k++) {
			uint64_t begin = own_time_ns();

			kernels[k].run(state, kernels[k].operations);
			kernels[k].ns[round] =
				(double)(own_time_ns() - begin) / kernels[k].operations;
		}
	}
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *values, unsigned count, double *least)
{
	static double sorted[ROUNDS_MAX];

	memcpy(sorted, values, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), compare);
	if (least)
		*least = sorted[0];
	return sorted[count / 2];
}

static const struct kernel *find_kernel(const char *name)
{
	for (unsigned k = 0; k < KERNELS; k++) {
		if (name && strcmp(kernels[k].name, name) == 0)
			return &kernels[k];
	}
	return NULL;
}

static double ratio_of(const struct kernel *kernel, unsigned rounds)
{
	const struct kernel *reference = find_kernel(kernel->reference);
	static double ratios[ROUNDS_MAX];

	if (!reference)
		return 0;
	for (unsigned i = 0; i < rounds; i++)
		ratios[i] = kernel->ns[i] / reference->ns[i];
	return median(ratios, rounds, NULL);
}

static void print_text(const struct state *state, unsigned rounds)
{
	printf("%" PRIu64 " keys of 16 bytes, %u rounds\n\n", state->keys, rounds);
	printf("%-14s %9s %9s  %s\n", "KERNEL", "MIN ns", "MEDIAN", "RATIO (median of the rounds)");
	for (unsigned k = 0; k < KERNELS; k++) {
		double least, middle = median(kernels[k].ns, rounds, &least);

		printf("%-14s %9.1f %9.1f  ", kernels[k].name, least, middle);
		if (kernels[k].reference)
			printf("%.2f x %s: ", ratio_of(&kernels[k], rounds), kernels[k].reference);
		printf("%s\n", kernels[k].help);
	}
}

static void print_json(const struct state *state, unsigned rounds)
{
	printf("{\"keys\": %" PRIu64 ", \"rounds\": %u, \"kernels\": {", state->keys, rounds);
	for (unsigned k = 0; k < KERNELS; k++) {
		double least, middle = median(kernels[k].ns, rounds, &least);

		printf("%s\n  \"%s\": {\"min_ns\": %.2f, \"median_ns\": %.2f", k ? "," : "",
		       kernels[k].name, least, middle);
		if (kernels[k].reference)
			printf(", \"reference\": \"%s\", \"ratio\": %.3f", kernels[k].reference,
			       ratio_of(&kernels[k], rounds));
		printf("}");
	}
	printf("\n}}\n");
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 10);

	if (end == text || *end || value < least || value > most) {
		fprintf(stderr, "bench: \"%s\" is not a number from %" PRIu64 " to %" PRIu64 "\n",
			text, least, most);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "keys", required_argument, NULL, 'k' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "cpu", required_argument, NULL, 'c' },
		{ "huge-pages", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 },
	};
	struct state state = { .keys = 1000000, .random = 1 };
	unsigned rounds = 501;
	bool json = false, huge_pages = false;
	int option, processor = 0;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'k':
			state.keys = number(optarg, 1, 100000000);
			break;
		case 'r':
			rounds = (unsigned)number(optarg, 1, ROUNDS_MAX);
			break;
		case 'c':
			processor = (int)number(optarg, 0, CPU_SETSIZE - 1);
			break;
		case 'h':
			huge_pages = true;
			break;
		case 'j':
			json = true;
			break;
		default:
			fprintf(stderr, "usage: bench [--keys N] [--rounds N] [--cpu N] "
					"[--huge-pages] [--json]\n");
			return 2;
		}
	}
	pin(processor);
	prepare(&state, huge_pages);
	measure(&state, rounds);
	(json ? print_json : print_text)(&state, rounds);
	weir_close(state.weir);
	return 0;
}
