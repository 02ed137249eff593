/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations of envoyproxy/ratelimit: what they mean, and the sentence for each
 * mistake, which is that program's. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "serve/envoy/config.h"
#include "tests/suite.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static int read_sources(const struct envoy_source *sources, size_t count,
			const struct envoy_config_options *options, struct envoy_config **config,
			struct weir_error *error)
{
	*config = NULL;
	return envoy_config_read(sources, count, options, config, error);
}

/* From memory of its own exact size, so that a read beyond the text is seen. */
static int read_text(const char *yaml, const struct envoy_config_options *options,
		     struct envoy_config **config, struct weir_error *error)
{
	size_t length = strlen(yaml);
	char *copy = malloc(length ? length : 1);
	struct envoy_source source = { TEXT("config.x.yaml"), { copy, length } };
	int status;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, yaml, length);
	status = read_sources(&source, 1, options, config, error);
	memset(copy, 'x', length);
	free(copy);
	return status;
}

static struct envoy_config *read_good(const char *yaml, const struct envoy_config_options *options)
{
	struct envoy_config_options defaults = { 0 };
	struct envoy_config *config;
	struct weir_error error;
	int status = read_text(yaml, options ? options : &defaults, &config, &error);

	ck_assert_msg(status == WEIR_OK, "%s", error.message);
	return config;
}

static bool text_equals(struct text text, const char *string)
{
	return text_is(text, text_of(string));
}

#define ck_assert_text(text, string) \
	ck_assert_msg(text_equals(text, string), "%.*s is not %s", TEXT_ARGUMENTS(text), string)

/* ---- Meaning ------------------------------------------------------------------- */

START_TEST(everything)
{
	struct envoy_config *config = read_good(
		"domain: shop\n"
		"descriptors:\n"
		"  - key: user\n"
		"    value: ann\n"
		"    rate_limit: {unit: Minute, requests_per_unit: 010, name: few,\n"
		"                 replaces: [{name: many}, {name: more}]}\n"
		"    shadow_mode: yes\n"
		"    quota_mode: on\n"
		"    detailed_metric: y\n"
		"    metadata: {plan: 1, tags: [a, ~, true], 7: {deep: 1.5}}\n"
		"  - key: path\n"
		"    value: /a*\n"
		"    share_threshold: true\n"
		"    value_to_metric: TRUE\n"
		"    descriptors:\n"
		"      - key: method\n"
		"        rate_limit: {unlimited: true}\n"
		"      - key: week\n"
		"        rate_limit: {unit: week, requests_per_unit: 0x10}\n", NULL);
	const struct envoy_domain *domain = envoy_config_domain(config, TEXT("shop"));
	const struct envoy_node *user, *path, *below;
	const struct envoy_rule *rule;

	ck_assert_ptr_nonnull(domain);
	ck_assert_ptr_null(envoy_config_domain(config, TEXT("shops")));
	user = envoy_level_find(&domain->level, TEXT("user_ann"));
	ck_assert_ptr_nonnull(user);
	ck_assert_ptr_null(envoy_level_find(&domain->level, TEXT("user")));
	rule = user->rule;
	ck_assert_uint_eq(rule->requests_per_unit, 8);
	ck_assert_int_eq(rule->unit, UNIT_MINUTE);
	ck_assert_text(rule->name, "few");
	ck_assert_text(rule->path, "shop.user_ann");
	ck_assert_uint_eq(rule->replaces_count, 2);
	ck_assert_text(rule->replaces[1], "more");
	ck_assert(rule->shadow_mode && rule->quota_mode && rule->detailed_metric);
	ck_assert(!rule->unlimited && !user->share_threshold && !user->value_to_metric);
	ck_assert_uint_eq(rule->limit.limit, 8);
	ck_assert_uint_eq(rule->limit.period_s, 60);
	ck_assert_uint_eq(rule->metadata->count, 3);
	ck_assert_double_eq(value_find(rule->metadata, TEXT("plan"))->number, 1);
	ck_assert_uint_eq(value_find(rule->metadata, TEXT("tags"))->count, 3);
	ck_assert_double_eq(value_find(value_find(rule->metadata, TEXT("7")),
				       TEXT("deep"))->number, 1.5);

	path = envoy_level_wildcard(config, &domain->level, TEXT("path_/abc"));
	ck_assert_ptr_nonnull(path);
	ck_assert(path->share_threshold && path->value_to_metric && !path->rule);
	ck_assert_ptr_null(envoy_level_wildcard(config, &domain->level, TEXT("path_/b")));
	below = envoy_level_find(path->below, TEXT("method"));
	ck_assert(below->rule->unlimited);
	below = envoy_level_find(path->below, TEXT("week"));
	ck_assert_uint_eq(below->rule->limit.period_s, 7 * 86400);
	ck_assert_uint_eq(below->rule->requests_per_unit, 16);
	ck_assert_text(below->rule->path, "shop.path_/a*.week");
	envoy_config_free(config);
}
END_TEST

