/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill.c - do decisions notice that another process is killed in the middle of one?
 *
 * One process has a processor for itself and times its calls.  Beside it victims call on
 * the same keys, and are killed and replaced every few milliseconds.  To be fair, the
 * calls beside which nothing is killed there are beside victims, too, which are killed as
 * often, but on a segment of their own: what forking and dying costs the machine is in
 * both.  The two take turns.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "perf/measure.h"

#define CYCLES_MAX 1000u
#define KEYS 1000u
#define LIFE_US 5000u

enum part { PART_APART, PART_TOGETHER, PARTS };

static const char *const part_names[PARTS] = { "apart", "together" };

struct side {
	struct weir *weir;
	weir_policy_id policy;
};

struct shared {
	struct histogram histograms[CYCLES_MAX][PARTS];
	uint64_t longest_ns[PARTS];
	uint64_t refused;
	bool done;                      /* atomic: the calls of this part are */
};

static void open_side(struct side *side)
{
	struct weir_options options;

	weir_options_init(&options);
	side->weir = segment_open_new(&options);
	side->policy = policy_define(side->weir, "open", OPEN_LIMIT, WEIR_FAIL_OPEN);
}

static inline bool call(const struct side *side, uint64_t *random)
{
	struct key key = key_of(below(random, KEYS));

	return weir_allow(side->weir, side->policy, &key, sizeof(key), NULL);
}

/* ---- Processes ----------------------------------------------------------- */

static pid_t start_victim(const struct side *side)
{
	uint64_t random = now_ns();
	pid_t pid = fork();

	if (pid < 0)
		die("fork", strerror(errno));
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		call(side, &random);
}

static void kill_victim(pid_t victim)
{
	kill(victim, SIGKILL);
	waitpid(victim, NULL, 0);
}

static void time_calls(const struct side *side, struct shared *shared, unsigned cycle,
		       enum part part, uint64_t duration_ns)
{
	double scale = ns_per_tick();
	uint64_t random = cycle + 1, refused = 0, end, before, after;

	pin(processors() - 1);
	end = ticks() + (uint64_t)((double)duration_ns / scale);
	do {
		uint64_t ns;

		before = ticks();
		refused += !call(side, &random);
		after = ticks();
		ns = (uint64_t)((double)(after - before) * scale);
		histogram_count(&shared->histograms[cycle][part], ns);
		if (ns > shared->longest_ns[part])
			shared->longest_ns[part] = ns;
	} while (after < end);
	shared->refused += refused;
	__atomic_store_n(&shared->done, true, __ATOMIC_RELEASE);
}

/* Returns how many victims died. */
static uint64_t run_part(const struct side *caller, const struct side *victims,
			 struct shared *shared, unsigned cycle, enum part part,
			 uint64_t duration_ns)
{
	uint64_t killed = 0;
	int status;
	pid_t pid;

	shared->done = false;
	pid = fork();
	if (pid < 0)
		die("fork", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		time_calls(caller, shared, cycle, part, duration_ns);
		_exit(0);
	}
	while (!__atomic_load_n(&shared->done, __ATOMIC_ACQUIRE)) {
		pid_t victim = start_victim(victims);

		usleep(LIFE_US);
		kill_victim(victim);
		killed++;
		if (waitpid(pid, &status, WNOHANG) == pid)
			break;
	}
	waitpid(pid, &status, 0);
	return killed;
}

/* ---- Reporting ----------------------------------------------------------- */

static const struct {
	const char *name;
	uint64_t parts;
} quantiles[] = { { "p50", 2 }, { "p99", 100 }, { "p999", 1000 }, { "p9999", 10000 } };

#define QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

/* The median over the cycles: together / apart. */
static double ratio_of(const struct shared *shared, unsigned cycles, unsigned q)
{
	double ratios[CYCLES_MAX];

	for (unsigned i = 0; i < cycles; i++) {
		const struct histogram *parts = shared->histograms[i];

		ratios[i] = (double)histogram_quantile(&parts[PART_TOGETHER], quantiles[q].parts) /
			    (double)histogram_quantile(&parts[PART_APART], quantiles[q].parts);
	}
	return median(ratios, cycles, NULL);
}

static void print(const struct shared *shared, unsigned cycles, uint64_t killed, bool json)
{
	if (json)
		printf("{\"killed\": %" PRIu64, killed);
	else
		printf("%" PRIu64 " processes killed in decisions on the same %u keys, one each %u ms; "
		       "ns of a call,\nits timing included\n\n%-10s %10s %8s %8s %8s %8s %10s\n",
		       killed, KEYS, LIFE_US / 1000, "VICTIMS", "CALLS", "p50", "p99", "p99.9",
		       "p99.99", "LONGEST");
	for (int part = 0; part < PARTS; part++) {
		static struct histogram sum;

		memset(&sum, 0, sizeof(sum));
		for (unsigned i = 0; i < cycles; i++)
			histogram_add(&sum, &shared->histograms[i][part]);
		printf(json ? ", \"%s\": {\"calls\": %" PRIu64 : "%-10s %10" PRIu64,
		       part_names[part], histogram_total(&sum));
		for (unsigned q = 0; q < QUANTILES; q++) {
			uint64_t ns = histogram_quantile(&sum, quantiles[q].parts);

			if (json)
				printf(", \"%s_ns\": %" PRIu64, quantiles[q].name, ns);
			else
				printf(" %8" PRIu64, ns);
		}
		printf(json ? ", \"longest_ns\": %" PRIu64 "}" : " %10" PRIu64 "\n",
		       shared->longest_ns[part]);
	}
	if (!json)
		printf("%-21s", "together / apart");
	for (unsigned q = 0; q < QUANTILES; q++) {
		if (json)
			printf(", \"%s_ratio\": %.3f", quantiles[q].name,
			       ratio_of(shared, cycles, q));
		else
			printf(" %8.2f", ratio_of(shared, cycles, q));
	}
	printf(json ? "}\n" : "\n");
}

/* That the segment's name is gone is our doing. */
static void count_finding(const char *finding, void *context)
{
	unsigned *count = context;

	if (strstr(finding, "was removed"))
		return;
	fprintf(stderr, "kill: %s\n", finding);
	(*count)++;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "cycles", required_argument, NULL, 'c' },
		{ "part-ms", required_argument, NULL, 'p' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 },
	};
	uint64_t duration_ns = 1000000000, killed = 0;
	struct side together, apart;
	struct shared *shared;
	unsigned cycles = 5, findings = 0;
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			cycles = (unsigned)number(optarg, 1, CYCLES_MAX);
			break;
		case 'p':
			duration_ns = number(optarg, 10, 60000) * 1000000;
			break;
		case 'j':
			json = true;
			break;
		default:
			fprintf(stderr, "usage: kill [--cycles N] [--part-ms N] [--json]\n");
			return 2;
		}
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		die("mmap", strerror(errno));
	open_side(&together);
	open_side(&apart);
	pin_beside(processors() - 1);
	for (unsigned i = 0; i < cycles; i++) {
		run_part(&together, &apart, shared, i, PART_APART, duration_ns);
		killed += run_part(&together, &together, shared, i, PART_TOGETHER, duration_ns);
	}
	if (shared->refused)
		die("allow", "refused what it should allow");
	weir_check(together.weir, count_finding, &findings);
	if (findings)
		die("segment", "is not sound after the kills");
	print(shared, cycles, killed, json);
	weir_close(together.weir);
	weir_close(apart.weir);
	return 0;
}
