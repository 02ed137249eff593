/* SPDX-License-Identifier: Apache-2.0 */
/* Policy files: what they mean, and the sentence for each mistake. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weir.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define MINUTE_NS 60000000000ull

/* As weir_policy_parse(), from memory of its own exact size, so that a read
 * beyond the text is seen. */
static int parse(const char *text, size_t length, struct weir_policy **policies, size_t *count,
		 struct weir_error *error)
{
	char *copy = malloc(length ? length : 1);
	int status;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, text, length);
	status = weir_policy_parse(copy, length, "f.yaml", policies, count, error);
	free(copy);
	return status;
}

static struct weir_policy *parse_good(const char *text, size_t *count)
{
	struct weir_policy *policies = NULL;
	struct weir_error error;
	int status = parse(text, strlen(text), &policies, count, &error);

	ck_assert_msg(status == WEIR_OK, "%s", error.message);
	ck_assert_int_eq(error.status, WEIR_OK);
	for (size_t i = 0; i < *count; i++)
		ck_assert_int_eq(weir_policy_check(&policies[i], NULL), WEIR_OK);
	return policies;
}

START_TEST(everything)
{
	size_t count = 0;
	struct weir_policy *policies = parse_good(
		"%YAML 1.1\n"
		"---\n"
		"# the limits of our API\n"
		"policies:\n"
		"  - name: api\n"
		"    limits:\n"
		"      - 100/1m burst 20\n"
		"      - {limit: 1000, period: 1h, algorithm: sliding-window, action: flag}\n"
		"      - limit: 7\n"
		"        period: 500ms\n"
		"        burst: 9\n"
		"        algorithm: token-bucket\n"
		"        action: deny\n"
		"      - {limit: 5, algorithm: concurrency}\n"
		"    fail_mode: closed\n"
		"    consistency: local\n"
		"    shadow: true\n"
		"  - {limits: [\"10/s fixed-window\"], shadow: false, name: 'log.in/1:a_b-c'}\n"
		"...\n", &count);
	struct weir_policy *api = &policies[0];

	ck_assert_uint_eq(count, 2);
	ck_assert_str_eq(api->name, "api");
	ck_assert_uint_eq(api->limit_count, 4);
	ck_assert_uint_eq(api->limits[0].limit, 100);
	ck_assert_uint_eq(api->limits[0].period_ns, MINUTE_NS);
	ck_assert_uint_eq(api->limits[0].burst, 20);
	ck_assert_uint_eq(api->limits[0].algorithm, WEIR_TOKEN_BUCKET);
	ck_assert_uint_eq(api->limits[0].action, WEIR_ACTION_DENY);
	ck_assert_uint_eq(api->limits[1].limit, 1000);
	ck_assert_uint_eq(api->limits[1].period_ns, 60 * MINUTE_NS);
	ck_assert_uint_eq(api->limits[1].burst, 0);
	ck_assert_uint_eq(api->limits[1].algorithm, WEIR_SLIDING_WINDOW);
	ck_assert_uint_eq(api->limits[1].action, WEIR_ACTION_FLAG);
	ck_assert_uint_eq(api->limits[2].limit, 7);
	ck_assert_uint_eq(api->limits[2].period_ns, 500000000);
	ck_assert_uint_eq(api->limits[2].burst, 9);
	ck_assert_uint_eq(api->limits[3].limit, 5);
	ck_assert_uint_eq(api->limits[3].period_ns, 0);
	ck_assert_uint_eq(api->limits[3].algorithm, WEIR_CONCURRENCY);
	ck_assert_uint_eq(api->fail_mode, WEIR_FAIL_CLOSED);
	ck_assert_uint_eq(api->consistency, WEIR_LOCAL);
	ck_assert(api->shadow);

	ck_assert_str_eq(policies[1].name, "log.in/1:a_b-c");
	ck_assert_uint_eq(policies[1].limit_count, 1);
	ck_assert_uint_eq(policies[1].limits[0].algorithm, WEIR_FIXED_WINDOW);
	ck_assert(!policies[1].shadow);
	free(policies);
}
END_TEST

