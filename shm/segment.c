/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.c - a segment is made, opened, mapped and removed.
 *
 * What.  A file whose regions follow from a few numbers (slots, key bytes,
 * policies, holds, purses, shards): layout_of() computes every offset, at creation to
 * place them and at opening to compare, so that no offset is taken on trust.
 *
 * Invariant.  Under its name a segment is whole.  It is built in a file without
 * a name (or, where the file system has no O_TMPFILE, with one that nobody
 * opens) and linked into place, which fails if the name exists.
 *
 * Crash.  A creator killed at any instruction leaves no segment or a whole one;
 * at worst, without O_TMPFILE, a file named .weir-* that is in nobody's way.
 *
 * The file is allocated with posix_fallocate: a sparse file on a full tmpfs
 * would end in SIGBUS at some decision.
 */
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/counter.h"
#include "shm/error.h"

#define SHM_DIRECTORY "/dev/shm"
#define HUGE_DIRECTORY "/dev/hugepages"
#define SLOTS_MIN (2ull * GROUP_SLOTS)
#define SLOTS_MAX (1ull << 32)
#define KEY_BYTES_MAX 1024u
#define POLICIES_MAX 4096u
#define HOLDS_MAX (1u << 24)
#define SHARDS_MAX 2048u
#define ALLOCATE_ATTEMPTS 1000          /* that signals may interrupt */

#define LAYOUT_SUFFIX ".weir1"
_Static_assert(WEIR_LAYOUT_VERSION == 1, "the layout version is part of the file's name");
_Static_assert(COMPACT_GROUP_SLOTS == GROUP_SLOTS, "slots of both kinds come in as many");

/* ---- Layout ------------------------------------------------------------ */

static uint64_t aligned(uint64_t offset, uint64_t alignment)
{
	return (offset + alignment - 1) / alignment * alignment;
}

static uint64_t purses_offset(const struct segment_header *header)
{
	return aligned(header->holds_offset + (uint64_t)header->holds * sizeof(struct hold_record),
		       PAGE_ALIGN);
}

/* Fill in the offsets and the total size from the counts. */
static void layout_of(struct segment_header *header)
{
	uint64_t offset = aligned(sizeof(*header), PAGE_ALIGN);

	header->policies_offset = offset;
	offset += header->policies *
		  (2 * sizeof(struct policy_record) + sizeof(struct policy_switch));
	header->counters_offset = offset = aligned(offset, PAGE_ALIGN);
	offset += header->shards * counter_lines(header->policies) * CACHE_LINE;
	header->participants_offset = offset = aligned(offset, PAGE_ALIGN);
	offset += header->participants * sizeof(struct participant);
	header->holds_offset = offset = aligned(offset, PAGE_ALIGN);
	offset = purses_offset(header) + (uint64_t)header->purses * sizeof(struct purse);
	header->slots_offset = offset = aligned(offset, PAGE_ALIGN);
	offset += header->slots * (header->compact ? sizeof(struct compact_slot) :
						     sizeof(struct slot));
	header->notes_offset = offset = aligned(offset, PAGE_ALIGN);
	header->note_size = header->key_bytes +
			    (header->sync_shards ? (uint32_t)sizeof(struct note) : 0);
	offset += header->slots * header->note_size;
	if (header->sync_shards) {
		header->sync_offset = offset = aligned(offset, PAGE_ALIGN);
		offset += header->sync_shards * sizeof(struct shard_record);
		offset += queue_words(header->slots) * 8;
		offset += queue_words(queue_words(header->slots)) * 8;
		offset = aligned(offset, CACHE_LINE) + header->slots * sizeof(struct slot_sync);
		offset += REPORTS * sizeof(struct report_record);
	} else {
		header->sync_offset = 0;
	}
	header->total_size = aligned(offset, PAGE_ALIGN);
}

static uint64_t header_checksum(const struct segment_header *header)
{
	static const uint64_t key[2] = { WEIR_MAGIC, WEIR_LAYOUT_VERSION };

	return hash_strong(key, header, offsetof(struct segment_header, checksum)).low;
}

