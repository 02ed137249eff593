/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coroutine.c - switching stacks.
 *
 * swapcontext() makes two system calls each time, which was half of all that the
 * simulator did.  So a context only makes the stack; from there on flows change by
 * _setjmp() and _longjmp(), which save no signal mask.
 */
#undef _FORTIFY_SOURCE          /* its longjmp() takes another stack for an error */
#include "tests/sim/coroutine.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define STACK_BYTES (256u << 10)

struct coroutine *coroutine_current;

static jmp_buf main_flow;

static void begin(void)
{
	coroutine_current->run(coroutine_current->argument);
	abort();
}

void coroutine_begin(struct coroutine *coroutine, void (*run)(void *argument), void *argument)
{
	if (!coroutine->stack)
		coroutine->stack = malloc(STACK_BYTES);
	if (!coroutine->stack || getcontext(&coroutine->context) != 0) {
		fprintf(stderr, "no memory for a coroutine's stack of %u bytes\n", STACK_BYTES);
		exit(2);
	}
	coroutine->run = run;
	coroutine->argument = argument;
	coroutine->begun = false;
	coroutine->context.uc_stack.ss_sp = coroutine->stack;
	coroutine->context.uc_stack.ss_size = STACK_BYTES;
	coroutine->context.uc_link = NULL;
	makecontext(&coroutine->context, begin, 0);
}

void coroutine_resume(struct coroutine *coroutine)
{
	coroutine_current = coroutine;
	if (_setjmp(main_flow) == 0) {
		if (coroutine->begun)
			_longjmp(coroutine->flow, 1);
		coroutine->begun = true;
		setcontext(&coroutine->context);
	}
	coroutine_current = NULL;
}

void coroutine_yield(void)
{
	if (_setjmp(coroutine_current->flow) == 0)
		_longjmp(main_flow, 1);
}
