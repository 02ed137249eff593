/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - one changes policies at a time.
 *
 * What.  A mutex among the threads of this process, which share one descriptor and so
 * one kernel lock; and that lock among processes, which the kernel drops when its
 * holder dies.
 *
 * Fork.  Who changes policies may wait seconds for another process.  A fork does not
 * wait for that: the child's mutex is made anew, and its descriptor is its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/segment.h"

#define LOCK_WAIT_MS 5000

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int lock_file(struct segment *segment, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = LOCK_CONTROL,
			      .l_len = 1 };

	return fcntl(segment->fd, F_OFD_SETLK, &lock);
}

static void sign(struct segment *segment)
{
	/* Relaxed: for the message below only. */
	atomic_store_relaxed(&segment->header->control.control_pid, (uint64_t)getpid());
}

static int wait_for_file(struct segment *segment, struct weir_error *error)
{
	struct timespec pause = { .tv_nsec = 1000000 };

	for (int waited = 0; lock_file(segment, F_WRLCK) != 0; waited++) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return weir_fail(error, WEIR_ESYSTEM, "cannot lock %s: %s", segment->path,
					 strerror(errno));
		if (waited >= LOCK_WAIT_MS)
			return weir_fail(error, WEIR_EBUSY,
					 "process %llu has been changing policies for %d s; if it is "
					 "stopped, let it go on or kill it",
					 (unsigned long long)atomic_load_relaxed(
						 &segment->header->control.control_pid),
					 LOCK_WAIT_MS / 1000);
		nanosleep(&pause, NULL);
	}
	return 0;
}

int segment_lock(struct segment *segment, struct weir_error *error)
{
	int status;

	pthread_mutex_lock(&mutex);
	status = wait_for_file(segment, error);
	if (status)
		pthread_mutex_unlock(&mutex);
	else
		sign(segment);
	return status;
}

bool segment_trylock(struct segment *segment)
{
	if (pthread_mutex_trylock(&mutex) != 0)
		return false;
	if (lock_file(segment, F_WRLCK) != 0) {
		pthread_mutex_unlock(&mutex);
		return false;
	}
	sign(segment);
	return true;
}

void segment_unlock(struct segment *segment)
{
	lock_file(segment, F_UNLCK);
	pthread_mutex_unlock(&mutex);
}

void segment_lock_after_fork(void)
{
	pthread_mutex_init(&mutex, NULL);
}
