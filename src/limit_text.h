/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit_text.h - the words of which limits and policies are made, for the two
 * places that read them: one line of text, and YAML.
 */
#ifndef WEIR_LIMIT_TEXT_H
#define WEIR_LIMIT_TEXT_H

#include "weir.h"

/* Read the LENGTH bytes at TEXT as a count of tokens ("100") or as a period
 * ("1m", "m", "500ms").  Whether the value suits a limit is for
 * weir_limit_check() to say, but a burst is never 0 in writing: who means "as
 * large as the limit" leaves it out.  Errors: WEIR_EINVAL; messages name the
 * field but not the place, which the caller puts in front. */
int weir_limit_text_count(const char *field, const char *text, size_t length, uint64_t *count,
			  struct weir_error *error);
int weir_limit_text_burst(const char *text, size_t length, uint64_t *burst,
			  struct weir_error *error);
int weir_limit_text_period(const char *text, size_t length, uint64_t *period_ns,
			   struct weir_error *error);

/* Is this a name for a policy?  Errors: WEIR_EINVAL. */
int weir_policy_name_check(const char *name, size_t length, struct weir_error *error);
int weir_policy_buckets_check(const char *name, size_t length, struct weir_error *error);

#endif
