/* SPDX-License-Identifier: Apache-2.0 */
/*
 * note.c - keys for listing, which decisions do not read.
 *
 * What.  Whoever claims a slot notes the first bytes of the key beside it.  The
 * fingerprint is the identity; this is for people to read.
 *
 * Where.  A slot has two words that only sync needs.  In a segment that does not sync,
 * they are the first two of the note, and cost nothing: the claimer has the slot's line.
 * The denials are elsewhere, if they can be: many threads that deny one key read its slot,
 * and one that stores there takes the line from all others.
 *
 * Crash.  A claimer that is killed between its first charge and the note of a key of more than
 * 8 bytes leaves a bucket that counts, and whose key is not known.
 *
 * Invariant.  A note proves itself: it has a keyed checksum of the owner's
 * generation, the length and the bytes.  One that is half written, or of another
 * owner (a claimer that was stopped in here and woke up later), does not match but by a
 * chance of 2^-48, and the key is shown as not known.
 *
 * Ordering.  None, because of the checksum: all accesses are relaxed.
 */
#include "shm/note.h"

#include <string.h>

#define KEY_WORDS_MAX (1024 / 8)
#define DENIED_GENERATION_BITS 16
#define ABOUT_LENGTH_MASK 0xffffull
_Static_assert(WEIR_KEY_MAX - 1 <= ABOUT_LENGTH_MASK, "about has room for a key's length");

/* A note's words, wherever they are: see struct note. */
struct note_words {
	uint64_t *about;
	uint64_t *first;
	uint64_t *rest;
};

static struct note_words words_of(const struct segment *segment, const struct slot *slot)
{
	uint64_t index = (uint64_t)(slot - segment->table.slots);
	struct slot *own = &segment->table.slots[index];
	uint64_t *apart = (uint64_t *)(segment->notes + index * segment->note_size);
	struct note *note = (struct note *)apart;

	if (segment->shards)
		return (struct note_words){ &note->about, &note->first, note->rest };
	return (struct note_words){ &own->note_about, &own->note_first, apart };
}

static uint64_t *denied_of(const struct segment *segment, const struct slot *slot)
{
	struct note_words words = words_of(segment, slot);

	return segment->key_bytes > 0 ? words.rest : words.first;
}

/* Word I of the key, of those that are kept. */
static uint64_t *key_word(const struct note_words *words, uint32_t i)
{
	return i > 0 ? &words->rest[i] : words->first;
}

/*
 * The checksum of a note, and in its lower bits the length.  A product with an odd number
 * that nobody knows, for each word: notes that differ in one word never have the same sum,
 * before it is cut to 48 bits.
 */
struct note_sum {
	uint64_t multiplier;
	uint64_t sum;
};

static struct note_sum note_sum_of(const struct segment *segment, uint64_t generation,
				   size_t length)
{
	uint64_t multiplier = segment->hash.first[0] | 1;
	uint64_t sum = segment->hash.first[1] ^ (generation << 32 | length);

	return (struct note_sum){ multiplier, sum * multiplier };
}

static void note_sum_add(struct note_sum *sum, uint64_t word)
{
	sum->sum = (sum->sum ^ sum->sum >> 32 ^ word) * sum->multiplier;
}

static uint64_t about_of(const struct note_sum *sum, size_t length)
{
	return (sum->sum & ~ABOUT_LENGTH_MASK) | (length - 1);
}

/* Word I of a key of LENGTH bytes, which has some of it; filled up with zeros. */
static uint64_t word_of(const unsigned char *key, size_t length, uint32_t i)
{
	size_t from = (size_t)i * sizeof(uint64_t);
	uint64_t word = 0;

	if (from + sizeof(word) <= length)
		memcpy(&word, key + from, sizeof(word));
	else
		memcpy(&word, key + from, length - from);
	return word;
}

/* The words that are kept of a key of LENGTH bytes. */
static uint32_t words_kept(const struct segment *segment, size_t length)
{
	size_t words = (length + 7) / 8;

	return words < segment->key_bytes / 8 ? (uint32_t)words : segment->key_bytes / 8;
}

void note_key(const struct segment *segment, const struct bucket_ref *ref, const void *key,
	      size_t length)
{
	struct note_words words = words_of(segment, ref->slot);
	struct note_sum sum = note_sum_of(segment, ref->generation, length);
	uint32_t count = words_kept(segment, length);

	for (uint32_t i = 0; i < count; i++) {
		uint64_t word = word_of(key, length, i);

		atomic_store_relaxed(key_word(&words, i), word);
		note_sum_add(&sum, word);
	}
	atomic_store_relaxed(words.about, about_of(&sum, length));
}

bool note_read_key(const struct segment *segment, const struct bucket_ref *ref, uint8_t *key,
		   uint32_t *length, uint32_t *stored)
{
	struct note_words words = words_of(segment, ref->slot);
	uint64_t about = atomic_load_relaxed(words.about);
	uint64_t kept[KEY_WORDS_MAX];
	struct note_sum sum;
	uint32_t count;

	*length = (uint32_t)(about & ABOUT_LENGTH_MASK) + 1;
	*stored = *length < segment->key_bytes ? *length : segment->key_bytes;
	count = words_kept(segment, *length);
	sum = note_sum_of(segment, ref->generation, *length);
	for (uint32_t i = 0; i < count; i++) {
		kept[i] = atomic_load_relaxed(key_word(&words, i));
		note_sum_add(&sum, kept[i]);
	}
	if (about != about_of(&sum, *length))
		return false;
	memcpy(key, kept, *stored);
	return true;
}

_Thread_local uint64_t weir_note_random;

void note_sampled_denial(const struct segment *segment, const struct slot *slot,
			 uint64_t generation)
{
	uint64_t *denied = denied_of(segment, slot), current, next, count;

	current = atomic_load_relaxed(denied);
	count = (current & GENERATION_MASK) == generation ? current >> DENIED_GENERATION_BITS : 0;
	next = (count + 1) << DENIED_GENERATION_BITS | generation;
	/* One attempt: a sample that another thread's displaced is not missed. */
	atomic_cas_relaxed(denied, &current, next);
}

uint64_t note_read_denials(const struct segment *segment, const struct bucket_ref *ref)
{
	uint64_t denied = atomic_load_relaxed(denied_of(segment, ref->slot));

	if ((denied & GENERATION_MASK) != ref->generation)
		return 0;
	return denied >> DENIED_GENERATION_BITS << NOTE_SAMPLE_BITS;
}
