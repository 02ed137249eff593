/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-hosts-report.h"
#include "replay-report.h"

#include <inttypes.h>
#include <string.h>

#define MS_NS 1e6

double replay_tokens(replay_wide scaled, const struct weir_limit *limit)
{
	return (double)scaled / (double)limit->period_ns;
}

double replay_admitted_to_ideal(const struct replay_policy_measure *policy)
{
	uint64_t admitted = policy->outcomes[WEIR_ALLOWED];

	if (policy->ideal == 0)
		return admitted ? (double)admitted : 1;
	return (double)admitted / (double)policy->ideal;
}

bool replay_hosts_above(const struct replay_hosts_report *report)
{
	for (unsigned mode = 0; mode < report->measure_count; mode++) {
		for (uint32_t i = 0; i < report->plan->policy_count; i++) {
			const struct replay_policy_measure *policy =
				&report->measures[mode].policies[i];

			for (uint32_t j = 0; j < report->plan->policies[i].limit_count; j++)
				if (replay_verdict_of(policy, j) == REPLAY_ABOVE)
					return true;
		}
	}
	return false;
}

/* ---- Head --------------------------------------------------------------- */

static void print_source(const struct replay_hosts_report *report)
{
	const struct replay_input *input = report->input;
	char first[REPLAY_TIME_SIZE], last[REPLAY_TIME_SIZE];

	if (report->demand > 0) {
		printf("%" PRIu32 " requests for one key, %g times the limit,\n",
		       input->request_count, report->demand);
		return;
	}
	fputs("Replayed ", stdout);
	cli_print_message(stdout, report->path, strlen(report->path));
	printf(", %s to %s: %" PRIu32 " requests, %" PRIu64 " lines malformed, %" PRIu32
	       " keys,\n", replay_time_text(input->requests[0].time_ns, first),
	       replay_time_text(input->requests[input->request_count - 1].time_ns, last),
	       input->request_count, input->malformed, input->keys.count);
}

static void print_head(const struct replay_hosts_report *report)
{
	const struct replay_hosts_options *options = report->options;
	char round[TEXT_DURATION_SIZE], scaled[TEXT_DURATION_SIZE];

	print_source(report);
	printf("dealt to %u hosts by %s, %u worker%s each; a round every %s", options->hosts,
	       options->deal == REPLAY_DEAL_ROUND_ROBIN ? "turns" :
							  replay_deal_name(options->deal),
	       options->workers, options->workers == 1 ? "" : "s",
	       text_duration(options->sync.interval_ns, round));
	if (options->speed > 1)
		printf(",\nat %" PRIu64 " times the log's speed: as rounds every %s in its time",
		       options->speed,
		       text_duration(options->sync.interval_ns * options->speed, scaled));
	putchar('\n');
}

/* ---- Policies ----------------------------------------------------------- */

static const char *verdict_text(enum replay_verdict verdict)
{
	switch (verdict) {
	case REPLAY_WITHIN:
		return "within";
	case REPLAY_ABOVE:
		return "ABOVE";
	case REPLAY_NO_VERDICT:
		break;
	}
	return "none: fail mode";
}

static void print_limit(const struct replay_policy_measure *measure,
			const struct weir_policy *policy, uint32_t i)
{
	const struct weir_limit *limit = &policy->limits[i];
	double over = replay_tokens(measure->limits[i].over, limit);

	printf(" %10.1f %7.1f%% %10.1f  %s\n", over, 100 * over / (double)limit->burst,
	       replay_tokens(measure->limits[i].bound, limit),
	       verdict_text(replay_verdict_of(measure, i)));
}

static void print_row(const struct replay_hosts_report *report, unsigned mode, uint32_t number)
{
	const struct weir_policy *policy = &report->accelerated->policies[number];
	const struct replay_policy_measure *measure = &report->measures[mode].policies[number];

	printf("%-9s %10" PRIu64 " %10" PRIu64 " %7.3f %10" PRIu64 " %10" PRIu64 " %8" PRIu64,
	       weir_consistency_name(report->measures[mode].mode), measure->outcomes[WEIR_ALLOWED],
	       measure->ideal, replay_admitted_to_ideal(measure), measure->outcomes[WEIR_DENIED],
	       measure->denied_by_mode, measure->by_fail_mode);
	for (uint32_t i = 0; i < policy->limit_count; i++) {
		if (i > 0)
			printf("%70s", "");
		print_limit(measure, policy, i);
	}
}

static void print_policy(const struct replay_hosts_report *report, uint32_t number)
{
	const struct weir_policy *given = &report->plan->policies[number];
	const struct weir_policy *policy = &report->accelerated->policies[number];
	char text[96];

	printf("\n%s:", given->name);
	for (uint32_t i = 0; i < given->limit_count; i++) {
		weir_limit_format(&given->limits[i], text, sizeof(text));
		printf("%s %s", i ? "," : "", text);
		if (report->options->speed == 1)
			continue;
		weir_limit_format(&policy->limits[i], text, sizeof(text));
		printf(" (here %s)", text);
	}
	printf("\n%-9s %10s %10s %7s %10s %10s %8s %10s %8s %10s  %s\n", "MODE", "ADMITTED",
	       "IDEAL", "A:I", "DENIED", "BY MODE", "FAILMODE", "OVER", "OF BURST", "BOUND",
	       "VERDICT");
	for (unsigned mode = 0; mode < report->measure_count; mode++)
		print_row(report, mode, number);
}

static void print_modes(const struct replay_hosts_report *report)
{
	printf("\n%-9s %10s %12s %12s %12s %12s\n", "MODE", "ROUNDS", "LONGEST ms", "UNMERGED ms",
	       "DECISION ms", "LATEST ms");
	for (unsigned i = 0; i < report->measure_count; i++) {
		const struct replay_mode_measure *measure = &report->measures[i];

		printf("%-9s %10" PRIu64 " %12.3f %12.3f %12.3f %12.3f\n",
		       weir_consistency_name(measure->mode), measure->rounds,
		       (double)measure->longest_round_ns / MS_NS,
		       (double)measure->longest_unmerged_ns / MS_NS,
		       (double)measure->slowest_ns / MS_NS, (double)measure->latest_ns / MS_NS);
	}
}

void replay_hosts_print_text(const struct replay_hosts_report *report)
{
	print_head(report);
	for (uint32_t i = 0; i < report->plan->policy_count; i++)
		print_policy(report, i);
	print_modes(report);
}
