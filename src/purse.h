/* SPDX-License-Identifier: Apache-2.0 */
/* purse.h - decisions of policies that lease. */
#ifndef WEIR_PURSE_H
#define WEIR_PURSE_H

#include "src/quick.h"

/* Does POLICY, if it is one, lease?  A hint: purse_decide() makes sure. */
static inline bool purse_leases(const struct segment *segment, weir_policy_id policy)
{
	uint32_t index = policy_index(policy);

	return index < segment->policies &&
	       (policy_word(&policy_record_at(segment, policy_version(segment), index)->flags) &
		POLICY_LEASE);
}

/* As weir_allow_n(), if the policy leases and the key has a bucket.  Else QUICK_NOT: nothing
 * happened, and it is for plan.c to decide. */
enum quick_result purse_decide(const struct segment *segment, weir_policy_id policy,
			       const void *key, size_t key_length, uint64_t cost,
			       struct weir_decision *decision);

#endif
