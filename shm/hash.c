/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash.c - the keyed hash that makes a key's identity.
 *
 * What.  Two keys with one fingerprint would share a bucket, so whoever could
 * choose such pairs could have somebody else's key limited.  A fast hash with a
 * seed does not prevent that: nobody claims it of XXH3.  What is needed is that
 * for any two keys, whatever they are, the probability over the secret that they
 * collide is negligible.  Four rounds of AES with independent secret round keys
 * are such a function: a difference of two inputs becomes a given difference of
 * outputs with a probability of at most 2^-113.  And it is fast: one AES
 * instruction a round, 16 bytes at a time.
 *
 *	h = first
 *	for each block of 16 bytes but the last:   h = AES4(h ^ block)
 *	last block, of 1 to 16 bytes:              h ^= block ^ last_whole, or
 *	                                           h ^= (block 80 00 ...) ^ last_padded
 *	fingerprint under a limit:                 AES4(h ^ limit key)
 *
 * The bound counts on a secret before each round.  The first block's is "first":
 * without it, whoever chooses keys also chooses the difference behind the first
 * round, and the three that are left can do with 9 active S-boxes: 2^-54.
 *
 * Two different keys of up to 16 bytes cannot collide at all under one limit
 * (but for one value of last_whole ^ last_padded in 2^128); longer ones with a
 * probability of at most 2^-112 for each of their blocks.
 *
 * All keys are derived from the segment's secret with SipHash-2-4, so hosts that
 * share the secret compute the same fingerprints, with AES instructions or
 * without them.
 *
 * References: K. Minematsu, Y. Tsunoo, "Provably secure MACs from differentially
 * uniform permutations and AES-based implementations", FSE 2006; L. Keliher,
 * J. Sui, "Exact maximum expected differential and linear probability for
 * two-round AES", 2007 (the bound for four rounds); FIPS 197; J. Black,
 * P. Rogaway, "CBC MACs for arbitrary-length messages", 2000 (the two last-block
 * keys); J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", 2012.
 */
#include "shm/hash_inline.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif

/* ---- SipHash-2-4 with 128 bits of output ------------------------------- */

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static void sip_rounds(struct sip *s, int rounds)
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

static void sip_word(struct sip *s, uint64_t word)
{
	s->v3 ^= word;
	sip_rounds(s, 2);
	s->v0 ^= word;
}

struct fingerprint hash_strong(const uint64_t key[2], const void *data, size_t length)
{
	struct sip s = {
		.v0 = key[0] ^ 0x736f6d6570736575ull,
		.v1 = key[1] ^ 0x646f72616e646f6dull ^ 0xee,
		.v2 = key[0] ^ 0x6c7967656e657261ull,
		.v3 = key[1] ^ 0x7465646279746573ull,
	};
	const unsigned char *bytes = data;
	uint64_t last = (uint64_t)length << 56;
	struct fingerprint result;

	for (size_t words = length / 8; words > 0; words--, bytes += 8)
		sip_word(&s, hash_word(bytes));
	for (size_t i = 0; i < length % 8; i++)
		last |= (uint64_t)bytes[i] << (8 * i);
	sip_word(&s, last);

	s.v2 ^= 0xee;
	sip_rounds(&s, 4);
	result.low = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
	s.v1 ^= 0xdd;
	sip_rounds(&s, 4);
	result.high = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
	return result;
}

/* ---- Four rounds of AES ------------------------------------------------ */

