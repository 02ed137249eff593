/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gcra.h - the token bucket, as pure arithmetic: no atomics, no clock.
 *
 * What.  The generic cell rate algorithm keeps one time per bucket, the time at
 * which it will be full again (theoretical arrival time, here time_ns).  The
 * debt is max(time_ns - now, 0); a request of c tokens passes if the debt it
 * would leave is at most burst x T, where T = period / limit is the time of one
 * token.
 *
 * Exactness.  T need not be a whole number of nanoseconds (3 per 10 s).  Let
 * T = token_ns + token_part / parts in lowest terms, and F(n) = floor(n x T).
 * A charge of c tokens, when n have been consumed before, adds the whole number
 * F(n + c) - F(n) to time_ns.  The sum of any run of charges telescopes: it is
 * within one nanosecond of the exact product, however long the run, with no
 * remainder to store but the count of tokens, which the bucket keeps anyway.
 * The count has 44 bits and a sign: refunds may take it below 0.  It comes round
 * from 2^43 - 1 to -2^43: where T is no whole number, that may add a nanosecond.
 *
 * A cost c passes iff debt <= F(n) - F(n - (burst - c)).  With the exact debt
 * this would be the rational rule  debt <= (burst - c) x T.  Both sides are
 * rounded from the same n, so that
 *   - a request that the exact rule allows is always allowed, and
 *   - one that is allowed exceeds the exact rule by less than one nanosecond.
 * Proof.  Let the bucket have been full at t0, k tokens ago, and m = burst - c.
 * time_ns = t0 + F(n) - F(n - k), so the rule reads
 *   F(n - m) - F(n - k) <= now - t0.
 * Let f be the fraction of (n - k) x T.  The left side is floor(f + (k - m)T).
 * If (k - m)T <= now - t0, a whole number, then so is its floor with f < 1
 * added.  If it is allowed, then (k - m)T < now - t0 + 1 - f.
 * Where T is whole, all of this is the exact rule itself.
 *
 * References: ITU-T I.371, annex A (GCRA, virtual scheduling); J. Bresenham,
 * 1965, for a slope kept exact by integer error terms.
 */
#ifndef WEIR_SHM_GCRA_H
#define WEIR_SHM_GCRA_H

#include "shm/limit.h"

/* The most that force makes. */
#define GCRA_DEBT_MAX_NS (2 * WEIR_DEBT_MAX_NS)

/* More debt than this is not a bucket's, but damage or a clock that restarted.  In
 * between is the largest debt, as a thread sees it that read its clock earlier. */
#define GCRA_DEBT_ABSURD_NS (GCRA_DEBT_MAX_NS + 3600ull * 1000000000)

typedef unsigned __int128 gcra_wide;

/* A count of tokens, or the difference of two, with its sign: only 44 bits of it count. */
static inline int64_t gcra_count(uint64_t used)
{
	return (int64_t)(used << 20) >> 20;
}

#define GCRA_COUNT_MOST (WEIR_COUNT_MAX / 2)
_Static_assert(WEIR_COUNT_MAX >> 44 == 0 && GCRA_COUNT_MOST >> 42 == 1, "44 bits");

/* (n x token_part) mod parts: where token n stands between two nanoseconds. */
static inline uint64_t gcra_phase(const struct limit *limit, uint64_t n)
{
	int64_t count = gcra_count(n);
	uint64_t phase;

	if (limit->token_part == 0)
		return 0;
	if (count >= 0)
		return (uint64_t)((gcra_wide)count * limit->token_part % limit->parts);
	phase = (uint64_t)((gcra_wide)-count * limit->token_part % limit->parts);
	return phase ? limit->parts - phase : 0;
}

/* F(n + c) - F(n), for n at PHASE.  Saturates. */
static inline uint64_t gcra_charge_ns(const struct limit *limit, uint64_t phase, uint64_t c)
{
	if (limit->token_part == 0) {
		uint64_t charge;

		return __builtin_mul_overflow(c, limit->token_ns, &charge) ? UINT64_MAX : charge;
	}
	if (c == 1)
		return limit->token_ns + (limit->parts - phase <= limit->token_part);
	gcra_wide charge = (gcra_wide)c * limit->token_ns +
			   ((gcra_wide)c * limit->token_part + phase) / limit->parts;
	return charge > UINT64_MAX ? UINT64_MAX : (uint64_t)charge;
}

