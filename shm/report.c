/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - what the leader tells people about policies, and about Redis.
 *
 * What.  The leader alone talks to Redis, and any process may be asked for the state
 * of sync.  So what the leader found is written into the segment, in words for people.
 *
 * Invariant.  A record proves itself: its stamp is a keyed checksum of the rest.  One
 * that is half written, or was written by two leaders (one was stopped in here and woke
 * up later), does not match and is taken as empty, until the leader looks again.
 *
 * Ordering.  None, because of the stamp: all accesses are relaxed.
 */
#include "shm/report.h"

#include <string.h>

#include "shm/hash.h"

#define WORDS (sizeof(struct report_record) / 8)

static uint64_t stamp_of(const struct segment *segment, unsigned index, const uint64_t *words)
{
	uint64_t key[2] = { segment->secret[0] ^ index, segment->secret[1] };

	return hash_strong(key, words + 1, (WORDS - 1) * 8).low;
}

void report_write(const struct segment *segment, unsigned index, const struct report *report)
{
	struct report_record record = { 0 };
	uint64_t words[WORDS];
	uint64_t *to = (uint64_t *)&segment->reports[index];

	if (report) {
		record.host = report->host;
		record.hosts = report->hosts;
		memcpy(record.policy, report->policy, strnlen(report->policy, WEIR_NAME_MAX));
		memcpy(record.text, report->text, strnlen(report->text, REPORT_TEXT_SIZE - 1));
	}
	memcpy(words, &record, sizeof(words));
	words[0] = stamp_of(segment, index, words);
	for (unsigned i = 0; i < WORDS; i++)
		atomic_store_relaxed(&to[i], words[i]);
}

bool report_read(const struct segment *segment, unsigned index, struct report *report)
{
	const uint64_t *from = (const uint64_t *)&segment->reports[index];
	struct report_record record;
	uint64_t words[WORDS];

	for (unsigned i = 0; i < WORDS; i++)
		words[i] = atomic_load_relaxed(&from[i]);
	memcpy(&record, words, sizeof(record));
	if (record.hosts == 0 || record.stamp != stamp_of(segment, index, words))
		return false;
	memset(report, 0, sizeof(*report));
	report->host = record.host;
	report->hosts = record.hosts;
	memcpy(report->policy, record.policy, WEIR_NAME_MAX);
	memcpy(report->text, record.text, REPORT_TEXT_SIZE - 1);
	return true;
}
