/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/limiter.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "serve/arena.h"
#include "serve/server.h"

#define BATCH_MAX 4096u
#define POLICIES_NAMED 8u       /* in a message about an unknown one */

/* The two say the same, in this order: a decision is copied without a table. */
_Static_assert((int)WEIR__V1__OUTCOME__OUTCOME_ALLOWED == (int)WEIR_ALLOWED + 1 &&
	       (int)WEIR__V1__OUTCOME__OUTCOME_DENIED == (int)WEIR_DENIED + 1 &&
	       (int)WEIR__V1__OUTCOME__OUTCOME_UNAVAILABLE == (int)WEIR_UNAVAILABLE + 1,
	       "the outcomes of limiter.proto are weir.h's, from 1 on");
#define SAME_REASON(name) ((int)WEIR__V1__REASON__REASON_##name == (int)WEIR_REASON_##name)
_Static_assert(SAME_REASON(LIMIT) && SAME_REASON(COST) && SAME_REASON(TABLE_FULL) &&
	       SAME_REASON(SHADOW) && SAME_REASON(NO_POLICY) && SAME_REASON(KEY) &&
	       SAME_REASON(CLOCK) && SAME_REASON(CONTENDED) && SAME_REASON(USE_ACQUIRE) &&
	       SAME_REASON(HOLDS_FULL) && SAME_REASON(DEBT) && SAME_REASON(CLOSED) &&
	       SAME_REASON(STALE) && SAME_REASON(CAP) && SAME_REASON(LEASE),
	       "the reasons of limiter.proto are weir.h's");

static void tell(const struct weir_decision *decision, Weir__V1__Decision *message)
{
	weir__v1__decision__init(message);
	message->outcome = (Weir__V1__Outcome)((int)decision->outcome + 1);
	message->reason = (Weir__V1__Reason)decision->reason;
	message->limit_index = decision->limit_index;
	message->flagged = decision->flagged;
	message->limit = decision->limit;
	message->remaining = decision->remaining;
	message->retry_after_ns = decision->retry_after_ns;
	message->reset_after_ns = decision->reset_after_ns;
	message->counted = decision->counted;
}

/* ---- Requests ---------------------------------------------------------- */

void limiter_unknown_policy(struct grpc_call *call, const char *name)
{
	struct weir_policy policies[POLICIES_NAMED];
	size_t count = weir_policy_list(grpc_server(call)->weir, policies, POLICIES_NAMED);
	char names[POLICIES_NAMED * (WEIR_NAME_MAX + 3)] = "";
	size_t length = 0;

	if (count == 0) {
		grpc_fail(call, GRPC_NOT_FOUND, "no policy \"%.64s\": the segment has none yet; "
			  "define it with `weir policy set`", name);
		return;
	}
	for (size_t i = 0; i < count && i < POLICIES_NAMED; i++)
		length += (size_t)snprintf(names + length, sizeof(names) - length, "%s%s",
					   i ? ", " : "", policies[i].name);
	grpc_fail(call, GRPC_NOT_FOUND, "no policy \"%.64s\": the segment has %.300s%s; define "
		  "another with `weir policy set`", name, names,
		  count > POLICIES_NAMED ? ", ..." : "");
}

/* What all requests have.  WHICH is "" or says which of a batch it is.  Returns false if
 * the call has failed. */
static bool read_request(struct grpc_call *call, const char *which, const char *policy,
			 const ProtobufCBinaryData *key, uint64_t now_ns, uint64_t cost,
			 struct weir_request *request)
{
	if (*policy == '\0') {
		grpc_fail(call, GRPC_INVALID_ARGUMENT, "%spolicy is empty; name a policy of the "
			  "segment", which);
		return false;
	}
	if (key->len == 0 || key->len > WEIR_KEY_MAX) {
		grpc_fail(call, GRPC_INVALID_ARGUMENT, "%skey has %zu bytes; give 1 to %u", which,
			  key->len, WEIR_KEY_MAX);
		return false;
	}
	/* Who could choose the time could have as many tokens as he likes. */
	if (now_ns != 0 && !grpc_server(call)->clock_is_callers) {
		grpc_fail(call, GRPC_INVALID_ARGUMENT, "%snow_ns is %" PRIu64 ", and this segment "
			  "has a clock of its own; leave it out", which, now_ns);
		return false;
	}
	*request = (struct weir_request){
		.policy = weir_policy_find(grpc_server(call)->weir, policy),
		.key = key->data,
		.key_length = key->len,
		.cost = cost,
		.now_ns = now_ns,
	};
	if (request->policy == WEIR_NO_POLICY) {
		limiter_unknown_policy(call, policy);
		return false;
	}
	return true;
}

/* A cost that charges or gives back. */
static bool check_cost(struct grpc_call *call, const char *which, uint64_t cost)
{
	if (cost >= 1 && cost <= WEIR_COUNT_MAX)
		return true;
	grpc_fail(call, GRPC_INVALID_ARGUMENT, "%scost is %" PRIu64 "; give 1 to %llu%s", which,
		  cost, WEIR_COUNT_MAX, cost == 0 ? " (GetStatus asks without taking any)" : "");
	return false;
}