/* What is legal, although it looks odd. */
static const char *const odd[] = {
	"domain: a",
	"domain: a\ndescriptors:",
	"domain: a\ndescriptors: []",
	"domain: 5\n",
	"domain: a\nkey: b\nunit: c\nname: d",     /* known keys where they mean nothing */
	"domain: a\ndomain: b",
	"domain: a\n---\nthis: is not looked at",
	"domain: a\ndescriptors: [{key: b, rate_limit: {unit: SECOND}}]",
	"domain: a\ndescriptors: [{key: b, rate_limit: {unit: m\u0131nutE}}]",
	"domain: a\ndescriptors: [{key: b, rate_limit: {unit: \u017fecond}}]",
	"domain: a\ndescriptors: [{key: b, rate_limit: {unit: day, requests_per_unit: 4294967295}}]",
	"domain: a\ndescriptors: [{key: b, rate_limit: ~}]",
	"domain: a\ndescriptors: [{key: b, rate_limit: {unit: unknown, unlimited: true}}]",
	"domain: a\ndescriptors: [{key: b, rate_limit: {unlimited: true, unit: eon}}]",
	"domain: a\ndescriptors: [{key: b, value: c}, {key: b}, {key: b, value: d}]",
	"domain: a\ndescriptors: [{key: b, value: 1_0}, {key: b, value: 10}]",
	"domain: a\ndescriptors: [{key: b, rate_limit: {unit: second}, rate_limit: "
	"{requests_per_unit: 5}}]",
	"domain: a\ndescriptors: [&x {key: b}, {<<: *x, key: c}]",
	"domain: a\ndescriptors: [{key: b, metadata: {any: [{1: 1.5}, [x]]}}]",
};

START_TEST(odd_but_legal)
{
	envoy_config_free(read_good(odd[_i], NULL));
}
END_TEST

/* ---- Mistakes ------------------------------------------------------------------ */

#define RULE "domain: a\ndescriptors:\n  - key: b\n    rate_limit: "

