/* SPDX-License-Identifier: Apache-2.0 */
/* note.h - what listing wants to know of a bucket, and decisions do not. */
#ifndef WEIR_SHM_NOTE_H
#define WEIR_SHM_NOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/segment.h"

/* Keys of so many bytes are noted in the slot itself, unless the segment syncs. */
#define NOTE_BYTES_AT_HAND 8u

/* Note the key of the bucket that was just claimed. */
void note_key(const struct segment *segment, const struct bucket_ref *ref, const void *key,
	      size_t length);

/* Start loading what SLOT has in the notes. */
static inline void note_prefetch(const struct segment *segment, const struct slot *slot)
{
	uint64_t index = (uint64_t)(slot - segment->table.slots);
	const unsigned char *note = segment->notes + index * segment->note_size;

	if (segment->note_size == 0)
		return;
	prefetch_line(note);
	prefetch_line(note + segment->note_size - 1);
}

/* Count a denial of a slot's owner, one of 2^NOTE_SAMPLE_BITS on average. */
#define NOTE_SAMPLE_BITS 5
extern WEIR_HIDDEN _Thread_local uint64_t weir_note_random;
void note_sampled_denial(const struct segment *segment, const struct slot *slot,
			 uint64_t generation);

static inline bool note_is_sample(void)
{
	/* Knuth's linear congruential generator, from where the kernel put the thread. */
	if (__builtin_expect(weir_note_random == 0, 0))
		weir_note_random = (uintptr_t)&weir_note_random;
	weir_note_random = weir_note_random * 6364136223846793005u + 1442695040888963407u;
	return weir_note_random >> (64 - NOTE_SAMPLE_BITS) == 0;
}

static inline void note_denial(const struct segment *segment, const struct slot *slot,
			       uint64_t generation)
{
	if (__builtin_expect(note_is_sample(), 0))
		note_sampled_denial(segment, slot, generation);
}

/* Read the first bytes of the key: *length of the whole, *stored of them in KEY
 * (segment->key_bytes has room).  False if the key is not known. */
bool note_read_key(const struct segment *segment, const struct bucket_ref *ref, uint8_t *key,
		   uint32_t *length, uint32_t *stored);
uint64_t note_read_denials(const struct segment *segment, const struct bucket_ref *ref);

#endif
