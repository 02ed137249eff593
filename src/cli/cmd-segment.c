/* SPDX-License-Identifier: Apache-2.0 */
/* create, remove, info, check: the segment as a whole. */
#include "cli.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- create ------------------------------------------------------------ */

#define UNSET UINT64_MAX

static const char *clock_choice(unsigned index)
{
	static const char *const names[] = {
		[WEIR_CLOCK_BOOTTIME] = "boottime",
		[WEIR_CLOCK_CALLER] = "caller",
		[WEIR_CLOCK_TSC] = "tsc",
	};

	return index < sizeof(names) / sizeof(names[0]) ? names[index] : NULL;
}

static mode_t parse_mode(struct cli *cli, const char *text)
{
	uint64_t mode;

	if (text_parse_number(text, 8, &mode) != TEXT_NUMBER_OK || mode > 0777)
		cli_die(cli, "--mode is \"%s\", which is no file mode: give octal digits, as 0660",
			text);
	return (mode_t)mode;
}

static gid_t parse_group(struct cli *cli, const char *text)
{
	struct group *group;
	uint64_t gid;

	errno = 0;
	group = getgrnam(text);
	if (group)
		return group->gr_gid;
	if (text_parse_number(text, 10, &gid) == TEXT_NUMBER_OK && gid < (gid_t)-1)
		return (gid_t)gid;
	cli_die(cli, "--group is \"%s\", which no group is called: give a name that `getent group` "
		"lists, or a number", text);
}

static json_t *json_info(const struct cli *cli, const struct weir_info *info)
{
	json_t *object = json_object();
	char incarnation[17];

	/* 64 random bits are a name, and more than JSON's numbers carry. */
	snprintf(incarnation, sizeof(incarnation), "%016" PRIx64, info->incarnation);
	json_object_set_new(object, "segment", cli_json_text(cli->segment));
	json_object_set_new(object, "path", cli_json_text(info->path));
	json_object_set_new(object, "slots", cli_json_u64(info->slots));
	json_object_set_new(object, "slot_bytes", cli_json_u64(info->slot_bytes));
	json_object_set_new(object, "size_bytes", cli_json_u64(info->size_bytes));
	json_object_set_new(object, "key_bytes", cli_json_u64(info->key_bytes));
	json_object_set_new(object, "policies", cli_json_u64(info->policies));
	json_object_set_new(object, "holds", cli_json_u64(info->holds));
	json_object_set_new(object, "purses", cli_json_u64(info->purses));
	json_object_set_new(object, "participants", cli_json_u64(info->participants));
	json_object_set_new(object, "clock", json_string(clock_choice(info->clock)));
	json_object_set_new(object, "huge_pages", json_boolean(info->huge_pages));
	json_object_set_new(object, "compact", json_boolean(info->compact));
	json_object_set_new(object, "layout_version", cli_json_u64(info->layout_version));
	json_object_set_new(object, "incarnation", json_string(incarnation));
	return object;
}

int cmd_create(struct cli *cli, int argc, char **argv)
{
	struct weir_options defaults;
	uint64_t slots, key_bytes = UNSET, policies, holds = UNSET, purses;
	const char *mode = NULL, *group = NULL, *secret_file = NULL;
	unsigned clock = WEIR_CLOCK_BOOTTIME;
	unsigned char secret[WEIR_SECRET_SIZE];
	struct weir_options segment_options;
	struct weir_error error;
	struct weir_info info;

	weir_options_init(&defaults);
	segment_options = defaults;
	slots = defaults.slots;
	policies = defaults.policies;
	purses = defaults.purses;

	const struct cli_option options[] = {
		{ "slots", "N", "buckets, rounded up to a multiple of 8 (default 65536)", CLI_NUMBER,
		  &slots, 1, UINT64_MAX },
		{ "key-bytes", "N", "bytes of each key kept for listing (default 32)", CLI_NUMBER,
		  &key_bytes, 0, UINT32_MAX },
		{ "policies", "N", "room for policies (default 256)", CLI_NUMBER, &policies, 1,
		  UINT32_MAX },
		{ "holds", "N", "room for holds of concurrency limits (default 4096)", CLI_NUMBER,
		  &holds, 0, UINT32_MAX },
		{ "purses", "N", "room for what threads take ahead (default 1024)", CLI_NUMBER,
		  &purses, 0, UINT32_MAX },
		{ "mode", "OCTAL", "file mode (default 0600)", CLI_STRING, &mode },
		{ "group", "NAME", "group of the file", CLI_STRING, &group },
		{ "huge-pages", NULL, "in a hugetlbfs, if it has room", CLI_FLAG, &segment_options.huge_pages },
		{ "compact", NULL, "16 bytes a slot: no keys, token buckets only", CLI_FLAG,
		  &segment_options.compact },
		{ "sync", NULL, "room to sync with other hosts", CLI_FLAG, &segment_options.sync },
		{ "secret-file", "FILE", "the hash secret: 16 bytes or 32 hex digits", CLI_STRING,
		  &secret_file },
		{ "clock", "CLOCK", "boottime (default), tsc (half the cost), or caller: --now",
		  CLI_CHOICE, &clock, .choice = clock_choice },
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};

	cli_parse(cli, argc, argv, options, 0, 0);
	segment_options.slots = slots;
	if (segment_options.compact && key_bytes != UNSET && key_bytes != 0)
		cli_die(cli, "--key-bytes %" PRIu64 " and --compact exclude each other: compact "
			"slots keep no keys", key_bytes);
	if (segment_options.compact && holds != UNSET && holds != 0)
		cli_die(cli, "--holds %" PRIu64 " and --compact exclude each other: compact slots "
			"have no concurrency limits", holds);
	if (key_bytes != UNSET)
		segment_options.key_bytes = (uint32_t)key_bytes;
	segment_options.policies = (uint32_t)policies;
	if (holds != UNSET)
		segment_options.holds = (uint32_t)holds;
	segment_options.purses = (uint32_t)purses;
	segment_options.clock = (enum weir_clock)clock;
	if (mode)
		segment_options.mode = parse_mode(cli, mode);
	if (group)
		segment_options.group = parse_group(cli, group);
	if (secret_file) {
		cli_read_secret(cli, secret_file, secret);
		segment_options.secret = secret;
	}

	if (weir_create(cli->segment, &segment_options, &error) < 0)
		cli_die(cli, "%s", error.message);
	explicit_bzero(secret, sizeof(secret));

	weir_info(cli_open(cli), &info);        /* what it was rounded to */
	if (cli->json)
		cli_print_json(cli, json_info(cli, &info));
	else
		printf("created %s: %" PRIu64 " slots, %" PRIu64 " bytes\n", info.path, info.slots,
		       info.size_bytes);
	return CLI_OK;
}

