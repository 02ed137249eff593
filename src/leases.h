/* SPDX-License-Identifier: Apache-2.0 */
/* leases.h - what this host holds of mode strict, for people: see leases.c. */
#ifndef WEIR_LEASES_H
#define WEIR_LEASES_H

#include "shm/segment.h"

/* Fill in what STATUS tells of mode strict, as of NOW_NS. */
void leases_status(const struct segment *segment, uint64_t now_ns,
		   struct weir_sync_status *status);

#endif
