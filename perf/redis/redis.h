/* SPDX-License-Identifier: Apache-2.0 */
/* redis.h - the parts of the program `redis`. */
#ifndef WEIR_PERF_REDIS_REDIS_H
#define WEIR_PERF_REDIS_REDIS_H

#include <stdbool.h>
#include <stdint.h>

#include "perf/measure.h"

struct redis_server;

#define CYCLES_MAX 1000u

/* What latency.c asks for. */
struct load {
	const char *name;
	const char *help;
	const char *limit;
	uint64_t cost;                  /* that each of the keys is charged before */
	bool denied;                    /* every call */
	bool fresh;                     /* every call has a new key; before, all slots have one */
	unsigned phases;                /* the first ones, which are measured */
};

#define LOADS 4u
extern const struct load loads[LOADS];

struct plan {
	uint32_t keys;
	const struct load *load;
	unsigned cycles;                /* of all phases; of all ways to ask Redis */
	uint64_t phase_ns;
	uint64_t interval_ns;           /* between rounds */
	enum weir_fail_mode fail_mode;
	bool json;
};

/* ---- latency.c: decisions, while something happens to Redis -------------- */

/* Of the calls of one phase. */
struct latency {
	struct histogram histogram;
	uint64_t longest_ns;
};

struct phase_result {
	struct latency synced, alone;   /* segments */
	double to_alone[3];             /* p50, p99, p99.9: synced / alone, median of cycles */
	double to_rounds[3];            /* synced / synced in the phase "rounds" */
};

#define PHASES 7u
#define PHASE_ROUNDS 1u             /* Redis answers */
extern const char *const phase_names[PHASES];
extern const char *const phase_help[PHASES];

void latency_measure(struct redis_server *server, const struct plan *plan,
		     struct phase_result results[PHASES]);

/* ---- cost.c: what Redis and the host spend ------------------------------- */

enum way {
	WAY_ROUNDS,             /* weir's sync thread: operations are keys */
	WAY_GCRA_1,             /* EVALSHA, a decision each, one connection that waits */
	WAY_GCRA_16,            /* 16 of them: Redis has always something to do */
	WAY_GCRA_PIPELINED,     /* 4 connections, 32 decisions in flight on each */
	WAY_INCRBY_PIPELINED,   /* INCRBY and PEXPIRE, 100 keys in flight, one connection */
	WAYS
};
extern const char *const way_names[WAYS];
extern const char *const way_help[WAYS];

/* Of one cycle, for an operation. */
struct cost {
	double redis_ns;                /* of its processor */
	double host_ns;                 /* of the asking thread's */
	double wall_ns;
};

struct way_result {
	uint64_t operations;
	struct cost least, middle;      /* of the cycles */
	double redis_ratio;             /* an EVALSHA each, 16 connections / this */
	double host_ratio;
	struct histogram histogram;     /* from asking to the answer; none for rounds */
	double script_p50_us;           /* how long one EVALSHA holds Redis, by its own */
	double script_p99_us;           /* count, median of the cycles */
};

void cost_measure(struct redis_server *server, const struct plan *plan,
		  struct way_result results[WAYS]);

/* ---- clients.c: asking Redis for each decision --------------------------- */

struct clients;

struct clients *clients_start(const struct redis_server *server, enum way way);
void clients_end(struct clients *clients);

/* Ask about random ones of KEYS keys for DURATION_NS.  Returns how many answers came. */
uint64_t clients_run(struct clients *clients, uint32_t keys, uint64_t duration_ns,
		     struct histogram *histogram);

#endif
