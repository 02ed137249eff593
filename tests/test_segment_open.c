/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file is refused when it is not what it should be: whose it is, what kind it
 * is, and what is in it.
 */
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/hash.h"
#include "shm/layout.h"
#include "tests/segment_file.h"

/* ---- Open -------------------------------------------------------------- */

START_TEST(open_says_that_there_is_none)
{
	ck_assert_int_eq(unlink(path), 0);
	open_fails(WEIR_ENOENT, path);
	ck_assert_int_eq(weir_remove(name, &error), WEIR_ENOENT);
}
END_TEST

START_TEST(open_follows_no_link)
{
	char other[200];

	snprintf(other, sizeof(other), "%s-real", path);
	ck_assert_int_eq(rename(path, other), 0);
	ck_assert_int_eq(symlink(other, path), 0);
	open_fails(WEIR_EACCES, "it is a symbolic link; give the name of what it leads to");
	ck_assert_int_eq(weir_remove(name, &error), WEIR_EACCES);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rename(other, path), 0);
	open_works();
}
END_TEST

START_TEST(open_wants_a_regular_file)
{
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	open_fails(WEIR_ECORRUPT, "not a regular file; give the name of a segment, or remove it");
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	open_fails(WEIR_ESYSTEM, path);
	ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

START_TEST(open_trusts_no_file_that_others_may_write)
{
	char other[200];

	ck_assert_int_eq(chmod(path, 0602), 0);
	open_fails(WEIR_EACCES, "mode 0602");
	ck_assert_int_eq(chmod(path, 0600), 0);
	open_works();
	snprintf(other, sizeof(other), "%s-too", path);
	ck_assert_int_eq(link(path, other), 0);
	open_fails(WEIR_EACCES, "has 2 names");
	ck_assert_int_eq(unlink(other), 0);
	open_works();
}
END_TEST

/* Open as user STRANGER, in group GROUP. */
static int open_as_stranger(gid_t group)
{
	pid_t worker = fork();
	int status;

	if (worker == 0) {
		if (setgroups(0, NULL) != 0 || setgid(group) != 0 || setuid(STRANGER) != 0)
			_exit(100);
		_exit(-open_status());
	}
	ck_assert_int_eq(waitpid(worker, &status, 0), worker);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) < 100);
	return -WEXITSTATUS(status);
}

START_TEST(open_looks_at_the_owner)
{
	if (!is_root())
		return;
	/* A squatter's file, which root could open happily. */
	ck_assert_int_eq(chown(path, STRANGER, (gid_t)-1), 0);
	open_fails(WEIR_EACCES, "belongs to user 12345");
	ck_assert_int_eq(weir_remove(name, &error), WEIR_EACCES);

	ck_assert_int_eq(chmod(folder, 0755), 0);
	ck_assert_int_eq(open_as_stranger(CREW), WEIR_OK);
	ck_assert_int_eq(chown(path, 0, 0), 0);
	ck_assert_int_eq(open_as_stranger(CREW), WEIR_EACCES);
	/* Root's and anybody's, if it is shared with the group. */
	ck_assert_int_eq(chown(path, 0, CREW), 0);
	ck_assert_int_eq(chmod(path, 0660), 0);
	ck_assert_int_eq(open_as_stranger(CREW), WEIR_OK);
	ck_assert_int_eq(open_as_stranger(CREW + 1), WEIR_EACCES);
	ck_assert_int_eq(chown(path, STRANGER + 1, CREW), 0);
	ck_assert_int_eq(open_as_stranger(CREW), WEIR_OK);
	ck_assert_int_eq(open_as_stranger(CREW + 1), WEIR_EACCES);
}
END_TEST

/* ---- What is in the file ----------------------------------------------- */

static struct segment_header header_read(void)
{
	struct segment_header header;
	int fd = open(path, O_RDONLY);

	ck_assert_int_eq(pread(fd, &header, sizeof(header), 0), sizeof(header));
	close(fd);
	return header;
}

static void header_write(const struct segment_header *header)
{
	int fd = open(path, O_WRONLY);

	ck_assert_int_eq(pwrite(fd, header, sizeof(*header), 0), sizeof(*header));
	close(fd);
}

/* As whoever made the file could have done. */
static void header_seal(struct segment_header *header)
{
	static const uint64_t key[2] = { WEIR_MAGIC, WEIR_LAYOUT_VERSION };

	header->checksum = hash_strong(key, header, offsetof(struct segment_header, checksum)).low;
	header_write(header);
}

START_TEST(open_wants_the_whole_file)
{
	off_t size = (off_t)header_read().total_size;
	const off_t sizes[] = { size - 1, 4096, 4095, 100, 1, 0 };

	ck_assert_int_eq(truncate(path, size + 4096), 0);
	open_works();
	for (size_t i = 0; i < LENGTH(sizes); i++) {
		ck_assert_int_eq(truncate(path, sizes[i]), 0);
		open_fails(WEIR_ECORRUPT, "bytes");
	}
}
END_TEST

