/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit.h - a limit compiled for the decision path, and the state it judges.
 */
#ifndef WEIR_SHM_LIMIT_H
#define WEIR_SHM_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "weir.h"

/* The same fields as struct limit_record, out of the segment and safe to
 * compute with: parts is never 0. */
struct limit {
	uint64_t limit;
	uint64_t period_ns;
	uint64_t burst;
	enum weir_algorithm algorithm;
	enum weir_action action;
	uint64_t key[2];
	uint64_t token_ns;
	uint64_t token_part;
	uint64_t parts;
	uint64_t tolerance_ns;
	uint64_t tolerance_part;
	uint64_t lease;                 /* 0: the policy does not */
	int64_t aligned_offset_ns;      /* windows: aligned time - now */
	int64_t stored_offset_ns;       /* windows: aligned time - stored time */
};

static inline bool limit_is_window(const struct limit *limit)
{
	return limit->algorithm == WEIR_SLIDING_WINDOW || limit->algorithm == WEIR_FIXED_WINDOW;
}

/* No request's time is this late (the year 2116, for times since 1970): a debt
 * can be added without reaching TIME_HELD. */
#define TIME_MAX_NS (1ull << 62)

/* A bucket's state, decoded. */
struct bucket_state {
	uint64_t time_ns;
	uint64_t used;
	uint64_t foreign;       /* what the other hosts have: window.h; 0: nothing known */
};

/* What an algorithm says of one request. */
struct verdict {
	bool allowed;
	bool never;             /* the cost is above what the limit can ever allow */
	bool flagged;
	bool capped;            /* denied only until what is unmerged is merged */
	bool unleased;          /* denied only for want of credit */
	bool elsewhere;         /* denied only for what other hosts hold */
	bool hurry;             /* the leader has something to do: wake it */
	uint64_t remaining;     /* tokens, after the request if it was allowed */
	uint64_t counted;       /* windows and concurrency: tokens so far, likewise */
	uint64_t retry_after_ns;
	uint64_t reset_after_ns;
	struct bucket_state after;      /* what bucket_apply() stored, if anything */
};

#endif
