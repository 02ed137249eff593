/* SPDX-License-Identifier: Apache-2.0 */
/* plain.c - asking for tokens: the plain way (see plain.h), and who goes another. */
#include "src/plain.h"

#include "shm/bucket.h"
#include "src/plan.h"
#include "src/purse.h"

bool weir_plain_possible;
_Thread_local struct plain_thread weir_plain;

/* ---- What is known of the policy --------------------------------------- */

/* The limit of POLICY as of VERSION, if it is plain. */
static const struct limit_record *plain_limit(const struct segment *segment, uint64_t version,
					      weir_policy_id policy)
{
	const struct policy_record *record;
	uint32_t index = policy_index(policy);

	if (policy == WEIR_NO_POLICY || index >= segment->policies || segment->compact.groups)
		return NULL;
	record = policy_record_at(segment, version, index);
	if (policy_word(&record->limits[0].plain_id) != policy)
		return NULL;
	/* That a sync thread was started does not move the version. */
	if (segment->shards &&
	    policy_flags_consistency(policy_word(&record->flags)) != WEIR_LOCAL)
		return NULL;
	return &record->limits[0];
}

/* Have policy ID at hand, as of VERSION.  False if it is not plain, or changes. */
static bool plain_learn(const struct segment *segment, uint64_t version, weir_policy_id id)
{
	const struct limit_record *limit = plain_limit(segment, version, id);
	struct plain_policy *known = plain_place(id);

	if (!limit)
		return false;
	known->mapping = 0;
	known->version = version;
	known->id = id;
	known->token_ns = policy_word(&limit->token_ns);
	known->tolerance_ns = policy_word(&limit->tolerance_ns);
	known->counters = counter_at(segment, 0, COUNTER_LINES_GLOBAL + policy_index(id), 0);
	known->key = hash_prepare(&segment->hash, (hash_block){ policy_word(&limit->key[0]),
								policy_word(&limit->key[1]) });
	/* Was all of it of that version? */
	if (policy_version(segment) != version)
		return false;
	known->mapping = segment->mapping;
	return true;
}

/* What plain_absent() set aside is as good as learned. */
static inline bool plain_recall(const struct segment *segment, uint64_t version, weir_policy_id id)
{
	struct plain_policy *known = plain_place(id);

	if (known->mapping != ~segment->mapping || known->version != version || known->id != id)
		return false;
	known->mapping = segment->mapping;
	return true;
}

/* ---- What only some of the plain decisions need ------------------------ */

void plain_describe(struct weir_decision *decision, uint64_t token_ns, uint64_t tolerance_ns,
		    bool allowed, uint64_t debt_ns)
{
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
	struct plain_thread *plain = &weir_plain;

	/* Then how many are not: 0 to 62, as likely each, so that one of 32 is.  The first
	 * of a thread is where it begins to count, at any of them. */
	note_is_sample();
	plain->unsampled = (uint32_t)((weir_note_random >> 32) *
				      ((2u << NOTE_SAMPLE_BITS) - 1) >> 32);
	if (plain->samples || plain->unsampled == 0)
		note_sampled_denial(segment, slot, generation);
	plain->samples = true;
	handle_leave();
	return false;
}

/* The first charge of REF, which is claimed: a token of the policy that is KNOWN.  False if
 * it was not made. */
static bool confirm(const struct segment *segment, const struct bucket_ref *ref,
		    const struct plain_policy *known, uint64_t now_ns,
		    const struct plain_call *call)
{
	/* The note of a longer key has a line of its own, for which the charge's compare-and-swap
	 * would wait, as it is not asked for before the slot is chosen.  If this process is killed
	 * in between, such a key is not known to those who list the bucket. */
	bool note_first = call->key_length <= NOTE_BYTES_AT_HAND;
	struct bucket_state first = { .used = 1 };

	/* Before the charge, so that whoever finds the bucket live finds its owner, too, also
	 * if this process is killed in between. */
	table_set_owner(ref, policy_index(call->policy), call->policy >> 12, 0, false);
	/* The last owner's.  Relaxed: the confirming CAS orders it. */
	atomic_store_relaxed(&ref->slot->share_ns, 0);
	if (note_first)
		note_key(segment, ref, call->key, call->key_length);
	first.time_ns = table_time_ns(segment->table.taken_ns, now_ns) + known->token_ns;
	if (!bucket_begin(ref, &first, &segment->header->policy.version, known->version))
		return false;
	if (!note_first)
		note_key(segment, ref, call->key, call->key_length);
	counter_add(segment, policy_index(call->policy), COUNTER_ALLOWED, 1);
	if (call->decision)
		plain_describe(call->decision, known->token_ns, known->tolerance_ns, true, 0);
	return true;
}

