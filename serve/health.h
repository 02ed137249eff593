/* SPDX-License-Identifier: Apache-2.0 */
/* health.h - grpc.health.v1.Health: serving, until the service drains. */
#ifndef WEIR_SERVE_HEALTH_H
#define WEIR_SERVE_HEALTH_H

#include "serve/grpc.h"

extern const struct grpc_service health_service;

#endif
