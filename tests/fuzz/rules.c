/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/rules.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "serve/rules.h"
#include "tests/fuzz/fuzz.h"

static const char rules_text[] =
	"domain: d\n"
	"descriptors:\n"
	"- {key: k, rate_limit: {unit: minute, requests_per_unit: 5}}\n"
	"- {key: w, value: \"a*\", rate_limit: {unit: day, requests_per_unit: 9},\n"
	"   descriptors: [{key: m, rate_limit: {unlimited: true}, metadata: {a: [1, {b: c}]}}]}\n";

static char directory[] = "/tmp/weir-fuzz-XXXXXX";

static void remove_directory(void)
{
	DIR *list = opendir(directory);
	struct dirent *entry;

	while (list && (entry = readdir(list))) {
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(list), entry->d_name, 0);
	}
	if (list)
		closedir(list);
	rmdir(directory);
}

const char *fuzz_directory(void)
{
	static bool made;

	if (!made) {
		must(mkdtemp(directory));
		atexit(remove_directory);
		made = true;
	}
	return directory;
}

static void write_rules(void)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/d.yaml", fuzz_directory());
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	must(fd >= 0 && write(fd, rules_text, sizeof(rules_text) - 1) > 0 && close(fd) == 0);
}

static void say_nothing(const char *what, const char *error)
{
	(void)what;
	(void)error;
}

struct rules *fuzz_rules_start(struct weir *weir)
{
	struct rules_options options = { .enabled = true, .tell = say_nothing };
	struct weir_error error;
	struct rules *rules;

	write_rules();
	envoy_options_init(&options.envoy);
	options.envoy.headers = options.envoy.dynamic_metadata = true;
	options.directory = (struct watch_options){ directory, "", "", false, false };
	must(rules_start(&options, weir, &rules, &error) == WEIR_OK);
	return rules;
}
