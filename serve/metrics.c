/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/metrics.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "serve/server.h"
#include "serve/survey.h"
#include "src/cli/text.h"

#define SECOND 1e9

/* ---- The format -------------------------------------------------------- */

void metrics_write_head(FILE *file, const char *name, const char *type, const char *help)
{
	fprintf(file, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_gauge(FILE *file, const char *name, const char *help, double value)
{
	metrics_write_head(file, name, "gauge", help);
	fprintf(file, "%s %.17g\n", name, value);
}

/* A label's value: UTF-8, with three characters escaped.  What cannot be printed is
 * written as "\xNN". */
void metrics_write_label(FILE *file, const unsigned char *bytes, size_t length)
{
	while (length > 0) {
		size_t good = text_printable(bytes, length, TEXT_UTF8);

		for (size_t i = 0; i < good; i++) {
			if (bytes[i] == '"')
				putc('\\', file);
			putc(bytes[i], file);
		}
		bytes += good;
		length -= good;
		if (length > 0) {
			fprintf(file, *bytes == '\\' ? "\\\\" : "\\\\x%02x", *bytes);
			bytes++;
			length--;
		}
	}
}

/* ---- Counters ---------------------------------------------------------- */

/* Is it worth saying what is counted?  Not if the name has the word already. */
static bool wants_unit(const struct weir_counter *counter)
{
	static const char *const words[][2] = {
		{ "requests", "request" }, { "tokens", "token" }, { "slots", "slot" },
		{ "buckets", "bucket" },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(counter->unit, words[i][0]) == 0)
			return !strstr(counter->name, words[i][1]);
	}
	return false;
}

static void name_counter(const struct weir_counter *counter, char name[128])
{
	bool unit = wants_unit(counter);

	snprintf(name, 128, "weir_%s%s%s_total", counter->name, unit ? "_" : "",
		 unit ? counter->unit : "");
}

static void write_counters(struct weir *weir, FILE *file, const struct weir_policy *policies,
			   size_t count)
{
	const struct weir_counter *counter;
	char name[128];

	for (unsigned i = 0; (counter = weir_counter(i)); i++) {
		name_counter(counter, name);
		metrics_write_head(file, name, "counter", counter->help);
		if (!counter->per_policy)
			fprintf(file, "%s %" PRIu64 "\n", name, weir_counter_read(weir, i, NULL));
		for (size_t j = 0; counter->per_policy && j < count; j++)
			fprintf(file, "%s{policy=\"%s\"} %" PRIu64 "\n", name, policies[j].name,
				weir_counter_read(weir, i, policies[j].name));
	}
}

/* Zero or one for each fail mode: what was switched at run time shows. */
static void write_fail_modes(struct weir *weir, FILE *file, const struct weir_policy *policies,
			     size_t count)
{
	enum weir_fail_mode mode;

	metrics_write_head(file, "weir_fail_mode", "gauge", "1 for the fail mode that is in force.");
	for (size_t i = 0; i < count; i++) {
		if (weir_fail_mode_get(weir, policies[i].name, &mode, NULL) < 0)
			continue;
		fprintf(file, "weir_fail_mode{policy=\"%s\",mode=\"%s\"} 1\n", policies[i].name,
			weir_fail_mode_name(mode));
	}
}

static void write_segment(struct server *server, FILE *file)
{
	struct weir_info info;

	weir_info(server->weir, &info);
	metrics_write_head(file, "weir_build_info", "gauge", "1, labelled with the version.");
	fprintf(file, "weir_build_info{version=\"%s\"} 1\n", weir_version());
	write_gauge(file, "weir_segment_slots", "Buckets that the segment has room for.",
		    (double)info.slots);
	write_gauge(file, "weir_segment_size_bytes", "Size of the segment.", (double)info.size_bytes);
	write_gauge(file, "weir_segment_removed",
		    "1 if others who open the segment's name do not find this one.",
		    atomic_load(&server->segment_removed));
	write_gauge(file, "weir_participants", "Processes that have the segment open.",
		    (double)info.participants);
	write_gauge(file, "weir_service_connections", "Connections that this service has open.",
		    (double)server_connections(server));
	write_gauge(file, "weir_service_draining", "1 while the service is about to end.",
		    atomic_load(&server->draining));
}

/* What the service itself has done. */
static void write_service(struct server *server, FILE *file)
{
	static const char *const names[COUNT_COUNT][2] = {
		[COUNT_CONNECTIONS] = { "weir_service_connections_accepted_total",
					"Connections that were accepted." },
		[COUNT_CONNECTIONS_REFUSED] = { "weir_service_connections_refused_total",
						"Connections beyond --max-connections." },
		[COUNT_CONNECTIONS_TIMED_OUT] = { "weir_service_connections_timed_out_total",
						  "Connections of clients that did not go on." },
		[COUNT_CALLS] = { "weir_service_calls_total", "Calls of gRPC." },
		[COUNT_CALLS_REFUSED] = { "weir_service_calls_refused_total",
					  "Calls of gRPC that were one too many, or too late." },
		[COUNT_CALLS_FAILED] = { "weir_service_calls_failed_total",
					 "Calls of gRPC that ended with another status than OK." },
		[COUNT_CALLS_TIMED_OUT] = { "weir_service_calls_timed_out_total",
					    "Calls of gRPC whose client did not go on." },
	};

	for (unsigned i = 0; i < COUNT_COUNT; i++) {
		metrics_write_head(file, names[i][0], "counter", names[i][1]);
		fprintf(file, "%s %" PRIu64 "\n", names[i][0],
			server_count(server, (enum count)i));
	}
}

/* Of a segment that syncs. */
static void write_sync(struct weir *weir, FILE *file)
{
	struct weir_sync_status status;

	if (weir_sync_status(weir, &status, NULL) < 0 || !status.enabled)
		return;
	write_gauge(file, "weir_sync_leader", "1 if a process of this host leads its sync.",
		    status.leader_pid != 0);
	write_gauge(file, "weir_sync_connected", "1 if the leader is connected to Redis.",
		    status.connected);
	write_gauge(file, "weir_sync_paused", "1 while sync is paused.", status.paused);
	write_gauge(file, "weir_sync_tick_seconds", "How long the last tick of the leader took.",
		    (double)status.round_ns / SECOND);
	if (status.staleness_ns != WEIR_NEVER)
		write_gauge(file, "weir_sync_staleness_seconds",
			    "Age of the oldest view of the cluster.",
			    (double)status.staleness_ns / SECOND);
	write_gauge(file, "weir_sync_unmerged_tokens",
		    "Tokens consumed here that no view of the cluster has yet.",
		    (double)status.unmerged_tokens);
	write_gauge(file, "weir_sync_hosts", "Hosts that were alive at the last round; 0: not known.",
		    (double)status.hosts);
	write_gauge(file, "weir_sync_disagreeing_policies", "Policies that another host has otherwise.",
		    (double)status.disagreeing);
}

void metrics_write_counters(struct server *server, FILE *file, unsigned keys)
{
	size_t room = weir_policy_list(server->weir, NULL, 0), count;
	struct weir_policy *policies = calloc(room ? room : 1, sizeof(*policies));

	(void)keys;
	count = policies ? weir_policy_list(server->weir, policies, room) : 0;
	if (count > room)               /* some were made since */
		count = room;
	write_counters(server->weir, file, policies, count);
	write_fail_modes(server->weir, file, policies, count);
	write_segment(server, file);
	write_service(server, file);
	metrics_write_rules(server, file);
	free(policies);
}

/* ---- Keys -------------------------------------------------------------- */

static bool count_bucket(const struct weir_bucket *bucket, void *context)
{
	uint64_t *count = context;

	(void)bucket;
	++*count;
	return true;
}

/* A backslash is two, as weir(1) prints it: "\x01" is a byte, and "\\x01" four. */
static void write_key_bytes(FILE *file, const unsigned char *bytes, size_t length)
{
	const unsigned char *end = bytes + length, *backslash;

	while ((backslash = memchr(bytes, '\\', (size_t)(end - bytes)))) {
		metrics_write_label(file, bytes, (size_t)(backslash - bytes));
		fputs("\\\\\\\\", file);
		bytes = backslash + 1;
	}
	metrics_write_label(file, bytes, (size_t)(end - bytes));
}

/* No two keys have one name, or Prometheus would take one sample for both: of a key that
 * the segment does not keep whole, its fingerprint is told. */
static void write_key(FILE *file, const struct weir_bucket *bucket)
{
	write_key_bytes(file, bucket->key, bucket->key_stored);
	if (bucket->key_stored > 0 && bucket->key_stored == bucket->key_length)
		return;
	fputs(bucket->key_stored > 0 ? "... fingerprint " : "fingerprint ", file);
	for (size_t i = 0; i < sizeof(bucket->fingerprint); i++)
		fprintf(file, "%02x", bucket->fingerprint[i]);
}

void metrics_write_keys(struct server *server, FILE *file, unsigned keys)
{
	struct weir_bucket *buckets = calloc(keys ? keys : 1, sizeof(*buckets));
	uint64_t live = 0;
	size_t count = 0;

	write_sync(server->weir, file);
	weir_each_bucket(server->weir, 0, count_bucket, &live);
	write_gauge(file, "weir_live_buckets", "Buckets that are in use.", (double)live);
	if (buckets && keys > 0)
		count = weir_top(server->weir, 0, WEIR_TOP_DENIED, buckets, keys);
	metrics_write_head(file, "weir_top_denied_requests", "gauge",
		   "Denials of the keys that were denied most, estimated from samples.");
	for (size_t i = 0; i < count; i++) {
		fprintf(file, "weir_top_denied_requests{policy=\"%s\",limit=\"%" PRIu32 "\",key=\"",
			buckets[i].policy, buckets[i].limit_index);
		write_key(file, &buckets[i]);
		fprintf(file, "\"} %" PRIu64 "\n", buckets[i].denied_sampled);
	}
	free(buckets);
}
