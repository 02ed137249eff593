/* SPDX-License-Identifier: Apache-2.0 */
/*
 * survey.h - what /metrics and /top tell, prepared by a thread of its own.
 *
 * Counters are sums over all processes, and the most limited keys are found by looking at
 * every slot: that may take longer than a request may wait.  So a thread looks, as often
 * as it can while it takes 1/50 of a processor, once a second at most, and loops hand out
 * what it found last.
 *
 * THREADS: survey_use() may be called by any; it waits for nobody who looks, only for
 * those who copy.
 */
#ifndef WEIR_SERVE_SURVEY_H
#define WEIR_SERVE_SURVEY_H

#include <stddef.h>

#include "weir.h"

struct server;
struct survey;

/* The K of "top K keys" is bounded: a key is a time series. */
#define SURVEY_KEYS_MAX 100u

enum survey_text {
	SURVEY_COUNTERS,                /* metrics that cost little */
	SURVEY_KEYS,                    /* metrics for which each slot was looked at */
	SURVEY_TOP,                     /* JSON, for the page /top */
	SURVEY_TEXTS
};

/* Look for the first time, and start the thread.  KEYS: how many keys are told of, 0 to
 * SURVEY_KEYS_MAX.  Errors: WEIR_ENOMEM, WEIR_ESYSTEM. */
int survey_start(struct server *server, unsigned keys, struct survey **survey,
		 struct weir_error *error);

/* Stop the thread and free everything (NULL is ignored). */
void survey_stop(struct survey *survey);

/* Call USE with what was found last. */
void survey_use(struct survey *survey,
		void (*use)(void *context, const char *const texts[SURVEY_TEXTS],
			    const size_t lengths[SURVEY_TEXTS]), void *context);

#endif
