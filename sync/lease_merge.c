/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease_merge.c - calls about leases, and what Redis answers: see lease.c.
 *
 * Ordering.  E14: all credit that is void is taken back, then the release of
 * lease_until_ns -> its acquire by decisions, before they look at the credit: who
 * finds the lease renewed finds no credit of an earlier one.
 */
#include "sync/lease_state.h"

#include <stdlib.h>
#include <string.h>

#include "shm/bucket.h"
#include "shm/gcra.h"

#define RENEW_NS (LEASE_TTL_NS / 4)
#define RETRY_NS 50000000ull            /* after a failure, and in quarantine */
#define PAUSE_MIN_NS 1000000ull         /* after a grant of less than was wanted */

struct leases *leases_create(const struct segment *segment)
{
	struct leases *leases = calloc(1, sizeof(*leases));

	if (!leases)
		return NULL;
	leases->segment = segment;
	leases->of_slot = calloc(segment->slots, sizeof(struct lease));
	if (!leases->of_slot) {
		free(leases);
		return NULL;
	}
	return leases;
}

void leases_destroy(struct leases *leases)
{
	if (!leases)
		return;
	free(leases->of_slot);
	free(leases);
}

void leases_forget(struct leases *leases)
{
	if (!leases)
		return;
	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		leases->shards[i].has_epoch = false;
		leases->shards[i].has_tenure = false;
		leases->shards[i].retry_ns = 0;
	}
	for (uint64_t index = 0; index < leases->segment->slots; index++)
		leases->of_slot[index].session = 0;
}

uint64_t leases_due_ns(const struct leases *leases)
{
	return leases ? leases->due_ns : UINT64_MAX;
}

/* ---- Calls ------------------------------------------------------------- */

unsigned leases_calls(struct leases *leases, struct lease_call calls[SYNC_SHARDS], uint32_t term,
		      uint64_t now_ns)
{
	unsigned count = 0;

	for (unsigned i = 0; i < SYNC_SHARDS; i++) {
		struct lease_shard *shard = &leases->shards[i];
		uint64_t renew = shard->asked_ns + (shard->has_tenure ? RENEW_NS : RETRY_NS);

		if (shard->retry_ns > now_ns) {
			leases_are_due(leases, shard->retry_ns);
			continue;
		}
		if (shard->count == 0 && shard->asked_ns != 0 && renew > now_ns) {
			leases_are_due(leases, renew);
			continue;
		}
		calls[count] = (struct lease_call){
			.shard = i,
			.term = term,
			.number = ++leases->calls,
			.has_epoch = shard->has_epoch,
			.has_tenure = shard->has_tenure,
			.virtual_ns = shard->virtual_ns,
			.virtual_at_ns = shard->has_epoch ? shard->virtual_at_ns : 0,
			.virtual_got_ns = shard->virtual_got_ns,
			.items = shard->blob,
			.count = shard->count,
		};
		memcpy(calls[count].epoch, shard->epoch, sizeof(shard->epoch));
		memcpy(calls[count].tenure, shard->tenure, sizeof(shard->tenure));
		count++;
		shard->asked_ns = now_ns;
		leases_are_due(leases, now_ns + (shard->has_tenure ? RENEW_NS : RETRY_NS));
	}
	return count;
}

size_t lease_low(const struct lease_call *call, uint64_t now_ns, unsigned char low[16])
{
	if (call->virtual_at_ns == 0 || call->virtual_got_ns > now_ns)
		return 0;
	wire_put_ns(low, (int64_t)(call->virtual_ns + (now_ns - call->virtual_at_ns)));
	wire_put_ns(low + 8, (int64_t)(call->virtual_ns + (now_ns - call->virtual_got_ns)));
	return 16;
}

void leases_failed(struct leases *leases, unsigned shard, uint64_t now_ns)
{
	leases->shards[shard].retry_ns = now_ns + RETRY_NS;
	leases_are_due(leases, now_ns + RETRY_NS);
}

