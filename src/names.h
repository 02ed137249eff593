/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names.h - from a name, as people write it in limits and policy files, back to
 * the enum value.  The other way is public: weir_algorithm_name() and so on.
 */
#ifndef WEIR_NAMES_H
#define WEIR_NAMES_H

#include "weir.h"

const char *weir_action_name(enum weir_action action);

/* Find the value whose name is the LENGTH bytes at NAME.  Returns false, and
 * leaves the value alone, if there is none. */
bool weir_algorithm_find(const char *name, size_t length, enum weir_algorithm *algorithm);
bool weir_action_find(const char *name, size_t length, enum weir_action *action);
bool weir_fail_mode_find(const char *name, size_t length, enum weir_fail_mode *mode);
bool weir_consistency_find(const char *name, size_t length, enum weir_consistency *consistency);

#endif
