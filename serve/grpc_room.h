/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_room.h - gRPC, as a loop sees it: who listens, who is connected. */
#ifndef WEIR_SERVE_GRPC_ROOM_H
#define WEIR_SERVE_GRPC_ROOM_H

#include "serve/loop.h"

extern const struct room grpc_room;

#endif
