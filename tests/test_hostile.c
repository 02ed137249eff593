/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every byte of the mapping may be anything, at the start or at any moment:
 * nobody crashes, loops for ever or touches memory outside of the mapping, and
 * what is answered is sane.  (A mapping that is truncated is another matter: that
 * ends in SIGBUS, as the manual says.)
 */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/hostile.h"
#include "tests/support.h"

#define HANG_S 100              /* a loop without an end, not a slow machine */

static struct hostile hostile;
static uint64_t seed;
static uint64_t round_number;

static void hang(int signal_number)
{
	static const char text[] = "a hostile segment made an operation endless\n";

	(void)signal_number;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) > 0)
		abort();
}

static void setup(void)
{
	seed = support_seed();
	hostile_start(&hostile);
	signal(SIGALRM, hang);
	alarm(HANG_S * (unsigned)support_amount(1, 30));
}

static void teardown(void)
{
	hostile_end(&hostile);
}

/* ---- Corruption -------------------------------------------------------- */

struct region {
	size_t offset;
	size_t size;
};

#define REGIONS 9

static struct region region_at(const void *start, size_t size)
{
	return (struct region){ (size_t)((const unsigned char *)start - hostile.bytes), size };
}

static struct region region(unsigned which)
{
	const struct segment *segment = hostile.segment;
	size_t banks = segment->policies * sizeof(struct policy_record);

	switch (which) {
	case 0:
		return region_at(segment->header, sizeof(struct segment_header));
	case 1:
		return region_at(segment->banks[0], banks);
	case 2:
		return region_at(segment->banks[1], banks);
	case 3:
		return region_at(segment->switches,
				 segment->policies * sizeof(struct policy_switch));
	case 4:
		return region_at(segment->counters, 4 * CACHE_LINE);
	case 5:
		return region_at(segment->participants, 64 * sizeof(struct participant));
	case 6:
		return region_at(segment->holds.records,
				 segment->holds.count * sizeof(struct hold_record));
	case 7:
		return region_at(segment->table.slots, segment->slots * sizeof(struct slot));
	default:
		return region_at(segment->notes, segment->slots * segment->note_size);
	}
}

static uint64_t *word_at(size_t offset)
{
	return (uint64_t *)(hostile.bytes + offset / 8 * 8);
}

/* What is worth writing: extremes, bits, what stands elsewhere, anything. */
static uint64_t value_for(struct random_state *random, uint64_t present)
{
	switch (random_below(random, 8)) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return random_below(random, 16);
	case 3:
		return present ^ 1ull << random_below(random, 64);
	case 4:
		return present + random_below(random, 3) - 1;
	case 5:
		return 1ull << random_below(random, 64);
	case 6:
		return __atomic_load_n(word_at(random_below(random, hostile.size)),
				       __ATOMIC_RELAXED);
	default:
		return random_next(random);
	}
}

static void corrupt_word(struct random_state *random, struct region where)
{
	uint64_t *word = word_at(where.offset + random_below(random, where.size));
	uint64_t present = __atomic_load_n(word, __ATOMIC_RELAXED);

	__atomic_store_n(word, value_for(random, present), __ATOMIC_RELAXED);
}

static void fill_randomly(struct random_state *random, struct region where)
{
	for (size_t offset = where.offset; offset + 8 <= where.offset + where.size; offset += 8)
		*word_at(offset) = random_next(random);
}

/* From a single bit to the whole mapping. */
static void corrupt(struct random_state *random)
{
	struct region where = region((unsigned)random_below(random, REGIONS));
	uint64_t words = 1 + random_below(random, 40);

	switch (random_below(random, 16)) {
	case 0:
		fill_randomly(random, (struct region){ 0, hostile.size });
		break;
	case 1:
		fill_randomly(random, where);
		break;
	case 2:
		memset(hostile.bytes + where.offset, random_next(random) & 1 ? 0xff : 0, where.size);
		break;
	default:
		while (words-- > 0) {
			if (random_below(random, 8) == 0)
				where = region((unsigned)random_below(random, REGIONS));
			corrupt_word(random, where);
		}
	}
}

/* ---- The tests --------------------------------------------------------- */

START_TEST(test_pristine_segment)
{
	for (uint64_t choice = 0; choice < 64; choice++) {
		hostile_restore(&hostile);
		hostile_operate(&hostile, choice << 4 | choice % 16);
	}
}
END_TEST

START_TEST(test_any_bytes)
{
	uint64_t rounds = support_amount(3000, 300000);

	for (round_number = 0; round_number < rounds; round_number++) {
		struct random_state random = random_start(seed, round_number);

		hostile_restore(&hostile);
		corrupt(&random);
		hostile_operate(&hostile, random_next(&random));
		if (random_next(&random) & 1)
			hostile_operate(&hostile, random_next(&random));
	}
}
END_TEST

/* Another process never stops writing anything anywhere.  Now and then it puts a
 * line back, so that operations get further than their first check. */
static void write_for_ever(struct random_state *random)
{
	for (;;) {
		size_t line = random_below(random, hostile.size / CACHE_LINE) * CACHE_LINE;
		struct region where = region((unsigned)random_below(random, REGIONS));

		corrupt_word(random, where);
		if (random_below(random, 4) == 0)
			line = where.offset / CACHE_LINE * CACHE_LINE;
		for (size_t i = 0; i < CACHE_LINE; i += 8) {
			uint64_t word;

			memcpy(&word, hostile.pristine + line + i, sizeof(word));
			__atomic_store_n(word_at(line + i), word, __ATOMIC_RELAXED);
		}
		if (random_below(random, 256) == 0)
			hostile_restore(&hostile);
	}
}

START_TEST(test_bytes_change_at_any_moment)
{
	uint64_t rounds = support_amount(3000, 100000);
	struct random_state random = random_start(seed, UINT64_MAX);
	pid_t writer = support_fork();

	if (writer == 0)
		write_for_ever(&random);
	for (uint64_t i = 0; i < rounds; i++)
		hostile_operate(&hostile, random_next(&random));
	ck_assert_int_eq(kill(writer, SIGKILL), 0);
	ck_assert_int_eq(waitpid(writer, NULL, 0), writer);
}
END_TEST

START_TEST(test_any_file)
{
	uint64_t rounds = support_amount(1500, 50000);
	unsigned char *bytes = malloc(hostile.size);

	ck_assert_ptr_nonnull(bytes);
	for (round_number = 0; round_number < rounds; round_number++) {
		struct random_state random = random_start(seed, round_number);
		size_t size = hostile.size;

		hostile_restore(&hostile);
		if (random_below(&random, 4) == 0)
			corrupt(&random);
		else
			corrupt_word(&random, region(0));
		memcpy(bytes, hostile.bytes, size);
		if (random_below(&random, 8) == 0)
			size = random_below(&random, size + 1);
		hostile_open(&hostile, bytes, size, random_next(&random) & 1, random_next(&random));
	}
	free(bytes);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hostile");
	TCase *all = tcase_create("hostile");

	tcase_set_timeout(all, HANG_S + 10);
	tcase_add_checked_fixture(all, setup, teardown);
	tcase_add_test(all, test_pristine_segment);
	tcase_add_test(all, test_any_bytes);
	tcase_add_test(all, test_bytes_change_at_any_moment);
	tcase_add_test(all, test_any_file);
	suite_add_tcase(suite, all);
	return support_main(suite);
}
