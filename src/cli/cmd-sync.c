/* SPDX-License-Identifier: Apache-2.0 */
/* sync run, status, pause, resume: this host among others. */
#include "cli.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define MS_NS 1000000ull
#define DISAGREEMENTS_MAX 16
#define LEASES_MAX 64
#define SHARDS 8u
#define LOOK_S 1                /* how often `sync run` looks for an error to tell */

/* ---- run --------------------------------------------------------------- */

/* Tell of an error when it comes, and when it has gone. */
static void tell_changes(struct cli *cli, char told[], size_t size)
{
	struct weir_sync_status status;
	struct weir_error error;

	if (weir_sync_status(cli->weir, &status, &error) < 0)
		cli_die(cli, "%s", error.message);
	if (strcmp(told, status.last_error) == 0)
		return;
	if (status.last_error[0])
		cli_warn("%s", status.last_error);
	else
		cli_warn("in touch with Redis again");
	snprintf(told, size, "%s", status.last_error);
}

int cmd_sync_run(struct cli *cli, int argc, char **argv)
{
	struct weir_sync_options sync;
	uint64_t interval_ms, staleness_ms, hosts, overshoot;
	struct timespec look = { .tv_sec = LOOK_S };
	char told[256] = "";
	struct weir_error error;
	sigset_t ends;
	int signal;

	weir_sync_options_init(&sync);
	interval_ms = sync.interval_ns / MS_NS;
	staleness_ms = sync.max_staleness_ns / MS_NS;
	hosts = sync.expected_hosts;
	overshoot = sync.overshoot_permille;

	const struct cli_option options[] = {
		{ "redis", "URL", "where Redis is (default redis://127.0.0.1:6379)", CLI_STRING,
		  &sync.url },
		{ "prefix", "TEXT", "of the keys in Redis (default \"weir\")", CLI_STRING,
		  &sync.prefix },
		{ "interval-ms", "N", "between rounds (default 100)", CLI_NUMBER, &interval_ms, 1,
		  60000 },
		{ "max-staleness-ms", "N", "a view older than this is stale (default 2000)",
		  CLI_NUMBER, &staleness_ms, 2, CLI_STALENESS_MAX_MS },
		{ "expected-hosts", "N", "until their number is known (default 1)", CLI_NUMBER,
		  &hosts, 1, 1000000 },
		{ "overshoot", "PERMILLE", "of a burst, for bounded policies (default 50)",
		  CLI_NUMBER, &overshoot, 0, 1000 },
		{ "follow-policies", NULL, "apply policies that other hosts publish", CLI_FLAG,
		  &sync.follow_policies },
		CLI_OPTION_SEGMENT(cli),
		{ 0 },
	};

	cli_parse(cli, argc, argv, options, 0, 0);
	cli_check_staleness(cli, interval_ms, staleness_ms);
	sync.interval_ns = interval_ms * MS_NS;
	sync.max_staleness_ns = staleness_ms * MS_NS;
	sync.expected_hosts = (uint32_t)hosts;
	sync.overshoot_permille = (uint32_t)overshoot;

	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	if (weir_sync_start(cli_open(cli), &sync, &error) < 0)
		cli_die(cli, "%s", error.message);
	do {
		tell_changes(cli, told, sizeof(told));
		signal = sigtimedwait(&ends, NULL, &look);
	} while (signal < 0);
	weir_sync_stop(cli->weir, NULL);
	return CLI_OK;
}

/* ---- status ------------------------------------------------------------ */

static const char *state_of(const struct weir_sync_status *status)
{
	return !status->enabled		? "never started" :
	       status->paused		? "paused" :
	       !status->leader_pid	? "no leader" :
	       status->leader_silent_ns	? "leader silent" :
	       status->connected	? "connected" :
					  "not connected";
}

/* Hosts that have a policy otherwise.  Returns how many fit. */
static size_t disagreements(struct cli *cli, struct weir_disagreement list[DISAGREEMENTS_MAX])
{
	size_t count = weir_sync_disagreements(cli->weir, list, DISAGREEMENTS_MAX);

	return count < DISAGREEMENTS_MAX ? count : DISAGREEMENTS_MAX;
}

