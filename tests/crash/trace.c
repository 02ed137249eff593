/* SPDX-License-Identifier: Apache-2.0 */
#include "trace.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define SKIPPED		 77
#define INSTRUCTIONS_MAX 1000000u
#define NEAR		 6u /* instructions */
#define LINE		 64u
#define STACK_SIZE	 (256 * 1024)
#define PASS_STEPS	 3u /* what a breakpoint costs, in single steps */

struct instruction {
	uintptr_t address;
	uint32_t passes; /* how often the address was executed before */
	uint32_t from;	 /* the instruction to walk from: see plan_walks() */
	bool atomic;
	bool points; /* a register points into a line of traced.lines */
};

enum phase {
	PHASE_BEFORE,
	PHASE_INSIDE,
	PHASE_AFTER,
};

static const struct traced *running; /* by this child */

/* In memory that the child shares: told by a store, which needs no stop. */
static volatile int *phase;

/* ---- The processor: x86-64 --------------------------------------------- */

#define BREAKPOINT 0xccul

static uintptr_t program_counter(pid_t pid)
{
	errno = 0;
	return (uintptr_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rip),
				 NULL);
}

static long set_program_counter(pid_t pid, uintptr_t address)
{
	return ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rip), address);
}

static bool points_into(const struct user_regs_struct *registers, const void *line)
{
	const unsigned long long values[] = {
		registers->rax, registers->rbx, registers->rcx, registers->rdx, registers->rsi,
		registers->rdi, registers->rbp, registers->r8,	registers->r9,	registers->r10,
		registers->r11, registers->r12, registers->r13, registers->r14, registers->r15,
	};

	for (size_t i = 0; line && i < sizeof(values) / sizeof(values[0]); i++) {
		if (values[i] - (uintptr_t)line < LINE)
			return true;
	}
	return false;
}

/* A lock prefix, or an exchange with memory, which has it implied. */
static bool is_atomic(uintptr_t address)
{
	const uint8_t *bytes = (const uint8_t *)address;

	for (int i = 0; i < 4; i++) {
		uint8_t byte = bytes[i];

		if (byte == 0xf0)
			return true;
		if (byte == 0x86 || byte == 0x87)
			return bytes[i + 1] >> 6 != 3;
		if (byte != 0x66 && byte != 0xf2 && byte != 0xf3 && (byte & 0xf0) != 0x40)
			return false;
	}
	return false;
}

/* ---- The child --------------------------------------------------------- */

/* Zeros, shared with children.  Not from the heap, which must be the same at
 * each fork. */
static void *memory(size_t size)
{
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must(base != MAP_FAILED);
	return base;
}

static void child_run(void)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		_exit(SKIPPED);
	if (running->arrive)
		running->arrive(running->context);
	raise(SIGSTOP);
	*phase = PHASE_INSIDE;
	running->operate(running->context);
	*phase = PHASE_AFTER;
	_exit(0);
}

/* On a stack of its own: the C library's string functions look at how far the end
 * of the page is, and the tracer's stack is not always as deep. */
static void child_go(const struct traced *traced)
{
	static char stack[STACK_SIZE] __attribute__((aligned(4096)));
	ucontext_t context;

	running = traced;
	if (getcontext(&context) != 0)
		_exit(SKIPPED);
	context.uc_stack.ss_sp = stack;
	context.uc_stack.ss_size = sizeof(stack);
	context.uc_link = NULL;
	makecontext(&context, child_run, 0);
	setcontext(&context);
	_exit(SKIPPED);
}

static pid_t child_start(const struct traced *traced)
{
	pid_t pid;
	int status;

	if (!phase)
		phase = memory(sizeof(*phase));
	*phase = PHASE_BEFORE;
	pid = fork();
	must(pid >= 0);
	if (pid == 0)
		child_go(traced);
	must(waitpid(pid, &status, 0) == pid);
	must_say(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP,
		 "the child did not arrive: wait status %#x", status);
	/* Nothing stays behind when an assertion of the tracer fails. */
	must(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL) == 0);
	return pid;
}

static void wait_for_trap(pid_t pid)
{
	int status;

	must(waitpid(pid, &status, 0) == pid);
	must_say(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP,
		 "the child was to halt, not to have wait status %#x", status);
}

