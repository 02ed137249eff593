/* SPDX-License-Identifier: Apache-2.0 */
/* policy set, list, remove, load, and fail-mode. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_TEXT_SIZE 96

/* A policy file of standard input ends here: room for 4096 policies and more. */
#define POLICY_TEXT_MAX (16u << 20)

static json_t *json_limit(const struct weir_limit *limit)
{
	json_t *object = json_object();
	char text[LIMIT_TEXT_SIZE];

	weir_limit_format(limit, text, sizeof(text));
	json_object_set_new(object, "text", json_string(text));
	json_object_set_new(object, "limit", cli_json_u64(limit->limit));
	json_object_set_new(object, "period_ns", cli_json_u64(limit->period_ns));
	json_object_set_new(object, "burst", cli_json_u64(limit->burst));
	json_object_set_new(object, "algorithm",
			    json_string(weir_algorithm_name(limit->algorithm)));
	json_object_set_new(object, "action",
			    json_string(limit->action == WEIR_ACTION_FLAG ? "flag" : "deny"));
	return object;
}

static json_t *json_policy(const struct weir_policy *policy)
{
	json_t *object = json_object();
	json_t *limits = json_array();

	for (uint32_t i = 0; i < policy->limit_count; i++)
		json_array_append_new(limits, json_limit(&policy->limits[i]));
	json_object_set_new(object, "name", json_string(policy->name));
	json_object_set_new(object, "limits", limits);
	json_object_set_new(object, "fail_mode",
			    json_string(weir_fail_mode_name(policy->fail_mode)));
	json_object_set_new(object, "consistency",
			    json_string(weir_consistency_name(policy->consistency)));
	json_object_set_new(object, "shadow", json_boolean(policy->shadow));
	json_object_set_new(object, "lease", json_boolean(policy->lease));
	json_object_set_new(object, "buckets",
			    json_string(policy->buckets[0] ? policy->buckets : policy->name));
	return object;
}

static void print_limits(const struct weir_policy *policy)
{
	char text[LIMIT_TEXT_SIZE];

	for (uint32_t i = 0; i < policy->limit_count; i++) {
		weir_limit_format(&policy->limits[i], text, sizeof(text));
		printf("%s%s", i ? ", " : "", text);
	}
}

/* ---- set, load, remove ------------------------------------------------- */

static void set_policies(struct cli *cli, const struct weir_policy *policies, size_t count)
{
	struct weir_error error;

	if (weir_policy_set(cli_open(cli), policies, count, &error) < 0)
		cli_die(cli, "%s", error.message);
	if (cli->json) {
		json_t *array = json_array();

		for (size_t i = 0; i < count; i++)
			json_array_append_new(array, json_policy(&policies[i]));
		cli_print_json(cli, json_pack("{s:o}", "policies", array));
		return;
	}
	for (size_t i = 0; i < count; i++) {
		printf("policy %s: ", policies[i].name);
		print_limits(&policies[i]);
		putchar('\n');
	}
}

int cmd_policy_set(struct cli *cli, int argc, char **argv)
{
	struct weir_policy policy = { 0 };
	const char *buckets = "";
	unsigned fail_mode = WEIR_FAIL_SHARE;
	unsigned consistency = WEIR_BOUNDED;
	const struct cli_option options[] = {
		{ "fail-mode", "MODE", "share (default), open or closed", CLI_CHOICE, &fail_mode,
		  .choice = cli_fail_mode_choice },
		{ "consistency", "MODE", "bounded (default), local, eventual or strict", CLI_CHOICE,
		  &consistency, .choice = cli_consistency_choice },
		{ "shadow", NULL, "decide and count, but allow", CLI_FLAG, &policy.shadow },
		{ "lease", NULL, "threads take tokens of a hot key ahead", CLI_FLAG, &policy.lease },
		{ "buckets", "NAME", "share the buckets of policies with this name", CLI_STRING,
		  &buckets },
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};
	struct weir_error error;
	const char *name;

	cli_parse(cli, argc, argv, options, 2, 1 + WEIR_LIMITS_MAX);
	name = cli->operands[0];
	if (strlen(name) > WEIR_NAME_MAX)
		cli_die(cli, "the policy's name \"%s\" has %zu bytes: give one of at most %u", name,
			strlen(name), WEIR_NAME_MAX);
	strcpy(policy.name, name);
	if (strlen(buckets) > WEIR_BUCKETS_MAX)
		cli_die(cli, "--buckets \"%s\" has %zu bytes: give at most %u", buckets,
			strlen(buckets), WEIR_BUCKETS_MAX);
	strcpy(policy.buckets, buckets);
	policy.fail_mode = (enum weir_fail_mode)fail_mode;
	policy.consistency = (enum weir_consistency)consistency;
	policy.limit_count = (uint32_t)cli->operand_count - 1;
	for (uint32_t i = 0; i < policy.limit_count; i++) {
		if (weir_limit_parse(cli->operands[i + 1], &policy.limits[i], &error) < 0)
			cli_die(cli, "%s", error.message);
	}
	set_policies(cli, &policy, 1);
	return CLI_OK;
}