/*
 * The key has no bucket that this thread saw: claim one, as plan.c does.  A flood of
 * keys that come once costs a miss of 16 lines at once and what is done here, so what is
 * known already is not found out again: one token is never more than the burst.
 */
static bool plain_absent(const struct segment *segment, struct fingerprint fingerprint,
			 uint64_t now_ns, const struct plain_call *call)
{
	struct plain_policy *known = plain_place(call->policy);
	struct claim_report report = { 0 };
	enum table_claim claim;
	struct bucket_ref ref;

	if (call->decision)
		call->decision->limit = plain_burst(segment, known);
	claim = table_claim(&segment->table, fingerprint, now_ns, known->token_ns, &ref, &report);
	/* Set aside, so that the next call goes by plain_learning(), which loads the whole
	 * window. */
	weir_plain.absent = claim == CLAIM_FULL ? PLAIN_NO_ROOM : PLAIN_CLAIMED;
	known->mapping = ~segment->mapping;
	plan_count_claim(segment, &report);
	if (claim == CLAIM_FULL)
		return plain_full(segment, call);
	if (claim == CLAIM_TENTATIVE) {
		note_prefetch(segment, ref.slot);
		if (confirm(segment, &ref, known, now_ns, call)) {
			handle_leave();
			return true;
		}
	}
	return plain_otherwise(segment, call);
}

/* In both groups at once, and first of all in each page: a translation of an address that
 * is missing costs as much as a line.  Which slot's note will be written is known later; that
 * of another one in its group is in the same page. */