static const struct {
	const char *yaml;
	const char *message;
} bad[] = {
	{ "", "config file cannot have empty domain" },
	{ "# nothing", "config file cannot have empty domain" },
	{ "~", "config file cannot have empty domain" },
	{ "descriptors: []", "config file cannot have empty domain" },
	{ "domain: ''", "config file cannot have empty domain" },
	{ "domain: Null", "config file cannot have empty domain" },
	{ "domain: a\ndescriptors: [{value: c}]", "descriptor has empty key" },
	{ "domain: a\ndescriptors: [{key: b}, {key: b}]",
	  "duplicate descriptor composite key 'a.b'" },
	{ "domain: a\ndescriptors: [{key: b_c}, {key: b, value: c}]",
	  "duplicate descriptor composite key 'a.b_c'" },
	{ "domain: a\ndescriptors: [{key: b, descriptors: [{key: c, value: d}, "
	  "{key: c, value: d}]}]", "duplicate descriptor composite key 'a.b.c_d'" },
	{ RULE "{unlimited: true, unit: second}",
	  "should not specify rate limit unit when unlimited" },
	{ RULE "{unit: foo, requests_per_unit: 5}", "invalid rate limit unit 'foo'" },
	{ RULE "{unit: m\u017fnute}", "invalid rate limit unit 'm\u017fnute'" },
	{ RULE "{unit: minu}", "invalid rate limit unit 'minu'" },
	{ RULE "{unit: minutes}", "invalid rate limit unit 'minutes'" },
	{ RULE "{unit: unknown}", "invalid rate limit unit 'unknown'" },
	{ RULE "{}", "invalid rate limit unit ''" },
	{ RULE "NULL", "invalid rate limit unit ''" },
	{ RULE "{unit: day, replaces: [{name: ''}]}", "should not have an empty replaces entry" },
	{ RULE "{unit: day, replaces: [{}]}", "should not have an empty replaces entry" },
	{ RULE "{unit: day, name: x, replaces: [{name: x}]}",
	  "replaces should not contain name of same descriptor" },
	{ "domain: a\ndescriptors: [{key: b, value: c, share_threshold: true}]",
	  "share_threshold can only be used with wildcard values (containing '*'), but found key "
	  "'b_c'" },
	{ "domain: a\nfoo: b", "config error, unknown key 'foo'" },
	{ "domain: a\ndescriptors: [{key: b, rate_limit: {unit: day, algorithm: x}}]",
	  "config error, unknown key 'algorithm'" },
	{ "domain: a\ndescriptors: {foo: 1}", "config error, unknown key 'foo'" },
	{ "domain: a\n1: b", "config error, key is not of type string: 1" },
	{ "domain: a\nyes: b", "config error, key is not of type string: true" },
	{ "domain: a\n~: b", "config error, key is not of type string: <nil>" },
	{ "domain: a\n1.50: b", "config error, key is not of type string: 1.5" },
	{ "domain: a\n1e3: b", "config error, key is not of type string: 1000" },
	{ "domain: a\ndescriptors: [b]",
	  "config error, yaml file contains list of type other than map: b" },
	{ "domain: a\ndescriptors: [[b, 1], c]",
	  "config error, yaml file contains list of type other than map: [b 1]" },
	{ "domain: a\ndescriptors: [~]",
	  "config error, yaml file contains list of type other than map: <nil>" },
	{ "domain: 1.5", "error checking config" },
	{ "domain: .inf", "error checking config" },
	{ "domain: 08", "error checking config" },
	{ "domain: 18446744073709551615", "error checking config" },
	{ RULE "{unit: day, requests_per_unit: 1e3}", "error checking config" },
	{ "just text", "error loading config file: yaml: unmarshal errors: line 1: cannot "
	  "unmarshal !!str `just text` into map[interface {}]interface {}" },
	{ "\n- a", "error loading config file: yaml: unmarshal errors: line 2: cannot unmarshal "
	  "!!seq into map[interface {}]interface {}" },
	{ "12345678901", "error loading config file: yaml: unmarshal errors: line 1: cannot "
	  "unmarshal !!int `1234567...` into map[interface {}]interface {}" },
	{ "domain: {key: b}", "error loading config file: yaml: unmarshal errors: line 1: cannot "
	  "unmarshal !!map into string" },
	{ RULE "{unit: day, requests_per_unit: -1}", "error loading config file: yaml: unmarshal "
	  "errors: line 4: cannot unmarshal !!int `-1` into uint32" },
	{ RULE "{unit: day, requests_per_unit: 4294967296}", "error loading config file: yaml: "
	  "unmarshal errors: line 4: cannot unmarshal !!int `4294967296` into uint32" },
	{ RULE "{unit: day, requests_per_unit: '5'}", "error loading config file: yaml: unmarshal "
	  "errors: line 4: cannot unmarshal !!str `5` into uint32" },
	{ RULE "5", "error loading config file: yaml: unmarshal errors: line 4: cannot unmarshal "
	  "!!int `5` into config.YamlRateLimit" },
	{ "domain: a\ndescriptors: 5\nkey: 1", "error loading config file: yaml: unmarshal errors: "
	  "line 2: cannot unmarshal !!int `5` into []config.YamlDescriptor" },
	{ RULE "{unlimited: 1, replaces: {name: b}, name: []}", "error loading config file: yaml: "
	  "unmarshal errors: line 4: cannot unmarshal !!int `1` into bool; line 4: cannot "
	  "unmarshal !!map into []config.yamlReplaces; line 4: cannot unmarshal !!seq into string" },
	{ "domain: a\ndescriptors: [{key: b, metadata: 5}]", "error loading config file: yaml: "
	  "unmarshal errors: line 2: cannot unmarshal !!int `5` into map[string]interface {}" },
	{ "domain: a\n\tb: c", "error loading config file: yaml: line 2: found a tab character "
	  "that violates indentation" },
	{ "domain: [", "error loading config file: yaml: line 1: did not find expected node "
	  "content" },
	{ "domain: a\n b: c", "error loading config file: yaml: line 2: mapping values are not "
	  "allowed in this context" },
	{ "domain: *a", "error loading config file: yaml: unknown anchor 'a' referenced" },
	{ "domain: a\ndescriptors: &x [{key: b, descriptors: *x}]", "error loading config file: "
	  "yaml: anchor 'x' value contains itself" },
	{ "domain: a\n<<: b", "error loading config file: yaml: map merge requires map or sequence "
	  "of maps as the value" },
	{ "domain: !!int b", "error loading config file: yaml: cannot decode !!str `b` as a !!int" },
	{ "domain: \"\x01\"", "error loading config file: yaml: control characters are not "
	  "allowed" },
};

