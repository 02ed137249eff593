/* SPDX-License-Identifier: Apache-2.0 */
/* list: every live bucket.  A segment may hold millions, so each is printed as
 * it is read and none is kept. */
#include "cli.h"

#include <inttypes.h>
#include <string.h>

struct listing {
	struct cli *cli;
	const char *policy;     /* NULL: all */
	uint64_t count;
};

static void print_bucket(const struct weir_bucket *bucket)
{
	char duration[TEXT_DURATION_SIZE];

	printf("%-20s %5" PRIu32 " %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %10s  ",
	       *bucket->policy ? bucket->policy : "-", bucket->limit_index, bucket->consumed,
	       bucket->denied_sampled, bucket->status.remaining,
	       text_duration(bucket->status.reset_after_ns, duration));
	cli_print_bucket_key(stdout, bucket);
	putchar('\n');
}

static bool visit(const struct weir_bucket *bucket, void *context)
{
	struct listing *listing = context;

	if (listing->policy && strcmp(bucket->policy, listing->policy) != 0)
		return true;
	if (listing->cli->json) {
		fputs(listing->count ? ",\n" : "\n", stdout);
		cli_print_json_line(listing->cli, cli_json_bucket(bucket));
	} else {
		if (listing->count == 0)
			printf("%-20s %5s %12s %12s %12s %10s  %s\n", "POLICY", "LIMIT", "CONSUMED",
			       "DENIED", "REMAINING", "FULL IN", "KEY");
		print_bucket(bucket);
	}
	listing->count++;
	return !ferror(stdout);
}

int cmd_list(struct cli *cli, int argc, char **argv)
{
	struct listing listing = { .cli = cli };
	uint64_t now_ns = 0;
	const struct cli_option options[] = {
		{ "policy", "NAME", "only the buckets of this policy", CLI_STRING,
		  &listing.policy },
		CLI_OPTION_NOW(&now_ns),
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};

	cli_parse(cli, argc, argv, options, 0, 0);
	cli_open(cli);
	cli_need_keys(cli);
	cli_check_now(cli, now_ns, true);
	if (listing.policy)
		cli_find_policy(cli, listing.policy);
	if (cli->json)
		fputs("{\"buckets\": [", stdout);
	weir_each_bucket(cli->weir, now_ns, visit, &listing);
	if (cli->json)
		fputs("\n]}\n", stdout);
	return CLI_OK;
}
