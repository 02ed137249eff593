/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process is killed, or stopped, before each instruction of making a segment,
 * of opening and closing one, of setting policies and of removing one.
 *
 * Others find no segment or a whole one, and the old policies or the new ones,
 * never a part.  They decide on all the while, and need not wait for the dead.
 * Only who wants to change policies while a stopped process does so is told
 * WEIR_EBUSY; the pauses of that wait are counted here, and not slept.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "world.h"

#define KEY	      "key"
#define MADE	      "./made"
#define BUSY_EVERY    16u /* stops of which one tries to set policies */

static const char *const policies[][2] = {
	{ "light", "5/1s" },
};

struct test {
	struct world world;
	bool kill;
	bool remove;
	unsigned busy; /* stops in which the control lock was held */
};

static unsigned pauses;

/* In place of the C library's: who waits for a lock finds it as it is. */
int nanosleep(const struct timespec *duration, struct timespec *rest)
{
	(void)duration;
	(void)rest;
	pauses++;
	return 0;
}

/* ---- Making a segment -------------------------------------------------- */

static void small_options(struct weir_options *options)
{
	weir_options_init(options);
	options->slots = WORLD_SLOTS;
	options->policies = 2;
	options->holds = WORLD_HOLDS;
	options->clock = WEIR_CLOCK_CALLER;
}

/* What another child has made. */
static void remove_made(void *context)
{
	(void)context;
	weir_remove(MADE, NULL);
}

static void create(void *context)
{
	struct test *test = context;
	struct weir_options options;
	struct weir_error error;

	small_options(&options);
	test->world.told->status = weir_create(MADE, &options, &error);
}

/* Files in the directory but for the world's. */
static unsigned files(void)
{
	DIR *directory = opendir(".");
	struct dirent *entry;
	unsigned count = 0;

	must(directory);
	while ((entry = readdir(directory)))
		count += entry->d_name[0] != 'w' && strcmp(entry->d_name, ".") != 0 &&
			 strcmp(entry->d_name, "..") != 0;
	closedir(directory);
	return count;
}

static void no_finding(const char *finding, void *context)
{
	(void)context;
	ck_abort_msg("%s", finding);
}

/* What is at the name is all there, and of use.  Returns its incarnation. */
static uint64_t check_made(void)
{
	struct weir_policy policy = { .name = "p", .limit_count = 1 };
	struct weir_decision decision;
	struct weir_request request = {
		.key = KEY, .key_length = 3, .cost = 1, .now_ns = BEGIN_NS
	};
	struct weir_error error;
	struct weir_info info;
	struct weir *weir;

	must_say(weir_open(MADE, &weir, &error) == 0, "%s", error.message);
	weir_info(weir, &info);
	must(info.slots == WORLD_SLOTS && info.policies == 2 && info.holds == WORLD_HOLDS);
	must(info.clock == WEIR_CLOCK_CALLER && info.participants == 1);
	must(weir_check(weir, no_finding, NULL) == 0);
	must(weir_limit_parse("1/1d", &policy.limits[0], &error) == 0);
	must_say(weir_policy_set(weir, &policy, 1, &error) == 0, "%s", error.message);
	request.policy = weir_policy_find(weir, "p");
	must(weir_decide(weir, &request, &decision) && decision.reason == WEIR_REASON_LIMIT);
	must(weir_reset(weir, &request, NULL));
	weir_close(weir);
	return info.incarnation;
}

static void halted_creator(struct world *world, pid_t child, uint32_t variant, void *context)
{
	struct test *test = context;
	struct weir_options options;
	struct weir_error error;
	struct weir *weir;
	uint64_t incarnation;
	int opened, created;

	if (test->kill)
		trace_kill(child);
	opened = weir_open(MADE, &weir, &error);
	must_say(opened == 0 || opened == WEIR_ENOENT, "%s", error.message);
	weir_close(weir);
	must(files() == (opened == 0));

	small_options(&options);
	created = weir_create(MADE, &options, &error);
	must_say(created == (opened == 0 ? WEIR_EEXIST : 0), "%s", error.message);
	incarnation = check_made();
	if (!test->kill) {
		trace_finish(child);
		must_say(world->told->status == (created == 0 ? WEIR_EEXIST : 0),
			 "the stopped one: status %d, the other: %d", world->told->status, created);
		must(check_made() == incarnation);
	}
	must(files() == 1);
	must(weir_remove(MADE, &error) == 0);
	must(files() == 0);
	(void)variant;
}

