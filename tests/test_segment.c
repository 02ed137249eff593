/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment's file is made and removed; handles on it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/huge_page.h"
#include "src/handle.h"
#include "tests/segment_file.h"

static unsigned signals;

/* A signal comes while memory is allocated. */
int posix_fallocate(int fd, off_t offset, off_t length)
{
	if (signals > 0) {
		signals--;
		return EINTR;
	}
	return fallocate(fd, 0, offset, length) == 0 ? 0 : errno;
}

/* ---- Create ------------------------------------------------------------ */

START_TEST(create_leaves_what_exists)
{
	struct weir_info before, after;
	struct weir *weir;

	ck_assert_int_eq(weir_open(name, &weir, &error), 0);
	weir_info(weir, &before);
	ck_assert_int_eq(weir_create(name, &options, &error), WEIR_EEXIST);
	ck_assert_ptr_nonnull(strstr(error.message, path));
	weir_close(weir);
	ck_assert_int_eq(weir_open(name, &weir, &error), 0);
	weir_info(weir, &after);
	ck_assert_uint_eq(before.incarnation, after.incarnation);
	weir_close(weir);
}
END_TEST

START_TEST(create_leaves_a_dangling_link)
{
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink("elsewhere", path), 0);
	ck_assert_int_eq(weir_create(name, &options, &error), WEIR_EEXIST);
	ck_assert_uint_eq(files_in(folder), 1);
}
END_TEST

static void create_fails(int wanted)
{
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_msg(weir_create(name, &options, &error) == wanted, "status %d: %s", error.status,
		      error.message);
	ck_assert_int_eq(error.status, wanted);
	ck_assert_str_ne(error.message, "");
	ck_assert_uint_eq(files_in(folder), 0);
}

START_TEST(create_checks_its_options)
{
	struct weir_options sound = options;
	const struct weir_options bad[] = {
		{ .slots = 0 },
		{ .slots = (1ull << 32) + 1 },
		{ .slots = UINT64_MAX },
		{ .key_bytes = 1025 },
		{ .key_bytes = UINT32_MAX },
		{ .policies = 0 },
		{ .policies = 4097 },
		{ .holds = (1u << 24) + 1 },
		{ .mode = 0666 },
		{ .mode = 0700 },
		{ .mode = 01600 },
		{ .clock = (enum weir_clock)3 },
	};

	/* The one that is wrong; the others keep their defaults. */
	options.slots = _i < 3 ? bad[_i].slots : sound.slots;
	options.key_bytes = _i == 3 || _i == 4 ? bad[_i].key_bytes : sound.key_bytes;
	options.policies = _i == 5 || _i == 6 ? bad[_i].policies : sound.policies;
	options.holds = _i == 7 ? bad[_i].holds : sound.holds;
	options.mode = _i >= 8 && _i <= 10 ? bad[_i].mode : sound.mode;
	options.clock = _i == 11 ? bad[_i].clock : sound.clock;
	create_fails(WEIR_EINVAL);
	options = sound;
	ck_assert_msg(weir_create(name, &options, &error) == 0, "%s", error.message);
}
END_TEST

START_TEST(names_are_checked)
{
	static const char *const bad[] = { "", ".", "..", NULL };
	char longest[400];
	struct weir *weir;

	memset(longest, 'n', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	for (size_t i = 0; i <= LENGTH(bad); i++) {
		const char *text = i < LENGTH(bad) ? bad[i] : longest;

		ck_assert_int_eq(weir_create(text, &options, &error), WEIR_EINVAL);
		ck_assert_int_eq(weir_open(text, &weir, &error), WEIR_EINVAL);
		ck_assert_int_eq(weir_remove(text, &error), WEIR_EINVAL);
	}
}
END_TEST

START_TEST(create_rounds_up)
{
	struct weir_info info;
	struct weir *weir;

	ck_assert_int_eq(unlink(path), 0);
	options.slots = 33;
	options.key_bytes = 9;
	ck_assert_int_eq(weir_create(name, &options, &error), 0);
	ck_assert_int_eq(weir_open(name, &weir, &error), 0);
	weir_info(weir, &info);
	ck_assert_uint_eq(info.slots, 40);
	ck_assert_uint_eq(info.key_bytes, 16);
	ck_assert_uint_eq(info.layout_version, 1);
	ck_assert_str_eq(info.path, path);
	weir_close(weir);
}
END_TEST

static void mode_is(mode_t mask, mode_t wanted, mode_t made)
{
	struct stat status;

	ck_assert_int_eq(unlink(path), 0);
	options.mode = wanted;
	umask(mask);
	ck_assert_msg(weir_create(name, &options, &error) == 0, "%s", error.message);
	umask(022);
	ck_assert_int_eq(stat(path, &status), 0);
	ck_assert_uint_eq(status.st_mode & 07777, made);
	open_works();
}

START_TEST(mode_is_not_the_umasks)
{
	mode_is(0, 0600, 0600);
	mode_is(077, 0660, 0660);
	mode_is(0, 0, 0600);
}
END_TEST

START_TEST(group_is_given)
{
	struct stat status;

	if (!is_root())
		return;
	options.group = CREW;
	mode_is(077, 0660, 0660);
	ck_assert_int_eq(stat(path, &status), 0);
	ck_assert_uint_eq(status.st_gid, CREW);
}
END_TEST

START_TEST(create_needs_its_folder)
{
	char deeper[200];

	snprintf(deeper, sizeof(deeper), "%s/none/s", folder);
	ck_assert_int_eq(weir_create(deeper, &options, &error), WEIR_ENOENT);
	ck_assert_ptr_nonnull(strstr(error.message, "/none"));
}
END_TEST

/* In a mount namespace of its own, on a file system of 64 KiB. */
static void create_on_a_small_file_system(void)
{
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("tmpfs", folder, "tmpfs", 0, "size=64k") != 0) {
		fprintf(stderr, "no mount namespace: %s; not tried\n", strerror(errno));
		_exit(0);
	}
	must(weir_create(name, &options, &error) == WEIR_ENOSPC);
	must(strstr(error.message, "fewer slots"));
	must(files_in(folder) == 0);
	_exit(0);
}

