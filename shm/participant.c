/* SPDX-License-Identifier: Apache-2.0 */
/*
 * participant.c - who is alive.
 *
 * What.  A process that has the segment open holds a byte-range lock on its own
 * byte of the file.  The kernel drops the lock when the process dies, however it
 * dies and in whatever pid namespace it lived; kill(pid, 0) would lie there.
 *
 * The lock is an open-file-description lock: it belongs to the open file, which
 * a forked child shares.  A child that kept the parent's descriptor would keep a
 * dead parent alive, so it opens the file anew and closes the inherited one.
 *
 * Invariant.  A participant's id is random, so that an id names one process for
 * ever: its place may be given to another, with another id.
 *
 * Crash.  Between taking the lock and storing the id, the place still shows the
 * id of the process that had it: dead, but reported as alive for that moment.
 * Only reaping waits for it.
 *
 * Ordering.  The kernel's lock orders; ids are complete in themselves.
 */
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX_MASK ((uint64_t)PARTICIPANTS_MAX - 1)
_Static_assert((PARTICIPANTS_MAX & (PARTICIPANTS_MAX - 1)) == 0, "an id holds its index");

static bool lock_place(const struct segment *segment, uint64_t index, short type)
{
	struct flock lock = {
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = LOCK_PARTICIPANTS + (off_t)index,
		.l_len = 1,
	};

	return fcntl(segment->fd, F_OFD_SETLK, &lock) == 0;
}

static bool place_is_locked(const struct segment *segment, uint64_t index)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = LOCK_PARTICIPANTS + (off_t)index,
		.l_len = 1,
	};

	/* Not known counts as alive: nothing of a living process is ever reaped. */
	return fcntl(segment->fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

static bool take_place(struct segment *segment, uint64_t index, bool only_free)
{
	struct participant *participant = &segment->participants[index];
	uint64_t random;

	if (only_free && atomic_load_relaxed(&participant->id) != 0)
		return false;
	if (!lock_place(segment, index, F_WRLCK))
		return false;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (uint64_t)getpid() * 0x9e3779b97f4a7c15ull ^ (uintptr_t)&random;
	/* Relaxed: whoever reads the id asks the kernel for the lock. */
	segment->participant_id = (random & ~INDEX_MASK) | index | (INDEX_MASK + 1);
	atomic_store_relaxed(&participant->pid, (uint64_t)getpid());
	atomic_store_relaxed(&participant->id, segment->participant_id);
	return true;
}

bool participant_join(struct segment *segment)
{
	uint64_t start = (uint64_t)getpid() * 2654435761u & INDEX_MASK;

	for (int only_free = 1; only_free >= 0; only_free--) {
		for (uint64_t i = 0; i < PARTICIPANTS_MAX; i++) {
			if (take_place(segment, (start + i) & INDEX_MASK, only_free))
				return true;
		}
	}
	segment->participant_id = 0;
	return false;
}

void participant_leave(struct segment *segment)
{
	uint64_t index = segment->participant_id & INDEX_MASK;

	if (segment->participant_id == 0)
		return;
	atomic_store_relaxed(&segment->participants[index].id, 0);
	lock_place(segment, index, F_UNLCK);
	segment->participant_id = 0;
}

void participant_after_fork(struct segment *segment)
{
	char path[40];
	struct stat status;
	int fd, saved = errno;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", segment->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)     /* no /proc: by name, if the name still means this file */
		fd = open(segment->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && (fstat(fd, &status) != 0 || status.st_dev != segment->device ||
			status.st_ino != segment->inode)) {
		close(fd);
		fd = -1;
	}
	fd = segment_fd_above_standard(fd);
	close(segment->fd);
	segment->fd = fd;
	segment->participant_id = 0;
	if (fd >= 0)
		participant_join(segment);
	errno = saved;
}

bool participant_alive(const struct segment *segment, uint64_t id)
{
	uint64_t index = id & INDEX_MASK;

	if (id == segment->participant_id)
		return true;
	if (atomic_load_relaxed(&segment->participants[index].id) != id)
		return false;
	return place_is_locked(segment, index);
}

uint32_t participant_count(const struct segment *segment)
{
	uint32_t count = 0;

	for (uint64_t i = 0; i < PARTICIPANTS_MAX; i++) {
		uint64_t id = atomic_load_relaxed(&segment->participants[i].id);

		if (id != 0 && participant_alive(segment, id))
			count++;
	}
	return count;
}
