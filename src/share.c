/* SPDX-License-Identifier: Apache-2.0 */
/* share.c - this host's share of a token bucket: see share.h. */
#include "src/share.h"

#include "shm/gcra.h"

#define SHARE_ATTEMPTS 64

/* TOKENS of the share, as a time: tokens x hosts x period / limit. */
static uint64_t charge_ns(const struct share *share, uint64_t tokens)
{
	const struct limit *limit = share->limit;
	gcra_wide all = (gcra_wide)tokens * share->hosts;

	if (all > UINT64_MAX)
		return UINT64_MAX;
	if (limit->token_part == 0) {
		all *= limit->token_ns;         /* as below, without a division */
	} else {
		gcra_wide token = (gcra_wide)limit->token_ns * limit->parts + limit->token_part;

		if (all * token / token != all)
			return UINT64_MAX;
		all = (all * token + limit->parts - 1) / limit->parts;
	}
	return all > GCRA_DEBT_MAX_NS ? GCRA_DEBT_MAX_NS + 1 : (uint64_t)all;
}

bool share_take(const struct share *share, bool take, uint64_t *retry_ns)
{
	uint64_t part = share->limit->burst / share->hosts, burst = part ? part : 1;
	uint64_t charge = charge_ns(share, share->cost);
	uint64_t room, word = 0;

	*retry_ns = WEIR_NEVER;
	if (share->cost > burst || charge > GCRA_DEBT_MAX_NS)
		return false;
	room = charge_ns(share, burst - share->cost);
	/* Relaxed: the share is one word, complete in itself. */
	if (share->slot)
		word = atomic_load_relaxed(&share->slot->share_ns);
	for (int attempt = 0; attempt < SHARE_ATTEMPTS; attempt++) {
		struct bucket_state state = { word, 0 };
		uint64_t debt = gcra_debt_ns(&state, share->now_ns);

		if (debt > room) {
			*retry_ns = debt - room;
			return false;
		}
		if (!take || !share->slot ||
		    atomic_cas_relaxed(&share->slot->share_ns, &word,
				       share->now_ns + debt + charge))
			return true;
	}
	*retry_ns = 0;
	return false;
}

void share_return(const struct share *share)
{
	uint64_t charge = charge_ns(share, share->cost);
	uint64_t word;

	if (!share->slot)
		return;
	word = atomic_load_relaxed(&share->slot->share_ns);
	for (int attempt = 0; attempt < SHARE_ATTEMPTS; attempt++) {
		if (word < charge ||
		    atomic_cas_relaxed(&share->slot->share_ns, &word, word - charge))
			return;
	}
}
