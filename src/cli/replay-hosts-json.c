/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-hosts-report.h"
#include "replay-report.h"

static json_t *json_limit(const struct replay_hosts_report *report,
			  const struct replay_policy_measure *measure, uint32_t policy, uint32_t i)
{
	const struct weir_limit *limit = &report->accelerated->policies[policy].limits[i];
	double over = replay_tokens(measure->limits[i].over, limit);
	enum replay_verdict verdict = replay_verdict_of(measure, i);
	json_t *object = json_object();
	char text[96];

	weir_limit_format(&report->plan->policies[policy].limits[i], text, sizeof(text));
	json_object_set_new(object, "limit", json_string(text));
	weir_limit_format(limit, text, sizeof(text));
	json_object_set_new(object, "limit_here", json_string(text));
	json_object_set_new(object, "over_admission", json_real(over));
	json_object_set_new(object, "over_admission_of_burst",
			    json_real(over / (double)limit->burst));
	json_object_set_new(object, "bound",
			    json_real(replay_tokens(measure->limits[i].bound, limit)));
	json_object_set_new(object, "within",
			    verdict == REPLAY_NO_VERDICT ? json_null() :
							   json_boolean(verdict == REPLAY_WITHIN));
	return object;
}

static json_t *json_policy(const struct replay_hosts_report *report,
			   const struct replay_mode_measure *mode, uint32_t number)
{
	const struct weir_policy *policy = &report->plan->policies[number];
	const struct replay_policy_measure *measure = &mode->policies[number];
	json_t *object = json_object(), *limits = json_array();

	json_object_set_new(object, "name", json_string(policy->name));
	json_object_set_new(object, "allowed", cli_json_u64(measure->outcomes[WEIR_ALLOWED]));
	json_object_set_new(object, "denied", cli_json_u64(measure->outcomes[WEIR_DENIED]));
	json_object_set_new(object, "unavailable",
			    cli_json_u64(measure->outcomes[WEIR_UNAVAILABLE]));
	json_object_set_new(object, "denied_by_mode", cli_json_u64(measure->denied_by_mode));
	json_object_set_new(object, "by_fail_mode", cli_json_u64(measure->by_fail_mode));
	json_object_set_new(object, "ideal_allowed", cli_json_u64(measure->ideal));
	json_object_set_new(object, "admitted_to_ideal",
			    json_real(replay_admitted_to_ideal(measure)));
	for (uint32_t i = 0; i < policy->limit_count; i++)
		json_array_append_new(limits, json_limit(report, measure, number, i));
	json_object_set_new(object, "limits", limits);
	return object;
}

static json_t *json_mode(const struct replay_hosts_report *report,
			 const struct replay_mode_measure *mode)
{
	json_t *object = json_object(), *policies = json_array();

	json_object_set_new(object, "mode", json_string(weir_consistency_name(mode->mode)));
	for (uint32_t i = 0; i < report->plan->policy_count; i++)
		json_array_append_new(policies, json_policy(report, mode, i));
	json_object_set_new(object, "policies", policies);
	json_object_set_new(object, "rounds", cli_json_u64(mode->rounds));
	json_object_set_new(object, "longest_round_ns", cli_json_u64(mode->longest_round_ns));
	json_object_set_new(object, "longest_unmerged_ns",
			    cli_json_u64(mode->longest_unmerged_ns));
	json_object_set_new(object, "slowest_decision_ns", cli_json_u64(mode->slowest_ns));
	json_object_set_new(object, "latest_ns", cli_json_u64(mode->latest_ns));
	json_object_set_new(object, "elapsed_ns", cli_json_u64(mode->elapsed_ns));
	return object;
}

void replay_hosts_print_json(struct cli *cli, const struct replay_hosts_report *report)
{
	const struct replay_hosts_options *options = report->options;
	json_t *object = json_object(), *modes = json_array();

	json_object_set_new(object, "requests", cli_json_u64(report->input->request_count));
	if (report->demand > 0)
		json_object_set_new(object, "demand", json_real(report->demand));
	else
		replay_json_set_input(object, report->input, report->form);
	json_object_set_new(object, "hosts", cli_json_u64(options->hosts));
	json_object_set_new(object, "workers", cli_json_u64(options->workers));
	json_object_set_new(object, "deal", json_string(replay_deal_name(options->deal)));
	json_object_set_new(object, "speed", cli_json_u64(options->speed));
	json_object_set_new(object, "slots", cli_json_u64(options->slots));
	json_object_set_new(object, "interval_ns", cli_json_u64(options->sync.interval_ns));
	json_object_set_new(object, "interval_in_log_ns",
			    cli_json_u64(options->sync.interval_ns * options->speed));
	json_object_set_new(object, "overshoot_permille",
			    cli_json_u64(options->sync.overshoot_permille));
	json_object_set_new(object, "concurrency_limits_left_out",
			    cli_json_u64(report->plan->dropped));
	for (unsigned i = 0; i < report->measure_count; i++)
		json_array_append_new(modes, json_mode(report, &report->measures[i]));
	json_object_set_new(object, "modes", modes);
	cli_print_json(cli, object);
}
