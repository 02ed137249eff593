/* SPDX-License-Identifier: Apache-2.0 */
/*
 * huge_page.c - a file of a tmpfs in huge pages.
 *
 * Why.  A decision on one of a million keys waits for two things: for the bucket's line, and
 * for the translation of its address, which in small pages is a walk to a line of the page
 * table that is in no cache either.  A page of 2 MiB has its translation at hand.
 *
 * How.  /dev/shm has huge=never as a rule, and what is written there gets small pages.  But
 * Linux (6.1) puts the pages of a range into huge ones on demand, by MADV_COLLAPSE, which
 * asks for no setting of the system.  A block that has one small page is enough for it, and
 * is cheaper to fill so than page by page: nearly nothing is copied.
 *
 * Where that cannot be - older kernels, other file systems, pages of another size, memory
 * too scattered, a process that forbids it (PR_SET_THP_DISABLE) - there are small pages, and
 * all else is the same.
 */
#include "shm/huge_page.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SMALL_PAGE 4096u
#define HUGE_PAGE (2ull << 20)          /* a page table of small pages: x86-64, arm64 */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25                /* Linux's number; glibc has it since 2.37 */
#endif

#define ALLOCATE_ATTEMPTS 1000          /* that signals may interrupt */

int file_allocate(int fd, uint64_t offset, uint64_t size)
{
	int failed = EINTR;

	for (int attempt = 0; attempt < ALLOCATE_ATTEMPTS && failed == EINTR; attempt++)
		failed = posix_fallocate(fd, (off_t)offset, (off_t)size);
	return failed;
}

/* Can FD have huge pages at all, with SIZE bytes?  *STATUS is its file system's. */
static bool may_have_huge_pages(int fd, uint64_t size, struct statfs *status)
{
	return size >= HUGE_PAGE && sysconf(_SC_PAGESIZE) == SMALL_PAGE &&
	       fstatfs(fd, status) == 0 && status->f_type == TMPFS_MAGIC;
}

/* Has the file system room for SIZE bytes more?  One without a limit has no blocks. */
static bool has_room(const struct statfs *status, uint64_t size)
{
	return status->f_blocks == 0 || size / (uint64_t)status->f_bsize < status->f_bavail;
}

bool huge_page_fill(int fd, uint64_t size)
{
	uint64_t bytes = size / HUGE_PAGE * HUGE_PAGE;
	struct statfs status;
	bool filled;
	void *base;

	/* Without room all memory would be filled before that is found out. */
	if (!may_have_huge_pages(fd, size, &status) || !has_room(&status, size))
		return false;
	for (uint64_t offset = 0; offset < bytes; offset += HUGE_PAGE) {
		if (file_allocate(fd, offset, SMALL_PAGE) != 0)
			return false;
	}
	base = huge_page_map(fd, bytes);
	if (base == MAP_FAILED)
		return false;
	filled = madvise(base, bytes, MADV_COLLAPSE) == 0;
	munmap(base, bytes);
	return filled;
}

void *huge_page_map(int fd, uint64_t size)
{
	uint64_t room = size + HUGE_PAGE;
	unsigned char *reserved, *base;
	struct statfs status;

	if (!may_have_huge_pages(fd, size, &status))
		return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	reserved = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED)
		return MAP_FAILED;
	base = reserved + (HUGE_PAGE - (uintptr_t)reserved % HUGE_PAGE) % HUGE_PAGE;
	if (mmap(base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
		munmap(reserved, room);
		return MAP_FAILED;
	}
	/* Nobody else has what is reserved around it. */
	if (base > reserved)
		munmap(reserved, (size_t)(base - reserved));
	munmap(base + size, (size_t)(reserved + room - (base + size)));
	return base;
}