START_TEST(create_finds_no_room)
{
	pid_t worker = support_fork();

	if (worker == 0)
		create_on_a_small_file_system();
	support_join(worker);
}
END_TEST

START_TEST(create_goes_on_after_signals)
{
	ck_assert_int_eq(weir_remove(name, &error), 0);
	signals = 3;
	ck_assert_msg(weir_create(name, &options, &error) == 0, "%s", error.message);
	ck_assert_uint_eq(signals, 0);
	ck_assert_int_eq(weir_remove(name, NULL), 0);
	/* But not for ever. */
	signals = UINT32_MAX;
	ck_assert_int_eq(weir_create(name, &options, &error), WEIR_ESYSTEM);
	ck_assert_uint_gt(signals, 0);
}
END_TEST

#define RACERS 16

struct race {
	int go;
	int created, existed;
	uint64_t incarnations[RACERS];
};

static void race_run(struct race *race, int racer)
{
	struct weir_info info;
	struct weir *weir;
	int status;

	while (!__atomic_load_n(&race->go, __ATOMIC_ACQUIRE))
		sched_yield();
	status = weir_create(name, &options, NULL);
	must(status == 0 || status == WEIR_EEXIST);
	__atomic_fetch_add(status == 0 ? &race->created : &race->existed, 1, __ATOMIC_RELAXED);
	must(weir_open(name, &weir, NULL) == 0);
	weir_info(weir, &info);
	race->incarnations[racer] = info.incarnation;
	weir_close(weir);
	_exit(0);
}

START_TEST(one_of_many_creators_wins)
{
	struct race *race = support_shared(sizeof(*race));
	pid_t racers[RACERS];

	for (int round = 0; round < 10; round++) {
		ck_assert_int_eq(unlink(path), 0);
		memset(race, 0, sizeof(*race));
		for (int i = 0; i < RACERS; i++) {
			racers[i] = support_fork();
			if (racers[i] == 0)
				race_run(race, i);
		}
		__atomic_store_n(&race->go, 1, __ATOMIC_RELEASE);
		for (int i = 0; i < RACERS; i++)
			support_join(racers[i]);
		ck_assert_int_eq(race->created, 1);
		ck_assert_int_eq(race->existed, RACERS - 1);
		for (int i = 1; i < RACERS; i++)
			ck_assert_uint_eq(race->incarnations[i], race->incarnations[0]);
		ck_assert_uint_eq(files_in(folder), 1);
	}
}
END_TEST

/* ---- Huge pages -------------------------------------------------------- */

#define HUGE_PAGE (2ull << 20)
#define LARGE_SLOTS 100000u     /* some 9 MiB */

/* Make a segment in /dev/shm that is large enough for huge pages. */
static struct weir *open_large(void)
{
	char large[64];
	struct weir *weir;

	snprintf(large, sizeof(large), "weir-test-huge-%ld", (long)getpid());
	options.slots = LARGE_SLOTS;
	must(weir_create(large, &options, &error) == 0);
	must(weir_open(large, &weir, &error) == 0);
	must(weir_remove(large, &error) == 0);
	return weir;
}

/* Has this machine huge pages to give, for a file of SIZE bytes like a segment's? */
static bool machine_has_huge_pages(uint64_t size)
{
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
	bool has;

	ck_assert_int_ge(fd, 0);
	has = huge_page_fill(fd, size);
	close(fd);
	return has;
}

/* The bytes of the mapping at ADDRESS that the kernel has mapped by huge pages. */
static uint64_t bytes_in_huge_pages(const void *address)
{
	FILE *maps = fopen("/proc/self/smaps", "r");
	unsigned long long begin, end, kilobytes, found = 0;
	bool inside = false;
	char line[512];

	ck_assert_ptr_nonnull(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%llx-%llx ", &begin, &end) == 2)
			inside = (uintptr_t)address >= begin && (uintptr_t)address < end;
		else if (inside && sscanf(line, "ShmemPmdMapped: %llu kB", &kilobytes) == 1)
			found = kilobytes * 1024;
	}
	fclose(maps);
	return found;
}

