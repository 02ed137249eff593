/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read.c - looking at a segment: buckets, counters, soundness.
 */
#include <stdlib.h>
#include <string.h>

#include "shm/bucket.h"
#include "shm/counter.h"
#include "shm/gcra.h"
#include "shm/note.h"
#include "shm/policy_table.h"
#include "src/handle.h"
#include "src/store.h"

/* ---- Counters ---------------------------------------------------------- */

/* Where the value of a counter comes from. */
struct counter_source {
	struct weir_counter counter;
	int place;              /* enum counter_policy or counter_global */
	bool plus_allowed;      /* tokens: what is counted comes on top of one each */
};

#define PER_POLICY(place, name, unit, help) { { name, unit, help, true }, place, false }
#define GLOBAL(place, name, unit, help) { { name, unit, help, false }, place, false }

static const struct counter_source counters[] = {
	PER_POLICY(COUNTER_ALLOWED, "allowed", "requests", "Requests that the limits allowed."),
	PER_POLICY(COUNTER_DENIED, "denied", "requests", "Requests that a limit denied."),
	PER_POLICY(COUNTER_UNAVAILABLE, "unavailable", "requests",
		   "Requests answered \"rate limiter unavailable\"."),
	PER_POLICY(COUNTER_FAIL_OPEN, "fail_open", "requests",
		   "Requests allowed by the fail mode, without being counted in a bucket."),
	PER_POLICY(COUNTER_SHADOW_DENIED, "shadow_denied", "requests",
		   "Requests that would have been denied but for shadow."),
	PER_POLICY(COUNTER_FLAGGED, "flagged", "requests",
		   "Allowed requests that exceeded a limit with action flag."),
	{ { "tokens", "tokens", "Tokens that allowed requests have taken.", true },
	  COUNTER_EXTRA_TOKENS, true },
	PER_POLICY(COUNTER_REFUNDED, "refunded", "tokens", "Tokens given back by refunds."),
	GLOBAL(COUNTER_CLAIMED, "claimed", "slots", "Slots given to a new key."),
	GLOBAL(COUNTER_EVICTED_LIVE, "evicted_live", "slots",
	       "Buckets with debt that were evicted for a heavier one: the table is too small."),
	GLOBAL(COUNTER_EVICTED_UNMERGED, "evicted_unmerged", "slots",
	       "Slots taken although the cluster did not know all of their charges."),
	GLOBAL(COUNTER_TABLE_FULL, "table_full", "requests",
	       "Requests that found no slot, so that the fail mode decided."),
	GLOBAL(COUNTER_CONTENDED, "contended", "requests",
	       "Requests that used up their bounded retries, so that the fail mode decided."),
	GLOBAL(COUNTER_CLOCK_JUMPS, "clock_jumps", "jumps",
	       "Jumps of the time stamp counter against the kernel's clock, which stood in then."),
	GLOBAL(COUNTER_REPAIRED, "repaired", "slots", "Damaged slots that were emptied."),
	GLOBAL(COUNTER_HOLDS_REAPED, "holds_reaped", "holds",
	       "Holds of dead processes that were released."),
	GLOBAL(COUNTER_HOLDS_FULL, "holds_full", "requests",
	       "Requests that found no hold record, so that the fail mode decided."),
	GLOBAL(COUNTER_PURSES_FILLED, "purses_filled", "purses",
	       "Times that a thread took tokens ahead."),
	GLOBAL(COUNTER_PURSE_TOKENS_RETURNED, "purse_tokens_returned", "tokens",
	       "Tokens taken ahead that went back, unspent, to their bucket."),
	GLOBAL(COUNTER_UNKNOWN_POLICY, "unknown_policy", "requests",
	       "Requests with the id of no policy."),
	GLOBAL(COUNTER_BAD_REQUEST, "bad_request", "requests",
	       "Requests that could not be decided: no key, a key too long, no time."),
	GLOBAL(COUNTER_STALE_OPEN, "stale_open", "requests",
	       "Requests decided by the local bucket alone, because the view was stale."),
	GLOBAL(COUNTER_STALE_SHARE, "stale_share", "requests",
	       "Requests decided by this host's share, because the view was stale."),
	GLOBAL(COUNTER_STALE_CLOSED, "stale_closed", "requests",
	       "Requests answered \"rate limiter unavailable\", because the view was stale."),
	GLOBAL(COUNTER_CAPPED, "capped", "requests",
	       "Requests denied because too much was admitted since the last merge."),
	GLOBAL(COUNTER_UNLEASED, "unleased", "requests",
	       "Requests denied because this host had no credit for them (mode strict)."),
	GLOBAL(COUNTER_ROUNDS, "sync_rounds", "rounds", "Rounds that Redis has acknowledged."),
	GLOBAL(COUNTER_MERGED, "sync_merged", "buckets", "Views merged into buckets."),
	GLOBAL(COUNTER_FENCES, "sync_fences", "fences",
	       "Fences: new leaders, and rounds whose outcome was in doubt."),
	GLOBAL(COUNTER_RESTORES, "sync_restores", "restores",
	       "Times that Redis had forgotten and was told again."),
	GLOBAL(COUNTER_SYNC_ERRORS, "sync_errors", "errors",
	       "Errors in talking to Redis."),
	GLOBAL(COUNTER_DISAGREEMENTS, "sync_disagreements", "policies",
	       "Policies that another host came to have otherwise."),
	GLOBAL(COUNTER_PUBLICATIONS, "sync_publications", "publications",
	       "Publications of policies that were applied here."),
};

