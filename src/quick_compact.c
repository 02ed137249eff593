/* SPDX-License-Identifier: Apache-2.0 */
/* quick_compact.c - what only some of the quick decisions need: see quick_compact.h. */
#include "src/quick_compact.h"

struct compact_slot *compact_quick_find(const struct compact_quick *quick,
					const struct segment *segment)
{
	const struct compact_window window = compact_window(&segment->compact, quick->fingerprint);

	return compact_window_find(&window, quick->name);
}

HASH_TARGET enum quick_result
compact_quick_retry(const struct compact_quick *quick, const struct segment *segment,
		    struct compact_slot *slot, uint64_t now_ns, uint64_t cost,
		    struct quick_outcome *outcome)
{
	for (int attempt = 0; attempt < QUICK_ATTEMPTS; attempt++) {
		enum quick_result result = compact_quick_attempt(quick, segment, slot, now_ns, cost,
								 outcome);

		if (result != QUICK_AGAIN)
			return result;
	}
	return QUICK_NOT;
}
