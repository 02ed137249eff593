/* SPDX-License-Identifier: Apache-2.0 */
/* scenarios.h - all scenarios; main.c runs them in this order. */
#ifndef WEIR_TESTS_SCENARIOS_H
#define WEIR_TESTS_SCENARIOS_H

#include "src/handle.h"
#include "tests/model/world.h"

/* A thread alone: a request finds, reads its window three times and charges; what
 * others left half-done makes it start over a few times. */
#define ALONE_MAX (60 + 40 * WINDOW_SLOTS)

extern const struct model_scenario scenario_first_one;
extern const struct model_scenario scenario_first_both;
extern const struct model_scenario scenario_first_keys;
extern const struct model_scenario scenario_victims;
extern const struct model_scenario scenario_victims_evict;
extern const struct model_scenario scenario_recycle;
extern const struct model_scenario scenario_evict;
extern const struct model_scenario scenario_take_over;
extern const struct model_scenario scenario_late;
extern const struct model_scenario scenario_late_caller;
extern const struct model_scenario scenario_policy_allow;
extern const struct model_scenario scenario_policy_general;
extern const struct model_scenario scenario_policy_deny;
extern const struct model_scenario scenario_policy_death;
extern const struct model_scenario scenario_policy_remove;
extern const struct model_scenario scenario_holds_two;
extern const struct model_scenario scenario_holds_reap;
extern const struct model_scenario scenario_holds_room;
extern const struct model_scenario scenario_limits_same;
extern const struct model_scenario scenario_limits_other;
extern const struct model_scenario scenario_limits_absent;
extern const struct model_scenario scenario_compact_first;
extern const struct model_scenario scenario_compact_victims;
extern const struct model_scenario scenario_compact_claims;
extern const struct model_scenario scenario_compact_evict;
extern const struct model_scenario scenario_compact_take_over;
extern const struct model_scenario scenario_compact_late;
extern const struct model_scenario scenario_compact_limits;
extern const struct model_scenario scenario_evict_three;
extern const struct model_scenario scenario_victims_all;

#define SCENARIOS \
	&scenario_first_one, \
	&scenario_first_both, \
	&scenario_first_keys, \
	&scenario_victims, \
	&scenario_victims_evict, \
	&scenario_recycle, \
	&scenario_evict, \
	&scenario_take_over, \
	&scenario_late, \
	&scenario_late_caller, \
	&scenario_policy_allow, \
	&scenario_policy_general, \
	&scenario_policy_deny, \
	&scenario_policy_death, \
	&scenario_policy_remove, \
	&scenario_holds_two, \
	&scenario_holds_reap, \
	&scenario_holds_room, \
	&scenario_limits_same, \
	&scenario_limits_other, \
	&scenario_limits_absent, \
	&scenario_compact_first, \
	&scenario_compact_victims, \
	&scenario_compact_claims, \
	&scenario_compact_evict, \
	&scenario_compact_take_over, \
	&scenario_compact_late, \
	&scenario_compact_limits, \
	&scenario_evict_three, \
	&scenario_victims_all,

#endif
