/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-run.c - the parent: makes the segment, forks the workers, watches them,
 * adds up what they found.
 */
#include "replay-run.h"
#include "replay-error.h"
#include "replay-worker.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_NS 200000000

struct signals {
	sigset_t watched;       /* blocked while workers run, and waited for */
	sigset_t before;
	struct sigaction child_before;
};

/* ---- Signals ------------------------------------------------------------ */

/* From here on a signal waits until we look for it, so that none can end this
 * process between making the segment and removing its name, or leave workers
 * behind.  One that is ignored (nohup) stays ignored. */
static void signals_block(struct signals *signals)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = SIG_DFL };

	sigemptyset(&signals->watched);
	sigaddset(&signals->watched, SIGCHLD);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct sigaction current;

		if (sigaction(ends[i], NULL, &current) == 0 && current.sa_handler != SIG_IGN)
			sigaddset(&signals->watched, ends[i]);
	}
	/* Whoever started us may have ignored SIGCHLD: then no child can be waited for. */
	sigaction(SIGCHLD, &action, &signals->child_before);
	sigprocmask(SIG_BLOCK, &signals->watched, &signals->before);
}

static void signals_restore(const struct signals *signals)
{
	sigaction(SIGCHLD, &signals->child_before, NULL);
	sigprocmask(SIG_SETMASK, &signals->before, NULL);
}

/* ---- Segment ------------------------------------------------------------ */

static int make_segment(struct replay_crew *crew, const struct replay_options *options,
			struct weir_error *error)
{
	const struct replay_plan *plan = crew->plan;
	struct weir_options segment;
	char name[64];
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return replay_error_set(error, WEIR_ESYSTEM, "cannot get random bytes: %s",
					strerror(errno));
	snprintf(name, sizeof(name), "weir-replay-%ld-%016" PRIx64, (long)getpid(), random);

	weir_options_init(&segment);
	segment.slots = options->slots;
	segment.key_bytes = 0;
	segment.policies = plan->policy_count + plan->alone_count;
	segment.holds = 0;
	if (options->speed == REPLAY_SPEED_LOG)
		segment.clock = WEIR_CLOCK_CALLER;

	int status = weir_create(name, &segment, error);

	if (status)
		return status;
	status = weir_open(name, &crew->weir, error);

	/* The workers inherit the handle: nobody needs the name any more. */
	int removed = weir_remove(name, status ? NULL : error);

	if (status)
		return status;
	if (removed)
		return removed;
	return weir_policy_set(crew->weir, plan->policies, segment.policies, error);
}

static int find_policies(struct replay_crew *crew, struct weir_error *error)
{
	uint32_t count = crew->plan->policy_count + crew->plan->alone_count;

	crew->policies = calloc(count, sizeof(*crew->policies));
	if (!crew->policies)
		return replay_error_set(error, WEIR_ENOMEM, "no memory for %u policies", count);
	for (uint32_t i = 0; i < count; i++) {
		const char *name = crew->plan->policies[i].name;

		crew->policies[i] = weir_policy_find(crew->weir, name);
		if (crew->policies[i] == WEIR_NO_POLICY)
			return replay_error_set(error, WEIR_ENOENT,
						"the policy %s has vanished from the segment",
						name);
	}
	return 0;
}

/* ---- Shared memory ------------------------------------------------------ */

/* Each worker writes to lines of its own: a block per worker in each array. */
static size_t rounded(size_t count)
{
	return (count + 63) & ~(size_t)63;
}

static int map_shared(struct replay_crew *crew, struct replay_result *result,
		      struct weir_error *error)
{
	size_t policies = crew->plan->policy_count;
	size_t requests = crew->input->request_count;

	crew->block_requests = rounded((requests + crew->workers - 1) / crew->workers);
	crew->block_tallies = rounded(policies + crew->plan->alone_count);

	/* Below 64 x (2^31 + 2^31 x 2^12 x 4): no overflow. */
	size_t tallies = sizeof(struct replay_tally) * crew->workers * crew->block_tallies;
	size_t outcomes = (size_t)crew->workers * crew->block_requests;
	size_t samples = sizeof(uint32_t) * crew->workers * crew->block_requests * policies;
	size_t head = rounded(sizeof(struct replay_shared));