static void run_create(bool kill)
{
	struct test test = { .kill = kill };
	struct traced traced = { .arrive = remove_made, .operate = create, .context = &test };

	world_make(&test.world, policies, LENGTH(policies));
	world_save(&test.world);
	remove_made(NULL);
	create(&test);
	must(test.world.told->status == 0);
	check_made();
	world_each_instruction(&test.world, kill ? "create, kill" : "create, stop", &traced, 1, 250,
			       halted_creator, &test);
	world_remove(&test.world);
}

/* ---- Opening and closing one ------------------------------------------- */

static void open_and_close(void *context)
{
	struct test *test = context;
	struct weir_error error;
	struct weir *weir;

	test->world.told->status = weir_open(MADE, &weir, &error);
	weir_close(weir);
}

static void halted_opener(struct world *world, pid_t child, uint32_t variant, void *context)
{
	struct test *test = context;

	if (test->kill) {
		trace_kill(child);
		check_made();
		return;
	}
	trace_finish(child);
	must(world->told->status == 0);
	check_made();
	(void)variant;
}

static void run_open(bool kill)
{
	struct test test = { .kill = kill };
	struct traced traced = { .operate = open_and_close, .context = &test };

	world_make(&test.world, policies, LENGTH(policies));
	world_save(&test.world);
	remove_made(NULL);
	create(&test);
	/* Until the allocator, too, does the same each time. */
	for (int i = 0; i < 16; i++) {
		open_and_close(&test);
		check_made();
	}
	must(test.world.told->status == 0);
	world_each_instruction(&test.world, kill ? "open and close, kill" : "open and close, stop",
			       &traced, 1, 250, halted_opener, &test);
	must(weir_remove(MADE, NULL) == 0);
	world_remove(&test.world);
}

/* ---- Changing policies ------------------------------------------------- */

static void parse(struct weir_policy *policy, const char *name, const char *limit)
{
	memset(policy, 0, sizeof(*policy));
	strcpy(policy->name, name);
	policy->limit_count = 1;
	must(weir_limit_parse(limit, &policy->limits[0], NULL) == 0);
}

/* Replace one and add one, together; or remove one. */
static void change(void *context)
{
	struct test *test = context;
	struct weir_policy new[2];

	if (test->remove) {
		test->world.told->status = weir_policy_remove(test->world.weir, "light", NULL);
		return;
	}
	parse(&new[0], "light", "50/1s");
	parse(&new[1], "extra", "3/1s");
	test->world.told->status = weir_policy_set(test->world.weir, new, 2, NULL);
}

static int set_light(struct test *test, const char *limit, struct weir_error *error)
{
	struct weir_policy policy;

	parse(&policy, "light", limit);
	return weir_policy_set(test->world.weir, &policy, 1, error);
}

/* The limit of policy light by which others decide; 0 if there is no such policy. */
static uint64_t light_limit(struct test *test)
{
	struct weir_decision decision;
	struct weir_policy policy;

	if (!world_ask(&test->world, "light", KEY, 1, BEGIN_NS, &decision)) {
		must(decision.reason == WEIR_REASON_NO_POLICY);
		must(weir_policy_get(test->world.weir, "light", &policy, NULL) == WEIR_ENOENT);
		return 0;
	}
	must(decision.reason == WEIR_REASON_LIMIT);
	must(weir_policy_get(test->world.weir, "light", &policy, NULL) == 0);
	must(policy.limits[0].limit == decision.limit);
	must(world_ask(&test->world, "heavy", "heavy 0", 1, BEGIN_NS, &decision));
	return decision.limit == 100 ? policy.limits[0].limit : 0;
}