static const unsigned char substitution[256] = {
	0x63, 0x7c, 0x77, 0x7b, 0xf2, 0x6b, 0x6f, 0xc5, 0x30, 0x01, 0x67, 0x2b,
	0xfe, 0xd7, 0xab, 0x76, 0xca, 0x82, 0xc9, 0x7d, 0xfa, 0x59, 0x47, 0xf0,
	0xad, 0xd4, 0xa2, 0xaf, 0x9c, 0xa4, 0x72, 0xc0, 0xb7, 0xfd, 0x93, 0x26,
	0x36, 0x3f, 0xf7, 0xcc, 0x34, 0xa5, 0xe5, 0xf1, 0x71, 0xd8, 0x31, 0x15,
	0x04, 0xc7, 0x23, 0xc3, 0x18, 0x96, 0x05, 0x9a, 0x07, 0x12, 0x80, 0xe2,
	0xeb, 0x27, 0xb2, 0x75, 0x09, 0x83, 0x2c, 0x1a, 0x1b, 0x6e, 0x5a, 0xa0,
	0x52, 0x3b, 0xd6, 0xb3, 0x29, 0xe3, 0x2f, 0x84, 0x53, 0xd1, 0x00, 0xed,
	0x20, 0xfc, 0xb1, 0x5b, 0x6a, 0xcb, 0xbe, 0x39, 0x4a, 0x4c, 0x58, 0xcf,
	0xd0, 0xef, 0xaa, 0xfb, 0x43, 0x4d, 0x33, 0x85, 0x45, 0xf9, 0x02, 0x7f,
	0x50, 0x3c, 0x9f, 0xa8, 0x51, 0xa3, 0x40, 0x8f, 0x92, 0x9d, 0x38, 0xf5,
	0xbc, 0xb6, 0xda, 0x21, 0x10, 0xff, 0xf3, 0xd2, 0xcd, 0x0c, 0x13, 0xec,
	0x5f, 0x97, 0x44, 0x17, 0xc4, 0xa7, 0x7e, 0x3d, 0x64, 0x5d, 0x19, 0x73,
	0x60, 0x81, 0x4f, 0xdc, 0x22, 0x2a, 0x90, 0x88, 0x46, 0xee, 0xb8, 0x14,
	0xde, 0x5e, 0x0b, 0xdb, 0xe0, 0x32, 0x3a, 0x0a, 0x49, 0x06, 0x24, 0x5c,
	0xc2, 0xd3, 0xac, 0x62, 0x91, 0x95, 0xe4, 0x79, 0xe7, 0xc8, 0x37, 0x6d,
	0x8d, 0xd5, 0x4e, 0xa9, 0x6c, 0x56, 0xf4, 0xea, 0x65, 0x7a, 0xae, 0x08,
	0xba, 0x78, 0x25, 0x2e, 0x1c, 0xa6, 0xb4, 0xc6, 0xe8, 0xdd, 0x74, 0x1f,
	0x4b, 0xbd, 0x8b, 0x8a, 0x70, 0x3e, 0xb5, 0x66, 0x48, 0x03, 0xf6, 0x0e,
	0x61, 0x35, 0x57, 0xb9, 0x86, 0xc1, 0x1d, 0x9e, 0xe1, 0xf8, 0x98, 0x11,
	0x69, 0xd9, 0x8e, 0x94, 0x9b, 0x1e, 0x87, 0xe9, 0xce, 0x55, 0x28, 0xdf,
	0x8c, 0xa1, 0x89, 0x0d, 0xbf, 0xe6, 0x42, 0x68, 0x41, 0x99, 0x2d, 0x0f,
	0xb0, 0x54, 0xbb, 0x16,
};

static unsigned char twice(unsigned char x)
{
	return (unsigned char)(x << 1 ^ (x & 0x80 ? 0x1b : 0));
}

/* One round as FIPS 197 has it, for processors without the instruction. */
static hash_block round_portable(hash_block block, hash_block key)
{
	unsigned char in[16], out[16];

	for (int i = 0; i < 16; i++)
		in[i] = (unsigned char)(block[i / 8] >> (8 * (i % 8)));
	for (int column = 0; column < 4; column++) {
		unsigned char a[4], all = 0;

		for (int row = 0; row < 4; row++) {
			a[row] = substitution[in[(4 * (column + row) + row) % 16]];
			all ^= a[row];
		}
		for (int row = 0; row < 4; row++)
			out[4 * column + row] =
				a[row] ^ all ^ twice(a[row] ^ a[(row + 1) % 4]);
	}
	return (hash_block){ hash_word(out), hash_word(out + 8) } ^ key;
}

static hash_block aes4_portable(const struct hash_keys *keys, hash_block block)
{
	for (int i = 0; i < 4; i++)
		block = round_portable(block, keys->round[i]);
	return block;
}

bool hash_hardware_runs(void)
{
#ifdef __x86_64__
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_AES);
#else
	return true;            /* there is nothing in it then */
#endif
}

/* ---- Fingerprints ------------------------------------------------------ */

struct fingerprint hash_fingerprint_portable(const struct hash_keys *keys, hash_block limit_key,
					     const unsigned char *bytes, size_t length)
{
	return hash_construct(keys, limit_key, bytes, length, aes4_portable);
}

void hash_keys_derive(struct hash_keys *keys, const uint64_t secret[2])
{
	hash_block *all[] = { &keys->round[0],	  &keys->round[1],    &keys->round[2],
			      &keys->round[3],	  &keys->last_whole, &keys->last_padded,
			      &keys->first };

	for (uint64_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct fingerprint derived = hash_strong(secret, &i, sizeof(i));

		*all[i] = (hash_block){ derived.low, derived.high };
	}
	keys->only_whole = keys->first ^ keys->last_whole;
	keys->only_padded = keys->first ^ keys->last_padded;
	keys->hardware = hash_hardware_runs();
}

HASH_TARGET struct fingerprint hash_fingerprint(const struct hash_keys *keys, uint64_t limit_low,
				    uint64_t limit_high, const void *data, size_t length)
{
	return hash_fingerprint_inline(keys, limit_low, limit_high, data, length);
}
