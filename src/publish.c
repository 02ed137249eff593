/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.c - the public functions on publishing policies.
 */
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"
#include "shm/policy_table.h"
#include "src/handle.h"
#include "src/quiet_pipe.h"
#include "sync/follow.h"
#include "sync/publish.h"

/* What a caller wants changed; NAMES is NULL for all policies of the segment. */
struct change {
	struct weir *weir;
	const char *const *names;
	size_t count;
};

static int put_all(struct publication *publication, const struct change *change,
		   struct weir_error *error)
{
	const struct segment *segment = handle_control(change->weir);
	struct weir_policy *policies = calloc(segment->policies, sizeof(*policies));
	size_t count;
	int status = 0;

	if (!policies)
		return weir_fail(error, WEIR_ENOMEM, "no memory for %u policies; free some",
				 segment->policies);
	count = policy_table_list(segment, policies, segment->policies);
	if (count == 0)
		status = weir_fail(error, WEIR_ENOENT,
				   "segment %s has no policies; define one, or withdraw those that "
				   "are published", segment->path);
	for (size_t i = 0; status == 0 && i < count && i < segment->policies; i++)
		status = publication_put(publication, &policies[i], error);
	free(policies);
	return status;
}

static int put(struct publication *publication, const struct change *change,
	       struct weir_error *error)
{
	int status = 0;

	if (!change->names)
		return put_all(publication, change, error);
	for (size_t i = 0; status == 0 && i < change->count; i++) {
		struct weir_policy policy;

		status = weir_policy_get(change->weir, change->names[i], &policy, error);
		if (status == 0)
			status = publication_put(publication, &policy, error);
	}
	return status;
}

static int withdraw(struct publication *publication, const struct change *change,
		    struct weir_error *error)
{
	int status = 0;

	for (size_t i = 0; status == 0 && i < change->count; i++) {
		const char *name = change->names[i];
		char quoted[128];

		/* Also one that was never published: other hosts may have it. */
		if (!publication_has(publication, name) &&
		    weir_policy_find(change->weir, name) == WEIR_NO_POLICY)
			return weir_fail(error, WEIR_ENOENT,
					 "policy \"%s\" is neither published nor in the segment; "
					 "look at its name",
					 weir_quote(name, strlen(name), quoted, sizeof(quoted)));
		status = publication_remove(publication, name, error);
	}
	return status;
}

/* Who follows has it at once: a change that comes after this call is not undone by it. */
static int apply_here(const struct publisher *publisher, struct segment *segment,
		      struct weir_error *error)
{
	/* Relaxed: one flag, good by itself. */
	if (!atomic_load_relaxed(&segment->header->sync.follow))
		return weir_ok(error);
	return follow_apply_now(segment, &publisher->publication,
				publication_rank(publisher->tag), error);
}

static int publish(const struct change *change, const struct weir_sync_options *options,
		   int (*edit)(struct publication *publication, const struct change *change,
			       struct weir_error *error),
		   uint64_t *version, struct weir_error *error)
{
	struct segment *segment = handle_control(change->weir);
	struct weir_sync_options defaults;
	struct publisher publisher;
	struct quiet_pipe quiet;
	int status;

	if (!segment->shards)
		return weir_fail(error, WEIR_EINVAL,
				 "segment %s has no room for sync; create it with sync (weir create "
				 "--sync)", segment->path);
	weir_sync_options_init(&defaults);
	if (!options)
		options = &defaults;
	if (!options->url || !options->prefix)
		return weir_fail(error, WEIR_EINVAL, "no %s given; give one",
				 options->url ? "prefix" : "URL");
	quiet_pipe_begin(&quiet);
	status = publisher_open(&publisher, segment, options, error);
	if (status == 0)
		status = edit(&publisher.publication, change, error);
	if (status == 0)
		status = publisher_offer(&publisher, error);
	if (status == 0) {
		if (version)
			*version = publisher.publication.version;
		status = apply_here(&publisher, segment, error);
	}
	publisher_close(&publisher);
	quiet_pipe_end(&quiet);
	return status;
}

int weir_sync_publish(struct weir *weir, const struct weir_sync_options *options,
		      const char *const *names, size_t count, uint64_t *version,
		      struct weir_error *error)
{
	struct change change = { weir, names, count };

	if (names && count == 0)
		return weir_fail(error, WEIR_EINVAL, "no policy named to publish; name one");
	return publish(&change, options, put, version, error);
}

int weir_sync_withdraw(struct weir *weir, const struct weir_sync_options *options,
		       const char *const *names, size_t count, uint64_t *version,
		       struct weir_error *error)
{
	struct change change = { weir, names, count };

	if (!names || count == 0)
		return weir_fail(error, WEIR_EINVAL, "no policy named to withdraw; name one");
	return publish(&change, options, withdraw, version, error);
}
