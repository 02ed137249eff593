/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve/envoy/failure.h"

struct walk {
	const struct directory_options *options;
	struct pool *pool;
	struct weir_error *error;
	struct envoy_source *sources;   /* room for DIRECTORY_FILES_MAX */
	size_t count;
	size_t bytes;
	unsigned depth;
};

static int fail_memory(struct walk *walk)
{
	return envoy_fail(walk->error, WEIR_ENOMEM,
			  "no memory to read %.300s; free some and try again",
			  walk->options->path);
}

static int fail_system(struct walk *walk, const char *what, const char *path)
{
	int status = errno == ENOENT ? WEIR_ENOENT : errno == EACCES ? WEIR_EACCES : WEIR_ESYSTEM;

	return envoy_fail(walk->error, status,
			  "cannot %s %.300s: %m; check the path and its permissions", what, path);
}

static int fail_size(struct walk *walk, const char *path)
{
	return envoy_fail(walk->error, WEIR_EINVAL,
			  "%.300s: the configuration has more than %u bytes; remove some", path,
			  DIRECTORY_BYTES_MAX);
}

/* ---- Files --------------------------------------------------------------------- */

static int read_all(struct walk *walk, int fd, const char *path, size_t size, struct text *text)
{
	char *bytes = pool_take(walk->pool, size + 1);
	size_t length = 0;

	if (!bytes)
		return fail_memory(walk);
	while (length < size) {
		ssize_t got = read(fd, bytes + length, size - length);

		if (got == 0)
			break;
		if (got > 0)
			length += (size_t)got;
		else if (errno != EINTR)
			return fail_system(walk, "read", path);
	}
	*text = (struct text){ bytes, length };
	return WEIR_OK;
}

/* "a/b.yaml" is called PREFIX a.b.yaml. */
static struct text name_of(struct walk *walk, const char *path)
{
	struct builder name = { .pool = walk->pool };
	const char *relative = path + strlen(walk->options->path);

	while (*relative == '/')
		relative++;
	builder_add(&name, text_of(walk->options->prefix));
	for (; *relative; relative++)
		builder_add_char(&name, *relative == '/' ? '.' : *relative);
	return builder_text(&name);
}

static int read_file(struct walk *walk, const char *path, int fd)
{
	struct envoy_source *source = &walk->sources[walk->count];
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return fail_system(walk, "look at", path);
	if (!S_ISREG(stat.st_mode))
		return WEIR_OK;
	if (walk->count == DIRECTORY_FILES_MAX)
		return envoy_fail(walk->error, WEIR_EINVAL,
				  "%.300s has more than %u files; remove some",
				  walk->options->path, DIRECTORY_FILES_MAX);
	if ((uint64_t)stat.st_size > DIRECTORY_BYTES_MAX - walk->bytes)
		return fail_size(walk, path);
	walk->bytes += (size_t)stat.st_size;
	source->name = name_of(walk, path);
	if (!source->name.bytes)
		return fail_memory(walk);
	walk->count++;
	return read_all(walk, fd, path, (size_t)stat.st_size, &source->text);
}

/* ---- Directories --------------------------------------------------------------- */

static int walk_directory(struct walk *walk, const char *path);

static bool is_left_out(const struct walk *walk, const char *name)
{
	if (strcmp(name, ".") == 0 || strncmp(name, "..", 2) == 0)
		return true;
	return walk->options->ignore_dot_files && name[0] == '.';
}

/* A file may be anything that somebody put there: opening must not wait for a pipe's
 * writer.  One that has gone meanwhile, or a symlink to nothing, is no file. */
static int walk_entry(struct walk *walk, const char *directory, const char *name)
{
	char path[PATH_MAX];
	struct stat stat;
	int fd, status;

	if (is_left_out(walk, name))
		return WEIR_OK;
	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
		return envoy_fail(walk->error, WEIR_EINVAL,
				  "the path %.200s... is too long; use a shorter one", path);
	if (lstat(path, &stat) < 0)
		return errno == ENOENT ? WEIR_OK : fail_system(walk, "look at", path);
	if (S_ISDIR(stat.st_mode))
		return walk_directory(walk, path);
	if (!S_ISREG(stat.st_mode) && !S_ISLNK(stat.st_mode))
		return WEIR_OK;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? WEIR_OK : fail_system(walk, "open", path);
	status = read_file(walk, path, fd);
	close(fd);
	return status;
}

static int walk_directory(struct walk *walk, const char *path)
{
	struct dirent **entries;
	int count, status = WEIR_OK;

	if (walk->depth == DIRECTORY_DEPTH_MAX)
		return envoy_fail(walk->error, WEIR_EINVAL,
				  "%.300s: more than %u directories deep; write it flatter", path,
				  DIRECTORY_DEPTH_MAX);
	if (walk->options->entered)
		walk->options->entered(path, walk->options->context);
	count = scandir(path, &entries, NULL, alphasort);
	if (count < 0)
		return fail_system(walk, "read the directory", path);
	walk->depth++;
	for (int i = 0; i < count; i++) {
		if (status == WEIR_OK)
			status = walk_entry(walk, path, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	walk->depth--;
	return status;
}

int directory_read(const struct directory_options *options, struct pool *pool,
		   struct envoy_source **sources, size_t *count, struct weir_error *error)
{
	struct walk walk = { .options = options, .pool = pool, .error = error };
	int status;

	walk.sources = pool_array(pool, DIRECTORY_FILES_MAX, sizeof(*walk.sources));
	if (!walk.sources)
		return fail_memory(&walk);
	status = walk_directory(&walk, options->path);
	*sources = walk.sources;
	*count = walk.count;
	return status < 0 ? status : envoy_ok(error);
}