START_TEST(mistakes)
{
	struct envoy_config_options options = { 0 };
	struct envoy_config *config;
	struct weir_error error;

	ck_assert_int_eq(read_text(bad[_i].yaml, &options, &config, &error), WEIR_EINVAL);
	ck_assert_ptr_null(config);
	ck_assert_msg(strncmp(error.message, "config.x.yaml: ", 15) == 0, "%s", error.message);
	ck_assert_str_eq(error.message + 15, bad[_i].message);
}
END_TEST

/* As of January, "metadata" is no key and a star counts only at the end. */
START_TEST(january)
{
	struct envoy_config_options options = { .release = ENVOY_2026_01 };
	struct envoy_config *config;
	struct weir_error error;
	const struct envoy_level *level;

	ck_assert_int_lt(read_text("domain: a\ndescriptors: [{key: b, metadata: {c: d}}]", &options,
				   &config, &error), 0);
	ck_assert_str_eq(error.message, "config.x.yaml: config error, unknown key 'metadata'");
	ck_assert_int_lt(read_text("domain: a\ndescriptors: [{key: b, value: '*c', "
				   "share_threshold: true}]", &options, &config, &error), 0);
	ck_assert_str_eq(error.message, "config.x.yaml: share_threshold can only be used with "
			 "wildcard values (ending with '*'), but found key 'b_*c'");

	config = read_good("domain: a\ndescriptors: [{key: b, value: 'x*y*'}]", &options);
	level = &envoy_config_domain(config, TEXT("a"))->level;
	ck_assert_ptr_nonnull(envoy_level_wildcard(config, level, TEXT("b_x*yz")));
	ck_assert_ptr_null(envoy_level_wildcard(config, level, TEXT("b_xyz")));
	envoy_config_free(config);
}
END_TEST

/* ---- Wildcards ----------------------------------------------------------------- */

static const struct {
	const char *pattern;
	const char *value;
	bool matches;
} wildcards[] = {
	{ "*", "", true },
	{ "*", "anything", true },
	{ "a*", "a", true },
	{ "a*", "abc", true },
	{ "a*", "ba", false },
	{ "*a", "bca", true },
	{ "*a", "ab", false },
	{ "a*b", "ab", true },
	{ "a*b", "acb", true },
	{ "a*b", "acbc", false },
	{ "ab*ba", "aba", false },      /* the ends may not overlap */
	{ "a*b*c", "abc", true },
	{ "a*b*c", "a-b-b-c", true },
	{ "a*b*c", "ac", false },
	{ "a**c", "ac", true },
	{ "*x*y*", "1x2y3", true },
	{ "*x*y*", "1y2x3", false },
	{ "*ab*ab*", "abab", true },
	{ "*ab*ab*", "aab", false },
};

START_TEST(wildcard)
{
	struct envoy_config *config;
	char yaml[128], key[64];
	const struct envoy_level *level;

	snprintf(yaml, sizeof(yaml), "domain: a\ndescriptors: [{key: k, value: '%s'}]",
		 wildcards[_i].pattern);
	snprintf(key, sizeof(key), "k_%s", wildcards[_i].value);
	config = read_good(yaml, NULL);
	level = &envoy_config_domain(config, TEXT("a"))->level;
	ck_assert_msg(!!envoy_level_wildcard(config, level, text_of(key)) == wildcards[_i].matches,
		      "%s and %s", wildcards[_i].pattern, wildcards[_i].value);
	envoy_config_free(config);
}
END_TEST

/* ---- Extensions ---------------------------------------------------------------- */

