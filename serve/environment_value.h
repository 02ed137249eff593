/* SPDX-License-Identifier: Apache-2.0 */
/*
 * environment_value.h - values of environment variables, as Go's programs read them.
 *
 * A variable that is set to nothing is as one that is not set, but for
 * environment_any_text().  What is no value of its kind ends in cli_die().
 */
#ifndef WEIR_SERVE_ENVIRONMENT_VALUE_H
#define WEIR_SERVE_ENVIRONMENT_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "src/cli/cli.h"

const char *environment_text(const char *name, const char *otherwise);
const char *environment_any_text(const char *name, const char *otherwise);      /* also "" */
bool environment_is_set(const char *name);
bool environment_flag(struct cli *cli, const char *name, bool otherwise);
uint64_t environment_number(struct cli *cli, const char *name, uint64_t otherwise,
			    uint64_t minimum, uint64_t maximum);
float environment_ratio(struct cli *cli, const char *name, float otherwise);

/* "10s", "1h30m", "1.5h", "100ms": at most 100 years.  OTHERWISE likewise. */
uint64_t environment_duration_ns(struct cli *cli, const char *name, const char *otherwise);

/* Room for a text, which lives as long as the process; and a text in such room. */
char *environment_room(struct cli *cli, size_t size);
const char *environment_print(struct cli *cli, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
