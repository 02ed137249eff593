/* SPDX-License-Identifier: Apache-2.0 */
/* The two hashes against published vectors and a second implementation, which
 * follows the papers and FIPS 197 byte by byte. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shm/hash.h"
#include "fixture.h"
#include "tests/suite.h"

static const uint64_t secret[2] = { 0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull };

/* Bytes 0, 1, 2 and so on. */
static void count_up(unsigned char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (unsigned char)i;
}

static void to_bytes(struct fingerprint fingerprint, unsigned char bytes[16])
{
	for (int i = 0; i < 8; i++) {
		bytes[i] = (unsigned char)(fingerprint.low >> (8 * i));
		bytes[8 + i] = (unsigned char)(fingerprint.high >> (8 * i));
	}
}

static bool same(struct fingerprint a, struct fingerprint b)
{
	return a.low == b.low && a.high == b.high;
}

/* ---- SipHash-2-4-128 --------------------------------------------------- */

/* From vectors_sip128 of the authors' reference code: key 00 01 .. 0f, message
 * 00 01 .. of the length given. */
static const struct {
	size_t length;
	unsigned char expected[16];
} sip_vectors[] = {
	{ 0, "\xa3\x81\x7f\x04\xba\x25\xa8\xe6\x6d\xf6\x72\x14\xc7\x55\x02\x93" },
	{ 1, "\xda\x87\xc1\xd8\x6b\x99\xaf\x44\x34\x76\x59\x11\x9b\x22\xfc\x45" },
	{ 2, "\x81\x77\x22\x8d\xa4\xa4\x5d\xc7\xfc\xa3\x8b\xde\xf6\x0a\xff\xe4" },
	{ 3, "\x9c\x70\xb6\x0c\x52\x67\xa9\x4e\x5f\x33\xb6\xb0\x29\x85\xed\x51" },
	{ 7, "\xa1\xf1\xeb\xbe\xd8\xdb\xc1\x53\xc0\xb8\x4a\xa6\x1f\xf0\x82\x39" },
	{ 8, "\x3b\x62\xa9\xba\x62\x58\xf5\x61\x0f\x83\xe2\x64\xf3\x14\x97\xb4" },
	{ 9, "\x26\x44\x99\x06\x0a\xd9\xba\xab\xc4\x7f\x8b\x02\xbb\x6d\x71\xed" },
	{ 15, "\x54\x93\xe9\x99\x33\xb0\xa8\x11\x7e\x08\xec\x0f\x97\xcf\xc3\xd9" },
	{ 16, "\x6e\xe2\xa4\xca\x67\xb0\x54\xbb\xfd\x33\x15\xbf\x85\x23\x05\x77" },
	{ 17, "\x47\x3d\x06\xe8\x73\x8d\xb8\x98\x54\xc0\x66\xc4\x7a\xe4\x77\x40" },
	{ 31, "\x29\x39\xb0\x18\x32\x23\xfa\xfc\x17\x23\xde\x4f\x52\xc4\x3d\x35" },
	{ 63, "\x51\x50\xd1\x77\x2f\x50\x83\x4a\x50\x3e\x06\x9a\x97\x3f\xbd\x7c" },
};

START_TEST(sip_reference)
{
	unsigned char message[64], result[16];

	count_up(message, sizeof(message));
	to_bytes(hash_strong(secret, message, sip_vectors[_i].length), result);
	ck_assert_mem_eq(result, sip_vectors[_i].expected, sizeof(result));
}
END_TEST

static void sip_round(uint64_t v[4])
{
	/* for each half round: the pair, the rotations */
	static const struct { int a, b, c, d, turn_b, turn_d; } halves[] = {
		{ 0, 1, 2, 3, 13, 16 }, { 2, 1, 0, 3, 17, 21 },
	};

	for (int i = 0; i < 2; i++) {
		uint64_t *a = &v[halves[i].a], *b = &v[halves[i].b];
		uint64_t *c = &v[halves[i].c], *d = &v[halves[i].d];

		*a += *b;
		*c += *d;
		*b = *b << halves[i].turn_b | *b >> (64 - halves[i].turn_b);
		*d = *d << halves[i].turn_d | *d >> (64 - halves[i].turn_d);
		*b ^= *a;
		*d ^= *c;
		*a = *a << 32 | *a >> 32;
	}
}

