/* SPDX-License-Identifier: Apache-2.0 */
/* The services that can be called. */
#include <string.h>

#include "serve/grpc.h"
#include "serve/health.h"
#include "serve/limiter.h"
#include "serve/reflection.h"
#include "serve/rls.h"

const struct grpc_service *const grpc_services[] = {
	&limiter_service,
	&rls_service,
	&health_service,
	&reflection_service,
	&reflection_alpha_service,
};

const size_t grpc_service_count = sizeof(grpc_services) / sizeof(grpc_services[0]);

const struct grpc_service *grpc_service_find(const char *name, size_t length)
{
	for (size_t i = 0; i < grpc_service_count; i++) {
		if (strlen(grpc_services[i]->name) == length &&
		    memcmp(grpc_services[i]->name, name, length) == 0)
			return grpc_services[i];
	}
	return NULL;
}
