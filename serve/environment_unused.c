/* SPDX-License-Identifier: Apache-2.0 */
/* environment_unused.c - variables of envoyproxy/ratelimit that change nothing here, and
 * why: a setting that somebody relies on is not dropped without a word. */
#include <string.h>

#include "serve/environment.h"
#include "serve/environment_value.h"

#define ROUNDS "no request waits for Redis; --interval-ms says how often hosts exchange counts"
#define CONNECTIONS "a connection or two are enough for the exchange with Redis"
#define SECONDS "limits per second are exchanged through REDIS_URL, as all are"
#define NO_TRACES "no traces are sent; ask /metrics, or watch weir.v1.Limiter/Watch"

/* What says that nothing special is wanted. */
static const char *const nothing[] = { "", "0", "0s", "f", "F", "false", "FALSE", "False" };

static const struct {
	const char *name;
	const char *instead;
} unused[] = {
	{ "EXPIRATION_JITTER_MAX_SECONDS", "no keys expire in Redis all at once" },
	{ "LOCAL_CACHE_SIZE_IN_BYTES", "each answer comes from memory; --slots says for how many "
	  "keys there is room" },
	{ "REDIS_POOL_SIZE", CONNECTIONS },
	{ "REDIS_POOL_ON_EMPTY_BEHAVIOR", CONNECTIONS },
	{ "REDIS_PIPELINE_WINDOW", ROUNDS },
	{ "REDIS_PIPELINE_LIMIT", ROUNDS },
	{ "REDIS_CLUSTER_PIPELINE_PARALLELISM", ROUNDS },
	{ "REDIS_TIMEOUT", "no request waits for Redis; write ?connect_ms= and ?command_ms= into "
	  "--redis" },
	{ "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "the name in the certificate of Redis is "
	  "checked; name the host as the certificate does" },
	{ "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "the service answers without Redis, and is "
	  "healthy then, too; /metrics tells how old what other hosts said is" },
	{ "REDIS_STARTUP_INITIAL_INTERVAL", "the service starts without Redis, and finds it later" },
	{ "REDIS_STARTUP_MAX_INTERVAL", "the service starts without Redis, and finds it later" },
	{ "REDIS_STARTUP_MAX_ELAPSED_TIME", "the service starts without Redis, and finds it later" },
	{ "REDIS_PERSECOND", SECONDS },
	{ "TRACING_ENABLED", NO_TRACES },
	{ "PROMETHEUS_MAPPER_YAML", "metrics have the names and labels of that program's own "
	  "mapping; map others where they are scraped" },
	{ "PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", "response times are not measured here; "
	  "Envoy's cluster has them" },
	{ "USE_DOG_STATSD_MOGRIFIERS", "names are sent as they are; map them where they arrive" },
};

static bool wants_nothing(const char *value)
{
	for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++) {
		if (strcmp(value, nothing[i]) == 0)
			return true;
	}
	return false;
}

void environment_tell_unused(void)
{
	for (size_t i = 0; i < sizeof(unused) / sizeof(unused[0]); i++) {
		if (!wants_nothing(environment_text(unused[i].name, "")))
			cli_warn("%s has no use here: %s", unused[i].name, unused[i].instead);
	}
}
