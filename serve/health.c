/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/health.h"

#include <string.h>

#include "serve/rls.h"
#include "serve/server.h"

#include "grpc/health/v1/health.pb-c.h"

#define STATUS(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

/* What a name stands for. */
enum subject {
	SUBJECT_UNKNOWN,
	SUBJECT_SEGMENT,        /* a service that answers from the segment alone */
	SUBJECT_RULES,          /* one that needs Envoy's rules, too */
};

/* "" is the server as a whole, and "ratelimit" what envoyproxy/ratelimit calls itself. */
static enum subject find_subject(const struct grpc_call *call, const char *name)
{
	bool rules = grpc_server(call)->rules != NULL;

	if (*name == '\0' || (rules && strcmp(name, "ratelimit") == 0) ||
	    strcmp(name, rls_service.name) == 0)
		return SUBJECT_RULES;
	return grpc_service_find(name, strlen(name)) ? SUBJECT_SEGMENT : SUBJECT_UNKNOWN;
}

/* All services share the segment, so all of them serve, or none; but for the rules. */
static void send_status(struct grpc_call *call, enum subject subject)
{
	Grpc__Health__V1__HealthCheckResponse answer =
		GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	struct server *server = grpc_server(call);

	if (subject == SUBJECT_UNKNOWN)
		answer.status = STATUS(SERVICE_UNKNOWN);
	else if (atomic_load(&server->draining) ||
		 (subject == SUBJECT_RULES && !server_rules_healthy(server)))
		answer.status = STATUS(NOT_SERVING);
	else
		answer.status = STATUS(SERVING);
	grpc_send(call, &answer.base);
}

static void check(struct grpc_call *call, const void *message)
{
	const Grpc__Health__V1__HealthCheckRequest *asked = message;
	enum subject subject = find_subject(call, asked->service);

	if (subject == SUBJECT_UNKNOWN) {
		grpc_fail(call, GRPC_NOT_FOUND, "no service \"%.100s\" here; the services are told "
			  "by server reflection, and \"\" is the server as a whole",
			  asked->service);
		return;
	}
	send_status(call, subject);
	grpc_finish(call);
}

/* What is watched is kept in call->state, as a pointer into this. */
static char watched[SUBJECT_RULES + 1];

static enum subject watched_subject(const struct grpc_call *call)
{
	return (enum subject)((const char *)call->state - watched);
}

/* What is unknown stays so: no service comes later. */
static void watch(struct grpc_call *call, const void *message)
{
	const Grpc__Health__V1__HealthCheckRequest *asked = message;

	call->state = &watched[find_subject(call, asked->service)];
	send_status(call, watched_subject(call));
}

static void watch_health(struct grpc_call *call)
{
	if (watched_subject(call) == SUBJECT_RULES)
		send_status(call, SUBJECT_RULES);
}

/* The last status, and the end: who watches must not keep the service from ending. */
static void watch_drain(struct grpc_call *call)
{
	if (watched_subject(call) != SUBJECT_UNKNOWN)
		send_status(call, watched_subject(call));
	grpc_fail(call, GRPC_UNAVAILABLE, "the service is about to end; watch another one");
}

static const struct grpc_method methods[] = {
	{ "Check", &grpc__health__v1__health_check_request__descriptor, check },
	{ "Watch", &grpc__health__v1__health_check_request__descriptor, watch,
	  .health = watch_health, .drain = watch_drain },
};

const struct grpc_service health_service = {
	.name = "grpc.health.v1.Health",
	.methods = methods,
	.method_count = sizeof(methods) / sizeof(methods[0]),
};
