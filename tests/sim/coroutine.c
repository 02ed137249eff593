/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/coroutine.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define STACK_BYTES (256u << 10)

struct coroutine *coroutine_current;

static ucontext_t main_context;

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
	coroutine->context.uc_stack.ss_sp = coroutine->stack;
	coroutine->context.uc_stack.ss_size = STACK_BYTES;
	coroutine->context.uc_link = NULL;
	makecontext(&coroutine->context, begin, 0);
}

void coroutine_resume(struct coroutine *coroutine)
{
	coroutine_current = coroutine;
	swapcontext(&main_context, &coroutine->context);
	coroutine_current = NULL;
}

void coroutine_yield(void)
{
	swapcontext(&coroutine_current->context, &main_context);
}
