/* SPDX-License-Identifier: Apache-2.0 */
#include "replay-report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- Figures ------------------------------------------------------------ */

static bool is_above(const struct replay_key_count *a, const struct replay_key_count *b)
{
	if (a->denied != b->denied)
		return a->denied > b->denied;
	if (a->requests != b->requests)
		return a->requests > b->requests;
	return a->key < b->key;         /* keys are numbered as they are seen */
}

int replay_top_keys(const struct replay_input *input, const struct replay_result *result,
		    struct replay_key_count top[REPLAY_TOP_KEYS])
{
	struct replay_key_count *counts = calloc(input->keys.count, sizeof(*counts));
	unsigned found = 0;

	if (!counts)
		return -1;
	for (uint32_t i = 0; i < input->request_count; i++) {
		struct replay_key_count *count = &counts[input->requests[i].key];

		count->requests++;
		count->denied += result->outcomes[i] == REPLAY_DENIED;
	}
	for (uint32_t key = 0; key < input->keys.count; key++) {
		unsigned place = found;

		counts[key].key = key;
		if (counts[key].denied == 0)
			continue;
		while (place > 0 && is_above(&counts[key], &top[place - 1]))
			place--;
		if (place == REPLAY_TOP_KEYS)
			continue;
		if (found < REPLAY_TOP_KEYS)
			found++;
		memmove(&top[place + 1], &top[place], (found - place - 1) * sizeof(*top));
		top[place] = counts[key];
	}
	free(counts);
	return (int)found;
}

const struct replay_tally *replay_alone_tally(const struct replay_report *report, uint32_t policy,
					      uint32_t limit)
{
	const struct replay_plan *plan = report->plan;

	for (uint32_t i = 0; i < plan->alone_count; i++)
		if (plan->alone[i].policy == policy && plan->alone[i].limit == limit)
			return &report->result->tallies[plan->policy_count + i];
	return &report->result->tallies[policy];        /* its only limit */
}

const char *replay_time_text(uint64_t time_ns, char text[REPLAY_TIME_SIZE])
{
	time_t seconds = (time_t)(time_ns / 1000000000u);
	struct tm utc;

	gmtime_r(&seconds, &utc);
	strftime(text, REPLAY_TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &utc);
	return text;
}

uint64_t replay_decisions_per_second(const struct replay_result *result)
{
	uint64_t elapsed_ns = result->elapsed_ns ? result->elapsed_ns : 1;

	return (uint64_t)((double)result->decisions * 1e9 / (double)elapsed_ns);
}

static uint64_t first_time(const struct replay_input *input)
{
	return input->requests[0].time_ns;
}

static uint64_t last_time(const struct replay_input *input)
{
	return input->requests[input->request_count - 1].time_ns;
}

static uint64_t undecided(const struct replay_report *report)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < report->plan->policy_count + report->plan->alone_count; i++)
		sum += report->result->tallies[i].undecided;
	return sum;
}

/* A key for people: the fields of a combination stand apart. */
static void print_key(FILE *file, const struct replay_report *report, uint32_t key)
{
	const struct replay_key_set *keys = &report->input->keys;

	for (unsigned i = 0; i < report->form->count; i++) {
		struct replay_text field = replay_key_field(report->form,
							    replay_key_bytes(keys, key),
							    keys->keys[key].length, i);

		if (i > 0)
			fputs(" + ", file);
		cli_print_key(file, field.bytes, field.length);
	}
}

static void print_form(FILE *file, const struct replay_key_form *form)
{
	for (unsigned i = 0; i < form->count; i++)
		fprintf(file, "%s%s", i ? "+" : "", replay_field_name(form->fields[i]));
}

/* ---- Text --------------------------------------------------------------- */

static void print_count(const char *name, uint64_t count, uint64_t all)
{
	printf("%-14s %12" PRIu64, name, count);
	if (all)
		printf("  %5.1f %%", 100.0 * (double)count / (double)all);
	putchar('\n');
}

static void print_totals(const struct replay_report *report)
{
	const struct replay_input *input = report->input;
	const struct replay_result *result = report->result;

	print_count("requests", input->request_count, 0);
	print_count("allowed", result->allowed, input->request_count);
	print_count("denied", result->denied, input->request_count);
	if (result->unavailable)
		print_count("unavailable", result->unavailable, input->request_count);
	print_count("malformed", input->malformed, 0);
	for (unsigned i = 0; i < input->example_count; i++) {
		const struct replay_example *example = &input->examples[i];

		printf("  line %" PRIu64 ": %s%s", example->line, example->reason,
		       example->length ? ": " : "");
		cli_print_message(stdout, example->bytes, example->length);
		puts(example->cut ? "..." : "");
	}
	if (input->malformed > input->example_count)
		printf("  and %" PRIu64 " more\n", input->malformed - input->example_count);
	printf("%-14s %12" PRIu64, "steps back", input->steps_back);
	if (input->held)
		printf("  of the log's time; %" PRIu64 " requests were %s", input->held,
		       report->options->speed == REPLAY_SPEED_LOG ?
			       "decided at the latest time so far" : "logged out of order");
	putchar('\n');
}

