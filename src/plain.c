/* SPDX-License-Identifier: Apache-2.0 */
/* plain.c - asking for tokens: the plain way (see plain.h), and who goes another. */
#include "src/plain.h"

bool weir_plain_possible;

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

HASH_TARGET bool plain_elsewhere(const struct segment *segment, struct urcu_bp_reader *reader,
				 struct fingerprint fingerprint, uint64_t now_ns,
				 const struct plain_call *call)
{
	const struct limit_record *limit = plain_limit(segment, call->version, call->policy);

	for (unsigned i = 1; limit && i < WINDOW_SLOTS; i++) {
		struct slot *slot = table_slot(&segment->table, fingerprint, i);
		uint64_t generation;

		if (plain_is_there(slot, fingerprint.low, fingerprint.high, &generation))
			return plain_spend(segment, reader, slot, generation, call->version,
					   limit, now_ns, call);
	}
	return plain_otherwise(segment, call);
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
