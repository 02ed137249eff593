/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_header.c - what a segment says of itself, and where its regions are.
 *
 * What.  The header holds a few numbers (slots, key bytes, policies, holds, purses,
 * shards), from which the regions follow: layout_of() computes every offset, at creation
 * to place them and at opening to compare, so that no offset is taken on trust.
 *
 * Invariant.  A header that segment_header_check() lets pass has counts in range, the
 * offsets that follow from them, and a file that is long enough for all of it.
 *
 * Crash.  None: the header is written before the segment has a name, and not again.
 */
#include "shm/segment_header.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/counter.h"
#include "shm/error.h"

#define SLOTS_MIN (2ull * GROUP_SLOTS)
#define SLOTS_MAX (1ull << 32)
#define KEY_BYTES_MAX 1024u
#define POLICIES_MAX 4096u
#define HOLDS_MAX (1u << 24)
#define SHARDS_MAX 2048u

_Static_assert(COMPACT_GROUP_SLOTS == GROUP_SLOTS, "slots of both kinds come in as many");

/* ---- The regions ------------------------------------------------------- */

static uint64_t purses_offset(const struct segment_header *header)
{
	return round_up(header->holds_offset + (uint64_t)header->holds * sizeof(struct hold_record),
			PAGE_ALIGN);
}

/* Fill in the offsets and the total size from the counts. */
static void layout_of(struct segment_header *header)
{
	uint64_t offset = round_up(sizeof(*header), PAGE_ALIGN);

	header->policies_offset = offset;
	offset += header->policies *
		  (2 * sizeof(struct policy_record) + sizeof(struct policy_switch));
	header->counters_offset = offset = round_up(offset, PAGE_ALIGN);
	offset += header->shards * counter_lines(header->policies) * CACHE_LINE;
	header->participants_offset = offset = round_up(offset, PAGE_ALIGN);
	offset += header->participants * sizeof(struct participant);
	header->holds_offset = offset = round_up(offset, PAGE_ALIGN);
	offset = purses_offset(header) + (uint64_t)header->purses * sizeof(struct purse);
	header->slots_offset = offset = round_up(offset, PAGE_ALIGN);
	offset += header->slots * (header->compact ? sizeof(struct compact_slot) :
						     sizeof(struct slot));
	header->notes_offset = offset = round_up(offset, PAGE_ALIGN);
	header->note_size = header->key_bytes +
			    (header->sync_shards ? (uint32_t)sizeof(struct note) : 0);
	offset += header->slots * header->note_size;
	if (header->sync_shards) {
		header->sync_offset = offset = round_up(offset, PAGE_ALIGN);
		offset += header->sync_shards * sizeof(struct shard_record);
		offset += queue_words(header->slots) * 8;
		offset += queue_words(queue_words(header->slots)) * 8;
		offset = round_up(offset, CACHE_LINE) + header->slots * sizeof(struct slot_sync);
		offset += REPORTS * sizeof(struct report_record);
	} else {
		header->sync_offset = 0;
	}
	header->total_size = round_up(offset, PAGE_ALIGN);
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
	segment->slot_syncs = (struct slot_sync *)(base + round_up(offset, CACHE_LINE));
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

void segment_place(struct segment *segment, const struct segment_header *header,
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
	segment->huge_pages = header->huge_pages;
	segment->has_ticks = header->clock == WEIR_CLOCK_TSC && clock_has_ticks();
	segment->incarnation = header->incarnation;
	segment->wall_offset_ns = header->wall_offset_ns;
	memcpy(segment->secret, header->secret, sizeof(segment->secret));
	hash_keys_derive(&segment->hash, segment->secret);
}

/* ---- Which machine, which boot ----------------------------------------- */

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

/* ---- Making ------------------------------------------------------------ */

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
	return options->slots <= SLOTS_MIN ? SLOTS_MIN : round_up(options->slots, GROUP_SLOTS);
}

int segment_header_make(const struct weir_options *options, struct segment_header *header,
			struct weir_error *error)
{
	int status = options_check(options, error);

	if (status)
		return status;
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
	header->checksum = header_checksum(header);
	return 0;
}

void segment_header_set_huge_pages(struct segment_header *header, bool huge_pages)
{
	header->huge_pages = huge_pages;
	header->checksum = header_checksum(header);
}

/* ---- Checking ---------------------------------------------------------- */

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
	       header->clock <= WEIR_CLOCK_TSC && header->huge_pages <= 1 &&
	       (header->sync_shards == 0 || header->sync_shards == SYNC_SHARDS);
}

/* The times in a segment are of one clock: is it still this machine's? */
static int origin_check(const struct segment_header *header, struct weir_error *error)
{
	uint8_t boot[16];

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

int segment_header_check(const struct segment_header *header, uint64_t file_size,
			 struct weir_error *error)
{
	struct segment_header expected = *header;

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
	return origin_check(header, error);
}
