/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.c - the public functions on policies: check, lock, publish.
 */
#include <string.h>

#include "shm/error.h"
#include "shm/policy_table.h"
#include "src/handle.h"
#include "src/store.h"

static int unknown_policy(const char *name, struct weir_error *error)
{
	char quoted[128];

	return weir_fail(error, WEIR_ENOENT, "no policy \"%s\" in the segment; define it first",
			 weir_quote(name ? name : "", name ? strlen(name) : 0, quoted,
				    sizeof(quoted)));
}

/* A compact segment's slots hold nothing but token buckets. */
static int check_compact(const struct weir_policy *policy, struct weir_error *error)
{
	if (policy->lease)
		return weir_fail(error, WEIR_EINVAL,
				 "policy \"%s\" cannot lease in a compact segment; leave lease out, "
				 "or create the segment without compact", policy->name);
	for (uint32_t i = 0; i < policy->limit_count; i++) {
		enum weir_algorithm algorithm = policy->limits[i].algorithm;

		if (algorithm != WEIR_TOKEN_BUCKET)
			return weir_fail(error, WEIR_EINVAL,
					 "policy \"%s\": limit %u is %s, and a compact segment has "
					 "token buckets only; make it one, or create the segment "
					 "without compact",
					 policy->name, i, weir_algorithm_name(algorithm));
	}
	return 0;
}

static int check_all(const struct segment *segment, const struct weir_policy *policies,
		     size_t count, struct weir_error *error)
{
	for (size_t i = 0; i < count; i++) {
		int status = weir_policy_check(&policies[i], error);

		if (status == 0 && store_is_compact(segment))
			status = check_compact(&policies[i], error);
		if (status)
			return status;
	}
	return 0;
}

int weir_policy_set(struct weir *weir, const struct weir_policy *policies, size_t count,
		    struct weir_error *error)
{
	struct segment *segment = handle_control(weir);
	int status = check_all(segment, policies, count, error);

	if (status == 0)
		status = segment_lock(segment, error);
	if (status)
		return status;
	status = policy_table_set(segment, policies, count, error);
	segment_unlock(segment);
	return status;
}

int weir_policy_remove(struct weir *weir, const char *name, struct weir_error *error)
{
	struct segment *segment = handle_control(weir);
	int status;

	if (weir_policy_find(weir, name) == WEIR_NO_POLICY)
		return unknown_policy(name, error);
	status = segment_lock(segment, error);
	if (status)
		return status;
	status = policy_table_remove(segment, name, error);
	segment_unlock(segment);
	return status;
}

weir_policy_id weir_policy_find(const struct weir *weir, const char *name)
{
	const struct segment *segment = handle_enter(weir);
	weir_policy_id id = WEIR_NO_POLICY;

	for (int attempt = 0; segment && attempt < POLICY_READ_ATTEMPTS; attempt++) {
		uint64_t version = policy_version(segment);

		id = policy_lookup(segment, version, name);
		if (policy_version(segment) == version)
			break;
	}
	handle_leave();
	return id;
}

int weir_policy_get(const struct weir *weir, const char *name, struct weir_policy *policy,
		    struct weir_error *error)
{
	const struct segment *segment = handle_enter(weir);
	bool found = false;

	for (int attempt = 0; segment && attempt < POLICY_READ_ATTEMPTS; attempt++) {
		uint64_t version = policy_version(segment), serial;
		weir_policy_id id = policy_lookup(segment, version, name);

		found = id != WEIR_NO_POLICY &&
			policy_decode(segment, version, policy_index(id), policy, &serial);
		if (policy_version(segment) == version)
			break;
	}
	handle_leave();
	return found ? weir_ok(error) : unknown_policy(name, error);
}

size_t weir_policy_list(const struct weir *weir, struct weir_policy *policies, size_t capacity)
{
	const struct segment *segment = handle_enter(weir);
	size_t count = segment ? policy_table_list(segment, policies, capacity) : 0;

	handle_leave();
	return count;
}

/* ---- Fail mode --------------------------------------------------------- */

static int fail_mode_switch(struct weir *weir, const char *name, int mode,
			    struct weir_error *error)
{
	weir_policy_id id = weir_policy_find(weir, name);
	const struct segment *segment;

	if (id == WEIR_NO_POLICY)
		return unknown_policy(name, error);
	segment = handle_enter(weir);
	if (segment)
		policy_switch_set(segment, id, mode);
	handle_leave();
	return weir_ok(error);
}

int weir_fail_mode_set(struct weir *weir, const char *name, enum weir_fail_mode mode,
		       struct weir_error *error)
{
	if ((int)mode < WEIR_FAIL_SHARE || mode > WEIR_FAIL_CLOSED)
		return weir_fail(error, WEIR_EINVAL,
				 "fail mode %d is none; give open, share or closed", (int)mode);
	return fail_mode_switch(weir, name, (int)mode, error);
}

int weir_fail_mode_clear(struct weir *weir, const char *name, struct weir_error *error)
{
	return fail_mode_switch(weir, name, -1, error);
}

int weir_fail_mode_get(const struct weir *weir, const char *name, enum weir_fail_mode *mode,
		       struct weir_error *error)
{
	const struct segment *segment = handle_enter(weir);
	struct policy_head head;
	bool found = false;

	for (int attempt = 0; segment && attempt < POLICY_READ_ATTEMPTS; attempt++) {
		uint64_t version = policy_version(segment);

		found = policy_head(segment, version, policy_lookup(segment, version, name), &head);
		if (policy_version(segment) == version)
			break;
	}
	handle_leave();
	if (!found)
		return unknown_policy(name, error);
	*mode = head.fail_mode;
	return weir_ok(error);
}