START_TEST(extensions)
{
	struct envoy_config_options options = { .extensions = true };
	struct envoy_config *config = read_good(
		"domain: a\n"
		"descriptors:\n"
		"  - key: b\n"
		"    rate_limit: {unit: minute, requests_per_unit: 7, unit_multiplier: 5}\n"
		"  - key: c\n"
		"    rate_limit: {unit: second, requests_per_unit: 7, algorithm: token-bucket,\n"
		"                 burst: 20}\n", &options);
	const struct envoy_rule *rule = config->first_rule;

	ck_assert_uint_eq(rule->limit.period_s, 300);
	ck_assert_int_eq(rule->limit.algorithm, ENGINE_FIXED_WINDOW);
	ck_assert_int_eq(rule->next->limit.algorithm, ENGINE_TOKEN_BUCKET);
	ck_assert_uint_eq(rule->next->limit.burst, 20);
	envoy_config_free(config);
}
END_TEST

static const char *const bad_extensions[] = {
	"{unit: minute, unit_multiplier: 0}",
	"{unit: year, unit_multiplier: 2}",
	"{unit: second, unit_multiplier: 4294967295}",
	"{unit: minute, requests_per_unit: 1, algorithm: leaky}",
	"{unit: minute, requests_per_unit: 0, algorithm: token-bucket}",
	"{unit: minute, requests_per_unit: 5, burst: 5}",
	"{unit: minute, requests_per_unit: 5, algorithm: fixed-window, burst: 5}",
};

START_TEST(mistakes_in_extensions)
{
	struct envoy_config_options options = { .extensions = true };
	struct envoy_config *config;
	struct weir_error error;
	char yaml[256];

	snprintf(yaml, sizeof(yaml), RULE "%s", bad_extensions[_i]);
	ck_assert_int_eq(read_text(yaml, &options, &config, &error), WEIR_EINVAL);
	ck_assert_ptr_nonnull(strchr(error.message, ';'));
}
END_TEST

/* ---- Several files ------------------------------------------------------------- */

START_TEST(domains_of_several_files)
{
	struct envoy_source sources[] = {
		{ TEXT("config.1.yaml"), TEXT("domain: a\ndescriptors: [{key: b, value: 'x*'}]") },
		{ TEXT("config.2.yaml"), TEXT("domain: a\ndescriptors: [{key: b, value: 'xy*'}]") },
		{ TEXT("config.3.yaml"), TEXT("domain: c") },
	};
	struct envoy_config_options options = { 0 };
	struct envoy_config *config;
	struct weir_error error;
	const struct envoy_node *node;

	ck_assert_int_lt(read_sources(sources, 3, &options, &config, &error), 0);
	ck_assert_str_eq(error.message, "config.2.yaml: duplicate domain 'a' in config file");

	options.merge_domains = true;
	ck_assert_int_eq(read_sources(sources, 3, &options, &config, &error), WEIR_OK);
	ck_assert_uint_eq(config->domain_count, 2);
	node = envoy_level_wildcard(config, &envoy_config_domain(config, TEXT("a"))->level,
				    TEXT("b_xyz"));
	ck_assert_text(node->key, "b_x*");      /* the first file's comes first */
	envoy_config_free(config);

	sources[1].text = TEXT("domain: a\ndescriptors: [{key: b, value: 'x*'}]");
	ck_assert_int_lt(read_sources(sources, 3, &options, &config, &error), 0);
	ck_assert_str_eq(error.message,
			 "config.2.yaml: duplicate descriptor composite key 'a.b_x*'");

	/* How a file is written is looked at before what they say together. */
	sources[2].text = TEXT("domain: [");
	ck_assert_int_lt(read_sources(sources, 3, &options, &config, &error), 0);
	ck_assert_msg(strncmp(error.message, "config.3.yaml: ", 15) == 0, "%s", error.message);
	ck_assert_int_eq(read_sources(NULL, 0, &options, &config, &error), WEIR_OK);
	ck_assert_uint_eq(config->domain_count, 0);
	ck_assert_ptr_null(envoy_config_domain(config, TEXT("a")));
	envoy_config_free(config);
}
END_TEST

