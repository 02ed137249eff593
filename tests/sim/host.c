/* SPDX-License-Identifier: Apache-2.0 */
/* host.c - a host: its segment, its clock, its lives, and the keys that all hosts know. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/hash.h"
#include "shm/policy_table.h"
#include "src/handle.h"
#include "tests/sim/sim.h"

#define HOST_BASE_NS 10000000000000ull
#define KEY_LENGTH 5u
#define CLOCKS_APART_NS (5 * SECOND)

/* A segment that was never used, for hosts that begin. */
static unsigned char *pristine;

static const char secret[WEIR_SECRET_SIZE + 1] = "sixteen bytes...";

uint64_t host_now(const struct host *host)
{
	return host->base_ns + (uint64_t)world.now_ns +
	       (uint64_t)(int64_t)((double)world.now_ns * host->drift);
}

static void die(const char *what, const struct weir_error *error)
{
	fprintf(stderr, "cannot %s: %s\n", what, error->message);
	exit(2);
}

void host_open(struct host *host, unsigned number)
{
	struct weir_options options;
	struct weir_error error;
	char name[64];

	snprintf(name, sizeof(name), "weir-sim-%d-%u", (int)getpid(), number);
	weir_options_init(&options);
	options.slots = 64;
	options.key_bytes = 8;
	options.policies = 1;
	options.holds = SIM_HOLDS;
	options.sync = true;
	options.secret = secret;
	if (weir_create(name, &options, &error) != 0)
		die("make a segment", &error);
	if (weir_open(name, &host->weir, &error) != 0)
		die("open a segment", &error);
	/* Nothing is left behind, however this ends. */
	weir_remove(name, NULL);
	host->segment = host->weir->segment;
	participant_leave(host->segment);
	if (!pristine) {
		pristine = malloc(host->segment->size);
		if (!pristine)
			exit(2);
		memcpy(pristine, host->segment->header, host->segment->size);
	}
}

/* Which of the names are used: those whose slots are different ones.  A key whose
 * bucket has no debt may lose its slot to another, and its history with it. */
static char key_names[SIM_KEYS][KEY_LENGTH + 1];

static struct fingerprint fingerprint_of(const struct host *host, const char *name)
{
	return hash_fingerprint(&host->segment->hash, world.limit.key[0], world.limit.key[1], name,
				KEY_LENGTH);
}

static bool windows_meet(const struct host *host, struct fingerprint a, struct fingerprint b)
{
	for (unsigned i = 0; i < WINDOW_SLOTS; i += GROUP_SLOTS) {
		for (unsigned k = 0; k < WINDOW_SLOTS; k++) {
			if (table_slot(&host->segment->table, a, i) ==
			    table_slot(&host->segment->table, b, k))
				return true;
		}
	}
	return false;
}

static void choose_keys(const struct host *host)
{
	unsigned number = 0;

	for (unsigned key = 0; key < SIM_KEYS; key++) {
		bool meets = true;

		while (meets) {
			struct fingerprint candidate;

			snprintf(key_names[key], sizeof(key_names[key]), "k%04u",
				 ++number % 10000);
			candidate = fingerprint_of(host, key_names[key]);
			meets = false;
			for (unsigned other = 0; other < key; other++)
				meets |= windows_meet(host, candidate,
						      fingerprint_of(host, key_names[other]));
		}
	}
}

static void set_policy(struct host *host)
{
	const struct scenario *scenario = &world.scenario;
	struct weir_policy policy = {
		.name = "api",
		.limit_count = 1,
		.limits = { scenario->limit },
		.fail_mode = scenario->fail_mode,
		.consistency = scenario->consistency,
	};
	struct segment_header *header = host->segment->header;
	struct weir_error error;

	if (weir_policy_set(host->weir, &policy, 1, &error) != 0)
		die("set a policy", &error);
	host->policy = weir_policy_find(host->weir, "api");
	/* What sync_start() does, but for the thread. */
	header->sync.interval_ns = (uint64_t)scenario->interval_ns;
	header->sync.staleness_ns = (uint64_t)scenario->staleness_ns;
	header->sync.expected_hosts = scenario->hosts;
	header->sync.overshoot = scenario->overshoot;
	header->sync.enabled = 1;
}

/* Of windows only: nothing else goes by the wall clock. */
static int64_t clock_error_ns(void)
{
	if (!world.scenario.windows || world.scenario.measure)
		return 0;
	return (int64_t)sim_below(STREAM_REQUESTS, 2 * CLOCKS_APART_NS) - CLOCKS_APART_NS;
}

void host_begin_life(struct host *host)
{
	struct life *life = &world.life[world.lives];

	memset(life, 0, sizeof(*life));
	for (unsigned key = 0; key < SIM_KEYS; key++)
		life->keys[key].first_unmerged_ns = -1;
	life->id[0] = (uint8_t)world.lives;
	life->id[1] = (uint8_t)host->number;
	host->life = world.lives++;
	host->unsettled = false;
	memset(host->terms, 0, sizeof(host->terms));
	host->bell = 0;
	host->cut_until_ns = 0;
	memset(host->heard, 0, sizeof(host->heard));
	for (unsigned shard = 0; shard < SYNC_SHARDS; shard++)
		host->told_ns[shard] = INT64_MIN / 2;
	/* Its clock starts somewhere, too. */
	host->base_ns = HOST_BASE_NS + sim_below(STREAM_REQUESTS, 1000000000000u);
	participant_leave(host->segment);
	memcpy(host->segment->header, pristine, host->segment->size);
	if (!participant_join(host->segment))
		die("take part in a segment", &(struct weir_error){ .message = "no room" });
	/* Not the one of the machine, and of the moment. */
	windows_set_clock(host, clock_error_ns());
	set_policy(host);
	for (unsigned i = 0; i < SIM_PROCESSES; i++)
		process_start(host, &host->processes[i]);
}

void host_begin(struct host *host, unsigned number)
{
	host->number = number;
	host->next_id = 0;
	host->drift = 0;
	for (unsigned i = 0; i < SIM_PROCESSES; i++)
		host->processes[i].message = NULL;
	if (sim_has(FAULT_DRIFT))
		host->drift = ((double)sim_below(STREAM_FAULTS + FAULT_DRIFT, 1001) - 500) / 1e6;
	host_begin_life(host);
	policy_limit(host->segment, policy_version(host->segment), 0, 0, &world.limit);
	if (number == 0)
		choose_keys(host);
	for (unsigned key = 0; key < SIM_KEYS; key++)
		host->fingerprints[key] = fingerprint_of(host, key_names[key]);
}

struct weir_request request_of(const struct host *host, unsigned key, uint64_t cost)
{
	return (struct weir_request){ .policy = host->policy, .key = key_names[key],
				      .key_length = KEY_LENGTH, .cost = cost,
				      .now_ns = host_now(host) };
}
