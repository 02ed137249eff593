/* SPDX-License-Identifier: Apache-2.0 */
/*
 * window.h - fixed and sliding windows, as pure arithmetic: no atomics, no
 * clock.
 *
 * Fixed window.  Time is cut into periods that start at 1970; a bucket counts
 * the tokens of the current one.  time_ns tells when the window ends.  Aligned
 * time is now_ns + aligned_offset_ns, and that offset only grows: the wall
 * clock may end a window early by stepping forward, and never reopens one.
 * time_ns is kept relative to the offset at which the segment was made, so
 * that it is at or after the window's real end whatever the wall clock did.
 *
 * Sliding window.  Two counters: of the current period and of the one before.
 * At a time e into the current period the estimate of what the last full period
 * saw is  current + previous x (period - e) / period,  and a request of c
 * tokens passes if the estimate + c is at most the limit; compared in whole
 * numbers, multiplied by the period.  The estimate takes the previous period's
 * tokens as evenly spread.  If they came late in it, the true count of some
 * window of one period can exceed the limit, by at most
 * previous x e / period: always below twice the limit, and never above the
 * limit in a period that is aligned as the counters are.  If they came early,
 * up to as many are denied that a log of all requests would allow.  None of this
 * holds for what is forced, or only flagged: that is counted beyond the limit.
 *
 * time_ns = (index + 2) x period + previous: when the last trace of the current
 * counter is gone, and, since previous < period, both numbers in one word.
 * (A limit admits at most a tenth of a token per nanosecond.  What was forced or
 * flagged beyond that is cut to period - 1, still far above the limit.)
 *
 * Many hosts.  The windows of a limit that syncs are the cluster's: both kinds are
 * cut from one aligned time, which follows Redis' clock.  A bucket's own counter is
 * this host's; what the others have in the same window is the foreign word, and a
 * limit judges the sum.  Foreign is a difference (the cluster's count less what it
 * has of ours), so it may be below 0: after a reset elsewhere, Redis has forgotten
 * what we consumed.  Its tag says of which window it is; of another, nothing is
 * known.  When a sliding window rolls on, the sum becomes the previous counter.
 *
 * References: the counters as described by Cloudflare, "Counting things, a lot
 * of different things", 2017.
 */
#ifndef WEIR_SHM_WINDOW_H
#define WEIR_SHM_WINDOW_H

#include "shm/limit.h"

/* A window that begins later than a reading: one that another thread, with a
 * later reading, has begun; this one was stopped since it read the clock.  Further
 * ahead than this it is damage, or a clock that restarted. */
#define WINDOW_AHEAD_MAX_NS (2 * WEIR_DEBT_MAX_NS)

typedef unsigned __int128 window_wide;

/* ---- What other hosts have --------------------------------------------- */

/* Bits 20-63: tokens, signed, cut to 2^43; 0-19: the last bits of the window's index. */
#define FOREIGN_SHIFT 20
#define FOREIGN_TAG ((1ull << FOREIGN_SHIFT) - 1)
#define FOREIGN_MAX ((1ll << 43) - 1)

static inline uint64_t foreign_word(int64_t tokens, uint64_t index)
{
	int64_t cut = tokens > FOREIGN_MAX ? FOREIGN_MAX :
		      tokens < -FOREIGN_MAX ? -FOREIGN_MAX : tokens;

	return (uint64_t)cut << FOREIGN_SHIFT | (index & FOREIGN_TAG);
}

static inline bool foreign_is_of(uint64_t word, uint64_t index)
{
	return ((word ^ index) & FOREIGN_TAG) == 0;
}

static inline int64_t foreign_tokens(uint64_t word, uint64_t index)
{
	return foreign_is_of(word, index) ? (int64_t)word >> FOREIGN_SHIFT : 0;
}

/* The index that stands in the foreign word of a concurrency limit: it has no windows. */
#define HELD_WINDOW 0u

