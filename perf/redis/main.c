/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - Weir and a real Redis, which this program starts itself.
 *
 * First: do decisions notice what happens to Redis?  Then: what does Redis spend on a
 * key that is reconciled, and on a decision that it is asked for?  perf/README.md has
 * the method.
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "perf/redis/redis.h"
#include "tests/redis_server.h"

static void print_latency(const struct phase_result *results, const struct plan *plan)
{
	printf("%s: %s; %" PRIu32 " keys, rounds every %.0f ms, fail mode %s; ns of a call, its "
	       "timing included\n\n",
	       plan->load->name, plan->load->help, plan->keys, (double)plan->interval_ns / 1e6,
	       weir_fail_mode_name(plan->fail_mode));
	printf("%-10s %9s %7s %7s %7s %9s | %-20s | %-20s\n", "PHASE", "CALLS", "p50", "p99",
	       "p99.9", "LONGEST", "/ NO SYNC", "/ ROUNDS");
	for (unsigned p = 0; p < plan->load->phases; p++) {
		const struct latency *synced = &results[p].synced;

		printf("%-10s %9" PRIu64 " %7" PRIu64 " %7" PRIu64 " %7" PRIu64 " %9" PRIu64 " |",
		       phase_names[p], histogram_total(&synced->histogram),
		       histogram_quantile(&synced->histogram, 2),
		       histogram_quantile(&synced->histogram, 100),
		       histogram_quantile(&synced->histogram, 1000), synced->longest_ns);
		for (unsigned q = 0; q < 3; q++)
			printf(" %6.2f", results[p].to_alone[q]);
		printf(" |");
		for (unsigned q = 0; q < 3; q++)
			printf(" %6.2f", results[p].to_rounds[q]);
		printf("\n");
	}
	for (unsigned p = 0; p < plan->load->phases; p++)
		printf("  %-10s %s\n", phase_names[p], phase_help[p]);
	printf("/ NO SYNC: p50, p99, p99.9 beside a segment that does not sync, at the same time; "
	       "/ ROUNDS: beside\nthe same segment while Redis answers (medians of %u cycles)\n",
	       plan->cycles);
}

static void print_cost(const struct way_result *results)
{
	printf("\n%-16s %9s %9s %10s %9s %10s %8s %8s %7s %7s\n", "WAY", "REDIS us", "MIN",
	       "PER CPU s", "HOST us", "PER CPU s", "/ REDIS", "/ HOST", "p50 us", "p99 us");
	for (int way = 0; way < WAYS; way++) {
		const struct way_result *result = &results[way];

		printf("%-16s %9.3f %9.3f %10.0f %9.3f %10.0f %7.1fx %7.1fx", way_names[way],
		       result->middle.redis_ns / 1e3, result->least.redis_ns / 1e3,
		       1e9 / result->middle.redis_ns, result->middle.host_ns / 1e3,
		       1e9 / result->middle.host_ns, result->redis_ratio, result->host_ratio);
		if (way == WAY_ROUNDS)
			printf(" %7s %7s\n", "", "");
		else
			printf(" %7.1f %7.1f\n",
			       (double)histogram_quantile(&result->histogram, 2) / 1e3,
			       (double)histogram_quantile(&result->histogram, 100) / 1e3);
	}
	for (int way = 0; way < WAYS; way++)
		printf("  %-16s %s\n", way_names[way], way_help[way]);
	printf("One script of a round holds Redis for %.0f us (p50), %.0f us (p99).\n",
	       results[WAY_ROUNDS].script_p50_us, results[WAY_ROUNDS].script_p99_us);
}

static void print_latency_json(const struct latency *latency)
{
	printf("{\"calls\": %" PRIu64 ", \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64
	       ", \"p999_ns\": %" PRIu64 ", \"longest_ns\": %" PRIu64 "}",
	       histogram_total(&latency->histogram), histogram_quantile(&latency->histogram, 2),
	       histogram_quantile(&latency->histogram, 100),
	       histogram_quantile(&latency->histogram, 1000), latency->longest_ns);
}

static void print_ratios_json(const char *name, const double *ratios)
{
	printf(", \"%s\": {\"p50\": %.3f, \"p99\": %.3f, \"p999\": %.3f}", name, ratios[0],
	       ratios[1], ratios[2]);
}

