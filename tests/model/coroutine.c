/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coroutine.c - switching stacks.
 *
 * The stacks are static and the program is linked without PIE, so that an
 * address on a stack means the same in every state: a stack is saved and put
 * back as bytes.  What lies beyond the stack pointer is cleared before a thread
 * goes on; left-overs of earlier calls would else make equal states look
 * different.  swapcontext() would do, but makes two system calls each time.
 */
#include "tests/model/coroutine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__x86_64__)
#error "coroutine.c switches stacks on x86-64 only"
#endif

#define STACK_SIZE 16384
#define CLEARED_SIZE 4096       /* deeper than the calls between two accesses go */

struct coroutine coroutines[MODEL_THREADS_MAX];

static unsigned char stacks[MODEL_THREADS_MAX][STACK_SIZE] __attribute__((aligned(64)));
static void (*bodies[MODEL_THREADS_MAX])(unsigned);
static void *explorer_stack_pointer;
#define NOBODY MODEL_THREADS_MAX
static unsigned running = NOBODY;

/* Push the registers that a call preserves, change stacks, pop the others'. */
void coroutine_switch(void **save_stack_pointer, void *stack_pointer);
__asm__(".text\n"
	".globl coroutine_switch\n"
	".type coroutine_switch, @function\n"
	"coroutine_switch:\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size coroutine_switch, .-coroutine_switch\n");

unsigned model_thread(void)
{
	return running == NOBODY ? 0 : running;
}

void weir_model_step(void)
{
	struct coroutine *self;

	if (running == NOBODY)
		return;         /* setup() and ended() call the code as it is */
	self = &coroutines[running];
	self->where = __builtin_return_address(0);
	coroutine_switch(&self->stack_pointer, explorer_stack_pointer);
}

static void thread_main(void)
{
	bodies[running](running);
	coroutines[running].status = COROUTINE_FINISHED;
	for (;;)
		coroutine_switch(&coroutines[running].stack_pointer, explorer_stack_pointer);
}

void coroutine_start(unsigned thread, void (*body)(unsigned))
{
	/* As if coroutine_switch() had been called by something that returns to
	 * thread_main(): six registers, where to go, and where that returns to. */
	void **top = (void **)(stacks[thread] + STACK_SIZE) - 8;

	memset(stacks[thread], 0, STACK_SIZE);
	top[6] = (void *)thread_main;
	bodies[thread] = body;
	coroutines[thread] = (struct coroutine){ .stack_pointer = top };
	coroutine_run(thread);
}

void coroutine_run(unsigned thread)
{
	unsigned char *stack_pointer = coroutines[thread].stack_pointer;
	size_t below = (size_t)(stack_pointer - stacks[thread]);

	if (below < CLEARED_SIZE) {
		fprintf(stderr, "model: the stack of thread %u is full; raise STACK_SIZE\n", thread);
		abort();
	}
	memset(stack_pointer - CLEARED_SIZE, 0, CLEARED_SIZE);
	running = thread;
	coroutine_switch(&explorer_stack_pointer, stack_pointer);
	running = NOBODY;
}

const void *coroutine_stack(unsigned thread, size_t *size)
{
	unsigned char *stack_pointer = coroutines[thread].stack_pointer;

	*size = coroutines[thread].status == COROUTINE_READY ?
			(size_t)(stacks[thread] + STACK_SIZE - stack_pointer) : 0;
	return stack_pointer;
}

void coroutine_restore(unsigned thread, const struct coroutine *saved, const void *stack,
		       size_t size)
{
	coroutines[thread] = *saved;
	memcpy(stacks[thread] + STACK_SIZE - size, stack, size);
}
