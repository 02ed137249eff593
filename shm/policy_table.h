/* SPDX-License-Identifier: Apache-2.0 */
/* policy_table.h - the policies in the segment, as all processes see them. */
#ifndef WEIR_SHM_POLICY_TABLE_H
#define WEIR_SHM_POLICY_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/limit.h"
#include "shm/segment.h"

/* Which policies are in force.  Whatever is read from them holds only if the
 * version is the same afterwards. */
static inline uint64_t policy_version(const struct segment *segment)
{
	return atomic_load_acquire(&segment->header->policy.version);   /* E4 */
}

struct policy_head {
	uint32_t index;
	uint64_t serial;
	uint32_t limit_count;
	enum weir_fail_mode fail_mode;  /* in force: the one set at run time, if any */
	bool shadow;
};

static inline weir_policy_id policy_id(uint64_t serial, uint32_t index)
{
	return serial << 12 | index;
}

static inline uint32_t policy_index(weir_policy_id id)
{
	return (uint32_t)(id & 0xfff);
}

/* The policy of ID, as of VERSION; false if there is none. */
bool policy_head(const struct segment *segment, uint64_t version, weir_policy_id id,
		 struct policy_head *head);

/* Its limit I, safe to compute with whatever is in the segment. */
void policy_limit(const struct segment *segment, uint64_t version, uint32_t index, uint32_t i,
		  struct limit *limit);

/* The whole policy at INDEX; false if there is none, or it is damaged. */
bool policy_decode(const struct segment *segment, uint64_t version, uint32_t index,
		   struct weir_policy *policy, uint64_t *serial);

/* The id of policy NAME as of VERSION, or WEIR_NO_POLICY. */
weir_policy_id policy_lookup(const struct segment *segment, uint64_t version, const char *name);

/* Define or replace COUNT policies that were checked; or remove NAME.  The
 * caller holds the segment's lock. */
int policy_table_set(struct segment *segment, const struct weir_policy *policies, size_t count,
		     struct weir_error *error);
int policy_table_remove(struct segment *segment, const char *name, struct weir_error *error);

/* MODE, or -1 for the policy's own. */
void policy_switch_set(const struct segment *segment, weir_policy_id id, int mode);

#endif