static struct fingerprint sip_again(const unsigned char *message, size_t length)
{
	static const char constant[] = "somepseudorandomlygeneratedbytes";
	uint64_t v[4] = { 0, 0, 0, 0 }, word = 0, half[2];

	for (int i = 0; i < 32; i++)
		v[i / 8] = v[i / 8] << 8 | (unsigned char)constant[i];
	for (int i = 0; i < 4; i++)
		v[i] ^= secret[i % 2];
	v[1] ^= 0xee;
	/* The message, zeros, and its length in the last byte of a word. */
	for (size_t i = 0; i < length / 8 * 8 + 8; i++) {
		uint64_t byte = i < length ? message[i] : i % 8 == 7 ? length & 0xff : 0;

		word = word >> 8 | byte << 56;
		if (i % 8 < 7)
			continue;
		v[3] ^= word;
		sip_round(v);
		sip_round(v);
		v[0] ^= word;
	}
	for (int i = 0; i < 2; i++) {
		v[i == 0 ? 2 : 1] ^= i == 0 ? 0xee : 0xdd;
		for (int round = 0; round < 4; round++)
			sip_round(v);
		half[i] = v[0] ^ v[1] ^ v[2] ^ v[3];
	}
	return (struct fingerprint){ half[0], half[1] };
}

/* ---- Four rounds of AES ------------------------------------------------ */

struct block {
	unsigned char byte[16];
};

static struct block block_of(hash_block words)
{
	struct block block;

	to_bytes((struct fingerprint){ words[0], words[1] }, block.byte);
	return block;
}

static struct block block_xor(struct block a, struct block b)
{
	for (int i = 0; i < 16; i++)
		a.byte[i] ^= b.byte[i];
	return a;
}

/* Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1. */
static unsigned char product(unsigned char a, unsigned char b)
{
	unsigned char result = 0;

	for (int bit = 7; bit >= 0; bit--) {
		bool carry = result & 0x80;

		result = (unsigned char)(result << 1 ^ (carry ? 0x1b : 0));
		if (b >> bit & 1)
			result ^= a;
	}
	return result;
}

/* FIPS 197, 5.1.1: the inverse, then an affine map of its bits. */
static unsigned char substitute(unsigned char x)
{
	static unsigned char box[256];
	static bool ready;

	for (int a = 0; !ready && a < 256; a++) {
		unsigned char inverse = 1, result = 0x63;

		for (int power = 0; power < 254; power++)
			inverse = product(inverse, (unsigned char)a);
		for (int turn = 0; turn < 5; turn++)
			result ^= (unsigned char)(inverse << turn | inverse >> (8 - turn));
		box[a] = result;
	}
	ready = true;
	return box[x];
}

static struct block aes_round(struct block in, struct block key)
{
	static const unsigned char matrix[4] = { 2, 3, 1, 1 };
	struct block out;

	for (int column = 0; column < 4; column++) {
		for (int row = 0; row < 4; row++) {
			unsigned char sum = 0;

			for (int k = 0; k < 4; k++)
				sum ^= product(matrix[(k - row + 4) % 4],
					       substitute(in.byte[(4 * (column + k) + k) % 16]));
			out.byte[4 * column + row] = sum;
		}
	}
	return block_xor(out, key);
}

/* FIPS 197, appendix B, round 1. */
START_TEST(second_implementation_is_aes)
{
	static const struct block in = { "\x19\x3d\xe3\xbe\xa0\xf4\xe2\x2b"
					 "\x9a\xc6\x8d\x2a\xe9\xf8\x48\x08" };
	static const struct block key = { "\xa0\xfa\xfe\x17\x88\x54\x2c\xb1"
					  "\x23\xa3\x39\x39\x2a\x6c\x76\x05" };
	static const struct block expected = { "\xa4\x9c\x7f\xf2\x68\x9f\x35\x2b"
					       "\x6b\x5b\xea\x43\x02\x6a\x50\x49" };
	struct block out = aes_round(in, key);

	ck_assert_mem_eq(&out, &expected, sizeof(out));
}
END_TEST