START_TEST(defaults)
{
	size_t count = 0;
	struct weir_policy *policies = parse_good("policies: [{name: a, limits: [1/s]}]", &count);

	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(policies->fail_mode, WEIR_FAIL_SHARE);
	ck_assert_uint_eq(policies->consistency, WEIR_BOUNDED);
	ck_assert(!policies->shadow);
	free(policies);
}
END_TEST

/* The line and the mapping are two ways to write the same struct. */
static const struct {
	const char *line;
	const char *mapping;
} same_limits[] = {
	{ "100/1m", "{limit: 100, period: 1m}" },
	{ "100/m", "{limit: 100, period: m}" },
	{ "100/1m burst 20", "{burst: 20, period: 1m, limit: 100}" },
	{ "100/1m burst 100", "{limit: 100, period: 1m, burst: 100}" },
	{ "100/1m burst 100", "{limit: 100, period: 1m}" },
	{ "10/1s fixed-window", "{limit: 10, period: 1000ms, algorithm: fixed-window}" },
	{ "10/1s sliding-window flag",
	  "{limit: 10, period: 1s, algorithm: sliding-window, action: flag}" },
	{ "5 concurrency", "{limit: 5, algorithm: concurrency}" },
};

START_TEST(line_and_mapping_agree)
{
	struct weir_policy *policies;
	size_t count = 0;
	char text[256];

	snprintf(text, sizeof(text), "policies: [{name: a, limits: [\"%s\", %s]}]",
		 same_limits[_i].line, same_limits[_i].mapping);
	policies = parse_good(text, &count);
	ck_assert_uint_eq(policies->limit_count, 2);
	ck_assert_mem_eq(&policies->limits[0], &policies->limits[1], sizeof(struct weir_limit));
	free(policies);
}
END_TEST

/* What is refused as a directive is welcome in a comment. */
START_TEST(comment_with_a_directive)
{
	size_t count = 0;
	struct weir_policy *policies = parse_good("# \xc3\x85%TAG\n" "policies: # %TAG\n"
						  "- {name: a, limits: [1/s]} #%TAG", &count);

	ck_assert_uint_eq(count, 1);
	free(policies);
}
END_TEST

START_TEST(byte_order_mark_and_crlf)
{
	size_t count = 0;
	struct weir_policy *policies = parse_good("\xef\xbb\xbfpolicies:\r\n- name: a\r\n"
						  "  limits: [1/s] # caf\xc3\xa9\r\n", &count);

	ck_assert_uint_eq(count, 1);
	ck_assert_str_eq(policies->name, "a");
	free(policies);
}
END_TEST

#define POLICY "policies: [{name: a, limits: [1/s]"

