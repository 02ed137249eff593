/* SPDX-License-Identifier: Apache-2.0 */
/* plan_limit.h - one limit of a plan, on the bucket that it has for the key. */
#ifndef WEIR_PLAN_LIMIT_H
#define WEIR_PLAN_LIMIT_H

#include "src/plan.h"

/* How often a slot may change hands, or the policies change, under one limit. */
#ifndef LOOK_ATTEMPTS /* the models lower it */
#define LOOK_ATTEMPTS 16
#endif

/* Look at limit I, and store nothing: its verdict tells what a charge would meet. */
enum plan_result plan_limit_look(struct plan *plan, uint32_t i);

/* Charge limit I. */
enum plan_result plan_limit_charge(struct plan *plan, uint32_t i,
				   enum bucket_operation operation);

/* Give back what this plan took of limit I. */
void plan_limit_undo(struct plan *plan, uint32_t i);

/* Refund or reset the bucket of limit I, if it has one.  A key without one is full already;
 * but other hosts may know better, and are told by a bucket. */
enum bucket_result plan_limit_give_back(struct plan *plan, uint32_t i,
					enum bucket_operation operation);

/* Bring back what threads have taken ahead of a bucket that denies; true if there was
 * anything. */
bool plan_limit_empty_purses(struct plan *plan, uint32_t i);

#endif
