/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <getopt.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int cmd_help(struct cli *cli, int argc, char **argv);
static int cmd_version(struct cli *cli, int argc, char **argv);

static const struct cli_command commands[] = {
	{ "create", "[--slots N] [OPTION]...",
	  "make a segment", cmd_create },
	{ "remove", "",
	  "remove a segment's name", cmd_remove },
	{ "info", "",
	  "describe a segment", cmd_info },
	{ "check", "",
	  "look for damage in a segment and say what to do", cmd_check },
	{ "policy set", "NAME \"LIMIT\"... [OPTION]...",
	  "define or replace a policy", cmd_policy_set },
	{ "policy list", "",
	  "list the policies", cmd_policy_list },
	{ "policy remove", "NAME",
	  "remove a policy", cmd_policy_remove },
	{ "policy load", "FILE",
	  "define or replace the policies of a YAML file (\"-\": standard input)",
	  cmd_policy_load },
	{ "fail-mode", "POLICY [open|share|closed|default]",
	  "print or switch a policy's fail mode, for all processes", cmd_fail_mode },
	{ "allow", "POLICY KEY [--cost N]",
	  "take tokens, if they are there", cmd_allow },
	{ "status", "POLICY KEY [--cost N]",
	  "tell what allow would answer, and take nothing", cmd_status },
	{ "refund", "POLICY KEY N",
	  "give tokens back", cmd_refund },
	{ "force-take", "POLICY KEY N",
	  "take tokens whether or not they are there", cmd_force_take },
	{ "reset", "POLICY KEY",
	  "fill a key's buckets", cmd_reset },
	{ "acquire", "POLICY KEY -- COMMAND...",
	  "run a command while holding a unit of a concurrency limit", cmd_acquire },
	{ "list", "[--policy NAME]",
	  "list the live buckets", cmd_list },
	{ "top", "[--by consumed|denied] [--once]",
	  "show the busiest keys", cmd_top },
	{ "stats", "[POLICY]",
	  "print the counters", cmd_stats },
	{ "sync run", "[OPTION]...",
	  "sync this host with others through Redis, until a signal ends it", cmd_sync_run },
	{ "sync status", "",
	  "describe the state of sync", cmd_sync_status },
	{ "sync publish", "NAME... | --all",
	  "publish policies, for hosts that follow", cmd_sync_publish },
	{ "sync withdraw", "NAME...",
	  "remove policies from hosts that follow", cmd_sync_withdraw },
	{ "sync pause", "",
	  "cut this host off from Redis, for drills", cmd_sync_pause },
	{ "sync resume", "",
	  "end the pause", cmd_sync_resume },
	{ "replay", "[FILE] [OPTION]...",
	  "apply limits to an access log and report", cmd_replay },
	{ "serve", "[OPTION]...",
	  "answer over gRPC from a segment, until a signal ends it", cmd_serve },
	{ "version", "",
	  "print the version", cmd_version },
	{ "help", "[COMMAND]",
	  "explain a command", cmd_help },
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static const char exit_statuses[] =
	"Exit status: 0 allowed or done, 1 denied, 2 usage or error, 3 unavailable.\n"
	"The segment is --segment NAME, else $WEIR_SEGMENT, else \"weir\".\n";

static void print_overview(FILE *file)
{
	fputs("Usage: weir [--segment NAME] COMMAND [ARGUMENT]...\n\n", file);
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(file, "  %-15s%s\n", commands[i].name, commands[i].help);
	fprintf(file, "\n%s`weir help COMMAND` explains a command.\n", exit_statuses);
}

/* The command that the words begin with, and in *USED how many are its name. */
static const struct cli_command *find_command(char **words, int count, int *used)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		const char *name = commands[i].name;
		const char *second = strchr(name, ' ');
		size_t first_length = second ? (size_t)(second - name) : strlen(name);

		if (strlen(words[0]) != first_length || memcmp(words[0], name, first_length) != 0)
			continue;
		if (second && (count < 2 || strcmp(words[1], second + 1) != 0))
			continue;
		*used = second ? 2 : 1;
		return &commands[i];
	}
	return NULL;
}

/* Is WORD the first of a family, such as "policy"? */
static bool is_family(const char *word)
{
	size_t length = strlen(word);

	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		if (strncmp(commands[i].name, word, length) == 0 && commands[i].name[length] == ' ')
			return true;
	}
	return false;
}

/* The commands whose names begin with WORD. */
static void print_family(const char *word)
{
	size_t length = strlen(word);

	printf("Usage: weir %s COMMAND [ARGUMENT]...\n\n", word);
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		if (strncmp(commands[i].name, word, length) == 0 && commands[i].name[length] == ' ')
			printf("  %-15s%s\n", commands[i].name, commands[i].help);
	}
	printf("\n`weir help %s COMMAND` explains a command.\n", word);
}

