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
	return atomic_load_acquire(&segment->header->policy.version); /* E4 */
}

#define POLICY_READ_ATTEMPTS 64 /* policy changes that one reading follows */
#define SWITCH_SET 0x80u /* in policy_switch.fail_mode */

struct policy_head {
	uint32_t index;
	uint64_t serial;
	uint32_t limit_count;
	enum weir_fail_mode fail_mode; /* in force: the one set at run time, if any */
	enum weir_consistency consistency;
	bool shadow;
	bool lease;
};

static inline weir_policy_id policy_id(uint64_t serial, uint32_t index)
{
	return serial << 12 | index;
}

static inline uint32_t policy_index(weir_policy_id id)
{
	return (uint32_t)(id & 0xfff);
}

static inline struct policy_record *policy_record_at(const struct segment *segment,
						     uint64_t version, uint32_t index)
{
	return &segment->banks[version & 1][index];
}

static inline uint64_t policy_word(const uint64_t *word)
{
	return atomic_load_acquire(word); /* E6 */
}

static inline enum weir_consistency policy_flags_consistency(uint64_t flags)
{
	return (enum weir_consistency)(flags >> 16 & 0xff);
}

/* Of the policy at INDEX with these FLAGS and SERIAL: the fail mode in force. */
static inline enum weir_fail_mode policy_fail_mode(const struct segment *segment, uint32_t index,
						   uint64_t serial, uint64_t flags)
{
	/* Complete in itself: nothing is ordered by it. */
	uint64_t set = atomic_load_relaxed(&segment->switches[index].fail_mode);

	if (set >> 8 == serial && (set & SWITCH_SET))
		return (enum weir_fail_mode)(set & 0x7f);
	return (enum weir_fail_mode)(flags >> 8 & 0xff);
}

/* The policy of ID, as of VERSION; false if there is none. */
static inline bool policy_head(const struct segment *segment, uint64_t version, weir_policy_id id,
			       struct policy_head *head)
{
	const struct policy_record *record;
	uint32_t limit_count;
	uint64_t flags;

	head->index = policy_index(id);
	head->serial = id >> 12;
	if (head->serial == 0 || head->index >= segment->policies)
		return false;
	record = policy_record_at(segment, version, head->index);
	if (policy_word(&record->serial) != head->serial)
		return false;
	flags = policy_word(&record->flags);
	limit_count = flags & 0xff;
	if (limit_count < 1 || limit_count > WEIR_LIMITS_MAX)
		return false;           /* and a count out of bounds is nowhere */
	head->limit_count = limit_count;
	head->fail_mode = policy_fail_mode(segment, head->index, head->serial, flags);
	head->consistency = policy_flags_consistency(flags);
	head->shadow = flags >> 24 & 1;
	head->lease = (flags & POLICY_LEASE) && !segment->compact.groups;
	return true;
}

/* Is a policy of these FLAGS the cluster's?  Not before a sync thread was started. */
static inline bool policy_flags_sync(const struct segment *segment, uint64_t flags)
{
	return segment->shards && policy_flags_consistency(flags) != WEIR_LOCAL &&
	       atomic_load_relaxed(&segment->header->sync.enabled) != 0;
}

static inline bool policy_syncs(const struct segment *segment, const struct policy_head *head)
{
	return policy_flags_sync(segment, (uint64_t)head->consistency << 16);
}

/* Whatever bytes a hostile writer put there, no division by zero follows. */
static inline void make_computable(struct limit *limit)
{
	if (limit->period_ns == 0)
		limit->period_ns = 1;
	if (limit->token_ns == 0)
		limit->token_ns = 1;
	if (limit->parts == 0 || limit->token_part >= limit->parts) {
		limit->parts = 1;
		limit->token_part = 0;
	}
}

/* A limit, safe to compute with whatever is in the segment. */
static inline void policy_limit_read(const struct limit_record *record, struct limit *limit)
{
	uint64_t kind = policy_word(&record->kind);

	limit->limit = policy_word(&record->limit);
	limit->period_ns = policy_word(&record->period_ns);
	limit->burst = policy_word(&record->burst);
	limit->algorithm = (enum weir_algorithm)(kind & 3);
	limit->action = (enum weir_action)(kind >> 8 & 1);
	limit->key[0] = policy_word(&record->key[0]);
	limit->key[1] = policy_word(&record->key[1]);
	limit->token_ns = policy_word(&record->token_ns);
	limit->token_part = policy_word(&record->token_part);
	limit->parts = policy_word(&record->parts);
	limit->tolerance_ns = policy_word(&record->tolerance_ns);
	limit->tolerance_part = policy_word(&record->tolerance_part);
	limit->lease = policy_word(&record->lease);
	limit->aligned_offset_ns = 0;
	limit->stored_offset_ns = 0;
	make_computable(limit);
}

/* Limit I of the policy at INDEX, as of VERSION. */
static inline void policy_limit(const struct segment *segment, uint64_t version, uint32_t index,
				uint32_t i, struct limit *limit)
{
	policy_limit_read(&policy_record_at(segment, version, index)->limits[i], limit);
	/* Whatever is written there: its slots are nothing else. */
	if (segment->compact.groups)
		limit->algorithm = WEIR_TOKEN_BUCKET;
}

/* Align a window that syncs to the clock of its SHARD; until that was heard of, as the
 * fixed windows of this host are, by OWN_OFFSET.  What is stored stays near the
 * segment's time, whatever Redis' clock says, so that a bucket which another key may
 * take is one whose window is over, or was not long before. */
static inline void policy_align(const struct segment *segment, const struct shard_record *shard,
				int64_t own_offset, struct limit *limit)
{
	/* Relaxed: one word, complete in itself. */
	uint64_t offset = atomic_load_relaxed(&shard->window_offset_ns);
	uint64_t stored = (uint64_t)segment->wall_offset_ns;

	limit->aligned_offset_ns = offset ? (int64_t)offset : own_offset;
	if (limit->algorithm == WEIR_SLIDING_WINDOW)
		stored -= stored % limit->period_ns;
	limit->stored_offset_ns = (int64_t)stored;
}

/* The whole policy at INDEX; false if there is none, or it is damaged. */
bool policy_decode(const struct segment *segment, uint64_t version, uint32_t index,
		   struct weir_policy *policy, uint64_t *serial);

/* Copy up to CAPACITY policies, in the order of their names.  Returns how many there
 * are. */
size_t policy_table_list(const struct segment *segment, struct weir_policy *policies,
			 size_t capacity);

/* The id of policy NAME as of VERSION, or WEIR_NO_POLICY. */
weir_policy_id policy_lookup(const struct segment *segment, uint64_t version, const char *name);

/* Define or replace COUNT policies that were checked; or remove NAME; or (apply) define
 * some and remove others, all or none.  The caller holds the segment's lock. */
int policy_table_set(struct segment *segment, const struct weir_policy *policies, size_t count,
		     struct weir_error *error);
int policy_table_apply(struct segment *segment, const struct weir_policy *policies, size_t count,
		       const char (*removed)[WEIR_NAME_MAX + 1], size_t removed_count,
		       struct weir_error *error);
int policy_table_remove(struct segment *segment, const char *name, struct weir_error *error);

/* MODE, or -1 for the policy's own. */
void policy_switch_set(const struct segment *segment, weir_policy_id id, int mode);

#endif
