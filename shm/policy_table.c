/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy_table.c - policies, published as a whole.
 *
 * What.  Two banks of records.  A writer copies the bank in force into the other
 * one, changes it there, and switches with one store of the version, whose low
 * bit says which bank is in force.
 *
 * Invariant.  The bank in force is complete.  Writers exclude each other with
 * the segment's control lock, which the kernel drops when its holder dies.
 *
 * Readers.  Read the version, copy what they need, and read the version again
 * before they act on it: a writer reuses a bank only after the version moved on.
 * No reader keeps a writer waiting, nor the other way round.  RCU could not do
 * this: its grace periods end at the process.
 *
 * Crash.  A writer killed before the switch changed nothing; the next one
 * overwrites its half-made bank.  After the switch the change is whole.
 *
 * Ordering.  E4: the version's release store -> the acquire loads of the version.
 * E6: a record's words are stored with release and loaded with acquire, so that
 * whoever sees a word of a bank that is being rewritten also sees, when it reads
 * the version again, that the version has moved on.
 *
 * References: H. Boehm, "Can seqlocks get along with programming language memory
 * models?", 2012.
 */
#include "shm/policy_table.h"

#include <stdlib.h>
#include <string.h>

#include "shm/counter.h"
#include "shm/error.h"
#include "shm/hash.h"

#define SERIAL_MAX (1ull << 51)        /* so that it fits an id */

/* ---- Reading ----------------------------------------------------------- */

static void text_decode(const uint64_t *words, char *text, size_t size)
{
	for (size_t i = 0; i < size / 8; i++) {
		uint64_t word = policy_word(&words[i]);

		memcpy(text + 8 * i, &word, 8);
	}
	text[size - 1] = '\0';
}

bool policy_decode(const struct segment *segment, uint64_t version, uint32_t index,
		   struct weir_policy *policy, uint64_t *serial)
{
	const struct policy_record *record = policy_record_at(segment, version, index);
	uint64_t flags = policy_word(&record->flags);

	memset(policy, 0, sizeof(*policy));
	*serial = policy_word(&record->serial);
	if (*serial == 0)
		return false;
	text_decode(record->name, policy->name, sizeof(policy->name));
	text_decode(record->buckets, policy->buckets, sizeof(policy->buckets));
	policy->limit_count = flags & 0xff;
	policy->fail_mode = (enum weir_fail_mode)(flags >> 8 & 0xff);
	policy->consistency = (enum weir_consistency)(flags >> 16 & 0xff);
	policy->shadow = flags >> 24 & 1;
	policy->lease = flags & POLICY_LEASE;
	if (policy->limit_count > WEIR_LIMITS_MAX)
		return false;
	for (uint32_t i = 0; i < policy->limit_count; i++) {
		const struct limit_record *from = &record->limits[i];
		uint64_t kind = policy_word(&from->kind);

		policy->limits[i].limit = policy_word(&from->limit);
		policy->limits[i].period_ns = policy_word(&from->period_ns);
		policy->limits[i].burst = policy_word(&from->burst);
		policy->limits[i].algorithm = (enum weir_algorithm)(kind & 0xff);
		policy->limits[i].action = (enum weir_action)(kind >> 8 & 0xff);
	}
	return weir_policy_check(policy, NULL) == 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct weir_policy *)a)->name, ((const struct weir_policy *)b)->name);
}

static size_t list_at(const struct segment *segment, uint64_t version,
		      struct weir_policy *policies, size_t capacity)
{
	struct weir_policy policy;
	uint64_t serial;
	size_t count = 0;

	for (uint32_t index = 0; index < segment->policies; index++) {
		if (!policy_decode(segment, version, index, &policy, &serial))
			continue;
		if (count < capacity)
			policies[count] = policy;
		count++;
	}
	return count;
}

size_t policy_table_list(const struct segment *segment, struct weir_policy *policies,
			 size_t capacity)
{
	size_t count = 0;

	for (int attempt = 0; attempt < POLICY_READ_ATTEMPTS; attempt++) {
		uint64_t version = policy_version(segment);

		count = list_at(segment, version, policies, capacity);
		if (policy_version(segment) == version)
			break;
	}
	if (capacity > 0)
		qsort(policies, count < capacity ? count : capacity, sizeof(*policies), by_name);
	return count;
}

static void name_encode(const char *name, uint64_t words[8])
{
	char padded[WEIR_NAME_MAX + 1] = "";

	memcpy(padded, name, strnlen(name, WEIR_NAME_MAX));
	memcpy(words, padded, sizeof(padded));
}

weir_policy_id policy_lookup(const struct segment *segment, uint64_t version, const char *name)
{
	uint64_t words[8];

	if (!name || strnlen(name, WEIR_NAME_MAX + 1) > WEIR_NAME_MAX)
		return WEIR_NO_POLICY;
	name_encode(name, words);
	for (uint32_t index = 0; index < segment->policies; index++) {
		const struct policy_record *record = policy_record_at(segment, version, index);
		uint64_t serial = policy_word(&record->serial);
		unsigned i = 0;

		while (serial != 0 && i < 8 && policy_word(&record->name[i]) == words[i])
			i++;
		if (i == 8)
			return policy_id(serial, index);
	}
	return WEIR_NO_POLICY;
}

