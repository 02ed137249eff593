/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/decide.h"

#include <math.h>

#include "serve/envoy/failure.h"

static int fail_memory(struct weir_error *error)
{
	return envoy_fail(error, WEIR_ENOMEM,
			  "no memory to decide a request; free some and try again");
}

/* ---- Keys ---------------------------------------------------------------------- */

/* PREFIX DOMAIN _KEY_VALUE ... _ , as in envoyproxy/ratelimit, but without the time at
 * which the window began: that is the bucket's own. */
static int make_key(struct decision_round *round, size_t index, struct weir_error *error)
{
	const struct envoy_descriptor *descriptor = &round->request->descriptors[index];
	struct decided *decided = &round->decided[index];
	const struct text *shared = decided->match.shared;
	struct builder key = { .pool = round->scratch };

	builder_add(&key, text_of(round->options->key_prefix));
	builder_add(&key, round->request->domain);
	builder_add_char(&key, '_');
	for (size_t i = 0; i < descriptor->entry_count; i++) {
		const struct envoy_entry *entry = &descriptor->entries[i];

		builder_add(&key, entry->key);
		builder_add_char(&key, '_');
		builder_add(&key, shared && shared[i].length > 0 ? shared[i] : entry->value);
		builder_add_char(&key, '_');
	}
	decided->key = builder_text(&key);
	if (!decided->key.bytes)
		return fail_memory(error);
	if (decided->key.length > WEIR_KEY_MAX)
		return envoy_fail(error, WEIR_EINVAL,
				 "descriptor %zu has %zu bytes of keys and values; send at most %u",
				  index, decided->key.length, WEIR_KEY_MAX);
	return WEIR_OK;
}

static uint64_t hits_of(const struct envoy_request *request, size_t index)
{
	if (request->descriptors[index].has_hits)
		return request->descriptors[index].hits;
	return request->hits_addend > 0 ? request->hits_addend : 1;
}

/* ---- The engine ---------------------------------------------------------------- */

static bool is_bucket(const struct decided *decided)
{
	return decided->match.rule->limit.algorithm == ENGINE_TOKEN_BUCKET;
}

/* Somebody has removed the policy: it is made again, for all who ask by this rule.  That
 * may take a while, as it does for the limit of a request. */
static bool make_again(struct decision_round *round, struct decided *decided)
{
	const struct envoy_rule *rule = decided->match.rule;
	weir_policy_id policy;

	if (round->engine->policy(round->engine, &rule->limit, &policy, NULL) < 0)
		return false;
	decided->match.policy = policy;
	/* All that ever changes of a rule; whoever reads the old one comes here, too. */
	__atomic_store_n((weir_policy_id *)&rule->policy, policy, __ATOMIC_RELAXED);
	return true;
}

static struct engine_answer ask(struct decision_round *round, struct decided *decided,
				enum engine_call call, uint64_t cost)
{
	struct engine *engine = round->engine;
	struct engine_answer answer = engine->call(engine, call, decided->match.policy,
						   decided->key, cost);

	if (answer.gone && make_again(round, decided))
		answer = engine->call(engine, call, decided->match.policy, decided->key, cost);
	return answer;
}

static void set_over(struct decided *decided, uint64_t before, uint64_t after)
{
	decided->before = before;
	decided->after = after;
	decided->over = after > decided->limit;
}

/* Without the limit's word, a fail mode's: as if there had been nothing, or no room. */
static void set_by_fail_mode(struct decided *decided, bool allowed)
{
	set_over(decided, decided->limit, decided->limit);
	if (allowed)
		decided->before = decided->after = 0;
	decided->over = !allowed;
}

/* Count HITS, of which CHARGED are charged, as INCRBY does: the sum may be above the
 * limit. */
static void count(struct decision_round *round, struct decided *decided, uint64_t charged)
{
	struct engine_answer answer = ask(round, decided, ENGINE_COUNT, charged);

	if (!answer.decided)
		set_by_fail_mode(decided, answer.allowed);
	else
		set_over(decided, answer.counted - decided->hits, answer.counted);
}

/* What ANSWER means where only what passes is charged.  A rule of 0 requests has a policy
 * of 1, and nothing passes. */
static void set_taken(struct decided *decided, const struct engine_answer *answer, bool charged)
{
	uint64_t used = answer->remaining < decided->limit ? decided->limit - answer->remaining : 0;

	decided->reset_after_ns = answer->reset_after_ns;
	if (!answer->decided) {
		set_by_fail_mode(decided, answer->allowed);
	} else {
		decided->after = used;
		decided->before = charged && used > decided->hits ? used - decided->hits : 0;
		decided->over = !answer->allowed;
	}
}

/* A check with 0 hits asks whether there is room for one. */
static bool peek(struct decision_round *round, struct decided *decided)
{
	struct engine_answer answer =
		ask(round, decided, ENGINE_PEEK, decided->hits > 0 ? decided->hits : 1);

	set_taken(decided, &answer, false);
	decided->over |= decided->limit == 0;
	return !decided->over;
}

