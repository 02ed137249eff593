/* SPDX-License-Identifier: Apache-2.0 */
/* coroutine.h - threads that run when told, on stacks that can be copied. */
#ifndef WEIR_TESTS_COROUTINE_H
#define WEIR_TESTS_COROUTINE_H

#include "tests/model/model.h"

enum coroutine_status {
	COROUTINE_READY,
	COROUTINE_FINISHED,
	COROUTINE_KILLED,
};

/* What is not on the stack.  The registers are: they were pushed there. */
struct coroutine {
	enum coroutine_status status;
	void *stack_pointer;
	const void *where;              /* the code that is about to make its access */
};

extern struct coroutine coroutines[MODEL_THREADS_MAX];

/* Begin BODY(THREAD) on a clean stack, and run to its first access. */
void coroutine_start(unsigned thread, void (*body)(unsigned));

/* Make the access that THREAD is about to make, and run on to the next. */
void coroutine_run(unsigned thread);

/* The part of the stack that is in use. */
const void *coroutine_stack(unsigned thread, size_t *size);

/* Put a stack back that coroutine_stack() told. */
void coroutine_restore(unsigned thread, const struct coroutine *saved, const void *stack,
		       size_t size);

#endif
