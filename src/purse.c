/* SPDX-License-Identifier: Apache-2.0 */
/*
 * purse.c - when a thread takes tokens ahead, and how many.
 *
 * What.  A thread has a purse (shm/purse.c) for each of a few keys, found by the key's
 * fingerprint.  A request that the purse can pay touches the thread's own line and what
 * nobody writes; any other visits the bucket.  From visit to visit the thread learns how
 * fast it spends on the key: it takes what will last for LEASE_NS, at most twice what it
 * had spent since its last visit, and nothing ahead while that would be few tokens, or
 * after a denial, or when its purse was emptied by others.  So a key that is not hot costs
 * what it costs without purses, and one that is at its limit does, too.
 */
#include "src/purse.h"

#include "shm/bucket.h"
#include "shm/clock.h"
#include "src/quick.h"

#define LEASE_NS 100000ull              /* what is taken ahead should last for this time */
#define COLD_NS 1000000ull              /* between two requests; and a key that was not
                                         * visited for so long leaves its place to another */
#define TOKENS_LEAST 8ull               /* fewer are not worth a purse */

/* A key that the thread asks for, and what it knows about that. */
struct way {
	struct purse_own own;
	struct fingerprint fingerprint;
	uint64_t incarnation;           /* of the segment; 0: no key */
	uint64_t version;               /* of the policies, when the purse was filled */
	uint64_t visited_ns;            /* the bucket */
	uint64_t charged;               /* tokens, then */
	uint64_t interval_ns;           /* between two tokens, on average */
	bool filled;
};

/* One segment's purses at a time: a process with hot keys in several is rare, and loses
 * only speed. */
static __thread struct {
	struct way ways[PURSES_OF_THREAD];
	uint64_t incarnation;           /* whose purses */
	uint32_t first;                 /* of the four */
	bool assigned;
} mine;

struct visit {
	const struct segment *segment;
	struct quick quick;
	struct limit limit;
	struct bucket_ref ref;
	uint64_t now_ns;
	uint64_t cost;
	struct way *way;                /* NULL: no purse for this request */
};

/* ---- How many ---------------------------------------------------------- */

/* What the thread has spent of the key since it visited the bucket. */
static void observe(struct way *way, uint64_t now_ns)
{
	uint64_t left = purse_tokens(way->own.word);
	uint64_t spent = way->charged > left ? way->charged - left : 0;
	uint64_t elapsed_ns = now_ns > way->visited_ns ? now_ns - way->visited_ns : 0;

	if ((way->filled && way->own.word == 0) || spent == 0 || elapsed_ns / spent >= COLD_NS)
		way->interval_ns = COLD_NS;
	else
		way->interval_ns = (3 * way->interval_ns + elapsed_ns / spent) / 4;
	way->charged = spent;
}

