/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leases.c - what this host holds of mode strict, for people.
 *
 * Credit counts only while the lease of its shard runs: what is told here is what
 * decisions would find (src/view.c, shm/bucket.c).  The numbers are read one behind the
 * other while others change them, so a sum is of no single moment.
 */
#include "src/leases.h"

#include <string.h>

#include "shm/bucket.h"
#include "shm/counter.h"
#include "shm/policy_table.h"
#include "src/handle.h"

/* Does the host's lease of the slot's shard run? */
static bool is_leased(const struct segment *segment, uint64_t identity, uint64_t now_ns)
{
	/* Relaxed: a number for people. */
	return atomic_load_relaxed(&segment->shards[slot_shard(identity)].lease_until_ns) > now_ns;
}

/* The credit of the bucket in SLOT, if that is the policy's. */
static uint64_t credit_of(const struct segment *segment, struct slot *slot, uint64_t policy,
			  uint64_t now_ns)
{
	/* Relaxed here and below: numbers for people. */
	uint64_t owner = atomic_load_relaxed(&slot->owner);
	struct bucket_ref ref = { .slot = slot };
	struct word_pair state;

	ref.generation = atomic_load_acquire(&slot->identity.second) & GENERATION_MASK; /* E1 */
	if ((owner & GENERATION_MASK) != ref.generation || !(owner & OWNER_SYNCS) ||
	    ((owner >> 16 & 0xffff) | owner >> 40 << 16) != policy || !bucket_read(&ref, &state) ||
	    !is_leased(segment, atomic_load_relaxed(&slot->identity.first), now_ns))
		return 0;
	return bucket_credit(ref.generation, state_used(state), atomic_load_relaxed(&slot->merged));
}

static void count_credit(const struct segment *segment, uint64_t policy, uint64_t now_ns,
			 struct weir_lease *lease)
{
	for (uint64_t i = 0; i < segment->slots; i++) {
		uint64_t credit = credit_of(segment, &segment->table.slots[i], policy, now_ns);

		lease->tokens += credit;
		lease->buckets += credit > 0;
	}
}

/* The policy of INDEX, if it is strict; *ID: as slots tell of their owner. */
static bool is_strict(const struct segment *segment, uint32_t index, struct weir_lease *lease,
		      uint64_t *id)
{
	struct weir_policy policy;
	uint64_t serial;

	if (!policy_decode(segment, policy_version(segment), index, &policy, &serial) ||
	    policy.consistency != WEIR_STRICT)
		return false;
	*lease = (struct weir_lease){ .tokens = 0 };
	memcpy(lease->policy, policy.name, sizeof(lease->policy));
	*id = index | (serial & 0xffffff) << 16;
	return true;
}

static void shards_status(const struct segment *segment, uint64_t now_ns,
			  struct weir_sync_status *status)
{
	bool all = true;

	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		const struct shard_record *shard = &segment->shards[i];
		uint64_t until = atomic_load_relaxed(&shard->lease_until_ns);
		uint64_t since = atomic_load_relaxed(&shard->lease_since_ns);
		uint64_t epoch = atomic_load_relaxed(&shard->lease_epoch);
		uint64_t age = now_ns > since ? now_ns - since : 0;

		status->epoch = status->epoch * 0x9e3779b97f4a7c15u + epoch;
		all &= epoch != 0;
		status->quarantined_shards += epoch != 0 && since == 0;
		if (until <= now_ns || since == 0)
			continue;
		if (status->leased_shards == 0 || until - now_ns < status->lease_left_ns)
			status->lease_left_ns = until - now_ns;
		if (status->leased_shards++ == 0 || age < status->tenure_ns)
			status->tenure_ns = age;
	}
	if (!all)
		status->epoch = 0;
}

void leases_status(const struct segment *segment, uint64_t now_ns, struct weir_sync_status *status)
{
	struct weir_lease lease;
	uint64_t id;

	for (uint32_t index = 0; index < segment->policies; index++) {
		if (!is_strict(segment, index, &lease, &id))
			continue;
		status->strict_policies++;
		count_credit(segment, id, now_ns, &lease);
		status->credit_tokens += lease.tokens;
		status->leases += lease.buckets;
	}
	status->unleased = counter_sum_global(segment, COUNTER_UNLEASED);
	if (status->strict_policies > 0)
		shards_status(segment, now_ns, status);
}

size_t weir_sync_leases(const struct weir *weir, struct weir_lease *list, size_t capacity)
{
	const struct segment *segment = handle_control(weir);
	uint64_t now_ns = weir_now_ns(weir);
	struct weir_lease lease;
	size_t count = 0;
	uint64_t id;

	for (uint32_t index = 0; segment->shards && index < segment->policies; index++) {
		if (!is_strict(segment, index, &lease, &id))
			continue;
		if (count < capacity) {
			count_credit(segment, id, now_ns, &lease);
			list[count] = lease;
		}
		count++;
	}
	return count;
}
