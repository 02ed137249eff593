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
 *	replay-segment, replay-team
 *	                how segments are made, and processes watched
 *	replay-report, replay-json, replay-plot
 *	                what came out
 *
 * and on several hosts that agree through Redis:
 *
 *	replay-hosts-command
 *	                one mode after the other
 *	replay-demand   requests, where there is no log
 *	replay-hosts, replay-hosts-worker, replay-janitor
 *	                the hosts and their workers; who clears up
 *	replay-debt     what they admitted, held against an ideal bucket
 *	replay-hosts-report, replay-hosts-json, replay-hosts-plot
 */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replay-hosts-command.h"
#include "replay-plot.h"
#include "replay-report.h"

#define MS_NS 1000000ull
#define DEMAND_S 20

/* What the arguments ask for. */
struct request {
	struct weir_limit limits[WEIR_LIMITS_MAX];
	size_t limit_count;
	const char *policies;           /* a YAML file */
	struct replay_key_form form;
	uint64_t workers;               /* 0: not given */
	const char *speed;
	uint64_t slots;                 /* 0: what the log needs */
	const char *plot;

	/* Of several hosts: */
	uint64_t hosts;                 /* 0: one, without Redis */
	const char *redis;
	const char *modes;
	const char *demand;
	uint64_t demand_s;              /* 0: not given, as what follows */
	uint64_t interval_ms;
	uint64_t staleness_ms;
	uint64_t overshoot;
	const char *deal;
};

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

/* Exactly one log, or a demand for hosts. */
static void check_source(struct cli *cli, const struct request *request)
{
	if (!request->hosts && (request->redis || request->modes || request->demand ||
				request->deal))
		cli_die(cli, "--%s is for several hosts: give --hosts N, too",
			request->redis ? "redis" : request->modes ? "consistency" :
			request->demand ? "demand" : "deal");
	if (request->hosts && !request->redis)
		cli_die(cli, "hosts agree through Redis: give --redis URL, too");
	if (request->demand && cli->operand_count > 0)
		cli_die(cli, "--demand takes the place of a log: leave out %s", cli->operands[0]);
	if (!request->demand && cli->operand_count == 0)
		cli_die(cli, "no log given: name one, or \"-\" for standard input");
}

