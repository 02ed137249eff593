/* SPDX-License-Identifier: Apache-2.0 */
/* buffer.h - bytes that are put at the back and taken from the front.  What is short stays
 * within the struct. */
#ifndef WEIR_SERVE_BUFFER_H
#define WEIR_SERVE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#define BUFFER_SMALL_BYTES 256u

struct buffer {
	unsigned char *heap;            /* NULL: the bytes are in small */
	size_t size;
	size_t length;
	size_t offset;                  /* what was taken from the front */
	unsigned char small[BUFFER_SMALL_BYTES];
};

void buffer_init(struct buffer *buffer);
void buffer_free(struct buffer *buffer);

/* Make room for LENGTH more bytes, and return where they go; NULL: no memory.  The caller
 * writes them and adds to buffer->length. */
unsigned char *buffer_reserve(struct buffer *buffer, size_t length);

/* What is in it: the bytes, and how many. */
unsigned char *buffer_bytes(struct buffer *buffer);
size_t buffer_length(const struct buffer *buffer);

/* Take LENGTH bytes from the front. */
void buffer_take(struct buffer *buffer, size_t length);

/* Bytes on the heap; and how many there will be with room for LENGTH bytes more. */
size_t buffer_heap_bytes(const struct buffer *buffer);
size_t buffer_heap_bytes_with(const struct buffer *buffer, size_t length);

#endif
