/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.c - a segment is made, opened, mapped and removed.
 *
 * What.  The file and its mapping; what is in it is segment_header.c's.
 *
 * Invariant.  Under its name a segment is whole.  It is built in a file without
 * a name (or, where the file system has no O_TMPFILE, with one that nobody
 * opens) and linked into place, which fails if the name exists.
 *
 * Crash.  A creator killed at any instruction leaves no segment or a whole one;
 * at worst, without O_TMPFILE, a file named .weir-* that is in nobody's way.
 *
 * The file is allocated with posix_fallocate, what of it has no huge pages: a sparse
 * file on a full tmpfs would end in SIGBUS at some decision.
 */
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/huge_page.h"
#include "shm/segment_header.h"

#define SHM_DIRECTORY "/dev/shm"
#define HUGE_DIRECTORY "/dev/hugepages"

#define LAYOUT_SUFFIX ".weir1"
_Static_assert(WEIR_LAYOUT_VERSION == 1, "the layout version is part of the file's name");

/* ---- Names ------------------------------------------------------------- */

static int path_in(const char *directory, const char *name, char *path, size_t size,
		   struct weir_error *error)
{
	int length;

	if (name == NULL || name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return weir_fail(error, WEIR_EINVAL,
				 "segment name \"%s\" is not a name; give a word or a path",
				 name ? name : "");
	if (strchr(name, '/'))
		length = snprintf(path, size, "%s" LAYOUT_SUFFIX, name);
	else
		length = snprintf(path, size, "%s/%s" LAYOUT_SUFFIX, directory, name);
	if (length < 0 || (size_t)length >= size)
		return weir_fail(error, WEIR_EINVAL,
				 "segment name of %zu bytes is too long; at most %zu bytes fit",
				 strlen(name), size - sizeof(SHM_DIRECTORY "/" LAYOUT_SUFFIX));
	return 0;
}

int segment_path(const char *name, char *path, size_t size, struct weir_error *error)
{
	return path_in(SHM_DIRECTORY, name, path, size, error);
}

/* ---- Create ------------------------------------------------------------ */

/* A file in DIRECTORY that has no name yet; where that cannot be, *temporary is
 * the name that it has meanwhile. */
static int open_unnamed(const char *directory, char *temporary, size_t size)
{
	int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	temporary[0] = '\0';
	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd;
	if ((size_t)snprintf(temporary, size, "%s/.weir-XXXXXX", directory) >= size) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return mkostemp(temporary, O_CLOEXEC);
}

static int file_prepare(int fd, const struct weir_options *options, uint64_t size,
			const char *path, struct weir_error *error)
{
	int failed = file_allocate(fd, 0, size);

	if (failed)
		return weir_fail(error, failed == ENOSPC || failed == EFBIG ? WEIR_ENOSPC : WEIR_ESYSTEM,
				 "no room for %llu bytes of segment at %s: %s; ask for fewer slots, "
				 "or enlarge that file system (Docker: --shm-size)",
				 (unsigned long long)size, path, strerror(failed));
	if (options->group != (gid_t)-1 && fchown(fd, (uid_t)-1, options->group) != 0)
		return weir_fail(error, WEIR_EACCES, "cannot give %s to group %u: %s", path,
				 (unsigned)options->group, strerror(errno));
	/* After creation, because of the umask. */
	if (fchmod(fd, options->mode ? options->mode : 0600) != 0)
		return weir_fail(error, WEIR_ESYSTEM, "cannot set the mode of %s: %s", path,
				 strerror(errno));
	return 0;
}

static int file_write(int fd, const void *data, size_t size)
{
	/* By mapping: hugetlbfs has no write(). */
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (base == MAP_FAILED)
		return -1;
	memcpy(base, data, sizeof(struct segment_header));
	munmap(base, size);
	return 0;
}

static int file_link(int fd, const char *temporary, const char *path, struct weir_error *error)
{
	char source[40];
	int linked;

	snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
	if (temporary[0])
		linked = link(temporary, path);
	else
		linked = linkat(AT_FDCWD, source, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
	if (linked == 0)
		return 0;
	if (errno == EEXIST)
		return weir_fail(error, WEIR_EEXIST,
				 "segment %s exists already; use it, or remove it first", path);
	return weir_fail(error, errno == EACCES || errno == EPERM ? WEIR_EACCES : WEIR_ESYSTEM,
			 "cannot put the segment at %s: %s", path, strerror(errno));
}

static int create_in(const char *path, const struct weir_options *options,
		     struct segment_header *header, uint64_t file_alignment,
		     struct weir_error *error)
{
	bool hugetlbfs = file_alignment > PAGE_ALIGN;
	char directory[256], temporary[300];
	const char *slash = strrchr(path, '/');
	uint64_t size = round_up(header->total_size, file_alignment);
	int fd, status;

	snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path), path);
	fd = open_unnamed(directory[0] ? directory : "/", temporary, sizeof(temporary));
	if (fd < 0)
		return weir_fail(error, errno == EACCES ? WEIR_EACCES :
					errno == ENOENT ? WEIR_ENOENT : WEIR_ESYSTEM,
				 "cannot make a file in %s: %s", directory, strerror(errno));
	segment_header_set_huge_pages(header, hugetlbfs || huge_page_fill(fd, size));
	status = file_prepare(fd, options, size, path, error);
	if (status == 0 && file_write(fd, header, round_up(sizeof(*header), file_alignment)) != 0)
		status = weir_fail(error, WEIR_ESYSTEM, "cannot map %s: %s", path, strerror(errno));
	if (status == 0)
		status = file_link(fd, temporary, path, error);
	if (temporary[0])
		unlink(temporary);
	close(fd);
	return status;
}

