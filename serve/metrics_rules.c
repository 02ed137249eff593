/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_rules.c - what Envoy's rules have counted, by the names that
 * envoyproxy/ratelimit gives them: ratelimit_service_rate_limit_total_hits and so on, with
 * the labels domain, key1 and key2.  What a rule has beyond two levels is key3.
 */
#include "serve/metrics.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "serve/rules.h"
#include "serve/server.h"

static const char *const help[STAT_COUNT] = {
	[STAT_TOTAL_HITS] = "Hits that a rule has counted.",
	[STAT_OVER_LIMIT] = "Hits beyond the limit of a rule.",
	[STAT_NEAR_LIMIT] = "Hits within the limit of a rule, but near it.",
	[STAT_WITHIN_LIMIT] = "Hits within the limit of a rule.",
	[STAT_SHADOW_MODE] = "Hits beyond the limit of a rule in shadow mode, which passed.",
	[STAT_DOMAIN_NOT_FOUND] = "Requests for a domain that has no rules.",
};

struct writing {
	FILE *file;
	enum stats_counter counter;
};

/* Up to the next point, which is skipped. */
static const char *next_part(const char **rest, size_t *length)
{
	const char *part = *rest;

	*length = strcspn(part, ".");
	*rest = part + *length + (part[*length] == '.');
	return part;
}

static void write_labels(FILE *file, const char *key)
{
	static const char *const names[] = { "domain", "key1", "key2" };
	const char *rest = key, *part;
	size_t length;

	for (size_t i = 0; i < 3 && (*rest || i == 0); i++) {
		part = next_part(&rest, &length);
		fprintf(file, "%s%s=\"", i ? "," : "", names[i]);
		metrics_write_label(file, (const unsigned char *)part, length);
		putc('"', file);
	}
	if (*rest) {
		fputs(",key3=\"", file);
		metrics_write_label(file, (const unsigned char *)rest, strlen(rest));
		putc('"', file);
	}
}

static void write_stats(const struct stats *stats, void *context)
{
	const struct writing *writing = context;
	bool domain = writing->counter == STAT_DOMAIN_NOT_FOUND;
	uint64_t count = stats_read(stats, writing->counter);
	char *key;

	/* Most keys are a rule's, which has no such counter; a domain's has no other. */
	if (count == 0 && (domain || stats_read(stats, STAT_TOTAL_HITS) == 0))
		return;
	key = malloc(stats->key_length + 1);
	if (!key)
		return;
	stats_clean_key(stats, key);
	fprintf(writing->file, "ratelimit_service_rate_limit_%s{", stats_name(writing->counter));
	write_labels(writing->file, key);
	fprintf(writing->file, "} %" PRIu64 "\n", count);
	free(key);
}

/* A failed request is one of several kinds there, told apart by a label. */
static void write_counter(FILE *file, const struct envoy_service *service,
			  enum service_counter counter)
{
	bool failed = counter == COUNTER_SERVICE_ERROR;
	const char *label = failed ? "{err_type=\"service_error\"}" : "";
	char name[96];

	snprintf(name, sizeof(name), "ratelimit_service_%s",
		 failed ? "should_rate_limit_error" : envoy_service_counter_name(counter));
	metrics_write_head(file, name, "counter", "As envoyproxy/ratelimit counts it.");
	fprintf(file, "%s%s %" PRIu64 "\n", name, label, envoy_service_counter(service, counter));
}

void metrics_write_rules(struct server *server, FILE *file)
{
	const struct statsd *statsd = server->options->statsd.running;
	const struct envoy_service *service;
	struct writing writing = { .file = file };
	char name[96];

	if (!server->rules)
		return;
	service = rules_service(server->rules);
	for (unsigned i = 0; i < STAT_COUNT; i++) {
		writing.counter = (enum stats_counter)i;
		snprintf(name, sizeof(name), "ratelimit_service_rate_limit_%s",
			 stats_name(writing.counter));
		metrics_write_head(file, name, "counter", help[i]);
		stats_each(envoy_service_stats(service), write_stats, &writing);
	}
	for (unsigned i = 0; i < COUNTER_COUNT; i++)
		write_counter(file, service, (enum service_counter)i);
	metrics_write_head(file, "weir_rules_unnamed_total", "counter",
			   "Metric keys of requests for which there was no room.");
	fprintf(file, "weir_rules_unnamed_total %" PRIu64 "\n",
		stats_refused(envoy_service_stats(service)));
	if (!statsd)
		return;
	metrics_write_head(file, "weir_statsd_errors_total", "counter",
			   "Packets to statsd that were not sent.  What they told is sent later.");
	fprintf(file, "weir_statsd_errors_total %" PRIu64 "\n", statsd_errors(statsd));
}
