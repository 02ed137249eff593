/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-hosts-command.h"
#include "replay-demand.h"
#include "replay-hosts-report.h"

#define MODES_MAX 32u           /* bits of a mask */

static void read_input(struct cli *cli, const struct replay_hosts_request *request,
		       const struct replay_plan *plan, struct replay_input *input)
{
	struct weir_error error;
	int status = request->demand > 0 ?
			     replay_demand(input, &plan->policies[0].limits[0], request->demand,
					   request->demand_s, &error) :
			     replay_input_read(input, request->path, request->form,
					       request->options.progress, &error);

	if (status)
		cli_die(cli, "%s", error.message);
}

/* One mode after the other: together, the rounds of one would serve the others. */
static unsigned run_modes(struct cli *cli, const struct replay_hosts_request *request,
			  const struct replay_hosts_options *options,
			  const struct replay_input *input, const struct replay_plan *plan,
			  struct replay_mode_measure *measures)
{
	struct replay_decisions decisions;
	struct weir_error error;
	unsigned count = 0;

	for (unsigned mode = 0; mode < MODES_MAX; mode++) {
		if (!(request->modes >> mode & 1))
			continue;
		if (replay_hosts_run(input, plan, options, (enum weir_consistency)mode, &decisions,
				     &error) ||
		    replay_measure(input, plan, options, &decisions, &measures[count++], &error))
			cli_die(cli, "%s", error.message);
		replay_decisions_free(&decisions);
	}
	return count;
}

int replay_hosts_command(struct cli *cli, const struct replay_hosts_request *request,
			 const struct replay_plan *plan)
{
	struct replay_hosts_options options = request->options;
	struct replay_mode_measure measures[MODES_MAX];
	struct replay_plan accelerated;
	struct replay_input input;
	struct weir_error error;
	bool above;

	if (replay_plan_accelerate(plan, options.speed, &accelerated, &error))
		cli_die(cli, "%s", error.message);
	read_input(cli, request, plan, &input);
	options.slots = replay_choose_slots(cli, options.slots, &accelerated, input.keys.count);

	struct replay_hosts_report report = {
		.path = request->path,
		.demand = request->demand,
		.form = request->form,
		.input = &input,
		.plan = plan,
		.accelerated = &accelerated,
		.options = &options,
		.measures = measures,
	};

	report.measure_count = run_modes(cli, request, &options, &input, &accelerated, measures);
	if (cli->json)
		replay_hosts_print_json(cli, &report);
	else
		replay_hosts_print_text(&report);
	if (request->plot && replay_hosts_plot(request->plot, &report, &error))
		cli_die(cli, "%s", error.message);
	above = replay_hosts_above(&report);
	if (above)
		cli_warn("more was admitted than the bound of a mode allows, which is a bug in "
			 "weir: please report it");

	for (unsigned i = 0; i < report.measure_count; i++)
		replay_measure_free(&measures[i]);
	replay_plan_free(&accelerated);
	replay_input_free(&input);
	return above ? CLI_ERROR : CLI_OK;
}
