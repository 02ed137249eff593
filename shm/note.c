/* SPDX-License-Identifier: Apache-2.0 */
/*
 * note.c - keys for listing, in lines that decisions do not touch.
 *
 * What.  Whoever claims a slot notes the first bytes of the key beside it.  The
 * fingerprint is the identity; this is for people to read.
 *
 * Invariant.  A note proves itself: its stamp is a keyed checksum of the owner's
 * generation, the length and the bytes.  One that is half written, or of another
 * owner (a claimer that was stopped in here and woke up later), does not match,
 * and the key is shown as not known.
 *
 * Ordering.  None, because of the stamp: all accesses are relaxed.
 */
#include "shm/note.h"

#include <string.h>

#include "shm/hash.h"

#define KEY_WORDS_MAX (1024 / 8)
#define DENIED_GENERATION_BITS 16

static struct note *note_of(const struct segment *segment, const struct bucket_ref *ref)
{
	uint64_t index = (uint64_t)(ref->slot - segment->table.slots);

	return (struct note *)(segment->notes + index * segment->note_size);
}

static uint64_t stamp_of(const struct segment *segment, uint64_t about, const uint64_t *words,
			 uint32_t count)
{
	uint64_t key[2] = { segment->secret[0] ^ about, segment->secret[1] };

	return hash_strong(key, words, count * sizeof(*words)).low;
}

static uint64_t about_of(const struct bucket_ref *ref, size_t length)
{
	return (uint64_t)length | ref->generation << 32;
}

void note_key(const struct segment *segment, const struct bucket_ref *ref, const void *key,
	      size_t length)
{
	struct note *note = note_of(segment, ref);
	uint32_t count = segment->key_bytes / 8;
	uint64_t words[KEY_WORDS_MAX];
	uint64_t about = about_of(ref, length);

	memset(words, 0, segment->key_bytes);
	memcpy(words, key, length < segment->key_bytes ? length : segment->key_bytes);
	for (uint32_t i = 0; i < count; i++)
		atomic_store_relaxed(&note->key[i], words[i]);
	atomic_store_relaxed(&note->about, about);
	atomic_store_relaxed(&note->stamp, stamp_of(segment, about, words, count));
}

bool note_read_key(const struct segment *segment, const struct bucket_ref *ref, uint8_t *key,
		   uint32_t *length, uint32_t *stored)
{
	const struct note *note = note_of(segment, ref);
	uint32_t count = segment->key_bytes / 8;
	uint64_t about = atomic_load_relaxed(&note->about);
	uint64_t words[KEY_WORDS_MAX];

	for (uint32_t i = 0; i < count; i++)
		words[i] = atomic_load_relaxed(&note->key[i]);
	*length = (uint32_t)about;
	*stored = *length < segment->key_bytes ? *length : segment->key_bytes;
	if (about != about_of(ref, *length) || *length == 0 || *length > WEIR_KEY_MAX ||
	    atomic_load_relaxed(&note->stamp) != stamp_of(segment, about, words, count))
		return false;
	memcpy(key, words, *stored);
	return true;
}

_Thread_local uint64_t weir_note_random;

void note_sampled_denial(const struct segment *segment, const struct slot *slot,
			 uint64_t generation)
{
	const struct bucket_ref ref = { .slot = (struct slot *)slot };
	uint64_t *denied = &note_of(segment, &ref)->denied, current, next, count;

	current = atomic_load_relaxed(denied);
	count = (current & GENERATION_MASK) == generation ? current >> DENIED_GENERATION_BITS : 0;
	next = (count + 1) << DENIED_GENERATION_BITS | generation;
	/* One attempt: a sample that another thread's displaced is not missed. */
	atomic_cas_relaxed(denied, &current, next);
}

uint64_t note_read_denials(const struct segment *segment, const struct bucket_ref *ref)
{
	uint64_t denied = atomic_load_relaxed(&note_of(segment, ref)->denied);

	if ((denied & GENERATION_MASK) != ref->generation)
		return 0;
	return denied >> DENIED_GENERATION_BITS << NOTE_SAMPLE_BITS;
}
