/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd-replay.c - `weir replay`: what would these limits do to this traffic?
 *
 *	replay-log      a line of the log
 *	replay-key      the key of a request; all keys of a log
 *	replay-input    the log in memory
 *	replay-plan     the policies, and the table that they need
 *	replay-run      the segment and the worker processes
 *	replay-worker   the work of one
 *	replay-report, replay-json, replay-plot
 *	                what came out
 */
#include "cli.h"

#include <inttypes.h>
#include <sched.h>
#include <unistd.h>

#include "replay-plot.h"
#include "replay-report.h"

/* What the arguments ask for. */
struct request {
	struct weir_limit limits[WEIR_LIMITS_MAX];
	size_t limit_count;
	const char *policies;           /* a YAML file */
	struct replay_key_form form;
	uint64_t workers;
	unsigned speed;
	uint64_t slots;                 /* 0: what the log needs */
	const char *plot;
};

static const char *speed_choice(unsigned index)
{
	static const char *const names[] = {
		[REPLAY_SPEED_LOG] = "log",
		[REPLAY_SPEED_MAX] = "max",
	};

	return index <= REPLAY_SPEED_MAX ? names[index] : NULL;
}

static void add_limit(struct cli *cli, const struct cli_option *option, const char *value)
{
	struct request *request = option->target;
	struct weir_error error;

	if (request->limit_count == WEIR_LIMITS_MAX)
		cli_die(cli,
			"--limit \"%s\" is one too many: a policy has at most %u limits; give a "
			"file with more policies as --policies FILE",
			value, WEIR_LIMITS_MAX);
	if (weir_limit_parse(value, &request->limits[request->limit_count++], &error))
		cli_die(cli, "--limit: %s", error.message);
}

static void set_key(struct cli *cli, const struct cli_option *option, const char *value)
{
	struct weir_error error;

	if (replay_key_form_parse(value, option->target, &error))
		cli_die(cli, "%s", error.message);
}

/* The CPUs that this process may use. */
static unsigned cpu_count(void)
{
	cpu_set_t set;
	int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return count < (int)REPLAY_WORKERS_MAX ? (unsigned)count : REPLAY_WORKERS_MAX;
}

static void parse_request(struct cli *cli, int argc, char **argv, struct request *request)
{
	const struct cli_option options[] = {
		{ "limit", "LIMIT", "a limit such as \"60/1m burst 10\"; up to 4, all must pass",
		  CLI_CALL, request, .call = add_limit },
		{ "policies", "FILE", "apply every policy of a YAML file", CLI_STRING,
		  &request->policies },
		{ "key", "FIELD[+FIELD]", "addr (default), user, method, path or user-agent",
		  CLI_CALL, &request->form, .call = set_key },
		{ "workers", "N", "processes, 1 to 64 (default: the CPUs)", CLI_NUMBER,
		  &request->workers, 1, REPLAY_WORKERS_MAX },
		{ "speed", "log|max", "at the log's times (default), or as fast as it goes",
		  CLI_CHOICE, &request->speed, .choice = speed_choice },
		{ "slots", "N", "slots of the table (default: what the log needs)", CLI_NUMBER,
		  &request->slots, 1, 1ull << 32 },
		{ "plot", "FILE.svg", "draw allowed and denied over time", CLI_STRING,
		  &request->plot },
		CLI_OPTION_JSON(cli),
		{ 0 },
	};

	cli_parse(cli, argc, argv, options, 1, 1);
	if (request->policies && request->limit_count)
		cli_die(cli, "--limit and --policies exclude each other: write the limit into %s",
			request->policies);
	if (!request->policies && !request->limit_count)
		cli_die(cli,
			"no limit to apply: give --limit \"60/1m burst 10\", or --policies FILE");
}

static void make_plan(struct cli *cli, const struct request *request, struct replay_plan *plan)
{
	struct weir_error error;
	int status;

	if (request->policies)
		status = replay_plan_file(plan, request->policies, &error);
	else
		status = replay_plan_limits(plan, request->limits, request->limit_count, &error);
	if (status)
		cli_die(cli, "%s", error.message);
}

/* The slots to make: those asked for, if they are enough, else those needed. */
static uint64_t choose_slots(struct cli *cli, uint64_t asked, const struct replay_plan *plan,
			     uint32_t keys)
{
	uint64_t needed = replay_plan_slots(plan, keys);
	uint64_t slots = asked ? replay_round_slots(asked) : REPLAY_SLOTS_MIN;

	if (needed == 0)
		cli_die(cli, "%" PRIu32 " keys with %" PRIu32 " limits each need more slots than a "
			"segment can have: replay a part of the log, or fewer limits", keys,
			plan->limits_per_key);
	if (asked && slots < needed)
		cli_die(cli,
			"--slots %" PRIu64 " is too small for this log: %" PRIu32
			" key%s with %" PRIu32
			" bucket%s each, two slots for a bucket, need --slots %" PRIu64 " or more",
			asked, keys, keys == 1 ? "" : "s", plan->limits_per_key,
			plan->limits_per_key == 1 ? "" : "s", needed);
	return slots > needed ? slots : needed;
}

int cmd_replay(struct cli *cli, int argc, char **argv)
{
	struct request request = { .workers = cpu_count(), .form = { 1, { REPLAY_ADDR } } };
	struct replay_input input;
	struct replay_plan plan;
	struct replay_result result;
	struct weir_error error;

	parse_request(cli, argc, argv, &request);
	make_plan(cli, &request, &plan);

	const char *path = cli->operands[0];
	bool progress = isatty(STDERR_FILENO) != 0;

	if (replay_input_read(&input, path, &request.form, progress, &error))
		cli_die(cli, "%s", error.message);

	struct replay_options options = {
		.speed = (enum replay_speed)request.speed,
		.workers = (unsigned)request.workers,
		.slots = choose_slots(cli, request.slots, &plan, input.keys.count),
		.progress = progress,
	};
	struct replay_report report = {
		.path = path,
		.form = &request.form,
		.input = &input,
		.plan = &plan,
		.options = &options,
		.result = &result,
	};

	if (replay_run(&input, &plan, &options, &result, &error))
		cli_die(cli, "%s", error.message);
	if (cli->json)
		replay_print_json(cli, &report);
	else
		replay_print_text(cli, &report);
	if (request.plot && replay_plot(request.plot, &report, &error))
		cli_die(cli, "%s", error.message);

	replay_result_free(&result);
	replay_plan_free(&plan);
	replay_input_free(&input);
	return CLI_OK;
}
