/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/envoy/watch.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "serve/envoy/directory.h"
#include "serve/envoy/failure.h"

/* All that may mean that a file, or what a path leads to, is another now. */
#define EVENTS (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | \
		IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct watch {
	int fd;
	bool name_by_app;
	bool ignore_dot_files;
	bool read_before;       /* fingerprint is of something */
	uint64_t fingerprint;   /* of what was read the last time */
	char above[PATH_MAX];   /* the directory that has root */
	char root[PATH_MAX];
	char base[PATH_MAX];    /* root and subdirectory */
	char app_path[PATH_MAX];        /* and app directory */
	char prefix[NAME_MAX + 2];      /* "config." */
};

static int fail_path(struct weir_error *error, const char *path)
{
	return envoy_fail(error, WEIR_EINVAL,
			  "the path of the configuration, %.200s..., is too long; use a shorter "
			  "one", path);
}

static bool join(char *result, const char *a, const char *b)
{
	const char *slash = b[0] && (a[0] == '\0' || a[strlen(a) - 1] != '/') ? "/" : "";
	int length = snprintf(result, PATH_MAX, "%s%s%s", a, slash, b);

	return length >= 0 && length < PATH_MAX;
}

/* Everything but the last name; "." if there is no other. */
static void parent_of(const char *path, char *parent)
{
	size_t length = strlen(path);

	while (length > 1 && path[length - 1] == '/')
		length--;
	while (length > 0 && path[length - 1] != '/')
		length--;
	while (length > 1 && path[length - 1] == '/')
		length--;
	if (length == 0) {
		strcpy(parent, ".");
	} else {
		memcpy(parent, path, length);
		parent[length] = '\0';
	}
}

static int set_paths(struct watch *watch, const struct watch_options *options,
		     struct weir_error *error)
{
	int length;

	if (!join(watch->root, options->root, "") ||
	    !join(watch->base, options->root, options->subdirectory) ||
	    !join(watch->app_path, watch->base, options->app_directory))
		return fail_path(error, options->root);
	length = snprintf(watch->prefix, sizeof(watch->prefix), "%s.", options->app_directory);
	if (length < 0 || (size_t)length >= sizeof(watch->prefix))
		return fail_path(error, options->app_directory);
	parent_of(watch->root, watch->above);
	return WEIR_OK;
}

int watch_new(const struct watch_options *options, struct watch **result,
	      struct weir_error *error)
{
	struct watch *watch = calloc(1, sizeof(*watch));
	int status;

	if (!watch)
		return envoy_fail(error, WEIR_ENOMEM,
				  "no memory to watch a directory; free some and try again");
	watch->name_by_app = options->name_by_app;
	watch->ignore_dot_files = options->ignore_dot_files;
	status = set_paths(watch, options, error);
	if (status < 0) {
		free(watch);
		return status;
	}
	watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (watch->fd < 0) {
		status = envoy_fail(error, WEIR_ESYSTEM,
				    "cannot watch %.300s: %m; raise fs.inotify.max_user_instances",
				    watch->app_path);
		free(watch);
		return status;
	}
	*result = watch;
	return envoy_ok(error);
}

void watch_free(struct watch *watch)
{
	if (!watch)
		return;
	close(watch->fd);
	free(watch);
}

int watch_fd(const struct watch *watch)
{
	return watch->fd;
}

bool watch_changed(struct watch *watch)
{
	char events[4096] __attribute__((aligned(8)));
	bool changed = false;
	ssize_t length;

	do {
		length = read(watch->fd, events, sizeof(events));
		changed |= length > 0;
	} while (length > 0 || (length < 0 && errno == EINTR));
	return changed;
}

/* A directory that is not there is found by those above it.  One that is watched already
 * stays so; one that is gone is forgotten by the kernel. */
static void watch_directory(const char *path, void *context)
{
	struct watch *watch = context;

	inotify_add_watch(watch->fd, path, EVENTS);
}

static uint64_t fingerprint(const struct envoy_source *sources, size_t count)
{
	uint64_t hash = count;

	for (size_t i = 0; i < count; i++) {
		hash = (hash ^ text_hash(sources[i].name)) * 0x9e3779b97f4a7c15ull;
		hash = (hash ^ text_hash(sources[i].text)) * 0x9e3779b97f4a7c15ull;
	}
	return hash;
}

/* What went wrong is a state, too: it is told once. */
static bool is_news(struct watch *watch, uint64_t now)
{
	bool news = !watch->read_before || watch->fingerprint != now;

	watch->read_before = true;
	watch->fingerprint = now;
	return news;
}

static int read_sources(struct watch *watch, struct pool *pool, struct envoy_source **sources,
			size_t *count, struct weir_error *error)
{
	const struct directory_options options = {
		.path = watch->app_path,
		.prefix = watch->name_by_app ? watch->prefix : "",
		.ignore_dot_files = watch->ignore_dot_files,
		.entered = watch_directory,
		.context = watch,
	};

	/* Watched before it is read: what changes meanwhile is read again. */
	watch_directory(watch->above, watch);
	watch_directory(watch->root, watch);
	watch_directory(watch->base, watch);
	return directory_read(&options, pool, sources, count, error);
}

bool watch_differs(struct watch *watch)
{
	struct pool pool = { 0 };
	struct envoy_source *sources;
	struct weir_error reason;
	size_t count;
	int status = read_sources(watch, &pool, &sources, &count, &reason);
	uint64_t now = status < 0 ? text_hash(text_of(reason.message)) :
				    fingerprint(sources, count);

	pool_free(&pool);
	return !watch->read_before || watch->fingerprint != now;
}

int watch_load(struct watch *watch, struct envoy_service *service, bool *loaded,
	       struct weir_error *error)
{
	struct pool pool = { 0 };
	struct envoy_source *sources;
	struct weir_error reason;
	size_t count;
	int status = read_sources(watch, &pool, &sources, &count, &reason);
	bool news;

	if (status < 0)
		news = is_news(watch, text_hash(text_of(reason.message)));
	else
		news = is_news(watch, fingerprint(sources, count));
	if (loaded)
		*loaded = false;
	if (!news)
		status = WEIR_OK;
	else if (status < 0)
		envoy_service_load_failed(service);
	else
		status = envoy_service_load(service, sources, count, &reason);
	if (loaded)
		*loaded = news && status == WEIR_OK;
	pool_free(&pool);
	return status < 0 ? envoy_fail(error, status, "%s", reason.message) : envoy_ok(error);
}