static void parse_request(struct cli *cli, int argc, char **argv, struct request *request)
{
	struct weir_sync_options sync;

	weir_sync_options_init(&sync);
	request->interval_ms = sync.interval_ns / MS_NS;
	request->staleness_ms = sync.max_staleness_ns / MS_NS;
	request->overshoot = sync.overshoot_permille;
	request->demand_s = DEMAND_S;

	const struct cli_option options[] = {
		{ "limit", "LIMIT", "a limit such as \"60/1m burst 10\"; up to 4, all must pass",
		  CLI_CALL, request, .call = add_limit },
		{ "policies", "FILE", "apply every policy of a YAML file", CLI_STRING,
		  &request->policies },
		{ "key", "FIELD[+FIELD]", "addr (default), user, method, path or user-agent",
		  CLI_CALL, &request->form, .call = set_key },
		{ "workers", "N", "processes, 1 to 64 (default: the CPUs; of each host: 1)",
		  CLI_NUMBER, &request->workers, 1, REPLAY_WORKERS_MAX },
		{ "speed", "log|max|N", "the log's (default), the fastest, or of hosts N times the log's",
		  CLI_STRING, &request->speed },
		{ "slots", "N", "slots of the table (default: what the log needs)", CLI_NUMBER,
		  &request->slots, 1, 1ull << 32 },
		{ "plot", "FILE.svg", "draw allowed and denied over time, or over-admission",
		  CLI_STRING, &request->plot },
		{ "hosts", "N", "2 to 64 hosts, in real time, that agree through Redis", CLI_NUMBER,
		  &request->hosts, 2, REPLAY_HOSTS_MAX },
		{ "redis", "URL", "where Redis is", CLI_STRING, &request->redis },
		{ "consistency", "MODE[,MODE]", "modes to try, or \"all\" (default)", CLI_STRING,
		  &request->modes },
		{ "deal", "HOW", "requests to hosts: round-robin (default), random or key",
		  CLI_STRING, &request->deal },
		{ "demand", "X", "no log: one key, X times the (first) limit", CLI_STRING,
		  &request->demand },
		{ "seconds", "N", "of --demand (default 20)", CLI_NUMBER, &request->demand_s, 1,
		  86400 },
		{ "interval-ms", "N", "between rounds (default 100)", CLI_NUMBER,
		  &request->interval_ms, 1, 60000 },
		{ "max-staleness-ms", "N", "a view older than this is stale (default 2000)",
		  CLI_NUMBER, &request->staleness_ms, 2, CLI_STALENESS_MAX_MS },
		{ "overshoot", "PERMILLE", "of a burst, in bounded mode (default 50)", CLI_NUMBER,
		  &request->overshoot, 0, 1000 },
		CLI_OPTION_JSON(cli),
		{ 0 },
	};

	cli_parse(cli, argc, argv, options, 0, 1);
	check_source(cli, request);
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

uint64_t replay_choose_slots(struct cli *cli, uint64_t asked, const struct replay_plan *plan,
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

static enum replay_speed speed_of(struct cli *cli, const struct request *request)
{
	if (!request->speed || strcmp(request->speed, "log") == 0)
		return REPLAY_SPEED_LOG;
	if (strcmp(request->speed, "max") == 0)
		return REPLAY_SPEED_MAX;
	cli_die(cli, "--speed \"%s\" is not known: give log or max, or a number with --hosts",
		request->speed);
}

/* ---- Several hosts ------------------------------------------------------ */

static uint32_t modes_of(struct cli *cli, const char *names)
{
	const char *at = names;
	uint32_t modes = 0;

	if (!names || strcmp(names, "all") == 0) {
		for (unsigned mode = 0; cli_consistency_choice(mode); mode++)
			modes |= 1u << mode;
		return modes;
	}
	for (size_t length;; at += length + 1) {
		char name[32];

		length = strcspn(at, ",");
		snprintf(name, sizeof(name), "%.*s", (int)(length < 31 ? length : 31), at);
		modes |= 1u << cli_choice(cli, "--consistency", name, cli_consistency_choice);
		if (at[length] == '\0')
			return modes;
	}
}

static double demand_of(struct cli *cli, const char *text)
{
	char *end;
	double demand = strtod(text, &end);

	if (*text == '\0' || *end != '\0' || !(demand >= 0.01 && demand <= 1000))
		cli_die(cli, "--demand \"%s\" does not do: give a number from 0.01 to 1000", text);
	return demand;
}

static int replay_on_hosts(struct cli *cli, const struct request *request,
			   const struct replay_plan *plan)
{
	struct replay_hosts_request hosts = {
		.options = {
			.hosts = (unsigned)request->hosts,
			.workers = request->workers ? (unsigned)request->workers : 1,
			.slots = request->slots,
			.speed = request->speed ? cli_number(cli, "--speed (of hosts)",
							     request->speed, 1,
							     REPLAY_HOSTS_SPEED_MAX) : 1,
			.progress = isatty(STDERR_FILENO) != 0,
		},
		.modes = modes_of(cli, request->modes),
		.demand = request->demand ? demand_of(cli, request->demand) : 0,
		.demand_s = request->demand_s,
		.path = request->demand ? NULL : cli->operands[0],
		.form = &request->form,
		.plot = request->plot,
	};
	struct weir_sync_options *sync = &hosts.options.sync;

	if (hosts.options.hosts * hosts.options.workers > REPLAY_TEAM_MAX)
		cli_die(cli, "%u hosts with %u workers each are more than %u processes: give fewer",
			hosts.options.hosts, hosts.options.workers, REPLAY_TEAM_MAX);
	if (request->deal)
		hosts.options.deal = (enum replay_deal)cli_choice(cli, "--deal", request->deal,
								  replay_deal_name);
	cli_check_staleness(cli, request->interval_ms, request->staleness_ms);
	weir_sync_options_init(sync);
	sync->url = request->redis;
	sync->interval_ns = request->interval_ms * MS_NS;
	sync->max_staleness_ns = request->staleness_ms * MS_NS;
	sync->overshoot_permille = (uint32_t)request->overshoot;
	return replay_hosts_command(cli, &hosts, plan);
}

/* ---- The command -------------------------------------------------------- */

int cmd_replay(struct cli *cli, int argc, char **argv)
{
	struct request request = { .form = { 1, { REPLAY_ADDR } } };
	struct replay_input input;
	struct replay_plan plan;
	struct replay_result result;
	struct weir_error error;

	parse_request(cli, argc, argv, &request);
	make_plan(cli, &request, &plan);
	if (request.hosts) {
		int status = replay_on_hosts(cli, &request, &plan);

		replay_plan_free(&plan);
		return status;
	}

	const char *path = cli->operands[0];
	bool progress = isatty(STDERR_FILENO) != 0;

	if (replay_input_read(&input, path, &request.form, progress, &error))
		cli_die(cli, "%s", error.message);

	struct replay_options options = {
		.speed = speed_of(cli, &request),
		.workers = request.workers ? (unsigned)request.workers : cpu_count(),
		.slots = replay_choose_slots(cli, request.slots, &plan, input.keys.count),
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
