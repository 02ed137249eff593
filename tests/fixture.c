/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/policy_table.h"
#include "src/handle.h"

struct weir *fixture_open(const struct weir_options *options)
{
	static unsigned serial;
	struct weir_options defaults;
	struct weir_error error;
	struct weir *weir;
	char name[64];

	weir_options_init(&defaults);
	defaults.clock = WEIR_CLOCK_CALLER;
	snprintf(name, sizeof(name), "weir-test-%d-%u", (int)getpid(), serial++);
	ck_assert_msg(weir_create(name, options ? options : &defaults, &error) == WEIR_OK, "%s",
		      error.message);
	ck_assert_msg(weir_open(name, &weir, &error) == WEIR_OK, "%s", error.message);
	ck_assert_msg(weir_remove(name, &error) == WEIR_OK, "%s", error.message);
	return weir;
}

struct weir *fixture_open_slots(uint64_t slots)
{
	struct weir_options options;

	weir_options_init(&options);
	options.clock = WEIR_CLOCK_CALLER;
	options.slots = slots;
	options.policies = 16;
	options.holds = 16;
	return fixture_open(&options);
}

struct weir *fixture_open_synced(uint64_t slots, uint64_t interval_ns)
{
	struct weir_options options;
	struct weir *weir;

	weir_options_init(&options);
	options.slots = slots;
	options.sync = true;
	weir = fixture_open(&options);
	fixture_sync(handle_control(weir), interval_ns);
	return weir;
}

void fixture_sync(struct segment *segment, uint64_t interval_ns)
{
	segment->header->sync.enabled = 1;
	segment->header->sync.interval_ns = interval_ns;
	segment->header->sync.staleness_ns = 2 * SECOND;
}

struct weir_policy fixture_policy(const char *name, const char *limits)
{
	struct weir_policy policy = { .limit_count = 0 };
	struct weir_error error;
	char text[512], *rest = text, *limit;

	ck_assert_uint_lt(strlen(limits), sizeof(text));
	strcpy(text, limits);
	snprintf(policy.name, sizeof(policy.name), "%s", name);
	while ((limit = strsep(&rest, ",")) != NULL) {
		ck_assert_uint_lt(policy.limit_count, WEIR_LIMITS_MAX);
		ck_assert_msg(weir_limit_parse(limit, &policy.limits[policy.limit_count++],
					       &error) == WEIR_OK,
			      "%s", error.message);
	}
	return policy;
}

weir_policy_id fixture_set(struct weir *weir, const char *name, const char *limits)
{
	struct weir_policy policy = fixture_policy(name, limits);
	struct weir_error error;
	weir_policy_id id;

	ck_assert_msg(weir_policy_set(weir, &policy, 1, &error) == WEIR_OK, "%s", error.message);
	id = weir_policy_find(weir, name);
	ck_assert(id != WEIR_NO_POLICY);
	return id;
}

struct limit fixture_compile(const struct weir_limit *limit)
{
	struct weir_policy policy = { .name = "compiled", .limit_count = 1, .limits = { *limit } };
	struct weir *weir = fixture_open_slots(16);
	struct weir_error error;
	struct limit compiled;

	ck_assert_msg(weir_policy_set(weir, &policy, 1, &error) == WEIR_OK, "%s", error.message);
	policy_limit(weir->segment, policy_version(weir->segment),
		     policy_index(weir_policy_find(weir, policy.name)), 0, &compiled);
	weir_close(weir);
	return compiled;
}

uint64_t fixture_counter(const struct weir *weir, const char *name)
{
	const struct weir_counter *counter;

	for (unsigned i = 0; (counter = weir_counter(i)) != NULL; i++) {
		if (strcmp(counter->name, name) == 0)
			return weir_counter_read(weir, i, NULL);
	}
	ck_abort_msg("no counter \"%s\"", name);
	return 0;
}

/* SplitMix64: G. Steele et al., "Fast splittable pseudorandom number
 * generators", 2014. */
uint64_t fixture_random(uint64_t *state, uint64_t bound)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	return (uint64_t)((unsigned __int128)z * bound >> 64);
}

bool fixture_soak(void)
{
	return getenv("WEIR_SOAK") != NULL;
}
