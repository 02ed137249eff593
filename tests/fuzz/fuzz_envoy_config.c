/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration of Envoy's rules: what is read can be asked, and each of its
 * rules is found by its own path; what is refused is refused in a sentence, and leaves
 * nothing behind.  The first byte chooses the options. */
#include <string.h>

#include "serve/envoy/service.h"
#include "tests/fuzz/fuzz.h"

static int make_policy(struct engine *engine, const struct engine_limit *limit,
		       weir_policy_id *policy, struct weir_error *error)
{
	(void)engine;
	(void)error;
	must(limit->limit >= 1 && limit->period_s >= 1);
	must(limit->period_s <= WEIR_PERIOD_MAX_NS / 1000000000);
	*policy = 1;
	return WEIR_OK;
}

static void remove_policy(struct engine *engine, const struct engine_limit *limit)
{
	(void)engine;
	(void)limit;
}

static size_t make_room(struct engine *engine, const struct engine_limit *kept, size_t count,
			size_t most)
{
	(void)engine;
	(void)kept;
	(void)count;
	(void)most;
	return 0;
}

static struct engine_answer call(struct engine *engine, enum engine_call call_,
				 weir_policy_id policy, struct text key, uint64_t cost)
{
	(void)engine;
	(void)call_;
	must(policy == 1 && key.length > 0);
	return (struct engine_answer){ .allowed = true, .decided = true, .counted = cost };
}

static void ask(struct envoy_service *service, const struct envoy_config *config)
{
	struct envoy_reader *reader = envoy_reader_new(service);

	must(reader);
	for (const struct envoy_domain *domain = config->first_domain; domain;
	     domain = domain->next) {
		const struct envoy_level *level = &domain->level;
		struct envoy_entry entries[8];
		struct envoy_descriptor descriptor = { .entries = entries };
		struct envoy_request request = { domain->name, &descriptor, 1, 1, 1 };
		struct envoy_answer answer;
		struct weir_error error;

		/* Down the first descriptor that each level has. */
		while (level && descriptor.entry_count < 8) {
			struct envoy_node *node = NULL;

			for (size_t i = 0; i < level->slot_count && !node; i++)
				node = level->slots[i];
			if (!node)
				break;
			must(envoy_level_find(level, node->key) == node);
			entries[descriptor.entry_count++] =
				(struct envoy_entry){ node->key, TEXT("x") };
			level = node->below;
			must(envoy_service_answer(reader, &request, &answer, &error) ==
				     WEIR_OK || error.status == WEIR_EINVAL);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct engine engine = {
		.policy = make_policy,
		.remove = remove_policy,
		.make_room = make_room,
		.call = call,
	};
	uint8_t choice = size > 0 ? data[0] : 0;
	struct envoy_source source = {
		TEXT("fuzz"), { (const char *)data + (size > 0), size - (size > 0) },
	};
	struct envoy_options options;
	struct envoy_service *service;
	struct envoy_config *config;
	struct weir_error error;
	int status;

	envoy_options_init(&options);
	options.config.release = choice & 1 ? ENVOY_2026_01 : ENVOY_2026_07;
	options.config.extensions = choice & 2;
	options.dynamic_metadata = choice & 4;
	options.headers = choice & 8;
	must(envoy_service_new(&options, &engine, &service, &error) == WEIR_OK);
	status = envoy_service_load(service, &source, 1, &error);
	if (status == WEIR_OK) {
		must(envoy_config_read(&source, 1, &options.config, &config, &error) == WEIR_OK);
		ask(service, config);
		envoy_config_free(config);
	} else {
		must(status == WEIR_EINVAL && error.status == status);
		must(strncmp(error.message, "fuzz: ", 6) == 0);
	}
	envoy_service_free(service);
	return 0;
}