/* ---- Methods ----------------------------------------------------------- */

static void allow(struct grpc_call *call, const void *message)
{
	const Weir__V1__AllowRequest *asked = message;
	Weir__V1__AllowResponse answer = WEIR__V1__ALLOW_RESPONSE__INIT;
	Weir__V1__Decision told;
	struct weir_request request;
	struct weir_decision decision;

	if (!read_request(call, "", asked->policy, &asked->key, asked->now_ns, 1, &request))
		return;
	weir_decide(grpc_server(call)->weir, &request, &decision);
	tell(&decision, &told);
	answer.decision = &told;
	grpc_reply(call, &answer.base);
}

static void allow_n(struct grpc_call *call, const void *message)
{
	const Weir__V1__AllowNRequest *asked = message;
	Weir__V1__AllowNResponse answer = WEIR__V1__ALLOW_NRESPONSE__INIT;
	Weir__V1__Decision told;
	struct weir_request request;
	struct weir_decision decision;

	if (!check_cost(call, "", asked->cost) ||
	    !read_request(call, "", asked->policy, &asked->key, asked->now_ns, asked->cost,
			  &request))
		return;
	if (asked->force)
		weir_force_take(grpc_server(call)->weir, &request, &decision);
	else
		weir_decide(grpc_server(call)->weir, &request, &decision);
	tell(&decision, &told);
	answer.decision = &told;
	grpc_reply(call, &answer.base);
}

/* Decide runs of ordinary requests together, whose cache misses overlap; a forced one
 * stands for itself. */
static void decide_in_order(struct weir *weir, const Weir__V1__AllowBatchRequest *asked,
			    const struct weir_request *requests, struct weir_decision *decisions)
{
	size_t begin = 0;

	for (size_t i = 0; i <= asked->n_requests; i++) {
		if (i < asked->n_requests && !asked->requests[i]->force)
			continue;
		if (i > begin)
			weir_decide_batch(weir, &requests[begin], &decisions[begin], i - begin);
		if (i < asked->n_requests)
			weir_force_take(weir, &requests[i], &decisions[i]);
		begin = i + 1;
	}
}

static bool read_batch(struct grpc_call *call, const Weir__V1__AllowBatchRequest *asked,
		       struct weir_request *requests)
{
	char which[48];

	for (size_t i = 0; i < asked->n_requests; i++) {
		const Weir__V1__AllowNRequest *one = asked->requests[i];

		snprintf(which, sizeof(which), "requests[%zu]: ", i);
		if (!check_cost(call, which, one->cost) ||
		    !read_request(call, which, one->policy, &one->key, one->now_ns, one->cost,
				  &requests[i]))
			return false;
	}
	return true;
}

static void allow_batch(struct grpc_call *call, const void *message)
{
	const Weir__V1__AllowBatchRequest *asked = message;
	Weir__V1__AllowBatchResponse answer = WEIR__V1__ALLOW_BATCH_RESPONSE__INIT;
	size_t count = asked->n_requests;
	struct arena *arena = grpc_arena(call);
	struct weir_request *requests;
	struct weir_decision *decisions;
	Weir__V1__Decision *told;

	if (count > BATCH_MAX) {
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "the batch has %zu requests; send %u at "
			  "most", count, BATCH_MAX);
		return;
	}
	requests = arena_alloc(arena, count * sizeof(*requests));
	decisions = arena_alloc(arena, count * sizeof(*decisions));
	told = arena_alloc(arena, count * sizeof(*told));
	answer.decisions = arena_alloc(arena, count * sizeof(*answer.decisions));
	if (!requests || !decisions || !told || !answer.decisions) {
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "no memory for a batch of %zu requests",
			  count);
		return;
	}
	if (!read_batch(call, asked, requests))
		return;
	decide_in_order(grpc_server(call)->weir, asked, requests, decisions);
	for (size_t i = 0; i < count; i++) {
		tell(&decisions[i], &told[i]);
		answer.decisions[i] = &told[i];
	}
	answer.n_decisions = count;
	grpc_reply(call, &answer.base);
}

static void get_status(struct grpc_call *call, const void *message)
{
	const Weir__V1__GetStatusRequest *asked = message;
	Weir__V1__GetStatusResponse answer = WEIR__V1__GET_STATUS_RESPONSE__INIT;
	Weir__V1__Decision told;
	struct weir_request request;
	struct weir_decision decision;

	if (asked->cost > WEIR_COUNT_MAX) {
		grpc_fail(call, GRPC_INVALID_ARGUMENT, "cost is %" PRIu64 "; give 0 to %llu",
			  asked->cost, WEIR_COUNT_MAX);
		return;
	}
	if (!read_request(call, "", asked->policy, &asked->key, asked->now_ns, asked->cost,
			  &request))
		return;
	weir_status(grpc_server(call)->weir, &request, &decision);
	tell(&decision, &told);
	answer.decision = &told;
	grpc_reply(call, &answer.base);
}