static void print_json(const struct phase_result *phases, const struct way_result *ways,
		       const struct plan *plan)
{
	printf("{\"load\": \"%s\", \"keys\": %" PRIu32 ", \"interval_ns\": %" PRIu64
	       ", \"fail_mode\": \"%s\"", plan->load->name, plan->keys, plan->interval_ns,
	       weir_fail_mode_name(plan->fail_mode));
	printf(",\n \"phases\": {");
	for (unsigned p = 0; phases && p < plan->load->phases; p++) {
		printf("%s\n  \"%s\": {\"synced\": ", p ? "," : "", phase_names[p]);
		print_latency_json(&phases[p].synced);
		printf(", \"alone\": ");
		print_latency_json(&phases[p].alone);
		print_ratios_json("ratio", phases[p].to_alone);
		print_ratios_json("ratio_to_rounds", phases[p].to_rounds);
		printf("}");
	}
	printf("},\n \"ways\": {");
	for (int way = 0; ways && way < WAYS; way++) {
		const struct way_result *result = &ways[way];

		printf("%s\n  \"%s\": {\"operations\": %" PRIu64
		       ", \"redis_ns\": %.1f, \"redis_min_ns\": %.1f, \"host_ns\": %.1f, "
		       "\"host_min_ns\": %.1f, \"wall_ns\": %.1f, \"redis_ratio\": %.3f, "
		       "\"host_ratio\": %.3f, \"script_p50_us\": %.1f, \"script_p99_us\": %.1f",
		       way ? "," : "", way_names[way], result->operations,
		       result->middle.redis_ns, result->least.redis_ns, result->middle.host_ns,
		       result->least.host_ns, result->middle.wall_ns, result->redis_ratio,
		       result->host_ratio, result->script_p50_us, result->script_p99_us);
		if (way != WAY_ROUNDS)
			printf(", \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64,
			       histogram_quantile(&result->histogram, 2),
			       histogram_quantile(&result->histogram, 100));
		printf("}");
	}
	printf("}}\n");
}

static enum weir_fail_mode fail_mode(const char *name)
{
	for (enum weir_fail_mode mode = WEIR_FAIL_SHARE; mode <= WEIR_FAIL_CLOSED; mode++) {
		if (strcmp(weir_fail_mode_name(mode), name) == 0)
			return mode;
	}
	die(name, "is no fail mode; say open, share or closed");
}

static const struct load *load_named(const char *name)
{
	for (unsigned i = 0; i < LOADS; i++) {
		if (strcmp(loads[i].name, name) == 0)
			return &loads[i];
	}
	die(name, "is no load; say keys, deny, expire or evict");
}

static void usage(void)
{
	fprintf(stderr,
		"usage: redis [--only latency|cost] [--keys N] [--cycles N] [--phase-ms N]\n"
		"             [--interval-ms N] [--fail-mode open|share|closed]\n"
		"             [--load keys|deny|expire|evict] [--json]\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "only", required_argument, NULL, 'o' },
		{ "keys", required_argument, NULL, 'k' },
		{ "cycles", required_argument, NULL, 'c' },
		{ "phase-ms", required_argument, NULL, 'p' },
		{ "interval-ms", required_argument, NULL, 'i' },
		{ "fail-mode", required_argument, NULL, 'f' },
		{ "load", required_argument, NULL, 'l' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 },
	};
	static const char *const server_options[] = {
		"--enable-debug-command", "yes", "--latency-tracking", "yes", NULL,
	};
	static struct phase_result phases[PHASES];
	static struct way_result ways[WAYS];
	struct plan plan = { .keys = 100000, .load = &loads[0], .cycles = 5, .phase_ns = 300000000,
			     .interval_ns = 10000000, .fail_mode = WEIR_FAIL_OPEN };
	bool latency = true, cost = true;
	struct redis_server *server;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'o':
			latency = strcmp(optarg, "latency") == 0;
			cost = strcmp(optarg, "cost") == 0;
			if (!latency && !cost)
				die(optarg, "say latency or cost");
			break;
		case 'k':
			plan.keys = (uint32_t)number(optarg, 1, 100000000);
			break;
		case 'c':
			plan.cycles = (unsigned)number(optarg, 1, CYCLES_MAX);
			break;
		case 'p':
			plan.phase_ns = number(optarg, 10, 60000) * 1000000;
			break;
		case 'i':
			plan.interval_ns = number(optarg, 1, 60000) * 1000000;
			break;
		case 'f':
			plan.fail_mode = fail_mode(optarg);
			break;
		case 'l':
			plan.load = load_named(optarg);
			break;
		case 'j':
			plan.json = true;
			break;
		default:
			usage();
			return 2;
		}
	}
	signal(SIGPIPE, SIG_IGN);       /* a server that is killed closes connections */
	redis_server_require();
	pin_beside(processors() - 1);   /* inherited by the server and the sync thread */
	server = redis_server_start(server_options);
	if (latency)
		latency_measure(server, &plan, phases);
	if (cost)
		cost_measure(server, &plan, ways);
	redis_server_end(server);
	if (plan.json) {
		print_json(latency ? phases : NULL, cost ? ways : NULL, &plan);
		return 0;
	}
	if (latency)
		print_latency(phases, &plan);
	if (cost)
		print_cost(ways);
	return 0;
}