#define COUNTERS (sizeof(counters) / sizeof(counters[0]))

const struct weir_counter *weir_counter(unsigned index)
{
	return index < COUNTERS ? &counters[index].counter : NULL;
}

static uint64_t read_policy_counter(const struct segment *segment, uint32_t policy_index,
				    const struct counter_source *source)
{
	uint64_t value = counter_sum(segment, policy_index, (enum counter_policy)source->place);

	if (source->plus_allowed)
		value += counter_sum(segment, policy_index, COUNTER_ALLOWED);
	return value;
}

static uint64_t read_counter(const struct segment *segment, const struct counter_source *source,
			     const char *name)
{
	weir_policy_id id;
	uint64_t sum = 0;

	if (!source->counter.per_policy)
		return counter_sum_global(segment, (enum counter_global)source->place);
	if (name) {
		id = policy_lookup(segment, policy_version(segment), name);
		return id == WEIR_NO_POLICY ? 0 :
					      read_policy_counter(segment, policy_index(id), source);
	}
	for (uint32_t index = 0; index < segment->policies; index++)
		sum += read_policy_counter(segment, index, source);
	return sum;
}

uint64_t weir_counter_read(const struct weir *weir, unsigned index, const char *name)
{
	const struct segment *segment = handle_enter(weir);
	uint64_t value = 0;

	if (segment && index < COUNTERS)
		value = read_counter(segment, &counters[index], name);
	handle_leave();
	return value;
}

/* ---- Buckets ----------------------------------------------------------- */

static void describe_status(const struct bucket_ref *ref, struct limit *limit, bool syncs,
			    uint64_t now_ns, struct weir_bucket *bucket)
{
	uint64_t version = 0;
	struct bucket_request peek = {
		.operation = BUCKET_PEEK,
		.cost = 1,
		.now_ns = now_ns,
		.detail = true,
		.foreign = syncs,
		.version = &version,
	};
	struct weir_decision *status = &bucket->status;
	struct verdict verdict;

	if (bucket_apply(ref, limit, &peek, &verdict) != BUCKET_DONE)
		return;
	status->outcome = verdict.allowed ? WEIR_ALLOWED : WEIR_DENIED;
	status->reason = verdict.never ? WEIR_REASON_COST : WEIR_REASON_LIMIT;
	status->limit_index = bucket->limit_index;
	status->flagged = verdict.flagged;
	status->limit = limit->algorithm == WEIR_TOKEN_BUCKET ? limit->burst : limit->limit;
	status->remaining = verdict.remaining;
	status->counted = verdict.counted;
	status->retry_after_ns = verdict.retry_after_ns;
	status->reset_after_ns = verdict.reset_after_ns;
}

