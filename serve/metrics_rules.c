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

#include "serve/envoy/text.h"
#include "serve/rules.h"
#include "serve/server.h"

#define LABELS 4

static const char *const help[STAT_COUNT] = {
	[STAT_TOTAL_HITS] = "Hits that a rule has counted.",
	[STAT_OVER_LIMIT] = "Hits beyond the limit of a rule.",
	[STAT_NEAR_LIMIT] = "Hits within the limit of a rule, but near it.",
	[STAT_WITHIN_LIMIT] = "Hits within the limit of a rule.",
	[STAT_SHADOW_MODE] = "Hits beyond the limit of a rule in shadow mode, which passed.",
	[STAT_DOMAIN_NOT_FOUND] = "Requests for a domain that has no rules.",
};

/* What all the metric keys count that have the same labels. */
struct row {
	char *labels;
	uint64_t counters[STAT_COUNT];
};

struct rows {
	struct row *rows;
	size_t count;
	size_t room;
};

/* Up to the next point, which is skipped. */
static struct text next_part(struct text *rest)
{
	const char *point = memchr(rest->bytes, '.', rest->length);
	struct text part = { rest->bytes, point ? (size_t)(point - rest->bytes) : rest->length };

	*rest = text_from(*rest, part.length + (point != NULL));
	return part;
}

/* To Prometheus an empty label is none: those in the end are left out, so that equal
 * labels are equal texts. */
static void write_labels(FILE *file, struct text key)
{
	static const char *const names[LABELS] = { "domain", "key1", "key2", "key3" };
	struct text values[LABELS];
	size_t count = 1;

	for (size_t i = 0; i < LABELS; i++) {
		values[i] = i + 1 < LABELS ? next_part(&key) : key;
		if (values[i].length > 0)
			count = i + 1;
	}
	for (size_t i = 0; i < count; i++) {
		fprintf(file, "%s%s=\"", i ? "," : "", names[i]);
		metrics_write_label(file, (const unsigned char *)values[i].bytes,
				    values[i].length);
		putc('"', file);
	}
}

/* NULL: no memory. */
static char *labels_of(const struct stats *stats)
{
	char *clean = malloc(stats->key_length + 1), *labels = NULL;
	size_t length;
	FILE *file = clean ? open_memstream(&labels, &length) : NULL;

	if (file) {
		stats_clean_key(stats, clean);
		write_labels(file, (struct text){ clean, stats->key_length });
		if (fclose(file) != 0) {
			free(labels);
			labels = NULL;
		}
	}
	free(clean);
	return labels;
}

static struct row *add_row(struct rows *rows)
{
	size_t room = rows->room ? 2 * rows->room : 64;
	struct row *larger;

	if (rows->count == rows->room) {
		larger = realloc(rows->rows, room * sizeof(*larger));
		if (!larger)
			return NULL;
		rows->rows = larger;
		rows->room = room;
	}
	return &rows->rows[rows->count++];
}

/* One that has counted nothing yet is not told. */
static void add_stats(const struct stats *stats, void *context)
{
	struct row row = { 0 }, *place;
	uint64_t sum = 0;

	for (unsigned i = 0; i < STAT_COUNT; i++) {
		row.counters[i] = stats_read(stats, (enum stats_counter)i);
		sum |= row.counters[i];
	}
	if (sum == 0)
		return;
	row.labels = labels_of(stats);
	place = row.labels ? add_row(context) : NULL;
	if (place)
		*place = row;
	else
		free(row.labels);
}

static int by_labels(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->labels, ((const struct row *)b)->labels);
}

/* Keys may differ in what a label does not show, as "a:b" and "a|b" do. */
static void merge(struct rows *rows)
{
	size_t count = 0;

	if (rows->count > 0)
		qsort(rows->rows, rows->count, sizeof(*rows->rows), by_labels);
	for (size_t i = 0; i < rows->count; i++) {
		struct row *row = &rows->rows[i], *last = count ? &rows->rows[count - 1] : NULL;

		if (!last || by_labels(row, last) != 0) {
			rows->rows[count++] = *row;
			continue;
		}
		for (unsigned j = 0; j < STAT_COUNT; j++)
			last->counters[j] += row->counters[j];
		free(row->labels);
	}
	rows->count = count;
}

static void write_stat(FILE *file, const struct rows *rows, enum stats_counter counter)
{
	char name[96];

	snprintf(name, sizeof(name), "ratelimit_service_rate_limit_%s", stats_name(counter));
	metrics_write_head(file, name, "counter", help[counter]);
	for (size_t i = 0; i < rows->count; i++) {
		const struct row *row = &rows->rows[i];
		uint64_t count = row->counters[counter];

		/* Most keys are a rule's, which has no such counter; a domain's has no other. */
		if (count > 0 || (counter != STAT_DOMAIN_NOT_FOUND &&
				  row->counters[STAT_TOTAL_HITS] > 0))
			fprintf(file, "%s{%s} %" PRIu64 "\n", name, row->labels, count);
	}
}

static void write_stats(FILE *file, const struct stats_table *table)
{
	struct rows rows = { 0 };

	stats_each(table, add_stats, &rows);
	merge(&rows);
	for (unsigned i = 0; i < STAT_COUNT; i++)
		write_stat(file, &rows, (enum stats_counter)i);
	for (size_t i = 0; i < rows.count; i++)
		free(rows.rows[i].labels);
	free(rows.rows);
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

	if (!server->rules)
		return;
	service = rules_service(server->rules);
	write_stats(file, envoy_service_stats(service));
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
