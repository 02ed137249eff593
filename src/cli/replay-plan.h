/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-plan.h - which policies a replay applies, and the table that they need.
 */
#ifndef WEIR_CLI_REPLAY_PLAN_H
#define WEIR_CLI_REPLAY_PLAN_H

#include "weir.h"

/* Slots of a replay's segment when the log needs fewer. */
#define REPLAY_SLOTS_MIN 1024u

/* A limit of a policy, as a policy of its own: what it alone would deny. */
struct replay_alone {
	uint32_t policy;        /* index of the policy it stands in */
	uint32_t limit;         /* index of the limit there */
};

struct replay_plan {
	/* The policies, then those of a single limit each.  A policy that has only
	 * one limit needs no second one: its own denials are what that limit denies. */
	struct weir_policy *policies;
	uint32_t policy_count;
	uint32_t alone_count;
	struct replay_alone *alone;
	uint32_t limits_per_key;        /* slots that one key can take */
	uint32_t dropped;               /* concurrency limits: a log does not say when a
	                                 * request ended */
};

/* Plan one policy named "replay" of COUNT limits.  Errors: WEIR_EINVAL,
 * WEIR_ENOMEM. */
int replay_plan_limits(struct replay_plan *plan, const struct weir_limit *limits, size_t count,
		       struct weir_error *error);

/* Plan the policies of the YAML file PATH.  Errors: as weir_policy_parse_file();
 * WEIR_EINVAL if nothing is left without the concurrency limits. */
int replay_plan_file(struct replay_plan *plan, const char *path, struct weir_error *error);

/* The policies of PLAN as they are where time runs SPEED times as fast: for hosts, whose
 * buckets have the clock of this machine, and whose over-admission is defined for token
 * buckets.  Errors: WEIR_EINVAL (another algorithm, a limit that cannot be that fast),
 * WEIR_ENOMEM. */
int replay_plan_accelerate(const struct replay_plan *plan, uint64_t speed,
			   struct replay_plan *accelerated, struct weir_error *error);

void replay_plan_free(struct replay_plan *plan);

/* Slots for KEYS keys: two for each key and limit, rounded up to a power of two;
 * 0 if no segment can have that many. */
uint64_t replay_plan_slots(const struct replay_plan *plan, uint32_t keys);

/* SLOTS as a segment rounds them: up to a power of two, at least 16. */
uint64_t replay_round_slots(uint64_t slots);

#endif
