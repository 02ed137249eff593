/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_queue.c - what must hold of the marks that the leader goes by.
 *
 *  clean      a bucket that is not queued has nothing to merge
 *  seen       one that is queued is marked, while no leader is at work
 *
 * A leader that was overtaken walks on when it wakes up, and clears a mark, or the summary,
 * of what the next leader has marked.  Killed then, it leaves queued what nobody looks at
 * but a scrub (queue.h): within a minute, and that is asked for at the end.  Who dies while
 * it leads is followed by a fence, which marks all.
 */
#include "sync/round.h"
#include "tests/sim/sim.h"

static struct truth *truth_of(const struct host *host, unsigned key)
{
	return &world.life[host->life].keys[key];
}

static bool is_marked(const struct host *host, const struct slot *place)
{
	const struct queue *queue = &host->segment->queue;
	uint64_t slot = (uint64_t)(place - host->segment->table.slots);

	return (queue->marks[slot / 64] >> slot % 64 & 1) &&
	       (queue->summary[slot / 64 / 64] >> (slot / 64 % 64) & 1);
}

static bool is_idle(const struct host *host)
{
	for (unsigned i = 0; i < SIM_PROCESSES; i++) {
		if (host->processes[i].alive && host->processes[i].tick_ns >= 0)
			return false;
	}
	return true;
}

void check_queued(const struct host *host, unsigned key, const struct bucket_ref *ref,
		  struct word_pair state, uint64_t merged)
{
	struct truth *truth = truth_of(host, key);

	if (!(state.second & STATE_QUEUED) && state_used(state) != merged)
		sim_fail("host %u key %u: not queued, but %llu are used and %llu merged",
			 host->number, key, (unsigned long long)state_used(state),
			 (unsigned long long)merged);
	if (is_marked(host, ref->slot))
		truth->unmarked = false;
	else if ((state.second & STATE_QUEUED) && !truth->unmarked && !host->unsettled &&
		 is_idle(host))
		sim_fail("host %u key %u: queued (%llu used, %llu merged), but no leader will see it",
			 host->number, key, (unsigned long long)state_used(state),
			 (unsigned long long)merged);
}

void check_killed(const struct process *process)
{
	const struct host *host = process->host;

	if (process->tick_ns < 0 || host->segment->header->leader.word.first == process->leader.id)
		return;
	for (unsigned key = 0; key < world.scenario.keys; key++) {
		struct bucket_ref ref;
		struct word_pair state;

		if (bucket_of(host, key, &ref, &state) && (state.second & STATE_QUEUED) &&
		    !is_marked(host, ref.slot))
			truth_of(host, key)->unmarked = true;
	}
}

int64_t check_scrub_ns(void)
{
	bool unmarked = false;

	for (unsigned i = 0; i < world.scenario.hosts; i++) {
		for (unsigned key = 0; key < world.scenario.keys; key++) {
			struct truth *truth = truth_of(&world.hosts[i], key);

			unmarked |= truth->unmarked;
			truth->unmarked = false;
		}
	}
	return unmarked ? (int64_t)SCRUB_PERIOD_NS : 0;
}