static char *read_standard_input(struct cli *cli, size_t *length)
{
	char *text = malloc(POLICY_TEXT_MAX);

	if (!text)
		cli_die(cli, "no memory for a policy file");
	*length = fread(text, 1, POLICY_TEXT_MAX, stdin);
	if (ferror(stdin))
		cli_die(cli, "cannot read policies from standard input: %s", strerror(errno));
	if (*length == POLICY_TEXT_MAX)
		cli_die(cli, "the policies on standard input exceed %u bytes: split them",
			POLICY_TEXT_MAX - 1);
	return text;
}

int cmd_policy_load(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = {
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};
	struct weir_error error;
	size_t count;
	int status;

	cli_parse(cli, argc, argv, options, 1, 1);
	if (strcmp(cli->operands[0], "-") == 0) {
		size_t length;
		char *text = read_standard_input(cli, &length);

		status = weir_policy_parse(text, length, "standard input", &cli->policies, &count,
					   &error);
		free(text);
	} else {
		status = weir_policy_parse_file(cli->operands[0], &cli->policies, &count, &error);
	}
	if (status < 0)
		cli_die(cli, "%s", error.message);
	set_policies(cli, cli->policies, count);
	return CLI_OK;
}

int cmd_policy_remove(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = { CLI_OPTION_SEGMENT(cli), { 0 } };
	struct weir_error error;
	int status;

	cli_parse(cli, argc, argv, options, 1, 1);
	status = weir_policy_remove(cli_open(cli), cli->operands[0], &error);
	if (status == WEIR_ENOENT)
		cli_unknown_policy(cli, cli->operands[0]);
	if (status < 0)
		cli_die(cli, "%s", error.message);
	return CLI_OK;
}

/* ---- list -------------------------------------------------------------- */

/* The mode in force; the policy's own one if it has just been removed. */
static enum weir_fail_mode mode_in_force(struct cli *cli, const struct weir_policy *policy)
{
	enum weir_fail_mode mode;

	if (weir_fail_mode_get(cli->weir, policy->name, &mode, NULL) < 0)
		return policy->fail_mode;
	return mode;
}

static void print_policy(struct cli *cli, const struct weir_policy *policy)
{
	enum weir_fail_mode mode = mode_in_force(cli, policy);

	printf("%-20s ", policy->name);
	print_limits(policy);
	printf("  fail-mode %s", weir_fail_mode_name(policy->fail_mode));
	if (mode != policy->fail_mode)
		printf(" (now %s)", weir_fail_mode_name(mode));
	printf(", consistency %s%s%s", weir_consistency_name(policy->consistency),
	       policy->shadow ? ", shadow" : "", policy->lease ? ", lease" : "");
	if (policy->buckets[0])
		printf(", buckets %s", policy->buckets);
	putchar('\n');
}

int cmd_policy_list(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = {
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};
	const struct weir_policy *policies;
	size_t count;

	cli_parse(cli, argc, argv, options, 0, 0);
	cli_open(cli);
	policies = cli_policies(cli, &count);
	if (cli->json) {
		json_t *array = json_array();

		for (size_t i = 0; i < count; i++) {
			enum weir_fail_mode mode = mode_in_force(cli, &policies[i]);
			json_t *policy = json_policy(&policies[i]);

			json_object_set_new(policy, "fail_mode_in_force",
					    json_string(weir_fail_mode_name(mode)));
			json_array_append_new(array, policy);
		}
		cli_print_json(cli, json_pack("{s:o}", "policies", array));
	} else {
		for (size_t i = 0; i < count; i++)
			print_policy(cli, &policies[i]);
	}
	return CLI_OK;
}

/* ---- fail-mode --------------------------------------------------------- */

/* The modes, and "default" behind them. */
static const char *mode_or_default(unsigned index)
{
	return index == WEIR_FAIL_CLOSED + 1 ? "default" : cli_fail_mode_choice(index);
}

int cmd_fail_mode(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = {
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};
	enum weir_fail_mode mode;
	struct weir_error error;
	const char *name;
	int status = 0;

	cli_parse(cli, argc, argv, options, 1, 2);
	name = cli->operands[0];
	cli_open(cli);
	if (cli->operand_count == 2) {
		unsigned choice = cli_choice(cli, "the fail mode", cli->operands[1],
					     mode_or_default);

		if (choice > WEIR_FAIL_CLOSED)
			status = weir_fail_mode_clear(cli->weir, name, &error);
		else
			status = weir_fail_mode_set(cli->weir, name, (enum weir_fail_mode)choice,
						    &error);
	}
	if (status == 0)
		status = weir_fail_mode_get(cli->weir, name, &mode, &error);
	if (status == WEIR_ENOENT)
		cli_unknown_policy(cli, name);
	if (status < 0)
		cli_die(cli, "%s", error.message);

	if (cli->json)
		cli_print_json(cli, json_pack("{s:s, s:s}", "policy", name, "fail_mode",
					      weir_fail_mode_name(mode)));
	else
		printf("%s\n", weir_fail_mode_name(mode));
	return CLI_OK;
}