/* Limit LIMIT_INDEX of the policy at INDEX, if it can be the bucket's.  Of a key that is
 * known as a whole, its fingerprint tells. */
static bool limit_of(const struct segment *segment, uint64_t version, uint32_t index,
		     uint32_t limit_index, const struct weir_bucket *bucket, struct limit *limit)
{
	struct fingerprint fingerprint;
	struct word_pair identity;

	policy_limit(segment, version, index, limit_index, limit);
	if (bucket->key_length == 0 || bucket->key_stored < bucket->key_length)
		return true;
	fingerprint = hash_fingerprint(&segment->hash, limit->key[0], limit->key[1], bucket->key,
				       bucket->key_length);
	memcpy(&identity, bucket->fingerprint, sizeof(identity));
	return slot_is(identity, fingerprint);
}

/* The policy and limit that the slot says it is of; false if they are gone. */
static bool find_owner(const struct segment *segment, uint64_t version,
		       const struct bucket_ref *ref, struct weir_bucket *bucket,
		       struct weir_policy *policy, struct limit *limit)
{
	/* Relaxed: the word is complete in itself, and says whose it is. */
	uint64_t owner = atomic_load_relaxed(&ref->slot->owner), serial;
	uint32_t index = owner >> 16 & 0xffff;

	bucket->limit_index = owner >> 32 & OWNER_LIMIT_MASK;
	return (owner & GENERATION_MASK) == ref->generation && index < segment->policies &&
	       policy_decode(segment, version, index, policy, &serial) &&
	       (serial & 0xffffff) == owner >> 40 && bucket->limit_index < policy->limit_count &&
	       limit_of(segment, version, index, bucket->limit_index, bucket, limit);
}

/* A policy that was removed and defined again goes on with its buckets, which do not
 * say so: ask each limit of each policy whether the key would be here. */
static bool find_heir(const struct segment *segment, uint64_t version, struct weir_bucket *bucket,
		      struct weir_policy *policy, struct limit *limit)
{
	uint64_t serial;

	if (bucket->key_length == 0 || bucket->key_stored < bucket->key_length)
		return false;
	for (uint32_t index = 0; index < segment->policies; index++) {
		const struct policy_record *record = policy_record_at(segment, version, index);
		uint64_t count = policy_word(&record->flags) & 0xff;

		if (policy_word(&record->serial) == 0 || count > WEIR_LIMITS_MAX)
			continue;
		for (uint32_t i = 0; i < count; i++) {
			bucket->limit_index = i;
			if (limit_of(segment, version, index, i, bucket, limit))
				return policy_decode(segment, version, index, policy, &serial);
		}
	}
	return false;
}

/* Where windows stand.  True if what other hosts have counts. */
static bool align(const struct segment *segment, const struct bucket_ref *ref, uint64_t now_ns,
		  struct limit *limit)
{
	/* Relaxed here and below: words that are complete in themselves. */
	uint64_t owner = atomic_load_relaxed(&ref->slot->owner);
	uint64_t identity = atomic_load_relaxed(&ref->slot->identity.first);
	int64_t offset = 0;