/* The size of the huge pages that a hugetlbfs at HUGE_DIRECTORY has; 0: none. */
static uint64_t huge_page_size(void)
{
	struct statfs status;

	if (statfs(HUGE_DIRECTORY, &status) != 0 || status.f_type != HUGETLBFS_MAGIC)
		return 0;
	return (uint64_t)status.f_bsize;
}

int segment_create(const char *name, const struct weir_options *options, struct weir_error *error)
{
	struct segment_header header;
	char path[256];
	uint64_t huge = options->huge_pages ? huge_page_size() : 0;
	int status = segment_header_make(options, &header, error);

	if (status == 0)
		status = segment_path(name, path, sizeof(path), error);
	if (status == 0 && access(path, F_OK) == 0)
		status = weir_fail(error, WEIR_EEXIST,
				   "segment %s exists already; use it, or remove it first", path);
	if (status)
		return status;

	if (huge && !strchr(name, '/')) {
		char huge_path[256];

		status = path_in(HUGE_DIRECTORY, name, huge_path, sizeof(huge_path), error);
		if (status == 0)
			status = create_in(huge_path, options, &header, huge, error);
		if (status == 0 || status == WEIR_EEXIST)
			return status;
		/* None are free: ordinary pages will do, weir_info() tells. */
	}
	return create_in(path, options, &header, PAGE_ALIGN, error);
}

/* ---- Open -------------------------------------------------------------- */

static bool in_group(gid_t group)
{
	gid_t groups[256];
	int count = getgroups(256, groups);

	if (group == getegid())
		return true;
	for (int i = 0; i < count; i++) {
		if (groups[i] == group)
			return true;
	}
	return false;
}

/* Anybody can make a file at the name before its owner does. */
static int file_check(const struct stat *status, const char *path, struct weir_error *error)
{
	uid_t user = geteuid();
	bool by_group = user != 0 && (status->st_mode & S_IWGRP) && in_group(status->st_gid);

	if (!S_ISREG(status->st_mode))
		return weir_fail(error, WEIR_ECORRUPT, "%s is not a regular file; give the name of a segment, or "
				 "remove it", path);
	if (status->st_uid != user && status->st_uid != 0 && !by_group)
		return weir_fail(error, WEIR_EACCES,
				 "%s belongs to user %u, who is neither this user (%u) nor root; "
				 "remove it if it should not be there",
				 path, (unsigned)status->st_uid, (unsigned)user);
	if (status->st_mode & S_IWOTH)
		return weir_fail(error, WEIR_EACCES,
				 "everybody may write to %s (mode %04o); remove it and create it anew",
				 path, (unsigned)status->st_mode & 07777);
	if (status->st_nlink > 1)
		return weir_fail(error, WEIR_EACCES,
				 "%s has %lu names; a segment has one. Remove the others", path,
				 (unsigned long)status->st_nlink);
	return 0;
}

int segment_fd_above_standard(int fd)
{
	int above, saved;

	if (fd < 0 || fd > STDERR_FILENO)
		return fd;
	above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	saved = errno;
	close(fd);
	errno = saved;
	return above;
}

