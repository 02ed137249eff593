/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_answer.h - answers that are none of gRPC's. */
#ifndef WEIR_SERVE_GRPC_ANSWER_H
#define WEIR_SERVE_GRPC_ANSWER_H

struct grpc_call;

/* Answer with the HTTP status CODE ("415"): the request is no gRPC. */
void grpc_refuse(struct grpc_call *call, const char *code);

#endif