static void step(pid_t pid)
{
	must(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
	wait_for_trap(pid);
}

/* Let it run until it is about to execute ADDRESS, after PASSES times. */
static void run_to(pid_t pid, uintptr_t address, uint32_t passes)
{
	long word, trap;

	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, pid, address, NULL);
	must(errno == 0);
	trap = (word & ~0xffl) | (long)BREAKPOINT;
	for (uint32_t pass = 0; pass <= passes; pass++) {
		if (pass > 0)
			step(pid);
		must(ptrace(PTRACE_POKETEXT, pid, address, trap) == 0);
		must(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
		wait_for_trap(pid);
		must(program_counter(pid) == address + 1);
		must(ptrace(PTRACE_POKETEXT, pid, address, word) == 0);
		must(set_program_counter(pid, address) == 0);
	}
}

void trace_require(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
			raise(SIGSTOP);
		_exit(SKIPPED);
	}
	if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		bool permitted = ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 &&
				 waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) &&
				 program_counter(pid) != 0 && errno == 0;

		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		if (permitted)
			return;
	}
	puts("skipped: this process may not trace its children (ptrace); "
	     "in a container, allow it with --cap-add=SYS_PTRACE");
	exit(SKIPPED);
}

/* ---- Recording --------------------------------------------------------- */

static int by_address(const void *a, const void *b)
{
	const struct instruction *left = *(struct instruction *const *)a;
	const struct instruction *right = *(struct instruction *const *)b;

	if (left->address != right->address)
		return left->address < right->address ? -1 : 1;
	return left < right ? -1 : left > right;
}

static void count_passes(struct trace *trace)
{
	size_t size = trace->count * sizeof(struct instruction *);
	struct instruction **sorted = memory(size);

	for (uint32_t i = 0; i < trace->count; i++)
		sorted[i] = &trace->instructions[i];
	qsort(sorted, trace->count, sizeof(struct instruction *), by_address);
	for (uint32_t i = 1; i < trace->count; i++) {
		if (sorted[i]->address == sorted[i - 1]->address)
			sorted[i]->passes = sorted[i - 1]->passes + 1;
	}
	munmap(sorted, size);
}

/* The shortest way to each instruction: to which one a breakpoint leads, from
 * where single steps go on. */
static void plan_walks(struct trace *trace)
{
	uint32_t cost = 0;

	count_passes(trace);
	for (uint32_t i = 0; i < trace->count; i++) {
		struct instruction *instruction = &trace->instructions[i];
		uint32_t direct = PASS_STEPS * instruction->passes;

		if (i > 0 && cost + 1 <= direct) {
			instruction->from = instruction[-1].from;
			cost++;
		} else {
			instruction->from = i;
			cost = direct;
		}
	}
}

void trace_record(const struct traced *traced, struct trace *trace)
{
	struct user_regs_struct registers;
	pid_t pid;

	trace->count = 0;
	trace->instructions = memory(INSTRUCTIONS_MAX * sizeof(struct instruction));
	pid = child_start(traced);
	while (*phase == PHASE_BEFORE)
		step(pid);
	while (*phase == PHASE_INSIDE) {
		struct instruction *next;

		must(trace->count < INSTRUCTIONS_MAX);
		next = &trace->instructions[trace->count++];
		must(ptrace(PTRACE_GETREGS, pid, NULL, &registers) == 0);
		next->address = (uintptr_t)registers.rip;
		next->atomic = is_atomic(next->address);
		next->points = points_into(&registers, traced->lines[0]) ||
			       points_into(&registers, traced->lines[1]);
		step(pid);
	}
	trace_finish(pid);
	plan_walks(trace);
}

void trace_free(struct trace *trace)
{
	munmap(trace->instructions, INSTRUCTIONS_MAX * sizeof(struct instruction));
}

bool trace_is_critical(const struct trace *trace, uint32_t index)
{
	uint32_t from = index > NEAR ? index - NEAR : 0;

	for (uint32_t i = from; i < trace->count && i <= index + NEAR; i++) {
		if (trace->instructions[i].atomic)
			return true;
	}
	return trace->instructions[index].points;
}

/* ---- Halting ----------------------------------------------------------- */

pid_t trace_start(const struct traced *traced, const struct trace *trace, uint32_t index)
{
	uint32_t from = trace->instructions[index].from;
	pid_t pid = child_start(traced);

	/* First into the operation: what leads there may pass the same addresses. */
	run_to(pid, trace->instructions[0].address, 0);
	must(*phase == PHASE_INSIDE);
	if (from > 0)
		run_to(pid, trace->instructions[from].address, trace->instructions[from].passes);
	for (uint32_t i = from; i < index; i++)
		step(pid);
	must_say(program_counter(pid) == trace->instructions[index].address,
		 "instruction %u is another one this time", index);
	return pid;
}

void trace_kill(pid_t pid)
{
	int status;

	must(kill(pid, SIGKILL) == 0);
	must(waitpid(pid, &status, 0) == pid);
	must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

void trace_finish(pid_t pid)
{
	int status;

	must(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	must(waitpid(pid, &status, 0) == pid);
	must_say(WIFEXITED(status) && WEXITSTATUS(status) == 0,
		 "the child was to end well, not with wait status %#x", status);
	must(*phase == PHASE_AFTER);
}
