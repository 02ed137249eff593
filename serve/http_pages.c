/* SPDX-License-Identifier: Apache-2.0 */
/* http_pages.c - the pages that there are, and those that tell of the service itself. */
#include <stdlib.h>
#include <string.h>

#include "serve/http.h"
#include "serve/http_limiter.h"
#include "serve/http_rls.h"
#include "serve/server.h"
#include "serve/survey.h"
#include "serve/top.h"

#define PLAIN "text/plain; charset=utf-8"
#define PROMETHEUS "text/plain; version=0.0.4; charset=utf-8"
#define HTML "text/html; charset=utf-8"

static void reply_text(struct http_request *request, unsigned status, const char *text)
{
	http_reply(request, status, PLAIN, text, strlen(text));
}

/* Does the process answer at all? */
static void healthz(struct http_request *request)
{
	reply_text(request, MHD_HTTP_OK, "OK\n");
}

/* Should requests be sent here? */
static void readyz(struct http_request *request)
{
	const struct server *server = request->loop->server;

	if (atomic_load(&server->draining))
		reply_text(request, MHD_HTTP_SERVICE_UNAVAILABLE, "draining\n");
	else if (!server_rules_healthy(server))
		reply_text(request, MHD_HTTP_SERVICE_UNAVAILABLE, "no configuration with a domain "
			   "was loaded\n");
	else
		reply_text(request, MHD_HTTP_OK, "OK\n");
}

/* As envoyproxy/ratelimit tells the same. */
static void healthcheck(struct http_request *request)
{
	const struct server *server = request->loop->server;

	if (atomic_load(&server->draining) || !server_rules_healthy(server))
		reply_text(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "");
	else
		reply_text(request, MHD_HTTP_OK, "OK");
}

static void use_metrics(void *context, const char *const texts[SURVEY_TEXTS],
			const size_t lengths[SURVEY_TEXTS])
{
	struct http_request *request = context;
	size_t first = lengths[SURVEY_COUNTERS];
	char *text = malloc(first + lengths[SURVEY_KEYS]);

	if (!text) {
		http_fail(request, MHD_HTTP_SERVICE_UNAVAILABLE, "no memory for the metrics; ask "
			  "again");
		return;
	}
	memcpy(text, texts[SURVEY_COUNTERS], first);
	memcpy(text + first, texts[SURVEY_KEYS], lengths[SURVEY_KEYS]);
	http_reply(request, MHD_HTTP_OK, PROMETHEUS, text, first + lengths[SURVEY_KEYS]);
	free(text);
}

static void metrics(struct http_request *request)
{
	survey_use(request->loop->server->survey, use_metrics, request);
}

static void use_top(void *context, const char *const texts[SURVEY_TEXTS],
		    const size_t lengths[SURVEY_TEXTS])
{
	http_reply(context, MHD_HTTP_OK, HTTP_JSON, texts[SURVEY_TOP], lengths[SURVEY_TOP]);
}

static void top_json(struct http_request *request)
{
	survey_use(request->loop->server->survey, use_top, request);
}

static void top(struct http_request *request)
{
	/* Whatever a key holds, the page runs no script but its own. */
	http_field(request, "Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'"
		   "; style-src 'unsafe-inline'; connect-src 'self'; img-src data:");
	http_field(request, "X-Content-Type-Options", "nosniff");
	http_reply(request, MHD_HTTP_OK, HTML, (const char *)top_page, top_page_size);
}

const struct http_page http_pages[] = {
	{ "/v1/allow", HTTP_POST, http_allow },
	{ "/v1/status", HTTP_GET | HTTP_POST, http_status },
	{ "/json", HTTP_POST, http_rls },
	{ "/rlconfig", HTTP_GET, http_rlconfig },
	{ "/healthcheck", HTTP_GET, healthcheck },
	{ "/healthz", HTTP_GET, healthz },
	{ "/readyz", HTTP_GET, readyz },
	{ "/metrics", HTTP_GET, metrics },
	{ "/top", HTTP_GET, top },
	{ "/top.json", HTTP_GET, top_json },
	{ 0 },
};
