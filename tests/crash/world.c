/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/plan.h"
#include "tests/suite.h"

#define POLICIES_MAX 4u
#define EXHAUST_MAX  1000u
#define HEAVY	     "heavy" /* the policy of world_fill() */

/* ---- Running ----------------------------------------------------------- */

static void remove_directory(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;

	while (directory && (entry = readdir(directory)))
		unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		closedir(directory);
	rmdir(path);
}

static int run(const char *name, void (*add)(TCase *tests))
{
	Suite *suite = suite_create(name);
	TCase *tests = tcase_create(name);

	tcase_set_timeout(tests, 60);
	add(tests);
	suite_add_tcase(suite, tests);
	return suite_run(suite);
}

int world_main(const char *name, void (*add)(TCase *tests))
{
	char path[] = "/dev/shm/weir-crash-XXXXXX";
	int result;

	trace_require();
	if (!mkdtemp(path) || chdir(path) != 0) {
		perror(path);
		return EXIT_FAILURE;
	}
	result = run(name, add);
	if (chdir("/") != 0)
		perror("/");
	remove_directory(path);
	return result;
}

/* ---- The segment ------------------------------------------------------- */

static void add_limit(struct weir_policy *policy, const char *text)
{
	struct weir_error error;

	must(policy->limit_count < WEIR_LIMITS_MAX);
	must_say(weir_limit_parse(text, &policy->limits[policy->limit_count++], &error) == 0, "%s",
		 error.message);
}

static void set_policies(struct world *world, const char *const (*policies)[2], size_t count)
{
	struct weir_policy parsed[POLICIES_MAX] = { { .name = HEAVY } };
	struct weir_error error;
	size_t last = 0;

	add_limit(&parsed[0], "100/100d");
	for (size_t i = 0; i < count; i++) {
		if (policies[i][0]) {
			must(++last < POLICIES_MAX);
			strncpy(parsed[last].name, policies[i][0], WEIR_NAME_MAX);
		}
		add_limit(&parsed[last], policies[i][1]);
	}
	must_say(weir_policy_set(world->weir, parsed, last + 1, &error) == 0, "%s", error.message);
}

