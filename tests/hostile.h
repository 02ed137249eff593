/* SPDX-License-Identifier: Apache-2.0 */
/* hostile.h - a small segment whose bytes somebody else writes, and everything
 * that a process can be made to do with it.  For test_hostile and the fuzzer. */
#ifndef WEIR_TESTS_HOSTILE_H
#define WEIR_TESTS_HOSTILE_H

#include <stddef.h>
#include <stdint.h>

#include "shm/segment.h"
#include "weir.h"

#define HOSTILE_POLICIES 4

struct hostile {
	char name[64];                  /* of the segment; removed once it is open */
	struct weir *weir;
	const struct segment *segment;  /* how this process has it mapped */
	unsigned char *bytes;           /* all of the mapping */
	unsigned char *pristine;        /* what was there at first */
	size_t size;
	void *guards[2];                /* pages beside it that cannot be touched */
	weir_policy_id ids[HOSTILE_POLICIES];
	struct weir_hold hold;          /* of the pristine segment */
};

/* Make a segment of 16 slots with policies, buckets and a hold in it, and open
 * it, between two pages that cannot be touched. */
void hostile_start(struct hostile *hostile);

/* Put the pristine bytes back. */
void hostile_restore(struct hostile *hostile);

/* Call every function of the header; what they say must be sane, whatever the
 * segment says.  CHOICE selects keys, costs and times. */
void hostile_operate(struct hostile *hostile, uint64_t choice);

/* Write the SIZE bytes of a segment to a file and try to open it.  If that can be
 * done, operate on it.  FIX_CHECKSUM makes the header's checksum right first. */
void hostile_open(struct hostile *hostile, unsigned char *bytes, size_t size, int fix_checksum,
		  uint64_t choice);

void hostile_end(struct hostile *hostile);

#endif
