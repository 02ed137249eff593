/* SPDX-License-Identifier: Apache-2.0 */
#include "src/names.h"

#include <string.h>

static const char *const algorithm_names[] = {
	[WEIR_TOKEN_BUCKET] = "token-bucket",
	[WEIR_SLIDING_WINDOW] = "sliding-window",
	[WEIR_FIXED_WINDOW] = "fixed-window",
	[WEIR_CONCURRENCY] = "concurrency",
};

static const char *const action_names[] = {
	[WEIR_ACTION_DENY] = "deny",
	[WEIR_ACTION_FLAG] = "flag",
};

static const char *const fail_mode_names[] = {
	[WEIR_FAIL_SHARE] = "share",
	[WEIR_FAIL_OPEN] = "open",
	[WEIR_FAIL_CLOSED] = "closed",
};

static const char *const consistency_names[] = {
	[WEIR_BOUNDED] = "bounded",
	[WEIR_LOCAL] = "local",
	[WEIR_EVENTUAL] = "eventual",
	[WEIR_STRICT] = "strict",
};

static const char *const outcome_names[] = {
	[WEIR_ALLOWED] = "allowed",
	[WEIR_DENIED] = "denied",
	[WEIR_UNAVAILABLE] = "unavailable",
};

static const char *const reason_names[] = {
	[WEIR_REASON_LIMIT] = "limit",
	[WEIR_REASON_COST] = "cost",
	[WEIR_REASON_TABLE_FULL] = "table-full",
	[WEIR_REASON_SHADOW] = "shadow",
	[WEIR_REASON_NO_POLICY] = "no-policy",
	[WEIR_REASON_KEY] = "key",
	[WEIR_REASON_CLOCK] = "clock",
	[WEIR_REASON_CONTENDED] = "contended",
	[WEIR_REASON_USE_ACQUIRE] = "use-acquire",
	[WEIR_REASON_HOLDS_FULL] = "holds-full",
	[WEIR_REASON_DEBT] = "debt",
	[WEIR_REASON_CLOSED] = "closed",
	[WEIR_REASON_STALE] = "stale",
	[WEIR_REASON_CAP] = "cap",
	[WEIR_REASON_LEASE] = "lease",
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Values may come from a caller's uninitialised struct: never trust them. */
#define NAME_OF(names, value) name_of(names, LENGTH(names), (unsigned)(value))

static const char *name_of(const char *const *names, size_t count, unsigned value)
{
	return value < count && names[value] ? names[value] : "unknown";
}

/* The index of NAME, or COUNT. */
static unsigned find(const char *const *names, unsigned count, const char *name, size_t length)
{
	unsigned index;

	for (index = 0; index < count; index++)
		if (strlen(names[index]) == length && memcmp(names[index], name, length) == 0)
			break;
	return index;
}

const char *weir_algorithm_name(enum weir_algorithm algorithm)
{
	return NAME_OF(algorithm_names, algorithm);
}

const char *weir_action_name(enum weir_action action)
{
	return NAME_OF(action_names, action);
}

const char *weir_fail_mode_name(enum weir_fail_mode mode)
{
	return NAME_OF(fail_mode_names, mode);
}

const char *weir_consistency_name(enum weir_consistency consistency)
{
	return NAME_OF(consistency_names, consistency);
}

const char *weir_outcome_name(enum weir_outcome outcome)
{
	return NAME_OF(outcome_names, outcome);
}

const char *weir_reason_name(enum weir_reason reason)
{
	return NAME_OF(reason_names, reason);
}

bool weir_algorithm_find(const char *name, size_t length, enum weir_algorithm *algorithm)
{
	unsigned index = find(algorithm_names, LENGTH(algorithm_names), name, length);

	if (index == LENGTH(algorithm_names))
		return false;
	*algorithm = (enum weir_algorithm)index;
	return true;
}

bool weir_action_find(const char *name, size_t length, enum weir_action *action)
{
	unsigned index = find(action_names, LENGTH(action_names), name, length);

	if (index == LENGTH(action_names))
		return false;
	*action = (enum weir_action)index;
	return true;
}

bool weir_fail_mode_find(const char *name, size_t length, enum weir_fail_mode *mode)
{
	unsigned index = find(fail_mode_names, LENGTH(fail_mode_names), name, length);

	if (index == LENGTH(fail_mode_names))
		return false;
	*mode = (enum weir_fail_mode)index;
	return true;
}

bool weir_consistency_find(const char *name, size_t length, enum weir_consistency *consistency)
{
	unsigned index = find(consistency_names, LENGTH(consistency_names), name, length);

	if (index == LENGTH(consistency_names))
		return false;
	*consistency = (enum weir_consistency)index;
	return true;
}

const char *weir_version(void)
{
	return WEIR_VERSION;
}
