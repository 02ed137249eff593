/* SPDX-License-Identifier: Apache-2.0 */
/* purse.h - decisions of policies that lease. */
#ifndef WEIR_PURSE_H
#define WEIR_PURSE_H

#include "shm/segment.h"

/* As weir_allow_n(), if the policy leases and the key has a bucket; *PASS is the answer then.
 * Else false: nothing happened, and it is for plan.c to decide. */
bool purse_decide(const struct segment *segment, weir_policy_id policy, const void *key,
		  size_t key_length, uint64_t cost, struct weir_decision *decision, bool *pass);

#endif
