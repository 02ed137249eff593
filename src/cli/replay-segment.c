/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-segment.h"
#include "replay-error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static int make_nameless(const struct weir_options *options, struct weir **weir,
			 struct weir_error *error)
{
	char name[64];
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return replay_error_set(error, WEIR_ESYSTEM, "cannot get random bytes: %s",
					strerror(errno));
	snprintf(name, sizeof(name), "weir-replay-%ld-%016" PRIx64, (long)getpid(), random);

	int status = weir_create(name, options, error);

	if (status)
		return status;
	status = weir_open(name, weir, error);

	/* Children inherit the handle: nobody needs the name any more. */
	int removed = weir_remove(name, status ? NULL : error);

	return status ? status : removed;
}

static int find_policies(struct weir *weir, const struct weir_policy *policies, uint32_t count,
			 weir_policy_id *ids, struct weir_error *error)
{
	for (uint32_t i = 0; i < count; i++) {
		ids[i] = weir_policy_find(weir, policies[i].name);
		if (ids[i] == WEIR_NO_POLICY)
			return replay_error_set(error, WEIR_ENOENT,
						"the policy %s has vanished from the segment",
						policies[i].name);
	}
	return 0;
}

int replay_segment_make(const struct weir_options *options, const struct weir_policy *policies,
			uint32_t count, struct weir **weir, weir_policy_id **ids,
			struct weir_error *error)
{
	struct weir_options segment = *options;

	segment.key_bytes = 0;
	segment.policies = count;
	segment.holds = 0;
	segment.purses = 0;

	int status = make_nameless(&segment, weir, error);

	if (!status)
		status = weir_policy_set(*weir, policies, count, error);
	if (status)
		return status;
	*ids = calloc(count, sizeof(**ids));
	if (!*ids)
		return replay_error_set(error, WEIR_ENOMEM, "no memory for %u policies", count);
	return find_policies(*weir, policies, count, *ids, error);
}
