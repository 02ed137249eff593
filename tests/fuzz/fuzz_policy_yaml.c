/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a policy file: what is read is valid, has no name twice and
 * survives being written and read again; what is refused is refused at a place,
 * in a sentence, and leaves nothing behind. */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "weir.h"

static void must_explain(const struct weir_error *error, int status)
{
	unsigned long line, column;
	int length = 0;

	must(status == WEIR_EINVAL);
	must(error->status == status);
	must(sscanf(error->message, "fuzz:%lu:%lu: %n", &line, &column, &length) == 2);
	must(length > 0 && line >= 1 && column >= 1);
	must(strchr(error->message, ';'));
	for (const char *c = error->message; *c; c++)
		must(*c >= ' ' && *c <= '~');
}

static void write_policy(FILE *file, const struct weir_policy *policy)
{
	fprintf(file, "- name: '%s'\n  fail_mode: %s\n  consistency: %s\n  shadow: %s\n  limits:\n",
		policy->name, weir_fail_mode_name(policy->fail_mode),
		weir_consistency_name(policy->consistency), policy->shadow ? "true" : "false");
	for (uint32_t i = 0; i < policy->limit_count; i++) {
		char text[96];

		weir_limit_format(&policy->limits[i], text, sizeof(text));
		fprintf(file, "  - %s\n", text);
	}
}

static void must_survive(const struct weir_policy *policies, size_t count)
{
	struct weir_policy *again;
	size_t length, again_count;
	char *text;
	FILE *file = open_memstream(&text, &length);

	must(file);
	fprintf(file, "policies:\n");
	for (size_t i = 0; i < count; i++) {
		must(weir_policy_check(&policies[i], NULL) == WEIR_OK);
		for (size_t j = 0; j < i && j < 64; j++)
			must(strcmp(policies[i].name, policies[j].name) != 0);
		write_policy(file, &policies[i]);
	}
	must(fclose(file) == 0);

	must(weir_policy_parse(text, length, "again", &again, &again_count, NULL) == WEIR_OK);
	must(again_count == count);
	must(memcmp(policies, again, count * sizeof(*policies)) == 0);
	free(again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct weir_policy *policies;
	struct weir_error error;
	size_t count;
	int status = weir_policy_parse((const char *)data, size, "fuzz", &policies, &count,
				       &error);

	if (status == WEIR_OK) {
		must(count >= 1 && count <= 4096);
		must_survive(policies, count);
		free(policies);
	} else {
		must_explain(&error, status);
	}
	return 0;
}
