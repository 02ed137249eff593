/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/rules.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "serve/envoy/engine_weir.h"
#include "serve/envoy/failure.h"
#include "serve/fail.h"

/* A change has many parts: it is read when nothing has happened for so long, and at the
 * latest after so many of such times. */
#define QUIET_MS 50
#define QUIET_TIMES 20

/* What inotify does not tell is found by looking, so often. */
#define LOOK_MS 2000

struct rules {
	struct engine_weir engine;
	struct envoy_service *service;
	struct watch *watch;
	void (*tell)(const char *what, const char *error);
	bool healthy_when_loaded;
	atomic_bool healthy;
	int stop_fd;                    /* eventfd: the thread is to end */
	pthread_t thread;
};

/* As there: not with a configuration that has no domain. */
static void judge_health(struct rules *rules)
{
	struct envoy_reader *reader = rules_reader(rules);
	size_t domains = 0;

	if (reader && rules->healthy_when_loaded) {
		envoy_service_loaded(reader, &domains);
		atomic_store(&rules->healthy, domains > 0);
	}
}

static void load(struct rules *rules)
{
	struct weir_error error;
	bool loaded;

	if (watch_load(rules->watch, rules->service, &loaded, &error) < 0)
		rules->tell("Error loading new configuration: ", error.message);
	else if (loaded)
		rules->tell("Successfully loaded new configuration", "");
	judge_health(rules);
}

/* Wait for TIMEOUT_MS.  *STOP: the thread is to end. */
static bool wait_for_change(struct rules *rules, int timeout_ms, bool *stop)
{
	struct pollfd fds[] = {
		{ .fd = watch_fd(rules->watch), .events = POLLIN },
		{ .fd = rules->stop_fd, .events = POLLIN },
	};

	if (poll(fds, 2, timeout_ms) <= 0)
		return false;
	*stop = fds[1].revents != 0;
	return fds[0].revents != 0 && watch_changed(rules->watch);
}

static void *watch_thread(void *context)
{
	struct rules *rules = context;
	bool stop = false;

	while (!stop) {
		if (!wait_for_change(rules, LOOK_MS, &stop) &&
		    (stop || !watch_differs(rules->watch)))
			continue;
		for (int i = 0; i < QUIET_TIMES && !stop; i++) {
			if (!wait_for_change(rules, QUIET_MS, &stop))
				break;
		}
		if (!stop)
			load(rules);
	}
	return NULL;
}

static int start_thread(struct rules *rules, struct weir_error *error)
{
	int status;

	rules->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (rules->stop_fd < 0)
		return fail(error, WEIR_ESYSTEM, "cannot make an eventfd: %m; raise the limit of "
			    "descriptors");
	status = pthread_create(&rules->thread, NULL, watch_thread, rules);
	if (status != 0) {
		close(rules->stop_fd);
		return fail(error, WEIR_ESYSTEM, "cannot start the thread that watches the "
			    "configuration: %s; raise the limit of processes", strerror(status));
	}
	return WEIR_OK;
}

int rules_start(const struct rules_options *options, struct weir *weir, struct rules **result,
		struct weir_error *error)
{
	struct rules *rules = calloc(1, sizeof(*rules));
	int status;

	if (!rules)
		return fail(error, WEIR_ENOMEM, "no memory for the rules; free some and try again");
	rules->tell = options->tell;
	rules->healthy_when_loaded = options->healthy_when_loaded;
	atomic_init(&rules->healthy, !options->healthy_when_loaded);
	engine_weir_init(&rules->engine, weir, options->consistency, options->fail_mode);
	status = envoy_service_new(&options->envoy, &rules->engine.engine, &rules->service, error);
	if (status == WEIR_OK)
		status = watch_new(&options->directory, &rules->watch, error);
	if (status == WEIR_OK) {
		load(rules);
		status = start_thread(rules, error);
	}
	if (status < 0) {
		watch_free(rules->watch);
		envoy_service_free(rules->service);
		free(rules);
		return status;
	}
	*result = rules;
	return WEIR_OK;
}

/* There is always room for what nobody counts. */
static int any_policy(struct engine *engine, const struct engine_limit *limit,
		      weir_policy_id *policy, struct weir_error *error)
{
	(void)engine;
	(void)limit;
	*policy = 0;
	return envoy_ok(error);
}

int rules_check(const struct rules_options *options, size_t *domains, struct weir_error *error)
{
	struct engine engine = { .policy = any_policy };
	struct envoy_service *service = NULL;
	struct watch *watch = NULL;
	struct envoy_reader *reader;
	int status = envoy_service_new(&options->envoy, &engine, &service, error);

	if (status == WEIR_OK)
		status = watch_new(&options->directory, &watch, error);
	if (status == WEIR_OK)
		status = watch_load(watch, service, NULL, error);
	reader = status == WEIR_OK ? envoy_reader_new(service) : NULL;
	if (reader)
		envoy_service_loaded(reader, domains);
	else if (status == WEIR_OK)
		status = fail(error, WEIR_ENOMEM, "no memory to count domains; free some and try "
			      "again");
	watch_free(watch);
	envoy_service_free(service);
	return status;
}

void rules_stop(struct rules *rules)
{
	uint64_t one = 1;

	while (write(rules->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(rules->thread, NULL);
	close(rules->stop_fd);
	watch_free(rules->watch);
	envoy_service_free(rules->service);
	free(rules);
}

bool rules_healthy(const struct rules *rules)
{
	return atomic_load(&rules->healthy);
}

struct envoy_service *rules_service(struct rules *rules)
{
	return rules->service;
}

struct envoy_reader *rules_reader(struct rules *rules)
{
	static _Thread_local struct envoy_reader *reader;       /* there is one rules */

	if (!reader)
		reader = envoy_reader_new(rules->service);
	return reader;
}