static uint64_t time_namespace(void)
{
	struct stat status;

	return stat("/proc/self/ns/time", &status) == 0 ? status.st_ino : 0;
}

/* Zeros where there is no /proc. */
static void boot_id(uint8_t id[16])
{
	char text[64] = "", digits[33];
	size_t length = 0;
	ssize_t got = 0;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(id, 0, 16);
	if (fd < 0)
		return;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	for (ssize_t i = 0; i < got && length < 32; i++) {
		if (text[i] != '-' && text[i] != '\n')
			digits[length++] = text[i];
	}
	for (size_t i = 0; i < length / 2; i++) {
		char pair[3] = { digits[2 * i], digits[2 * i + 1], '\0' };

		id[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
}

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

static int options_check(const struct weir_options *options, struct weir_error *error)
{
	if (options->slots < 1 || options->slots > SLOTS_MAX)
		return weir_fail(error, WEIR_EINVAL, "slots %llu is out of range; give 1 to %llu",
				 (unsigned long long)options->slots, SLOTS_MAX);
	if (options->key_bytes > KEY_BYTES_MAX)
		return weir_fail(error, WEIR_EINVAL, "key bytes %u is out of range; give 0 to %u",
				 options->key_bytes, KEY_BYTES_MAX);
	if (options->policies < 1 || options->policies > POLICIES_MAX)
		return weir_fail(error, WEIR_EINVAL, "policies %u is out of range; give 1 to %u",
				 options->policies, POLICIES_MAX);
	if (options->holds > HOLDS_MAX)
		return weir_fail(error, WEIR_EINVAL, "holds %u is out of range; give 0 to %u",
				 options->holds, HOLDS_MAX);
	if (options->purses > PURSES_MAX)
		return weir_fail(error, WEIR_EINVAL, "purses %u is out of range; give 0 to %u",
				 options->purses, PURSES_MAX);
	if (options->mode & ~(mode_t)0660)
		return weir_fail(error, WEIR_EINVAL,
				 "file mode %04o gives more than reading and writing to the owner "
				 "and the group; give 0600 or 0660",
				 (unsigned)options->mode);
	if (options->clock != WEIR_CLOCK_BOOTTIME && options->clock != WEIR_CLOCK_CALLER &&
	    options->clock != WEIR_CLOCK_TSC)
		return weir_fail(error, WEIR_EINVAL,
				 "clock %d is none; give boottime, caller or tsc",
				 (int)options->clock);
	if (options->compact && options->sync)
		return weir_fail(error, WEIR_EINVAL,
				 "a compact segment has no room to sync with other hosts; leave out "
				 "either compact or sync");
	return 0;
}

static uint64_t slots_wanted(const struct weir_options *options)
{
	return options->slots <= SLOTS_MIN ? SLOTS_MIN : aligned(options->slots, GROUP_SLOTS);
}

static int header_make(const struct weir_options *options, struct segment_header *header,
		       struct weir_error *error)
{
	memset(header, 0, sizeof(*header));
	header->magic = WEIR_MAGIC;
	header->layout_version = WEIR_LAYOUT_VERSION;
	header->header_size = sizeof(*header);
	header->compact = options->compact;
	header->slots = slots_wanted(options);
	header->key_bytes = options->compact ? 0 : (options->key_bytes + 7) / 8 * 8;
	header->policies = options->policies;
	header->holds = options->compact ? 0 : options->holds;
	/* What a thread takes ahead is tokens of a slot of 64 bytes. */
	header->purses = options->compact ? 0 :
			 (options->purses + PURSES_OF_THREAD - 1) / PURSES_OF_THREAD *
				 PURSES_OF_THREAD;
	header->shards = counter_shards_wanted();
	header->participants = PARTICIPANTS_MAX;
	header->sync_shards = options->sync ? SYNC_SHARDS : 0;
	header->clock = options->clock;
	header->page_size = PAGE_ALIGN;
	header->time_namespace = time_namespace();
	boot_id(header->boot_id);
	if (getrandom(&header->incarnation, sizeof(header->incarnation), 0) !=
		    sizeof(header->incarnation) ||
	    getrandom(header->secret, sizeof(header->secret), 0) != sizeof(header->secret))
		return weir_fail(error, WEIR_ESYSTEM, "no random numbers from the kernel: %s",
				 strerror(errno));
	if (options->secret)
		memcpy(header->secret, options->secret, sizeof(header->secret));
	if (options->clock != WEIR_CLOCK_CALLER) {
		uint64_t wall_ns = clock_ns(CLOCK_REALTIME);    /* first: see plan.c */

		header->wall_offset_ns = (int64_t)(wall_ns - clock_ns(CLOCK_BOOTTIME));
	}
	header->wall.offset_ns = (uint64_t)header->wall_offset_ns;
	header->policy.next_serial = 1;
	layout_of(header);
	return 0;
}

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
	int failed = EINTR;

	for (int attempt = 0; attempt < ALLOCATE_ATTEMPTS && failed == EINTR; attempt++)
		failed = posix_fallocate(fd, 0, (off_t)size);
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
	char directory[256], temporary[300];
	const char *slash = strrchr(path, '/');
	uint64_t size = aligned(header->total_size, file_alignment);
	int fd, status;

	snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path), path);
	fd = open_unnamed(directory[0] ? directory : "/", temporary, sizeof(temporary));
	if (fd < 0)
		return weir_fail(error, errno == EACCES ? WEIR_EACCES :
					errno == ENOENT ? WEIR_ENOENT : WEIR_ESYSTEM,
				 "cannot make a file in %s: %s", directory, strerror(errno));
	status = file_prepare(fd, options, size, path, error);
	if (status == 0 && file_write(fd, header, aligned(sizeof(*header), file_alignment)) != 0)
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
	int status = options_check(options, error);

	if (status == 0)
		status = segment_path(name, path, sizeof(path), error);
	if (status == 0 && access(path, F_OK) == 0)
		status = weir_fail(error, WEIR_EEXIST,
				   "segment %s exists already; use it, or remove it first", path);
	if (status == 0)
		status = header_make(options, &header, error);
	if (status)
		return status;
	header.checksum = header_checksum(&header);

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
		return weir_fail(error, WEIR_ECORRUPT, "%s is not a regular file", path);
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
	if (*fd < 0 && errno == ENOENT)
		return weir_fail(error, WEIR_ENOENT,
				 "no segment at %s; make it with `weir create`", path);
	if (*fd < 0)
		return weir_fail(error, errno == EACCES || errno == ELOOP ? WEIR_EACCES : WEIR_ESYSTEM,
				 "cannot open the segment %s: %s", path,
				 errno == ELOOP ? "it is a symbolic link" : strerror(errno));
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

