/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay-json.c - the report as JSON: what the text tells, under stable names.
 */
#include "replay-report.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of the log, escaped where they are no text. */
static json_t *json_escaped(const char *bytes, size_t length)
{
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	json_t *string;

	if (!file)
		return NULL;
	cli_print_message(file, bytes, length);
	if (fclose(file) != 0)
		size = 0;
	string = json_stringn(text ? text : "", size);
	free(text);
	return string;
}

static json_t *json_examples(const struct replay_input *input)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < input->example_count; i++) {
		const struct replay_example *example = &input->examples[i];
		json_t *object = json_object();

		json_object_set_new(object, "line", cli_json_u64(example->line));
		json_object_set_new(object, "reason", json_string(example->reason));
		json_object_set_new(object, "text", json_escaped(example->bytes, example->length));
		json_object_set_new(object, "cut", json_boolean(example->cut));
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *json_limits(const struct replay_report *report, uint32_t policy)
{
	const struct weir_policy *definition = &report->plan->policies[policy];
	json_t *array = json_array();

	for (uint32_t i = 0; i < definition->limit_count; i++) {
		const struct replay_tally *tally = replay_alone_tally(report, policy, i);
		json_t *object = json_object();
		char text[96];

		weir_limit_format(&definition->limits[i], text, sizeof(text));
		json_object_set_new(object, "limit", json_string(text));
		json_object_set_new(object, "denied_alone",
				    cli_json_u64(tally->denied + tally->shadowed));
		json_object_set_new(object, "flagged_alone", cli_json_u64(tally->flagged));
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *json_policies(const struct replay_report *report)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < report->plan->policy_count; i++) {
		const struct replay_tally *tally = &report->result->tallies[i];
		json_t *object = json_object();

		json_object_set_new(object, "name", json_string(report->plan->policies[i].name));
		json_object_set_new(object, "allowed", cli_json_u64(tally->allowed));
		json_object_set_new(object, "denied", cli_json_u64(tally->denied));
		json_object_set_new(object, "unavailable", cli_json_u64(tally->unavailable));
		json_object_set_new(object, "shadow",
				    json_boolean(report->plan->policies[i].shadow));
		json_object_set_new(object, "shadow_denied", cli_json_u64(tally->shadowed));
		json_object_set_new(object, "flagged", cli_json_u64(tally->flagged));
		json_object_set_new(object, "by_fail_mode", cli_json_u64(tally->undecided));
		json_object_set_new(object, "limits", json_limits(report, i));
		json_array_append_new(array, object);
	}
	return array;
}

/* A combined key is an object of its fields, a single one as everywhere. */
static void set_key(json_t *object, const struct replay_report *report, uint32_t number)
{
	const struct replay_key_set *keys = &report->input->keys;
	const uint8_t *bytes = replay_key_bytes(keys, number);
	size_t length = keys->keys[number].length;

	if (report->form->count == 1) {
		cli_json_set_key(object, bytes, length);
		return;
	}

	json_t *fields = json_object();

	for (unsigned i = 0; i < report->form->count; i++) {
		struct replay_text field = replay_key_field(report->form, bytes, length, i);

		json_object_set_new(fields, replay_field_name(report->form->fields[i]),
				    json_escaped(field.bytes, field.length));
	}
	json_object_set_new(object, "key", fields);
}

static json_t *json_top(struct cli *cli, const struct replay_report *report)
{
	struct replay_key_count top[REPLAY_TOP_KEYS];
	int count = replay_top_keys(report->input, report->result, top);
	json_t *array = json_array();

	if (count < 0)
		cli_die(cli, "no memory to count the requests of the keys");
	for (int i = 0; i < count; i++) {
		json_t *object = json_object();

		set_key(object, report, top[i].key);
		json_object_set_new(object, "requests", cli_json_u64(top[i].requests));
		json_object_set_new(object, "denied", cli_json_u64(top[i].denied));
		json_array_append_new(array, object);
	}
	return array;
}

static json_t *json_fields(const struct replay_key_form *form)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < form->count; i++)
		json_array_append_new(array, json_string(replay_field_name(form->fields[i])));
	return array;
}

static json_t *json_latency(const struct replay_latency *latency)
{
	json_t *object = json_object();

	json_object_set_new(object, "p50", cli_json_u64(latency->p50_ns));
	json_object_set_new(object, "p99", cli_json_u64(latency->p99_ns));
	json_object_set_new(object, "p99.9", cli_json_u64(latency->p99_9_ns));
	json_object_set_new(object, "max", cli_json_u64(latency->max_ns));
	return object;
}

void replay_json_set_input(json_t *object, const struct replay_input *input,
			   const struct replay_key_form *form)
{
	char text[REPLAY_TIME_SIZE];

	json_object_set_new(object, "lines", cli_json_u64(input->lines));
	json_object_set_new(object, "malformed", cli_json_u64(input->malformed));
	json_object_set_new(object, "malformed_first", json_examples(input));
	json_object_set_new(object, "time_steps_back", cli_json_u64(input->steps_back));
	json_object_set_new(object, "requests_held", cli_json_u64(input->held));
	json_object_set_new(object, "first_time",
			    json_string(replay_time_text(input->requests[0].time_ns, text)));
	json_object_set_new(
		object, "last_time",
		json_string(replay_time_text(input->requests[input->request_count - 1].time_ns,
					     text)));
	json_object_set_new(object, "keys", cli_json_u64(input->keys.count));
	json_object_set_new(object, "key_fields", json_fields(form));
}

void replay_print_json(struct cli *cli, const struct replay_report *report)
{
	const struct replay_result *result = report->result;
	json_t *object = json_object();

	json_object_set_new(object, "requests", cli_json_u64(report->input->request_count));
	json_object_set_new(object, "allowed", cli_json_u64(result->allowed));
	json_object_set_new(object, "denied", cli_json_u64(result->denied));
	json_object_set_new(object, "unavailable", cli_json_u64(result->unavailable));
	replay_json_set_input(object, report->input, report->form);
	json_object_set_new(
		object, "speed",
		json_string(report->options->speed == REPLAY_SPEED_LOG ? "log" : "max"));
	json_object_set_new(object, "workers", cli_json_u64(report->options->workers));
	json_object_set_new(object, "slots", cli_json_u64(report->options->slots));
	json_object_set_new(object, "policies", json_policies(report));
	json_object_set_new(object, "concurrency_limits_left_out",
			    cli_json_u64(report->plan->dropped));
	json_object_set_new(object, "top_keys", json_top(cli, report));
	json_object_set_new(object, "evicted_live", cli_json_u64(result->evicted_live));
	json_object_set_new(object, "decisions", cli_json_u64(result->decisions));
	json_object_set_new(object, "elapsed_ns", cli_json_u64(result->elapsed_ns));
	json_object_set_new(object, "decisions_per_second",
			    cli_json_u64(replay_decisions_per_second(result)));
	json_object_set_new(object, "latency_ns", json_latency(&result->latency));
	cli_print_json(cli, object);
}