	result->memory_size = head + tallies + outcomes + samples;
	result->memory = mmap(NULL, result->memory_size, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (result->memory == MAP_FAILED) {
		result->memory = NULL;
		return replay_error_set(error, WEIR_ENOMEM,
					"cannot map %zu bytes for the results of %zu requests: %s: "
					"replay a part of the log", result->memory_size, requests,
					strerror(errno));
	}

	char *at = result->memory;

	crew->shared = (struct replay_shared *)at;
	crew->tallies = (struct replay_tally *)(at + head);
	crew->samples = (uint32_t *)(at + head + tallies);
	crew->outcomes = (uint8_t *)(at + head + tallies + samples);

	pthread_barrierattr_t attributes;

	pthread_barrierattr_init(&attributes);
	pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&crew->shared->barrier, &attributes, crew->workers);
	pthread_barrierattr_destroy(&attributes);
	return 0;
}

/* ---- Workers ------------------------------------------------------------ */

static _Noreturn void worker_main(struct replay_crew *crew, unsigned number, pid_t parent,
				  const struct signals *signals)
{
	/* Where the parent cannot kill us any more, the kernel does. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(EXIT_FAILURE);
	signals_restore(signals);
	replay_work(crew, number);
	/* Not _exit(): measurements of coverage and profiles are written at exit.
	 * Nothing else is: fork_workers() flushed what was buffered. */
	exit(EXIT_SUCCESS);
}

static void kill_workers(struct replay_crew *crew)
{
	for (unsigned i = 0; i < crew->workers; i++)
		if (crew->pids[i] > 0)
			kill(crew->pids[i], SIGKILL);
	for (unsigned i = 0; i < crew->workers; i++) {
		while (crew->pids[i] > 0 && waitpid(crew->pids[i], NULL, 0) < 0 && errno == EINTR)
			;
		crew->pids[i] = 0;
	}
}

static int fork_workers(struct replay_crew *crew, const struct signals *signals,
			struct weir_error *error)
{
	pid_t parent = getpid();

	fflush(NULL);
	for (unsigned i = 0; i < crew->workers; i++) {
		pid_t pid = fork();

		if (pid == 0)
			worker_main(crew, i, parent, signals);
		if (pid < 0)
			return replay_error_set(
				error, WEIR_ESYSTEM,
				"cannot start worker %u of %u: %s: use fewer --workers", i + 1,
				crew->workers, strerror(errno));
		crew->pids[i] = pid;
	}
	return 0;
}

static int worker_died(const struct replay_crew *crew, unsigned number, int wait_status,
		       struct weir_error *error)
{
	char how[64];

	if (WIFSIGNALED(wait_status))
		snprintf(how, sizeof(how), "was killed by signal %d (%s)", WTERMSIG(wait_status),
			 strsignal(WTERMSIG(wait_status)));
	else
		snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(wait_status));
	return replay_error_set(error, WEIR_ESYSTEM,
				"worker %u of %u %s after %" PRIu64 " of its requests, and the "
				"totals would be wrong: start the replay again",
				number + 1, crew->workers, how,
				(uint64_t)atomic_load(&crew->shared->workers[number].done));
}

/* Take leave of workers that have ended.  *RUNNING tells how many have not. */
static int reap_workers(struct replay_crew *crew, unsigned *running, struct weir_error *error)
{
	*running = 0;
	for (unsigned i = 0; i < crew->workers; i++) {
		int wait_status;

		if (crew->pids[i] == 0)
			continue;
		if (waitpid(crew->pids[i], &wait_status, WNOHANG) != crew->pids[i]) {
			++*running;
			continue;
		}
		crew->pids[i] = 0;
		if (!WIFEXITED(wait_status) || WEXITSTATUS(wait_status) != EXIT_SUCCESS)
			return worker_died(crew, i, wait_status, error);
	}
	return 0;
}

static void show_progress(const struct replay_crew *crew)
{
	uint64_t done = 0;
	uint64_t all = crew->input->request_count;

	for (unsigned i = 0; i < crew->workers; i++)
		done += atomic_load_explicit(&crew->shared->workers[i].done, memory_order_relaxed);
	fprintf(stderr, "\rweir: replayed %" PRIu64 " of %" PRIu64 " requests (%" PRIu64 " %%)",
		done, all, done * 100 / all);
}

/* Until all workers are done, one has died, or a signal asks for the end, which
 * is then in *SIGNAL. */
