/* SPDX-License-Identifier: Apache-2.0 */
/* http_room.h - HTTP/1.1 as a loop sees it. */
#ifndef WEIR_SERVE_HTTP_ROOM_H
#define WEIR_SERVE_HTTP_ROOM_H

#include "serve/loop.h"

extern const struct room http_room;

#endif
