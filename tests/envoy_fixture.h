/* SPDX-License-Identifier: Apache-2.0 */
/*
 * envoy_fixture.h - a service with rules of many kinds for the domain "d", on an engine that
 * only counts.
 *
 * By the checked fixture envoy_begin(); a test sets the options that it wants, and then starts
 * the service.
 */
#ifndef WEIR_TESTS_ENVOY_FIXTURE_H
#define WEIR_TESTS_ENVOY_FIXTURE_H

#include "tests/envoy_double.h"

extern struct engine_double fake;
extern struct envoy_options options;

void envoy_begin(void);

struct envoy_service *start_service(void);

/* double_ask() of the domain. */
struct envoy_answer ask(struct envoy_service *service, const char *descriptors, uint32_t hits);

#endif
