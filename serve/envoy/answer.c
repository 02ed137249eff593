/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - what decisions mean: statuses, the overall code, headers and metadata. */
#include <stdio.h>

#include "serve/envoy/decide.h"
#include "serve/envoy/failure.h"

bool envoy_has_quota(const struct decision_round *round, size_t index)
{
	const struct envoy_rule *rule = round->decided[index].match.rule;

	return round->options->quota_mode || (rule && rule->quota_mode);
}

bool envoy_reports_over(const struct decided *decided)
{
	return decided->match.rule && decided->over && !decided->match.rule->shadow_mode;
}

/* One over its limit is enough, unless it is in quota mode: of those all must be over,
 * or (as of January) they never refuse. */
bool envoy_refuses(const struct decision_round *round)
{
	size_t quotas = 0, quotas_over = 0;

	for (size_t i = 0; i < round->request->descriptor_count; i++) {
		const struct decided *decided = &round->decided[i];
		bool over = envoy_reports_over(decided);

		if (decided->match.unlimited)
			continue;
		if (over && !envoy_has_quota(round, i))
			return true;
		quotas += envoy_has_quota(round, i);
		quotas_over += over;
	}
	return round->options->config.release != ENVOY_2026_01 && quotas > 0 &&
	       quotas == quotas_over;
}

/* ---- Statuses ------------------------------------------------------------------ */

static uint64_t seconds_until_reset(const struct decision_round *round,
				    const struct decided *decided)
{
	const struct engine_limit *limit = &decided->match.rule->limit;

	if (limit->algorithm == ENGINE_TOKEN_BUCKET)
		return (decided->reset_after_ns + 999999999) / 1000000000;
	return limit->period_s - round->request->now_s % limit->period_s;
}

static void fill_limit(const struct decision_round *round, const struct decided *decided,
		       struct envoy_status *status)
{
	const struct envoy_rule *rule = decided->match.rule;
	uint64_t remaining = decided->over ? 0 : decided->limit - decided->after;

	status->code = envoy_reports_over(decided) ? CODE_OVER_LIMIT : CODE_OK;
	status->has_limit = true;
	status->requests_per_unit = rule->requests_per_unit;
	status->unit = rule->unit;
	status->unit_multiplier = rule->unit_multiplier;
	status->name = rule->name;
	status->limit_remaining = remaining > UINT32_MAX ? UINT32_MAX : (uint32_t)remaining;
	status->has_reset = true;
	status->until_reset_s = seconds_until_reset(round, decided);
}

static void fill_statuses(const struct decision_round *round, struct envoy_answer *answer)
{
	for (size_t i = 0; i < answer->status_count; i++) {
		const struct decided *decided = &round->decided[i];
		struct envoy_status *status = &answer->statuses[i];

		status->code = CODE_OK;
		if (decided->match.unlimited)
			status->limit_remaining = UINT32_MAX;
		else if (decided->match.rule)
			fill_limit(round, decided, status);
	}
}

/* ---- Headers ------------------------------------------------------------------- */

/* They tell of the last that refuses, else of the first with the least remaining. */
static const struct envoy_status *find_closest(const struct decision_round *round,
					       const struct envoy_answer *answer)
{
	const struct envoy_status *closest = NULL;
	uint32_t least = UINT32_MAX;

	for (size_t i = 0; i < answer->status_count; i++) {
		const struct envoy_status *status = &answer->statuses[i];

		if (status->has_limit && status->limit_remaining < least) {
			closest = status;
			least = status->limit_remaining;
		}
		if (status->code == CODE_OVER_LIMIT && !envoy_has_quota(round, i)) {
			closest = status;
			least = 0;
		}
	}
	return closest;
}

static void add_header(struct envoy_answer *answer, const char *name, uint64_t value)
{
	struct envoy_header *header = &answer->headers[answer->header_count++];

	header->name = name;
	snprintf(header->value, sizeof(header->value), "%llu", (unsigned long long)value);
}

static void fill_headers(const struct decision_round *round, struct envoy_answer *answer)
{
	const struct envoy_options *options = round->options;
	const struct envoy_status *closest = find_closest(round, answer);

	if (!options->headers || !closest)
		return;
	add_header(answer, options->limit_header, closest->requests_per_unit);
	add_header(answer, options->remaining_header, closest->limit_remaining);
	add_header(answer, options->reset_header, closest->until_reset_s);
}

/* As of January, quota mode hides what is over.  Headers are told all the same. */
static void hide_quotas(const struct decision_round *round, struct envoy_answer *answer)
{
	for (size_t i = 0; i < answer->status_count; i++) {
		struct envoy_status *status = &answer->statuses[i];

		if (status->code == CODE_OVER_LIMIT && envoy_has_quota(round, i)) {
			status->code = CODE_OK;
			status->has_reset = false;
		}
	}
}

/* ---- Metadata ------------------------------------------------------------------ */

struct metadata {
	const struct decision_round *round;
	struct value *root;
	struct value lost;      /* written to where there is no memory, and never read */
	bool no_memory;
};

static struct value *add(struct metadata *metadata, struct value *parent, const char *name,
			 enum value_kind kind)
{
	struct value *value = value_add(parent, text_of(name), metadata->round->scratch);

	if (!value) {
		metadata->no_memory = true;
		return &metadata->lost;
	}
	value->kind = kind;
	return value;
}