static json_t *json_disagreements(struct cli *cli)
{
	struct weir_disagreement list[DISAGREEMENTS_MAX];
	size_t count = disagreements(cli, list);
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		json_t *object = json_object();
		char host[17];

		snprintf(host, sizeof(host), "%016" PRIx64, list[i].host);
		json_object_set_new(object, "policy", json_string(list[i].policy));
		json_object_set_new(object, "host", json_string(host));
		json_object_set_new(object, "hosts", cli_json_u64(list[i].hosts));
		json_object_set_new(object, "ours", cli_json_text(list[i].ours));
		json_object_set_new(object, "theirs", cli_json_text(list[i].theirs));
		json_array_append_new(array, object);
	}
	return array;
}

static void print_disagreements(struct cli *cli, const struct weir_sync_status *status)
{
	struct weir_disagreement list[DISAGREEMENTS_MAX];
	size_t count = disagreements(cli, list);

	if (status->policy_error[0])
		cli_warn("%s", status->policy_error);
	for (size_t i = 0; i < count; i++)
		cli_warn("policy \"%s\": this host has %s, and host %016" PRIx64
			 " (%" PRIu64 " like it) has %s; set it alike everywhere, or publish it "
			 "(weir sync publish)",
			 list[i].policy, list[i].ours, list[i].host, list[i].hosts,
			 list[i].theirs);
}

/* Policies of mode strict, of which no more fit than a page can show. */
static size_t leases(struct cli *cli, struct weir_lease list[LEASES_MAX])
{
	size_t count = weir_sync_leases(cli->weir, list, LEASES_MAX);

	return count < LEASES_MAX ? count : LEASES_MAX;
}