static bool slots_in_range(const struct segment_header *header)
{
	return header->slots >= SLOTS_MIN && header->slots <= SLOTS_MAX &&
	       header->slots % GROUP_SLOTS == 0;
}

/* What a compact segment cannot have. */
static bool compact_in_range(const struct segment_header *header)
{
	return header->compact == 0 ||
	       (header->compact == 1 && header->key_bytes == 0 && header->holds == 0 &&
		header->sync_shards == 0);
}

static bool counts_in_range(const struct segment_header *header)
{
	return slots_in_range(header) && compact_in_range(header) &&
	       header->key_bytes <= KEY_BYTES_MAX && header->key_bytes % 8 == 0 &&
	       header->policies >= 1 &&
	       header->policies <= POLICIES_MAX && header->holds <= HOLDS_MAX &&
	       header->purses <= PURSES_MAX && header->purses % PURSES_OF_THREAD == 0 &&
	       header->shards >= 2 && header->shards <= SHARDS_MAX &&
	       (header->shards & (header->shards - 1)) == 0 &&
	       header->participants == PARTICIPANTS_MAX && header->page_size == PAGE_ALIGN &&
	       header->clock <= WEIR_CLOCK_TSC &&
	       (header->sync_shards == 0 || header->sync_shards == SYNC_SHARDS);
}

