/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lease_model.h"

#include <stdlib.h>
#include <string.h>

#include "sync/wire.h"

#define TTL_NS (2 * WIRE_SECOND)
#define TOLERANCE_NS 10000000
#define KEPT_SECONDS 60
#define LOST_MAX_SECONDS (INT64_C(1) << 30)
#define SECONDS_MAX (INT64_C(4294967295) / 16)

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t left_of(const struct lease_model_lease *lease)
{
	if (lease->ended)
		return 0;
	return most(lease->granted_ns - lease->spent_ns - lease->returned_ns, 0);
}

/* ---- The shard --------------------------------------------------------- */

static int64_t unsigned_ns(const unsigned char *at)
{
	return (int64_t)wire_get32(at) * WIRE_SECOND + (int64_t)wire_get32(at + 4);
}

static void put_ns(unsigned char *at, int64_t ns)
{
	wire_put_ns(at, ns);
}

void lease_model_flush(struct lease_model *model)
{
	memset(model, 0, offsetof(struct lease_model, hosts));
}

/* Of leases there is room for far more hosts than there are. */
static void copy_key(struct lease_model_key *to, const struct lease_model_key *from,
		     unsigned hosts)
{
	memcpy(to, from, offsetof(struct lease_model_key, leases) + hosts * sizeof(from->leases[0]));
}

void lease_model_copy(struct lease_model *to, const struct lease_model *from)
{
	memcpy(to, from, offsetof(struct lease_model, hosts));
	memcpy(to->hosts, from->hosts, from->host_count * sizeof(from->hosts[0]));
	for (unsigned i = 0; i < from->key_count; i++)
		copy_key(&to->keys[i], &from->keys[i], from->host_count);
}

static void begin_epoch(struct lease_model *model, const struct lease_model_call *call)
{
	lease_model_flush(model);
	model->exists = true;
	memcpy(model->epoch, call->name, sizeof(model->epoch));
	strncpy(model->run_id, call->run_id, sizeof(model->run_id) - 1);
	model->last_ns = call->clock_ns;
	model->end_ns = call->clock_ns + TTL_NS;
}

static int64_t virtual_now(struct lease_model *model, const struct lease_model_call *call)
{
	bool same = call->has_epoch && memcmp(call->epoch, model->epoch, 16) == 0;
	int64_t clock = call->clock_ns + model->offset_ns, now = clock, low;

	if (!call->has_low || !same)
		return model->last_ns;
	low = most(unsigned_ns(call->low) - model->lost_ns, model->last_ns);
	if (clock < model->last_ns) {
		now = model->last_ns;
		clock = low;
	} else if (clock > low + TOLERANCE_NS) {
		now = most(unsigned_ns(call->low + 8) - model->lost_ns, model->last_ns);
	}
	model->lost_ns += clock - now;
	model->offset_ns = now - call->clock_ns;
	return model->last_ns = now;
}

static unsigned index_of(const struct lease_model *model, const unsigned char id[16])
{
	unsigned i = 0;

	while (i < model->host_count && memcmp(model->hosts[i].id, id, 16) != 0)
		i++;
	return i;
}

static bool is_alive(const struct lease_model_host *host, int64_t now)
{
	return host->end_ns > now;
}

/* The place of a host, known or new. */
static struct lease_model_host *place_of(struct lease_model *model, const unsigned char id[16])
{
	unsigned i = index_of(model, id);

	if (i == LEASE_MODEL_HOSTS)
		abort();
	if (i == model->host_count) {
		model->host_count++;
		model->hosts[i] = (struct lease_model_host){ .tenure_ns = 0 };
		memcpy(model->hosts[i].id, id, 16);
		for (unsigned key = 0; key < model->key_count; key++)
			model->keys[key].leases[i] = (struct lease_model_lease){ .used = false };
	}
	return &model->hosts[i];
}

static const struct lease_model_key *find_key(const struct lease_model *model,
					      const unsigned char name[16])
{
	for (unsigned i = 0; i < model->key_count; i++) {
		if (memcmp(model->keys[i].name, name, 16) == 0)
			return &model->keys[i];
	}
	return NULL;
}

/* ---- One item ---------------------------------------------------------- */

struct request {
	const unsigned char *name;
	uint64_t session;
	int64_t spent_ns;
	int64_t known_ns;
	int64_t returned_ns;
	int64_t target_ns;
	int64_t least_ns;
	int64_t tau_ns;
	uint32_t resets;
	bool first;
	bool malformed;
};

