/* SPDX-License-Identifier: Apache-2.0 */
/* process.c - the processes of a host that lead, or stand by. */
#include <string.h>

#include "tests/sim/sim.h"

#define SPACING_NS MS
#define BACKOFF_MAX_NS SECOND

/* The process that runs; NULL outside of them. */
static struct process *running;

/* ---- Time -------------------------------------------------------------- */

void process_wake(struct process *process, int64_t after_ns)
{
	events_add(world.now_ns + after_ns, EVENT_RESUME, 0, ++process->serial, process);
}

static void wait_ns(struct process *process, int64_t ns)
{
	process_wake(process, ns);
	coroutine_yield();
}

void process_resume(struct process *process, uint64_t serial)
{
	if (!process->alive || process->serial != serial)
		return;
	if (world.now_ns < process->stopped_until_ns) {
		process_wake(process, process->stopped_until_ns - world.now_ns);
		return;
	}
	running = process;
	coroutine_resume(&process->coroutine);
	running = NULL;
}

/* ---- Between two stores ------------------------------------------------ */

static void next_fault(struct process *process)
{
	process->until_fault = 1 + (uint64_t)sim_exponential_ns(STREAM_STEPS, world.scenario.strike_steps);
}

static bool may_stop(void)
{
	return sim_has(FAULT_STOP) || sim_has(FAULT_KILL) || sim_has(FAULT_HOLD);
}

/* Held up, stopped or killed. */
static void strike(struct process *process)
{
	uint64_t dice = sim_below(STREAM_STEPS, 100);

	if (sim_has(FAULT_KILL) && dice < 3) {
		sim_trace("host %u: leader %u dies at a step", process->host->number,
			  process->number);
		process->host->unsettled = true;
		process_kill(process);
		coroutine_yield();
	} else if (sim_has(FAULT_STOP) && dice < 8) {
		int64_t ns = 100 * MS + sim_exponential_ns(STREAM_STEPS, 900 * MS);

		sim_trace("host %u: leader %u stops at a step for %lld ms", process->host->number,
			  process->number, (long long)(ns / MS));
		process->host->unsettled = true;
		wait_ns(process, ns);
	} else if (sim_has(FAULT_HOLD)) {
		wait_ns(process, sim_exponential_ns(STREAM_STEPS, dice < 90 ? 100e3 : 10e6));
	}
}

void weir_model_step(void);
void weir_model_step(void)
{
	struct process *process = running;

	world.steps++;
	if (!process || process->until_fault == 0 || --process->until_fault > 0)
		return;
	if (may_stop())
		strike(process);
	next_fault(process);
}

/* ---- Leading ----------------------------------------------------------- */

static uint64_t clock_ns(void)
{
	return host_now(running->host);
}

static uint64_t pause_ns(void *context, unsigned shard, unsigned failures)
{
	int64_t most = MS << (failures < 10 ? failures : 10);

	(void)context;
	(void)shard;
	return 1 + sim_below(STREAM_STEPS, (uint64_t)(most > BACKOFF_MAX_NS ? BACKOFF_MAX_NS : most));
}

static int64_t turn(struct process *process)
{
	struct leader_transport transport = { network_call, pause_ns, network_lease, process,
					      clock_ns };
	int64_t interval = world.scenario.interval_ns, spent, due;
	uint64_t begin;
	enum leader_result result;

	process->tick_ns = world.now_ns;
	process->leads = leader_stand(&process->leader, host_now(process->host));
	if (!process->leads)
		return interval;
	process->tick_ns = world.now_ns;
	begin = host_now(process->host);
	result = leader_tick(&process->leader, &transport, begin);
	spent = world.now_ns - process->tick_ns;
	if (result == LEADER_MORE || result == LEADER_FENCED)
		return SPACING_NS;
	if (result == LEADER_LOST || result == LEADER_FAILED)
		sim_trace("host %u: leader %u %s", process->host->number, process->number,
			  result == LEADER_LOST ? "has lost the lead" : "fails");
	if (result == LEADER_LOST)
		return interval;
	if (result != LEADER_FAILED)
		check_host(process->host);
	if (leader_due_ns(&process->leader) < begin + (uint64_t)interval) {
		due = (int64_t)(leader_due_ns(&process->leader) - begin);
		interval = due > 0 ? due : 0;
	}
	return spent < interval ? interval - spent : SPACING_NS;
}

/* As queue_sleep(), and only the leader listens to the bell. */
static void nap(struct process *process, int64_t ns)
{
	struct segment_header *header = process->host->segment->header;

	if (!process->leads) {
		wait_ns(process, ns);
		return;
	}
	if (header->wake.asleep == WAKE_AWAKE) {
		header->wake.asleep = WAKE_ASLEEP;
		process->sleeping = true;
		wait_ns(process, ns);
		process->sleeping = false;
	}
	header->wake.asleep = WAKE_AWAKE;
}

static void run(void *argument)
{
	struct process *process = argument;

	for (;;) {
		int64_t begin = world.now_ns, sleep = turn(process);
		int64_t rest = begin + SPACING_NS - world.now_ns;

		process->tick_ns = -1;
		rest = rest < 0 ? 0 : rest < sleep ? rest : sleep;
		wait_ns(process, rest);
		if (sleep > rest)
			nap(process, sleep - rest);
	}
}

void process_start(struct host *host, struct process *process)
{
	struct segment *segment = host->segment;

	process->host = host;
	leader_end(&process->leader);
	leader_init(&process->leader, segment);
	/* Random in earnest; here it need only be another each time. */
	process->leader.id = ++host->next_id << 12;
	process->number = (unsigned)host->next_id;
	process->alive = true;
	process->sleeping = false;
	process->stopped_until_ns = 0;
	process->tick_ns = -1;
	process->message = process->held = NULL;
	next_fault(process);
	coroutine_begin(&process->coroutine, run, process);
	process_wake(process, (int64_t)sim_below(STREAM_STEPS, (uint64_t)world.scenario.interval_ns));
}

void process_kill(struct process *process)
{
	check_killed(process);
	if (process->tick_ns >= 0)
		process->host->unsettled = true;
	if (process->message)
		network_abandon(process->message);
	process->message = NULL;
	process->alive = false;
	process->serial++;
}

/* Somebody rang? */
void host_bell(struct host *host)
{
	uint64_t bell = host->segment->header->wake.bell;

	if (bell == host->bell)
		return;
	host->bell = bell;
	for (unsigned i = 0; i < SIM_PROCESSES; i++) {
		struct process *process = &host->processes[i];

		if (process->alive && process->sleeping)
			process_wake(process, 0);
		process->sleeping = false;
	}
}
