/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-team.c - worker processes: started, watched, and never left behind.
 */
#include "replay-team.h"
#include "replay-error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_NS 200000000

/* ---- Signals ------------------------------------------------------------ */

/* One that is ignored (nohup) stays ignored. */
void replay_signals_block(struct replay_signals *signals)
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

void replay_signals_restore(const struct replay_signals *signals)
{
	sigaction(SIGCHLD, &signals->child_before, NULL);
	sigprocmask(SIG_SETMASK, &signals->before, NULL);
}

/* ---- Workers ------------------------------------------------------------ */

static _Noreturn void worker_main(struct replay_team *team, unsigned number, pid_t parent,
				  const struct replay_signals *signals)
{
	/* Where the parent cannot kill us any more, the kernel does. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(EXIT_FAILURE);
	replay_signals_restore(signals);
	team->work(team->context, number);
	/* Not _exit(): measurements of coverage and profiles are written at exit.
	 * Nothing else is: fork_workers() flushed what was buffered. */
	exit(EXIT_SUCCESS);
}

static void kill_workers(struct replay_team *team)
{
	for (unsigned i = 0; i < team->count; i++)
		if (team->pids[i] > 0)
			kill(team->pids[i], SIGKILL);
	for (unsigned i = 0; i < team->count; i++) {
		while (team->pids[i] > 0 && waitpid(team->pids[i], NULL, 0) < 0 && errno == EINTR)
			;
		team->pids[i] = 0;
	}
}

static int fork_workers(struct replay_team *team, const struct replay_signals *signals,
			struct weir_error *error)
{
	pid_t parent = getpid();

	fflush(NULL);
	for (unsigned i = 0; i < team->count; i++) {
		pid_t pid = fork();

		if (pid == 0)
			worker_main(team, i, parent, signals);
		if (pid < 0)
			return replay_error_set(
				error, WEIR_ESYSTEM,
				"cannot start worker %u of %u: %s: use fewer --workers", i + 1,
				team->count, strerror(errno));
		team->pids[i] = pid;
	}
	return 0;
}

static int worker_died(const struct replay_team *team, unsigned number, int wait_status,
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
				number + 1, team->count, how,
				(uint64_t)atomic_load(&team->workers[number].done));
}

/* Take leave of workers that have ended.  *RUNNING tells how many have not. */
static int reap_workers(struct replay_team *team, unsigned *running, struct weir_error *error)
{
	*running = 0;
	for (unsigned i = 0; i < team->count; i++) {
		int wait_status;

		if (team->pids[i] == 0)
			continue;
		if (waitpid(team->pids[i], &wait_status, WNOHANG) != team->pids[i]) {
			++*running;
			continue;
		}
		team->pids[i] = 0;
		if (!WIFEXITED(wait_status) || WEXITSTATUS(wait_status) != EXIT_SUCCESS)
			return worker_died(team, i, wait_status, error);
	}
	return 0;
}

static void show_progress(const struct replay_team *team)
{
	uint64_t done = 0;
	uint64_t all = team->requests;

	for (unsigned i = 0; i < team->count; i++)
		done += atomic_load_explicit(&team->workers[i].done, memory_order_relaxed);
	fprintf(stderr, "\rweir: replayed %" PRIu64 " of %" PRIu64 " requests (%" PRIu64 " %%)",
		done, all, done * 100 / all);
}

/* Until all workers are done, one has died, or a signal asks for the end, which
 * is then in *SIGNAL. */
static int watch_workers(struct replay_team *team, const struct replay_signals *signals,
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
		status = reap_workers(team, &running, error);
		if (status || running == 0)
			break;
		if (team->progress)
			show_progress(team);
	}
	if (team->progress)
		fputs("\r\033[K", stderr);
	return status;
}

int replay_team_run(struct replay_team *team, const struct replay_signals *signals, int *signal,
		    struct weir_error *error)
{
	int status = fork_workers(team, signals, error);

	if (!status)
		status = watch_workers(team, signals, signal, error);
	if (status)
		kill_workers(team);
	return status;
}
