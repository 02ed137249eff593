/* SPDX-License-Identifier: Apache-2.0 */
/* secret.h - what hosts show each other of their secret. */
#ifndef WEIR_SYNC_SECRET_H
#define WEIR_SYNC_SECRET_H

#include <stdio.h>

#include "shm/hash.h"

#define SECRET_DIGEST_SIZE 33u

static inline void secret_digest(const uint64_t secret[2], char digest[SECRET_DIGEST_SIZE])
{
	static const char text[] = "weir cluster";
	struct fingerprint hash = hash_strong(secret, text, sizeof(text));

	snprintf(digest, SECRET_DIGEST_SIZE, "%016llx%016llx", (unsigned long long)hash.high,
		 (unsigned long long)hash.low);
}

#endif
