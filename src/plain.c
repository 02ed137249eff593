/* SPDX-License-Identifier: Apache-2.0 */
/* plain.c - asking for tokens: the plain way (see plain.h), and who goes another. */
#include "src/plain.h"

#include "shm/bucket.h"
#include "src/plan.h"

bool weir_plain_possible;
_Thread_local unsigned char weir_plain_absent;

/* ---- What only some of the plain decisions need ------------------------ */

/* The answer itself keeps them meanwhile. */
void plain_read(const struct limit_record *limit, struct weir_decision *decision)
{
	decision->limit = policy_word(&limit->burst);
	decision->retry_after_ns = policy_word(&limit->tolerance_ns);
	decision->reset_after_ns = policy_word(&limit->token_ns);
}

void plain_describe(struct weir_decision *decision, bool allowed, uint64_t debt_ns)
{
	uint64_t tolerance_ns = decision->retry_after_ns, token_ns = decision->reset_after_ns;

	decision->outcome = allowed ? WEIR_ALLOWED : WEIR_DENIED;
	decision->reason = WEIR_REASON_LIMIT;
	decision->limit_index = 0;
	decision->flagged = false;
	decision->remaining = 0;
	decision->counted = 0;
	decision->retry_after_ns = allowed ? 0 : debt_ns - tolerance_ns;
	decision->reset_after_ns = allowed ? debt_ns + token_ns : debt_ns;
	if (allowed) {
		/* As gcra_remaining(), of a debt of at least one token. */
		uint64_t spent = token_ns ? (debt_ns + token_ns - 1) / token_ns + 1 : 0;

		if (spent < decision->limit)
			decision->remaining = decision->limit - spent;
	}
}

bool plain_noted(const struct segment *segment, const struct slot *slot, uint64_t generation)
{
	note_sampled_denial(segment, slot, generation);
	handle_leave();
	return false;
}

/* The first charge of REF, which is claimed: a token of TOKEN_NS.  False if it was not
 * made. */
static bool confirm(const struct segment *segment, const struct bucket_ref *ref,
		    uint64_t token_ns, uint64_t now_ns, const struct plain_call *call)
{
	struct bucket_state first = { .used = 1 };

	/* Before the charge, so that whoever finds the bucket live finds its owner and its
	 * key, too, also if this process is killed in between. */
	table_set_owner(ref, policy_index(call->policy), call->policy >> 12, 0, false);
	/* The last owner's.  Relaxed: the confirming CAS orders it. */
	atomic_store_relaxed(&ref->slot->share_ns, 0);
	note_key(segment, ref, call->key, call->key_length);
	first.time_ns = table_time_ns(segment->table.taken_ns, now_ns) + token_ns;
	if (!bucket_begin(ref, &first, &segment->header->policy.version, call->version))
		return false;
	counter_add(segment, policy_index(call->policy), COUNTER_ALLOWED, 1);
	if (call->decision)
		plain_describe(call->decision, true, 0);
	return true;
}

/*
 * The key has no bucket that this thread saw: claim one, as plan.c does.  A flood of
 * keys that come once costs a miss of 16 lines at once and what is done here, so what is
 * known already is not found out again: one token is never more than the burst.
 */
static bool plain_absent(const struct segment *segment, struct fingerprint fingerprint,
			 uint64_t now_ns, const struct limit_record *record,
			 const struct plain_call *call)
{
	uint64_t token_ns = policy_word(&record->token_ns);
	struct claim_report report = { 0 };
	enum table_claim claim;
	struct bucket_ref ref;

	if (call->decision)
		plain_read(record, call->decision);
	claim = table_claim(&segment->table, fingerprint, now_ns, token_ns, &ref, &report);
	weir_plain_absent = claim == CLAIM_FULL ? PLAIN_NO_ROOM : PLAIN_CLAIMED;
	plan_count_claim(segment, &report);
	if (claim == CLAIM_FULL)
		return plain_full(segment, call);
	if (claim == CLAIM_TENTATIVE) {
		note_prefetch(segment, ref.slot);
		if (confirm(segment, &ref, token_ns, now_ns, call)) {
			handle_leave();
			return true;
		}
	}
	return plain_otherwise(segment, call);
}

/* In both groups at once, and first of all in each page: a translation of an address that
 * is missing costs as much as a line. */
void plain_prefetch_rest(const struct segment *segment, struct fingerprint fingerprint)
{
	struct table_window window = table_window(&segment->table, fingerprint);

	__builtin_prefetch(&window.groups[1][window.position], 1);
	if (weir_plain_absent == PLAIN_CLAIMED) {
		note_prefetch_group(segment, window.groups[0]);
		note_prefetch_group(segment, window.groups[1]);
	}
	for (unsigned i = 1; i < GROUP_SLOTS; i++)
		__builtin_prefetch(&window.groups[0][window.position ^ i], 1);
	for (unsigned i = 1; i < GROUP_SLOTS; i++)
		__builtin_prefetch(&window.groups[1][window.position ^ i], 1);
	weir_plain_absent = PLAIN_NOT_ABSENT;
}