/* ---- Compiling --------------------------------------------------------- */

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/*
 * The key of a limit's fingerprints.  Hosts that share the secret and the name
 * of the policy's buckets derive the same one.  A window of another period counts
 * something else and gets buckets of its own; a token bucket's debt is a time,
 * which stays what it is when the rate changes.
 */
static struct fingerprint derive_key(const struct segment *segment, const struct weir_policy *policy,
				     uint32_t i)
{
	const struct weir_limit *limit = &policy->limits[i];
	bool windowed = limit->algorithm == WEIR_SLIDING_WINDOW ||
			limit->algorithm == WEIR_FIXED_WINDOW;
	uint64_t material[11];

	name_encode(policy->buckets[0] ? policy->buckets : policy->name, material);
	material[8] = i;
	material[9] = limit->algorithm;
	material[10] = windowed ? limit->period_ns : 0;
	return hash_strong(segment->secret, material, sizeof(material));
}

/* A compact slot tells up to COMPACT_COUNT_MASK + 1 parts of a nanosecond apart.  Where
 * tokens have more their time is rounded up to so many: by less than 2^-16 ns, which is
 * 1.5 in a million at the highest rate of all. */
static void round_token(struct limit_record *record)
{
	uint64_t parts = COMPACT_COUNT_MASK + 1, divisor;
	unsigned __int128 part = (unsigned __int128)record->token_part * parts + record->parts - 1;

	if (record->parts <= parts)
		return;
	record->token_part = (uint64_t)(part / record->parts);
	if (record->token_part == parts) {
		record->token_part = 0;
		record->token_ns++;
	}
	divisor = greatest_common_divisor(parts, record->token_part);
	record->token_part /= divisor;
	record->parts = parts / divisor;
}

static void compile_limit(const struct segment *segment, const struct weir_policy *policy,
			  uint32_t i, struct limit_record *record)
{
	const struct weir_limit *limit = &policy->limits[i];
	struct fingerprint key = derive_key(segment, policy, i);
	uint64_t divisor = greatest_common_divisor(limit->period_ns, limit->limit);
	unsigned __int128 part;

	memset(record, 0, sizeof(*record));
	record->limit = limit->limit;
	record->period_ns = limit->period_ns;
	record->burst = limit->burst ? limit->burst : limit->limit;
	record->kind = (uint64_t)limit->algorithm | (uint64_t)limit->action << 8;
	record->key[0] = key.low;
	record->key[1] = key.high;
	record->parts = limit->limit / divisor;
	record->token_ns = limit->period_ns / divisor / record->parts;
	record->token_part = limit->period_ns / divisor % record->parts;
	if (segment->compact.groups)
		round_token(record);
	part = (unsigned __int128)(record->burst - 1) * record->token_part;
	record->tolerance_ns =
		(record->burst - 1) * record->token_ns + (uint64_t)(part / record->parts);
	record->tolerance_part = (uint64_t)(part % record->parts);
}

static void compile_policy(const struct segment *segment, const struct weir_policy *policy,
			   uint64_t serial, uint32_t index, struct policy_record *record)
{
	memset(record, 0, sizeof(*record));
	record->serial = serial;
	record->flags = policy->limit_count | (uint64_t)policy->fail_mode << 8 |
			(uint64_t)policy->consistency << 16 | (uint64_t)policy->shadow << 24;
	if (policy->limit_count == 1 && !policy->shadow &&
	    policy->limits[0].algorithm == WEIR_TOKEN_BUCKET)
		record->flags |= segment->compact.groups ? POLICY_COMPACT :
				 policy->lease		 ? POLICY_LEASE :
							   POLICY_SIMPLE;
	name_encode(policy->name, record->name);
	memcpy(record->buckets, policy->buckets, strnlen(policy->buckets, WEIR_BUCKETS_MAX));
	for (uint32_t i = 0; i < policy->limit_count; i++)
		compile_limit(segment, policy, i, &record->limits[i]);
	if ((record->flags & POLICY_SIMPLE) && record->limits[0].token_part == 0)
		record->limits[0].plain_id = policy_id(serial, index);
}

/* Tokens that threads took ahead come back to a bucket only if it has known of them ever
 * since: not if the policy did not lease meanwhile, or had another rate.  BEFORE is what the
 * policy was, and CHANGE, which no other change has, numbers this one. */
static void begin_lease(const struct policy_record *before, uint64_t change,
			struct policy_record *record)
{
	struct limit_record *limit = &record->limits[0];
	const struct limit_record *old = &before->limits[0];

	if (!(record->flags & POLICY_LEASE))
		return;
	limit->lease = change;
	if (policy_word(&before->serial) == record->serial && policy_word(&old->lease) != 0 &&
	    policy_word(&old->token_ns) == limit->token_ns &&
	    policy_word(&old->token_part) == limit->token_part &&
	    policy_word(&old->parts) == limit->parts)
		limit->lease = policy_word(&old->lease);
}