int segment_header_check(const struct segment_header *header, uint64_t file_size,
			 struct weir_error *error)
{
	struct segment_header expected = *header;
	uint8_t boot[16];

	if (header->magic == __builtin_bswap64(WEIR_MAGIC))
		return weir_fail(error, WEIR_EVERSION,
				 "the segment was made on a machine of the other byte order; "
				 "remove it and create it anew");
	if (header->magic != WEIR_MAGIC)
		return weir_fail(error, WEIR_ECORRUPT,
				 "the file does not begin like a segment (magic %016llx); give the "
				 "name of one, or remove the file and create it anew",
				 (unsigned long long)header->magic);
	if (header->layout_version != WEIR_LAYOUT_VERSION ||
	    header->header_size != sizeof(*header))
		return weir_fail(error, WEIR_EVERSION,
				 "the segment has layout %u, this program reads layout %u; "
				 "run the version that made it, or remove it and create it anew",
				 header->layout_version, WEIR_LAYOUT_VERSION);
	if (header->checksum != header_checksum(header))
		return weir_fail(error, WEIR_ECORRUPT,
				 "the segment's header is damaged (checksum %016llx); "
				 "remove it and create it anew",
				 (unsigned long long)header->checksum);
	layout_of(&expected);
	if (!counts_in_range(header) || memcmp(&expected, header, sizeof(expected)) != 0)
		return weir_fail(error, WEIR_ECORRUPT,
				 "the segment's header contradicts itself (%llu slots); "
				 "remove it and create it anew",
				 (unsigned long long)header->slots);
	if (file_size < header->total_size)
		return weir_fail(error, WEIR_ECORRUPT,
				 "the segment's file has %llu bytes and should have %llu; "
				 "remove it and create it anew",
				 (unsigned long long)file_size,
				 (unsigned long long)header->total_size);
	if (header->clock == WEIR_CLOCK_CALLER)
		return 0;       /* its times do not depend on this machine's clock */
	boot_id(boot);
	if (memcmp(boot, header->boot_id, sizeof(boot)) != 0)
		return weir_fail(error, WEIR_EVERSION,
				 "the segment is from before the last reboot, and its clock has "
				 "restarted since; remove it and create it anew");
	if (header->time_namespace && time_namespace() &&
	    header->time_namespace != time_namespace())
		return weir_fail(error, WEIR_EVERSION,
				 "the segment was made in another time namespace, whose clock has "
				 "another offset; run both in one time namespace");
	return 0;
}

static void place_sync(struct segment *segment, const struct segment_header *header,
		       unsigned char *base)
{
	uint64_t offset = header->sync_offset;

	if (!header->sync_shards)
		return;
	segment->shards = (struct shard_record *)(base + offset);
	offset += header->sync_shards * sizeof(struct shard_record);
	segment->queue.mark_words = queue_words(header->slots);
	segment->queue.marks = (uint64_t *)(base + offset);
	offset += segment->queue.mark_words * 8;
	segment->queue.summary = (uint64_t *)(base + offset);
	offset += queue_words(segment->queue.mark_words) * 8;
	segment->slot_syncs = (struct slot_sync *)(base + aligned(offset, CACHE_LINE));
	segment->reports = (struct report_record *)(segment->slot_syncs + header->slots);
}

static void place_compact(struct segment *segment, const struct segment_header *header,
			  unsigned char *base)
{
	segment->compact = (struct compact_table){
		.slots = (struct compact_slot *)(base + header->slots_offset),
		.groups = header->slots / COMPACT_GROUP_SLOTS,
		.taken_ns = &segment->header->taken.latest_ns,
		.claims = &segment->header->taken.claims,
	};
	compact_multipliers(header->secret, segment->compact.multiplier);
}