/* In a slot the tag is mixed with the owner's generation: a word that a leader left
 * to the next owner is of no window then. */
static inline uint64_t foreign_mixed(uint64_t word, uint64_t generation)
{
	return word ^ (generation << 4 & FOREIGN_TAG);
}

/* All hosts' tokens. */
static inline uint64_t window_sum(uint64_t own, int64_t others)
{
	return others < 0 && (uint64_t)-others > own ? 0 : own + (uint64_t)others;
}

/* ---- Fixed ------------------------------------------------------------- */

struct fixed_window {
	uint64_t end_ns;        /* aligned */
	uint64_t aligned_ns;    /* now */
	uint64_t count;         /* this host's */
	int64_t others;
	bool later;             /* the window begins after now */
};

static inline struct fixed_window fixed_window_at(const struct limit *limit,
						  const struct bucket_state *state, uint64_t now_ns)
{
	uint64_t aligned = now_ns + (uint64_t)limit->aligned_offset_ns;
	uint64_t end = aligned - aligned % limit->period_ns + limit->period_ns;
	uint64_t stored = state->time_ns ? state->time_ns + (uint64_t)limit->stored_offset_ns : 0;
	struct fixed_window window = { .end_ns = end, .aligned_ns = aligned };

	/* Time does not run backward: a later window stays. */
	if (stored >= end && stored - end <= WINDOW_AHEAD_MAX_NS) {
		window.end_ns = stored;
		window.count = state->used;
		window.later = stored != end;
	}
	if (state->foreign)
		window.others = foreign_tokens(state->foreign,
					       window.end_ns / limit->period_ns - 1);
	return window;
}

static inline struct verdict fixed_window_spend(const struct limit *limit,
						const struct bucket_state *before, uint64_t now_ns,
						uint64_t cost, bool force,
						struct bucket_state *after)
{
	struct fixed_window window = fixed_window_at(limit, before, now_ns);
	struct verdict verdict = { .allowed = true };
	uint64_t wait = window.end_ns - window.aligned_ns;
	uint64_t total = window_sum(window.count, window.others);
	uint64_t room = total < limit->limit ? limit->limit - total : 0;

	*after = *before;
	if (cost > limit->limit && !force) {
		verdict.allowed = false;
		verdict.never = true;
		verdict.retry_after_ns = WEIR_NEVER;
	} else if (cost > room && !force) {
		verdict.allowed = false;
		verdict.retry_after_ns = wait;
	} else if (cost > WEIR_COUNT_MAX - window.count) {
		verdict.allowed = false;
		verdict.never = cost > WEIR_COUNT_MAX;
		verdict.retry_after_ns = verdict.never ? WEIR_NEVER : wait;
	} else if (cost > 0) {
		window.count += cost;
		after->time_ns = window.end_ns - (uint64_t)limit->stored_offset_ns;
		after->used = window.count;
	}
	total = window_sum(window.count, window.others);
	verdict.counted = total;
	verdict.remaining = total < limit->limit ? limit->limit - total : 0;
	verdict.reset_after_ns = total > 0 ? wait : 0;
	return verdict;
}

/* Tokens of a window that has ended are gone with it: what was charged at NOW is
 * not taken out of a later window, where others' tokens are. */
static inline void fixed_window_refund(const struct limit *limit, const struct bucket_state *before,
				       uint64_t now_ns, uint64_t cost, struct bucket_state *after)
{
	struct fixed_window window = fixed_window_at(limit, before, now_ns);

	*after = *before;
	if (window.later)
		return;
	window.count = window.count > cost ? window.count - cost : 0;
	after->time_ns = window.count > 0 ? window.end_ns - (uint64_t)limit->stored_offset_ns : 0;
	after->used = window.count;
}

/* ---- Sliding ----------------------------------------------------------- */

