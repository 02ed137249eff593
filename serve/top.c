/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/top.h"

#include <stdlib.h>
#include <time.h>

#include <jansson.h>

#include "serve/server.h"
#include "src/cli/json.h"

#define POLICIES_MAX 256        /* a page that a browser shows */

static json_t *tell_counters(struct weir *weir, const char *policy)
{
	const struct weir_counter *counter;
	json_t *object = json_object();

	for (unsigned i = 0; (counter = weir_counter(i)); i++) {
		if (!policy || counter->per_policy)
			json_object_set_new(object, counter->name,
					    cli_json_u64(weir_counter_read(weir, i, policy)));
	}
	return object;
}

static json_t *tell_policy(struct weir *weir, const struct weir_policy *policy)
{
	json_t *object = json_object(), *limits = json_array();
	enum weir_fail_mode mode = policy->fail_mode;

	for (uint32_t i = 0; i < policy->limit_count; i++) {
		char text[96];

		weir_limit_format(&policy->limits[i], text, sizeof(text));
		json_array_append_new(limits, json_string(text));
	}
	weir_fail_mode_get(weir, policy->name, &mode, NULL);
	json_object_set_new(object, "name", json_string(policy->name));
	json_object_set_new(object, "limits", limits);
	json_object_set_new(object, "consistency",
			    json_string(weir_consistency_name(policy->consistency)));
	json_object_set_new(object, "fail_mode", json_string(weir_fail_mode_name(mode)));
	json_object_set_new(object, "counters", tell_counters(weir, policy->name));
	return object;
}

static json_t *tell_policies(struct weir *weir)
{
	struct weir_policy *policies = calloc(POLICIES_MAX, sizeof(*policies));
	size_t count = policies ? weir_policy_list(weir, policies, POLICIES_MAX) : 0;
	json_t *array = json_array();

	for (size_t i = 0; i < count && i < POLICIES_MAX; i++)
		json_array_append_new(array, tell_policy(weir, &policies[i]));
	free(policies);
	return array;
}

static json_t *tell_keys(struct weir *weir, enum weir_top_order order, unsigned keys)
{
	struct weir_bucket *buckets = calloc(keys ? keys : 1, sizeof(*buckets));
	size_t count = buckets && keys ? weir_top(weir, 0, order, buckets, keys) : 0;
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, cli_json_bucket(&buckets[i]));
	free(buckets);
	return array;
}

static json_t *tell_sync(struct weir *weir)
{
	struct weir_sync_status status;

	if (weir_sync_status(weir, &status, NULL) < 0 || !status.enabled)
		return json_null();
	return json_pack("{s:b, s:b, s:b, s:o, s:o, s:o, s:o, s:o}",
			 "connected", status.connected,
			 "paused", status.paused,
			 "led", status.leader_pid != 0,
			 "hosts", cli_json_u64(status.hosts),
			 "staleness_ns", cli_json_duration(status.staleness_ns),
			 "unmerged_tokens", cli_json_u64(status.unmerged_tokens),
			 "disagreeing", cli_json_u64(status.disagreeing),
			 "rounds", cli_json_u64(status.rounds));
}

void top_write(struct server *server, FILE *file, unsigned keys)
{
	struct weir *weir = server->weir;
	struct timespec now;
	struct weir_info info;
	json_t *document;

	clock_gettime(CLOCK_REALTIME, &now);
	weir_info(weir, &info);
	document = json_pack("{s:f, s:s, s:o, s:o, s:o, s:o, s:o, s:o}",
			     "time_s", (double)now.tv_sec + (double)now.tv_nsec / 1e9,
			     "segment", info.path,
			     "participants", cli_json_u64(info.participants),
			     "counters", tell_counters(weir, NULL),
			     "policies", tell_policies(weir),
			     "busiest", tell_keys(weir, WEIR_TOP_CONSUMED, keys),
			     "limited", tell_keys(weir, WEIR_TOP_DENIED, keys),
			     "sync", tell_sync(weir));
	if (!document || json_dumpf(document, file, JSON_COMPACT | JSON_PRESERVE_ORDER) < 0)
		fputs("null", file);
	putc('\n', file);
	json_decref(document);
}