/* None of it is sparse, which on a full tmpfs would end in SIGBUS. */
static bool is_allocated(const struct weir *weir)
{
	struct stat status;

	must(fstat(weir->segment->fd, &status) == 0);
	return (uint64_t)status.st_blocks * 512 >= weir->segment->size;
}

/* Whatever signals come. */
START_TEST(large_segments_have_huge_pages)
{
	const volatile char *base;
	struct weir_info info;
	struct weir *weir;

	signals = 3 * (unsigned)_i;
	weir = open_large();
	ck_assert_uint_eq(signals, 0);
	base = (const volatile char *)weir->segment->header;
	weir_info(weir, &info);
	ck_assert(is_allocated(weir));
	for (uint64_t offset = 0; offset < info.size_bytes; offset += 4096)
		(void)base[offset];
	if (info.huge_pages)
		ck_assert_uint_eq(bytes_in_huge_pages((const void *)base),
				  info.size_bytes / HUGE_PAGE * HUGE_PAGE);
	else
		ck_assert(!machine_has_huge_pages(info.size_bytes));
	weir_close(weir);
}
END_TEST

/* A process without huge pages makes and opens segments as well. */
static void open_in_small_pages(void)
{
	struct weir_policy policy = support_policy("p", "1/1d", NULL);
	struct weir_info info;
	struct weir *weir;

	must(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
	weir = open_large();
	weir_info(weir, &info);
	must(!info.huge_pages);
	must(is_allocated(weir));
	support_define(weir, &policy);
	must(weir_allow(weir, weir_policy_find(weir, "p"), "key", 3, NULL));
	must(bytes_in_huge_pages(weir->segment->header) == 0);
	weir_close(weir);
	_exit(0);
}

START_TEST(small_pages_do)
{
	pid_t worker = support_fork();

	if (worker == 0)
		open_in_small_pages();
	support_join(worker);
}
END_TEST

/* ---- Open handles ------------------------------------------------------ */

static bool take(struct weir *weir)
{
	return weir_allow(weir, weir_policy_find(weir, "p"), "key", 3, NULL);
}

START_TEST(handles_share_one_mapping)
{
	struct weir_policy policy = support_policy("p", "3/1d", NULL);
	struct weir *first, *second;
	struct weir_info info;

	ck_assert_int_eq(weir_open(name, &first, &error), 0);
	ck_assert_int_eq(weir_open(name, &second, &error), 0);
	ck_assert_ptr_ne(first, second);
	ck_assert_ptr_eq(first->segment, second->segment);
	support_define(first, &policy);
	ck_assert(take(second));
	weir_info(second, &info);
	ck_assert_uint_eq(info.participants, 1);
	weir_close(first);
	ck_assert(take(second));
	weir_close(second);
	weir_close(NULL);
	/* The buckets stay. */
	ck_assert_int_eq(weir_open(name, &first, &error), 0);
	ck_assert(take(first));
	ck_assert(!take(first));
	weir_close(first);
}
END_TEST

START_TEST(removed_while_open)
{
	struct weir_policy policy = support_policy("p", "2/1d", NULL);
	struct weir *old, *new;

	ck_assert_int_eq(weir_open(name, &old, &error), 0);
	support_define(old, &policy);
	ck_assert(take(old));
	ck_assert_int_eq(weir_remove(name, &error), 0);
	open_fails(WEIR_ENOENT, path);
	ck_assert(take(old));
	ck_assert(!take(old));

	ck_assert_int_eq(weir_create(name, &options, &error), 0);
	ck_assert_int_eq(weir_open(name, &new, &error), 0);
	ck_assert_uint_ne(old->segment->incarnation, new->segment->incarnation);
	support_define(new, &policy);
	ck_assert(take(new));
	ck_assert(!take(old));
	weir_close(old);
	ck_assert(take(new));
	ck_assert(!take(new));
	weir_close(new);
}
END_TEST

/* ---- Main -------------------------------------------------------------- */

int main(void)
{
	const TTest *const create[] = {
		create_leaves_what_exists, create_leaves_a_dangling_link, names_are_checked,
		create_rounds_up,	   mode_is_not_the_umasks,	  group_is_given,
		create_needs_its_folder,   create_finds_no_room,	  one_of_many_creators_wins,
		create_goes_on_after_signals,
	};
	const TTest *const handles[] = { handles_share_one_mapping, removed_while_open };
	const TTest *const pages[] = { small_pages_do };
	Suite *suite = suite_create("segment");
	TCase *tcase = segment_file_add(suite, "create", create, LENGTH(create));

	tcase_add_loop_test(tcase, create_checks_its_options, 0, 12);
	tcase = segment_file_add(suite, "huge_pages", pages, LENGTH(pages));
	tcase_add_loop_test(tcase, large_segments_have_huge_pages, 0, 2);
	segment_file_add(suite, "handles", handles, LENGTH(handles));
	return support_main(suite);
}