START_TEST(many_descriptors)
{
	struct pool pool = { 0 };
	struct builder yaml = { .pool = &pool };
	struct envoy_config *config;
	char key[32];

	builder_add(&yaml, TEXT("domain: a\ndescriptors:\n"));
	for (int i = 0; i < 5000; i++)
		builder_print(&yaml, "- {key: k, value: v%d, rate_limit: {unit: hour, "
			      "requests_per_unit: %d}}\n", i, i);
	builder_add_char(&yaml, '\0');
	config = read_good(builder_text(&yaml).bytes, NULL);
	for (int i = 0; i < 5000; i++) {
		const struct envoy_domain *domain = envoy_config_domain(config, TEXT("a"));
		const struct envoy_node *node;

		snprintf(key, sizeof(key), "k_v%d", i);
		node = envoy_level_find(&domain->level, text_of(key));
		ck_assert_ptr_nonnull(node);
		ck_assert_uint_eq(node->rule->requests_per_unit, (uint32_t)i);
	}
	envoy_config_free(config);
	pool_free(&pool);
}
END_TEST

/* A small file must not mean a large one. */
START_TEST(aliases_of_aliases)
{
	struct envoy_config_options options = { .release = ENVOY_2026_07 };
	struct pool pool = { 0 };
	struct builder yaml = { .pool = &pool };
	struct envoy_config *config;
	struct weir_error error;

	builder_add(&yaml, TEXT("domain: a\ndescriptors:\n- key: b\n  metadata:\n    x0: &x0 [y]\n"));
	for (int i = 1; i < 30; i++)
		builder_print(&yaml, "    x%d: &x%d [*x%d, *x%d, *x%d, *x%d]\n", i, i, i - 1, i - 1,
			      i - 1, i - 1);
	builder_add_char(&yaml, '\0');
	ck_assert_int_eq(read_text(builder_text(&yaml).bytes, &options, &config, &error),
			 WEIR_EINVAL);
	ck_assert_str_eq(error.message, "config.x.yaml: error loading config file: yaml: document "
			 "contains excessive aliasing");
	pool_free(&pool);
}
END_TEST

START_TEST(deep)
{
	static const char *const opening[] = { "[", "{a: ", "- ", "? ", "&a [" };
	struct envoy_config_options options = { 0 };
	struct pool pool = { 0 };
	struct builder yaml = { .pool = &pool };
	struct envoy_config *config;
	struct weir_error error;

	builder_add(&yaml, TEXT("domain: "));
	for (int i = 0; i < 20000; i++)
		builder_add(&yaml, text_of(opening[_i]));
	builder_add_char(&yaml, '\0');
	ck_assert_int_eq(read_text(builder_text(&yaml).bytes, &options, &config, &error),
			 WEIR_EINVAL);
	pool_free(&pool);
}
END_TEST

START_TEST(printing)
{
	struct envoy_config *config = read_good(
		"domain: a\ndescriptors:\n"
		"- {key: b, rate_limit: {unit: hour, requests_per_unit: 5}, shadow_mode: true}\n"
		"- {key: c, quota_mode: true, rate_limit: {unlimited: true}}\n", NULL);
	struct pool pool = { 0 };
	struct builder builder = { .pool = &pool };

	envoy_config_print(config, &builder);
	ck_assert_text(builder_text(&builder),
		       "a.b: unit=HOUR requests_per_unit=5, shadow_mode: true, quota_mode: false\n"
		       "a.c: unit=UNKNOWN requests_per_unit=0, shadow_mode: false, quota_mode: "
		       "true\n");
	pool_free(&pool);
	envoy_config_free(config);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("envoy_config");
	TCase *cases = tcase_create("configurations");

	tcase_add_test(cases, everything);
	tcase_add_loop_test(cases, odd_but_legal, 0, LENGTH(odd));
	tcase_add_loop_test(cases, mistakes, 0, LENGTH(bad));
	tcase_add_test(cases, january);
	tcase_add_loop_test(cases, wildcard, 0, LENGTH(wildcards));
	tcase_add_test(cases, extensions);
	tcase_add_loop_test(cases, mistakes_in_extensions, 0, LENGTH(bad_extensions));
	tcase_add_test(cases, domains_of_several_files);
	tcase_add_test(cases, many_descriptors);
	tcase_add_test(cases, aliases_of_aliases);
	tcase_add_loop_test(cases, deep, 0, 5);
	tcase_add_test(cases, printing);
	suite_add_tcase(suite, cases);

	return suite_run(suite);
}
