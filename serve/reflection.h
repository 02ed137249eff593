/* SPDX-License-Identifier: Apache-2.0 */
/* reflection.h - gRPC's server reflection, v1 and v1alpha: what services are here, for
 * clients that have no .proto (grpcurl, ...). */
#ifndef WEIR_SERVE_REFLECTION_H
#define WEIR_SERVE_REFLECTION_H

#include "serve/grpc.h"

extern const struct grpc_service reflection_service;
extern const struct grpc_service reflection_alpha_service;

#endif