struct sliding_window {
	uint64_t index;
	uint64_t elapsed_ns;    /* of the current period */
	uint64_t previous;      /* all hosts', as far as is known */
	uint64_t current;       /* this host's */
	int64_t others;         /* current, too */
	bool later;             /* the current period begins after now */
};

static inline struct sliding_window sliding_window_at(const struct limit *limit,
						      const struct bucket_state *state,
						      uint64_t now_ns)
{
	uint64_t period = limit->period_ns;
	uint64_t aligned = now_ns + (uint64_t)limit->aligned_offset_ns;
	uint64_t time = state->time_ns ? state->time_ns + (uint64_t)limit->stored_offset_ns : 0;
	struct sliding_window window = { .index = aligned / period, .elapsed_ns = aligned % period };
	uint64_t stored = time / period;

	if (stored < 2) {
		if (state->foreign)
			window.others = foreign_tokens(state->foreign, window.index);
		return window;
	}
	stored -= 2;
	if (stored >= window.index && stored - window.index <= WINDOW_AHEAD_MAX_NS / period) {
		window.later = stored != window.index;
		if (window.later)
			window.elapsed_ns = 0;
		window.index = stored;
		window.previous = time % period;
		window.current = state->used;
	} else if (stored + 1 == window.index) {
		uint64_t sum = state->used;

		if (state->foreign)
			sum = window_sum(sum, foreign_tokens(state->foreign, stored));
		window.previous = sum < period ? sum : period - 1;
	}
	if (state->foreign)
		window.others = foreign_tokens(state->foreign, window.index);
	return window;
}

static inline void sliding_window_store(const struct limit *limit,
					const struct sliding_window *window,
					struct bucket_state *after)
{
	bool empty = window->current == 0 && window->previous == 0;

	after->time_ns = empty ? 0 :
				 (window->index + 2) * limit->period_ns + window->previous -
					 (uint64_t)limit->stored_offset_ns;
	after->used = window->current;
}

/* The tokens that the estimate leaves. */
static inline uint64_t sliding_window_room(const struct limit *limit,
					   const struct sliding_window *window)
{
	window_wide period = limit->period_ns;
	window_wide spent = window_sum(window->current, window->others) * period +
			    window->previous * (period - window->elapsed_ns);
	window_wide whole = limit->limit * period;

	return spent >= whole ? 0 : (uint64_t)((whole - spent) / period);
}

/* How long until COST (at most the limit) passes, if nothing else comes. */
static inline uint64_t sliding_window_wait_ns(const struct limit *limit,
					      const struct sliding_window *window, uint64_t cost)
{
	window_wide period = limit->period_ns;
	window_wide room = limit->limit - cost;
	uint64_t decaying = window->previous, wait = 0, elapsed = window->elapsed_ns, ready;
	uint64_t current = window_sum(window->current, window->others);

	if (current > room) {
		/* Not in this period: in the next, the current counter decays. */
		decaying = current;
		wait = limit->period_ns - elapsed;
		elapsed = 0;
	} else {
		room -= current;
	}
	/* The least e with decaying x (period - e) <= room x period. */
	ready = decaying > room ? (uint64_t)(period - room * period / decaying) : 0;
	return wait + (ready > elapsed ? ready - elapsed : 0);
}

static inline struct verdict sliding_window_spend(const struct limit *limit,
						  const struct bucket_state *before,
						  uint64_t now_ns, uint64_t cost, bool force,
						  struct bucket_state *after)
{
	struct sliding_window window = sliding_window_at(limit, before, now_ns);
	struct verdict verdict = { .allowed = true };
	bool exceeded = cost > sliding_window_room(limit, &window);

