/* SPDX-License-Identifier: Apache-2.0 */
/* quiet_pipe.h - a connection that Redis has closed must not end the program: no
 * SIGPIPE for this thread meanwhile, and none left behind. */
#ifndef WEIR_QUIET_PIPE_H
#define WEIR_QUIET_PIPE_H

#include <signal.h>
#include <stdbool.h>
#include <time.h>

struct quiet_pipe {
	sigset_t before;
	bool was_pending;
};

static inline void quiet_pipe_begin(struct quiet_pipe *quiet)
{
	sigset_t pipe_signal, pending;

	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	sigpending(&pending);
	quiet->was_pending = sigismember(&pending, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_signal, &quiet->before);
}

static inline void quiet_pipe_end(const struct quiet_pipe *quiet)
{
	const struct timespec no_wait = { 0 };
	sigset_t pipe_signal;

	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	if (!quiet->was_pending)
		sigtimedwait(&pipe_signal, NULL, &no_wait);
	pthread_sigmask(SIG_SETMASK, &quiet->before, NULL);
}

#endif