static uint64_t least_of(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static struct purse_wish wish_of(const struct visit *visit)
{
	const struct way *way = visit->way;
	uint64_t interval_ns = way->interval_ns + 1;
	struct purse_wish wish = {
		.index = mine.first + (uint32_t)(way - mine.ways),
		.tokens = least_of(LEASE_NS / interval_ns, 2 * way->charged + TOKENS_LEAST),
	};

	wish.tokens = least_of(wish.tokens, PURSE_TOKENS_MAX);
	wish.tokens = least_of(wish.tokens, visit->limit.burst / PURSE_PART);
	wish.hold_ns = 2 * wish.tokens * interval_ns;
	return wish;
}

/* ---- Ways -------------------------------------------------------------- */

static inline bool is_of(const struct way *way, const struct segment *segment,
		  struct fingerprint fingerprint)
{
	return way->fingerprint.low == fingerprint.low &&
	       way->fingerprint.high == fingerprint.high &&
	       way->incarnation == segment->incarnation;
}

static inline struct way *way_of(struct fingerprint fingerprint)
{
	return &mine.ways[fingerprint.low >> 32 & (PURSES_OF_THREAD - 1)];
}

/* Is there something in the purse, only less than was asked for? */
static bool has_tokens(const struct way *way, const struct visit *visit)
{
	return purse_tokens(way->own.word) > 0 && visit->now_ns < way->own.until_ns &&
	       way->version == visit->quick.version;
}

/* The key's way at a visit of its bucket; NULL if that is another key's, or of no use. */
static struct way *enter_way(const struct visit *visit)
{
	const struct segment *segment = visit->segment;
	struct fingerprint fingerprint = visit->quick.fingerprint;
	struct way *way = way_of(fingerprint);
	uint64_t now_ns = visit->now_ns;

	if (mine.incarnation != segment->incarnation) {
		mine.assigned = purses_assign(&segment->purses, &mine.first);
		mine.incarnation = segment->incarnation;
	}
	if (!mine.assigned)
		return NULL;
	if (is_of(way, segment, fingerprint)) {
		if (has_tokens(way, visit))
			return NULL;
		observe(way, now_ns);
	} else {
		if (way->incarnation && now_ns - way->visited_ns < COLD_NS)
			return NULL;
		*way = (struct way){
			.fingerprint = fingerprint,
			.incarnation = segment->incarnation,
			.interval_ns = COLD_NS,
		};
	}
	way->visited_ns = now_ns;
	return way;
}

/* ---- Deciding ---------------------------------------------------------- */

/* What of the debt is in the thread's purse is its own to spend. */
static void describe(const struct visit *visit, const struct bucket_state *state, uint64_t left,
		     struct weir_decision *decision)
{
	struct quick_outcome outcome = { .used = state->used };
	uint64_t own_ns = gcra_return_ns(&visit->limit, gcra_phase(&visit->limit, state->used),
					 left);
	uint64_t debt_ns = gcra_debt_ns(state, visit->now_ns);

	outcome.debt_ns = debt_ns > own_ns ? debt_ns - own_ns : 0;
	quick_describe(&visit->limit, &outcome, QUICK_ALLOWED, decision);
}

static inline void count_allowed(const struct segment *segment, uint32_t policy_index,
				 uint64_t cost)
{
	counter_add(segment, policy_index, COUNTER_ALLOWED, 1);
	if (cost != 1)
		counter_add(segment, policy_index, COUNTER_EXTRA_TOKENS, cost - 1);
}

/* Charge the bucket for the request, and for what the thread will need. */
static bool take_ahead(const struct visit *visit, struct weir_decision *decision)
{
	struct bucket_request request = {
		.operation = BUCKET_SPEND,
		.cost = visit->cost,
		.now_ns = visit->now_ns,
		.version = &visit->segment->header->policy.version,
		.version_seen = visit->quick.version,
	};
	struct purse_wish wish = wish_of(visit);
	struct way *way = visit->way;
	struct bucket_state after;

	if (wish.tokens < TOKENS_LEAST)
		return false;
	if (!purse_take(visit->segment, &way->own, &wish, &visit->ref, &visit->limit, &request,
			&after))
		return false;
	way->version = visit->quick.version;
	way->charged = visit->cost + wish.tokens;
	way->filled = true;
	count_allowed(visit->segment, visit->quick.policy_index, visit->cost);
	if (decision)
		describe(visit, &after, purse_tokens(way->own.word), decision);
	return true;
}

/* The bucket's decision about this request alone. */
static enum quick_result decide_alone(const struct visit *visit, struct weir_decision *decision)
{
	struct quick_outcome outcome = { .ref = visit->ref };
	enum quick_result result = quick_retry(&visit->quick, visit->segment, visit->now_ns,
					       visit->cost, &outcome);

	if (visit->way) {
		visit->way->charged = visit->cost;
		visit->way->filled = false;
		visit->way->own.word = 0;
	}
	if (result == QUICK_ALLOWED) {
		count_allowed(visit->segment, visit->quick.policy_index, visit->cost);
	} else if (result == QUICK_DENIED) {
		if (visit->way)
			visit->way->interval_ns = COLD_NS;
		/* What others have ahead comes back first: plan.c. */
		if (!outcome.never && purses_are_marked(visit->ref.slot))
			return QUICK_NOT;
		counter_add(visit->segment, visit->quick.policy_index, COUNTER_DENIED, 1);
		note_denial(visit->segment, visit->ref.slot, visit->ref.generation);
	} else {
		return QUICK_NOT;
	}
	if (decision)
		quick_describe(&visit->limit, &outcome, result, decision);
	return result;
}

/* The numbers of a request that the purse has paid. */
static __attribute__((noinline)) void describe_paid(const struct segment *segment,
						    const struct quick *quick, uint64_t now_ns,
						    uint64_t left, struct weir_decision *decision)
{
	struct visit visit = { .segment = segment, .quick = *quick, .now_ns = now_ns };
	struct bucket_state state = { 0, 0, 0 };
	struct word_pair words;

	quick_read_limit(visit.quick.limit, &visit.limit);
	if (quick_find(segment, quick->fingerprint, &visit.ref) && bucket_read(&visit.ref, &words))
		state = (struct bucket_state){ words.first, state_used(words), 0 };
	describe(&visit, &state, left, decision);
}

static __attribute__((noinline)) enum quick_result
visit_bucket(const struct segment *segment, const struct quick *quick, uint64_t now_ns,
	     uint64_t cost, struct weir_decision *decision)
{
	struct visit visit = {
		.segment = segment,
		.quick = *quick,
		.now_ns = now_ns,
		.cost = cost,
	};

	visit.way = enter_way(&visit);
	if (!quick_find(segment, quick->fingerprint, &visit.ref))
		return QUICK_NOT;
	quick_read_limit(quick->limit, &visit.limit);
	if (visit.way && take_ahead(&visit, decision))
		return QUICK_ALLOWED;
	return decide_alone(&visit, decision);
}

/* As quick_prepare() does: is it a policy that leases?  But the slot is not touched. */
QUICK_INLINE bool prepare(struct quick *quick, const struct segment *segment,
			  weir_policy_id policy, const void *key, size_t key_length)
{
	const struct policy_record *record;

	quick->policy_index = policy_index(policy);
	if (!key || key_length - 1 >= WEIR_KEY_MAX || quick->policy_index >= segment->policies)
		return false;
	quick->version = policy_version(segment);
	record = policy_record_at(segment, quick->version, quick->policy_index);
	if (!(policy_word(&record->flags) & POLICY_LEASE) ||
	    policy_word(&record->serial) != policy >> 12)
		return false;
	quick->limit = &record->limits[0];
	quick->shard = NULL;
	return true;
}

HASH_TARGET enum quick_result purse_decide(const struct segment *segment, weir_policy_id policy,
					   const void *key, size_t key_length, uint64_t cost,
					   struct weir_decision *decision)
{
	struct quick quick;
	uint64_t now_ns;
	struct way *way;

	if (segment->clock == WEIR_CLOCK_CALLER || segment->compact.groups ||
	    !prepare(&quick, segment, policy, key, key_length))
		return QUICK_NOT;
	/* Before the key is hashed: the reading waits for what came before it, and what
	 * comes behind it does not wait for the reading. */
	now_ns = clock_now_ns(segment);
	quick.fingerprint = hash_fingerprint_inline(&segment->hash,
						    policy_word(&quick.limit->key[0]),
						    policy_word(&quick.limit->key[1]), key,
						    key_length);
	way = way_of(quick.fingerprint);
	if (!is_of(way, segment, quick.fingerprint) || way->version != quick.version ||
	    !purse_pay(&segment->purses, &way->own, now_ns, cost))
		return visit_bucket(segment, &quick, now_ns, cost, decision);
	count_allowed(segment, quick.policy_index, cost);
	if (decision)
		describe_paid(segment, &quick, now_ns, purse_tokens(way->own.word), decision);
	return QUICK_ALLOWED;
}