/* F(n) - F(n - c), for n at PHASE.  Saturates. */
static inline uint64_t gcra_return_ns(const struct limit *limit, uint64_t phase, uint64_t c)
{
	gcra_wide ns = (gcra_wide)c * limit->token_ns;
	gcra_wide part = (gcra_wide)c * limit->token_part;

	if (part > phase)
		ns += (part - phase + limit->parts - 1) / limit->parts;
	return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

/* The debt that still lets COST tokens pass: F(n) - F(n - (burst - cost)). */
static inline uint64_t gcra_tolerance_ns(const struct limit *limit, uint64_t phase, uint64_t cost)
{
	if (cost == 1)
		return limit->tolerance_ns + (limit->tolerance_part > phase);
	return gcra_return_ns(limit, phase, limit->burst - cost);
}

/* How many tokens would pass: the largest c <= burst whose tolerance is at
 * least DEBT. */
static inline uint64_t gcra_remaining(const struct limit *limit, uint64_t phase, uint64_t debt_ns)
{
	if (debt_ns == 0)
		return limit->burst;

	/* The least m with m x T - phase / parts > debt - 1. */
	gcra_wide token = (gcra_wide)limit->token_ns * limit->parts + limit->token_part;
	gcra_wide least = ((gcra_wide)(debt_ns - 1) * limit->parts + phase) / token + 1;

	return least > limit->burst ? 0 : limit->burst - (uint64_t)least;
}

/* The tokens of DEBT: the least m with m x T >= DEBT. */
static inline uint64_t gcra_tokens(const struct limit *limit, uint64_t debt_ns)
{
	gcra_wide token = (gcra_wide)limit->token_ns * limit->parts + limit->token_part;

	return debt_ns ? (uint64_t)(((gcra_wide)debt_ns * limit->parts - 1) / token) + 1 : 0;
}

static inline uint64_t gcra_debt_ns(const struct bucket_state *state, uint64_t now_ns)
{
	uint64_t debt = state->time_ns > now_ns ? state->time_ns - now_ns : 0;

	return debt > GCRA_DEBT_ABSURD_NS ? 0 : debt;
}

/*
 * Judge a request of COST tokens at NOW.  If it may spend (allowed, cost above
 * 0), *after is the state to publish; otherwise it is left as *before.
 * FORCE spends whatever the debt, up to GCRA_DEBT_MAX_NS.
 */
static inline struct verdict gcra_spend(const struct limit *limit, const struct bucket_state *before,
					uint64_t now_ns, uint64_t cost, bool force,
					struct bucket_state *after)
{
	struct verdict verdict = { .allowed = true };
	uint64_t debt = gcra_debt_ns(before, now_ns);
	uint64_t phase = gcra_phase(limit, before->used);

	*after = *before;
	if (cost > limit->burst && !force) {
		verdict.allowed = false;
		verdict.never = true;
		verdict.retry_after_ns = WEIR_NEVER;
	} else if (!force && debt > gcra_tolerance_ns(limit, phase, cost)) {
		verdict.allowed = false;
		verdict.retry_after_ns = debt - gcra_tolerance_ns(limit, phase, cost);
	} else if (cost > 0) {
		uint64_t charge = gcra_charge_ns(limit, phase, cost);

		if (charge > GCRA_DEBT_MAX_NS || debt + charge > GCRA_DEBT_MAX_NS) {
			verdict.allowed = false;
			verdict.never = charge > GCRA_DEBT_MAX_NS;
			verdict.retry_after_ns = verdict.never ? WEIR_NEVER :
						 debt + charge - GCRA_DEBT_MAX_NS;
		} else {
			after->time_ns = now_ns + debt + charge;
			after->used = (before->used + cost) & WEIR_COUNT_MAX;
			debt += charge;
		}
	}
	verdict.reset_after_ns = debt;
	return verdict;
}

/* Give COST tokens back.  A bucket that is full already stays full since when it was:
 * a charge that another plan takes back goes by that (gcra_undo).  The count may go
 * below 0: what is given back here may have been taken on another host. */
static inline void gcra_refund(const struct limit *limit, const struct bucket_state *before,
			       uint64_t now_ns, uint64_t cost, struct bucket_state *after)
{
	uint64_t debt = gcra_debt_ns(before, now_ns);
	uint64_t back = gcra_return_ns(limit, gcra_phase(limit, before->used), cost);

	if (debt > back)
		after->time_ns = now_ns + debt - back;
	else
		after->time_ns = before->time_ns < now_ns ? before->time_ns : now_ns;
	after->used = (before->used - (cost < GCRA_COUNT_MOST ? cost : GCRA_COUNT_MOST)) &
		      WEIR_COUNT_MAX;
}

/* time_ns - F(used), modulo 2^64.  Charges, and taking them back, leave it as it
 * is.  It moves when a charge finds the bucket full: time_ns is then behind now. */
static inline uint64_t gcra_origin_ns(const struct limit *limit, const struct bucket_state *state)
{
	int64_t count = gcra_count(state->used);
	gcra_wide parts = (gcra_wide)(count < 0 ? -count : count) * limit->token_part;

	if (count < 0)
		parts = -((parts + limit->parts - 1) / limit->parts);
	else
		parts /= limit->parts;
	return state->time_ns - (uint64_t)count * limit->token_ns - (uint64_t)parts;
}

/*
 * Take a charge of COST tokens back, as if it had never been made; it left the
 * state CHARGED.  No charge since went by a later reading of the clock than LATEST.
 *
 * Given back is only what of it was still debt when others charged: without it,
 * the bucket would have been full by then, and their charges would have begun at
 * their now.  So what lies before LATEST stays, and all of it if the bucket has
 * been full since.
 */
static inline void gcra_undo(const struct limit *limit, const struct bucket_state *before,
			     const struct bucket_state *charged, uint64_t cost, uint64_t latest_ns,
			     struct bucket_state *after)
{
	uint64_t back = gcra_return_ns(limit, gcra_phase(limit, before->used), cost);
	uint64_t left = charged->time_ns > latest_ns ? charged->time_ns - latest_ns : 0;

	*after = *before;
	if (gcra_origin_ns(limit, before) == gcra_origin_ns(limit, charged))
		/* The two are rounded from different n: 1 ns apart means equal. */
		after->time_ns -= back <= left + 1 ? back : left;
	after->used = (before->used - cost) & WEIR_COUNT_MAX;
}

#endif
