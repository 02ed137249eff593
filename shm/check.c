/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.c - is a segment sound?
 *
 * What.  Looks at everything that can be wrong in a mapped segment, while others
 * use it, and says what to do about it.  Nothing that it finds can hurt a
 * process; it can mean that limits are not kept.  Reading only: damaged slots
 * are emptied by the next key that needs one.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "shm/clock.h"
#include "shm/gcra.h"
#include "shm/policy_table.h"
#include "shm/segment_header.h"

#define CONFIRMATIONS 3         /* equal readings before a slot is called damaged */
#define DETAILS_MAX 8           /* findings of one kind that are told one by one */

struct checker {
	void (*report)(const char *finding, void *context);
	void *context;
	size_t findings;
};

static void __attribute__((format(printf, 2, 3)))
found(struct checker *checker, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	checker->findings++;
	if (checker->report)
		checker->report(text, checker->context);
}

static void check_file(const struct segment *segment, struct checker *checker)
{
	struct segment_header copy = { 0 };
	struct weir_error error;
	struct stat status;

	/* The part that never changes: the rest is written meanwhile. */
	memcpy(&copy, segment->header, offsetof(struct segment_header, policy));
	if (segment->fd < 0 || fstat(segment->fd, &status) != 0) {
		found(checker, "the segment's file cannot be looked at; open it anew");
		return;
	}
	if ((uint64_t)status.st_size < segment->size)
		found(checker,
		      "the file has shrunk from %llu to %llu bytes: who touches what is missing dies "
		      "of SIGBUS; stop its users, remove it and create it anew",
		      (unsigned long long)segment->size, (unsigned long long)status.st_size);
	if (status.st_nlink == 0)
		found(checker, "%s was removed: processes that open it now do not share with this "
			       "one; restart the users of the old one", segment->path);
	if (segment_header_check(&copy, (uint64_t)status.st_size, &error) != 0)
		found(checker, "%s", error.message);
}

static void check_policies(const struct segment *segment, struct checker *checker)
{
	uint64_t version = policy_version(segment);

	for (uint32_t index = 0; index < segment->policies; index++) {
		struct weir_policy policy;
		uint64_t serial;
		bool sound = policy_decode(segment, version, index, &policy, &serial);

		if (!sound && serial != 0 && policy_version(segment) == version)
			found(checker, "policy %u is damaged (serial %llu); set it again", index,
			      (unsigned long long)serial);
	}
}

/* Damage stays; a slot that changes hands does not. */
static bool slot_is_damaged(struct slot *slot)
{
	for (int i = 0; i < CONFIRMATIONS; i++) {
		uint64_t identity = atomic_load_acquire(&slot->identity.second);        /* E1 */
		uint64_t state = atomic_load_acquire(&slot->state.second);              /* E2 */

		if (slot_status(identity, state) != SLOT_DAMAGED)
			return false;
	}
	return true;
}

/* A debt beyond what any limit can have. */
static bool slot_is_absurd(struct slot *slot, uint64_t now_ns)
{
	uint64_t identity = atomic_load_acquire(&slot->identity.second);        /* E1 */
	uint64_t state = atomic_load_acquire(&slot->state.second);              /* E2 */
	uint64_t time_ns = atomic_load_acquire(&slot->state.first);             /* E2 */

	return slot_status(identity, state) == SLOT_LIVE && !(time_ns & TIME_HELD) &&
	       time_ns > now_ns && time_ns - now_ns > GCRA_DEBT_ABSURD_NS;
}

static void found_absurd(struct checker *checker, uint64_t slot)
{
	found(checker,
	      "slot %llu has a debt of more than %llu days, which no limit allows; it counts as "
	      "none, reset the key or wait for the next request",
	      (unsigned long long)slot,
	      (unsigned long long)(GCRA_DEBT_MAX_NS / 86400000000000ull));
}

static void check_slots(const struct segment *segment, uint64_t now_ns, struct checker *checker)
{
	uint64_t damaged = 0, absurd = 0;

	for (uint64_t i = 0; i < segment->slots; i++) {
		struct slot *slot = &segment->table.slots[i];

		if (slot_is_damaged(slot) && ++damaged <= DETAILS_MAX)
			found(checker,
			      "slot %llu is damaged (generations disagree); the next key that needs "
			      "it empties it", (unsigned long long)i);
		if (now_ns && slot_is_absurd(slot, now_ns) && ++absurd <= DETAILS_MAX)
			found_absurd(checker, i);
	}
	if (damaged > DETAILS_MAX)
		found(checker, "%llu slots are damaged in all", (unsigned long long)damaged);
	if (absurd > DETAILS_MAX)
		found(checker, "%llu slots have an absurd debt in all", (unsigned long long)absurd);
}

/* A compact slot has no words that could contradict each other. */
static void check_compact_slots(const struct segment *segment, uint64_t now_ns,
				struct checker *checker)
{
	uint64_t absurd = 0;

	for (uint64_t i = 0; now_ns && i < segment->slots; i++) {
		uint64_t second = atomic_load_acquire(
			&segment->compact.slots[i].word.second);                /* E16 */

		if (!(second & COMPACT_TENTATIVE) && second > now_ns &&
		    second - now_ns > GCRA_DEBT_ABSURD_NS && ++absurd <= DETAILS_MAX)
			found_absurd(checker, i);
	}
	if (absurd > DETAILS_MAX)
		found(checker, "%llu slots have an absurd debt in all", (unsigned long long)absurd);
}

/* Holds of the dead are given back when their limit is reached; until then they
 * are worth knowing. */
static void check_holds(const struct segment *segment, struct checker *checker)
{
	uint64_t dead = 0;

	for (uint32_t i = 0; i < segment->holds.count; i++) {
		uint64_t owner = atomic_load_relaxed(&segment->holds.records[i].word.second);

		if (owner != 0 && !participant_alive(segment, owner))
			dead++;
	}
	if (dead)
		found(checker,
		      "%llu holds belong to dead processes; they are released when their limit is "
		      "next reached", (unsigned long long)dead);
}

size_t segment_check(const struct segment *segment,
		     void (*report)(const char *finding, void *context), void *context)
{
	struct checker checker = { .report = report, .context = context };
	uint64_t now_ns = segment->clock != WEIR_CLOCK_CALLER ? clock_ns(CLOCK_BOOTTIME) : 0;

	check_file(segment, &checker);
	check_policies(segment, &checker);
	if (segment->compact.groups)
		check_compact_slots(segment, now_ns, &checker);
	else
		check_slots(segment, now_ns, &checker);
	check_holds(segment, &checker);
	return checker.findings;
}
