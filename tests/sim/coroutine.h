/* SPDX-License-Identifier: Apache-2.0 */
/* coroutine.h - several flows of control that take turns in one thread. */
#ifndef WEIR_TESTS_SIM_COROUTINE_H
#define WEIR_TESTS_SIM_COROUTINE_H

#include <setjmp.h>
#include <stdbool.h>
#include <ucontext.h>

struct coroutine {
	ucontext_t context;             /* its beginning */
	jmp_buf flow;                   /* where it goes on, once begun */
	bool begun;
	void *stack;                    /* kept from one run to the next */
	void (*run)(void *argument);
	void *argument;
};

/* The one that runs; NULL: the main flow. */
extern struct coroutine *coroutine_current;

/* Make COROUTINE ready to begin with RUN, which never returns.  What it did before
 * is abandoned where it stood: that is how a process dies here. */
void coroutine_begin(struct coroutine *coroutine, void (*run)(void *argument), void *argument);

/* From the main flow: go on with COROUTINE until it yields. */
void coroutine_resume(struct coroutine *coroutine);

/* From a coroutine: back to the main flow. */
void coroutine_yield(void);

#endif
