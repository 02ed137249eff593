/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a limit: what is read is valid and survives being written; what is
 * refused comes with a sentence.  The bytes serve as a struct as well. */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "weir.h"

static bool same(const struct weir_limit *a, const struct weir_limit *b)
{
	return a->limit == b->limit && a->period_ns == b->period_ns && a->burst == b->burst &&
	       a->algorithm == b->algorithm && a->action == b->action;
}

static void must_explain(const struct weir_error *error, int status)
{
	must(status == WEIR_EINVAL);
	must(error->status == status);
	must(strchr(error->message, ';'));
	for (const char *c = error->message; *c; c++)
		must(*c >= ' ' && *c <= '~');
}

static void must_survive(const struct weir_limit *limit)
{
	struct weir_limit again;
	char text[96];

	must(weir_limit_check(limit, NULL) == WEIR_OK);
	must(weir_limit_format(limit, text, sizeof(text)) < (int)sizeof(text));
	must(weir_limit_parse(text, &again, NULL) == WEIR_OK);
	must(same(limit, &again));
}

static void as_text(const uint8_t *data, size_t size)
{
	struct weir_limit limit;
	struct weir_error error;
	char *text = malloc(size + 1);
	int status;

	must(text);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	status = weir_limit_parse(text, &limit, &error);
	if (status == WEIR_OK)
		must_survive(&limit);
	else
		must_explain(&error, status);
	free(text);
}

static void as_struct(const uint8_t *data, size_t size)
{
	struct weir_limit limit = { 0 };
	struct weir_error error;
	char text[96];
	int status;

	if (size > 0)
		memcpy(&limit, data, size < sizeof(limit) ? size : sizeof(limit));
	must(weir_limit_format(&limit, text, sizeof(text)) < (int)sizeof(text));
	status = weir_limit_check(&limit, &error);
	if (status < 0) {
		must_explain(&error, status);
		return;
	}
	if (limit.burst == limit.limit)
		limit.burst = 0;        /* what was implied is not written */
	must_survive(&limit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	as_text(data, size);
	as_struct(data, size);
	return 0;
}
