/* SPDX-License-Identifier: Apache-2.0 */
/* allow, status, refund, force-take, reset: one request each. */
#include "cli.h"

#include <string.h>

typedef bool decide_function(struct weir *weir, const struct weir_request *request,
			     struct weir_decision *decision);

/* POLICY KEY are the first operands; decide and print. */
static int decide(struct cli *cli, decide_function *function, uint64_t cost, uint64_t now_ns,
		  const char *done)
{
	const char *policy = cli->operands[0];
	struct weir_request request = {
		.key = cli->operands[1],
		.key_length = strlen(cli->operands[1]),
		.cost = cost,
		.now_ns = now_ns,
	};
	struct weir_decision decision;

	cli_open(cli);
	request.policy = cli_find_policy(cli, policy);
	/* A caller's clock without --now is left to the library: it has a reason
	 * for that, and the answer is "unavailable". */
	cli_check_now(cli, now_ns, false);
	function(cli->weir, &request, &decision);
	return cli_print_decision(cli, policy, &request, &decision, done);
}

/* allow and status: POLICY KEY [--cost N] */
static int decide_cost_option(struct cli *cli, int argc, char **argv, decide_function *function)
{
	uint64_t cost = 1;
	uint64_t now_ns = 0;
	const struct cli_option options[] = {
		{ "cost", "N", "tokens to ask for (default 1; 0 is a peek)", CLI_NUMBER, &cost, 0,
		  WEIR_COUNT_MAX },
		CLI_OPTION_NOW(&now_ns),
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};

	cli_parse(cli, argc, argv, options, 2, 2);
	return decide(cli, function, cost, now_ns, NULL);
}

int cmd_allow(struct cli *cli, int argc, char **argv)
{
	return decide_cost_option(cli, argc, argv, weir_decide);
}

int cmd_status(struct cli *cli, int argc, char **argv)
{
	return decide_cost_option(cli, argc, argv, weir_status);
}

/* refund and force-take: POLICY KEY N */
static int decide_cost_operand(struct cli *cli, int argc, char **argv, decide_function *function,
			       const char *done)
{
	uint64_t now_ns = 0;
	const struct cli_option options[] = {
		CLI_OPTION_NOW(&now_ns),
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};
	uint64_t cost;

	cli_parse(cli, argc, argv, options, 3, 3);
	cost = cli_number(cli, "the number of tokens", cli->operands[2], 1, WEIR_COUNT_MAX);
	return decide(cli, function, cost, now_ns, done);
}

int cmd_refund(struct cli *cli, int argc, char **argv)
{
	return decide_cost_operand(cli, argc, argv, weir_refund, "refunded");
}

int cmd_force_take(struct cli *cli, int argc, char **argv)
{
	return decide_cost_operand(cli, argc, argv, weir_force_take, "taken");
}

int cmd_reset(struct cli *cli, int argc, char **argv)
{
	uint64_t now_ns = 0;
	const struct cli_option options[] = {
		CLI_OPTION_NOW(&now_ns),
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};

	cli_parse(cli, argc, argv, options, 2, 2);
	return decide(cli, weir_reset, 0, now_ns, "reset");
}
