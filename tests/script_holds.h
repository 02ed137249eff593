/* SPDX-License-Identifier: Apache-2.0 */
/* script_holds.h - the concurrency limits of script_model.h. */
#ifndef WEIR_TESTS_SCRIPT_HOLDS_H
#define WEIR_TESTS_SCRIPT_HOLDS_H

#include "tests/script_model.h"

/* What a host told of a name. */
struct kept_hold {
	uint8_t name[SCRIPT_NAME_BYTES];
	uint8_t host[SCRIPT_HOST_BYTES];
	uint64_t held;                          /* 0: nothing any more */
	int64_t told_seconds;
};

struct kept_holds {
	struct kept_hold *all;
	size_t count;
	size_t room;
};

struct script_hold_result holds_run(struct kept_holds *holds, int64_t now_seconds,
				    const uint8_t *host, const struct script_hold *item);

/* What the hosts hold of NAME together that have told so of late. */
uint64_t holds_sum(const struct kept_holds *holds, int64_t now_seconds, const uint8_t *name);

void holds_copy(struct kept_holds *to, const struct kept_holds *from);
void holds_free(struct kept_holds *holds);

#endif