/* ---- remove, info ------------------------------------------------------ */

int cmd_remove(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = { CLI_OPTION_SEGMENT(cli), { 0 } };
	struct weir_error error;

	cli_parse(cli, argc, argv, options, 0, 0);
	if (weir_remove(cli->segment, &error) < 0)
		cli_die(cli, "%s", error.message);
	return CLI_OK;
}

int cmd_info(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = {
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};
	struct weir_info info;

	cli_parse(cli, argc, argv, options, 0, 0);
	weir_info(cli_open(cli), &info);
	if (cli->json) {
		cli_print_json(cli, json_info(cli, &info));
		return CLI_OK;
	}
	printf("path            %s\n", info.path);
	printf("slots           %" PRIu64 "\n", info.slots);
	printf("slot            %" PRIu32 " bytes\n", info.slot_bytes);
	printf("size            %" PRIu64 " bytes\n", info.size_bytes);
	printf("key bytes       %" PRIu32 "\n", info.key_bytes);
	printf("policies        room for %" PRIu32 "\n", info.policies);
	printf("holds           room for %" PRIu32 "\n", info.holds);
	printf("purses          room for %" PRIu32 "\n", info.purses);
	printf("participants    %" PRIu32 " (this one included)\n", info.participants);
	printf("clock           %s\n", clock_choice(info.clock));
	printf("huge pages      %s\n", info.huge_pages ? "yes" : "no");
	printf("compact         %s\n", info.compact ? "yes" : "no");
	printf("layout version  %" PRIu32 "\n", info.layout_version);
	printf("incarnation     %016" PRIx64 "\n", info.incarnation);
	return CLI_OK;
}

/* ---- check ------------------------------------------------------------- */

struct findings {
	struct cli *cli;
	json_t *array;
};

static void report_finding(const char *finding, void *context)
{
	struct findings *findings = context;

	if (findings->cli->json) {
		json_array_append_new(findings->array, cli_json_text(finding));
		return;
	}
	cli_print_message(stdout, finding, strlen(finding));
	putchar('\n');
}

int cmd_check(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = {
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};
	struct findings findings = { .cli = cli };
	struct weir_error error;
	size_t count;
	int status;

	cli_parse(cli, argc, argv, options, 0, 0);
	findings.array = json_array();

	status = weir_open(cli->segment, &cli->weir, &error);
	if (status == 0) {
		count = weir_check(cli->weir, report_finding, &findings);
	} else if (status == WEIR_ECORRUPT) {
		/* Too damaged to be opened is a finding, too. */
		cli->weir = NULL;
		report_finding(error.message, &findings);
		count = 1;
	} else {
		cli->weir = NULL;
		json_decref(findings.array);
		cli_die(cli, "%s", error.message);
	}

	if (cli->json) {
		json_t *object = json_object();

		json_object_set_new(object, "sound", json_boolean(count == 0));
		json_object_set_new(object, "findings", findings.array);
		cli_print_json(cli, object);
	} else {
		json_decref(findings.array);
		if (count == 0)
			printf("segment \"%s\" is sound\n", cli->segment);
	}
	return count == 0 ? CLI_OK : CLI_ERROR;
}
