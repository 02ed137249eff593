/* SPDX-License-Identifier: Apache-2.0 */
/* acquire: run a command while holding a unit of a concurrency limit. */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a shell answers for a command that cannot be run, or that was killed. */
#define STATUS_NOT_EXECUTABLE 126
#define STATUS_NOT_FOUND 127
#define STATUS_SIGNAL 128

static volatile sig_atomic_t command_pid;

/* A signal that was sent to us alone is meant for the command. */
static void forward_signal(int signal)
{
	int saved_errno = errno;

	if (command_pid > 0)
		kill((pid_t)command_pid, signal);
	errno = saved_errno;
}

/* The terminal sends these to the command as well: it decides, we wait. */
static const int terminal_signals[] = { SIGINT, SIGQUIT };
static const int forwarded_signals[] = { SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 };

#define SIGNAL_COUNT(signals) (sizeof(signals) / sizeof((signals)[0]))

static void block_signals(sigset_t *previous)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < SIGNAL_COUNT(terminal_signals); i++)
		sigaddset(&set, terminal_signals[i]);
	for (size_t i = 0; i < SIGNAL_COUNT(forwarded_signals); i++)
		sigaddset(&set, forwarded_signals[i]);
	sigprocmask(SIG_BLOCK, &set, previous);
}

static void catch_signals(void)
{
	struct sigaction forward = { .sa_handler = forward_signal, .sa_flags = SA_RESTART };
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	for (size_t i = 0; i < SIGNAL_COUNT(terminal_signals); i++)
		sigaction(terminal_signals[i], &ignore, NULL);
	for (size_t i = 0; i < SIGNAL_COUNT(forwarded_signals); i++) {
		struct sigaction current;

		/* What our parent had ignored (nohup) the command ignores, too. */
		if (sigaction(forwarded_signals[i], NULL, &current) == 0 &&
		    current.sa_handler != SIG_IGN)
			sigaction(forwarded_signals[i], &forward, NULL);
	}
}

static _Noreturn void run_command(char **command, pid_t parent, const sigset_t *signals)
{
	int status;

	/* If weir is killed its hold is freed.  A command that went on would run
	 * without one. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(STATUS_SIGNAL + SIGTERM);

	sigprocmask(SIG_SETMASK, signals, NULL);
	execvp(command[0], command);
	status = errno == ENOENT || errno == ENOTDIR ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
	cli_warn("cannot run \"%s\": %s", command[0], strerror(errno));
	_exit(status);
}

static int run_and_wait(struct cli *cli, char **command)
{
	pid_t parent = getpid();
	sigset_t previous;
	int status;
	pid_t pid;

	/* Ignored, as some parents leave it, it would take the status away. */
	signal(SIGCHLD, SIG_DFL);

	/* Blocked from before the fork until the handlers know the pid: none is
	 * lost, and the command is never killed by one that was not for it. */
	block_signals(&previous);
	pid = fork();
	if (pid < 0) {
		cli_warn("cannot fork for \"%s\": %s", command[0], strerror(errno));
		sigprocmask(SIG_SETMASK, &previous, NULL);
		return CLI_ERROR;
	}
	if (pid == 0)
		run_command(command, parent, &previous);
	command_pid = pid;
	catch_signals();
	sigprocmask(SIG_SETMASK, &previous, NULL);

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			cli_die(cli, "cannot wait for \"%s\": %s", command[0], strerror(errno));
	}
	command_pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : STATUS_SIGNAL + WTERMSIG(status);
}

/* The words of the command.  They follow "--"; where an earlier "--" let POLICY
 * or KEY begin with a dash, they follow the second one. */
static char **find_command(struct cli *cli)
{
	if (cli->operands_before_dashes == 2)
		return cli->operands + 2;
	if (cli->operands_before_dashes < 2 && cli->operand_count > 3 &&
	    strcmp(cli->operands[2], "--") == 0)
		return cli->operands + 3;
	cli_die(cli, "the command must stand behind \"--\": use `weir acquire %s`",
		cli->command->synopsis);
}

static int tell_refusal(const struct weir_decision *decision)
{
	if (decision->outcome == WEIR_UNAVAILABLE) {
		cli_warn("rate limiter unavailable: %s", cli_reason_sentence(decision->reason));
		return CLI_UNAVAILABLE;
	}
	cli_warn("denied: %llu of %llu remaining; the command was not run",
		 (unsigned long long)decision->remaining, (unsigned long long)decision->limit);
	return CLI_DENIED;
}

int cmd_acquire(struct cli *cli, int argc, char **argv)
{
	uint64_t cost = 1;
	uint64_t now_ns = 0;
	const struct cli_option options[] = {
		{ "cost", "N", "units to hold (default 1)", CLI_NUMBER, &cost, 1, WEIR_COUNT_MAX },
		CLI_OPTION_NOW(&now_ns),
		CLI_OPTION_SEGMENT(cli),
		{ 0 },
	};
	struct weir_decision decision;
	struct weir_request request;
	struct weir_hold hold;
	char **command;
	int status;

	cli_parse(cli, argc, argv, options, 3, SIZE_MAX);
	command = find_command(cli);
	cli_open(cli);
	request = (struct weir_request){
		.policy = cli_find_policy(cli, cli->operands[0]),
		.key = cli->operands[1],
		.key_length = strlen(cli->operands[1]),
		.cost = cost,
		.now_ns = now_ns,
	};
	cli_check_now(cli, now_ns, false);
	if (!weir_acquire(cli->weir, &request, &hold, &decision))
		return tell_refusal(&decision);

	status = run_and_wait(cli, command);
	if (weir_release(cli->weir, &hold) < 0)
		cli_warn("the hold on \"%s\" was gone before the command ended: another process "
			 "took this one for dead", cli->operands[0]);
	return status;
}
