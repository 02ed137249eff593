/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.h - the segment that crash tests work on, and what must always hold in it.
 *
 * It has 16 slots, so that every key's window is the whole table, and carries the
 * times of its requests, so that nothing depends on a clock.
 */
#ifndef WEIR_TEST_CRASH_WORLD_H
#define WEIR_TEST_CRASH_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "src/handle.h"
#include "trace.h"
#include "weir.h"

#define WORLD_SLOTS 16u
#define WORLD_HOLDS 4u

#define SECOND_NS 1000000000ull
#define DAY_NS	  (86400 * SECOND_NS)
#define BEGIN_NS  (1700000000 * SECOND_NS)

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* What a child tells: memory that it shares with the tracer. */
struct told {
	bool passed;
	int status;
	struct weir_decision decision;
	struct weir_error error;
};

struct world {
	struct weir *weir;
	struct segment *segment;
	unsigned char *saved;		/* the segment before the operation */
	struct slot slots[WORLD_SLOTS]; /* its slots then */
	struct compact_slot compact[WORLD_SLOTS]; /* instead, if it is compact */
	volatile struct told *told;
};

/* main() of a crash test: run the cases that ADD adds, each with 60 s unless ADD says
 * otherwise, in a directory of its own in shared memory, which is removed afterwards.
 * Skipped where children cannot be traced. */
int world_main(const char *name, void (*add)(TCase *tests));

/* Make the segment, with COUNT policies given as pairs of name and limit; a
 * further limit of the same policy has the name NULL. */
void world_make(struct world *world, const char *const (*policies)[2], size_t count);
void world_make_compact(struct world *world, const char *const (*policies)[2], size_t count);
void world_remove(struct world *world);

/* Remember the segment as it is; make it so again. */
void world_save(struct world *world);
void world_restore(const struct world *world);

/* One request of COST tokens at NOW_NS. */
bool world_ask(struct world *world, const char *policy, const char *key, uint64_t cost,
	       uint64_t now_ns, struct weir_decision *decision);

/* What a halted child may be in the middle of. */
enum world_operation {
	WORLD_SPEND,
	WORLD_REFUND,
	WORLD_RESET,
};

/* Do it, and tell how it was answered. */
void world_operate(struct world *world, enum world_operation operation, const char *policy,
		   const char *key, uint64_t cost, uint64_t now_ns);

/* Ask for single tokens until one is denied; returns how many were allowed.
 * Each is decided by the limits at once, whoever else was killed or stopped. */
unsigned world_exhaust(struct world *world, const char *policy, const char *key, uint64_t now_ns);

/* Fill slots with buckets of COUNT other keys, 50 days in debt. */
void world_fill(struct world *world, unsigned count);

/* The live slot of limit LIMIT_INDEX of POLICY for KEY; NULL: none. */
struct slot *world_slot(const struct world *world, const char *policy, uint32_t limit_index,
			const char *key);

/* Tokens in it; 0 if there is none. */
uint64_t world_used(const struct world *world, const char *policy, uint32_t limit_index,
		    const char *key);

/* Assert that each key has one slot, that no slot is damaged, that weir_check()
 * finds nothing (but holds of the dead, if DEAD_HOLDS), and that the buckets of
 * world_fill() are as they were. */
void world_check(const struct world *world, bool dead_holds);

/* True in the long form of the tests. */
bool world_soak(void);

/* Call AT for the instructions of TRACED: in the long form each of them with each
 * of VARIANTS; in the short form, the critical ones so, and as many of the others
 * as LIMIT allows, with the variants in turn. */
void world_each_instruction(struct world *world, const char *name, const struct traced *traced,
			    uint32_t variants, uint32_t limit,
			    void (*at)(struct world *world, pid_t child, uint32_t variant,
				       void *context),
			    void *context);

#endif