/* ---- Writing ----------------------------------------------------------- */

static void record_store(struct policy_record *to, const struct policy_record *from)
{
	const uint64_t *source = (const uint64_t *)from;
	uint64_t *target = (uint64_t *)to;

	for (size_t i = 0; i < sizeof(*to) / 8; i++)
		atomic_store_release(&target[i], source[i]);            /* E6 */
}

static void record_copy(struct policy_record *to, const struct policy_record *from)
{
	struct policy_record copy;
	const uint64_t *source = (const uint64_t *)from;
	uint64_t *words = (uint64_t *)&copy;

	for (size_t i = 0; i < sizeof(copy) / 8; i++)
		words[i] = policy_word(&source[i]);
	record_store(to, &copy);
}

static void copy_bank(const struct segment *segment, uint64_t version)
{
	for (uint32_t index = 0; index < segment->policies; index++)
		record_copy(policy_record_at(segment, version ^ 1, index),
			    policy_record_at(segment, version, index));
}

static void switch_bank(const struct segment *segment, uint64_t version)
{
	uint64_t next = ((version >> 1) + 1) << 1 | ((version & 1) ^ 1);

	atomic_store_release(&segment->header->policy.version, next);   /* E4 */
}

/* The place of policy NAME in the bank of VERSION, or a free one. */
static bool place_for(const struct segment *segment, uint64_t version, const char *name,
		      uint32_t *index, uint64_t *serial)
{
	weir_policy_id id = policy_lookup(segment, version, name);

	*index = policy_index(id);
	*serial = id >> 12;
	if (id != WEIR_NO_POLICY)
		return true;
	for (*index = 0; *index < segment->policies; ++*index) {
		if (policy_word(&policy_record_at(segment, version, *index)->serial) == 0)
			return true;
	}
	return false;
}

static int set_in_bank(struct segment *segment, uint64_t bank,
		       const struct weir_policy *policies, size_t count, struct weir_error *error)
{
	/* Under the lock: relaxed. */
	uint64_t next = atomic_load_relaxed(&segment->header->policy.next_serial);

	if (next == 0 || next >= SERIAL_MAX)
		next = 1;       /* damaged */
	for (size_t i = 0; i < count; i++) {
		struct policy_record record;
		uint64_t serial;
		uint32_t index;

		if (!place_for(segment, bank, policies[i].name, &index, &serial))
			return weir_fail(error, WEIR_ENOSPC,
					 "no room for policy \"%s\": the segment holds %u policies; "
					 "remove one, or create the segment with more",
					 policies[i].name, segment->policies);
		if (serial == 0) {
			serial = next++;
			counter_clear_policy(segment, index);
		}
		compile_policy(segment, &policies[i], serial, index, &record);
		begin_lease(policy_record_at(segment, bank, index), (bank >> 1) + 1, &record);
		record_store(policy_record_at(segment, bank, index), &record);
	}
	/* Before the switch: a serial is never given out twice. */
	atomic_store_relaxed(&segment->header->policy.next_serial, next);
	return 0;
}

static bool remove_in_bank(struct segment *segment, uint64_t bank, const char *name)
{
	static const struct policy_record none;
	weir_policy_id id = policy_lookup(segment, bank, name);

	if (id != WEIR_NO_POLICY)
		record_store(policy_record_at(segment, bank, policy_index(id)), &none);
	return id != WEIR_NO_POLICY;
}

int policy_table_apply(struct segment *segment, const struct weir_policy *policies, size_t count,
		       const char (*removed)[WEIR_NAME_MAX + 1], size_t removed_count,
		       struct weir_error *error)
{
	uint64_t version = policy_version(segment);
	int status;

	copy_bank(segment, version);
	/* First, to make room. */
	for (size_t i = 0; i < removed_count; i++)
		remove_in_bank(segment, version ^ 1, removed[i]);
	status = set_in_bank(segment, version ^ 1, policies, count, error);
	if (status)
		return status;
	switch_bank(segment, version);
	return weir_ok(error);
}

int policy_table_set(struct segment *segment, const struct weir_policy *policies, size_t count,
		     struct weir_error *error)
{
	return policy_table_apply(segment, policies, count, NULL, 0, error);
}

int policy_table_remove(struct segment *segment, const char *name, struct weir_error *error)
{
	uint64_t version = policy_version(segment);

	copy_bank(segment, version);
	if (!remove_in_bank(segment, version ^ 1, name))
		return weir_fail(error, WEIR_ENOENT, "no policy \"%s\" in the segment",
				 name ? name : "");
	switch_bank(segment, version);
	return weir_ok(error);
}

void policy_switch_set(const struct segment *segment, weir_policy_id id, int mode)
{
	uint64_t set = mode < 0 ? 0 : (id >> 12) << 8 | SWITCH_SET | (uint64_t)mode;

	/* Relaxed: complete in itself; the serial ties it to the policy. */
	atomic_store_relaxed(&segment->switches[policy_index(id)].fail_mode, set);
}
