/* SPDX-License-Identifier: Apache-2.0 */
/* huge_page.h - a file of a tmpfs in huge pages. */
#ifndef WEIR_SHM_HUGE_PAGE_H
#define WEIR_SHM_HUGE_PAGE_H

#include <stdbool.h>
#include <stdint.h>

/* posix_fallocate(), whatever signals interrupt it.  0, or an error number. */
int file_allocate(int fd, uint64_t offset, uint64_t size);

/* Give the SIZE bytes of FD, which is empty, huge pages as far as they fill whole ones.
 * False if it has none, or not everywhere: the rest is for the caller to allocate. */
bool huge_page_fill(int fd, uint64_t size);

/* Map SIZE bytes of FD for reading and writing, shared, where huge pages can be mapped as
 * such.  MAP_FAILED: errno. */
void *huge_page_map(int fd, uint64_t size);

#endif