static struct request request_of(const unsigned char *item)
{
	struct request request = { .name = item };
	int64_t *numbers[] = { &request.spent_ns, &request.known_ns, &request.returned_ns,
			       &request.target_ns, &request.least_ns, &request.tau_ns };

	request.session = (uint64_t)wire_get32(item + 16) << 32 | wire_get32(item + 20);
	for (unsigned i = 0; i < 6; i++) {
		*numbers[i] = unsigned_ns(item + 24 + 8 * i);
		request.malformed |= wire_get32(item + 28 + 8 * i) >= WIRE_SECOND;
	}
	request.malformed |= wire_get32(item + 64) >= SECONDS_MAX;
	request.resets = wire_get32(item + 72);
	request.first = request.resets & LEASE_FIRST;
	request.resets &= ~LEASE_FIRST;
	return request;
}

struct others {
	int64_t left_ns;
	unsigned active;
	struct lease_model_lease *own;
};

/* When a lease of ITS lapsed: with its tenure, which ended when the next one began at the
 * latest; and a minute ago if that is long ago. */
static int64_t lapsed_ns(const struct lease_model_lease *lease, const struct lease_model_host *its,
			 int64_t now)
{
	int64_t end = its->tenure_ns == lease->tenure_ns ? its->end_ns : its->tenure_ns;

	return most(end, now - KEPT_SECONDS * WIRE_SECOND);
}

/* The leases of KEY, HOST's (NULL: nobody's) apart: what lapsed is debt, spent when the last
 * of it lapsed at the latest. */
static struct others settle(const struct lease_model *model, struct lease_model_key *key,
			    const struct lease_model_host *host, int64_t now)
{
	struct others others = { .active = 1 };
	int64_t void_ns = 0, last_ns = 0;

	for (unsigned i = 0; i < model->host_count; i++) {
		struct lease_model_lease *lease = &key->leases[i];
		const struct lease_model_host *its = &model->hosts[i];

		if (!lease->used)
			continue;
		if (lease->ended &&
		    (!is_alive(its, now) || its->tenure_ns != lease->tenure_ns ||
		     lease->ended_ns / WIRE_SECOND + KEPT_SECONDS < now / WIRE_SECOND)) {
			lease->used = false;
		} else if (!is_alive(its, now) || its->tenure_ns != lease->tenure_ns) {
			void_ns += left_of(lease);
			if (left_of(lease) > 0)
				last_ns = most(last_ns, lapsed_ns(lease, its, now));
			lease->used = false;
		} else if (its == host) {
			others.own = lease;
		} else {
			others.left_ns += left_of(lease);
			others.active += !lease->ended;
		}
	}
	key->tat_ns = most(key->tat_ns, last_ns) + void_ns;
	return others;
}

static void spend(struct lease_model_key *key, struct lease_model_lease *own,
		  const struct request *request, int64_t now)
{
	int64_t more = request->spent_ns - own->spent_ns;
	int64_t within = least(more, left_of(own));

	if (more <= 0)
		return;
	key->tat_ns = most(key->tat_ns, now) + within;
	key->tat_ns = most(key->tat_ns,
			   least(key->tat_ns + more - within, now + 2 * request->tau_ns));
	own->spent_ns = request->spent_ns;
}

static void grant(const struct lease_model_key *key, struct lease_model_lease *own,
		  const struct request *request, const struct others *others, int64_t now)
{
	int64_t want = request->target_ns - left_of(own);
	int64_t room = request->tau_ns - most(key->tat_ns - now, 0) - others->left_ns - left_of(own);
	int64_t share;

	room = most(room, 0);
	share = least(most(room / others->active, request->least_ns), want);
	if (want > 0 && share <= room)
		own->granted_ns += share;
}

static void answer(unsigned char *at, int64_t granted, const struct lease_model_key *key,
		   int64_t now, uint32_t error)
{
	put_ns(at, granted);
	put_ns(at + 8, key->tat_ns - now);
	wire_put32(wire_put32(at + 16, key->generation), error);
}

