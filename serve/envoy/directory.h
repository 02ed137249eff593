/* SPDX-License-Identifier: Apache-2.0 */
/* directory.h - all files below a directory. */
#ifndef WEIR_SERVE_DIRECTORY_H
#define WEIR_SERVE_DIRECTORY_H

#include "serve/envoy/config.h"

#define DIRECTORY_FILES_MAX 4096u
#define DIRECTORY_DEPTH_MAX 16u
#define DIRECTORY_BYTES_MAX (64u << 20)

struct directory_options {
	const char *path;
	const char *prefix;     /* of the files' names */
	bool ignore_dot_files;
	void (*entered)(const char *path, void *context);       /* before one is read */
	void *context;
};

/* Read them, in the order of their names, into POOL.  Symlinks to files are followed,
 * those to directories are not; what begins with ".." is Kubernetes' own and left out.
 * Errors: WEIR_ENOENT, WEIR_EACCES, WEIR_ESYSTEM, WEIR_EINVAL (too much), WEIR_ENOMEM. */
int directory_read(const struct directory_options *options, struct pool *pool,
		   struct envoy_source **sources, size_t *count, struct weir_error *error);

#endif
