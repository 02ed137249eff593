/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h - the kernels of the program `bench`, and what they share. */
#ifndef WEIR_PERF_BENCH_H
#define WEIR_PERF_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "perf/measure.h"
#include "perf/rival.h"

#define ROUNDS_MAX 10001u
#define BATCH 16u                       /* requests that are decided at once */

struct state {
	uint64_t keys;
	uint64_t random;
	struct weir *weir;
	weir_policy_id open_policy;     /* never denies */
	weir_policy_id closed_policy;   /* always denies */
	struct weir *weir_tsc;          /* with another clock */
	weir_policy_id leased_policy;   /* as open_policy, and threads take tokens ahead */
	weir_policy_id tsc_policy;      /* as open_policy */
	struct weir *weir_dense;        /* fuller, by the defaults */
	weir_policy_id dense_policy;    /* as open_policy */
	struct weir *weir_lean;         /* fuller, and it keeps no keys */
	weir_policy_id lean_policy;
	struct weir *weir_compact;
	weir_policy_id compact_policy;  /* as open_policy */
	struct line {
		uint64_t words[8];
	} *lines;                       /* the limit's table: two lines a key */
	struct rival *striped, *mutex;
	struct churn {                  /* tables in which every key is new */
		struct weir *weir;
		weir_policy_id policy;
		uint64_t slots;
		uint64_t next;          /* number of the next key */
	} insert, expire, evict, full, evict_compact, full_compact;
};

#define FIRST_NEW_KEY (1ull << 40)      /* of a churn */

struct kernel {
	const char *name;
	const char *reference;          /* the kernel that it is a ratio to; or NULL */
	const char *help;
	void (*run)(struct state *state, unsigned operations);
	unsigned operations;
	bool twice;                     /* by two threads side by side */
	void (*before)(struct state *state, unsigned operations);       /* not timed */
	bool chosen;
	double ns[ROUNDS_MAX];
};

extern struct kernel kernels[];
extern const unsigned kernel_count;

/* The limits of the machine. */
void run_clock(struct state *state, unsigned operations);
void run_bare(struct state *state, unsigned operations);
void run_bare_tsc(struct state *state, unsigned operations);
void run_miss(struct state *state, unsigned operations);
void run_miss_tsc(struct state *state, unsigned operations);
void run_miss_alone(struct state *state, unsigned operations);
void run_miss_batch(struct state *state, unsigned operations);
void run_miss_window(struct state *state, unsigned operations);

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

/* Make the tables that the chosen kernels use. */
void kernels_prepare(struct state *state);

/* ---- bench_tables.c ---------------------------------------------------- */

/* Each with all keys, charged once. */
void prepare_lines(struct state *state);
void prepare_weir(struct state *state);
void prepare_tsc(struct state *state);
void prepare_compact(struct state *state);
void prepare_dense(struct state *state);
void prepare_lean(struct state *state);
struct rival *prepare_rival(const struct state *state, unsigned mutexes);

/* For KEYS keys, as far as there is room, and without any. */
void churn_open(struct churn *churn, uint64_t keys, const char *limit, bool compact);

/* Until every slot has a key: free ones are taken first. */
void churn_fill(struct churn *churn, uint64_t cost);

#endif
