/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cost.c - processor time of Redis and of the asking thread, for a key reconciled
 * and for a decision asked for.
 *
 * The ways take turns.  Processor time is the kernel's own count (schedstat, in ns)
 * of all threads of the server, and of the thread that asks: for rounds, that is the
 * sync thread, with all its looking, packing and merging.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "perf/redis/redis.h"
#include "tests/redis_server.h"

#define ROUNDS_KEYS_MAX 20000u          /* charged, then waited for, again and again */
#define ROUNDS_INTERVAL_NS 1000000u     /* the leader is never without work for long */
#define WAIT_NS 20000000000ull
#define TASKS_MAX 64u

const char *const way_names[WAYS] = {
	[WAY_ROUNDS] = "rounds",
	[WAY_GCRA_1] = "gcra_1",
	[WAY_GCRA_16] = "gcra_16",
	[WAY_GCRA_PIPELINED] = "gcra_pipelined",
	[WAY_INCRBY_PIPELINED] = "incrby_pipelined",
};

const char *const way_help[WAYS] = {
	[WAY_ROUNDS] = "weir's sync thread, a key reconciled",
	[WAY_GCRA_1] = "EVALSHA for a decision, 1 connection",
	[WAY_GCRA_16] = "the same, 16 connections",
	[WAY_GCRA_PIPELINED] = "the same, 4 connections x 32 in flight",
	[WAY_INCRBY_PIPELINED] = "INCRBY and PEXPIRE for a key, 100 in flight",
};

/* ---- Processor time ------------------------------------------------------ */

static uint64_t task_cpu_ns(pid_t process, pid_t task)
{
	char path[64];
	uint64_t ns = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)process, (int)task);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%" SCNu64, &ns) != 1)
		die(path, "no count of processor time; the kernel needs CONFIG_SCHED_INFO");
	fclose(file);
	return ns;
}

static unsigned list_tasks(pid_t process, pid_t *tasks)
{
	char path[64];
	struct dirent *entry;
	unsigned count = 0;
	DIR *directory;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)process);
	directory = opendir(path);
	if (!directory)
		die(path, "there is no such process");
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] != '.' && count < TASKS_MAX)
			tasks[count++] = (pid_t)atoi(entry->d_name);
	}
	closedir(directory);
	return count;
}

static uint64_t process_cpu_ns(pid_t process)
{
	pid_t tasks[TASKS_MAX];
	unsigned count = list_tasks(process, tasks);
	uint64_t sum = 0;

	for (unsigned i = 0; i < count; i++)
		sum += task_cpu_ns(process, tasks[i]);
	return sum;
}

/* The task that is there now and was not before. */
static pid_t new_task(const pid_t *before, unsigned before_count)
{
	pid_t tasks[TASKS_MAX];
	unsigned count = list_tasks(getpid(), tasks);

	for (unsigned i = 0; i < count; i++) {
		unsigned j = 0;

		while (j < before_count && before[j] != tasks[i])
			j++;
		if (j == before_count)
			return tasks[i];
	}
	die("sync thread", "it is not there");
}

/* ---- What Redis tells ---------------------------------------------------- */

/* The text after NAME in what INFO SECTION answers, or an empty one. */
static void read_info(redisContext *admin, const char *section, const char *name, char *value,
		      size_t size)
{
	redisReply *reply = redisCommand(admin, "INFO %s", section);
	const char *found;

	value[0] = '\0';
	if (!reply || !reply->str)
		die("INFO", "no answer");
	found = strstr(reply->str, name);
	if (found)
		snprintf(value, size, "%.*s", (int)strcspn(found + strlen(name), "\r\n"),
			 found + strlen(name));
	freeReplyObject(reply);
}

static pid_t server_pid(redisContext *admin)
{
	char text[32];

	read_info(admin, "server", "process_id:", text, sizeof(text));
	return (pid_t)atoi(text);
}