static void make(struct world *world, const char *const (*policies)[2], size_t count, bool compact)
{
	struct weir_options options;
	struct weir_error error;
	void *shared;

	weir_options_init(&options);
	options.slots = WORLD_SLOTS;
	options.policies = POLICIES_MAX;
	options.holds = WORLD_HOLDS;
	options.purses = PURSES_OF_THREAD;
	options.clock = WEIR_CLOCK_CALLER;
	options.secret = "the same always.";
	options.compact = compact;
	weir_remove("./world", NULL); /* of a test that failed */
	must_say(weir_create("./world", &options, &error) == 0, "%s", error.message);
	must_say(weir_open("./world", &world->weir, &error) == 0, "%s", error.message);
	world->segment = world->weir->segment;
	must(world->segment->slots == WORLD_SLOTS);
	world->saved = malloc(world->segment->size);
	must(world->saved);
	shared = mmap(NULL, sizeof(*world->told), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(shared != MAP_FAILED);
	world->told = shared;
	set_policies(world, policies, count);
}

void world_make(struct world *world, const char *const (*policies)[2], size_t count)
{
	make(world, policies, count, false);
}

void world_make_compact(struct world *world, const char *const (*policies)[2], size_t count)
{
	make(world, policies, count, true);
}

void world_remove(struct world *world)
{
	weir_close(world->weir);
	must(weir_remove("./world", NULL) == 0);
	free(world->saved);
	munmap((void *)world->told, sizeof(*world->told));
}

void world_save(struct world *world)
{
	memcpy(world->saved, world->segment->header, world->segment->size);
	if (world->segment->compact.groups)
		memcpy(world->compact, world->segment->compact.slots, sizeof(world->compact));
	else
		memcpy(world->slots, world->segment->table.slots, sizeof(world->slots));
}

void world_restore(const struct world *world)
{
	memcpy(world->segment->header, world->saved, world->segment->size);
	memset((void *)world->told, 0, sizeof(*world->told));
}

/* ---- Requests ---------------------------------------------------------- */

static struct weir_request request_of(const struct world *world, const char *policy,
				      const char *key, uint64_t cost, uint64_t now_ns)
{
	return (struct weir_request){
		.policy = weir_policy_find(world->weir, policy),
		.key = key,
		.key_length = strlen(key),
		.cost = cost,
		.now_ns = now_ns,
	};
}

bool world_ask(struct world *world, const char *policy, const char *key, uint64_t cost,
	       uint64_t now_ns, struct weir_decision *decision)
{
	struct weir_request request = request_of(world, policy, key, cost, now_ns);

	return weir_decide(world->weir, &request, decision);
}

void world_operate(struct world *world, enum world_operation operation, const char *policy,
		   const char *key, uint64_t cost, uint64_t now_ns)
{
	struct weir_request request = request_of(world, policy, key, cost, now_ns);
	volatile struct told *told = world->told;
	struct weir_decision decision;

	switch (operation) {
	case WORLD_SPEND:
		told->passed = weir_decide(world->weir, &request, &decision);
		break;
	case WORLD_REFUND:
		told->passed = weir_refund(world->weir, &request, &decision);
		break;
	case WORLD_RESET:
		told->passed = weir_reset(world->weir, &request, &decision);
		break;
	}
	told->decision.outcome = decision.outcome;
	told->decision.reason = decision.reason;
}

unsigned world_exhaust(struct world *world, const char *policy, const char *key, uint64_t now_ns)
{
	struct weir_decision decision;
	unsigned allowed = 0;

	while (world_ask(world, policy, key, 1, now_ns, &decision)) {
		must(decision.reason == WEIR_REASON_LIMIT);
		must(++allowed < EXHAUST_MAX);
	}
	must(decision.outcome == WEIR_DENIED);
	must(decision.reason == WEIR_REASON_LIMIT);
	return allowed;
}

void world_fill(struct world *world, unsigned count)
{
	struct weir_decision decision;

	for (unsigned i = 0; i < count; i++) {
		char key[32];

		snprintf(key, sizeof(key), "heavy %u", i);
		must(world_ask(world, HEAVY, key, 50, BEGIN_NS, &decision));
		must(decision.reason == WEIR_REASON_LIMIT);
	}
}

/* ---- Looking ----------------------------------------------------------- */

struct slot *world_slot(const struct world *world, const char *policy, uint32_t limit_index,
			const char *key)
{
	struct weir_request request = request_of(world, policy, key, 0, BEGIN_NS);
	enum weir_reason reason;
	struct bucket_ref ref;
	struct plan plan;

	must(plan_prepare(&plan, world->segment, &request, &reason));
	must(limit_index < plan.head.limit_count);
	if (!table_find(&world->segment->table, plan.limits[limit_index].fingerprint, &ref))
		return NULL;
	return ref.slot;
}

uint64_t world_used(const struct world *world, const char *policy, uint32_t limit_index,
		    const char *key)
{
	const struct slot *slot = world_slot(world, policy, limit_index, key);

	return slot ? state_used(slot->state) : 0;
}

static bool is_live(const struct slot *slot)
{
	return slot_status(slot->identity.second, slot->state.second) == SLOT_LIVE;
}

static void check_identities(const struct slot *slots)
{
	for (unsigned i = 0; i < WORLD_SLOTS; i++) {
		for (unsigned j = 0; j < i && is_live(&slots[i]); j++)
			must_say(!is_live(&slots[j]) ||
					 slots[i].identity.first != slots[j].identity.first,
				 "slots %u and %u are live for one key", j, i);
	}
}

/* The buckets of world_fill() are told by their debt. */
static void check_bystanders(const struct world *world, const struct slot *slots)
{
	for (unsigned i = 0; i < WORLD_SLOTS; i++) {
		const struct slot *before = &world->slots[i];

		if (is_live(before) && !(before->state.first & TIME_HELD) &&
		    before->state.first > BEGIN_NS + 40 * DAY_NS)
			must_say(memcmp(before, &slots[i], sizeof(*before)) == 0,
				 "slot %u, which nobody asked for, has changed", i);
	}
}

/* Both, of a compact segment. */
static void check_compact(const struct world *world)
{
	const struct compact_slot *slots = world->segment->compact.slots;

	for (unsigned i = 0; i < WORLD_SLOTS; i++) {
		const struct word_pair *word = &slots[i].word, *before = &world->compact[i].word;

		for (unsigned j = 0; j < i && !(word->second & COMPACT_TENTATIVE); j++)
			must_say((slots[j].word.second & COMPACT_TENTATIVE) || word->first == 0 ||
					 (word->first ^ slots[j].word.first) >> 16 != 0,
				 "slots %u and %u are buckets of one key", j, i);
		if (!(before->second & COMPACT_TENTATIVE) &&
		    before->second > BEGIN_NS + 40 * DAY_NS)
			must_say(memcmp(before, word, sizeof(*word)) == 0,
				 "slot %u, which nobody asked for, has changed", i);
	}
}

static void no_finding(const char *finding, void *context)
{
	const bool *dead_holds = context;

	must_say(*dead_holds && strstr(finding, "belong to dead processes"), "%s", finding);
}

static uint64_t counter(const struct world *world, const char *name)
{
	for (unsigned i = 0; weir_counter(i); i++) {
		if (strcmp(weir_counter(i)->name, name) == 0)
			return weir_counter_read(world->weir, i, NULL);
	}
	ck_abort_msg("no counter %s", name);
}

void world_check(const struct world *world, bool dead_holds)
{
	if (world->segment->compact.groups) {
		check_compact(world);
	} else {
		check_identities(world->segment->table.slots);
		check_bystanders(world, world->segment->table.slots);
	}
	weir_check(world->weir, no_finding, &dead_holds);
	must(counter(world, "contended") == 0);
	must(counter(world, "repaired") == 0);
}

/* ---- All instructions -------------------------------------------------- */

bool world_soak(void)
{
	const char *soak = getenv("WEIR_SOAK");

	return soak && *soak && strcmp(soak, "0") != 0;
}

void world_each_instruction(struct world *world, const char *name, const struct traced *traced,
			    uint32_t variants, uint32_t limit,
			    void (*at)(struct world *world, pid_t child, uint32_t variant,
				       void *context),
			    void *context)
{
	uint32_t stride, halts = 0, next = 0;
	struct trace trace;

	world_restore(world);
	trace_record(traced, &trace);
	stride = world_soak() ? 1 : trace.count / limit + 1;
	for (uint32_t i = 0; i < trace.count; i++) {
		bool critical = world_soak() || trace_is_critical(&trace, i);
		uint32_t count = critical ? variants : 1; /* all, or the next one */

		if (i % stride != 0 && !critical)
			continue;
		for (uint32_t n = 0; n < count; n++) {
			world_restore(world);
			at(world, trace_start(traced, &trace, i), next++ % variants, context);
		}
		halts += count;
	}
	printf("%s: %u instructions, halted %u times, stride %u\n", name, trace.count, halts,
	       stride);
	trace_free(&trace);
}
