/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.h - the directory that a configuration is in, and when it changes.
 *
 * As envoyproxy/ratelimit: all files below the directory are the configuration, and a
 * file is called by its path with '.' for '/'.  What is seen is the whole of it: a new
 * configuration is read when anything in the directory or on the way to it changed, so
 * both a symlink that is renamed into place (a deployment's "current", or the "..data"
 * of a Kubernetes volume) and a file that is written are noticed.
 *
 * inotify does not tell of everything: of the file that a symlink leads to, of a
 * directory that comes back together with those above it, of what another host writes to
 * a network's file system, and of nothing once the user's watches are used up.  So who
 * waits also asks watch_differs() now and then.
 *
 * One thread uses a watch: it waits until watch_fd() can be read, or something differs,
 * then until nothing has happened for a moment, and calls watch_load().
 */
#ifndef WEIR_SERVE_WATCH_H
#define WEIR_SERVE_WATCH_H

#include "serve/envoy/service.h"

struct watch_options {
	const char *root;       /* RUNTIME_ROOT */
	const char *subdirectory;       /* RUNTIME_SUBDIRECTORY, below root; may be "" */
	const char *app_directory;      /* RUNTIME_APPDIRECTORY, below that */
	bool ignore_dot_files;
	bool name_by_app;       /* RUNTIME_WATCH_ROOT: files are called "config.x.yaml", and
				 * not "x.yaml" */
};

struct watch;

/* Strings are copied.  The directory need not be there yet.  Errors: WEIR_ENOMEM,
 * WEIR_EINVAL (a path that is too long), WEIR_ESYSTEM (no more inotify instances). */
int watch_new(const struct watch_options *options, struct watch **watch,
	      struct weir_error *error);
void watch_free(struct watch *watch);

/* Can be read when something changed. */
int watch_fd(const struct watch *watch);

/* Take what can be read from watch_fd().  True: something changed. */
bool watch_changed(struct watch *watch);

/* Read the directory: is it other than what was read the last time? */
bool watch_differs(struct watch *watch);

/* Read the directory, and load it into SERVICE if it is not what was read the last
 * time.  *LOADED (may be NULL) tells whether it was.  Errors: those of
 * envoy_service_load(), and WEIR_ENOENT, WEIR_EACCES, WEIR_ESYSTEM; each is told and
 * counted once, until something changes. */
int watch_load(struct watch *watch, struct envoy_service *service, bool *loaded,
	       struct weir_error *error);

#endif