static void script_times(redisContext *admin, double *p50_us, double *p99_us)
{
	char text[128];

	*p50_us = *p99_us = 0;
	read_info(admin, "latencystats", "latency_percentiles_usec_evalsha:", text, sizeof(text));
	sscanf(text, "p50=%lf,p99=%lf", p50_us, p99_us);
	freeReplyObject(redisCommand(admin, "CONFIG RESETSTAT"));
}

/* ---- Rounds -------------------------------------------------------------- */

struct rounds {
	struct weir *weir;
	weir_policy_id policy;
	uint32_t keys;
	pid_t thread;
	unsigned merged;                /* index of the counter */
};

static unsigned find_counter(const char *name)
{
	const struct weir_counter *counter;
	unsigned i;

	for (i = 0; (counter = weir_counter(i)); i++) {
		if (strcmp(counter->name, name) == 0)
			return i;
	}
	die(name, "there is no such counter");
}

static void rounds_start(struct rounds *rounds, const struct redis_server *server, uint32_t keys)
{
	struct weir_sync_options sync;
	struct weir_options options;
	struct weir_error error;
	pid_t before[TASKS_MAX];
	unsigned count;
	char url[256];

	weir_options_init(&options);
	rounds->keys = keys < ROUNDS_KEYS_MAX ? keys : ROUNDS_KEYS_MAX;
	/* Room for each: a key that takes another one's slot takes its charge along, and
	 * rounds_run() would wait for it in vain. */
	options.slots = 4 * (uint64_t)rounds->keys;
	options.sync = true;
	rounds->weir = segment_open_new(&options);
	rounds->policy = policy_define(rounds->weir, "open", OPEN_LIMIT, WEIR_FAIL_OPEN);
	rounds->merged = find_counter("sync_merged");
	weir_sync_options_init(&sync);
	snprintf(url, sizeof(url), "unix://%s", redis_server_socket(server));
	sync.url = url;
	sync.prefix = "cost";
	sync.interval_ns = ROUNDS_INTERVAL_NS;
	count = list_tasks(getpid(), before);
	if (weir_sync_start(rounds->weir, &sync, &error))
		die(url, error.message);
	rounds->thread = new_task(before, count);
	weir_sync_pause(rounds->weir, NULL);
}

/* Charge every key, and wait until the view of each has come back; again and again.
 * Returns how many keys that were. */
static uint64_t rounds_run(const struct rounds *rounds, uint64_t duration_ns)
{
	uint64_t first = weir_counter_read(rounds->weir, rounds->merged, NULL), merged = first;
	uint64_t begin = now_ns();

	weir_sync_resume(rounds->weir, NULL);
	while (now_ns() - begin < duration_ns) {
		uint64_t wanted = merged + rounds->keys, until = now_ns() + WAIT_NS;

		for (uint32_t i = 0; i < rounds->keys; i++) {
			struct key key = key_of(i);

			weir_allow(rounds->weir, rounds->policy, &key, sizeof(key), NULL);
		}
		while ((merged = weir_counter_read(rounds->weir, rounds->merged, NULL)) < wanted) {
			if (now_ns() > until)
				die("rounds", "the keys did not come back; is the machine too busy?");
			usleep(1000);
		}
	}
	weir_sync_pause(rounds->weir, NULL);
	return merged - first;
}

/* ---- Taking turns -------------------------------------------------------- */

struct bench {
	const struct plan *plan;
	redisContext *admin;
	pid_t server;
	struct rounds rounds;
	struct clients *clients[WAYS];  /* NULL for rounds */
};

static struct cost run_way(struct bench *bench, enum way way, struct way_result *result)
{
	const struct plan *plan = bench->plan;
	pid_t thread = way == WAY_ROUNDS ? bench->rounds.thread : (pid_t)syscall(SYS_gettid);
	uint64_t redis = process_cpu_ns(bench->server), host = task_cpu_ns(getpid(), thread);
	uint64_t begin = now_ns(), operations;

