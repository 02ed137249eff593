/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - what the library tells, as JSON: the same for the command line and the service.
 */
#ifndef WEIR_CLI_JSON_H
#define WEIR_CLI_JSON_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "weir.h"

/* A number that may exceed JSON's signed 64 bits: it stops at the largest. */
json_t *cli_json_u64(uint64_t value);

/* A duration in ns; WEIR_NEVER becomes null. */
json_t *cli_json_duration(uint64_t duration_ns);

/* Set "key" if the bytes are UTF-8, else "key_base16". */
void cli_json_set_key(json_t *object, const void *key, size_t length);

/* Set the fields of a decision. */
void cli_json_set_decision(json_t *object, const struct weir_decision *decision);

/* A bucket, with its key as far as the segment keeps it. */
json_t *cli_json_bucket(const struct weir_bucket *bucket);

#endif