static void carry_out(struct lease_model *model, const struct lease_model_host *host,
		      const struct request *request, int64_t now, unsigned char *result)
{
	const struct lease_model_key *known = find_key(model, request->name);
	struct lease_model_key key;
	struct lease_model_lease own = { .used = true, .tenure_ns = host->tenure_ns,
					 .session = request->session,
					 .granted_ns = request->known_ns,
					 .spent_ns = request->known_ns };
	struct others others;
	bool over = !request->first;

	if (known) {
		copy_key(&key, known, model->host_count);
	} else {
		memset(&key, 0, sizeof(key));
		key.tat_ns = model->end_ns + request->tau_ns;
		memcpy(key.name, request->name, 16);
	}
	others = settle(model, &key, host, now);
	if (others.own && others.own->session > request->session) {
		answer(result, request->known_ns, &key, now, request->malformed ? 1 : 2);
		return;
	}
	if (others.own && others.own->session == request->session) {
		over = others.own->ended;
		if (!over)
			own = *others.own;
	} else if (others.own) {
		int64_t lost = left_of(others.own);

		if (request->first)
			lost = most(lost - request->returned_ns, 0);
		key.tat_ns = most(key.tat_ns, now) + lost;
	}
	if (request->malformed || over) {
		answer(result, own.granted_ns, &key, now, request->malformed);
		return;
	}
	spend(&key, &own, request, now);
	own.granted_ns = most(own.granted_ns, own.spent_ns + own.returned_ns);
	if (!request->first)
		own.returned_ns = most(own.returned_ns,
				       least(request->returned_ns, own.granted_ns - own.spent_ns));
	if (request->resets > own.resets) {
		key.tat_ns = now;
		key.generation++;
		own.resets = request->resets;
	}
	grant(&key, &own, request, &others, now);
	if (request->target_ns == 0 && left_of(&own) == 0) {
		own.ended = true;
		own.ended_ns = now;
	}
	key.leases[host - model->hosts] = own;
	answer(result, own.granted_ns, &key, now, 0);
	if (!known) {
		if (model->key_count == LEASE_MODEL_KEYS)
			abort();
		known = &model->keys[model->key_count++];
	}
	copy_key(&model->keys[known - model->keys], &key, model->host_count);
}

/* ---- One call ---------------------------------------------------------- */

void lease_model_call(struct lease_model *model, const struct lease_model_call *call,
		      struct lease_model_reply *reply)
{
	struct lease_model_host *host;
	unsigned char tenure[8];
	int64_t now;

	memset(reply, 0, offsetof(struct lease_model_reply, items));
	reply->code = LEASE_QUARANTINE;
	if (!model->exists || strcmp(model->run_id, call->run_id) != 0 ||
	    model->lost_ns / WIRE_SECOND > LOST_MAX_SECONDS) {
		begin_epoch(model, call);
		memcpy(reply->epoch, model->epoch, 16);
		reply->now_ns = call->clock_ns;
		return;
	}
	now = virtual_now(model, call);
	reply->now_ns = now + model->lost_ns;
	memcpy(reply->epoch, model->epoch, 16);
	if (now < model->end_ns)
		return;
	host = place_of(model, call->host);
	reply->code = LEASE_VOID;
	reply->has_tenure = true;
	if (!is_alive(host, now)) {
		host->tenure_ns = now;
		host->end_ns = now + TTL_NS;
		put_ns(reply->tenure, host->tenure_ns);
		return;
	}
	put_ns(reply->tenure, host->tenure_ns);
	memcpy(tenure, reply->tenure, sizeof(tenure));
	if (!call->has_epoch || memcmp(call->epoch, model->epoch, 16) != 0 ||
	    !call->has_tenure || memcmp(call->tenure, tenure, sizeof(tenure)) != 0)
		return;
	host->end_ns = now + TTL_NS;
	reply->code = LEASE_DONE;
	reply->count = call->count;
	for (unsigned i = 0; i < call->count; i++) {
		struct request request = request_of(call->items + i * LEASE_ITEM);

		carry_out(model, host, &request, now, reply->items + i * LEASE_REPLY);
	}
}

bool lease_model_read(const struct lease_model *model, const unsigned char name[16],
		      int64_t *debt_ns, int64_t *left_ns)
{
	const struct lease_model_key *known = find_key(model, name);
	struct lease_model_key key;

	*debt_ns = *left_ns = 0;
	if (!known)
		return false;
	copy_key(&key, known, model->host_count);
	*left_ns = settle(model, &key, NULL, model->last_ns).left_ns;
	*debt_ns = most(key.tat_ns - model->last_ns, 0);
	return true;
}
