/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - what the lines on standard error look like. */
#ifndef WEIR_SERVE_LOG_H
#define WEIR_SERVE_LOG_H

/* If LOG_FORMAT is "json", each line is an object as envoyproxy/ratelimit writes them, with
 * "@message", "@timestamp" and "level".  Call it before anything is told. */
void log_start(void);

#endif