/* The slot of WINDOW that is the key's, but for its first one; NULL: none is. */
QUICK_INLINE struct slot *find_elsewhere(const struct table_window *window,
					 struct fingerprint fingerprint, uint64_t *generation)
{
	for (unsigned g = 0; g < 2; g++) {
		for (unsigned i = g == 0; i < GROUP_SLOTS; i++) {
			struct slot *slot = &window->groups[g][window->position ^ i];

			if (plain_is_there(slot, fingerprint.low, fingerprint.high, generation))
				return slot;
		}
	}
	return NULL;
}

HASH_TARGET bool plain_elsewhere(const struct segment *segment, struct urcu_bp_reader *reader,
				 struct fingerprint fingerprint, uint64_t now_ns,
				 const struct plain_call *call)
{
	const struct limit_record *limit = plain_limit(segment, call->version, call->policy);
	const struct table_window window = table_window(&segment->table, fingerprint);
	uint64_t generation;
	struct slot *slot;

	if (!limit)
		return plain_otherwise(segment, call);
	slot = find_elsewhere(&window, fingerprint, &generation);
	return slot ? plain_spend(segment, reader, slot, generation, call->version, limit, now_ns,
				  call) :
		      plain_absent(segment, fingerprint, now_ns, limit, call);
}

/* ---- By which clock ---------------------------------------------------- */

/* Apart, since its call of the clock takes registers. */
HASH_TARGET static __attribute__((noinline)) bool
allow_by_kernel(const struct segment *segment, weir_policy_id policy, const void *key,
		size_t key_length, struct weir_decision *decision)
{
	if (!segment || segment->clock == WEIR_CLOCK_CALLER) {
		struct plain_call call = { policy, key, key_length, decision, 1, 0, 0 };

		return plain_otherwise(segment, &call);
	}
	return plain_allow(segment, rcu_reader(), policy, key, key_length, 0, decision,
			   PLAIN_KERNEL);
}

static __attribute__((noinline)) bool
allow_otherwise(struct weir *weir, weir_policy_id policy, const void *key, size_t key_length,
		uint64_t cost, uint64_t now_ns, struct weir_decision *decision)
{
	struct plain_call call = { policy, key, key_length, decision, cost, now_ns, 0 };

	return plain_otherwise(handle_enter(weir), &call);
}

QUICK_INLINE bool allow(struct weir *weir, weir_policy_id policy, const void *key,
			size_t key_length, struct weir_decision *decision)
{
	struct urcu_bp_reader *reader = weir_plain_possible ? rcu_enter_light() : NULL;
	const struct segment *segment;

	if (!reader)
		return allow_otherwise(weir, policy, key, key_length, 1, 0, decision);
	segment = handle_segment(weir);
	if (!segment || !segment->has_ticks)
		return allow_by_kernel(segment, policy, key, key_length, decision);
	return plain_allow(segment, reader, policy, key, key_length, 0, decision, PLAIN_TICKS);
}

/* At the caller's time. */
HASH_TARGET static bool allow_at(struct weir *weir, weir_policy_id policy, const void *key,
				 size_t key_length, uint64_t now_ns, struct weir_decision *decision)
{
	struct urcu_bp_reader *reader = weir_plain_possible ? rcu_enter_light() : NULL;
	const struct segment *segment;

	if (!reader)
		return allow_otherwise(weir, policy, key, key_length, 1, now_ns, decision);
	segment = handle_segment(weir);
	if (!segment || now_ns >= TIME_MAX_NS) {
		struct plain_call call = { policy, key, key_length, decision, 1, now_ns, 0 };

		return plain_otherwise(segment, &call);
	}
	return plain_allow(segment, reader, policy, key, key_length, now_ns, decision,
			   PLAIN_CALLER);
}

/* ---- The public functions ---------------------------------------------- */

HASH_TARGET bool weir_allow(struct weir *weir, weir_policy_id policy, const void *key,
			    size_t key_length, struct weir_decision *decision)
{
	return allow(weir, policy, key, key_length, decision);
}

HASH_TARGET bool weir_allow_n(struct weir *weir, weir_policy_id policy, const void *key,
			      size_t key_length, uint64_t cost, struct weir_decision *decision)
{
	if (cost == 1)
		return allow(weir, policy, key, key_length, decision);
	return allow_otherwise(weir, policy, key, key_length, cost, 0, decision);
}

HASH_TARGET bool weir_decide(struct weir *weir, const struct weir_request *request,
			     struct weir_decision *decision)
{
	if (request->cost != 1)
		return allow_otherwise(weir, request->policy, request->key, request->key_length,
				       request->cost, request->now_ns, decision);
	if (request->now_ns != 0)
		return allow_at(weir, request->policy, request->key, request->key_length,
				request->now_ns, decision);
	return allow(weir, request->policy, request->key, request->key_length, decision);
}
