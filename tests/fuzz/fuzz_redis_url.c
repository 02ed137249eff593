/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as the URL of a Redis: what is read is within its bounds and survives
 * being written, but for the password; what is refused comes with a sentence.
 * Then the same text as a password in a URL: no message has it in it. */
#include <string.h>

#include "sync/redis_url.h"
#include "tests/fuzz/fuzz.h"

static void must_explain(const struct weir_error *error)
{
	must(error->status == WEIR_EINVAL);
	must(strchr(error->message, ';') || strlen(error->message) > 500);
	for (const char *c = error->message; *c; c++)
		must(*c >= ' ' && *c <= '~');
}

static void must_survive(const struct redis_options *options)
{
	struct redis_options again;
	char text[3 * REDIS_URL_MAX];

	must(memchr(options->host, '\0', sizeof(options->host)));
	must(memchr(options->path, '\0', sizeof(options->path)));
	must(memchr(options->user, '\0', sizeof(options->user)));
	must(memchr(options->password, '\0', sizeof(options->password)));
	must(options->connect_ms >= 1 && options->connect_ms <= REDIS_TIMEOUT_MAX_MS);
	must(options->command_ms >= 1 && options->command_ms <= REDIS_TIMEOUT_MAX_MS);
	must(!options->host[0] == (options->transport == REDIS_OVER_UNIX ||
				   options->topology != REDIS_ALONE));
	must(!options->master[0] == (options->topology != REDIS_SENTINEL));
	must(!options->seed_count == (options->topology == REDIS_ALONE));
	must(options->seed_count <= REDIS_SEEDS_MAX);
	must(!options->path[0] == (options->transport != REDIS_OVER_UNIX));

	must(redis_url_format(options, text, sizeof(text)) < (int)sizeof(text));
	must(redis_url_parse(text, &again, NULL) == WEIR_OK);
	must(again.transport == options->transport);
	must(strcmp(again.host, options->host) == 0);
	must(again.port == options->port);
	must(again.topology == options->topology);
	must(strcmp(again.master, options->master) == 0);
	must(again.seed_count == options->seed_count);
	for (unsigned i = 0; i < options->seed_count; i++)
		must(strcmp(again.seeds[i].host, options->seeds[i].host) == 0 &&
		     again.seeds[i].port == options->seeds[i].port);
	must(strcmp(again.path, options->path) == 0);
	must(again.database == options->database);
	must(again.log_in == options->log_in);
	must(strcmp(again.user, options->user) == 0);
	must(!options->log_in || strcmp(again.password, "***") == 0);
}

static void as_url(const uint8_t *data, size_t size)
{
	struct redis_options options;
	struct weir_error error;
	char *text = malloc(size + 1);

	must(text);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	if (redis_url_parse(text, &options, &error) == WEIR_OK)
		must_survive(&options);
	else
		must_explain(&error);
	free(text);
}

/* The letters of the input, long enough not to be in a message by chance. */
static void as_password(const uint8_t *data, size_t size)
{
	static const char *const urls[] = {
		"redis://user:%s@host:x", "redis://:%s@host/x", "redis://%s@host",
		"redis://user:a%%zz%s@host", "unix://u:%s@/path?db=x", "redis://u:%s/@host",
		"redis://u:%s?@host", "redis://u:%s@@host", "redis://:%s", "redis://user:%s",
		"rediss://u:%s@host?ca=", "redis://h?password=%s", "x%s@host", "redis://u:%s#@host",
	};
	char password[32] = "Zq", url[128];
	size_t length = strlen(password);
	struct redis_options options;
	struct weir_error error;

	for (size_t i = 0; i < size && length < sizeof(password) - 1; i++)
		if (data[i] >= 'A' && data[i] <= 'Z')
			password[length++] = (char)data[i];
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(url, sizeof(url), urls[i], password);
#pragma GCC diagnostic pop
		must(redis_url_parse(url, &options, &error) == WEIR_EINVAL);
		must_explain(&error);
		must(!strstr(error.message, password));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	as_url(data, size);
	as_password(data, size);
	return 0;
}