/* Whole messages: place, what, value and what to do are all part of the promise. */
static const struct {
	const char *text;
	const char *message;
} bad[] = {
	{ "", "1:1: the policy file is empty; write \"policies:\" and a list of policies" },
	{ "# nothing\n", "2:1: the policy file is empty; write \"policies:\" and a list of "
	  "policies" },
	{ "---\n", "2:1: the policy file is empty; write \"policies:\" and a list of policies" },
	{ "api", "1:1: the policy file is a single value; write \"policies:\" and a list of "
	  "policies" },
	{ "[a]", "1:1: the policy file is a list; write \"policies:\" and a list of policies" },
	{ "{}", "1:1: the policy file has no key \"policies\"; add it, such as \"policies: "
	  "[{name: api, limits: [100/1m]}]\"" },
	{ "policy: []", "1:1: the key \"policy\" is not known in the policy file; write policies" },
	{ "policies:\n", "1:10: policies is empty; write a list of policies, such as [{name: api, "
	  "limits: [100/1m]}]" },
	{ "policies: {name: a}", "1:11: policies is a mapping; write a list of policies, such as "
	  "[{name: api, limits: [100/1m]}]" },
	{ "policies: []", "1:11: policies is empty; list at least one policy" },
	{ "policies: [a]", "1:12: a policy is a single value; write a mapping, such as {name: api, "
	  "limits: [100/1m]}" },
	{ "policies: [{}]", "1:12: a policy has no key \"name\"; add it, such as \"name: api\"" },
	{ "policies: [{name: a}]", "1:12: a policy has no key \"limits\"; add it, such as "
	  "\"limits: [100/1m]\"" },
	{ POLICY "}]\npolicies: []", "2:1: the key \"policies\" stands twice in the policy file; "
	  "keep one" },
	{ POLICY ", name: b}]", "1:37: the key \"name\" stands twice in a policy; keep one" },
	{ POLICY ", failmode: open}]", "1:37: the key \"failmode\" is not known in a policy; write "
	  "name, limits, fail_mode, consistency, shadow, lease or buckets" },
	{ POLICY ", \"\\0\": open}]", "1:37: the key \"\\x00\" is not known in a policy; write "
	  "name, limits, fail_mode, consistency, shadow, lease or buckets" },
	{ POLICY ", ? [x] : y}]", "1:39: a key is a list; write a word" },
	{ POLICY ", fail_mode: Open}]", "1:48: the fail_mode \"Open\" does not exist; write share, "
	  "open or closed" },
	{ POLICY ", fail_mode: \"open\\0\"}]", "1:48: the fail_mode \"open\\x00\" does not exist; "
	  "write share, open or closed" },
	{ POLICY ", fail_mode: [open]}]", "1:48: fail_mode is a list; write share, open or "
	  "closed" },
	{ POLICY ", consistency: weak}]", "1:50: the consistency \"weak\" does not exist; write "
	  "bounded, local, eventual or strict" },
	{ POLICY ", consistency: {a: b}}]", "1:50: consistency is a mapping; write bounded, local, "
	  "eventual or strict" },
	{ POLICY ", shadow: yes}]", "1:45: the value of shadow \"yes\" does not exist; write true "
	  "or false" },
	{ POLICY ", lease: on}]", "1:44: the value of lease \"on\" does not exist; write true or "
	  "false" },
	{ POLICY ", shadow: }]", "1:45: the value of shadow \"\" does not exist; write true or "
	  "false" },
	{ POLICY "}, {name: a, limits: [2/s]}]", "1:45: a policy \"a\" stands above already; "
	  "rename or remove one of them" },
	{ "policies: [{name: [a]}]", "1:19: name is a list; write a word, such as api" },
	{ "policies: [{name: }]", "1:19: the policy's name is empty; give 1 to 63 characters" },
	{ "policies: [{name: a b}]", "1:19: the policy's name \"a b\" has \" \" in it; use "
	  "letters, digits and . _ : / - only" },
	{ "policies: [{name: \"a\\0b\"}]", "1:19: the policy's name \"a\\x00b\" has \"\\x00\" in "
	  "it; use letters, digits and . _ : / - only" },
	{ "policies: [{name: "
	  "0123456789012345678901234567890123456789012345678901234567890123}]",
	  "1:19: the policy's name "
	  "\"0123456789012345678901234567890123456789012345678901234567890123\" is 64 bytes long; "
	  "give at most 63" },
	{ "policies: [{limits: 1/s}]", "1:21: limits is a single value; write a list of 1 to 4 "
	  "limits, such as [100/1m, 1000/1h]" },
	{ "policies: [{limits: []}]", "1:21: limits is empty; write a list of 1 to 4 limits, such "
	  "as [100/1m, 1000/1h]" },
	{ "policies: [{limits: [1/s, 2/s, 3/s, 4/s, 5/s]}]", "1:42: a policy has more than 4 "
	  "limits; remove some, or make a second policy" },
	{ "policies: [{limits: [[1/s]]}]", "1:22: a limit is a list; write \"100/1m\" or {limit: "
	  "100, period: 1m}" },
	{ "policies: [{limits: [1/y]}]", "1:22: limit \"1/y\": the period \"y\" has no known unit; "
	  "write a whole number and ms, s, m, h or d, such as 1m" },
	{ "policies: [{limits: [\"1/s\\0x\"]}]", "1:22: limit \"1/s\\x00x\": it has a zero byte in "
	  "it; remove it" },
	{ "policies: [{limits: [{period: 1m}]}]", "1:22: a limit has no key \"limit\"; add it, "
	  "such as \"limit: 100\"" },
	{ "policies: [{limits: [{limit: 5}]}]", "1:22: a limit has no period; add \"period: 1m\", "
	  "or \"algorithm: concurrency\" to limit how many are under way at once" },
	{ "policies: [{limits: [{limit: -5}]}]", "1:30: the limit \"-5\" is not a whole number; "
	  "write decimal digits only, without leading zeros, such as 100" },
	{ "policies: [{limits: [{limit: \"5\\0\"}]}]", "1:30: the limit \"5\\x00\" is not a whole "
	  "number; write decimal digits only, without leading zeros, such as 100" },
	{ "policies: [{limits: [{limit: [5]}]}]", "1:30: limit is a list; write 100" },
	{ "policies: [{limits: [{limit: 5, period: 1 m}]}]", "1:41: the period \"1 m\" has no "
	  "known unit; write a whole number and ms, s, m, h or d, such as 1m" },
	{ "policies: [{limits: [{limit: 5, period: 366d}]}]", "1:22: the period 366d is too long; "
	  "give 1ms to 365d" },
	{ "policies: [{limits: [{limit: 5, period: 0s}]}]", "1:22: a limit has no period; add "
	  "\"period: 1m\", or \"algorithm: concurrency\" to limit how many are under way at once" },
	{ "policies: [{limits: [{limit: 5, period: 1s, algorithm: concurrency}]}]", "1:22: a "
	  "concurrency limit has no period (1s); leave it out" },
	{ "policies: [{limits: [{limit: 5, period: 1s, burst: 0}]}]", "1:52: the burst is 0 "
	  "tokens; write at least 1, or leave it out to have a burst as large as the limit" },
	{ "policies: [{limits: [{limit: 5, algorithm: leaky}]}]", "1:44: the algorithm \"leaky\" "
	  "does not exist; write token-bucket, sliding-window, fixed-window or concurrency" },
	{ "policies: [{limits: [{limit: 5, action: drop}]}]", "1:41: the action \"drop\" does not "
	  "exist; write deny or flag" },
	{ "policies: [{limits: [{limit: 5, rate: 1}]}]", "1:33: the key \"rate\" is not known in a "
	  "limit; write limit, period, burst, algorithm or action" },
	{ "policies: [{limits: [{limit: 5, limit: 6}]}]", "1:33: the key \"limit\" stands twice in "
	  "a limit; keep one" },
	{ "policies: [{limits: [{<<: {limit: 5}}]}]", "1:23: the key \"<<\" is not known in a "
	  "limit; write limit, period, burst, algorithm or action" },
	{ "policies: &all []", "1:11: the anchor &all is not supported; remove it" },
	{ "policies: [{name: &n a}]", "1:19: the anchor &n is not supported; remove it" },
	{ "policies: *all", "1:11: the alias *all is not supported; write the value out" },
	{ "policies: [{name: !!str a}]", "1:19: the tag tag:yaml.org,2002:str is not supported; "
	  "remove it" },
	{ "%TAG ! x\n---\n" POLICY "}]", "1:1: the directive %TAG is not supported; remove it" },
	{ POLICY "}]\n...\n# \xc3\xa9\n%TAG ! x\n---\n", "4:1: the directive %TAG is not "
	  "supported; remove it" },
	{ "# \xc2\x85%TAG ! x\n---\n" POLICY "}]", "1:4: the directive %TAG is not supported; "
	  "remove it" },
	{ POLICY "}]\n---\n" POLICY "}]", "2:1: a second document begins here; put all into the "
	  "first" },
	{ "policies:\n\t- name: a\n", "2:1: this is not YAML: while scanning for the next token, "
	  "found character that cannot start any token; check indentation, quotes and brackets" },
	{ "policies: [{name: a", "2:1: this is not YAML: while parsing a flow mapping, did not "
	  "find expected ',' or '}'; check indentation, quotes and brackets" },
	{ "policies: [\"a", "1:14: this is not YAML: while scanning a quoted scalar, found "
	  "unexpected end of stream; check indentation, quotes and brackets" },
	{ "policies:\n- caf\xc3\xa9 \xff", "2:8: invalid leading UTF-8 octet (byte 0xff); write "
	  "UTF-8 text without control characters" },
	{ "policies: \xc3", "1:11: incomplete UTF-8 octet sequence (byte 0xc3); write UTF-8 text "
	  "without control characters" },
	{ "policies:\n \x01", "2:2: control characters are not allowed (byte 0x01); write UTF-8 "
	  "text without control characters" },
};

