/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.h - a child process that can be halted before any instruction of an
 * operation.
 *
 * What.  The operation is single-stepped once, which tells each instruction that
 * it executes.  To halt another child before instruction K, a breakpoint brings
 * it near, and single steps do the rest: halting at each of N instructions takes
 * N short walks, not N long ones.
 *
 * The child is a fork of the tracer, whose code is at the same addresses, and is
 * always forked from the same state: it takes the same path each time, which
 * trace_start() asserts.  So the tracer has done the operation once before: what
 * happens at the first call only (symbols are bound, the thread is registered)
 * has happened.
 */
#ifndef WEIR_TEST_CRASH_TRACE_H
#define WEIR_TEST_CRASH_TRACE_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* As ck_assert() and ck_assert_msg(), which write to a file each time they hold:
 * too slow for what is asked at each instruction. */
#define must(condition)		 must_say(condition, "does not hold: %s", #condition)
#define must_say(condition, ...) ((condition) ? (void)0 : ck_abort_msg(__VA_ARGS__))

/* What the child does: ARRIVE (may be NULL) at full speed, then OPERATE, under
 * trace, then it exits. */
struct traced {
	void (*arrive)(void *context);
	void (*operate)(void *context);
	void *context;
	/* Cache lines that matter; NULL: none. */
	const void *lines[2];
};

struct trace {
	struct instruction *instructions;
	uint32_t count;
};

/* Exits with status 77 ("skipped") and a word why, if this process may not
 * trace its children.  For main(). */
void trace_require(void);

/* Run TRACED to its end and record its instructions. */
void trace_record(const struct traced *traced, struct trace *trace);
void trace_free(struct trace *trace);

/* Is instruction INDEX at work where it matters?  An atomic operation is within a
 * few instructions of it, or a register points into one of the lines. */
bool trace_is_critical(const struct trace *trace, uint32_t index);

/* Start a child and halt it before instruction INDEX. */
pid_t trace_start(const struct traced *traced, const struct trace *trace, uint32_t index);

/* Kill it there; or let it go on to its end. */
void trace_kill(pid_t pid);
void trace_finish(pid_t pid);

#endif
