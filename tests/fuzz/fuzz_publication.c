/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a publication: what is read is valid and survives being changed, written
 * and read again; what is refused is refused in a sentence, and leaves nothing behind. */
#include <string.h>

#include "sync/publication.h"
#include "tests/fuzz/fuzz.h"

static void must_be_the_same(const struct publication *one, const struct publication *other)
{
	must(one->version == other->version && one->host == other->host);
	must(one->count == other->count && one->removed_count == other->removed_count);
	must(one->count == 0 ||
	     memcmp(one->policies, other->policies, one->count * sizeof(*one->policies)) == 0);
	for (size_t i = 0; i < one->removed_count; i++)
		must(strcmp(one->removed[i], other->removed[i]) == 0);
}

static void must_survive(const struct publication *publication)
{
	struct publication again;
	struct weir_error error;
	size_t length;
	char *text;

	must(publication_format(publication, &text, &length, &error) == 0);
	must(publication_parse(text, length, &again, &error) == 0);
	must_be_the_same(publication, &again);
	publication_free(&again);
	free(text);
}

/* Remove one and put it back. */
static void change(struct publication *publication)
{
	struct weir_policy policy;

	if (publication->count == 0)
		return;
	policy = publication->policies[0];
	must(publication_remove(publication, policy.name, NULL) == 0);
	must(!publication_has(publication, policy.name));
	must_survive(publication);
	must(publication_put(publication, &policy, NULL) == 0);
	must(publication_has(publication, policy.name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct publication publication;
	struct weir_error error;
	int status = publication_parse((const char *)data, size, &publication, &error);

	if (status == 0) {
		must(publication.version >= 1 && publication.version <= PUBLICATION_VERSION_MAX);
		must(publication.removed_count <= PUBLICATION_REMOVED_MAX);
		for (size_t i = 0; i < publication.count; i++)
			must(weir_policy_check(&publication.policies[i], NULL) == 0);
		must_survive(&publication);
		change(&publication);
		must_survive(&publication);
		publication_free(&publication);
	} else {
		must(status == WEIR_EINVAL && strchr(error.message, ';'));
		must(!publication.policies && !publication.removed);
		for (const char *c = error.message; *c; c++)
			must(*c >= ' ' && *c <= '~');
	}
	return 0;
}
