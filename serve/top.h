/* SPDX-License-Identifier: Apache-2.0 */
/* top.h - what the page /top shows: counters, the busiest and the most limited keys, and
 * the state of sync, as JSON.  The page itself, top.html, makes rates of it. */
#ifndef WEIR_SERVE_TOP_H
#define WEIR_SERVE_TOP_H

#include <stdio.h>

struct server;

void top_write(struct server *server, FILE *file, unsigned keys);

extern const unsigned char top_page[];
extern const size_t top_page_size;

#endif