	*after = *before;
	verdict.flagged = exceeded && limit->action == WEIR_ACTION_FLAG;
	if (exceeded && !force && !verdict.flagged) {
		verdict.allowed = false;
		verdict.never = cost > limit->limit;
		verdict.retry_after_ns =
			verdict.never ? WEIR_NEVER : sliding_window_wait_ns(limit, &window, cost);
	} else if (cost > WEIR_COUNT_MAX - window.current && !verdict.flagged) {
		verdict.allowed = false;
		verdict.never = cost > WEIR_COUNT_MAX;
		verdict.retry_after_ns = verdict.never ? WEIR_NEVER :
							 limit->period_ns - window.elapsed_ns;
	} else if (cost > 0) {
		/* Who only marks denies nothing, whatever there is to count. */
		window.current = cost > WEIR_COUNT_MAX - window.current ? WEIR_COUNT_MAX :
									  window.current + cost;
		sliding_window_store(limit, &window, after);
	}
	verdict.remaining = sliding_window_room(limit, &window);
	verdict.counted = window_sum(window.current, window.others);
	if (verdict.counted > 0)
		verdict.reset_after_ns = 2 * limit->period_ns - window.elapsed_ns;
	else if (window.previous > 0)
		verdict.reset_after_ns = limit->period_ns - window.elapsed_ns;
	return verdict;
}

/* As fixed_window_refund(). */
static inline void sliding_window_refund(const struct limit *limit,
					 const struct bucket_state *before, uint64_t now_ns,
					 uint64_t cost, struct bucket_state *after)
{
	struct sliding_window window = sliding_window_at(limit, before, now_ns);

	*after = *before;
	if (window.later)
		return;
	window.current = window.current > cost ? window.current - cost : 0;
	sliding_window_store(limit, &window, after);
}

/* ---- Which window ------------------------------------------------------ */

/* This host's tokens of the window that a request at NOW is counted in. */
struct window_own {
	uint64_t index;
	uint64_t tokens;
	uint64_t left_ns;       /* until it ends */
};

static inline struct window_own window_own_at(const struct limit *limit,
					      const struct bucket_state *state, uint64_t now_ns)
{
	struct window_own own;

	if (limit->algorithm == WEIR_FIXED_WINDOW) {
		struct fixed_window window = fixed_window_at(limit, state, now_ns);

		own.index = window.end_ns / limit->period_ns - 1;
		own.tokens = window.count;
		own.left_ns = window.end_ns - window.aligned_ns;
	} else {
		struct sliding_window window = sliding_window_at(limit, state, now_ns);

		own.index = window.index;
		own.tokens = window.current;
		own.left_ns = limit->period_ns - window.elapsed_ns;
	}
	return own;
}

/* A window is told by the time, as stored, at which its last trace is gone: time_ns
 * without the previous counter.  0: the bucket has none. */
static inline uint64_t window_previous(const struct limit *limit, const struct bucket_state *state)
{
	if (limit->algorithm == WEIR_FIXED_WINDOW || state->time_ns == 0)
		return 0;
	return (state->time_ns + (uint64_t)limit->stored_offset_ns) % limit->period_ns;
}

static inline uint64_t window_gone_ns(const struct limit *limit, const struct bucket_state *state)
{
	return state->time_ns - window_previous(limit, state);
}

/* The time STORED by the clock that requests have, which need not be what windows were
 * aligned by when the segment was made. */
static inline uint64_t window_clock_ns(const struct limit *limit, uint64_t stored_ns)
{
	return stored_ns + (uint64_t)limit->stored_offset_ns - (uint64_t)limit->aligned_offset_ns;
}

static inline uint64_t window_index(const struct limit *limit, uint64_t gone_ns)
{
	return (gone_ns + (uint64_t)limit->stored_offset_ns) / limit->period_ns -
	       (limit->algorithm == WEIR_FIXED_WINDOW ? 1 : 2);
}

static inline uint64_t window_gone_of_index(const struct limit *limit, uint64_t index)
{
	return (index + (limit->algorithm == WEIR_FIXED_WINDOW ? 1 : 2)) * limit->period_ns -
	       (uint64_t)limit->stored_offset_ns;
}

#endif
