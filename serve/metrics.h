/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - what a segment counts, for Prometheus: its text format 0.0.4.
 *
 * Each counter of weir_counter() is weir_NAME_UNIT_total (weir_NAME_total where the name
 * says what is counted), with a label policy where it is counted by policy.  All else is a
 * gauge, in seconds, bytes or tokens.  How many series there are is bounded by the
 * policies of the segment and by the number of keys that are told of.
 */
#ifndef WEIR_SERVE_METRICS_H
#define WEIR_SERVE_METRICS_H

#include <stddef.h>
#include <stdio.h>

struct server;

void metrics_write_counters(struct server *server, FILE *file, unsigned keys);

/* The KEYS keys with the most denials, and how many buckets are live. */
void metrics_write_keys(struct server *server, FILE *file, unsigned keys);

/* What Envoy's rules have counted, if there are any: metrics_rules.c. */
void metrics_write_rules(struct server *server, FILE *file);

/* The first two lines of a family, and bytes of any kind as a label's value. */
void metrics_write_head(FILE *file, const char *name, const char *type, const char *help);
void metrics_write_label(FILE *file, const unsigned char *bytes, size_t length);

#endif
