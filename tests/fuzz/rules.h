/* SPDX-License-Identifier: Apache-2.0 */
/* rules.h - Envoy's rules of several kinds, for what is fuzzed of the service. */
#ifndef WEIR_FUZZ_RULES_H
#define WEIR_FUZZ_RULES_H

struct rules;
struct weir;

/* A directory that is gone, with what is in it, when the program ends. */
const char *fuzz_directory(void);

/* Rules for the domain "d", with their file there. */
struct rules *fuzz_rules_start(struct weir *weir);

#endif