START_TEST(mistakes)
{
	struct weir_policy *policies = (struct weir_policy *)&bad;
	struct weir_error error;
	char message[sizeof(error.message)];
	size_t count = 77;

	snprintf(message, sizeof(message), "f.yaml:%s", bad[_i].message);
	ck_assert_int_eq(parse(bad[_i].text, strlen(bad[_i].text), &policies, &count, &error),
			 WEIR_EINVAL);
	ck_assert_int_eq(error.status, WEIR_EINVAL);
	ck_assert_str_eq(error.message, message);
	ck_assert_ptr_eq(policies, &bad);
	ck_assert_uint_eq(count, 77);

	/* Without a place for the message it must fail all the same. */
	ck_assert_int_eq(parse(bad[_i].text, strlen(bad[_i].text), &policies, &count, NULL),
			 WEIR_EINVAL);
}
END_TEST

/* Every beginning of a good file is good or an error: no crash, and no leak. */
START_TEST(cut_anywhere)
{
	static const char text[] =
		"policies:\n- name: \"a\\x62\"\n  limits:\n  - {limit: 5, period: 1s, burst: 7}\n"
		"  - 1/s sliding-window flag\n  shadow: true\n"
		"- {name: b, limits: ['1 concurrency']}\n";

	for (size_t length = 0; length < sizeof(text); length++) {
		struct weir_policy *policies = NULL;
		size_t count;

		if (parse(text, length, &policies, &count, NULL) == WEIR_OK)
			free(policies);
		else
			ck_assert_ptr_null(policies);
	}
}
END_TEST

