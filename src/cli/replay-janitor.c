/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-janitor.h"
#include "cli.h"
#include "replay-error.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Until nobody has the other end of the pipe any more. */
static void wait_for_the_end(int fd)
{
	char byte;

	while (read(fd, &byte, 1) < 0 && errno == EINTR)
		;
}

static _Noreturn void work(int fd, const struct weir_sync_options *sync,
			   const _Atomic bool *written)
{
	struct weir_error error;
	sigset_t all;

	/* A terminal's signals end the replay, and find this one at work. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	wait_for_the_end(fd);
	if (weir_sync_erase(sync, &error) && atomic_load(written))
		cli_warn("keys that begin with \"%s\" are left in Redis for seven days, delete "
			 "them: %s", sync->prefix, error.message);
	exit(EXIT_SUCCESS);
}

int replay_janitor_start(struct replay_janitor *janitor, const struct weir_sync_options *sync,
			 const _Atomic bool *written, struct weir_error *error)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		return replay_error_set(error, WEIR_ESYSTEM, "cannot make a pipe: %s",
					strerror(errno));
	fflush(NULL);
	janitor->pid = fork();
	if (janitor->pid == 0) {
		close(ends[1]);
		work(ends[0], sync, written);
	}
	close(ends[0]);
	janitor->fd = ends[1];
	if (janitor->pid < 0) {
		close(ends[1]);
		return replay_error_set(error, WEIR_ESYSTEM, "cannot start a process: %s",
					strerror(errno));
	}
	return 0;
}

void replay_janitor_release(struct replay_janitor *janitor)
{
	close(janitor->fd);
	while (waitpid(janitor->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