static int watch_workers(struct replay_crew *crew, const struct signals *signals, bool progress,
			 int *signal, struct weir_error *error)
{
	const struct timespec wait = { .tv_nsec = PROGRESS_NS };
	unsigned running;
	int status;

	for (;;) {
		int got = sigtimedwait(&signals->watched, NULL, &wait);

		if (got > 0 && got != SIGCHLD) {
			*signal = got;
			status = replay_error_set(error, WEIR_ESYSTEM, "interrupted: %s",
						  strsignal(got));
			break;
		}
		status = reap_workers(crew, &running, error);
		if (status || running == 0)
			break;
		if (progress)
			show_progress(crew);
	}
	if (progress)
		fputs("\r\033[K", stderr);
	return status;
}

/* ---- Results ------------------------------------------------------------ */

static void add_tally(struct replay_tally *sum, const struct replay_tally *tally)
{
	sum->allowed += tally->allowed;
	sum->denied += tally->denied;
	sum->unavailable += tally->unavailable;
	sum->shadowed += tally->shadowed;
	sum->flagged += tally->flagged;
	sum->undecided += tally->undecided;
}

/* The workers' blocks, packed at the front of their array. */
static size_t pack_samples(const struct replay_crew *crew)
{
	size_t policies = crew->plan->policy_count;
	size_t packed = 0;

	for (unsigned i = 0; i < crew->workers; i++) {
		size_t count = replay_share(crew, i) * policies;

		memmove(crew->samples + packed, crew->samples + i * crew->block_requests * policies,
			count * sizeof(*crew->samples));
		packed += count;
	}
	return packed;
}

static uint64_t evicted_live(const struct weir *weir)
{
	const struct weir_counter *counter;

	for (unsigned i = 0; (counter = weir_counter(i)) != NULL; i++)
		if (strcmp(counter->name, "evicted_live") == 0)
			return weir_counter_read(weir, i, NULL);
	return 0;
}

static int collect(const struct replay_crew *crew, struct replay_result *result,
		   struct weir_error *error)
{
	uint32_t policies = crew->plan->policy_count + crew->plan->alone_count;
	uint32_t requests = crew->input->request_count;
	uint64_t start_ns = UINT64_MAX, end_ns = 0;

	result->tallies = calloc(policies, sizeof(*result->tallies));
	result->outcomes = malloc(requests);
	if (!result->tallies || !result->outcomes)
		return replay_error_set(error, WEIR_ENOMEM,
					"no memory for the results of %u requests", requests);

	for (unsigned i = 0; i < crew->workers; i++) {
		const struct replay_worker *worker = &crew->shared->workers[i];

		for (uint32_t j = 0; j < policies; j++)
			add_tally(&result->tallies[j], &crew->tallies[i * crew->block_tallies + j]);
		start_ns = worker->start_ns < start_ns ? worker->start_ns : start_ns;
		end_ns = worker->end_ns > end_ns ? worker->end_ns : end_ns;
	}
	for (uint32_t i = 0; i < requests; i++) {
		result->outcomes[i] = crew->outcomes[replay_place(crew, i)];
		result->allowed += result->outcomes[i] == REPLAY_ALLOWED;
		result->denied += result->outcomes[i] == REPLAY_DENIED;
		result->unavailable += result->outcomes[i] == REPLAY_UNAVAILABLE;
	}
	result->elapsed_ns = end_ns - start_ns;
	result->decisions = pack_samples(crew);
	replay_latency_of(crew->samples, result->decisions, &result->latency);
	result->evicted_live = evicted_live(crew->weir);
	return 0;
}

int replay_run(const struct replay_input *input, const struct replay_plan *plan,
	       const struct replay_options *options, struct replay_result *result,
	       struct weir_error *error)
{
	struct replay_crew crew = {
		.input = input,
		.plan = plan,
		.speed = options->speed,
		.workers = options->workers,
	};
	struct signals signals;
	int signal = 0;

	*result = (struct replay_result){ 0 };
	signals_block(&signals);

	int status = make_segment(&crew, options, error);

	if (!status)
		status = find_policies(&crew, error);
	if (!status)
		status = map_shared(&crew, result, error);
	if (!status)
		status = fork_workers(&crew, &signals, error);
	if (!status)
		status = watch_workers(&crew, &signals, options->progress, &signal, error);
	if (status)
		kill_workers(&crew);
	else
		status = collect(&crew, result, error);

	weir_close(crew.weir);
	free(crew.policies);
	signals_restore(&signals);
	if (status)
		replay_result_free(result);
	if (signal)
		raise(signal);  /* end as who sent it expects */
	return status;
}

void replay_result_free(struct replay_result *result)
{
	if (result->memory)
		munmap(result->memory, result->memory_size);
	free(result->tallies);
	free(result->outcomes);
	*result = (struct replay_result){ 0 };
}
