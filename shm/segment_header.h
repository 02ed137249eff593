/* SPDX-License-Identifier: Apache-2.0 */
/* segment_header.h - what a segment says of itself: for those who have the file. */
#ifndef WEIR_SHM_SEGMENT_HEADER_H
#define WEIR_SHM_SEGMENT_HEADER_H

#include "shm/segment.h"

static inline uint64_t round_up(uint64_t offset, uint64_t alignment)
{
	return (offset + alignment - 1) / alignment * alignment;
}

/* The header of a segment as OPTIONS ask for it.  Errors: WEIR_EINVAL, WEIR_ESYSTEM. */
int segment_header_make(const struct weir_options *options, struct segment_header *header,
			struct weir_error *error);

/* HEADER says whether the file has huge pages, which its maker learns last. */
void segment_header_set_huge_pages(struct segment_header *header, bool huge_pages);

/* Sound enough to be mapped?  HEADER is a copy, FILE_SIZE the real length. */
int segment_header_check(const struct segment_header *header, uint64_t file_size,
			 struct weir_error *error);

/* Where the regions of a mapping at BASE are, by a HEADER that was checked. */
void segment_place(struct segment *segment, const struct segment_header *header,
		   unsigned char *base);

#endif
