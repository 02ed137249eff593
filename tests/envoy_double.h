/* SPDX-License-Identifier: Apache-2.0 */
/* envoy_double.h - an engine that only counts, for tests of what is made of it. */
#ifndef WEIR_TESTS_ENVOY_DOUBLE_H
#define WEIR_TESTS_ENVOY_DOUBLE_H

#include "serve/envoy/service.h"

#define DOUBLE_POLICIES 64u
#define DOUBLE_COUNTERS 256u

struct double_counter {
	uint64_t family;        /* counters are shared by limits of one algorithm and period */
	char key[128];
	uint64_t counted;
};

/* The member engine comes first: a pointer to it is one to this. */
struct engine_double {
	struct engine engine;
	struct engine_limit policies[DOUBLE_POLICIES];  /* ids from 1 on */
	size_t policy_count;
	size_t policies_max;
	struct double_counter counters[DOUBLE_COUNTERS];
	size_t counter_count;
	uint64_t calls;
	uint64_t steal_at;      /* the call of this number finds nothing left, once */
	int fail_mode;          /* 1: everything is allowed undecided, -1: denied */
};

void double_init(struct engine_double *fake);

/* What is counted for KEY of a limit with PERIOD_S; 0 if nothing was. */
uint64_t double_counted(const struct engine_double *fake, uint64_t period_s, const char *key);

/* A new window has begun. */
void double_forget(struct engine_double *fake);

/* A service on it with a configuration of one file, called config.test.yaml. */
struct envoy_service *double_service(struct engine_double *fake,
				     const struct envoy_options *options,
				     const char *yaml);

/* A descriptor "KEY=VALUE,KEY=VALUE"; it is static, and overwritten by the eighth that
 * comes after it. */
struct envoy_descriptor double_descriptor(const char *text);

/* Answer a request of DOMAIN with descriptors "K=V,K=V; K=V".  HITS is the request's. */
struct envoy_answer double_ask(struct envoy_service *service, const char *domain,
			       const char *descriptors, uint32_t hits);

/* A new reader of the service. */
struct envoy_reader *double_reader(struct envoy_service *service);

/* A counter of the metric key, 0 if there is none. */
uint64_t double_stat(const struct envoy_service *service, const char *key,
		     enum stats_counter stat);

#endif