static json_t *json_leases(struct cli *cli)
{
	struct weir_lease list[LEASES_MAX];
	size_t count = leases(cli, list);
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		json_t *object = json_object();

		json_object_set_new(object, "policy", json_string(list[i].policy));
		json_object_set_new(object, "credit_tokens", cli_json_u64(list[i].tokens));
		json_object_set_new(object, "leases", cli_json_u64(list[i].buckets));
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *json_strict(struct cli *cli, const struct weir_sync_status *status)
{
	json_t *object = json_object();
	char epoch[17];

	snprintf(epoch, sizeof(epoch), "%016" PRIx64, status->epoch);
	json_object_set_new(object, "bound", cli_json_u64(0));
	json_object_set_new(object, "policies", json_leases(cli));
	json_object_set_new(object, "credit_tokens", cli_json_u64(status->credit_tokens));
	json_object_set_new(object, "leases", cli_json_u64(status->leases));
	json_object_set_new(object, "leased_shards", cli_json_u64(status->leased_shards));
	json_object_set_new(object, "quarantined_shards", cli_json_u64(status->quarantined_shards));
	json_object_set_new(object, "lease_left_ns", cli_json_u64(status->lease_left_ns));
	json_object_set_new(object, "tenure_ns", cli_json_u64(status->tenure_ns));
	json_object_set_new(object, "epoch", status->epoch ? json_string(epoch) : json_null());
	json_object_set_new(object, "unleased", cli_json_u64(status->unleased));
	return object;
}

static void print_strict(struct cli *cli, const struct weir_sync_status *status)
{
	char left[TEXT_DURATION_SIZE], tenure[TEXT_DURATION_SIZE];
	struct weir_lease list[LEASES_MAX];
	size_t count = leases(cli, list);

	printf("strict           %" PRIu64 " policies: at most 0 tokens beyond a limit\n",
	       status->strict_policies);
	printf("leased           %" PRIu64 " of 8 shards, %" PRIu64 " in quarantine\n",
	       status->leased_shards, status->quarantined_shards);
	if (status->leased_shards > 0)
		printf("tenure           for %s, and for %s more if Redis is silent\n",
		       text_duration(status->tenure_ns, tenure),
		       text_duration(status->lease_left_ns, left));
	if (status->epoch)
		printf("epoch            %016" PRIx64 "\n", status->epoch);
	printf("credit           %" PRIu64 " tokens in %" PRIu64 " leases\n", status->credit_tokens,
	       status->leases);
	for (size_t i = 0; i < count; i++)
		printf("  %-14s %" PRIu64 " tokens in %" PRIu64 " leases\n", list[i].policy,
		       list[i].tokens, list[i].buckets);
	printf("unleased         %" PRIu64 " requests denied for want of credit\n",
	       status->unleased);
}

/* What is wrong with Redis; null if nothing is. */
static json_t *json_trouble(const struct weir_sync_status *status)
{
	json_t *object, *shards;

	if (status->trouble_ns == 0)
		return json_null();
	object = json_object();
	shards = json_array();
	for (uint64_t i = 0; i < SHARDS; i++) {
		if (status->trouble_shards >> i & 1)
			json_array_append_new(shards, cli_json_u64(i));
	}
	json_object_set_new(object, "kind", json_string(status->trouble_kind));
	json_object_set_new(object, "message", cli_json_text(status->trouble));
	json_object_set_new(object, "for_ns", cli_json_u64(status->trouble_ns));
	json_object_set_new(object, "shards", shards);
	return object;
}

static void print_trouble(const struct weir_sync_status *status)
{
	char lasts[TEXT_DURATION_SIZE];

	if (status->trouble_ns == 0) {
		printf("trouble          none\n");
		return;
	}
	printf("trouble          %s, for %s, of %d of %u shards", status->trouble_kind,
	       text_duration(status->trouble_ns, lasts),
	       __builtin_popcountll(status->trouble_shards), SHARDS);
	for (uint64_t i = 0, told = 0; i < SHARDS; i++) {
		if (status->trouble_shards >> i & 1)
			printf("%s%" PRIu64, told++ ? ", " : ": ", i);
	}
	printf("\n                 ");
	cli_print_message(stdout, status->trouble, strlen(status->trouble));
	printf("\n");
}

static json_t *json_status(struct cli *cli, const struct weir_sync_status *status)
{
	json_t *object = json_object();

	json_object_set_new(object, "state", json_string(state_of(status)));
	json_object_set_new(object, "enabled", json_boolean(status->enabled));
	json_object_set_new(object, "paused", json_boolean(status->paused));
	json_object_set_new(object, "connected", json_boolean(status->connected));
	json_object_set_new(object, "trouble", json_trouble(status));
	json_object_set_new(object, "leader_silent_ns", cli_json_u64(status->leader_silent_ns));
	json_object_set_new(object, "leader_pid", cli_json_u64(status->leader_pid));
	json_object_set_new(object, "term", cli_json_u64(status->term));
	json_object_set_new(object, "rounds", cli_json_u64(status->rounds));
	json_object_set_new(object, "round_ns", cli_json_u64(status->round_ns));
	json_object_set_new(object, "longest_round_ns", cli_json_u64(status->longest_round_ns));
	json_object_set_new(object, "longest_unmerged_ns",
			    cli_json_u64(status->longest_unmerged_ns));
	json_object_set_new(object, "staleness_ns", cli_json_duration(status->staleness_ns));
	json_object_set_new(object, "unmerged_tokens", cli_json_u64(status->unmerged_tokens));
	json_object_set_new(object, "hosts", cli_json_u64(status->hosts));
	json_object_set_new(object, "largest_cap", cli_json_duration(status->largest_cap));
	json_object_set_new(object, "strict", json_strict(cli, status));
	json_object_set_new(object, "disagreeing", cli_json_u64(status->disagreeing));
	json_object_set_new(object, "disagreements", json_disagreements(cli));
	json_object_set_new(object, "follows", json_boolean(status->follows));
	json_object_set_new(object, "published", cli_json_u64(status->published));
	json_object_set_new(object, "applied", cli_json_u64(status->applied));
	json_object_set_new(object, "policy_error", cli_json_text(status->policy_error));
	return object;
}

static void print_leader(const struct weir_sync_status *status)
{
	char silent[TEXT_DURATION_SIZE];

	if (status->leader_pid == 0)
		printf("leader           none\n");
	else if (status->leader_silent_ns == 0)
		printf("leader           process %" PRIu64 ", term %" PRIu64 "\n", status->leader_pid,
		       status->term);
	else
		printf("leader           process %" PRIu64 ", term %" PRIu64 ", not seen for %s: start "
		       "`weir sync run`, or see whether it was stopped\n", status->leader_pid,
		       status->term, text_duration(status->leader_silent_ns, silent));
}

int cmd_sync_status(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = {
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		{ 0 },
	};
	char staleness[TEXT_DURATION_SIZE], round[TEXT_DURATION_SIZE];
	char longest[TEXT_DURATION_SIZE], wait[TEXT_DURATION_SIZE];
	struct weir_sync_status status;
	struct weir_error error;

	cli_parse(cli, argc, argv, options, 0, 0);
	if (weir_sync_status(cli_open(cli), &status, &error) < 0)
		cli_die(cli, "%s", error.message);
	if (cli->json) {
		cli_print_json(cli, json_status(cli, &status));
		return CLI_OK;
	}
	printf("state            %s\n", state_of(&status));
	print_trouble(&status);
	print_leader(&status);
	printf("rounds           %" PRIu64 ", the last one took %s, the longest %s\n", status.rounds,
	       text_duration(status.round_ns, round),
	       text_duration(status.longest_round_ns, longest));
	printf("longest wait     %s for a merge\n",
	       text_duration(status.longest_unmerged_ns, wait));
	printf("oldest view      %s\n", text_duration(status.staleness_ns, staleness));
	printf("unmerged         %" PRIu64 " tokens\n", status.unmerged_tokens);
	printf("hosts            %" PRIu64 "\n", status.hosts);
	if (status.largest_cap == WEIR_NEVER)
		printf("largest cap      none\n");
	else
		printf("largest cap      %" PRIu64 " tokens\n", status.largest_cap);
	if (status.strict_policies > 0)
		print_strict(cli, &status);
	printf("publication      %" PRIu64 ", applied %" PRIu64 ", %s\n", status.published,
	       status.applied, status.follows ? "followed" : "not followed");
	printf("disagreements    %" PRIu64 " policies\n", status.disagreeing);
	print_disagreements(cli, &status);
	return CLI_OK;
}

/* ---- publish, withdraw ------------------------------------------------- */

static int change_published(struct cli *cli, int argc, char **argv, bool *all,
			    int (*change)(struct weir *weir,
					  const struct weir_sync_options *options,
					  const char *const *names, size_t count,
					  uint64_t *version, struct weir_error *error))
{
	struct weir_sync_options sync;
	struct weir_error error;
	uint64_t version = 0;

	weir_sync_options_init(&sync);

	const struct cli_option options[] = {
		{ "redis", "URL", "where Redis is (default redis://127.0.0.1:6379)", CLI_STRING,
		  &sync.url },
		{ "prefix", "TEXT", "of the keys in Redis (default \"weir\")", CLI_STRING,
		  &sync.prefix },
		CLI_OPTION_SEGMENT(cli),
		CLI_OPTION_JSON(cli),
		/* Last, so that `withdraw` is without it. */
		{ all ? "all" : NULL, NULL, "all policies of the segment", CLI_FLAG, all },
		{ 0 },
	};

	cli_parse(cli, argc, argv, options, 0, SIZE_MAX);
	if (all && *all && cli->operand_count > 0)
		cli_die(cli, "give --all or names of policies, not both");
	if (!(all && *all) && cli->operand_count == 0)
		cli_die(cli, all ? "no policy named; name one, or give --all" :
				   "no policy named; name one");
	if (change(cli_open(cli), &sync, all && *all ? NULL : (const char *const *)cli->operands,
		   cli->operand_count, &version, &error) < 0)
		cli_die(cli, "%s", error.message);
	if (cli->json)
		cli_print_json(cli, json_pack("{s:o}", "version", cli_json_u64(version)));
	else
		printf("publication %" PRIu64 "\n", version);
	return CLI_OK;
}

int cmd_sync_publish(struct cli *cli, int argc, char **argv)
{
	bool all = false;

	return change_published(cli, argc, argv, &all, weir_sync_publish);
}

int cmd_sync_withdraw(struct cli *cli, int argc, char **argv)
{
	return change_published(cli, argc, argv, NULL, weir_sync_withdraw);
}

/* ---- pause, resume ----------------------------------------------------- */

static int set_paused(struct cli *cli, int argc, char **argv,
		      int (*change)(struct weir *weir, struct weir_error *error))
{
	const struct cli_option options[] = { CLI_OPTION_SEGMENT(cli), { 0 } };
	struct weir_error error;

	cli_parse(cli, argc, argv, options, 0, 0);
	if (change(cli_open(cli), &error) < 0)
		cli_die(cli, "%s", error.message);
	return CLI_OK;
}

int cmd_sync_pause(struct cli *cli, int argc, char **argv)
{
	return set_paused(cli, argc, argv, weir_sync_pause);
}

int cmd_sync_resume(struct cli *cli, int argc, char **argv)
{
	return set_paused(cli, argc, argv, weir_sync_resume);
}
