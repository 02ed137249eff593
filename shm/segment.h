/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - one process's mapping of a segment.
 *
 * Everything that addresses memory was checked when the segment was opened and
 * is kept here, outside of the segment: a number in shared memory may change
 * under us and is never used as an index again.
 */
#ifndef WEIR_SHM_SEGMENT_H
#define WEIR_SHM_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "weir.h"
#include "shm/compact.h"
#include "shm/hold.h"
#include "shm/layout.h"
#include "shm/purse.h"
#include "shm/queue.h"
#include "shm/table.h"

struct segment {
	struct segment_header *header;
	uint64_t mapping;               /* this one's number: no other of this process has it */
	uint64_t size;
	struct table table;             /* unless the segment is compact */
	struct holds holds;
	struct purses purses;
	unsigned char *notes;           /* note_size bytes for each slot */
	uint64_t slots;
	uint32_t note_size;
	uint32_t key_bytes;
	uint32_t policies;
	struct policy_record *banks[2];
	struct policy_switch *switches;
	uint64_t *counters;
	uint32_t counter_shards;
	uint64_t counter_words;         /* of a shard */
	uint64_t counter_bytes;         /* of a shard */
	uint32_t counter_processors;    /* that have a shard of their own */
	int64_t counter_area;           /* where a thread's struct rseq is, from its pointer */
	struct participant *participants;
	/* For segments that sync; else shards is NULL. */
	struct shard_record *shards;
	struct queue queue;
	struct slot_sync *slot_syncs;
	struct report_record *reports;
	struct sync *sync;              /* this process's sync thread, if it has one */
	enum weir_clock clock;
	bool has_ticks;                 /* WEIR_CLOCK_TSC, and the kernel trusts it */
	bool huge_pages;
	uint64_t secret[2];
	struct hash_keys hash;          /* from the secret */
	uint64_t incarnation;
	int64_t wall_offset_ns;
	int fd;
	dev_t device;
	ino_t inode;
	char path[256];

	/* This process among the participants; 0: not registered. */
	uint64_t participant_id;

	/* Read by every decision, and cleared before the mapping goes: shows a
	 * thread sanitizer a reader that outlived the grace period. */
	bool mapped;

	struct compact_table compact;   /* instead of table, in a compact segment */
};

/* The file of segment NAME.  Errors: WEIR_EINVAL. */
int segment_path(const char *name, char *path, size_t size, struct weir_error *error);

int segment_create(const char *name, const struct weir_options *options, struct weir_error *error);

/* FD (-1: errno), or, where it is a standard descriptor, another one in its stead: what a
 * process prints that had those closed must not be written over a segment. */
int segment_fd_above_standard(int fd);

/* Open and check the file, without mapping it yet: *device and *inode tell
 * whether the process has it already. */
int segment_open_file(const char *name, int *fd, char *path, size_t path_size, dev_t *device,
		      ino_t *inode, struct weir_error *error);

/* Map FD, which the segment owns from then on (closed on failure too). */
int segment_map(int fd, const char *path, struct segment **segment, struct weir_error *error);
void segment_unmap(struct segment *segment);

int segment_remove(const char *name, struct weir_error *error);

/* Exclude other policy writers, of this and of other processes.  The kernel
 * drops the lock of a process that dies.  Errors: WEIR_EBUSY after 5 s. */
int segment_lock(struct segment *segment, struct weir_error *error);
bool segment_trylock(struct segment *segment);  /* false at once if another does */
void segment_unlock(struct segment *segment);

/* In a forked child, where who held it does not exist. */
void segment_lock_after_fork(void);

/* ---- participant.c ----------------------------------------------------- */

/* Become a participant, so that others can tell when this process has died.
 * False if there is no room; holds are then not to be had. */
bool participant_join(struct segment *segment);
void participant_leave(struct segment *segment);

/* In a forked child: descriptors and a participant of its own.
 * Async-signal-safe. */
void participant_after_fork(struct segment *segment);

/* Is the participant alive?  One system call unless it is this process. */
bool participant_alive(const struct segment *segment, uint64_t id);
uint32_t participant_count(const struct segment *segment);

/* ---- check.c ----------------------------------------------------------- */

size_t segment_check(const struct segment *segment,
		     void (*report)(const char *finding, void *context), void *context);

/* How many hosts a limit is shared by, as far as is known: 1 or more. */
static inline uint64_t segment_hosts(const struct segment *segment,
				     const struct shard_record *shard)
{
	/* Relaxed: numbers that are good by themselves. */
	uint64_t count = atomic_load_relaxed(&shard->hosts);

	if (count == 0)
		count = atomic_load_relaxed(&segment->header->sync.expected_hosts);
	return count < 1 ? 1 : count > 1000000 ? 1000000 : count;
}

/*
 * The tokens of a bucket that may be unmerged before the leader hurries: a fifth of the CAP.
 * Without one (0), all COUNT hosts together, if they have as many, a 64th of the burst.  So
 * hosts at a limit hear of each other while it matters; docs/sync.md has what it costs.
 */
static inline uint64_t segment_wake(uint64_t burst, uint64_t cap, uint64_t count)
{
	return cap ? cap / 5 : burst / (64 * count);
}

#endif