/* Take the hits if they pass. */
static bool take(struct decision_round *round, struct decided *decided)
{
	struct engine_answer answer;

	if (decided->limit == 0 || decided->hits == 0)
		return peek(round, decided);
	answer = ask(round, decided, ENGINE_TAKE, decided->hits);
	set_taken(decided, &answer, answer.allowed);
	return !decided->over;
}

/* ---- Compat envoy -------------------------------------------------------------- */

/* Of a request that makes some keys go over only those are counted. */
static void count_those_over(struct decision_round *round)
{
	size_t descriptors = round->request->descriptor_count;
	bool any = false;

	for (size_t i = 0; i < descriptors; i++) {
		struct decided *decided = &round->decided[i];
		struct engine_answer answer;

		if (!decided->match.rule || is_bucket(decided))
			continue;
		answer = ask(round, decided, ENGINE_PEEK, 0);
		decided->over = answer.decided &&
				answer.counted + decided->hits > decided->limit;
		any |= decided->over;
	}
	for (size_t i = 0; i < descriptors; i++) {
		struct decided *decided = &round->decided[i];

		if (decided->match.rule && !is_bucket(decided))
			count(round, decided, any && !decided->over ? 0 : decided->hits);
	}
}

/* Each descriptor is counted, whatever becomes of the others.  A token bucket, which
 * envoyproxy/ratelimit has not, is charged only for what passes. */
static void decide_as_envoy(struct decision_round *round)
{
	if (round->options->stop_counting_when_over)
		count_those_over(round);
	for (size_t i = 0; i < round->request->descriptor_count; i++) {
		struct decided *decided = &round->decided[i];

		if (!decided->match.rule)
			continue;
		if (is_bucket(decided))
			take(round, decided);
		else if (!round->options->stop_counting_when_over)
			count(round, decided, decided->hits);
	}
}

/* ---- Compat strict ------------------------------------------------------------- */

static bool was_charged(const struct decided *decided)
{
	return decided->match.rule && !decided->over && decided->hits > 0;
}

/* What is left is looked at once all is back: descriptors may share a bucket. */
static void give_back(struct decision_round *round, size_t end)
{
	for (size_t i = 0; i < end; i++) {
		if (was_charged(&round->decided[i]))
			ask(round, &round->decided[i], ENGINE_REFUND, round->decided[i].hits);
	}
	for (size_t i = 0; i < end; i++) {
		if (was_charged(&round->decided[i]))
			peek(round, &round->decided[i]);
	}
}

static bool is_refused(const struct decision_round *round)
{
	return envoy_refuses(round) && !round->options->shadow_mode;
}

/* All descriptors pass and are charged, or none is: look at all, charge in turn, and
 * give back if another request was quicker.  In between others see those charges, and
 * may be denied for them; nobody is allowed too much. */
static void decide_strictly(struct decision_round *round)
{
	size_t descriptors = round->request->descriptor_count;

	for (size_t i = 0; i < descriptors; i++) {
		if (round->decided[i].match.rule)
			peek(round, &round->decided[i]);
	}
	for (size_t i = 0; i < descriptors && !is_refused(round); i++) {
		struct decided *decided = &round->decided[i];

		if (!decided->match.rule || decided->over || take(round, decided))
			continue;
		if (is_refused(round))
			give_back(round, i);
	}
}

/* ---- Statistics ---------------------------------------------------------------- */

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Hits that go across a threshold count on both sides of it, each for its part. */
static void count_stats(const struct decision_round *round, const struct decided *decided)
{
	uint64_t near = (uint64_t)floorf((float)decided->limit * round->options->near_limit_ratio);
	struct stats *stats = decided->match.stats;
	uint64_t hits = decided->hits;

	if (!decided->over) {
		if (decided->after > near)
			stats_add(stats, STAT_NEAR_LIMIT,
				  decided->before >= near ? hits : decided->after - near);
		stats_add(stats, STAT_WITHIN_LIMIT, hits);
		return;
	}
	if (decided->before < decided->limit && decided->after > decided->limit) {
		hits = decided->after - decided->limit;
		stats_add(stats, STAT_NEAR_LIMIT,
			  decided->limit - larger(near, decided->before));
	}
	stats_add(stats, STAT_OVER_LIMIT, hits);
	if (decided->match.rule->shadow_mode)
		stats_add(stats, STAT_SHADOW_MODE, hits);
}

int envoy_decide(struct decision_round *round, struct weir_error *error)
{
	size_t descriptors = round->request->descriptor_count;

	for (size_t i = 0; i < descriptors; i++) {
		struct decided *decided = &round->decided[i];
		int status;

		decided->hits = hits_of(round->request, i);
		if (!decided->match.rule)
			continue;
		decided->limit = is_bucket(decided) ? decided->match.rule->limit.burst :
						      decided->match.rule->requests_per_unit;
		status = make_key(round, i, error);
		if (status < 0)
			return status;
	}
	if (round->options->compat == COMPAT_STRICT)
		decide_strictly(round);
	else
		decide_as_envoy(round);
	for (size_t i = 0; i < descriptors; i++) {
		if (!round->decided[i].match.rule)
			continue;
		stats_add(round->decided[i].match.stats, STAT_TOTAL_HITS, round->decided[i].hits);
		count_stats(round, &round->decided[i]);
	}
	return WEIR_OK;
}