/* The most tokens, from used FROM on, that NS pay for. */
static uint64_t tokens_for(const struct limit *limit, uint64_t from, uint64_t ns)
{
	gcra_wide token = (gcra_wide)limit->token_ns * limit->parts + limit->token_part;
	gcra_wide parts = ((gcra_wide)ns + 1) * limit->parts - 1 - gcra_phase(limit, from);
	gcra_wide tokens = parts / token;

	return tokens > limit->burst ? limit->burst : (uint64_t)tokens;
}

/* ---- Answers ----------------------------------------------------------- */

/* Ask again when there may be more: in a tenth of an interval, or when debt is less by
 * SURPLUS_NS, but in an interval at the latest. */
static void pause_asking(const struct leases *leases, struct lease *lease, int64_t surplus_ns,
			 uint64_t now_ns)
{
	uint64_t interval = leases_interval_ns(leases);
	uint64_t pause = interval / 10 < PAUSE_MIN_NS ? PAUSE_MIN_NS : interval / 10;

	if (surplus_ns > (int64_t)pause)
		pause = (uint64_t)surplus_ns < interval ? (uint64_t)surplus_ns : interval;
	lease->not_before_ns = now_ns + pause;
}

static void merge_item(struct leases *leases, const struct lease_call *call,
		       const struct lease_item *item, const unsigned char *answer, uint64_t now_ns)
{
	const struct segment *segment = leases->segment;
	struct lease *lease = &leases->of_slot[item->bucket.slot];
	struct bucket_ref ref = { .slot = &segment->table.slots[item->bucket.slot],
				  .generation = item->bucket.generation };
	uint64_t granted = (uint64_t)wire_get_ns(answer), tokens;

	if (item->orphan) {
		lease->session = 0;
		return;
	}
	if (wire_get32(answer + 20) != 0) {
		lease_break(lease);             /* the credit is taken back then */
		pause_asking(leases, lease, 0, now_ns);
		return;
	}
	lease->first = false;
	lease->unspent_ns = 0;
	lease->known_ns = item->spent_ns;
	lease->known_used = item->bucket.used;
	/* Relaxed: the leader's own. */
	atomic_store_relaxed(&segment->slot_syncs[item->bucket.slot].resets,
			     item->bucket.resets | item->bucket.generation);
	if (granted > lease->granted_ns)
		lease->granted_ns = granted;
	round_merge_view(&ref, &item->bucket, call->sent_ns, wire_get_ns(answer + 8),
			 wire_get32(answer + 16));
	/* More was granted than was known: that goes back, too. */
	if (lease->ending && lease_left_ns(lease) > 0) {
		lease->returned_ns += lease_left_ns(lease);
		return;
	}
	if (lease->ending) {
		lease->session = 0;
		lease->refresh_ns = now_ns + (lease->backoff_ns ? lease->backoff_ns :
							    leases_interval_ns(leases));
		return;
	}
	tokens = tokens_for(&item->bucket.limit, item->bucket.used, lease_left_ns(lease));
	if (!credit_raise(segment, &ref, item->credit, item->bucket.used + tokens, call->term)) {
		lease_break(lease);
		return;
	}
	if (item->lacking && tokens >= item->lacking)
		lease_clear_lacking(segment, item->bucket.slot, item->bucket.generation,
				    item->lacking);
	/* All that it wanted, or as much as there was: more comes with time. */
	if (tokens >= item->target)
		lease->not_before_ns = now_ns;
	else
		pause_asking(leases, lease, wire_get_ns(answer + 8) + item->surplus_ns, now_ns);
}