	if (way == WAY_ROUNDS)
		operations = rounds_run(&bench->rounds, plan->phase_ns);
	else
		operations = clients_run(bench->clients[way], plan->keys, plan->phase_ns,
					 &result->histogram);
	result->operations += operations;
	return (struct cost){
		.redis_ns = (double)(process_cpu_ns(bench->server) - redis) / (double)operations,
		.host_ns = (double)(task_cpu_ns(getpid(), thread) - host) / (double)operations,
		.wall_ns = (double)(now_ns() - begin) / (double)operations,
	};
}

/* Each figure of its own: the least and the median of the cycles, and the median of
 * the ratios within a cycle. */
static void sum_up(const struct cost *costs, const struct cost *decisions, unsigned cycles,
		   struct way_result *result)
{
	double redis[CYCLES_MAX], host[CYCLES_MAX], wall[CYCLES_MAX];

	for (unsigned i = 0; i < cycles; i++) {
		redis[i] = costs[i].redis_ns;
		host[i] = costs[i].host_ns;
		wall[i] = costs[i].wall_ns;
	}
	result->middle.redis_ns = median(redis, cycles, &result->least.redis_ns);
	result->middle.host_ns = median(host, cycles, &result->least.host_ns);
	result->middle.wall_ns = median(wall, cycles, &result->least.wall_ns);
	for (unsigned i = 0; i < cycles; i++) {
		redis[i] = decisions[i].redis_ns / costs[i].redis_ns;
		host[i] = decisions[i].host_ns / costs[i].host_ns;
	}
	result->redis_ratio = median(redis, cycles, NULL);
	result->host_ratio = median(host, cycles, NULL);
}

static void measure(struct bench *bench, struct way_result results[WAYS])
{
	unsigned cycles = bench->plan->cycles;
	struct cost *costs[WAYS];
	double *p50_us[WAYS], *p99_us[WAYS];

	for (int way = 0; way < WAYS; way++) {
		costs[way] = calloc(cycles, sizeof(**costs));
		p50_us[way] = calloc(cycles, sizeof(**p50_us));
		p99_us[way] = calloc(cycles, sizeof(**p99_us));
		if (!costs[way] || !p50_us[way] || !p99_us[way])
			die("cost", "no memory");
	}
	for (unsigned cycle = 0; cycle < cycles; cycle++) {
		for (int way = 0; way < WAYS; way++) {
			costs[way][cycle] = run_way(bench, (enum way)way, &results[way]);
			script_times(bench->admin, &p50_us[way][cycle], &p99_us[way][cycle]);
		}
	}
	for (int way = 0; way < WAYS; way++) {
		sum_up(costs[way], costs[WAY_GCRA_16], cycles, &results[way]);
		results[way].script_p50_us = median(p50_us[way], cycles, NULL);
		results[way].script_p99_us = median(p99_us[way], cycles, NULL);
	}
	for (int way = 0; way < WAYS; way++) {
		free(costs[way]);
		free(p50_us[way]);
		free(p99_us[way]);
	}
}

void cost_measure(struct redis_server *server, const struct plan *plan,
		  struct way_result results[WAYS])
{
	struct bench bench = { .plan = plan, .admin = redis_server_connect(server) };
	struct way_result unused = { 0 };

	memset(results, 0, WAYS * sizeof(*results));
	bench.server = server_pid(bench.admin);
	rounds_start(&bench.rounds, server, plan->keys);
	for (int way = WAY_ROUNDS + 1; way < WAYS; way++)
		bench.clients[way] = clients_start(server, (enum way)way);
	for (int way = 0; way < WAYS; way++)
		run_way(&bench, (enum way)way, &unused);        /* connect, grow, warm up */
	freeReplyObject(redisCommand(bench.admin, "CONFIG RESETSTAT"));
	measure(&bench, results);
	for (int way = WAY_ROUNDS + 1; way < WAYS; way++)
		clients_end(bench.clients[way]);
	weir_close(bench.rounds.weir);
	redisFree(bench.admin);
}
