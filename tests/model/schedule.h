/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.h - show a person what happened, step by step. */
#ifndef WEIR_TESTS_SCHEDULE_H
#define WEIR_TESTS_SCHEDULE_H

#include "tests/model/model.h"

#define MODEL_REGIONS_MAX 16

struct model_region {
	const char *name;
	unsigned char *memory;
	size_t size;
	size_t offset;          /* of its copy in an image */
};

/* Step INDEX: THREAD made its access at WHERE, or was KILLED; and what changed in
 * the regions against the image BEFORE. */
void schedule_print(unsigned index, unsigned thread, bool killed, const void *where,
		    const struct model_region *regions, unsigned region_count,
		    const unsigned char *before);

#endif