static void print_limit(const struct replay_report *report, uint32_t policy, uint32_t limit)
{
	const struct weir_policy *definition = &report->plan->policies[policy];
	const struct replay_tally *tally = replay_alone_tally(report, policy, limit);
	char text[96];

	weir_limit_format(&definition->limits[limit], text, sizeof(text));
	printf("  %-38s %12s %12" PRIu64, text, "", tally->denied + tally->shadowed);
	if (definition->limits[limit].action == WEIR_ACTION_FLAG)
		printf("  flagged %" PRIu64, tally->flagged);
	putchar('\n');
}

static void print_policies(const struct replay_report *report)
{
	const struct replay_plan *plan = report->plan;

	printf("\n%-40s %12s %12s\n", "POLICY, and what each limit alone denies", "ALLOWED",
	       "DENIED");
	for (uint32_t i = 0; i < plan->policy_count; i++) {
		const struct replay_tally *tally = &report->result->tallies[i];

		printf("%-40s %12" PRIu64 " %12" PRIu64, plan->policies[i].name, tally->allowed,
		       tally->denied);
		if (plan->policies[i].shadow)
			printf("  in shadow: would deny %" PRIu64, tally->shadowed);
		if (tally->unavailable)
			printf("  unavailable %" PRIu64, tally->unavailable);
		putchar('\n');
		for (uint32_t j = 0; j < plan->policies[i].limit_count; j++)
			print_limit(report, i, j);
	}
	if (plan->dropped)
		printf("Left out: %" PRIu32 " concurrency limit%s, as a log does not say when a "
		       "request ended\n", plan->dropped, plan->dropped == 1 ? "" : "s");
}

static void print_top(const struct replay_report *report, const struct replay_key_count *top,
		      int count)
{
	if (count == 0)
		return;
	printf("\n%12s %12s  MOST LIMITED KEYS\n", "REQUESTS", "DENIED");
	for (int i = 0; i < count; i++) {
		printf("%12" PRIu32 " %12" PRIu32 "  ", top[i].requests, top[i].denied);
		print_key(stdout, report, top[i].key);
		putchar('\n');
	}
}

static void print_speed(const struct replay_report *report)
{
	const struct replay_result *result = report->result;
	const struct replay_latency *latency = &result->latency;

	printf("\n%-14s %12" PRIu64 "  in %.3f s: %" PRIu64 " per second%s\n", "decisions",
	       result->decisions, (double)result->elapsed_ns / 1e9,
	       replay_decisions_per_second(result),
	       report->options->speed == REPLAY_SPEED_LOG ?
		       ", the workers' waits for each other included" : "");
	printf("%-14s p50 %" PRIu64 " ns, p99 %" PRIu64 " ns, p99.9 %" PRIu64
	       " ns, longest %" PRIu64
	       " ns,\n%-14s with one reading of the clock, which is not subtracted\n",
	       "latency", latency->p50_ns, latency->p99_ns, latency->p99_9_ns, latency->max_ns, "");
}

static void print_doubts(const struct replay_report *report)
{
	uint64_t lost = report->result->evicted_live;
	uint64_t failed = undecided(report);

	if (lost)
		cli_warn("%" PRIu64 " live buckets were evicted, and the totals are too generous: "
			 "replay with more --slots than %" PRIu64, lost, report->options->slots);
	if (failed)
		cli_warn("%" PRIu64
			 " decisions were left to the fail mode, as no slot was free or too "
			 "many workers changed a bucket at once: replay with more --slots or fewer "
			 "--workers",
			 failed);
}

void replay_print_text(struct cli *cli, const struct replay_report *report)
{
	const struct replay_input *input = report->input;
	const struct replay_options *options = report->options;
	struct replay_key_count top[REPLAY_TOP_KEYS];
	int top_count = replay_top_keys(input, report->result, top);
	char first[REPLAY_TIME_SIZE], last[REPLAY_TIME_SIZE];

	if (top_count < 0)
		cli_die(cli, "no memory to count the requests of %" PRIu32 " keys",
			input->keys.count);

	fputs("Replayed ", stdout);
	cli_print_message(stdout, report->path, strlen(report->path));
	printf(", %s to %s,\n", replay_time_text(first_time(input), first),
	       replay_time_text(last_time(input), last));
	printf("at %s with %u worker%s: %" PRIu32 " keys (",
	       options->speed == REPLAY_SPEED_LOG ? "the log's times" : "full speed",
	       options->workers, options->workers == 1 ? "" : "s", input->keys.count);
	print_form(stdout, report->form);
	printf("), %" PRIu64 " slots\n\n", options->slots);

	print_totals(report);
	print_policies(report);
	print_top(report, top, top_count);
	print_speed(report);
	print_doubts(report);
}
