/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h - the keyed fingerprint of a key, which is its identity. */
#ifndef WEIR_SHM_HASH_H
#define WEIR_SHM_HASH_H

#include <stddef.h>
#include <stdint.h>

struct fingerprint {
	uint64_t low;           /* bits 0-63 */
	uint64_t high;          /* bits 64-127 */
};

/* SipHash-1-3 with 128 bits of output, keyed by KEY. */
struct fingerprint hash_fingerprint(const uint64_t key[2], const void *data, size_t length);

/* SipHash-2-4 with 128 bits of output: for keys and checksums, off the
 * decision path. */
struct fingerprint hash_strong(const uint64_t key[2], const void *data, size_t length);

#endif
