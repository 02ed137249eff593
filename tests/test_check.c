/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a segment is sound, and what is said of one that is not. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/policy_table.h"
#include "src/handle.h"
#include "tests/fixture.h"
#include "tests/suite.h"

static struct weir *weir;

struct findings {
	char text[64][512];
	size_t count;
};

static void note_finding(const char *finding, void *context)
{
	struct findings *findings = context;

	ck_assert_uint_lt(findings->count, LENGTH(findings->text));
	snprintf(findings->text[findings->count++], sizeof(findings->text[0]), "%s", finding);
}

static size_t check(struct findings *findings)
{
	size_t count;

	findings->count = 0;
	count = weir_check(weir, note_finding, findings);
	ck_assert_uint_eq(count, findings->count);
	ck_assert_uint_eq(weir_check(weir, NULL, NULL), count);
	return count;
}

/* A segment that keeps its name: in a directory of the test's own, which goes
 * with it however the test ends. */
static char directory[] = "/tmp/weir-test-read-XXXXXX";
static char name[64];

static void make_directory(void)
{
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(name, sizeof(name), "%s/segment", directory);
}

static void remove_directory(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s.weir1", name);
	unlink(path);
	rmdir(directory);
}

static void open_named(void)
{
	struct weir_options options;
	struct weir_error error;

	weir_options_init(&options);
	options.slots = 64;
	options.policies = 4;
	options.holds = 4;
	weir_remove(name, NULL);
	ck_assert_msg(weir_create(name, &options, &error) == WEIR_OK, "%s", error.message);
	ck_assert_msg(weir_open(name, &weir, &error) == WEIR_OK, "%s", error.message);
}

static void close_weir(void)
{
	weir_close(weir);
}

static void use_everything(void)
{
	weir_policy_id id = fixture_set(
		weir, "p", "1000/1h, 1000/1h fixed-window, 1000/1h sliding-window");
	weir_policy_id holds = fixture_set(weir, "holds", "5 concurrency");
	struct weir_request request = { holds, "k", 1, 2, 0 };
	struct weir_hold hold;
	char key[8];

	for (int i = 0; i < 6; i++) {
		snprintf(key, sizeof(key), "%d", i);
		ck_assert(weir_allow(weir, id, key, strlen(key), NULL));
	}
	ck_assert(weir_acquire(weir, &request, &hold, NULL));
}

START_TEST(sound_segment)
{
	static struct findings findings;

	ck_assert_uint_eq(check(&findings), 0);
	use_everything();
	ck_assert_uint_eq(check(&findings), 0);
}
END_TEST

/* Damage of one kind each, and what is said of it. */
static void damage_generation(struct segment *segment)
{
	segment->table.slots[5].identity.second = 9;
	segment->table.slots[5].state.second = 77;
}

static void damage_debt(struct segment *segment)
{
	segment->table.slots[6].identity.second = 3;
	segment->table.slots[6].state.first = 1ull << 62;
	segment->table.slots[6].state.second = 3 | STATE_LIVE;
}

static void damage_policy(struct segment *segment)
{
	segment->banks[policy_version(segment) & 1][0].limits[0].limit = 0;
}

static void damage_header(struct segment *segment)
{
	segment->header->slots ^= 1;
}

static void damage_magic(struct segment *segment)
{
	segment->header->magic = 0;
}

static void orphan_hold(struct segment *segment)
{
	segment->holds.records[2].word = (struct word_pair){ 5 << 8 | 2, 0x123456789 };
}

static void remove_name(struct segment *segment)
{
	(void)segment;
	ck_assert_int_eq(weir_remove(name, NULL), WEIR_OK);
}

static void damage_many(struct segment *segment)
{
	for (int i = 0; i < 20; i++) {
		segment->table.slots[40 + i].identity.second = 9;
		segment->table.slots[40 + i].state.second = 77;
	}
}

static const struct {
	void (*plant)(struct segment *segment);
	size_t findings;
	const char *says;
} damages[] = {
	{ damage_generation, 1, "slot 5 is damaged (generations disagree); the next key that needs "
				"it empties it" },
	{ damage_debt, 1, "slot 6 has a debt of more than 800 days, which no limit allows; it "
			  "counts as none, reset the key or wait for the next request" },
	{ damage_policy, 1, "policy 0 is damaged (serial 1); set it again" },
	{ damage_header, 1, "the segment's header is damaged (checksum " },
	{ damage_magic, 1, "the file does not begin like a segment (magic 0000000000000000)" },
	{ orphan_hold, 1, "1 holds belong to dead processes; they are released when their limit is "
			  "next reached" },
	{ remove_name, 1, "was removed: processes that open it now do not share with this one; "
			  "restart the users of the old one" },
	{ damage_many, 9, "20 slots are damaged in all" },
};

START_TEST(planted_damage)
{
	static struct findings findings;
	bool said = false;

	fixture_set(weir, "p", "1000/1h");
	damages[_i].plant(weir->segment);
	ck_assert_uint_eq(check(&findings), damages[_i].findings);
	for (size_t i = 0; i < findings.count; i++)
		said |= strstr(findings.text[i], damages[_i].says) != NULL;
	ck_assert_msg(said, "%s", findings.text[0]);
}
END_TEST

/* What check() promises: the next key that needs a damaged slot empties it. */
START_TEST(damage_heals)
{
	static struct findings findings;
	weir_policy_id id = fixture_set(weir, "p", "1000/365d");
	char key[8];

	for (uint64_t i = 0; i < 64; i++) {
		weir->segment->table.slots[i].identity.second = 9;
		weir->segment->table.slots[i].state.second = 77;
	}
	ck_assert_uint_eq(check(&findings), 9);
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "%d", i);
		ck_assert(weir_allow(weir, id, key, strlen(key), NULL));
	}
	ck_assert_uint_eq(check(&findings), 0);
	ck_assert_uint_eq(fixture_counter(weir, "repaired"), 64);
}
END_TEST

START_TEST(shrunken_file)
{
	static struct findings findings;
	struct segment *segment = weir->segment;

	/* The last page holds notes, which check() does not touch. */
	ck_assert_int_eq(ftruncate(segment->fd, (off_t)segment->size - 4096), 0);
	ck_assert_uint_ge(check(&findings), 1);
	ck_assert_ptr_nonnull(strstr(findings.text[0], "the file has shrunk from "));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("check");
	TCase *cases = tcase_create("check");

	tcase_add_unchecked_fixture(cases, make_directory, remove_directory);
	tcase_add_checked_fixture(cases, open_named, close_weir);
	tcase_add_test(cases, sound_segment);
	tcase_add_loop_test(cases, planted_damage, 0, (int)LENGTH(damages));
	tcase_add_test(cases, damage_heals);
	tcase_add_test(cases, shrunken_file);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
