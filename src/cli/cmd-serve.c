/* SPDX-License-Identifier: Apache-2.0 */
/* serve: become weir-serve, a program of its own, so that `weir` needs none of the
 * libraries of network protocols. */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where it is, seen from this program: installed, in a build tree, or as configured. */
static const char *const places[] = {
	"../libexec/weir/weir-serve",
	"../../serve/weir-serve",
	WEIR_LIBEXECDIR "/weir-serve",
};

/* The directory of this program, with a slash at the end. */
static bool own_directory(char path[PATH_MAX])
{
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
	char *slash;

	if (length <= 0)
		return false;
	path[length] = '\0';
	slash = strrchr(path, '/');
	if (!slash)
		return false;
	slash[1] = '\0';
	return true;
}

int cmd_serve(struct cli *cli, int argc, char **argv)
{
	char directory[PATH_MAX];
	char path[2 * PATH_MAX];
	char **arguments = calloc((size_t)argc + 3, sizeof(*arguments));
	char option[] = "--segment";
	char name[] = "weir serve";
	size_t count = 0;

	if (!arguments)
		cli_die(cli, "no memory for %d arguments", argc);
	if (cli->json)
		cli_die(cli, "`weir serve` reports nothing: leave out --json");
	arguments[count++] = name;
	if (cli->segment_given) {
		arguments[count++] = option;
		arguments[count++] = (char *)cli->segment;
	}
	for (int i = 1; i < argc; i++)
		arguments[count++] = argv[i];
	if (!own_directory(directory))
		*directory = '\0';
	fflush(stdout);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", *places[i] == '/' ? "" : directory, places[i]);
		execv(path, arguments);
		if (errno != ENOENT && errno != ENOTDIR)
			break;
	}
	free(arguments);
	if (errno == ENOENT || errno == ENOTDIR)
		cli_die(cli, "the service, weir-serve, is not installed (%s was looked for last); "
			"install it, or build Weir with -Dservice=enabled", path);
	cli_die(cli, "cannot run %s: %m", path);
}
