/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a line of an access log: refused with a reason, or read into fields
 * that lie within the line, and into keys that come apart as they were joined. */
#include <string.h>

#include "src/cli/replay-key.h"
#include "tests/fuzz/fuzz.h"

static const struct replay_key_form all_fields = {
	REPLAY_FIELD_COUNT,
	{ REPLAY_USER_AGENT, REPLAY_ADDR, REPLAY_USER, REPLAY_METHOD, REPLAY_PATH },
};

static void must_lie_within(struct replay_text field, const char *line, size_t length)
{
	must(field.length > 0);
	must((field.length == 1 && *field.bytes == '-') ||
	     (field.bytes >= line && field.bytes + field.length <= line + length));
}

static void must_come_apart(const struct replay_line *parsed)
{
	static uint8_t key[REPLAY_KEY_SIZE];
	size_t length = replay_key_build(&all_fields, parsed, key);

	must(length <= sizeof(key));
	for (unsigned i = 0; i < all_fields.count; i++) {
		struct replay_text field = replay_key_field(&all_fields, key, length, i);
		struct replay_text before = parsed->fields[all_fields.fields[i]];

		must(field.length == before.length);
		must(memcmp(field.bytes, before.bytes, field.length) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy: the sanitizer sees reads behind it. */
	char *line = calloc(size ? size : 1, 1);
	struct replay_line parsed;
	const char *reason;

	must(line);
	if (size > 0)
		memcpy(line, data, size);
	reason = replay_log_parse(line, size, &parsed);
	if (reason) {
		must(*reason);
	} else {
		must(size <= REPLAY_LINE_MAX);
		must(parsed.time_ns > 0 && parsed.time_ns < 1ull << 63);
		must(parsed.time_ns % 1000000000 == 0);
		for (int i = 0; i < REPLAY_FIELD_COUNT; i++)
			must_lie_within(parsed.fields[i], line, size);
		must_come_apart(&parsed);
	}
	free(line);
	return 0;
}