static void reset(struct grpc_call *call, const void *message)
{
	const Weir__V1__ResetRequest *asked = message;
	Weir__V1__ResetResponse answer = WEIR__V1__RESET_RESPONSE__INIT;
	Weir__V1__Decision told;
	struct weir_request request;
	struct weir_decision decision;

	if (!read_request(call, "", asked->policy, &asked->key, asked->now_ns, 0, &request))
		return;
	weir_reset(grpc_server(call)->weir, &request, &decision);
	tell(&decision, &told);
	answer.decision = &told;
	grpc_reply(call, &answer.base);
}

static void refund(struct grpc_call *call, const void *message)
{
	const Weir__V1__RefundRequest *asked = message;
	Weir__V1__RefundResponse answer = WEIR__V1__REFUND_RESPONSE__INIT;
	Weir__V1__Decision told;
	struct weir_request request;
	struct weir_decision decision;

	if (!check_cost(call, "", asked->cost) ||
	    !read_request(call, "", asked->policy, &asked->key, asked->now_ns, asked->cost,
			  &request))
		return;
	weir_refund(grpc_server(call)->weir, &request, &decision);
	tell(&decision, &told);
	answer.decision = &told;
	grpc_reply(call, &answer.base);
}

Weir__V1__FailMode limiter_fail_mode(enum weir_fail_mode mode)
{
	switch (mode) {
	case WEIR_FAIL_OPEN:
		return WEIR__V1__FAIL_MODE__FAIL_MODE_OPEN;
	case WEIR_FAIL_CLOSED:
		return WEIR__V1__FAIL_MODE__FAIL_MODE_CLOSED;
	case WEIR_FAIL_SHARE:
		break;
	}
	return WEIR__V1__FAIL_MODE__FAIL_MODE_SHARE;
}

static int switch_fail_mode(struct weir *weir, const char *policy, Weir__V1__FailMode mode,
			    struct weir_error *error)
{
	switch (mode) {
	case WEIR__V1__FAIL_MODE__FAIL_MODE_OPEN:
		return weir_fail_mode_set(weir, policy, WEIR_FAIL_OPEN, error);
	case WEIR__V1__FAIL_MODE__FAIL_MODE_CLOSED:
		return weir_fail_mode_set(weir, policy, WEIR_FAIL_CLOSED, error);
	case WEIR__V1__FAIL_MODE__FAIL_MODE_SHARE:
		return weir_fail_mode_set(weir, policy, WEIR_FAIL_SHARE, error);
	default:
		return weir_fail_mode_clear(weir, policy, error);
	}
}

static void set_fail_open(struct grpc_call *call, const void *message)
{
	const Weir__V1__SetFailOpenRequest *asked = message;
	Weir__V1__SetFailOpenResponse answer = WEIR__V1__SET_FAIL_OPEN_RESPONSE__INIT;
	struct weir *weir = grpc_server(call)->weir;
	enum weir_fail_mode mode;
	struct weir_error error;

	if (asked->mode < WEIR__V1__FAIL_MODE__FAIL_MODE_OPEN ||
	    asked->mode > WEIR__V1__FAIL_MODE__FAIL_MODE_OWN) {
		grpc_fail(call, GRPC_INVALID_ARGUMENT, "mode is %d; give FAIL_MODE_OPEN, "
			  "FAIL_MODE_CLOSED, FAIL_MODE_SHARE, or FAIL_MODE_OWN to go back to the "
			  "policy's own", (int)asked->mode);
		return;
	}
	if (weir_policy_find(weir, asked->policy) == WEIR_NO_POLICY) {
		limiter_unknown_policy(call, asked->policy);
		return;
	}
	if (switch_fail_mode(weir, asked->policy, asked->mode, &error) < 0 ||
	    weir_fail_mode_get(weir, asked->policy, &mode, &error) < 0) {
		grpc_fail(call, error.status == WEIR_ENOENT ? GRPC_NOT_FOUND : GRPC_UNAVAILABLE,
			  "%s", error.message);
		return;
	}
	answer.mode = limiter_fail_mode(mode);
	grpc_reply(call, &answer.base);
}

/* The most called first: they are looked up in this order. */
static const struct grpc_method methods[] = {
	{ "Allow", &weir__v1__allow_request__descriptor, allow },
	{ "AllowN", &weir__v1__allow_nrequest__descriptor, allow_n },
	{ "AllowBatch", &weir__v1__allow_batch_request__descriptor, allow_batch },
	{ "GetStatus", &weir__v1__get_status_request__descriptor, get_status },
	{ "Reset", &weir__v1__reset_request__descriptor, reset },
	{ "Refund", &weir__v1__refund_request__descriptor, refund },
	{ "SetFailOpen", &weir__v1__set_fail_open_request__descriptor, set_fail_open },
	{ "Watch", &weir__v1__watch_request__descriptor, limiter_watch,
	  .drain = limiter_watch_drain, .end = limiter_watch_end },
};

const struct grpc_service limiter_service = {
	.name = "weir.v1.Limiter",
	.methods = methods,
	.method_count = sizeof(methods) / sizeof(methods[0]),
};
