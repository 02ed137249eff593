/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/gunzip.h"

#include <limits.h>
#include <stdlib.h>

#include <zlib.h>

#define WINDOW_BITS (15 + 16)           /* the largest window, and gzip's header and checksum */
#define FIRST_BYTES 4096u

/* Room for more output: twice as much, and at last one byte more than is permitted. */
static enum gunzip_result grow(z_stream *stream, unsigned char **out, size_t *size, size_t most)
{
	size_t larger = *size == 0 ? FIRST_BYTES : 2 * *size;
	unsigned char *grown;

	if (*size > most)
		return GUNZIP_TOO_LARGE;
	if (larger > most)
		larger = most + 1;
	grown = realloc(*out, larger);
	if (!grown)
		return GUNZIP_NO_MEMORY;
	*out = grown;
	stream->next_out = grown + *size;
	stream->avail_out = (unsigned)(larger - *size);
	*size = larger;
	return GUNZIP_OK;
}

static enum gunzip_result inflate_all(z_stream *stream, size_t most, unsigned char **out)
{
	enum gunzip_result result = GUNZIP_OK;
	size_t size = 0;
	int code = Z_OK;

	while (result == GUNZIP_OK && code == Z_OK) {
		if (stream->avail_out == 0)
			result = grow(stream, out, &size, most);
		if (result == GUNZIP_OK)
			code = inflate(stream, Z_NO_FLUSH);
	}
	if (result != GUNZIP_OK)
		return result;
	if (code == Z_MEM_ERROR)
		return GUNZIP_NO_MEMORY;
	if (code != Z_STREAM_END || stream->avail_in > 0)
		return GUNZIP_MALFORMED;
	return stream->total_out > most ? GUNZIP_TOO_LARGE : GUNZIP_OK;
}

enum gunzip_result gunzip(const unsigned char *bytes, size_t length, size_t most,
			  unsigned char **out, size_t *out_length)
{
	/* zlib takes no const, and changes nothing. */
	z_stream stream = { .next_in = (unsigned char *)bytes, .avail_in = (unsigned)length };
	enum gunzip_result result;

	*out = NULL;
	if (length > UINT_MAX || most >= UINT_MAX)
		return GUNZIP_TOO_LARGE;
	if (inflateInit2(&stream, WINDOW_BITS) != Z_OK)
		return GUNZIP_NO_MEMORY;
	result = inflate_all(&stream, most, out);
	*out_length = stream.total_out;
	inflateEnd(&stream);
	if (result != GUNZIP_OK) {
		free(*out);
		*out = NULL;
	}
	return result;
}