static int open_failed(const char *path, struct weir_error *error)
{
	if (errno == ELOOP)
		return weir_fail(error, WEIR_EACCES,
				 "cannot open the segment %s: it is a symbolic link; give the name of "
				 "what it leads to", path);
	if (errno == EACCES)
		return weir_fail(error, WEIR_EACCES,
				 "cannot open the segment %s as user %u: %s; who uses a segment reads "
				 "and writes it: be its owner, or of its group where it was made with "
				 "--mode 0660", path, (unsigned)geteuid(), strerror(EACCES));
	return weir_fail(error, WEIR_ESYSTEM, "cannot open the segment %s: %s%s", path,
			 strerror(errno),
			 errno == EISDIR ? "; give the name of a segment" : "");
}

int segment_open_file(const char *name, int *fd, char *path, size_t path_size, dev_t *device,
		      ino_t *inode, struct weir_error *error)
{
	struct stat status;
	int result = segment_path(name, path, path_size, error);

	if (result)
		return result;
	*fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (*fd < 0 && errno == ENOENT && !strchr(name, '/') && huge_page_size()) {
		char huge[256];

		if (path_in(HUGE_DIRECTORY, name, huge, sizeof(huge), NULL) == 0) {
			*fd = open(huge, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
			if (*fd >= 0)
				snprintf(path, path_size, "%s", huge);
			else
				errno = ENOENT;
		}
	}
	*fd = segment_fd_above_standard(*fd);
	if (*fd < 0 && errno == ENOENT)
		return weir_fail(error, WEIR_ENOENT,
				 "no segment at %s; make it with `weir create`", path);
	if (*fd < 0)
		return open_failed(path, error);
	result = fstat(*fd, &status) != 0 ?
			 weir_fail(error, WEIR_ESYSTEM, "cannot look at %s: %s", path, strerror(errno)) :
			 file_check(&status, path, error);
	if (result) {
		close(*fd);
		return result;
	}
	*device = status.st_dev;
	*inode = status.st_ino;
	return 0;
}

/* Map FD whole, and check what is there.  *header is a copy: what is checked must be what
 * is used. */
static int map_checked(int fd, const char *path, uint64_t size, void **result,
		       struct segment_header *header, struct weir_error *error)
{
	void *base;
	int failed;

	if (size < PAGE_ALIGN)
		return weir_fail(error, WEIR_ECORRUPT,
				 "%s has %llu bytes, too few for a segment; remove it and create it "
				 "anew", path, (unsigned long long)size);
	base = huge_page_map(fd, size);
	if (base == MAP_FAILED)
		return weir_fail(error, WEIR_ESYSTEM, "cannot map %s: %s", path, strerror(errno));
	memcpy(header, base, sizeof(*header));
	failed = segment_header_check(header, size, error);
	if (failed) {
		munmap(base, size);
		if (error)
			weir_fail(error, failed, "%s: %s", path, error->message);
		return failed;
	}
	*result = base;
	return 0;
}

int segment_map(int fd, const char *path, struct segment **result, struct weir_error *error)
{
	struct segment *segment = calloc(1, sizeof(*segment));
	struct segment_header header;
	struct stat status;
	void *base = NULL;
	int failed;

	if (!segment)
		failed = weir_fail(error, WEIR_ENOMEM, "no memory for a handle");
	else if (fstat(fd, &status) != 0)
		failed = weir_fail(error, WEIR_ESYSTEM, "cannot look at %s: %s", path, strerror(errno));
	else
		failed = map_checked(fd, path, (uint64_t)status.st_size, &base, &header, error);
	if (failed) {
		free(segment);
		close(fd);
		return failed;
	}

	segment->size = (uint64_t)status.st_size;
	segment->device = status.st_dev;
	segment->inode = status.st_ino;
	segment->fd = fd;
	segment->mapped = true;
	snprintf(segment->path, sizeof(segment->path), "%s", path);
	segment_place(segment, &header, base);
	participant_join(segment);
	*result = segment;
	return 0;
}

void segment_unmap(struct segment *segment)
{
	participant_leave(segment);
	segment->mapped = false;
	munmap(segment->header, segment->size);
	if (segment->fd >= 0)
		close(segment->fd);
	free(segment);
}

int segment_remove(const char *name, struct weir_error *error)
{
	char path[256];
	dev_t device;
	ino_t inode;
	int fd;
	int status = segment_open_file(name, &fd, path, sizeof(path), &device, &inode, error);

	if (status)
		return status;
	close(fd);
	if (unlink(path) != 0)
		return weir_fail(error, errno == EACCES || errno == EPERM ? WEIR_EACCES : WEIR_ESYSTEM,
				 "cannot remove %s: %s", path, strerror(errno));
	return 0;
}
