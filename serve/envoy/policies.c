/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/policies.h"

#include <stdlib.h>

static int compare_numbers(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_limit(const void *left, const void *right)
{
	const struct engine_limit *a = left, *b = right;
	int order = compare_numbers(a->period_s, b->period_s);

	order = order ? order : compare_numbers(a->limit, b->limit);
	order = order ? order : compare_numbers(a->burst, b->burst);
	return order ? order : compare_numbers(a->algorithm, b->algorithm);
}

static size_t count_rules(const struct envoy_config *config)
{
	size_t count = 0;

	for (const struct envoy_rule *rule = config ? config->first_rule : NULL; rule;
	     rule = rule->next)
		count++;
	return count;
}

static size_t add_limits(const struct envoy_config *config, struct engine_limit *limits)
{
	size_t count = 0;

	for (const struct envoy_rule *rule = config ? config->first_rule : NULL; rule;
	     rule = rule->next) {
		if (!rule->unlimited)
			limits[count++] = rule->limit;
	}
	return count;
}

/* The limits of two configurations, in order.  NULL: no memory; nothing is removed then. */
static struct engine_limit *limits_of(const struct envoy_config *a, const struct envoy_config *b,
				      size_t *count)
{
	struct engine_limit *limits = calloc(count_rules(a) + count_rules(b) + 1, sizeof(*limits));

	if (!limits)
		return NULL;
	*count = add_limits(a, limits);
	*count += add_limits(b, limits + *count);
	qsort(limits, *count, sizeof(*limits), by_limit);
	return limits;
}

void policies_drop(struct engine *engine, const struct envoy_config *gone,
		   const struct envoy_config *a, const struct envoy_config *b)
{
	size_t count;
	struct engine_limit *kept = gone ? limits_of(a, b, &count) : NULL;

	if (!kept)
		return;
	for (const struct envoy_rule *rule = gone->first_rule; rule; rule = rule->next) {
		if (!rule->unlimited &&
		    !bsearch(&rule->limit, kept, count, sizeof(*kept), by_limit))
			engine->remove(engine, &rule->limit);
	}
	free(kept);
}

size_t policies_make_room(struct engine *engine, const struct envoy_config *in_use, size_t most)
{
	size_t count, removed;
	struct engine_limit *kept = limits_of(in_use, NULL, &count);

	if (!kept)
		return 0;
	removed = engine->make_room(engine, kept, count, most);
	free(kept);
	return removed;
}