static void plain_prefetch_rest(const struct segment *segment, const struct table_window *window)
{
	prefetch_line(&window->groups[1][window->position]);
	if (weir_plain.absent == PLAIN_CLAIMED) {
		note_prefetch(segment, window->groups[0]);
		note_prefetch(segment, window->groups[1]);
	}
#pragma GCC unroll 8
	for (unsigned i = 0; i < GROUP_SLOTS; i++)
		prefetch_line(&window->groups[0][i]);
#pragma GCC unroll 8
	for (unsigned i = 0; i < GROUP_SLOTS; i++)
		prefetch_line(&window->groups[1][i]);
	weir_plain.absent = PLAIN_NOT_ABSENT;
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

/* ---- What plain_allow() leaves ----------------------------------------- */

/* Here calls are put together for the ways that are rarer: not in plain_allow(). */
__attribute__((noinline)) bool
plain_leave(const struct segment *segment, weir_policy_id policy, const void *key,
	    size_t key_length, struct weir_decision *decision, uint64_t given_ns)
{
	struct plain_call call = { policy, key, key_length, decision, 1, given_ns };

	return plain_otherwise(segment, &call);
}

HASH_TARGET __attribute__((noinline)) bool
plain_elsewhere(const struct segment *segment, uint64_t low, uint64_t high, uint64_t now_ns,
		weir_policy_id policy, const void *key, size_t key_length,
		struct weir_decision *decision, uint64_t given_ns)
{
	struct plain_call call = { policy, key, key_length, decision, 1, given_ns };
	struct fingerprint fingerprint = { low, high };
	const struct table_window window = table_window(&segment->table, fingerprint);
	uint64_t generation;
	struct slot *slot = find_elsewhere(&window, fingerprint, &generation);

	if (!slot)
		return plain_absent(segment, fingerprint, now_ns, &call);
	return plain_decide(segment, rcu_reader(), plain_place(policy), slot, generation, now_ns,
			    policy, key, key_length, decision, given_ns);
}

/* Apart, for the call that it puts together. */
static __attribute__((noinline)) bool
plain_short_absent(const struct segment *segment, uint64_t low, uint64_t high, uint64_t now_ns,
		   weir_policy_id policy, const void *key)
{
	struct plain_call call = { policy, key, PLAIN_KEY, NULL, 1, 0 };

	return plain_absent(segment, (struct fingerprint){ low, high }, now_ns, &call);
}

HASH_TARGET __attribute__((noinline)) bool
plain_short_elsewhere(const struct segment *segment, uint64_t low, uint64_t high, uint64_t now_ns,
		      weir_policy_id policy, const void *key)
{
	struct fingerprint fingerprint = { low, high };
	const struct table_window window = table_window(&segment->table, fingerprint);
	uint64_t generation;
	struct slot *slot = find_elsewhere(&window, fingerprint, &generation);

	if (!slot)
		return plain_short_absent(segment, low, high, now_ns, policy, key);
	return plain_decide(segment, rcu_reader(), plain_place(policy), slot, generation, now_ns,
			    policy, key, PLAIN_KEY, NULL, 0);
}

__attribute__((noinline)) bool plain_allowed(const struct segment *segment,
					     const struct plain_policy *known)
{
	counter_add_locked(segment, known->counters + COUNTER_ALLOWED, 1);
	handle_leave();
	return true;
}

__attribute__((noinline)) bool plain_denied(const struct segment *segment,
					    const struct plain_policy *known,
					    const struct slot *slot, uint64_t generation)
{
	counter_add_locked(segment, known->counters + COUNTER_DENIED, 1);
	if (weir_plain.unsampled-- == 0)
		return plain_noted(segment, slot, generation);
	handle_leave();
	return false;
}

static bool read_clock(const struct segment *segment, uint64_t *now_ns)
{
	if (segment->has_ticks)
		return clock_cached_ns(segment->header, now_ns);
	*now_ns = clock_ns(CLOCK_BOOTTIME);
	return true;
}

HASH_TARGET static __attribute__((noinline)) bool
learn_and_decide(const struct segment *segment, weir_policy_id policy, const void *key,
		 size_t key_length, struct weir_decision *decision, uint64_t given_ns)
{
	struct plain_call call = { policy, key, key_length, decision, 1, given_ns };
	uint64_t version = policy_version(segment), now_ns = given_ns, generation;
	struct fingerprint fingerprint;
	struct table_window window;
	struct slot *slot;
	bool loaded;

	if (!key || key_length - 1 >= WEIR_KEY_MAX ||
	    (!plain_recall(segment, version, policy) && !plain_learn(segment, version, policy)))
		return plain_otherwise(segment, &call);
	fingerprint = hash_prepared_fingerprint(&segment->hash, plain_place(policy)->key, key,
						key_length);
	window = table_window(&segment->table, fingerprint);
	slot = &window.groups[0][window.position];
	/* Before the clock is read: see quick.h. */
	prefetch_line(slot);
	loaded = weir_plain.absent != PLAIN_NOT_ABSENT;
	if (loaded)
		plain_prefetch_rest(segment, &window);
	if (given_ns == 0 && !read_clock(segment, &now_ns))
		return plain_otherwise(segment, &call);
	if (!plain_is_there(slot, fingerprint.low, fingerprint.high, &generation))
		slot = !loaded || window_may_have(&window, fingerprint.low) ?
			       find_elsewhere(&window, fingerprint, &generation) :
			       NULL;
	if (!slot)
		return plain_absent(segment, fingerprint, now_ns, &call);
	return plain_decide(segment, rcu_reader(), plain_place(policy), slot, generation, now_ns,
			    policy, key, key_length, decision, given_ns);
}

bool plain_learning(const struct segment *segment, weir_policy_id policy, const void *key,
		    size_t key_length, struct weir_decision *decision, uint64_t given_ns)
{
	/* Never plain, and meant for the hottest keys. */
	if (given_ns == 0 && purse_leases(segment, policy))
		return plain_leased(segment, policy, key, key_length, decision);
	return learn_and_decide(segment, policy, key, key_length, decision, given_ns);
}

/* ---- By which clock ---------------------------------------------------- */

static __attribute__((noinline)) bool
allow_otherwise(struct weir *weir, weir_policy_id policy, const void *key, size_t key_length,
		struct weir_decision *decision, uint64_t given_ns, uint64_t cost)
{
	struct plain_call call = { policy, key, key_length, decision, cost, given_ns };

	return plain_otherwise(handle_enter(weir), &call);
}

/* Inside of a section, by each of them: apart, since registers are short. */
HASH_TARGET static __attribute__((noinline)) bool
allow_by_ticks(const struct segment *segment, weir_policy_id policy, const void *key,
	       size_t key_length, struct weir_decision *decision)
{
	return plain_allow(segment, rcu_reader(), policy, key, key_length, decision, 0,
			   PLAIN_TICKS, true);
}

HASH_TARGET static __attribute__((noinline)) bool
allow_by_kernel(const struct segment *segment, weir_policy_id policy, const void *key,
		size_t key_length, struct weir_decision *decision)
{
	return plain_allow(segment, rcu_reader(), policy, key, key_length, decision, 0,
			   PLAIN_KERNEL, true);
}

HASH_TARGET static __attribute__((noinline)) bool
allow_at(const struct segment *segment, weir_policy_id policy, const void *key,
	 size_t key_length, struct weir_decision *decision, uint64_t given_ns)
{
	return plain_allow(segment, rcu_reader(), policy, key, key_length, decision, given_ns,
			   PLAIN_CALLER, true);
}

/* Any call for one token. */
static __attribute__((noinline)) bool
allow_any(struct weir *weir, weir_policy_id policy, const void *key, size_t key_length,
	  struct weir_decision *decision, uint64_t given_ns)
{
	const struct segment *segment;

	if (!weir_plain_possible || !rcu_enter_light())
		return allow_otherwise(weir, policy, key, key_length, decision, given_ns, 1);
	segment = handle_segment(weir);
	if (!segment || given_ns >= TIME_MAX_NS ||
	    (given_ns == 0 && segment->clock == WEIR_CLOCK_CALLER))
		return plain_leave(segment, policy, key, key_length, decision, given_ns);
	if (given_ns != 0)
		return allow_at(segment, policy, key, key_length, decision, given_ns);
	return segment->has_ticks ?
		       allow_by_ticks(segment, policy, key, key_length, decision) :
		       allow_by_kernel(segment, policy, key, key_length, decision);
}

/* The shortest call by the kernel's clock, inside of a section. */
HASH_TARGET static __attribute__((noinline)) bool
short_by_kernel(struct weir *weir, weir_policy_id policy, const void *key)
{
	const struct segment *segment = handle_segment(weir);
	struct urcu_bp_reader *reader = rcu_reader();

	if (!weir_plain_possible) {
		rcu_leave_light(reader);        /* it was none */
		return allow_any(weir, policy, key, PLAIN_KEY, NULL, 0);
	}
	if (!segment || segment->clock == WEIR_CLOCK_CALLER)
		return plain_leave(segment, policy, key, PLAIN_KEY, NULL, 0);
	return plain_allow(segment, reader, policy, key, PLAIN_KEY, NULL, 0, PLAIN_KERNEL, false);
}

/* ---- The public functions ---------------------------------------------- */

HASH_TARGET bool weir_allow(struct weir *weir, weir_policy_id policy, const void *key,
			    size_t key_length, struct weir_decision *decision)
{
	const struct segment *segment;
	struct urcu_bp_reader *reader;

	if (__builtin_expect(key_length != PLAIN_KEY || decision, 0))
		return allow_any(weir, policy, key, key_length, decision, 0);
	reader = rcu_enter_light();
	if (!reader)
		return allow_any(weir, policy, key, PLAIN_KEY, NULL, 0);
	segment = handle_ticking(weir);
	if (!segment)
		return short_by_kernel(weir, policy, key);
	return plain_allow(segment, reader, policy, key, PLAIN_KEY, NULL, 0, PLAIN_TICKS, false);
}

bool weir_allow_n(struct weir *weir, weir_policy_id policy, const void *key, size_t key_length,
		  uint64_t cost, struct weir_decision *decision)
{
	if (cost == 1)
		return weir_allow(weir, policy, key, key_length, decision);
	return allow_otherwise(weir, policy, key, key_length, decision, 0, cost);
}

bool weir_decide(struct weir *weir, const struct weir_request *request,
		 struct weir_decision *decision)
{
	if (request->cost == 1)
		return allow_any(weir, request->policy, request->key, request->key_length,
				 decision, request->now_ns);
	return allow_otherwise(weir, request->policy, request->key, request->key_length, decision,
			       request->now_ns, request->cost);
}
