/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h - the keyed fingerprint of a key, which is its identity. */
#ifndef WEIR_SHM_HASH_H
#define WEIR_SHM_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fingerprint {
	uint64_t low;           /* bits 0-63 */
	uint64_t high;          /* bits 64-127 */
};

/* The block that the hash works on: one register. */
typedef uint64_t hash_block __attribute__((vector_size(16)));

/* Everything that a segment's secret turns into. */
struct hash_keys {
	hash_block round[4];
	hash_block first;
	hash_block last_whole;
	hash_block last_padded;
	hash_block only_whole;  /* first ^ last_whole */
	hash_block only_padded; /* first ^ last_padded */
	bool hardware;          /* does the processor have AES instructions? */
};

/* May hash_fingerprint_hardware() run on this processor? */
bool hash_hardware_runs(void);

void hash_keys_derive(struct hash_keys *keys, const uint64_t secret[2]);

/* The fingerprint of LENGTH (at least 1) bytes under the limit whose key is
 * LIMIT_LOW, LIMIT_HIGH. */
struct fingerprint hash_fingerprint(const struct hash_keys *keys, uint64_t limit_low,
				    uint64_t limit_high, const void *data, size_t length);

/* SipHash-2-4 with 128 bits of output: to derive keys and for checksums, off the
 * decision path. */
struct fingerprint hash_strong(const uint64_t key[2], const void *data, size_t length);

#endif
