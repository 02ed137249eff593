/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/headers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SECOND_NS 1000000000ull
#define INTEGER_MAX 999999999999999ull

const char *header_style_name(unsigned style)
{
	static const char *const names[] = { "ietf", "draft-03", "legacy", "none" };

	return style < sizeof(names) / sizeof(names[0]) ? names[style] : NULL;
}

uint64_t headers_seconds(uint64_t ns)
{
	return ns / SECOND_NS + (ns % SECOND_NS > 0);
}

/* An Integer of a structured field has 15 digits. */
static uint64_t integer(uint64_t number)
{
	return number < INTEGER_MAX ? number : INTEGER_MAX;
}

static uint64_t capacity(const struct weir_limit *limit)
{
	return integer(limit->algorithm == WEIR_TOKEN_BUCKET && limit->burst ? limit->burst :
									       limit->limit);
}

/* When a token bucket has one more: before it is full the others come, too. */
static uint64_t next_token_ns(const struct weir_limit *limit, const struct weir_decision *decision)
{
	uint64_t others = decision->limit > decision->remaining + 1 ?
			  decision->limit - decision->remaining - 1 : 0;
	/* At most what a bucket takes to fill, and so below 2^64. */
	uint64_t others_ns = (uint64_t)((unsigned __int128)others * limit->period_ns / limit->limit);

	return decision->reset_after_ns > others_ns ? decision->reset_after_ns - others_ns : 0;
}

uint64_t headers_more_s(const struct weir_limit *limit, const struct weir_decision *decision)
{
	if (decision->outcome == WEIR_DENIED && decision->retry_after_ns != WEIR_NEVER)
		return headers_seconds(decision->retry_after_ns);
	/* A window has more when it ends. */
	return headers_seconds(limit->algorithm == WEIR_TOKEN_BUCKET ?
				       next_token_ns(limit, decision) : decision->reset_after_ns);
}

/* "api", or "api/1" for its second limit. */
static void name_limit(const struct weir_policy *policy, uint32_t index,
		       char name[WEIR_NAME_MAX + 12])
{
	if (index == 0)
		strcpy(name, policy->name);
	else
		snprintf(name, WEIR_NAME_MAX + 12, "%s/%" PRIu32, policy->name, index);
}

/* ";w=60", or nothing: whole seconds are all that can be told. */
static const char *window(const struct weir_limit *limit, char text[32])
{
	text[0] = '\0';
	if (limit->period_ns >= SECOND_NS)
		snprintf(text, 32, ";w=%" PRIu64, headers_seconds(limit->period_ns));
	return text;
}

static void add_ietf(struct http_request *request, const struct weir_policy *policy,
		     const struct weir_decision *decision)
{
	const struct weir_limit *limit = &policy->limits[decision->limit_index];
	char policies[512] = "", name[WEIR_NAME_MAX + 12], period[32], more[32] = "";

	for (uint32_t i = 0; i < policy->limit_count; i++) {
		bool held = policy->limits[i].algorithm == WEIR_CONCURRENCY;

		name_limit(policy, i, name);
		snprintf(policies + strlen(policies), sizeof(policies) - strlen(policies),
			 "%s\"%s\";q=%" PRIu64 "%s%s", i ? ", " : "", name,
			 capacity(&policy->limits[i]), held ? ";qu=\"concurrent-requests\"" : "",
			 window(&policy->limits[i], period));
	}
	http_field(request, "RateLimit-Policy", "%s", policies);
	name_limit(policy, decision->limit_index, name);
	if (limit->algorithm != WEIR_CONCURRENCY && headers_more_s(limit, decision) > 0)
		snprintf(more, sizeof(more), ";t=%" PRIu64, headers_more_s(limit, decision));
	http_field(request, "RateLimit", "\"%s\";r=%" PRIu64 "%s", name,
		   integer(decision->remaining), more);
}

static void add_draft_03(struct http_request *request, const struct weir_policy *policy,
			 const struct weir_decision *decision)
{
	char limits[512], name[WEIR_NAME_MAX + 12], period[32];

	snprintf(limits, sizeof(limits), "%" PRIu64, decision->limit);
	for (uint32_t i = 0; i < policy->limit_count; i++) {
		name_limit(policy, i, name);
		snprintf(limits + strlen(limits), sizeof(limits) - strlen(limits),
			 ", %" PRIu64 "%s;name=\"%s\"", capacity(&policy->limits[i]),
			 window(&policy->limits[i], period), name);
	}
	http_field(request, "X-RateLimit-Limit", "%s", limits);
}

void headers_add(struct http_request *request, enum header_style style,
		 const struct weir_policy *policy, const struct weir_decision *decision)
{
	const struct weir_limit *limit = &policy->limits[decision->limit_index];

	if (decision->outcome == WEIR_DENIED && decision->retry_after_ns != WEIR_NEVER &&
	    limit->algorithm != WEIR_CONCURRENCY)
		http_field(request, "Retry-After", "%" PRIu64,
			   headers_seconds(decision->retry_after_ns));
	/* By the fail mode: there are no numbers. */
	if (style == HEADERS_NONE || decision->limit == 0 ||
	    decision->limit_index >= policy->limit_count)
		return;
	if (style == HEADERS_IETF) {
		add_ietf(request, policy, decision);
		return;
	}
	if (style == HEADERS_DRAFT_03)
		add_draft_03(request, policy, decision);
	else
		http_field(request, "X-RateLimit-Limit", "%" PRIu64, decision->limit);
	http_field(request, "X-RateLimit-Remaining", "%" PRIu64, decision->remaining);
	http_field(request, "X-RateLimit-Reset", "%" PRIu64,
		   headers_more_s(limit, decision));
}
