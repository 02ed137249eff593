/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void buffer_init(struct buffer *buffer)
{
	buffer->heap = NULL;
	buffer->size = sizeof(buffer->small);
	buffer->length = 0;
	buffer->offset = 0;
}

void buffer_free(struct buffer *buffer)
{
	free(buffer->heap);
	buffer_init(buffer);
}

unsigned char *buffer_bytes(struct buffer *buffer)
{
	return (buffer->heap ? buffer->heap : buffer->small) + buffer->offset;
}

size_t buffer_length(const struct buffer *buffer)
{
	return buffer->length - buffer->offset;
}

size_t buffer_heap_bytes(const struct buffer *buffer)
{
	return buffer->heap ? buffer->size : 0;
}

unsigned char *buffer_reserve(struct buffer *buffer, size_t length)
{
	size_t kept = buffer_length(buffer);
	unsigned char *heap;
	size_t size;

	if (buffer->offset > 0 && length > buffer->size - buffer->length) {
		memmove(buffer_bytes(buffer) - buffer->offset, buffer_bytes(buffer), kept);
		buffer->offset = 0;
		buffer->length = kept;
	}
	if (length > buffer->size - buffer->length) {
		if (length > SIZE_MAX / 2 - buffer->length)
			return NULL;
		size = buffer->length + length;
		if (size < 2 * buffer->size)
			size = 2 * buffer->size;
		heap = realloc(buffer->heap, size);
		if (!heap)
			return NULL;
		if (!buffer->heap)
			memcpy(heap, buffer->small, buffer->length);
		buffer->heap = heap;
		buffer->size = size;
	}
	return (buffer->heap ? buffer->heap : buffer->small) + buffer->length;
}

void buffer_take(struct buffer *buffer, size_t length)
{
	buffer->offset += length;
	if (buffer->offset == buffer->length) {
		buffer->offset = 0;
		buffer->length = 0;
	}
}
