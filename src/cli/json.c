/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>

json_t *cli_json_u64(uint64_t value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

json_t *cli_json_duration(uint64_t duration_ns)
{
	return duration_ns == WEIR_NEVER ? json_null() : cli_json_u64(duration_ns);
}

static json_t *json_base16(const unsigned char *bytes, size_t length)
{
	char *text = malloc(2 * length + 1);
	json_t *string;

	if (!text)
		return NULL;
	for (size_t i = 0; i < length; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
	string = json_stringn(text, 2 * length);
	free(text);
	return string;
}

void cli_json_set_key(json_t *object, const void *key, size_t length)
{
	json_t *string = json_stringn(key, length);     /* NULL if it is not UTF-8 */

	if (string)
		json_object_set_new(object, "key", string);
	else
		json_object_set_new(object, "key_base16", json_base16(key, length));
}

void cli_json_set_decision(json_t *object, const struct weir_decision *decision)
{
	json_object_set_new(object, "outcome", json_string(weir_outcome_name(decision->outcome)));
	json_object_set_new(object, "reason", json_string(weir_reason_name(decision->reason)));
	json_object_set_new(object, "limit_index", cli_json_u64(decision->limit_index));
	json_object_set_new(object, "limit", cli_json_u64(decision->limit));
	json_object_set_new(object, "remaining", cli_json_u64(decision->remaining));
	json_object_set_new(object, "counted", cli_json_u64(decision->counted));
	json_object_set_new(object, "retry_after_ns", cli_json_duration(decision->retry_after_ns));
	json_object_set_new(object, "reset_after_ns", cli_json_duration(decision->reset_after_ns));
	json_object_set_new(object, "flagged", json_boolean(decision->flagged));
}

json_t *cli_json_bucket(const struct weir_bucket *bucket)
{
	json_t *object = json_object();

	json_object_set_new(object, "policy",
			    *bucket->policy ? json_string(bucket->policy) : json_null());
	json_object_set_new(object, "algorithm",
			    json_string(weir_algorithm_name(bucket->algorithm)));
	json_object_set_new(object, "fingerprint",
			    json_base16(bucket->fingerprint, sizeof(bucket->fingerprint)));
	json_object_set_new(object, "key_length", cli_json_u64(bucket->key_length));
	json_object_set_new(object, "key_truncated",
			    json_boolean(bucket->key_stored < bucket->key_length));
	if (bucket->key_stored > 0)
		cli_json_set_key(object, bucket->key, bucket->key_stored);
	json_object_set_new(object, "consumed", cli_json_u64(bucket->consumed));
	json_object_set_new(object, "denied_sampled", cli_json_u64(bucket->denied_sampled));
	cli_json_set_decision(object, &bucket->status);
	/* The status may belong to no limit any more; the bucket does. */
	json_object_set_new(object, "limit_index", cli_json_u64(bucket->limit_index));
	return object;
}
