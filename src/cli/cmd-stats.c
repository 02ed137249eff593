/* SPDX-License-Identifier: Apache-2.0 */
/* stats: every counter of the library, in total and per policy. */
#include "cli.h"

#include <inttypes.h>
#include <string.h>

/* The counters, as {name: value}; of all policies if POLICY is NULL. */
static json_t *json_counters(struct cli *cli, const char *policy)
{
	const struct weir_counter *counter;
	json_t *object = json_object();

	for (unsigned i = 0; (counter = weir_counter(i)); i++) {
		if (!policy || counter->per_policy)
			json_object_set_new(object, counter->name,
					    cli_json_u64(weir_counter_read(cli->weir, i, policy)));
	}
	return object;
}

static json_t *json_descriptions(void)
{
	const struct weir_counter *counter;
	json_t *object = json_object();

	for (unsigned i = 0; (counter = weir_counter(i)); i++)
		json_object_set_new(object, counter->name,
				    json_pack("{s:s, s:s, s:b}", "unit", counter->unit,
					      "help", counter->help,
					      "per_policy", (int)counter->per_policy));
	return object;
}

static void print_counters(struct cli *cli, const char *policy)
{
	const struct weir_counter *counter;

	for (unsigned i = 0; (counter = weir_counter(i)); i++) {
		if (!policy || counter->per_policy)
			printf("  %-24s %15" PRIu64 " %-10s  %s\n", counter->name,
			       weir_counter_read(cli->weir, i, policy), counter->unit,
			       counter->help);
	}
}

static void print_stats_json(struct cli *cli, const char *only, const struct weir_policy *policies,
			     size_t count)
{
	json_t *object = json_object();
	json_t *by_policy = json_object();

	for (size_t i = 0; i < count; i++) {
		if (!only || strcmp(only, policies[i].name) == 0)
			json_object_set_new(by_policy, policies[i].name,
					    json_counters(cli, policies[i].name));
	}
	if (!only)
		json_object_set_new(object, "total", json_counters(cli, NULL));
	json_object_set_new(object, "policies", by_policy);
	json_object_set_new(object, "counters", json_descriptions());
	cli_print_json(cli, object);
}

int cmd_stats(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = {
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};
	const struct weir_policy *policies;
	const char *only;
	size_t count;

	cli_parse(cli, argc, argv, options, 0, 1);
	only = cli->operands[0];        /* NULL without an operand */
	cli_open(cli);
	if (only)
		cli_find_policy(cli, only);
	policies = cli_policies(cli, &count);
	if (cli->json) {
		print_stats_json(cli, only, policies, count);
	} else {
		if (!only) {
			printf("total\n");
			print_counters(cli, NULL);
		}
		for (size_t i = 0; i < count; i++) {
			if (only && strcmp(only, policies[i].name) != 0)
				continue;
			printf("policy %s\n", policies[i].name);
			print_counters(cli, policies[i].name);
		}
	}
	return CLI_OK;
}