static void place_regions(struct segment *segment, const struct segment_header *header,
			  unsigned char *base)
{
	static uint64_t mappings;

	/* Relaxed: no number is given twice, and that is all. */
	segment->mapping = 1 + atomic_fetch_add_relaxed(&mappings, 1);
	segment->header = (struct segment_header *)base;
	segment->slots = header->slots;
	if (header->compact) {
		place_compact(segment, header, base);
	} else {
		segment->table.slots = (struct slot *)(base + header->slots_offset);
		table_set_groups(&segment->table, header->slots / GROUP_SLOTS);
	}
	segment->table.holds = &segment->holds;
	segment->table.purses = &segment->purses;
	segment->table.taken_ns = &segment->header->taken.latest_ns;
	segment->holds.records = (struct hold_record *)(base + header->holds_offset);
	segment->holds.count = header->holds;
	segment->purses.all = (struct purse *)(base + purses_offset(header));
	segment->purses.count = header->purses;
	segment->purses.next = &segment->header->purse.next;
	segment->notes = base + header->notes_offset;
	segment->note_size = header->note_size;
	segment->key_bytes = header->key_bytes;
	segment->policies = header->policies;
	segment->banks[0] = (struct policy_record *)(base + header->policies_offset);
	segment->banks[1] = segment->banks[0] + header->policies;
	segment->switches = (struct policy_switch *)(segment->banks[1] + header->policies);
	segment->counters = (uint64_t *)(base + header->counters_offset);
	segment->counter_shards = header->shards;
	segment->counter_words = counter_lines(header->policies) * COUNTERS_PER_LINE;
	counter_prepare(segment);
	segment->participants = (struct participant *)(base + header->participants_offset);
	place_sync(segment, header, base);
	segment->clock = header->clock;
	segment->has_ticks = header->clock == WEIR_CLOCK_TSC && clock_has_ticks();
	segment->incarnation = header->incarnation;
	segment->wall_offset_ns = header->wall_offset_ns;
	memcpy(segment->secret, header->secret, sizeof(segment->secret));
	hash_keys_derive(&segment->hash, segment->secret);
}

int segment_map(int fd, const char *path, struct segment **result, struct weir_error *error)
{
	struct segment *segment = calloc(1, sizeof(*segment));
	struct segment_header header;
	struct stat status;
	struct statfs file_system;
	void *base = MAP_FAILED;
	int failed;

	if (!segment) {
		failed = weir_fail(error, WEIR_ENOMEM, "no memory for a handle");
		goto fail;
	}
	if (fstat(fd, &status) != 0 || fstatfs(fd, &file_system) != 0) {
		failed = weir_fail(error, WEIR_ESYSTEM, "cannot look at %s: %s", path, strerror(errno));
		goto fail;
	}
	if ((uint64_t)status.st_size < PAGE_ALIGN) {
		failed = weir_fail(error, WEIR_ECORRUPT, "%s has %lld bytes, too few for a segment",
				   path, (long long)status.st_size);
		goto fail;
	}
	base = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED) {
		failed = weir_fail(error, WEIR_ESYSTEM, "cannot map %s: %s", path, strerror(errno));
		goto fail;
	}
	/* A copy: what is checked must be what is used. */
	memcpy(&header, base, sizeof(header));
	failed = segment_header_check(&header, (uint64_t)status.st_size, error);
	if (failed) {
		if (error)
			weir_fail(error, failed, "%s: %s", path, error->message);
		goto fail;
	}

	segment->size = (uint64_t)status.st_size;
	segment->huge_pages = file_system.f_type == HUGETLBFS_MAGIC;
	segment->device = status.st_dev;
	segment->inode = status.st_ino;
	segment->fd = fd;
	segment->mapped = true;
	snprintf(segment->path, sizeof(segment->path), "%s", path);
	place_regions(segment, &header, base);
	participant_join(segment);
	*result = segment;
	return 0;
fail:
	if (base != MAP_FAILED)
		munmap(base, (size_t)status.st_size);
	free(segment);
	close(fd);
	return failed;
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