/* All credit of a shard is of sessions that nobody knows: take it back. */
static void take_all_back(struct leases *leases, unsigned shard, uint64_t term)
{
	const struct segment *segment = leases->segment;

	for (uint64_t index = 0; index < segment->slots; index++) {
		struct slot *slot = &segment->table.slots[index];
		struct lease *lease = &leases->of_slot[index];
		struct bucket_ref ref = { .slot = slot };
		enum weir_consistency consistency;
		struct word_pair state;
		struct limit limit;

		ref.generation = atomic_load_acquire(&slot->identity.second) & GENERATION_MASK; /* E1 */
		if (slot_shard(atomic_load_acquire(&slot->identity.first)) != shard)            /* E1 */
			continue;
		lease->session = 0;
		if (!round_owner_limit(segment, slot, ref.generation, &limit, &consistency) ||
		    consistency != WEIR_STRICT || !bucket_read(&ref, &state) ||
		    !lease_begin_session(leases, index, &ref, &limit, term))
			continue;
		/* One that was not in the queue had given all back. */
		if ((state.second & STATE_QUEUED) || queue_is_marked(&segment->queue, index) ||
		    lease->unspent_ns > 0)
			queue_mark(&segment->queue, index);
		else
			lease->session = 0;
	}
}

/* Until when the host's credit counts.  The latest that any leader was told: each is
 * true of the tenure that it was told of. */
static void renew(struct shard_record *shard, uint64_t until_ns)
{
	for (;;) {
		uint64_t known = atomic_load_relaxed(&shard->lease_until_ns);

		if (known >= until_ns ||
		    atomic_cas_acq_rel(&shard->lease_until_ns, &known, until_ns))       /* E14 */
			return;
	}
}

/* For people: which epoch Redis is in, and since when this host holds its tenure. */
static void tell_tenure(struct shard_record *record, const struct lease_call *call,
			const struct lease_reply *reply)
{
	uint64_t digest = 0xcbf29ce484222325u, since = 0;       /* FNV-1a */

	for (size_t i = 0; i < sizeof(reply->epoch); i++)
		digest = (digest ^ reply->epoch[i]) * 0x100000001b3u;
	if (reply->has_tenure) {
		uint64_t began = (uint64_t)wire_get32(reply->tenure) * (uint64_t)WIRE_SECOND +
				 wire_get32(reply->tenure + 4);
		uint64_t age = reply->virtual_ns > began ? reply->virtual_ns - began : 0;

		since = age < call->sent_ns ? call->sent_ns - age : 1;
	}
	/* Relaxed: numbers that are good by themselves. */
	atomic_store_relaxed(&record->lease_epoch, digest | 1);
	atomic_store_relaxed(&record->lease_since_ns, since);
}

bool leases_merge(struct leases *leases, const struct lease_call *call,
		  const struct lease_reply *reply, uint64_t now_ns)
{
	struct lease_shard *shard = &leases->shards[call->shard];
	const struct segment *segment = leases->segment;

	if (reply->code > LEASE_VOID ||
	    (reply->code == LEASE_DONE && reply->count != call->count))
		return false;
	if (!round_term_holds(segment, call->term))
		return true;
	memcpy(shard->epoch, reply->epoch, sizeof(shard->epoch));
	shard->has_epoch = true;
	shard->virtual_ns = reply->virtual_ns;
	shard->virtual_at_ns = call->sent_ns;
	shard->virtual_got_ns = reply->got_ns;
	tell_tenure(&leases->segment->shards[call->shard], call, reply);
	leases->trip_ns = (7 * leases->trip_ns + (reply->got_ns - call->sent_ns)) / 8;
	if (reply->code == LEASE_QUARANTINE) {
		shard->has_tenure = false;
		return true;
	}
	if (reply->code == LEASE_VOID) {
		memcpy(shard->tenure, reply->tenure, sizeof(shard->tenure));
		take_all_back(leases, call->shard, call->term);
		shard->has_tenure = true;
		shard->asked_ns = 0;
		leases->due_ns = 0;
		return true;
	}
	for (unsigned i = 0; i < reply->count; i++)
		merge_item(leases, call, &shard->items[i], reply->items + i * LEASE_REPLY, now_ns);
	if (round_term_holds(segment, call->term))
		renew(&segment->shards[call->shard], call->sent_ns + LEASE_USE_NS);
	return true;
}
