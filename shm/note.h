/* SPDX-License-Identifier: Apache-2.0 */
/* note.h - what listing wants to know of a bucket, and decisions do not. */
#ifndef WEIR_SHM_NOTE_H
#define WEIR_SHM_NOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/segment.h"

/* Note the key of the bucket that was just claimed. */
void note_key(const struct segment *segment, const struct bucket_ref *ref, const void *key,
	      size_t length);

/* Count a denial, one of 2^NOTE_SAMPLE_BITS on average. */
#define NOTE_SAMPLE_BITS 5
void note_denial(const struct segment *segment, const struct bucket_ref *ref);

/* Read the first bytes of the key: *length of the whole, *stored of them in KEY
 * (segment->key_bytes has room).  False if the key is not known. */
bool note_read_key(const struct segment *segment, const struct bucket_ref *ref, uint8_t *key,
		   uint32_t *length, uint32_t *stored);
uint64_t note_read_denials(const struct segment *segment, const struct bucket_ref *ref);

#endif
