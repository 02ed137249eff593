/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watch: statistics, again and again.
 *
 * All numbers are read anew for each answer, in the loop, and without a lock.  An answer
 * that the client has not taken yet is not followed by another one.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "serve/arena.h"
#include "serve/limiter.h"
#include "serve/server.h"

#define INTERVAL_MIN_NS 100000000ull
#define INTERVAL_MAX_NS (3600ull * 1000000000)
#define INTERVAL_DEFAULT_NS 1000000000ull
#define POLICIES_MAX 256u

struct watch {
	struct grpc_call *call;
	struct event *timer;
	bool all_policies;
	size_t count;
	char policies[][WEIR_NAME_MAX + 1];
};

/* ---- Messages, all of them in the arena -------------------------------- */

/* Counters of POLICY, or (NULL) of all together.  Returns how many; 0: no memory. */
static size_t tell_counters(struct grpc_call *call, const char *policy,
			    Weir__V1__Counter ***counters)
{
	struct arena *arena = grpc_arena(call);
	const struct weir_counter *counter;
	Weir__V1__Counter *messages;
	size_t most = 0, count = 0;

	while (weir_counter((unsigned)most))
		most++;
	messages = arena_alloc(arena, most * sizeof(*messages));
	*counters = arena_alloc(arena, most * sizeof(**counters));
	if (!messages || !*counters)
		return 0;
	for (unsigned i = 0; i < most; i++) {
		counter = weir_counter(i);
		if (policy && !counter->per_policy)
			continue;
		weir__v1__counter__init(&messages[count]);
		messages[count].name = (char *)counter->name;
		messages[count].value = weir_counter_read(grpc_server(call)->weir, i, policy);
		(*counters)[count] = &messages[count];
		count++;
	}
	return count;
}

/* The statistics of one policy; NULL: it is gone, or no memory. */
static Weir__V1__PolicyStatistics *tell_policy(struct grpc_call *call, const char *policy)
{
	Weir__V1__PolicyStatistics *message = arena_alloc(grpc_arena(call), sizeof(*message));
	enum weir_fail_mode mode;

	if (!message || weir_fail_mode_get(grpc_server(call)->weir, policy, &mode, NULL) < 0)
		return NULL;
	weir__v1__policy_statistics__init(message);
	message->policy = (char *)policy;
	message->fail_mode = limiter_fail_mode(mode);
	message->n_counters = tell_counters(call, policy, &message->counters);
	return message->n_counters ? message : NULL;
}

/* The names of the policies to tell of; NULL: no memory. */
static const char **names_of(const struct watch *watch, size_t *count)
{
	struct weir *weir = grpc_server(watch->call)->weir;
	struct arena *arena = grpc_arena(watch->call);
	struct weir_policy *policies;
	const char **names;
	size_t most;

	if (!watch->all_policies) {
		*count = watch->count;
		names = arena_alloc(arena, *count * sizeof(*names));
		for (size_t i = 0; names && i < *count; i++)
			names[i] = watch->policies[i];
		return names;
	}
	most = weir_policy_list(weir, NULL, 0);
	policies = arena_alloc(arena, most * sizeof(*policies));
	names = arena_alloc(arena, most * sizeof(*names));
	if (!policies || !names)
		return NULL;
	*count = weir_policy_list(weir, policies, most);
	if (*count > most)              /* some were made since: the next answer has them */
		*count = most;
	for (size_t i = 0; i < *count; i++)
		names[i] = policies[i].name;
	return names;
}

static void send_statistics(struct watch *watch)
{
	Weir__V1__WatchResponse answer = WEIR__V1__WATCH_RESPONSE__INIT;
	struct grpc_call *call = watch->call;
	struct weir *weir = grpc_server(call)->weir;
	size_t count = 0;
	const char **names = names_of(watch, &count);
	struct weir_info info;

	weir_info(weir, &info);
	answer.now_ns = weir_now_ns(weir);
	answer.participants = info.participants;
	answer.n_counters = tell_counters(call, NULL, &answer.counters);
	answer.policies = arena_alloc(grpc_arena(call), count * sizeof(*answer.policies));
	if (!names || !answer.policies || answer.n_counters == 0) {
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "no memory for statistics of %zu policies; "
			  "ask for fewer", count);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		Weir__V1__PolicyStatistics *told = tell_policy(call, names[i]);

		if (told)
			answer.policies[answer.n_policies++] = told;
	}
	grpc_send(call, &answer.base);
}

/* ---- The call ---------------------------------------------------------- */

static void on_timer(evutil_socket_t fd, short what, void *context)
{
	struct watch *watch = context;
	struct grpc_call *call = watch->call;

	(void)fd;
	(void)what;
	if (call->finished || grpc_unsent(call) > 0)
		return;
	send_statistics(watch);
	arena_reset(grpc_arena(call));
	grpc_flush(call);
}

static bool check(struct grpc_call *call, const Weir__V1__WatchRequest *asked)
{
	if (asked->interval_ns != 0 && (asked->interval_ns < INTERVAL_MIN_NS ||
					asked->interval_ns > INTERVAL_MAX_NS)) {
		grpc_fail(call, GRPC_INVALID_ARGUMENT, "interval_ns is %" PRIu64 "; give %llu to "
			  "%llu (100 ms to 1 h), or 0 for 1 s", asked->interval_ns,
			  INTERVAL_MIN_NS, INTERVAL_MAX_NS);
		return false;
	}
	if (asked->n_policies > POLICIES_MAX) {
		grpc_fail(call, GRPC_INVALID_ARGUMENT, "policies has %zu names; give %u at most, "
			  "or all_policies", asked->n_policies, POLICIES_MAX);
		return false;
	}
	for (size_t i = 0; i < asked->n_policies; i++) {
		if (weir_policy_find(grpc_server(call)->weir, asked->policies[i]) ==
		    WEIR_NO_POLICY) {
			limiter_unknown_policy(call, asked->policies[i]);
			return false;
		}
	}
	return true;
}

void limiter_watch(struct grpc_call *call, const void *message)
{
	const Weir__V1__WatchRequest *asked = message;
	uint64_t interval_ns = asked->interval_ns ? asked->interval_ns : INTERVAL_DEFAULT_NS;
	const struct timeval interval = { .tv_sec = (time_t)(interval_ns / 1000000000),
					  .tv_usec = (suseconds_t)(interval_ns % 1000000000 / 1000) };
	struct watch *watch;

	if (!check(call, asked))
		return;
	watch = calloc(1, sizeof(*watch) + asked->n_policies * sizeof(watch->policies[0]));
	if (watch)
		watch->timer = event_new(call->connection->room->loop->base, -1, EV_PERSIST,
					 on_timer, watch);
	if (!watch || !watch->timer || event_add(watch->timer, &interval) < 0) {
		if (watch && watch->timer)
			event_free(watch->timer);
		free(watch);
		grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "no memory to watch %zu policies",
			  asked->n_policies);
		return;
	}
	call->state = watch;
	watch->call = call;
	watch->all_policies = asked->all_policies;
	watch->count = asked->n_policies;
	/* They are there, so they are short enough. */
	for (size_t i = 0; i < watch->count; i++)
		snprintf(watch->policies[i], sizeof(watch->policies[i]), "%s", asked->policies[i]);
	send_statistics(watch);
}

void limiter_watch_drain(struct grpc_call *call)
{
	grpc_fail(call, GRPC_UNAVAILABLE, "the service is about to end; watch another one");
}

void limiter_watch_end(struct grpc_call *call)
{
	struct watch *watch = call->state;

	if (!watch)
		return;
	event_free(watch->timer);
	free(watch);
}
