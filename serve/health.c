/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/health.h"

#include <string.h>

#include "serve/server.h"

#include "grpc/health/v1/health.pb-c.h"

#define STATUS(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

/* Is there a service NAME?  "" is the server as a whole. */
static bool is_known(const char *name)
{
	return *name == '\0' || grpc_service_find(name, strlen(name));
}

/* All services share the segment, so all of them serve, or none. */
static void send_status(struct grpc_call *call, bool known)
{
	Grpc__Health__V1__HealthCheckResponse answer =
		GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	answer.status = !known ? STATUS(SERVICE_UNKNOWN) :
			atomic_load(&grpc_server(call)->draining) ? STATUS(NOT_SERVING) :
								    STATUS(SERVING);
	grpc_send(call, &answer.base);
}

static void check(struct grpc_call *call, const void *message)
{
	const Grpc__Health__V1__HealthCheckRequest *asked = message;

	if (!is_known(asked->service)) {
		grpc_fail(call, GRPC_NOT_FOUND, "no service \"%.100s\" here; the services are told "
			  "by server reflection, and \"\" is the server as a whole",
			  asked->service);
		return;
	}
	send_status(call, true);
	grpc_finish(call);
}

/* What is unknown stays so: no service comes later. */
static void watch(struct grpc_call *call, const void *message)
{
	const Grpc__Health__V1__HealthCheckRequest *asked = message;
	static char unknown;

	if (!is_known(asked->service))
		call->state = &unknown;
	send_status(call, !call->state);
}

/* The last status, and the end: who watches must not keep the service from ending. */
static void watch_drain(struct grpc_call *call)
{
	if (!call->state)
		send_status(call, true);
	grpc_fail(call, GRPC_UNAVAILABLE, "the service is about to end; watch another one");
}

static const struct grpc_method methods[] = {
	{ "Check", &grpc__health__v1__health_check_request__descriptor, check },
	{ "Watch", &grpc__health__v1__health_check_request__descriptor, watch,
	  .drain = watch_drain },
};

const struct grpc_service health_service = {
	.name = "grpc.health.v1.Health",
	.methods = methods,
	.method_count = sizeof(methods) / sizeof(methods[0]),
};
