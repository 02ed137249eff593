/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - what the leader tells people about policies, and about Redis. */
#ifndef WEIR_SHM_REPORT_H
#define WEIR_SHM_REPORT_H

#include "shm/segment.h"

#define REPORT_TEXT_SIZE sizeof(((struct report_record *)0)->text)
#define REPORT_PROBLEM 0u       /* what is wrong with policies in Redis; has no policy */
#define REPORT_TROUBLE 1u       /* what is wrong with Redis */
#define REPORT_FIRST 2u         /* from here on: a policy that another host has otherwise */

struct report {
	union {
		char policy[WEIR_NAME_MAX + 1];
		char kind[WEIR_NAME_MAX + 1];   /* of REPORT_TROUBLE: a word */
	};
	union {
		uint64_t host;          /* incarnation of the other host's segment */
		uint64_t since_ns;      /* of REPORT_TROUBLE: when it began */
	};
	union {
		uint64_t hosts;         /* that say the same */
		uint64_t shards;        /* of REPORT_TROUBLE: that it is about, a bit each */
	};
	char text[REPORT_TEXT_SIZE];
};

/* Write record INDEX; NULL: nothing is told there (any more). */
void report_write(const struct segment *segment, unsigned index, const struct report *report);

/* False if nothing is told there. */
bool report_read(const struct segment *segment, unsigned index, struct report *report);

#endif
