/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash_inline.h - the fingerprint, for those who cannot spare a call.
 *
 * The construction and the reasons for it are in hash.c.  A function that is to
 * inline it has HASH_TARGET, and may run on any processor: the compiler makes AES
 * instructions only of what asks for them here, behind the question whether there
 * are any.
 */
#ifndef WEIR_SHM_HASH_INLINE_H
#define WEIR_SHM_HASH_INLINE_H

#include <string.h>

#include "shm/hash.h"

#ifdef __x86_64__
#include <immintrin.h>
#define HASH_TARGET __attribute__((target("aes")))
#else
#define HASH_TARGET
#endif

static inline uint64_t hash_word(const unsigned char *bytes)
{
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	word = __builtin_bswap64(word);
#endif
	return word;
}

/* As two words: keys are often written as such, right before the call.  The
 * processor hands a store on to a load of 16 bytes only if the store was one of 16;
 * else the load waits until all that came before the stores is done, which may be
 * another decision's cache miss. */
static inline hash_block hash_load_block(const unsigned char *bytes)
{
#ifdef __x86_64__
	/* Else the compiler makes one load of them, or five instructions. */
	__m128i block = _mm_loadl_epi64((const __m128i *)bytes);

	__asm__("movhps %1, %0" : "+x"(block) : "m"(*(const char(*)[8])(bytes + 8)));
	return (hash_block)block;
#else
	return (hash_block){ hash_word(bytes), hash_word(bytes + 8) };
#endif
}

static inline uint64_t hash_half_word(const unsigned char *bytes)
{
	return (uint64_t)bytes[0] | (uint64_t)bytes[1] << 8 | (uint64_t)bytes[2] << 16 |
	       (uint64_t)bytes[3] << 24;
}

/* The last LENGTH % 8 of LENGTH bytes, by loads that overlap where they must. */
static inline uint64_t hash_tail(const unsigned char *bytes, size_t length)
{
	size_t rest = length % 8;

	if (rest == 0)
		return 0;
	if (length >= 8)
		return hash_word(bytes + length - 8) >> (64 - 8 * rest);
	if (rest >= 4)
		return hash_half_word(bytes) | hash_half_word(bytes + rest - 4) << (8 * (rest - 4));
	return (uint64_t)bytes[0] | (uint64_t)bytes[rest / 2] << (8 * (rest / 2)) |
	       (uint64_t)bytes[rest - 1] << (8 * (rest - 1));
}

/* 1 to 15 bytes, then 80 and zeros. */
static inline hash_block hash_load_padded(const unsigned char *bytes, size_t length)
{
	uint64_t last = hash_tail(bytes, length) | 0x80ull << (8 * (length % 8));

	if (length < 8)
		return (hash_block){ last, 0 };
	return (hash_block){ hash_word(bytes), last };
}

typedef hash_block hash_aes4(const struct hash_keys *keys, hash_block block);

/* H, with a message's last block, of up to 16 bytes, and the key of its kind. */
static inline __attribute__((always_inline)) hash_block
hash_last(hash_block hash, const unsigned char *bytes, size_t length, const hash_block *whole,
	  const hash_block *padded)
{
	if (__builtin_expect(length == 16, 1))
		return hash ^ hash_load_block(bytes) ^ *whole;
	return hash ^ hash_load_padded(bytes, length) ^ *padded;
}

/* The construction of the head comment, over either AES4. */
static inline __attribute__((always_inline)) struct fingerprint
hash_construct(const struct hash_keys *keys, hash_block limit_key, const unsigned char *bytes,
	       size_t length, hash_aes4 *aes4)
{
	hash_block hash;

	if (__builtin_expect(length <= 16, 1)) {
		hash = hash_last(limit_key, bytes, length, &keys->only_whole, &keys->only_padded);
	} else {
		const struct hash_keys *same = keys;

		/* Else the compiler loads the round keys for the loop where there is none. */
		__asm__("" : "+r"(same));
		for (hash = same->first; length > 16; length -= 16, bytes += 16)
			hash = aes4(same, hash ^ hash_load_block(bytes));
		hash = hash_last(hash, bytes, length, &same->last_whole, &same->last_padded) ^
		       limit_key;
	}
	hash = aes4(keys, hash);
	return (struct fingerprint){ hash[0], hash[1] };
}

struct fingerprint hash_fingerprint_portable(const struct hash_keys *keys, hash_block limit_key,
					     const unsigned char *bytes, size_t length);

#ifdef __x86_64__
HASH_TARGET static inline hash_block hash_aes4_hardware(const struct hash_keys *keys,
							hash_block block)
{
	for (int i = 0; i < 4; i++)
		block = (hash_block)_mm_aesenc_si128((__m128i)block, (__m128i)keys->round[i]);
	return block;
}
#endif

HASH_TARGET static inline __attribute__((always_inline)) struct fingerprint
hash_fingerprint_hardware(const struct hash_keys *keys, hash_block limit_key, const void *data,
			  size_t length)
{
#ifdef __x86_64__
	return hash_construct(keys, limit_key, data, length, hash_aes4_hardware);
#else
	return hash_fingerprint_portable(keys, limit_key, data, length);
#endif
}

/* A limit's key, prepared for keys of 16 bytes. */
static inline hash_block hash_prepare(const struct hash_keys *keys, hash_block limit_key)
{
	return limit_key ^ keys->only_whole;
}

/* As hash_fingerprint_hardware() by the limit's key. */
HASH_TARGET static inline __attribute__((always_inline)) struct fingerprint
hash_prepared_fingerprint(const struct hash_keys *keys, hash_block prepared, const void *data,
			  size_t length)
{
#ifdef __x86_64__
	if (__builtin_expect(length == 16, 1)) {
		hash_block hash = hash_aes4_hardware(keys, prepared ^ hash_load_block(data));

		return (struct fingerprint){ hash[0], hash[1] };
	}
#endif
	return hash_fingerprint_hardware(keys, prepared ^ keys->only_whole, data, length);
}

HASH_TARGET static inline __attribute__((always_inline)) struct fingerprint
hash_fingerprint_inline(const struct hash_keys *keys, uint64_t limit_low, uint64_t limit_high,
			const void *data, size_t length)
{
	hash_block limit_key = { limit_low, limit_high };

#ifdef __x86_64__
	if (__builtin_expect(keys->hardware, 1))
		return hash_construct(keys, limit_key, data, length, hash_aes4_hardware);
#endif
	return hash_fingerprint_portable(keys, limit_key, data, length);
}

#endif