static struct block aes4_again(const struct hash_keys *keys, struct block block)
{
	for (int i = 0; i < 4; i++)
		block = aes_round(block, block_of(keys->round[i]));
	return block;
}

static void fingerprint_again(const struct hash_keys *keys, const uint64_t limit_key[2],
			      const unsigned char *message, size_t length, unsigned char result[16])
{
	struct block hash = block_of(keys->first), limit, last = { { 0 } };
	size_t start = (length - 1) / 16 * 16;

	for (size_t i = 0; i < start; i += 16) {
		struct block next;

		memcpy(next.byte, message + i, 16);
		hash = aes4_again(keys, block_xor(hash, next));
	}
	memcpy(last.byte, message + start, length - start);
	if (length - start < 16)
		last.byte[length - start] = 0x80;
	last = block_xor(last, block_of(length - start < 16 ? keys->last_padded :
							      keys->last_whole));
	to_bytes((struct fingerprint){ limit_key[0], limit_key[1] }, limit.byte);
	hash = aes4_again(keys, block_xor(block_xor(hash, last), limit));
	memcpy(result, hash.byte, 16);
}

static const uint64_t limit_key[2] = { 0x1122334455667788ull, 0x99aabbccddeeff00ull };

/* Where the processor has the instructions, both ways have to agree. */
static void check_fingerprint(const unsigned char *message, size_t length)
{
	struct hash_keys keys;
	unsigned char expected[16], result[16];

	hash_keys_derive(&keys, secret);
	fingerprint_again(&keys, limit_key, message, length, expected);
	to_bytes(hash_fingerprint(&keys, limit_key[0], limit_key[1], message, length), result);
	ck_assert_mem_eq(result, expected, sizeof(result));
	keys.hardware = false;
	to_bytes(hash_fingerprint(&keys, limit_key[0], limit_key[1], message, length), result);
	ck_assert_mem_eq(result, expected, sizeof(result));
}

/* Every short length at every alignment, in memory that ends with the message. */
START_TEST(second_implementation_agrees)
{
	for (size_t length = 0; length <= 64; length++) {
		for (size_t offset = 0; offset < 8; offset++) {
			unsigned char *memory = malloc(offset + length + (length == 0));

			count_up(memory + offset, length);
			ck_assert(same(hash_strong(secret, memory + offset, length),
				       sip_again(memory + offset, length)));
			if (length > 0)
				check_fingerprint(memory + offset, length);
			free(memory);
		}
	}
}
END_TEST

START_TEST(second_implementation_agrees_on_long_keys)
{
	static const size_t lengths[] = { 255, 256, 257, 4096, WEIR_KEY_MAX - 1, WEIR_KEY_MAX };
	unsigned char *memory = malloc(lengths[_i]);

	count_up(memory, lengths[_i]);
	ck_assert(same(hash_strong(secret, memory, lengths[_i]), sip_again(memory, lengths[_i])));
	check_fingerprint(memory, lengths[_i]);
	free(memory);
}
END_TEST

/* Keys that a sloppy padding or a sloppy length would take for one another. */
START_TEST(similar_keys_differ)
{
	static const struct { const char *key; size_t length; } similar[] = {
		{ "a", 1 }, { "a\0", 2 }, { "a\x80", 2 }, { "a\x80\0", 3 }, { "\0a", 2 },
		{ "\0", 1 }, { "\0\0", 2 }, { "\x80", 1 }, { "\0\x80", 2 },
		{ "0123456789abcde", 15 }, { "0123456789abcde\x80", 16 },
		{ "0123456789abcde\0", 16 }, { "0123456789abcde\x80\0", 17 },
		{ "0123456789abcdef", 16 }, { "0123456789abcdef\0", 17 },
		{ "0123456789abcdef\x80", 17 },
		{ "0123456789abcdef0123456789abcdef", 32 },
		{ "0123456789abcdef0123456789abcdef\0", 33 },
	};
	struct fingerprint all[LENGTH(similar)];
	struct hash_keys keys;

	hash_keys_derive(&keys, secret);
	for (size_t i = 0; i < LENGTH(similar); i++) {
		all[i] = hash_fingerprint(&keys, limit_key[0], limit_key[1], similar[i].key,
					  similar[i].length);
		for (size_t j = 0; j < i; j++)
			ck_assert_msg(!same(all[i], all[j]), "%zu and %zu", i, j);
	}
}
END_TEST

