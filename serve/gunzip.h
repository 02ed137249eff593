/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gunzip.h - one gzip stream of which nobody knows how large it becomes.
 */
#ifndef WEIR_SERVE_GUNZIP_H
#define WEIR_SERVE_GUNZIP_H

#include <stddef.h>

enum gunzip_result {
	GUNZIP_OK,
	GUNZIP_MALFORMED,       /* or cut off, or something follows it */
	GUNZIP_TOO_LARGE,       /* more than MOST bytes: no more of it was made */
	GUNZIP_NO_MEMORY,
};

/* Inflate the LENGTH bytes at BYTES into *OUT, of *OUT_LENGTH bytes, at most MOST; the
 * caller frees it.  What else is returned leaves nothing. */
enum gunzip_result gunzip(const unsigned char *bytes, size_t length, size_t most,
			  unsigned char **out, size_t *out_length);

#endif
