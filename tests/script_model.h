/* SPDX-License-Identifier: Apache-2.0 */
/* script_model.h - sync/weir_sync.lua once more, in C: for simulations that need millions of calls,
 * and as a second opinion on the script.  The head of the script defines what happens; here times
 * are int64_t nanoseconds, where the script has pairs. */
#ifndef WEIR_TESTS_SCRIPT_MODEL_H
#define WEIR_TESTS_SCRIPT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRIPT_HOST_BYTES 16
#define SCRIPT_NAME_BYTES 16
#define SCRIPT_MAX_ITEMS 1000

/* What an E or a V of minus infinity is. */
#define SCRIPT_NEVER_NS (INT64_C(-2147483648) * INT64_C(1000000000))

enum script_code {
	SCRIPT_DONE = 0,
	SCRIPT_STALE = 1,
	SCRIPT_FENCE_FIRST = 2,
};

enum script_error {
	SCRIPT_ITEM_DONE = 0,
	SCRIPT_ITEM_MALFORMED = 1,
	SCRIPT_ITEM_RANGE = 2,
	SCRIPT_ITEM_CROWDED = 3,
};

enum script_flag {
	SCRIPT_RESTORE = 1,
	SCRIPT_RESET = 2,
};

/* As on the wire: the floor of the seconds, and 0 .. 999999999 nanoseconds. */
struct script_duration {
	int32_t seconds;
	uint32_t nanoseconds;
};

struct script_item {
	uint8_t name[SCRIPT_NAME_BYTES];
	struct script_duration charge;          /* d */
	struct script_duration empty;           /* E */
	struct script_duration view;            /* V */
	struct script_duration cap;
	uint32_t generation;
	uint32_t flags;
};

struct script_result {
	struct script_duration debt;            /* G - now */
	uint32_t generation;
	uint32_t error;
};

/* The same, as on the wire. */
struct script_answer {
	uint32_t seconds;                       /* G */
	uint32_t nanoseconds;                   /* of it, and the error in bits 30 and 31 */
	uint32_t generation;
};

/* A time since 1970, as on the wire, and a length. */
struct script_time {
	uint32_t seconds;
	uint32_t nanoseconds;
};

struct script_window {
	uint8_t name[SCRIPT_NAME_BYTES];
	struct script_time end;
	struct script_time length;
	int64_t tokens;                         /* n */
	uint64_t total;                         /* T */
	uint64_t previous;                      /* P */
	uint32_t generation;
	uint32_t flags;
};

struct script_window_result {
	int64_t total;
	int64_t previous;
	uint32_t generation;
	uint32_t error;                         /* enum script_error; RANGE: too far ahead */
};

struct script_hold {
	uint8_t name[SCRIPT_NAME_BYTES];
	uint64_t held;
};

struct script_hold_result {
	uint64_t others;
	uint32_t hosts;
	uint32_t error;
};

_Static_assert(sizeof(struct script_hold) == 24, "an item of the wire");
_Static_assert(sizeof(struct script_hold_result) == 16, "an item of the wire");
_Static_assert(sizeof(struct script_window) == 64, "an item of the wire");
_Static_assert(sizeof(struct script_window_result) == 24, "an item of the wire");
_Static_assert(sizeof(struct script_item) == 56, "an item of the wire");
_Static_assert(sizeof(struct script_answer) == 12, "an item of the wire");

struct script_call {
	uint8_t host[SCRIPT_HOST_BYTES];
	uint64_t term;
	uint64_t seq;                           /* 0: fence */
	int64_t low_ns;                         /* vlow; negative: unknown */
	uint64_t tolerance_ns;
	uint64_t keep_seconds;
	uint64_t clock_us;                      /* what TIME says */
	const struct script_item *items;
	size_t count;
	const struct script_window *windows;
	size_t window_count;
	const struct script_hold *holds;
	size_t hold_count;
};

struct script_reply {
	enum script_code code;
	int64_t now_ns;
	uint64_t live;
	uint64_t term;
	uint64_t seq;
	size_t count;
	struct script_result results[SCRIPT_MAX_ITEMS];
	size_t window_count;
	struct script_window_result windows[SCRIPT_MAX_ITEMS];
	size_t hold_count;
	struct script_hold_result holds[SCRIPT_MAX_ITEMS];
};

struct script_duration script_duration(int64_t ns);
int64_t script_ns(struct script_duration duration);

/* A result at the virtual time NOW_NS as an answer, and back. */
struct script_answer script_answer(struct script_result result, int64_t now_ns);
struct script_result script_result(struct script_answer answer, int64_t now_ns);

/* One shard of one Redis. */
struct script_model;

/* An empty one; NULL when memory is out. */
struct script_model *script_model_new(void);
void script_model_free(struct script_model *model);

/* What a replica has that stops here; NULL when memory is out. */
struct script_model *script_model_copy(const struct script_model *model);

/* FLUSHALL, or an eviction, or the end of the shard's time to live. */
void script_model_flush(struct script_model *model);

/* Returns false, and changes nothing, where the script returns an error: the call is malformed. */
bool script_model_call(struct script_model *model, const struct script_call *call,
		       struct script_reply *reply);

/* The window of NAME that is kept: its end, and its tokens.  -1: none. */
int64_t script_model_window(const struct script_model *model, const uint8_t *name,
			    int64_t *end_ns);

/* What all hosts hold of NAME, as of the last call. */
uint64_t script_model_held(const struct script_model *model, const uint8_t *name);

/* The tat of NAME in virtual time; negative if there is none. */
int64_t script_model_tat_ns(const struct script_model *model, const uint8_t *name);

#endif
