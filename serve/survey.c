/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/survey.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "serve/fail.h"
#include "serve/metrics.h"
#include "serve/server.h"
#include "serve/top.h"

#define SECOND_NS 1000000000ull
#define SHARE 50                /* of its time the thread looks: one part in as many */

/* Something to look at, in its own time: what costs little does not wait for what costs
 * much. */
struct look {
	enum survey_text text;
	void (*write)(struct server *server, FILE *file, unsigned keys);
	uint64_t due_ns;
};

struct survey {
	struct server *server;
	unsigned keys;
	pthread_t thread;
	pthread_mutex_t lock;           /* of all below */
	pthread_cond_t wake;
	bool stopping;
	char *texts[SURVEY_TEXTS];
	size_t lengths[SURVEY_TEXTS];
};

static const struct look all_looks[SURVEY_TEXTS] = {
	{ SURVEY_COUNTERS, metrics_write_counters, 0 },
	{ SURVEY_KEYS, metrics_write_keys, 0 },
	{ SURVEY_TOP, top_write, 0 },
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* False: no memory; what was found before stays. */
static bool take_look(struct survey *survey, struct look *look)
{
	uint64_t began_ns = now_ns(), took_ns;
	char *text = NULL, *before;
	size_t length;
	FILE *file = open_memstream(&text, &length);

	if (file)
		look->write(survey->server, file, survey->keys);
	if (!file || fclose(file) != 0) {
		free(text);
		return false;
	}
	pthread_mutex_lock(&survey->lock);
	before = survey->texts[look->text];
	survey->texts[look->text] = text;
	survey->lengths[look->text] = length;
	pthread_mutex_unlock(&survey->lock);
	free(before);
	took_ns = now_ns() - began_ns;
	look->due_ns = began_ns + (took_ns * SHARE > SECOND_NS ? took_ns * SHARE : SECOND_NS);
	return true;
}

static uint64_t first_due_ns(const struct look looks[SURVEY_TEXTS])
{
	uint64_t first = looks[0].due_ns;

	for (size_t i = 1; i < SURVEY_TEXTS; i++) {
		if (looks[i].due_ns < first)
			first = looks[i].due_ns;
	}
	return first;
}

/* Wait until DUE_NS.  Returns false if the survey ends. */
static bool wait_until(struct survey *survey, uint64_t due_ns)
{
	const struct timespec due = { (time_t)(due_ns / SECOND_NS), (long)(due_ns % SECOND_NS) };
	bool stopping;

	pthread_mutex_lock(&survey->lock);
	while (!survey->stopping &&
	       pthread_cond_timedwait(&survey->wake, &survey->lock, &due) == 0)
		;
	stopping = survey->stopping;
	pthread_mutex_unlock(&survey->lock);
	return !stopping;
}

static void *run(void *context)
{
	struct survey *survey = context;
	struct look looks[SURVEY_TEXTS];

	memcpy(looks, all_looks, sizeof(looks));
	for (size_t i = 0; i < SURVEY_TEXTS; i++)
		looks[i].due_ns = now_ns() + SECOND_NS;
	while (wait_until(survey, first_due_ns(looks))) {
		for (size_t i = 0; i < SURVEY_TEXTS; i++) {
			if (looks[i].due_ns <= now_ns() && !take_look(survey, &looks[i]))
				looks[i].due_ns = now_ns() + SECOND_NS;
		}
	}
	return NULL;
}

static void survey_free(struct survey *survey)
{
	for (size_t i = 0; i < SURVEY_TEXTS; i++)
		free(survey->texts[i]);
	pthread_cond_destroy(&survey->wake);
	pthread_mutex_destroy(&survey->lock);
	free(survey);
}

static int start_thread(struct survey *survey)
{
	sigset_t all, before;
	int failure;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failure = pthread_create(&survey->thread, NULL, run, survey);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return failure;
}

int survey_start(struct server *server, unsigned keys, struct survey **survey,
		 struct weir_error *error)
{
	struct survey *new = calloc(1, sizeof(*new));
	pthread_condattr_t monotonic;
	struct look look;
	int failure;

	if (!new)
		return fail(error, WEIR_ENOMEM, "no memory for metrics");
	new->server = server;
	new->keys = keys;
	pthread_mutex_init(&new->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&new->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	for (size_t i = 0; i < SURVEY_TEXTS; i++) {
		look = all_looks[i];
		if (!take_look(new, &look)) {
			survey_free(new);
			return fail(error, WEIR_ENOMEM, "no memory for metrics");
		}
	}
	failure = start_thread(new);
	if (failure) {
		survey_free(new);
		return fail(error, WEIR_ESYSTEM, "cannot start a thread for metrics: %s",
			    strerror(failure));
	}
	*survey = new;
	return WEIR_OK;
}

void survey_stop(struct survey *survey)
{
	if (!survey)
		return;
	pthread_mutex_lock(&survey->lock);
	survey->stopping = true;
	pthread_cond_signal(&survey->wake);
	pthread_mutex_unlock(&survey->lock);
	pthread_join(survey->thread, NULL);
	survey_free(survey);
}

void survey_use(struct survey *survey,
		void (*use)(void *context, const char *const texts[SURVEY_TEXTS],
			    const size_t lengths[SURVEY_TEXTS]), void *context)
{
	pthread_mutex_lock(&survey->lock);
	use(context, (const char *const *)survey->texts, survey->lengths);
	pthread_mutex_unlock(&survey->lock);
}
