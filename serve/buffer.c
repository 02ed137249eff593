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

/* How large the buffer has to be for LENGTH bytes more; SIZE_MAX: more than there can be. */
static size_t size_with(const struct buffer *buffer, size_t length)
{
	size_t kept = buffer_length(buffer);

	if (length <= buffer->size - kept)
		return buffer->size;
	if (length > SIZE_MAX / 2 - kept)
		return SIZE_MAX;
	return kept + length > 2 * buffer->size ? kept + length : 2 * buffer->size;
}

size_t buffer_heap_bytes_with(const struct buffer *buffer, size_t length)
{
	size_t size = size_with(buffer, length);

	return buffer->heap || size > buffer->size ? size : 0;
}

unsigned char *buffer_reserve(struct buffer *buffer, size_t length)
{
	size_t size = size_with(buffer, length);
	unsigned char *heap;

	if (buffer->offset > 0 && length > buffer->size - buffer->length) {
		memmove(buffer_bytes(buffer) - buffer->offset, buffer_bytes(buffer),
			buffer_length(buffer));
		buffer->length -= buffer->offset;
		buffer->offset = 0;
	}
	if (size > buffer->size) {
		heap = size == SIZE_MAX ? NULL : realloc(buffer->heap, size);
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