/* COUNT policies and, at the end, one that has the name of number SAME. */
static char *many_policies(unsigned count, unsigned same)
{
	char *text = malloc(64 * (count + 2));
	size_t used = (size_t)sprintf(text, "policies:\n");

	for (unsigned i = 0; i < count; i++)
		used += (size_t)sprintf(text + used, "- {name: tenant-%u, limits: [1/s]}\n", i);
	if (same < count)
		sprintf(text + used, "- {name: tenant-%u, limits: [1/s]}\n", same);
	return text;
}

START_TEST(as_many_policies_as_may_be)
{
	char *text = many_policies(4096, UINT32_MAX);
	size_t count = 0;
	struct weir_policy *policies = parse_good(text, &count);

	ck_assert_uint_eq(count, 4096);
	ck_assert_str_eq(policies[4095].name, "tenant-4095");
	free(policies);
	free(text);
}
END_TEST

START_TEST(more_policies_than_may_be)
{
	char *text = many_policies(4097, UINT32_MAX);
	struct weir_policy *policies;
	struct weir_error error;
	size_t count;

	ck_assert_int_eq(parse(text, strlen(text), &policies, &count, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message,
			 "f.yaml:4098:3: there are more than 4096 policies; remove some");
	free(text);
}
END_TEST

START_TEST(same_name_far_away)
{
	char *text = many_policies(1000, 500);
	struct weir_policy *policies;
	struct weir_error error;
	size_t count;

	ck_assert_int_eq(parse(text, strlen(text), &policies, &count, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message, "f.yaml:1002:10: a policy \"tenant-500\" stands above "
			 "already; rename or remove one of them");
	free(text);
}
END_TEST

/* A file of exactly SIZE bytes, padded with a comment. */
static char *sized_text(size_t size)
{
	static const char start[] = "policies: [{name: a, limits: [1/s]}] #";
	char *text = malloc(size + 1);

	memset(text, 'x', size);
	memcpy(text, start, sizeof(start) - 1);
	text[size] = '\0';
	return text;
}

START_TEST(as_large_as_may_be)
{
	char *text = sized_text(4u << 20);
	size_t count = 0;
	struct weir_policy *policies = parse_good(text, &count);

	ck_assert_uint_eq(count, 1);
	free(policies);
	free(text);
}
END_TEST

START_TEST(larger_than_may_be)
{
	char *text = sized_text((4u << 20) + 1);
	struct weir_policy *policies;
	struct weir_error error;
	size_t count;

	ck_assert_int_eq(parse(text, strlen(text), &policies, &count, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message, "f.yaml is larger than 4194304 bytes; split it");
	free(text);
}
END_TEST

/* What takes others minutes: they compare each directive with all before it. */
START_TEST(many_directives)
{
	size_t size = 4u << 20, used = 0;
	char *text = malloc(size);
	struct weir_policy *policies;
	struct weir_error error;
	size_t count;

	for (unsigned i = 0; used + 32 < size; i++)
		used += (size_t)sprintf(text + used, "%%TAG !%u! x\n", i);
	ck_assert_int_eq(parse(text, used, &policies, &count, &error), WEIR_EINVAL);
	ck_assert_str_eq(error.message,
			 "f.yaml:1:1: the directive %TAG is not supported; remove it");
	free(text);
}
END_TEST

/* What other parsers die of. */
START_TEST(deep_nesting)
{
	static const char *const openers[] = { "[", "{a: ", "- ", "? ", "[{", "!a " };
	size_t size = 1u << 20, unit = strlen(openers[_i]), length = size / unit * unit;
	char *text = malloc(size);
	struct weir_policy *policies;
	size_t count;

	for (size_t i = 0; i < length; i++)
		text[i] = openers[_i][i % unit];
	ck_assert_int_eq(parse(text, length, &policies, &count, NULL), WEIR_EINVAL);
	free(text);
}
END_TEST

START_TEST(long_source_keeps_its_end)
{
	char source[600];
	struct weir_policy *policies;
	struct weir_error error;
	size_t count;

	memset(source, 'd', sizeof(source));
	strcpy(source + sizeof(source) - 8, "/f.yaml");
	ck_assert_int_eq(weir_policy_parse("{}", 2, source, &policies, &count, &error),
			 WEIR_EINVAL);
	ck_assert_int_eq(strncmp(error.message, "...ddd", 6), 0);
	ck_assert_ptr_nonnull(strstr(error.message, "d/f.yaml:1:1: the policy file has no key"));
	ck_assert_uint_lt(strlen(error.message), 400);
}
END_TEST

START_TEST(no_text_and_no_source)
{
	struct weir_policy *policies;
	struct weir_error error;
	size_t count;

	ck_assert_int_eq(weir_policy_parse(NULL, 0, NULL, &policies, &count, &error), WEIR_EINVAL);
	ck_assert_int_eq(strncmp(error.message, "policies:1:1: ", 14), 0);
}
END_TEST

static void write_file(char *path, const char *text, size_t length)
{
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, length), (ssize_t)length);
	close(fd);
}

START_TEST(file)
{
	static const char text[] = "policies:\n- name: a\n  limits: [5/m]\n";
	char path[] = "/tmp/weir-policies-XXXXXX";
	struct weir_policy *policies = NULL;
	struct weir_error error;
	size_t count = 0;

	write_file(path, text, sizeof(text) - 1);
	ck_assert_int_eq(weir_policy_parse_file(path, &policies, &count, &error), WEIR_OK);
	unlink(path);
	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(policies->limits[0].period_ns, MINUTE_NS);
	free(policies);
}
END_TEST

START_TEST(file_with_a_mistake)
{
	char path[] = "/tmp/weir-policies-XXXXXX";
	struct weir_policy *policies;
	struct weir_error error;
	size_t count;

	write_file(path, "a: b", 4);
	ck_assert_int_eq(weir_policy_parse_file(path, &policies, &count, &error), WEIR_EINVAL);
	unlink(path);
	ck_assert_int_eq(strncmp(error.message, path, strlen(path)), 0);
	ck_assert_int_eq(strncmp(error.message + strlen(path), ":1:1: ", 6), 0);
}
END_TEST

START_TEST(file_too_large)
{
	char path[] = "/tmp/weir-policies-XXXXXX";
	char *text = sized_text((4u << 20) + 1);
	struct weir_policy *policies;
	struct weir_error error;
	size_t count;

	write_file(path, text, (4u << 20) + 1);
	free(text);
	ck_assert_int_eq(weir_policy_parse_file(path, &policies, &count, &error), WEIR_EINVAL);
	unlink(path);
	ck_assert_ptr_nonnull(strstr(error.message, "is larger than 4194304 bytes"));
}
END_TEST

START_TEST(file_that_is_none)
{
	struct weir_policy *policies;
	struct weir_error error;
	size_t count;

	ck_assert_int_eq(weir_policy_parse_file("/nonexistent/f.yaml", &policies, &count, &error),
			 WEIR_ENOENT);
	ck_assert_str_eq(error.message, "cannot open the policy file /nonexistent/f.yaml: No such "
			 "file or directory; check the path and its permissions");
	ck_assert_int_eq(weir_policy_parse_file("/", &policies, &count, &error), WEIR_ESYSTEM);
	ck_assert_str_eq(error.message, "cannot read the policy file /: Is a directory; check that "
			 "it is a file");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("policy_yaml");
	TCase *meaning = tcase_create("meaning");
	TCase *refusal = tcase_create("refusal");
	TCase *bounds = tcase_create("bounds");
	TCase *files = tcase_create("files");

	tcase_add_test(meaning, everything);
	tcase_add_test(meaning, defaults);
	tcase_add_loop_test(meaning, line_and_mapping_agree, 0, LENGTH(same_limits));
	tcase_add_test(meaning, comment_with_a_directive);
	tcase_add_test(meaning, byte_order_mark_and_crlf);
	suite_add_tcase(suite, meaning);

	tcase_add_loop_test(refusal, mistakes, 0, LENGTH(bad));
	tcase_add_test(refusal, cut_anywhere);
	suite_add_tcase(suite, refusal);

	tcase_add_test(bounds, as_many_policies_as_may_be);
	tcase_add_test(bounds, more_policies_than_may_be);
	tcase_add_test(bounds, same_name_far_away);
	tcase_add_test(bounds, as_large_as_may_be);
	tcase_add_test(bounds, larger_than_may_be);
	tcase_add_test(bounds, many_directives);
	tcase_add_loop_test(bounds, deep_nesting, 0, 6);
	suite_add_tcase(suite, bounds);

	tcase_add_test(files, long_source_keeps_its_end);
	tcase_add_test(files, no_text_and_no_source);
	tcase_add_test(files, file);
	tcase_add_test(files, file_with_a_mistake);
	tcase_add_test(files, file_too_large);
	tcase_add_test(files, file_that_is_none);
	suite_add_tcase(suite, files);

	return suite_run(suite);
}