/* The secret and the limit's key go into every bit. */
START_TEST(keys_matter)
{
	struct hash_keys keys, other_keys;
	uint64_t other_secret[2] = { secret[0] ^ 1, secret[1] };
	struct fingerprint fingerprint, other[4];

	hash_keys_derive(&keys, secret);
	hash_keys_derive(&other_keys, other_secret);
	fingerprint = hash_fingerprint(&keys, 1, 2, "key", 3);
	other[0] = hash_fingerprint(&other_keys, 1, 2, "key", 3);
	other[1] = hash_fingerprint(&keys, 0, 2, "key", 3);
	other[2] = hash_fingerprint(&keys, 1, 3, "key", 3);
	other[3] = hash_fingerprint(&keys, 2, 1, "key", 3);
	for (size_t i = 0; i < LENGTH(other); i++) {
		ck_assert_uint_ne(fingerprint.low, other[i].low);
		ck_assert_uint_ne(fingerprint.high, other[i].high);
	}
	ck_assert(same(fingerprint, hash_fingerprint(&keys, 1, 2, "key", 3)));
}
END_TEST

/* Any bit of a key changes each bit of the fingerprint in half of all cases.
 * The generator starts from a fixed number: the figures are always the same. */
START_TEST(avalanche)
{
	static const size_t lengths[] = { 4, 8, 15, 16, 17, 32, 40 };
	static unsigned flips[128];
	size_t length = lengths[_i];
	uint64_t random = 1;
	unsigned char key[40];
	unsigned rounds = 256;
	struct hash_keys keys;

	hash_keys_derive(&keys, secret);
	memset(flips, 0, sizeof(flips));
	for (unsigned round = 0; round < rounds; round++) {
		struct fingerprint before;

		for (size_t i = 0; i < length; i++)
			key[i] = (unsigned char)fixture_random(&random, 256);
		before = hash_fingerprint(&keys, 1, 2, key, length);
		for (size_t bit = 0; bit < 8 * length; bit++) {
			struct fingerprint after;
			unsigned changed = 0;

			key[bit / 8] ^= (unsigned char)(1 << bit % 8);
			after = hash_fingerprint(&keys, 1, 2, key, length);
			key[bit / 8] ^= (unsigned char)(1 << bit % 8);
			for (unsigned i = 0; i < 128; i++) {
				bool flipped = i < 64 ? (before.low ^ after.low) >> i & 1 :
							(before.high ^ after.high) >> (i - 64) & 1;

				flips[i] += flipped;
				changed += flipped;
			}
			must(changed >= 32 && changed <= 96);   /* 5.6 sigma */
		}
	}
	for (unsigned i = 0; i < 128; i++) {
		double share = flips[i] / (double)(rounds * 8 * length);

		must(share > 0.47 && share < 0.53);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hash");
	TCase *cases = tcase_create("hash");

	tcase_add_loop_test(cases, sip_reference, 0, (int)LENGTH(sip_vectors));
	tcase_add_test(cases, second_implementation_is_aes);
	tcase_add_test(cases, second_implementation_agrees);
	tcase_add_loop_test(cases, second_implementation_agrees_on_long_keys, 0, 6);
	tcase_add_test(cases, similar_keys_differ);
	tcase_add_test(cases, keys_matter);
	tcase_add_loop_test(cases, avalanche, 0, 7);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