	if (limit->algorithm == WEIR_CONCURRENCY)
		return (owner & OWNER_SYNCS) && segment->shards &&
		       atomic_load_acquire(&segment->shards[slot_shard(identity)].fresh_until_ns) >=
			       now_ns;                                          /* E9 */
	if (!limit_is_window(limit))
		return false;
	if (segment->clock != WEIR_CLOCK_CALLER)
		offset = (int64_t)atomic_load_relaxed(&segment->header->wall.offset_ns);
	if ((owner & OWNER_SYNCS) && segment->shards) {
		policy_align(segment, &segment->shards[slot_shard(identity)], offset, limit);
		return true;
	}
	if (limit->algorithm == WEIR_FIXED_WINDOW) {
		limit->aligned_offset_ns = offset;
		limit->stored_offset_ns = segment->wall_offset_ns;
	}
	return false;
}

/* Whose bucket it is; the policy's name stays empty if that is not known. */
static void describe_owner(const struct segment *segment, const struct bucket_ref *ref,
			   uint64_t now_ns, struct weir_bucket *bucket)
{
	uint64_t version = policy_version(segment);
	struct weir_policy policy;
	struct limit limit;
	bool syncs;

	if ((!find_owner(segment, version, ref, bucket, &policy, &limit) &&
	     !find_heir(segment, version, bucket, &policy, &limit)) ||
	    policy_version(segment) != version) {
		bucket->limit_index = 0;
		return;
	}
	syncs = align(segment, ref, now_ns, &limit);
	memcpy(bucket->policy, policy.name, sizeof(bucket->policy));
	bucket->algorithm = limit.algorithm;
	describe_status(ref, &limit, syncs, now_ns, bucket);
}

static bool describe_bucket(const struct segment *segment, struct slot *slot, uint64_t now_ns,
			    struct weir_bucket *bucket)
{
	struct word_pair identity, state;
	struct bucket_ref ref = { .slot = slot };

	identity.second = atomic_load_acquire(&slot->identity.second);  /* E1 */
	identity.first = atomic_load_acquire(&slot->identity.first);    /* E1 */
	ref.generation = identity.second & GENERATION_MASK;
	if (!bucket_read(&ref, &state))
		return false;
	memset(bucket, 0, sizeof(*bucket));
	/* Bits 64-79 are not stored: the slot's place has them. */
	identity.second &= ~GENERATION_MASK;
	memcpy(bucket->fingerprint, &identity, sizeof(bucket->fingerprint));
	bucket->consumed = state_used(state);
	if (!note_read_key(segment, &ref, bucket->key, &bucket->key_length, &bucket->key_stored))
		bucket->key_length = bucket->key_stored = 0;
	bucket->denied_sampled = note_read_denials(segment, &ref);
	describe_owner(segment, &ref, now_ns, bucket);
	/* More was given back than taken, here. */
	if (bucket->algorithm == WEIR_TOKEN_BUCKET && gcra_count(bucket->consumed) < 0)
		bucket->consumed = 0;
	/* Did the slot change hands while it was read? */
	return atomic_load_acquire(&slot->identity.second) ==           /* E1 */
	       (identity.second | ref.generation);
}

void weir_each_bucket(const struct weir *weir, uint64_t now_ns,
		      bool (*visit)(const struct weir_bucket *bucket, void *context), void *context)
{
	const struct segment *segment = handle_enter(weir);
	struct weir_bucket bucket;
	/* Slots of a compact segment do not say whose they are. */
	uint64_t slots = segment && !store_is_compact(segment) ? segment->slots : 0;

	handle_leave();
	if (now_ns == 0)
		now_ns = weir_now_ns(weir);
	for (uint64_t i = 0; i < slots; i++) {
		bool live;

		/* One section per slot: a long listing delays no one's close. */
		segment = handle_enter(weir);
		live = segment && describe_bucket(segment, &segment->table.slots[i], now_ns, &bucket);
		handle_leave();
		if (live && !visit(&bucket, context))
			return;
	}
}

size_t weir_check(const struct weir *weir, void (*report)(const char *finding, void *context),
		  void *context)
{
	const struct segment *segment = handle_enter(weir);
	size_t findings = segment ? segment_check(segment, report, context) : 0;

	handle_leave();
	return findings;
}
