/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash.c - SipHash with 128 bits of output.
 *
 * What: two keys with one fingerprint would share a bucket, so whoever could
 * find such pairs could have somebody else's key limited.  The fingerprint is
 * therefore a keyed pseudo-random function with a secret of the segment's own,
 * not a fast hash with a seed: for XXH3 nobody claims that an attacker who
 * chooses keys cannot make them collide without knowing the seed.  SipHash-1-3
 * is what Rust and Python guard their hash tables with; it costs about 3 ns
 * more than XXH3 for a key of 16 bytes.
 *
 * References: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input
 * PRF", 2012; the 128-bit variant as in the authors' reference code.
 */
#include "shm/hash.h"

#include <string.h>

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline uint64_t little_endian(const unsigned char *bytes)
{
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	word = __builtin_bswap64(word);
#endif
	return word;
}

static inline __attribute__((always_inline)) void sip_rounds(struct sip *s, int rounds)
{
	while (rounds-- > 0) {
		s->v0 += s->v1;
		s->v1 = rotate(s->v1, 13) ^ s->v0;
		s->v0 = rotate(s->v0, 32);
		s->v2 += s->v3;
		s->v3 = rotate(s->v3, 16) ^ s->v2;
		s->v0 += s->v3;
		s->v3 = rotate(s->v3, 21) ^ s->v0;
		s->v2 += s->v1;
		s->v1 = rotate(s->v1, 17) ^ s->v2;
		s->v2 = rotate(s->v2, 32);
	}
}

/* The last 0 to 7 bytes, with the length in the top byte. */
static inline uint64_t last_word(const unsigned char *bytes, size_t length)
{
	uint64_t word = (uint64_t)length << 56;
	size_t rest = length & 7;

	for (size_t i = 0; i < rest; i++)
		word |= (uint64_t)bytes[i] << (8 * i);
	return word;
}

static inline __attribute__((always_inline)) struct fingerprint
siphash(const uint64_t key[2], const void *data, size_t length, int compress, int finish)
{
	struct sip s = {
		.v0 = key[0] ^ 0x736f6d6570736575ull,
		.v1 = key[1] ^ 0x646f72616e646f6dull ^ 0xee,
		.v2 = key[0] ^ 0x6c7967656e657261ull,
		.v3 = key[1] ^ 0x7465646279746573ull,
	};
	const unsigned char *bytes = data;
	const unsigned char *end = bytes + (length & ~(size_t)7);
	struct fingerprint result;
	uint64_t word;

	for (; bytes != end; bytes += 8) {
		word = little_endian(bytes);
		s.v3 ^= word;
		sip_rounds(&s, compress);
		s.v0 ^= word;
	}
	word = last_word(bytes, length);
	s.v3 ^= word;
	sip_rounds(&s, compress);
	s.v0 ^= word;

	s.v2 ^= 0xee;
	sip_rounds(&s, finish);
	result.low = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
	s.v1 ^= 0xdd;
	sip_rounds(&s, finish);
	result.high = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
	return result;
}

struct fingerprint hash_fingerprint(const uint64_t key[2], const void *data, size_t length)
{
	return siphash(key, data, length, 1, 3);
}

struct fingerprint hash_strong(const uint64_t key[2], const void *data, size_t length)
{
	return siphash(key, data, length, 2, 4);
}