/* The override as protobuf's text format has it. */
static struct text limit_text(const struct metadata *metadata,
			      const struct envoy_descriptor *descriptor)
{
	struct builder text = { .pool = metadata->round->scratch };
	int unit = descriptor->override_unit;

	if (descriptor->override_requests > 0)
		builder_print(&text, "requests_per_unit:%u", descriptor->override_requests);
	if (unit != 0)
		builder_print(&text, "%sunit:", text.length > 0 ? " " : "");
	if (unit >= UNIT_SECOND && unit <= UNIT_YEAR)
		builder_print(&text, "%s", envoy_unit_name(unit));
	else if (unit != 0)
		builder_print(&text, "%d", unit);
	return builder_text(&text);
}

static void add_descriptor(struct metadata *metadata, struct value *list,
			   const struct envoy_descriptor *descriptor)
{
	struct value *object = add(metadata, list, "", VALUE_STRUCT);
	struct value *entries = add(metadata, object, "entries", VALUE_LIST);

	for (size_t i = 0; i < descriptor->entry_count && !metadata->no_memory; i++) {
		struct builder text = { .pool = metadata->round->scratch };

		builder_add(&text, descriptor->entries[i].key);
		builder_add_char(&text, '=');
		builder_add(&text, descriptor->entries[i].value);
		add(metadata, entries, "", VALUE_STRING)->string = builder_text(&text);
		metadata->no_memory |= text.failed;
	}
	if (metadata->no_memory)
		return;
	if (descriptor->has_override)
		add(metadata, object, "limit", VALUE_STRING)->string =
			limit_text(metadata, descriptor);
	if (descriptor->has_hits)
		add(metadata, object, "hitsAddend", VALUE_NUMBER)->number =
			(double)descriptor->hits;
}

/* Those of the rules that are not over; what several have, the first one says. */
static void add_passed(struct metadata *metadata)
{
	const struct decision_round *round = metadata->round;
	struct value passed = { .kind = VALUE_STRUCT };

	for (size_t i = 0; i < round->request->descriptor_count; i++) {
		const struct decided *decided = &round->decided[i];

		if (decided->match.rule && decided->match.metadata &&
		    !envoy_reports_over(decided) &&
		    !value_merge(&passed, decided->match.metadata, round->scratch))
			metadata->no_memory = true;
	}
	if (passed.count > 0)
		*add(metadata, metadata->root, "metadata", VALUE_STRUCT) = passed;
}

static void add_violations(struct metadata *metadata)
{
	const struct decision_round *round = metadata->round;
	struct value violations = { .kind = VALUE_LIST };
	bool enabled = false;

	for (size_t i = 0; i < round->request->descriptor_count; i++) {
		const struct decided *decided = &round->decided[i];

		enabled |= decided->match.rule && decided->match.rule->quota_mode;
		if (envoy_reports_over(decided) && envoy_has_quota(round, i))
			add(metadata, &violations, "", VALUE_NUMBER)->number = (double)i;
	}
	if (violations.count > 0)
		*add(metadata, metadata->root, "quotaModeViolations", VALUE_LIST) = violations;
	add(metadata, metadata->root, "quotaModeEnabled", VALUE_BOOL)->boolean = enabled;
}

static bool fill_metadata(const struct decision_round *round, struct envoy_answer *answer)
{
	const struct envoy_request *request = round->request;
	struct metadata metadata = {
		.round = round,
		.root = pool_take(round->scratch, sizeof(*metadata.root)),
	};
	struct value *descriptors;

	if (!metadata.root)
		return false;
	metadata.root->kind = VALUE_STRUCT;
	add(&metadata, metadata.root, "domain", VALUE_STRING)->string = request->domain;
	descriptors = add(&metadata, metadata.root, "descriptors", VALUE_LIST);
	for (size_t i = 0; i < request->descriptor_count && !metadata.no_memory; i++)
		add_descriptor(&metadata, descriptors, &request->descriptors[i]);
	if (request->hits_addend > 0 && !metadata.no_memory)
		add(&metadata, metadata.root, "hitsAddend", VALUE_NUMBER)->number =
			request->hits_addend;
	if (metadata.no_memory)
		return false;
	if (round->options->config.release == ENVOY_2026_01)
		add_violations(&metadata);
	else
		add_passed(&metadata);
	answer->metadata = metadata.root;
	return !metadata.no_memory;
}

int envoy_fill_answer(const struct decision_round *round, struct envoy_answer *answer,
		      struct weir_error *error)
{
	size_t count = round->request->descriptor_count;

	*answer = (struct envoy_answer){ .status_count = count };
	answer->statuses = pool_array(round->scratch, count, sizeof(*answer->statuses));
	if (!answer->statuses)
		goto no_memory;
	fill_statuses(round, answer);
	fill_headers(round, answer);
	if (round->options->config.release == ENVOY_2026_01)
		hide_quotas(round, answer);
	answer->overall = envoy_refuses(round) && !round->options->shadow_mode ? CODE_OVER_LIMIT :
										CODE_OK;
	if (round->options->dynamic_metadata && !fill_metadata(round, answer))
		goto no_memory;
	return WEIR_OK;

no_memory:
	return envoy_fail(error, WEIR_ENOMEM,
			  "no memory for an answer; free some and try again");
}