static bool has_extra(struct test *test)
{
	struct weir_decision decision;

	return world_ask(&test->world, "extra", KEY, 1, BEGIN_NS, &decision);
}

/* All of the change or nothing of it.  Returns whether it is in force. */
static bool is_changed(struct test *test)
{
	uint64_t limit = light_limit(test);
	bool changed = limit == (test->remove ? 0 : 50);

	must(changed || limit == 5);
	must(has_extra(test) == (changed && !test->remove));
	return changed;
}

static bool control_is_locked(const struct test *test)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = LOCK_CONTROL,
		.l_len = 1,
	};

	must_say(fcntl(test->world.segment->fd, F_OFD_GETLK, &lock) == 0, "%s", strerror(errno));
	return lock.l_type != F_UNLCK;
}

static void killed_in_change(struct test *test)
{
	bool changed = is_changed(test);
	struct weir_error error;

	must_say(set_light(test, "7/1s", &error) == 0, "%s", error.message);
	must(light_limit(test) == 7);
	must(has_extra(test) == (changed && !test->remove));
	change(test);
	must(test->world.told->status == 0);
	must(is_changed(test));
}

static void try_while_locked(struct test *test)
{
	struct weir_error error;

	if (test->busy++ % BUSY_EVERY != 0)
		return;
	pauses = 0;
	must(set_light(test, "7/1s", &error) == WEIR_EBUSY);
	must(error.status == WEIR_EBUSY && strstr(error.message, "changing policies"));
	/* The wait of 5 s, a millisecond at a time. */
	must(pauses == 5000);
}

static void stopped_in_change(struct test *test, pid_t child)
{
	bool changed = is_changed(test), locked = control_is_locked(test);
	uint64_t before = light_limit(test);
	struct weir_error error;

	if (locked)
		try_while_locked(test);
	else
		must_say(set_light(test, "7/1s", &error) == 0, "%s", error.message);
	must(light_limit(test) == (locked ? before : 7));
	trace_finish(child);
	must(test->world.told->status == 0);
	if (changed && !locked)
		must(light_limit(test) == 7);
	else
		must(is_changed(test));
	must_say(set_light(test, "8/1s", &error) == 0, "%s", error.message);
	must(light_limit(test) == 8);
}

static void halted_writer(struct world *world, pid_t child, uint32_t variant, void *context)
{
	struct test *test = context;

	(void)variant;
	if (test->kill) {
		trace_kill(child);
		killed_in_change(test);
	} else {
		stopped_in_change(test, child);
	}
	must(weir_check(world->weir, no_finding, NULL) == 0);
}

static void run_change(bool remove, bool kill)
{
	struct test test = { .kill = kill, .remove = remove };
	struct traced traced = { .operate = change, .context = &test };
	char name[64];

	world_make(&test.world, policies, LENGTH(policies));
	world_fill(&test.world, 1);
	world_save(&test.world);
	change(&test);
	must(test.world.told->status == 0);
	must(is_changed(&test));
	snprintf(name, sizeof(name), "policy %s, %s", remove ? "remove" : "set",
		 kill ? "kill" : "stop");
	world_each_instruction(&test.world, name, &traced, 1, 250, halted_writer, &test);
	if (!kill)
		must(test.busy > 10);
	world_remove(&test.world);
}

/* ---- Main -------------------------------------------------------------- */

START_TEST(creator_is_halted)
{
	run_create(_i == 0);
}
END_TEST

START_TEST(opener_is_halted)
{
	run_open(_i == 0);
}
END_TEST

START_TEST(policy_writer_is_halted)
{
	run_change(_i / 2, _i % 2 == 0);
}
END_TEST

static void add(TCase *tests)
{
	tcase_add_loop_test(tests, creator_is_halted, 0, 2);
	tcase_add_loop_test(tests, opener_is_halted, 0, 2);
	tcase_add_loop_test(tests, policy_writer_is_halted, 0, 4);
}

int main(void)
{
	return world_main("crash in a control function", add);
}