static bool asks_for_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static _Noreturn void unknown_command(struct cli *cli, char **words, int count)
{
	char given[128];
	struct text_search search;
	bool family = is_family(words[0]);

	if (family && count < 2)
		cli_die(cli, "`weir %s` needs a second word: see `weir help %s`", words[0],
			words[0]);
	snprintf(given, sizeof(given), "%s%s%s", words[0], family ? " " : "",
		 family ? words[1] : "");
	search = text_search_begin(given);
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		text_search_offer(&search, commands[i].name);
	if (search.nearest)
		cli_die(cli, "unknown command \"%s\": did you mean \"%s\"?", given, search.nearest);
	cli_die(cli, "unknown command \"%s\": see `weir help`", given);
}

static int cmd_help(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = { { 0 } };
	char name[] = "help";
	char help[] = "--help";
	char *arguments[] = { name, help, NULL };
	int used;

	cli_parse(cli, argc, argv, options, 0, 2);
	if (cli->operand_count == 0) {
		print_overview(stdout);
		return CLI_OK;
	}
	if (cli->operand_count == 1 && is_family(cli->operands[0])) {
		print_family(cli->operands[0]);
		return CLI_OK;
	}
	cli->command = find_command(cli->operands, (int)cli->operand_count, &used);
	if (!cli->command)
		unknown_command(cli, cli->operands, (int)cli->operand_count);
	if ((size_t)used < cli->operand_count)
		cli_die(cli, "stray argument \"%s\": use `weir help COMMAND`", cli->operands[used]);
	if (cli->command->run == cmd_help) {
		print_overview(stdout);
		return CLI_OK;
	}
	free(cli->operands);
	cli->operands = NULL;
	cli->operand_count = 0;
	return cli->command->run(cli, 2, arguments);    /* prints and exits */
}

static int cmd_version(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = { CLI_OPTION_JSON(cli), { 0 } };

	cli_parse(cli, argc, argv, options, 0, 0);
	if (cli->json) {
		json_t *object = json_object();

		json_object_set_new(object, "version", json_string(WEIR_VERSION));
		json_object_set_new(object, "library_version", json_string(weir_version()));
		cli_print_json(cli, object);
	} else {
		printf("weir %s (library %s)\n", WEIR_VERSION, weir_version());
	}
	return CLI_OK;
}

/* The options before the command's name. */
static void parse_early_options(struct cli *cli, int argc, char **argv)
{
	enum { OPTION_SEGMENT = 256, OPTION_JSON, OPTION_VERSION };
	static const struct option options[] = {
		{ "segment", required_argument, NULL, OPTION_SEGMENT },
		{ "json", no_argument, NULL, OPTION_JSON },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, OPTION_VERSION },
		{ 0 },
	};
	int code;

	opterr = 0;
	while ((code = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		switch (code) {
		case OPTION_SEGMENT:
			cli->segment = optarg;
			cli->segment_given = true;
			break;
		case OPTION_JSON:
			cli->json = true;
			break;
		case 'h':
			print_overview(stdout);
			exit(cli_finish(cli, CLI_OK));
		case OPTION_VERSION:
			printf("weir %s\n", WEIR_VERSION);
			exit(cli_finish(cli, CLI_OK));
		case ':':
			cli_die(cli, "option %s needs a value: see `weir help`", argv[optind - 1]);
		default:
			cli_die(cli, "option %s is unknown here: an option of a command follows "
				"its name, see `weir help`", argv[optind - 1]);
		}
	}
}

int main(int argc, char **argv)
{
	static char output[64 * 1024];
	const char *segment = getenv("WEIR_SEGMENT");
	struct cli cli = { .segment = segment && *segment ? segment : "weir" };
	int used;

	cli_occupy_descriptors();
	/* What fits is written in the end, when the reason can still be told if it is not. */
	if (!isatty(STDOUT_FILENO))
		setvbuf(stdout, output, _IOFBF, sizeof(output));
	setlocale(LC_CTYPE, "");
	parse_early_options(&cli, argc, argv);
	argc -= optind;
	argv += optind;
	if (argc == 0) {
		print_overview(stderr);
		return cli_finish(&cli, CLI_ERROR);
	}

	if (argc > 1 && is_family(argv[0]) && asks_for_help(argv[1])) {
		print_family(argv[0]);
		return cli_finish(&cli, CLI_OK);
	}
	cli.command = find_command(argv, argc, &used);
	if (!cli.command)
		unknown_command(&cli, argv, argc);
	return cli_finish(&cli, cli.command->run(&cli, argc - used + 1, argv + used - 1));
}