START_TEST(open_knows_a_damaged_header)
{
	struct segment_header sound = header_read();

	header_seal(&sound);
	open_works();
	for (size_t byte = 0; byte < offsetof(struct segment_header, checksum) + 8; byte++) {
		struct segment_header damaged = sound;

		((unsigned char *)&damaged)[byte] ^= (unsigned char)(1 << byte % 8);
		header_write(&damaged);
		ck_assert_msg(open_status() != WEIR_OK, "byte %zu is not looked at", byte);
		ck_assert(error.status == WEIR_ECORRUPT || error.status == WEIR_EVERSION);
	}
	header_write(&sound);
	open_works();
}
END_TEST

START_TEST(open_knows_other_makers)
{
	struct segment_header sound = header_read(), other;

	other = sound;
	other.magic = __builtin_bswap64(other.magic);
	header_seal(&other);
	open_fails(WEIR_EVERSION, "byte order");
	other = sound;
	other.layout_version++;
	header_seal(&other);
	open_fails(WEIR_EVERSION, "layout 2");
	other = sound;
	other.header_size += 8;
	header_seal(&other);
	open_fails(WEIR_EVERSION, "layout");
	other = sound;
	other.boot_id[5] ^= 1;
	header_seal(&other);
	open_fails(WEIR_EVERSION, "reboot");
	other = sound;
	other.time_namespace++;
	header_seal(&other);
	if (sound.time_namespace)
		open_fails(WEIR_EVERSION, "time namespace");
	/* Times that the caller tells are good after a reboot as well. */
	other.boot_id[5] ^= 1;
	other.clock = WEIR_CLOCK_CALLER;
	header_seal(&other);
	open_works();
}
END_TEST

/* Numbers that do not agree, though the checksum does. */
START_TEST(open_believes_no_number)
{
	static const struct {
		size_t offset, size;
		uint64_t value;
	} lies[] = {
#define LIE(field, value)                                                                          \
	{ offsetof(struct segment_header, field), sizeof(((struct segment_header *)0)->field),     \
	  value }
		LIE(slots, 0),
		LIE(slots, 8),
		LIE(slots, 20),
		LIE(slots, 128),
		LIE(slots, 1ull << 33),
		LIE(slots, UINT64_MAX),
		LIE(key_bytes, 0),
		LIE(key_bytes, 36),
		LIE(key_bytes, UINT32_MAX),
		LIE(note_size, 0),
		LIE(note_size, 24),
		LIE(note_size, 56),
		LIE(policies, 0),
		LIE(policies, 4097),
		LIE(policies, UINT32_MAX),
		LIE(holds, UINT32_MAX),
		LIE(shards, 0),
		LIE(shards, 3),
		LIE(shards, 128),
		LIE(participants, 0),
		LIE(participants, UINT32_MAX),
		LIE(clock, 3),
		LIE(page_size, 0),
		LIE(total_size, 4096),
		LIE(total_size, UINT64_MAX),
		LIE(policies_offset, 0),
		LIE(counters_offset, UINT64_MAX),
		LIE(participants_offset, 8),
		LIE(holds_offset, 1ull << 40),
		LIE(slots_offset, 64),
		LIE(notes_offset, 4096),
		/* Slots beyond the end of the file. */
		LIE(slots, 1ull << 20),
#undef LIE
	};
	struct segment_header sound = header_read();

	for (size_t i = 0; i < LENGTH(lies); i++) {
		struct segment_header lying = sound;

		memcpy((unsigned char *)&lying + lies[i].offset, &lies[i].value, lies[i].size);
		header_seal(&lying);
		ck_assert_msg(open_status() == WEIR_ECORRUPT, "lie %zu: status %d: %s", i,
			      error.status, error.message);
	}
}
END_TEST

/* ---- Descriptors ------------------------------------------------------- */

/* A daemon may have closed its standard descriptors.  What it prints is not for us. */
START_TEST(open_takes_no_standard_descriptor)
{
	struct weir *weir;
	int status = 1;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		for (int fd = 0; fd <= 2; fd++)
			close(fd);
		if (weir_open(name, &weir, NULL) < 0)
			_exit(2);
		/* Who is forked opens the file again. */
		child = fork();
		if (child > 0 && (waitpid(child, &status, 0) != child || status != 0))
			_exit(3);
		for (int fd = 0; fd <= 2; fd++) {
			if (fcntl(fd, F_GETFD) != -1)
				_exit(4);
		}
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}
END_TEST

/* ---- Main -------------------------------------------------------------- */

int main(void)
{
	const TTest *const file[] = {
		open_says_that_there_is_none, open_follows_no_link,
		open_wants_a_regular_file,    open_trusts_no_file_that_others_may_write,
		open_looks_at_the_owner,      open_takes_no_standard_descriptor,
	};
	const TTest *const content[] = {
		open_wants_the_whole_file,
		open_knows_a_damaged_header,
		open_knows_other_makers,
		open_believes_no_number,
	};
	Suite *suite = suite_create("segment_open");

	segment_file_add(suite, "file", file, LENGTH(file));
	segment_file_add(suite, "content", content, LENGTH(content));
	return support_main(suite);
}
